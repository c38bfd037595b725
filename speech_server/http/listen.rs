//! Live recognition over a WebSocket: the part of Deepgram's `/v1/listen` that live calls need.
//!
//! Audio comes as binary messages. At each pause, the words go out as a result with `is_final` and `speech_final`. The models begin
//! before the pause is long enough (at 96 ms), so the words are usually ready at its end.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use super::Service;
use super::engines::Activity;
use super::incoming::{Incoming, drain};
use super::jobs::Kind;
use super::utterances::{Change, Utterances};
use crate::recognise::{Options, Transcript, to_16_khz, wav};

/// How often the connection looks for results while no audio comes.
const TICK: Duration = Duration::from_millis(10);
/// A connection without any message for this time is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Time limit for the last results.
const LAST_RESULTS: Duration = Duration::from_secs(30);
/// New audio for words before the end of an utterance: a quarter of the utterance, within these bounds, in ms. Each time, the whole
/// utterance is recognised, so long utterances would otherwise take a whole core.
const SHORTEST_STEP: usize = 600;
const LONGEST_STEP: usize = 2_400;
/// Maximum number of utterances that wait for their words. Then the connection reads no more audio until a result is there.
const MAX_WAITING: usize = 4;
/// Maximum size of a message, in octets (30 s of audio at 16 kHz).
const MAX_MESSAGE: usize = 1 << 20;

/// The parameters of a connection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameters {
    encoding: Encoding,
    rate: u32,
    options: Options,
    interim: bool,
    /// In ms.
    endpointing: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    MuLaw,
    ALaw,
    Linear,
}

impl Parameters {
    /// Reads the query of the URL. Unknown parameters have no effect.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut found = Self {
            encoding: Encoding::Linear,
            rate: 8_000,
            options: Options::default(),
            interim: false,
            endpointing: 300,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "encoding" => {
                    found.encoding = match value.as_ref() {
                        "mulaw" => Encoding::MuLaw,
                        "alaw" => Encoding::ALaw,
                        "linear16" => Encoding::Linear,
                        other => return Err(format!("encoding {other:?} is not mulaw, alaw or linear16")),
                    };
                }
                "sample_rate" => {
                    found.rate = match value.as_ref() {
                        "8000" => 8_000,
                        "16000" => 16_000,
                        other => return Err(format!("sample_rate {other:?} is not 8000 or 16000")),
                    };
                }
                "channels" if value != "1" => return Err("channels is not 1".to_owned()),
                "language" => found.options.language = Some(value.into_owned()),
                "interim_results" => found.interim = value == "true",
                "digits" | "numerals" => found.options.digits = value == "true",
                "endpointing" => {
                    // `false` waits for `Finalize`, but at most 9 s.
                    found.endpointing =
                        if value == "false" { 9_000 } else { value.parse().unwrap_or(found.endpointing) };
                }
                "keyterm" | "keywords" if found.options.hints.len() < super::MAX_HINTS => {
                    // A keyword may have a weight: `snuffleupagus:2`.
                    let weighted = value.rsplit_once(':').filter(|(_, weight)| weight.parse::<f32>().is_ok());
                    let hint = weighted.map_or(value.as_ref(), |(hint, _)| hint).trim();
                    if !hint.is_empty() {
                        found.options.hints.push(hint.chars().take(super::MAX_HINT).collect());
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    pub(super) fn language(&self) -> Option<&str> {
        self.options.language.as_deref()
    }
}

/// The words of a job.
#[derive(Debug, Clone, Default)]
struct Outcome {
    transcript: Transcript,
    end_of_turn: Option<f32>,
    /// Number of samples of the audio. 0 if the job was not needed any more.
    samples: usize,
}

/// An utterance whose words have not been sent.
struct Waiting {
    /// The job that makes the words. `None` for a result without audio.
    job: Option<u64>,
    outcome: Option<Outcome>,
    times: (f64, f64),
    is_end: bool,
    from_finalize: bool,
}

/// A WebSocket and its state.
struct Connection<'a> {
    service: &'a Service,
    socket: WebSocket<TcpStream>,
    parameters: Parameters,
    activity: Box<dyn Activity>,
    /// Jobs for words before the end take the audio when they begin.
    utterances: Arc<Mutex<Utterances>>,
    /// The jobs see here whether the connection still exists.
    alive: Arc<()>,
    /// Samples that do not fill a window.
    rest: Vec<i16>,
    /// The last octet of audio of two octets, if the message ended in a sample.
    half: Option<u8>,
    waiting: VecDeque<Waiting>,
    /// The job of the probable end, and its words.
    early: Option<(u64, Option<Outcome>)>,
    /// The job of the words before the end.
    partial: Option<u64>,
    /// Length of the utterance at which the next such job is due, in samples.
    partial_at: usize,
    jobs: u64,
    sender: Sender<(u64, Outcome)>,
    results: Receiver<(u64, Outcome)>,
}

/// The reason for the end of a connection.
enum End {
    /// The client has sent all audio and wants the last results.
    Finished,
    /// The connection is gone, or is of no use.
    Gone,
}

/// Serves a connection until its end. The handshake is done. `early` has octets that came with the handshake.
#[expect(clippy::disallowed_methods, reason = "the time without messages is that of the clock")]
pub(super) fn serve(service: &Service, stream: TcpStream, early: Vec<u8>, parameters: Parameters) -> io::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let (sender, results) = mpsc::channel();
    let mut connection = Connection {
        activity: service.engines.activity.activity(parameters.rate),
        utterances: Arc::new(Mutex::new(Utterances::new(parameters.rate, parameters.endpointing))),
        alive: Arc::new(()),
        service,
        socket: WebSocket::from_partially_read(stream, early, Role::Server, Some(config)),
        parameters,
        rest: Vec::new(),
        half: None,
        waiting: VecDeque::new(),
        early: None,
        partial: None,
        partial_at: 0,
        jobs: 0,
        sender,
        results,
    };
    connection.partial_at = connection.step(0);
    let mut last = Instant::now();
    let end = loop {
        let message = match connection.socket.read() {
            Ok(message) => Some(message),
            Err(Error::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                None
            }
            Err(error) => {
                connection.refuse(&error);
                return Ok(());
            }
        };
        if message.is_some() {
            last = Instant::now();
        } else if last.elapsed() > IDLE {
            connection.close(CloseCode::Error, "no audio and no KeepAlive for 60 s");
            return Ok(());
        }
        let done = message.map_or(Ok(None), |message| connection.take(message));
        // With too many utterances under way, the client has to wait.
        let done = done.and_then(|end| connection.send_results().and_then(|()| connection.catch_up()).map(|()| end));
        match done {
            Ok(None) => {}
            Ok(Some(end)) => break end,
            Err(error) => {
                connection.refuse(&error);
                return Ok(());
            }
        }
    };
    match end {
        End::Finished => {
            if let Err(error) = connection.finish() {
                connection.refuse(&error);
            }
        }
        // The answer to the message `Close` of the client is in the buffer.
        End::Gone => drop(connection.socket.flush()),
    }
    Ok(())
}

impl Connection<'_> {
    fn heard(&self) -> MutexGuard<'_, Utterances> {
        self.utterances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message of the client.
    fn take(&mut self, message: Message) -> Result<Option<End>, Error> {
        match message {
            Message::Binary(octets) => self.take_audio(&octets)?,
            Message::Text(text) => {
                let message = serde_json::from_str::<serde_json::Value>(&text);
                let kind = message.as_ref().map(|message| message.get("type").and_then(serde_json::Value::as_str));
                match kind {
                    Ok(Some("Finalize")) => self.end(true, true),
                    Ok(Some("CloseStream")) => return Ok(Some(End::Finished)),
                    Ok(Some("KeepAlive")) => {}
                    Ok(_) => self.send_error("the type of the message is not Finalize, KeepAlive or CloseStream")?,
                    Err(error) => self.send_error(&format!("the message is not JSON: {error}"))?,
                }
            }
            Message::Close(_) => return Ok(Some(End::Gone)),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(None)
    }

    /// Tells the client that a message has no effect.
    fn send_error(&mut self, description: &str) -> Result<(), Error> {
        let message = json!({"type": "Error", "description": description});
        self.socket.send(Message::text(message.to_string()))
    }

    /// Waits until fewer than [`MAX_WAITING`] utterances wait for their words.
    fn catch_up(&mut self) -> Result<(), Error> {
        while self.waiting.len() >= MAX_WAITING {
            self.wait(LAST_RESULTS)?;
        }
        Ok(())
    }

    fn take_audio(&mut self, octets: &[u8]) -> Result<(), Error> {
        match self.parameters.encoding {
            Encoding::MuLaw => self.rest.extend(octets.iter().copied().map(wav::from_mu_law)),
            Encoding::ALaw => self.rest.extend(octets.iter().copied().map(wav::from_a_law)),
            Encoding::Linear => {
                let octets: Vec<u8> = self.half.take().into_iter().chain(octets.iter().copied()).collect();
                let (samples, half) = octets.as_chunks();
                self.rest.extend(samples.iter().copied().map(i16::from_le_bytes));
                self.half = half.first().copied();
            }
        }
        let size = self.heard().window;
        let rest = std::mem::take(&mut self.rest);
        let mut windows = rest.chunks_exact(size);
        for window in &mut windows {
            let probability = self.activity.probability(window);
            let change = self.heard().push(window, probability);
            self.handle(change);
            self.catch_up()?;
        }
        self.rest = windows.remainder().to_vec();
        Ok(())
    }

    fn handle(&mut self, change: Change) {
        match change {
            Change::Ends => self.end(true, false),
            Change::IsCut => self.end(false, false),
            Change::GoesOn => self.early = None,
            Change::Nothing if self.heard().has_probably_ended() => self.recognise_early(),
            Change::Nothing => self.ask_for_partial(),
        }
    }

    /// Begins to recognise what looks like the end, as soon as a thread is free.
    fn recognise_early(&mut self) {
        // A copy of the utterance in each window of the pause would be for nothing while all threads are busy.
        if self.early.is_some() || !self.service.jobs.is_idle() {
            return;
        }
        let job = self.next_job();
        let audio = self.heard().audio().to_vec();
        if self.service.jobs.add_if_idle(self.job(job, move || Some(audio), true)).is_ok() {
            self.early = Some((job, None));
        }
    }

    /// New audio after this length of an utterance until the next words before the end, in samples.
    fn step(&self, length: usize) -> usize {
        let samples = |ms: usize| self.parameters.rate as usize * ms / 1000;
        (length / 4).clamp(samples(SHORTEST_STEP), samples(LONGEST_STEP))
    }

    fn ask_for_partial(&mut self) {
        if !self.parameters.interim || self.partial.is_some() {
            return;
        }
        let heard = self.heard();
        let number = heard.number();
        let is_due = heard.is_speech() && !heard.is_quiet() && heard.audio().len() >= self.partial_at;
        drop(heard);
        if !is_due {
            return;
        }
        let job = self.next_job();
        let utterances = Arc::clone(&self.utterances);
        // The job may wait for its turn. Then it takes all audio until then, or none if the utterance has ended.
        let audio = move || {
            let heard = utterances.lock().unwrap_or_else(PoisonError::into_inner);
            let is_needed = heard.number() == number && !heard.is_quiet();
            is_needed.then(|| heard.audio().to_vec())
        };
        if self.service.jobs.add(Kind::Partial, self.job(job, audio, false)).is_ok() {
            self.partial = Some(job);
        }
    }

    /// Ends the utterance, or cuts it. `from_finalize`: the client wants the words so far. If there is an early result, it has all
    /// words, because only silence has come since.
    fn end(&mut self, is_end: bool, from_finalize: bool) {
        let mut heard = self.heard();
        let times = heard.times();
        let audio = if is_end { heard.end() } else { Some(heard.cut()) };
        drop(heard);
        (self.partial, self.partial_at) = (None, self.step(0));
        let mut waiting = Waiting { job: None, outcome: None, times, is_end, from_finalize };
        match (audio, self.early.take()) {
            (None, _) => waiting.outcome = Some(Outcome::default()),
            (Some(_), Some((job, outcome))) => (waiting.job, waiting.outcome) = (Some(job), outcome),
            (Some(audio), None) => {
                let job = self.next_job();
                waiting.job = Some(job);
                if self.service.jobs.add(Kind::Urgent, self.job(job, move || Some(audio), is_end)).is_err() {
                    super::complain("the words of an utterance are lost, because too many wait");
                    waiting.outcome = Some(Outcome::default());
                }
            }
        }
        self.waiting.push_back(waiting);
    }

    fn next_job(&mut self) -> u64 {
        self.jobs += 1;
        self.jobs
    }

    /// Makes a job that recognises audio and reports the words under its number.
    fn job<A: FnOnce() -> Option<Vec<i16>> + Send + 'static>(
        &self,
        number: u64,
        audio: A,
        at_pause: bool,
    ) -> impl FnOnce() + Send + use<A> {
        let (engines, options) = (self.service.engines.clone(), self.parameters.options.clone());
        let (rate, sender, alive) = (self.parameters.rate, self.sender.clone(), Arc::downgrade(&self.alive));
        let jobs = self.service.jobs.clone();
        let job = move |outcome: &mut Outcome| {
            // A caller who has hung up needs no words.
            let Some(audio) = audio().filter(|_| alive.strong_count() > 0) else { return };
            outcome.samples = audio.len();
            let audio = to_16_khz(&audio, rate);
            let turn = engines.turns.filter(|_| at_pause).map(|turns| {
                let samples: Vec<i16> = audio.iter().map(|sample| (sample * 32_768.0) as i16).collect();
                jobs.beside(move || turns.complete(&samples).ok())
            });
            // Models that have the language were there at the begin of the connection.
            outcome.transcript = engines.recogniser.recognise(&audio, &options).unwrap_or_default();
            outcome.end_of_turn = turn.and_then(|turn| turn()).flatten();
        };
        let report = Report { number, outcome: Outcome::default(), sender };
        move || run(report, job)
    }

    /// Takes the results of jobs, and sends what can be sent.
    fn send_results(&mut self) -> Result<(), Error> {
        while let Ok((job, outcome)) = self.results.try_recv() {
            self.take_result(job, outcome)?;
        }
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.outcome.is_some()) {
            let outcome = waiting.outcome.unwrap_or_default();
            self.send_words(&outcome, waiting.times, Some(waiting.is_end), waiting.from_finalize)?;
        }
        Ok(())
    }

    fn take_result(&mut self, job: u64, outcome: Outcome) -> Result<(), Error> {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.job == Some(job)) {
            waiting.outcome = Some(outcome);
        } else if let Some((_, early)) = self.early.as_mut().filter(|(early, _)| *early == job) {
            *early = Some(outcome);
        } else if self.partial == Some(job) {
            self.partial = None;
            if outcome.samples > 0 {
                self.partial_at = outcome.samples + self.step(outcome.samples);
            }
            // Words of this utterance before those of the last one would be out of order.
            if !outcome.transcript.text.is_empty() && self.waiting.is_empty() {
                let times = self.heard().times();
                return self.send_words(&outcome, times, None, false);
            }
        }
        Ok(())
    }

    /// Waits for a result, and sends it.
    fn wait(&mut self, time: Duration) -> Result<(), Error> {
        // A later result may be there already; it waits for those before it.
        if self.waiting.front().is_none_or(|first| first.outcome.is_none()) {
            let (job, outcome) =
                self.results.recv_timeout(time).map_err(|_| Error::Io(io::ErrorKind::TimedOut.into()))?;
            self.take_result(job, outcome)?;
        }
        self.send_results()
    }

    /// Sends words. `is_end` is `None` for words before the end, and says whether the speaker has paused for final words.
    fn send_words(
        &mut self,
        outcome: &Outcome,
        times: (f64, f64),
        is_end: Option<bool>,
        from_finalize: bool,
    ) -> Result<(), Error> {
        let words = &outcome.transcript;
        let languages = if words.language.is_empty() { json!([]) } else { json!([words.language]) };
        let mut message = json!({
            "type": "Results",
            "channel_index": [0, 1],
            "start": times.0,
            "duration": times.1,
            "is_final": is_end.is_some(),
            "speech_final": is_end.unwrap_or(false),
            "from_finalize": from_finalize,
            "channel": {"alternatives": [{
                "transcript": words.text,
                "confidence": words.confidence,
                "languages": languages,
                "words": [],
            }]},
        });
        if let (Some(end_of_turn), Some(members)) = (outcome.end_of_turn, message.as_object_mut()) {
            members.insert("end_of_turn".to_owned(), json!(end_of_turn));
        }
        self.socket.send(Message::text(message.to_string()))
    }

    /// Sends the last results.
    fn finish(&mut self) -> Result<(), Error> {
        if self.heard().is_speech() {
            // The last samples may not fill a window. After a pause, they are silence.
            let rest = std::mem::take(&mut self.rest);
            if self.early.is_none() {
                self.heard().push(&rest, 1.0);
            }
            self.end(true, false);
        }
        self.send_results()?;
        while !self.waiting.is_empty() {
            self.wait(LAST_RESULTS)?;
        }
        let metadata = json!({"type": "Metadata", "duration": self.heard().seconds(), "channels": 1});
        self.socket.send(Message::text(metadata.to_string()))?;
        self.close(CloseCode::Normal, "");
        Ok(())
    }

    /// Ends the connection with the reason, if the client can still see it.
    fn refuse(&mut self, error: &Error) {
        match error {
            Error::Capacity(_) => self.close(CloseCode::Size, "a message has more than 1 MiB"),
            Error::Protocol(_) => self.close(CloseCode::Protocol, "this is not the WebSocket protocol"),
            Error::Utf8(_) => self.close(CloseCode::Invalid, "a text message is not UTF-8"),
            // The time limit of a write is another error.
            Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.close(CloseCode::Again, "there is too much work");
            }
            _ => {}
        }
    }

    fn close(&mut self, code: CloseCode, reason: &'static str) {
        // The client may be gone.
        let _ = self.socket.close(Some(CloseFrame { code, reason: reason.into() }));
        let _ = self.socket.flush();
        let stream = self.socket.get_ref();
        let _ =
            stream.shutdown(std::net::Shutdown::Write).and_then(|()| drain(&mut Incoming::new(stream.try_clone()?)));
    }
}

/// Reports the outcome of a job also if the job panics. Otherwise the connection would wait.
struct Report {
    number: u64,
    outcome: Outcome,
    sender: Sender<(u64, Outcome)>,
}

impl Drop for Report {
    fn drop(&mut self) {
        // The connection may be gone.
        let _ = self.sender.send((self.number, std::mem::take(&mut self.outcome)));
    }
}

fn run(mut report: Report, job: impl FnOnce(&mut Outcome)) {
    job(&mut report.outcome);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_the_servers_client_are_understood() {
        let query = "encoding=mulaw&sample_rate=8000&channels=1&interim_results=true&endpointing=250&utterance_end_ms=1000\
            &model=nova-3&language=de-DE&punctuate=true&keyterm=M%C3%BCller&keywords=Tandem:2&keyterm=Mission:+Mars&keyterm=";
        let found = Parameters::read(query).unwrap();
        let hints = ["Müller", "Tandem", "Mission: Mars"].map(str::to_owned).to_vec();
        let options = Options { language: Some("de-DE".to_owned()), hints, digits: false };
        assert_eq!(
            found,
            Parameters { encoding: Encoding::MuLaw, rate: 8_000, options, interim: true, endpointing: 250 }
        );
    }

    #[test]
    fn audio_that_cannot_be_read_is_an_error() {
        for query in ["encoding=opus", "sample_rate=44100", "channels=2"] {
            assert!(Parameters::read(query).is_err(), "{query}");
        }
        assert!(Parameters::read("").is_ok());
    }
}
