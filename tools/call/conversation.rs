//! Controls one call from the INVITE to the end: executes the steps, and reports the audio and events that the phone
//! receives.

mod outcome;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tandem_call::program::instruction::Speech;
use tandem_call::recognition::RecognitionEvent;
use tandem_id::OpId;
use tandem_media as media;
use tandem_sip as sip;
use tandem_speech::{Voice, recognise};
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until};

use super::audio_classifier::{AudioClassifier, Kind, Segment};
use super::keyboard::{Keyboard, Typed};
use super::lines::{Lines, Tone, rounded};
use super::phone::{Input, Phone};
use super::player::Player;
use super::problems::{self, Informant, More, Problem};
use super::steps::{Expectation, Sound, Step, plain_words};

/// Minimum duration of speech or of a tone that meets an expectation, in ms.
const MIN_DURATION: u64 = 100;
/// Tolerance for the frequency of an expected tone. The first value is in Hz. The second value is a part of the
/// frequency. The larger tolerance applies.
const TOLERANCE: (f64, f64) = (15.0, 0.02);
/// Time limit after the end of a call. In this time, the command waits for the last events of the SIP engine, the media
/// engine and the recogniser.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two requests for the problems of a call that is not answered yet.
const ASK_BEFORE_ANSWER: Duration = Duration::from_millis(500);
/// Maximum number of segments that are kept for the report of a call. The same maximum applies to word groups and to
/// digits. Later items are only printed.
const MAX_ENTRIES: usize = 10_000;

/// Returns whether a tone is the expected tone. Without a frequency, every tone is expected.
pub(crate) fn is_tone(hertz: f64, expected: Option<f64>) -> bool {
    let (least, part) = TOLERANCE;
    expected.is_none_or(|expected| (hertz - expected).abs() <= least.max(expected * part))
}

/// The end of a call.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// Cause of the end of the call.
    pub(super) cause: sip::EndCause,
    /// SIP status code of the response that ended the call, or `None` if no response ended the call.
    pub(super) status: Option<u16>,
    /// Reason that the other side stated.
    pub(super) reason: Option<String>,
}

/// The result of an executed step.
struct Done {
    step: String,
    at: f64,
    seconds: f64,
    passed: bool,
}

/// The state of the call.
pub(super) struct Conversation {
    pub(super) phone: Phone,
    pub(super) lines: Lines,
    pub(super) voice: Arc<Voice>,
    pub(super) interrupts: Signal,
    pub(super) record: Option<PathBuf>,
    /// Whether the phone continues to listen after the last step.
    pub(super) keeps_listening: bool,
    informant: Informant,
    player: Option<Player>,
    /// The problems of the call that the server has reported.
    problems: Vec<Problem>,
    /// The problem because of which the phone did not wait for the answer.
    stopped_by: Option<Problem>,
    /// The problems that the script expects.
    expected: Vec<problems::Expected>,
    tap: Option<media::TapReader>,
    recogniser: Option<recognise::RecognitionSession>,
    keyboard: Option<Keyboard>,
    deadline: Option<Instant>,
    classifier: AudioClassifier,
    /// Time at which the media time is 0, in seconds since the start of the call.
    zero: Option<f64>,
    segments: Vec<Segment>,
    words: Vec<(f64, String)>,
    digits: Vec<(f64, char)>,
    finished: HashSet<OpId>,
    answered: Option<f64>,
    /// Time of the end, in seconds since the start of the call.
    ended: Option<f64>,
    last_status: Option<u16>,
    end: Option<End>,
    /// Whether this side has hung up or cancelled the call.
    leaving: bool,
    /// Media time at which the digits of the previous step started, in ms, or `None` if the previous step sent no
    /// digits.
    digits_started: Option<u64>,
    timed_out: bool,
    stats: Option<media::Stats>,
    done: Vec<Done>,
    /// Number of word groups and number of digits that earlier expectations have used. Later expectations do not use
    /// these words and digits again.
    marks: (usize, usize),
}

/// A step together with the audio that the step plays.
pub(super) struct Prepared {
    pub(super) step: Step,
    pub(super) audio: Option<Arc<media::Audio>>,
}

/// The reason why a wait ended: an event, or the time limit.
#[derive(PartialEq)]
enum WaitResult {
    Event,
    Time,
}

impl Conversation {
    pub(super) fn new(phone: Phone, lines: Lines, voice: Arc<Voice>, interrupts: Signal) -> Self {
        Self {
            phone,
            lines,
            voice,
            interrupts,
            record: None,
            keeps_listening: false,
            informant: Informant::Nobody,
            player: None,
            problems: Vec::new(),
            stopped_by: None,
            expected: Vec::new(),
            tap: None,
            recogniser: None,
            keyboard: None,
            deadline: None,
            classifier: AudioClassifier::new(),
            zero: None,
            segments: Vec::new(),
            words: Vec::new(),
            digits: Vec::new(),
            finished: HashSet::new(),
            answered: None,
            ended: None,
            last_status: None,
            end: None,
            leaving: false,
            digits_started: None,
            timed_out: false,
            stats: None,
            done: Vec::new(),
            marks: (0, 0),
        }
    }

    /// Sets the source of received audio and the source of recognised words.
    pub(super) fn listen(&mut self, tap: media::TapReader, recogniser: Option<recognise::RecognitionSession>) {
        (self.tap, self.recogniser) = (Some(tap), recogniser);
    }

    /// Sets who knows the problems of the call.
    pub(super) fn ask(&mut self, informant: Informant) {
        self.informant = informant;
    }

    /// Sets the player for the audio of the other side.
    pub(super) fn listen_with(&mut self, player: Option<Player>) {
        self.player = player;
    }

    /// Sets the keyboard with which the user types digits and text.
    pub(super) fn type_with(&mut self, keyboard: Keyboard) {
        self.keyboard = Some(keyboard);
    }

    /// Sets the time at which the call must end.
    pub(super) fn end_by(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Runs the call: waits for the answer, executes the steps, and hangs up.
    pub(super) async fn run(&mut self, steps: Vec<Prepared>) {
        self.expected = steps.iter().filter_map(|prepared| prepared.step.expected_problem().cloned()).collect();
        self.await_answer().await;
        let last = steps.last().map(|prepared| prepared.step.clone());
        for prepared in steps {
            let (name, at) = (prepared.step.to_string(), self.lines.now());
            let passed = self.execute(prepared).await;
            let seconds = self.lines.now() - at;
            self.done.push(Done { step: name, at: rounded(at), seconds: rounded(seconds), passed });
        }
        let stays = self.keeps_listening || !matches!(last, Some(Step::Expect(_) | Step::Hangup));
        if stays && !self.has_failed() {
            self.until(None, |_| false).await;
        }
        self.leave().await;
        self.learn_problems().await;
    }

    /// Waits for the answer. Ends the call if the server reports a problem after which nobody will answer, or the problem
    /// that the first step expects.
    async fn await_answer(&mut self) {
        loop {
            let soon = Instant::now() + ASK_BEFORE_ANSWER;
            let waits = matches!(self.informant, Informant::Server(_));
            if self.until(waits.then_some(soon), |call| call.answered.is_some()).await || self.is_over() || !waits {
                return;
            }
            // The server may not know the call yet.
            let _ = self.refresh_problems().await;
            let is_awaited = |problem: &&Problem| self.expected.iter().any(|expected| expected.is(problem));
            let found = self.problems.iter().find(|problem| problem.ends_ringing() || is_awaited(problem)).cloned();
            if let Some(problem) = found {
                self.lines.print(Tone::Bad, "given up", "nobody will answer, because the application failed");
                self.stopped_by = Some(problem);
                self.leave().await;
                return;
            }
        }
    }

    /// Executes a step. Returns false if the step failed.
    async fn execute(&mut self, Prepared { step, audio }: Prepared) -> bool {
        if self.is_over() {
            let expected = matches!(&step, Step::Expect(Expectation { what: Sound::Hangup, .. })) && !self.leaving;
            let passed = match &step {
                Step::Hangup => true,
                Step::Expect(Expectation { what: Sound::Words(_) | Sound::Digits(_) | Sound::Problem(_), .. }) => {
                    self.expect(&step).await
                }
                _ => expected,
            };
            // An expectation that the call can meet after its end has its own line.
            if !passed
                && !matches!(
                    &step,
                    Step::Expect(Expectation { what: Sound::Words(_) | Sound::Digits(_) | Sound::Problem(_), .. })
                )
            {
                self.lines.print(Tone::Bad, "too late", &format!("{step}: the call has ended"));
            }
            return passed;
        }
        match &step {
            Step::Say(text) => {
                self.lines.print(Tone::Sent, "say", &format!("\"{text}\""));
                self.play(audio).await
            }
            Step::Play(file) => {
                self.lines.print(Tone::Sent, "play", &file.display().to_string());
                self.play(audio).await
            }
            Step::Press(digits) => {
                self.lines.print(Tone::Sent, "press", digits);
                self.digits_started = Some(self.classifier.now());
                match self.phone.press(digits) {
                    Ok(op) => self.finish(op).await,
                    Err(error) => self.report_failure(&error),
                }
            }
            Step::Wait(time) => {
                let until = Instant::now() + *time;
                self.until(Some(until), |_| false).await;
                !self.leaving
            }
            Step::Expect(_) => self.expect(&step).await,
            Step::Hangup => {
                self.leave().await;
                true
            }
        }
    }

    async fn play(&mut self, audio: Option<Arc<media::Audio>>) -> bool {
        let Some(audio) = audio else { return true };
        match self.phone.play(&audio) {
            Ok(op) => self.finish(op).await,
            Err(error) => self.report_failure(&error),
        }
    }

    /// Waits until all audio or all digits of the step have been sent. A hang-up by the other side during this time
    /// does not make this step fail. The following steps decide whether the hang-up is a failure.
    async fn finish(&mut self, op: OpId) -> bool {
        self.until(None, |call| call.finished.contains(&op)).await || !self.leaving
    }

    fn report_failure(&mut self, error: &anyhow::Error) -> bool {
        self.lines.print(Tone::Bad, "failed", &format!("{error:#}"));
        false
    }

    async fn expect(&mut self, step: &Step) -> bool {
        let Step::Expect(Expectation { what, within }) = step else { return false };
        // The other side may react to a digit with a tone before the digit ends.
        let digits_started = self.digits_started.take().filter(|_| matches!(what, Sound::Tone(_)));
        let (since, began) = (digits_started.unwrap_or_else(|| self.classifier.now()), self.lines.now());
        let until = Instant::now() + *within;
        let met = match what {
            Sound::Problem(_) => self.await_problem(until, what).await,
            _ => self.until(Some(until), |call| call.is_met(what, since)).await,
        };
        // The recogniser may still report words after the call has ended.
        let met = met
            || (matches!(what, Sound::Words(_)) && self.finish_recognition(until).await && self.is_met(what, since));
        let took = self.lines.now() - began;
        if met {
            self.marks = (self.words.len(), self.digits.len());
            self.lines.print(Tone::Good, "heard", &format!("{what}, after {took:.1} s"));
        } else {
            let why = match self.is_over() {
                true => format!("the call ended after {took:.1} s"),
                false => format!("not within {} s", within.as_secs_f64()),
            };
            let summary = self.summary_since(since);
            self.lines.print(Tone::Bad, "missing", &format!("{what}: {why}; heard {summary}"));
        }
        met
    }

    /// Waits until the server reports the expected problem. The server may report the problem after the end of the call.
    async fn await_problem(&mut self, until: Instant, what: &Sound) -> bool {
        let mut was_complete = false;
        loop {
            // The server may not have stored the call yet. The end of a leg may cause a request, so the server is asked
            // twice.
            let more = self.refresh_problems().await;
            let is_complete = self.is_over() && more == Ok(More::No);
            let met = self.is_met(what, 0);
            if met || Instant::now() >= until || is_complete && was_complete {
                return met;
            }
            was_complete = is_complete;
            let soon = until.min(Instant::now() + problems::EVERY);
            if !self.until(Some(soon), |_| false).await && self.is_over() {
                sleep_until(soon).await;
            }
        }
    }

    fn is_met(&self, what: &Sound, since: u64) -> bool {
        let pieces =
            || self.segments.iter().chain(self.classifier.current()).filter(|piece| piece.after(since) >= MIN_DURATION);
        match what {
            Sound::Speech => pieces().any(|piece| piece.kind == Kind::Speech),
            Sound::Tone(wanted) => {
                pieces().any(|piece| matches!(piece.kind, Kind::Tone(hertz) if is_tone(hertz, *wanted)))
            }
            Sound::Silence(time) => self
                .classifier
                .quiet_since()
                .is_some_and(|quiet| self.classifier.now().saturating_sub(quiet.max(since)) >= millis(*time)),
            Sound::Words(wanted) => {
                let said = self.words.iter().skip(self.marks.0).map(|(_, words)| plain_words(words));
                format!(" {} ", said.collect::<Vec<_>>().join(" ")).contains(&format!(" {wanted} "))
            }
            Sound::Digits(wanted) => {
                self.digits.iter().skip(self.marks.1).map(|(_, digit)| digit).collect::<String>().contains(wanted)
            }
            Sound::Hangup => self.end.is_some() && !self.leaving && !self.timed_out,
            Sound::Problem(expected) => self.problems.iter().any(|problem| expected.is(problem)),
        }
    }

    fn summary_since(&self, since: u64) -> String {
        let pieces = self.segments.iter().chain(self.classifier.current()).filter(|piece| piece.until > since);
        let mut parts: Vec<String> = pieces.map(|piece| self.describe(piece)).collect();
        parts.extend(self.words.iter().skip(self.marks.0).map(|(_, words)| format!("\"{words}\"")));
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }

    fn describe(&self, segment: &Segment) -> String {
        let at = |ms: u64| self.zero.unwrap_or(0.0) + ms as f64 / 1_000.0;
        let what = match segment.kind {
            Kind::Speech => "speech".to_owned(),
            Kind::Tone(hertz) => format!("a tone of {hertz:.0} Hz"),
            Kind::Sound => "a sound (music or noise)".to_owned(),
        };
        format!("{what} from {:.1} to {:.1} s", at(segment.began), at(segment.until))
    }

    fn is_over(&self) -> bool {
        self.end.is_some() || self.leaving
    }

    /// Handles events until the condition `holds` is true. Returns false if the time limit passes first, or if the call
    /// ends first.
    async fn until(&mut self, time: Option<Instant>, holds: impl Fn(&Self) -> bool) -> bool {
        loop {
            if holds(self) {
                return true;
            }
            if self.is_over() {
                return false;
            }
            if self.handle_next(time).await == WaitResult::Time {
                if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) && !self.timed_out {
                    self.timed_out = true;
                    self.leaving = true;
                    self.lines.print(
                        Tone::Bad,
                        "time limit",
                        "the call reached its time limit; --timeout SECONDS sets it",
                    );
                }
                return holds(self);
            }
        }
    }

    /// Waits for the next event and handles it.
    async fn handle_next(&mut self, time: Option<Instant>) -> WaitResult {
        let deadline = match (time, self.deadline.filter(|_| !self.timed_out)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let Self { phone, tap, recogniser, keyboard, interrupts, .. } = self;
        tokio::select! {
            input = phone.inputs.recv() => match input {
                Some(Input::Sip(event)) => self.on_sip(event),
                Some(Input::Media(event)) => self.on_media(event),
                None => return WaitResult::Time,
            },
            frame = next_frame(tap), if tap.is_some() => match frame {
                Some(frame) => self.on_frame(&frame),
                None => self.tap = None,
            },
            result = next_words(recogniser), if recogniser.is_some() => match result {
                Some(result) => self.on_words(result),
                None => self.recogniser = None,
            },
            typed = next_typed(keyboard), if keyboard.is_some() => self.on_typed(typed).await,
            _ = interrupts.recv() => {
                self.lines.clear();
                self.leaving = true;
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return WaitResult::Time,
        }
        WaitResult::Event
    }

    fn on_sip(&mut self, event: sip::Event) {
        match event {
            sip::Event::Provisional { status, sdp, reason, .. } => {
                let early = sdp.is_some_and(|sdp| self.phone.accept(&sdp).is_ok());
                if self.last_status.replace(status) != Some(status) {
                    let with = if early { ", with audio before the answer" } else { "" };
                    let what = if status == 180 { "ringing".to_owned() } else { format!("{status} {reason}") };
                    self.lines.print(Tone::Plain, "progress", &format!("{what}{with}"));
                }
            }
            sip::Event::Answered { sdp, .. } => self.on_answer(sdp.as_deref()),
            sip::Event::Offered { sdp, .. } => self.phone.answer_offer(sdp.as_deref()),
            sip::Event::RefreshDue { .. } => self.phone.refresh(),
            sip::Event::Referred { .. } => self.phone.refuse_transfer(),
            sip::Event::Ended { cause, status, reason, .. } => {
                self.ended = Some(self.lines.now());
                self.end = Some(End { cause, status, reason });
            }
            _ => {}
        }
    }

    fn on_answer(&mut self, sdp: Option<&[u8]>) {
        self.answered = Some(self.lines.now());
        let codec = match sdp.map(|sdp| self.phone.accept(sdp)) {
            Some(Ok(codec)) => codec.map(|codec| format!("{codec:?}").to_uppercase()).unwrap_or_default(),
            Some(Err(error)) => format!("without audio: {error:#}"),
            // The SDP was part of a provisional response, which has already been applied.
            None => String::new(),
        };
        self.lines.print(Tone::Good, "answered", &codec);
        if let Some(player) = &self.player {
            self.lines.note(&format!("{} plays the other side", player.program()));
        }
        if let Some(path) = &self.record
            && let Err(error) = self.phone.record(path)
        {
            self.lines.print(Tone::Bad, "failed", &format!("no recording: {error:#}"));
        }
        if self.keyboard.is_some() {
            self.lines.note("type digits to send them, type a line of text to speak it, Ctrl-C hangs up");
            self.lines.show_draft(Some(String::new()));
        }
    }

    fn on_media(&mut self, event: media::Event) {
        match event {
            media::Event::Dtmf { digit, .. } => {
                self.lines.print(Tone::Received, "heard", &format!("key {digit}"));
                if self.digits.len() < MAX_ENTRIES {
                    self.digits.push((self.lines.now(), digit));
                }
            }
            media::Event::Finished { op, .. } => {
                self.finished.insert(op);
            }
            media::Event::Closed { stats, .. } => self.stats = Some(*stats),
            _ => {}
        }
    }

    fn on_frame(&mut self, frame: &media::TapFrame) {
        let samples = recognise::samples(frame);
        let ends = frame.timestamp_ms + 20;
        let now = self.lines.now();
        self.zero.get_or_insert(now - ends as f64 / 1_000.0);
        if let Some(recogniser) = &self.recogniser {
            recogniser.push(&samples);
        }
        if let Some(Err(why)) = self.player.as_ref().map(|player| player.play(&samples)) {
            let program = self.player.take().map_or("", |player| player.program());
            self.lines.print(Tone::Bad, "silent", &format!("--listen: {program} ended: {why}"));
        }
        if let Some(over) = self.classifier.handle_frame(ends, &samples) {
            self.on_segment(over);
        }
    }

    fn on_segment(&mut self, segment: Segment) {
        // If there is a recogniser, the words are printed instead of the segment of speech.
        if self.recogniser.is_none() || segment.kind != Kind::Speech {
            let text = self.describe(&segment);
            self.lines.print(Tone::Received, "heard", &text);
        }
        if self.segments.len() < MAX_ENTRIES {
            self.segments.push(segment);
        }
    }

    fn on_words(&mut self, result: Result<RecognitionEvent, recognise::RecogniseError>) {
        match result {
            Ok(RecognitionEvent::Final(words)) if !words.text().is_empty() => {
                let text = words.text();
                self.lines.print(Tone::Received, "heard", &format!("\"{text}\""));
                if self.words.len() < MAX_ENTRIES {
                    self.words.push((self.lines.now(), text));
                }
            }
            Ok(_) => {}
            Err(error) => self.lines.print(Tone::Bad, "deaf", &error.to_string()),
        }
    }

    async fn on_typed(&mut self, typed: Typed) {
        match typed {
            Typed::Digit(digit) => {
                self.lines.print(Tone::Sent, "press", &digit.to_string());
                if let Err(error) = self.phone.press(&digit.to_string()) {
                    self.report_failure(&error);
                }
            }
            Typed::Draft(draft) => self.lines.show_draft(Some(draft)),
            Typed::Line(text) => {
                self.lines.show_draft(Some(String::new()));
                self.lines.print(Tone::Sent, "say", &format!("\"{text}\""));
                let speech = Speech { text, ssml: false, voice: None, language: None };
                let played = match self.voice.speak(&speech).await {
                    Ok(samples) => self.phone.play(&Arc::new(media::Audio::new(samples))).map(drop),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = played {
                    self.report_failure(&error);
                }
            }
            Typed::End => self.keyboard = None,
        }
    }

    /// Hangs up if the call has not ended, and handles the remaining events.
    async fn leave(&mut self) {
        self.lines.clear();
        self.keyboard = None;
        if self.end.is_none() {
            self.leaving = true;
            self.phone.hang_up();
        }
        let deadline = Instant::now() + FINISH_TIMEOUT;
        while self.end.is_none() && self.handle_next_by(deadline).await {}
        self.phone.close();
        while (self.stats.is_none() || self.tap.is_some()) && self.handle_next_by(deadline).await {}
        if let Some(last) = self.classifier.finish() {
            self.on_segment(last);
        }
        self.finish_recognition(deadline).await;
    }

    /// Waits for the last results of the recogniser if the call has ended.
    async fn finish_recognition(&mut self, until: Instant) -> bool {
        let Some(recogniser) = &mut self.recogniser else { return true };
        if self.end.is_none() {
            return true;
        }
        recogniser.finish();
        while self.recogniser.is_some() && self.handle_next_by(until).await {}
        true
    }

    async fn handle_next_by(&mut self, time: Instant) -> bool {
        self.handle_next(Some(time)).await == WaitResult::Event
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

async fn next_frame(tap: &mut Option<media::TapReader>) -> Option<media::TapFrame> {
    match tap {
        Some(tap) => tap.next().await,
        None => std::future::pending().await,
    }
}

async fn next_words(
    recogniser: &mut Option<recognise::RecognitionSession>,
) -> Option<Result<RecognitionEvent, recognise::RecogniseError>> {
    match recogniser {
        Some(recogniser) => recogniser.next().await,
        None => std::future::pending().await,
    }
}

async fn next_typed(keyboard: &mut Option<Keyboard>) -> Typed {
    match keyboard {
        Some(keyboard) => keyboard.next().await,
        None => std::future::pending().await,
    }
}
