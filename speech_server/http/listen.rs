//! Live recognition over a WebSocket: the part of Deepgram's `/v1/listen` that live calls need.
//!
//! Audio comes as binary messages. At each pause, the words go out as a result with `is_final` and `speech_final`. The models begin
//! before the pause is long enough (at 160 ms), so the words are usually ready at its end.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use super::Service;
use super::engines::Activity;
use super::utterances::{Change, Utterances};
use crate::recognise::{Options, Transcript, to_16_khz, wav};

/// How often the connection looks for results while no audio comes.
const TICK: Duration = Duration::from_millis(10);
/// A connection without any message for this time is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Time limit for the last results.
const LAST_RESULTS: Duration = Duration::from_secs(30);
/// Audio between two results before the end of an utterance, in samples at 8 kHz (0.6 s).
const PARTIAL_MS: usize = 600;
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
                    let hint = value.split(':').next().unwrap_or_default().trim();
                    found.options.hints.push(hint.chars().take(super::MAX_HINT).collect());
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
    utterances: Utterances,
    /// Samples that do not fill a window.
    rest: Vec<i16>,
    /// The last octet of audio of two octets, if the message ended in a sample.
    half: Option<u8>,
    waiting: VecDeque<Waiting>,
    /// The job of the probable end, and its words.
    early: Option<(u64, Option<Outcome>)>,
    /// The job of the words before the end.
    partial: Option<u64>,
    /// Length of the utterance at the last such job, in samples.
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
        utterances: Utterances::new(parameters.rate, parameters.endpointing),
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
    let mut last = Instant::now();
    let end = loop {
        let message = match connection.socket.read() {
            Ok(message) => Some(message),
            Err(Error::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                None
            }
            Err(_) => break End::Gone,
        };
        if message.is_some() {
            last = Instant::now();
        } else if last.elapsed() > IDLE {
            connection.close(CloseCode::Error, "no audio and no KeepAlive for 60 s");
            break End::Gone;
        }
        let done = message.map_or(Ok(None), |message| connection.take(message));
        match done.and_then(|end| connection.send_results().map(|()| end)) {
            Ok(None) => {}
            Ok(Some(end)) => break end,
            Err(_) => break End::Gone,
        }
        // With too many utterances under way, the client has to wait.
        while connection.waiting.len() >= MAX_WAITING {
            if connection.wait(LAST_RESULTS).is_err() {
                return Ok(());
            }
        }
    };
    if matches!(end, End::Finished) {
        // A client that is gone gets no last results.
        let _ = connection.finish();
    }
    Ok(())
}

impl Connection<'_> {
    /// Takes a message of the client.
    fn take(&mut self, message: Message) -> Result<Option<End>, Error> {
        match message {
            Message::Binary(octets) => self.take_audio(&octets)?,
            Message::Text(text) => {
                let message: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                match message.get("type").and_then(serde_json::Value::as_str) {
                    Some("Finalize") => self.finalize(),
                    Some("CloseStream") => return Ok(Some(End::Finished)),
                    // `KeepAlive` needs no answer. Other messages are not known.
                    _ => {}
                }
            }
            Message::Close(_) => return Ok(Some(End::Gone)),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(None)
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
        let size = self.utterances.window;
        let rest = std::mem::take(&mut self.rest);
        let mut windows = rest.chunks_exact(size);
        for window in &mut windows {
            let probability = self.activity.probability(window);
            let change = self.utterances.push(window, probability);
            self.handle(change);
            while self.waiting.len() >= MAX_WAITING {
                self.wait(LAST_RESULTS)?;
            }
        }
        self.rest = windows.remainder().to_vec();
        Ok(())
    }

    fn handle(&mut self, change: Change) {
        match change {
            Change::Ends => self.end(true, false),
            Change::IsCut => self.end(false, false),
            Change::GoesOn => self.early = None,
            Change::ProbablyEnds => {
                let job = self.next_job();
                if self.service.jobs.add_if_idle(self.job(job, self.utterances.audio().to_vec(), true)) {
                    self.early = Some((job, None));
                }
            }
            Change::Nothing => self.ask_for_partial(),
        }
    }

    fn ask_for_partial(&mut self) {
        let length = self.utterances.audio().len();
        let step = self.parameters.rate as usize * PARTIAL_MS / 1000;
        let is_due = self.utterances.is_speech() && length >= self.partial_at + step;
        if !self.parameters.interim || !is_due || self.utterances.is_quiet() || self.partial.is_some() {
            return;
        }
        let job = self.next_job();
        if self.service.jobs.add_if_idle(self.job(job, self.utterances.audio().to_vec(), false)) {
            self.partial = Some(job);
            self.partial_at = length;
        }
    }

    /// Ends the utterance, or cuts it.
    fn end(&mut self, is_end: bool, from_finalize: bool) {
        let times = self.utterances.times();
        let audio = if is_end { self.utterances.end() } else { Some(self.utterances.cut()) };
        (self.partial, self.partial_at) = (None, 0);
        let mut waiting = Waiting { job: None, outcome: None, times, is_end, from_finalize };
        match (audio, self.early.take()) {
            (None, _) => waiting.outcome = Some(Outcome::default()),
            (Some(_), Some((job, outcome))) => (waiting.job, waiting.outcome) = (Some(job), outcome),
            (Some(audio), None) => {
                let job = self.next_job();
                waiting.job = Some(job);
                if self.service.jobs.urgent(self.job(job, audio, is_end)).is_err() {
                    eprintln!("tandem-speech: the words of an utterance are lost, because too many wait");
                    waiting.outcome = Some(Outcome::default());
                }
            }
        }
        self.waiting.push_back(waiting);
    }

    /// The client wants the words so far.
    fn finalize(&mut self) {
        // The words at the begin of the pause are all words: only silence has come since.
        self.end(true, true);
    }

    fn next_job(&mut self) -> u64 {
        self.jobs += 1;
        self.jobs
    }

    /// Makes a job that recognises audio and reports the words under its number.
    fn job(&self, number: u64, audio: Vec<i16>, at_pause: bool) -> impl FnOnce() + Send + use<> {
        let (engines, options) = (self.service.engines.clone(), self.parameters.options.clone());
        let (rate, sender) = (self.parameters.rate, self.sender.clone());
        move || {
            let report = Report { number, outcome: Outcome::default(), sender };
            run(report, |outcome| {
                let audio = to_16_khz(&audio, rate);
                // Models that have the language were there at the begin of the connection.
                outcome.transcript = engines.recogniser.recognise(&audio, &options).unwrap_or_default();
                if let Some(turns) = engines.turns.as_ref().filter(|_| at_pause) {
                    let samples: Vec<i16> = audio.iter().map(|sample| (sample * 32_768.0) as i16).collect();
                    outcome.end_of_turn = turns.complete(&samples).ok();
                }
            });
        }
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
            if !outcome.transcript.text.is_empty() {
                return self.send_words(&outcome, self.utterances.times(), None, false);
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
        if self.utterances.is_speech() {
            // The last samples may not fill a window.
            let rest = std::mem::take(&mut self.rest);
            self.utterances.push(&rest, 1.0);
            if !self.utterances.is_quiet() {
                self.early = None;
            }
            self.end(true, false);
        }
        self.send_results()?;
        while !self.waiting.is_empty() {
            self.wait(LAST_RESULTS)?;
        }
        let metadata = json!({"type": "Metadata", "duration": self.utterances.seconds(), "channels": 1});
        self.socket.send(Message::text(metadata.to_string()))?;
        self.close(CloseCode::Normal, "");
        Ok(())
    }

    fn close(&mut self, code: CloseCode, reason: &'static str) {
        // The client may be gone.
        let _ = self.socket.close(Some(CloseFrame { code, reason: reason.into() }));
        let _ = self.socket.flush();
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
            &model=nova-3&language=de-DE&punctuate=true&keyterm=M%C3%BCller&keywords=Tandem:2";
        let found = Parameters::read(query).unwrap();
        let hints = vec!["Müller".to_owned(), "Tandem".to_owned()];
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
