//! Support for tests that drive a call by hand: a test feeds events, inspects the outputs, and advances a virtual
//! clock.
//!
//! The script tracks everything that the call starts. So [`CallScript::assert_settled`] can check at the end that
//! everything has ended. The methods panic if the test expects something that did not happen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken expectation ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Target;
use crate::address::Address;
use crate::call::Call;
use crate::command::{Accepted, Command, Refused, Request};
use crate::conversation::{ConversationSpec, ConversationStatus, ConversationTarget};
use crate::event::{CallEvent, EventKind, PlaybackEnd};
use crate::fetch::{FailureKind, Fetch, FetchFailure};
use crate::header_fields::HeaderFields;
use crate::leg::{Direction, LegInfo, LegOwner, Status, TargetLegs};
use crate::new_leg::{LegPlan, NewLeg, OnAnswer};
use crate::output::{EndReason, Invite, LegCommand, LegEvent, Output, Progress};
use crate::program::instruction::{
    AudioSource, Dequeue, Dial, DialTarget, Enqueue, Gather, GatherSpeech, Instruction, Play, Program, Tone, Wait,
};
use crate::queue::NotQueued;
use crate::recognition::{RecognisedText, RecognitionEvent, RecognitionSpec};
use crate::recording::{RecordingChannels, RecordingEnd, RecordingSource, RecordingSpec, Track};
use crate::route::{Decision, Route};
use crate::siprec::{SiprecSpec, SiprecStatus};
use crate::stream::{ConnectTiming, StreamSpec, StreamStatus, StreamTransport};
use crate::transcription::{TranscriptionSpec, TranscriptionStatus};
use tandem_id::{AccountName, Now};
use tandem_id::{CallId, ConversationId, FetchId, LegId, OpId, QueueId, SiprecId, StreamId, TranscriptionId};

/// 180 without SDP.
pub const RINGING: Progress = Progress { alerting: true, early_media: false };
/// 180 with SDP.
pub const RINGING_WITH_SDP: Progress = Progress { alerting: true, early_media: true };
/// 183 without SDP.
pub const PROGRESS: Progress = Progress { alerting: false, early_media: false };
/// 183 with SDP.
pub const EARLY_MEDIA: Progress = Progress { alerting: false, early_media: true };

/// A call with a virtual clock, and a record of the operations that the call started.
pub struct CallScript {
    /// The call itself. Tests use this field for inputs that have no method in the script. After such an input, a test
    /// must call [`CallScript::drain`].
    pub call: Call,
    /// Current time of the virtual clock.
    pub now: Now,
    /// All outputs so far, oldest first. Tests may clear the list.
    pub outputs: Vec<Output>,
    /// Playbacks that still run.
    pub plays: BTreeSet<(LegId, OpId)>,
    /// Recordings that have not finished.
    pub recordings: BTreeSet<(LegId, OpId)>,
    /// Recordings whose end the call has ordered.
    pub stopping: BTreeSet<(LegId, OpId)>,
    /// Streams that have not ended.
    pub streams: BTreeSet<(LegId, StreamId)>,
    /// Sessions with recording servers that have not ended.
    pub siprecs: BTreeSet<(LegId, SiprecId)>,
    /// Speech recognitions that have not ended.
    pub recognitions: BTreeSet<(LegId, OpId)>,
    /// Transcriptions that have not ended.
    pub transcriptions: BTreeSet<(LegId, OpId, TranscriptionId)>,
    /// Conversations that have not ended.
    pub conversations: BTreeSet<(LegId, ConversationId)>,
    /// Document requests without a response, oldest first.
    pub fetches: Vec<(LegId, FetchId)>,
    /// Operation of the last command to enter a queue.
    pub entering: Option<OpId>,
    /// Number of `Ended` events of each leg.
    pub ended: BTreeMap<LegId, u32>,
    /// Number of `Release` commands to each leg.
    pub released: BTreeMap<LegId, u32>,
    /// All legs that were created, oldest first.
    pub legs: Vec<LegId>,
    /// Whether the state of the call is written and read after every input, so that the test also shows that a call that
    /// is written and read continues like the original. Tests of many thousand inputs switch this off.
    pub rewrites: bool,
}

impl CallScript {
    /// Creates a call without legs.
    #[expect(clippy::disallowed_methods, reason = "any Instant will do as the start of a virtual clock")]
    pub fn new(seed: u8) -> Self {
        let now = Now { instant: Instant::now(), time: jiff::Timestamp::UNIX_EPOCH };
        Self {
            call: Call::new(CallId(1), [seed; 32], now),
            now,
            outputs: Vec::new(),
            plays: BTreeSet::new(),
            recordings: BTreeSet::new(),
            stopping: BTreeSet::new(),
            streams: BTreeSet::new(),
            siprecs: BTreeSet::new(),
            recognitions: BTreeSet::new(),
            transcriptions: BTreeSet::new(),
            conversations: BTreeSet::new(),
            fetches: Vec::new(),
            entering: None,
            ended: BTreeMap::new(),
            released: BTreeMap::new(),
            legs: Vec::new(),
            rewrites: true,
        }
    }

    /// Creates a call with an inbound leg. `decision` says what controls this leg.
    pub fn inbound(decision: Decision) -> Self {
        let mut script = Self::new(7);
        script.incoming(LegId(1), decision);
        script
    }

    /// Creates a call with an inbound leg that runs these instructions.
    pub fn runs(instructions: Vec<Instruction>) -> Self {
        Self::inbound(Decision::Program(program(instructions)))
    }

    /// Creates a call with an inbound leg. An application controls the leg by commands, and has already answered the
    /// leg.
    pub fn commanded() -> Self {
        let mut script = Self::inbound(Decision::Commands);
        script
            .request(Command::Answer { record: None, stream: None, headers: HeaderFields::new() })
            .expect("answer is accepted");
        script
    }

    /// Creates a call with an outbound leg that does `then` after the answer. The leg may ring for 30 s.
    pub fn outbound(then: OnAnswer) -> Self {
        let mut script = Self::new(7);
        script.dial_out(LegId(1), |leg| leg.plan.then = then);
        script
    }

    /// Adds an inbound leg.
    pub fn incoming(&mut self, leg: LegId, decision: Decision) {
        let route =
            Route { owner: LegOwner::new(AccountName::new("main"), "test"), status: None, record: None, decision };
        self.call.handle_incoming(self.now, info(leg, Direction::Inbound), route);
        self.drain();
    }

    /// Adds an outbound leg. `change` can modify the leg before it starts.
    pub fn dial_out(&mut self, leg: LegId, change: impl FnOnce(&mut NewLeg)) {
        let info = info(leg, Direction::OutboundApi);
        let invite = Invite::new(info.to.clone(), info.from.clone());
        let mut new =
            NewLeg { info, invite, plan: LegPlan::waiting(Duration::from_secs(30)), record: None, race: None };
        change(&mut new);
        self.call.handle_new_leg(self.now, new).expect("there is room");
        self.drain();
    }

    /// Returns the first leg.
    pub fn leg(&self) -> LegId {
        *self.legs.first().expect("there is a leg")
    }

    /// Returns the newest leg.
    pub fn newest(&self) -> LegId {
        *self.legs.last().expect("there is a leg")
    }

    /// Feeds an event of the first leg.
    pub fn feed(&mut self, event: LegEvent) {
        self.feed_to(self.leg(), event);
    }

    /// Feeds an event of a leg.
    pub fn feed_to(&mut self, leg: LegId, event: LegEvent) {
        match &event {
            LegEvent::PlayFinished { op, .. } => drop(self.plays.remove(&(leg, *op))),
            LegEvent::RecordingFinished { op, .. } => drop(self.recordings.remove(&(leg, *op))),
            LegEvent::Stream { id, status } if *status != StreamStatus::Started => {
                self.streams.remove(&(leg, *id));
            }
            LegEvent::Siprec { id, status: SiprecStatus::Stopped | SiprecStatus::Failed(_) } => {
                self.siprecs.remove(&(leg, *id));
            }
            LegEvent::RecognitionEnded { op, .. } => drop(self.recognitions.remove(&(leg, *op))),
            LegEvent::Transcription { id, status: TranscriptionStatus::Stopped | TranscriptionStatus::Failed(_) } => {
                self.transcriptions.retain(|(_, _, one)| one != id);
            }
            LegEvent::Conversation { id, status } if *status != ConversationStatus::Started => {
                self.conversations.remove(&(leg, *id));
            }
            _ => {}
        }
        self.call.handle_leg(self.now, leg, event);
        self.drain();
    }

    /// Feeds a provisional response of a leg's far end.
    pub fn progresses(&mut self, leg: LegId, progress: Progress) {
        self.feed_to(leg, LegEvent::Ringing { progress });
    }

    /// Lets the far end of a leg answer.
    pub fn answers(&mut self, leg: LegId) {
        self.feed_to(
            leg,
            LegEvent::Answered { codec: Some("PCMU".to_owned()), headers: HeaderFields::new(), dialog: None },
        );
    }

    /// Lets the far end of a leg refuse with this SIP status code.
    pub fn refuses(&mut self, leg: LegId, status: u16) {
        self.feed_to(leg, LegEvent::Ended { reason: EndReason::Rejected, sip_status: Some(status), detail: None });
    }

    /// Lets the far end of a leg hang up.
    pub fn hangs_up(&mut self, leg: LegId) {
        self.feed_to(leg, LegEvent::Ended { reason: EndReason::HungUp, sip_status: None, detail: None });
    }

    /// Reports whether the queue admitted the first leg. Does nothing if the call has not tried to enter a queue.
    pub fn is_enqueued(&mut self, result: Result<QueueId, NotQueued>) {
        if let Some(op) = self.entering {
            self.feed(LegEvent::Enqueued { op, result });
        }
    }

    /// Feeds DTMF digits from the first leg.
    pub fn sends_digits(&mut self, digits: &str) {
        for digit in digits.chars() {
            self.feed(LegEvent::Dtmf(digit));
        }
    }

    /// Lets the newest playback of a leg end normally.
    pub fn play_ends(&mut self, leg: LegId) {
        let op = self.plays.iter().rev().find(|(of, _)| *of == leg).expect("something plays").1;
        self.feed_to(leg, LegEvent::PlayFinished { op, end: PlaybackEnd::Completed });
    }

    /// Completes the newest recording of a leg: 4 s of audio, of which 1 s of silence was removed.
    pub fn recording_ends(&mut self, leg: LegId, end: RecordingEnd) {
        let op = self.recordings.iter().rev().find(|(of, _)| *of == leg).expect("something is recorded").1;
        let (duration, recorded) = (Duration::from_secs(3), Duration::from_secs(4));
        self.feed_to(leg, LegEvent::RecordingFinished { op, end, duration, recorded });
    }

    /// Reports a status of the newest stream of a leg.
    pub fn stream_is(&mut self, leg: LegId, status: StreamStatus) {
        let id = self.streams.iter().rev().find(|(of, _)| *of == leg).expect("a stream runs").1;
        self.feed_to(leg, LegEvent::Stream { id, status });
    }

    /// Feeds a result of the newest speech recognition of the first leg.
    pub fn recognises(&mut self, event: RecognitionEvent) {
        let op = self.recognitions.iter().next_back().expect("a recognition runs").1;
        self.feed(LegEvent::Recognition { op, event });
    }

    /// Feeds a final utterance of the newest speech recognition of the first leg.
    pub fn recognises_words(&mut self, text: &str) {
        self.recognises(RecognitionEvent::Final(RecognisedText {
            stable: text.to_owned(),
            confidence: Some(0.9),
            ..RecognisedText::default()
        }));
    }

    /// Ends the newest speech recognition. `failed` is the reason if the recognition failed.
    pub fn recognition_ends(&mut self, failed: Option<&str>) {
        let op = self.recognitions.iter().next_back().expect("a recognition runs").1;
        self.feed(LegEvent::RecognitionEnded { op, failed: failed.map(str::to_owned) });
    }

    /// Reports a status of the newest session with a recording server of the first leg.
    pub fn siprec_is(&mut self, status: SiprecStatus) {
        let id = self.siprecs.iter().next_back().expect("one runs").1;
        self.feed(LegEvent::Siprec { id, status });
    }

    /// Reports a status of the newest transcription of the first leg.
    pub fn transcription_is(&mut self, status: TranscriptionStatus) {
        let id = self.transcriptions.iter().next_back().expect("one runs").2;
        self.feed(LegEvent::Transcription { id, status });
    }

    /// Reports a status of the newest conversation of a leg.
    pub fn conversation_is(&mut self, leg: LegId, status: ConversationStatus) {
        let id = self.conversations.iter().rev().find(|(of, _)| *of == leg).expect("a conversation runs").1;
        self.feed_to(leg, LegEvent::Conversation { id, status });
    }

    /// Answers the oldest document request with these instructions.
    pub fn fetched(&mut self, instructions: Vec<Instruction>) {
        self.fetch_is(Ok(program(instructions)));
    }

    /// Fails the oldest document request with status 500.
    pub fn fetch_fails(&mut self) {
        self.fetch_is(Err(FetchFailure { kind: FailureKind::Status(500), detail: "500".to_owned() }));
    }

    fn fetch_is(&mut self, result: Result<Program, FetchFailure>) {
        assert!(!self.fetches.is_empty(), "no document was requested");
        let (leg, id) = self.fetches.remove(0);
        self.call.handle_fetched(self.now, leg, id, result);
        self.drain();
    }

    /// Returns the script of another process, which knows nothing but the written state of the call. The call has been
    /// resumed. The script has only the operations that the call has started again.
    pub fn restarted(&self) -> Self {
        let octets = self.call.write(self.now).unwrap();
        let mut script = Self { call: Call::read(&octets, self.now).unwrap(), now: self.now, ..Self::new(0) };
        script.legs.clone_from(&self.legs);
        script.ended.clone_from(&self.ended);
        script.released.clone_from(&self.released);
        script.entering = self.entering;
        script.rewrites = self.rewrites;
        script.call.resume(script.now);
        script.drain();
        script
    }

    /// Shuts the server down.
    pub fn shuts_down(&mut self) {
        self.call.handle_shutdown(self.now);
        self.drain();
    }

    /// Sends a command of an application to the first leg.
    pub fn request(&mut self, command: Command) -> Result<Accepted, Refused> {
        self.request_to(self.leg(), command)
    }

    /// Sends a command of an application to a leg.
    pub fn request_to(&mut self, leg: LegId, command: Command) -> Result<Accepted, Refused> {
        let accepted = self.call.handle_request(self.now, leg, Request { client_state: None, command });
        self.drain();
        accepted
    }

    /// Advances the clock by this time. Every timer that becomes due on the way fires at its own time.
    pub fn advance(&mut self, length: Duration) {
        let end = self.now.instant + length;
        while let Some(due) = self.call.poll_timeout().filter(|due| *due <= end) {
            self.clock_to(due);
            self.call.handle_timeout(self.now);
            self.drain();
        }
        self.clock_to(end);
    }

    fn clock_to(&mut self, instant: Instant) {
        let gone = instant.saturating_duration_since(self.now.instant);
        self.now.instant += gone;
        self.now.time += jiff::SignedDuration::try_from(gone).expect("a short time");
    }

    /// Polls and records all outputs of the call.
    pub fn drain(&mut self) {
        while let Some(output) = self.call.poll_output() {
            self.note(&output);
            self.outputs.push(output);
        }
        if self.rewrites {
            self.call = Call::read(&self.call.write(self.now).unwrap(), self.now).unwrap();
        }
    }

    fn note(&mut self, output: &Output) {
        match output {
            Output::Fetch(fetch) => self.fetches.push((fetch.leg.id, fetch.id)),
            Output::Event(event) => {
                let leg = event.leg.id;
                match event.kind {
                    EventKind::Initiated => self.legs.push(leg),
                    EventKind::Ended => *self.ended.entry(leg).or_default() += 1,
                    _ => {}
                }
            }
            Output::Leg { leg, command } => {
                let leg = *leg;
                assert!(!self.released.contains_key(&leg), "{command:?} after the release");
                match &**command {
                    // Digits and tones that a request started need no stop command: they end by themselves or with the
                    // leg.
                    LegCommand::Play { op, .. } | LegCommand::SendDigits { op, .. } => {
                        self.plays.insert((leg, *op));
                    }
                    LegCommand::Stop { op } => {
                        assert!(self.plays.remove(&(leg, *op)), "stopped what did not play");
                    }
                    LegCommand::Record { op, .. } => {
                        self.recordings.insert((leg, *op));
                    }
                    LegCommand::StopRecording { op } => {
                        assert!(self.recordings.contains(&(leg, *op)), "stopped what was not recorded");
                        assert!(self.stopping.insert((leg, *op)), "a recording was stopped twice");
                    }
                    LegCommand::StartStream { id, .. } => {
                        self.streams.insert((leg, *id));
                    }
                    LegCommand::StopStream { id } => {
                        assert!(self.streams.remove(&(leg, *id)), "stopped a stream that did not run");
                    }
                    LegCommand::StartSiprec { id, .. } => {
                        self.siprecs.insert((leg, *id));
                    }
                    LegCommand::StopSiprec { id } => {
                        assert!(self.siprecs.remove(&(leg, *id)), "stopped a recording session that did not run");
                    }
                    LegCommand::StartRecognition { op, .. } => {
                        self.recognitions.insert((leg, *op));
                    }
                    LegCommand::FinishRecognition { op } => {
                        assert!(self.recognitions.contains(&(leg, *op)), "finished a recognition that did not run");
                    }
                    LegCommand::StopRecognition { op } => {
                        assert!(self.recognitions.remove(&(leg, *op)), "stopped a recognition that did not run");
                    }
                    LegCommand::StartTranscription { op, id, .. } => {
                        self.transcriptions.insert((leg, *op, *id));
                    }
                    LegCommand::StopTranscription { op } => {
                        let runs = self.transcriptions.iter().any(|(of, one, _)| (*of, *one) == (leg, *op));
                        assert!(runs, "stopped a transcription that did not run");
                    }
                    LegCommand::Converse { id, .. } => {
                        self.conversations.insert((leg, *id));
                    }
                    LegCommand::StopConversation { id } => {
                        assert!(self.conversations.remove(&(leg, *id)), "stopped a conversation that was over");
                    }
                    LegCommand::EnterQueue { op, .. } => self.entering = Some(*op),
                    LegCommand::Release => *self.released.entry(leg).or_default() += 1,
                    _ => {}
                }
            }
        }
    }

    /// Completes every recording whose end the call has ordered.
    pub fn close_recordings(&mut self) {
        for (leg, op) in std::mem::take(&mut self.stopping) {
            if self.recordings.contains(&(leg, op)) {
                let (end, second) = (RecordingEnd::Stopped, Duration::from_secs(1));
                self.feed_to(leg, LegEvent::RecordingFinished { op, end, duration: second, recorded: second });
            }
        }
    }

    /// Ends every transcription.
    pub fn end_transcriptions(&mut self) {
        for (leg, _, id) in std::mem::take(&mut self.transcriptions) {
            self.feed_to(leg, LegEvent::Transcription { id, status: TranscriptionStatus::Stopped });
        }
    }

    /// Asserts that every leg has ended once and was released once, and that no operation still runs.
    pub fn assert_settled(&self) {
        assert!(self.call.is_finished(), "legs are left: {:?}", self.call.legs().collect::<Vec<_>>());
        assert_eq!(self.call.poll_timeout(), None, "a timer is left");
        for leg in &self.legs {
            assert_eq!(self.ended.get(leg), Some(&1), "{leg} ended once");
            assert_eq!(self.released.get(leg), Some(&1), "{leg} was released once");
        }
        assert!(self.recordings.is_empty(), "recordings are left: {:?}", self.recordings);
        assert!(self.streams.is_empty(), "streams are left: {:?}", self.streams);
        assert!(self.siprecs.is_empty(), "recording sessions are left: {:?}", self.siprecs);
        assert!(self.recognitions.is_empty(), "recognitions are left: {:?}", self.recognitions);
        assert!(self.transcriptions.is_empty(), "transcriptions are left: {:?}", self.transcriptions);
        assert!(self.conversations.is_empty(), "conversations are left: {:?}", self.conversations);
    }

    /// Asserts that no audio plays any more. Audio that a request started during the program (digits, the tone of a
    /// recording) must not be checked in this way. Such audio ends by itself or with the leg, without a stop command.
    pub fn assert_silent(&self) {
        assert!(self.plays.is_empty(), "audio is left: {:?}", self.plays);
    }

    /// Returns all events so far, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &CallEvent> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Event(event) => Some(&**event),
            _ => None,
        })
    }

    /// Returns all commands to a leg so far, oldest first.
    pub fn commands(&self, leg: LegId) -> impl DoubleEndedIterator<Item = &LegCommand> {
        self.outputs.iter().filter_map(move |output| match output {
            Output::Leg { leg: of, command } if *of == leg => Some(&**command),
            _ => None,
        })
    }

    /// Returns all document requests so far, oldest first.
    pub fn document_requests(&self) -> impl DoubleEndedIterator<Item = &Fetch> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Fetch(fetch) => Some(&**fetch),
            _ => None,
        })
    }

    /// Returns the URL of the last document request.
    pub fn last_url(&self) -> Option<&str> {
        self.document_requests().next_back().map(|fetch| &*fetch.target.url)
    }

    /// Returns whether the call has emitted an event that satisfies `what`.
    pub fn has_event(&self, what: impl Fn(&EventKind) -> bool) -> bool {
        self.events().any(|event| what(&event.kind))
    }

    /// Returns whether the call has given the leg a command that satisfies `what`.
    pub fn has_command(&self, leg: LegId, what: impl Fn(&LegCommand) -> bool) -> bool {
        self.commands(leg).any(what)
    }
}

/// Returns the facts of a leg. The leg belongs to a call from `+15550001` to `+15550002`.
pub fn info(leg: LegId, direction: Direction) -> LegInfo {
    let (from, to) = (Address::from("+15550001"), Address::from("+15550002"));
    let info = LegInfo::inbound(
        leg,
        CallId(1),
        LegOwner::new(AccountName::new("main"), "test"),
        from,
        to,
        jiff::Timestamp::UNIX_EPOCH,
    );
    LegInfo { direction, status: Status::Queued, ..info }
}

/// Returns a program with these instructions.
pub fn program(instructions: Vec<Instruction>) -> Program {
    Program { instructions, warnings: Vec::new() }
}

/// Returns the target of a document at this path.
pub fn target(path: &str) -> Target {
    Target { url: Arc::from(format!("http://app.test/{path}")), method: crate::Method::Post }
}

/// Returns the instruction to play a file once.
pub fn file(name: &str) -> Play {
    Play::once(AudioSource::Url(format!("http://app.test/{name}.wav")))
}

/// Returns a gather of up to four digits with the terminator `#`, a timeout of 5 s, one attempt and the action
/// `gathered`.
pub fn gather() -> Gather {
    Gather {
        prompts: Vec::new(),
        retry_prompts: Vec::new(),
        tries: 1,
        min_digits: 1,
        max_digits: Some(4),
        terminators: "#".to_owned(),
        valid_digits: None,
        first_digit_timeout: Duration::from_secs(5),
        holds_timers: false,
        inter_digit_timeout: Duration::from_secs(5),
        total_timeout: None,
        barge_in: true,
        action: Some(target("gathered")),
        action_on_empty: false,
        id: None,
        speech: None,
        callback: None,
    }
}

/// Returns the same gather as [`gather`], but with speech recognition. A pause of 1 s ends the speech.
pub fn spoken_gather() -> Gather {
    let speech = GatherSpeech {
        recognition: RecognitionSpec::default(),
        pause: Some(Duration::from_secs(1)),
        max_duration: Duration::from_secs(60),
        partials: None,
        digits: true,
    };
    Gather { speech: Some(Box::new(speech)), ..gather() }
}

/// Returns a transcription of both directions with this name.
pub fn transcription(name: &str) -> TranscriptionSpec {
    TranscriptionSpec {
        name: Some(name.to_owned()),
        track: Track::Both,
        recognition: RecognitionSpec::default(),
        labels: (None, None),
        engine: (String::new(), String::new()),
        at_end: false,
        if_none_runs: false,
        callback: None,
    }
}

/// Returns a mono recording of both directions.
pub fn recording() -> RecordingSpec {
    RecordingSpec::new(RecordingSource::Request, RecordingChannels::Mono)
}

/// Returns a recording-server session with this name for both directions.
pub fn siprec(name: &str) -> Box<SiprecSpec> {
    Box::new(SiprecSpec {
        connector: "recorder".to_owned(),
        name: Some(name.to_owned()),
        track: Track::Both,
        parameters: Vec::new(),
        callback: None,
    })
}

/// Returns a stream with this name.
pub fn stream(name: &str) -> StreamSpec {
    StreamSpec {
        url: "ws://app.test/".to_owned(),
        name: Some(name.to_owned()),
        track: Track::Inbound,
        codec: None,
        bidirectional_mode: None,
        parameters: Vec::new(),
        callback: None,
        target_legs: TargetLegs::Own,
        auth_token: None,
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Messages,
    }
}

/// Returns a conversation in English. All other options are off.
pub fn conversation() -> ConversationSpec {
    ConversationSpec::new(ConversationTarget::Application("ws://app.test/".to_owned()))
}

/// Returns a dial that calls these numbers at the same time for 20 s. The dial answers the caller first and has no
/// action.
pub fn dial(numbers: &[&str]) -> Dial {
    let targets = numbers.iter().map(|number| DialTarget::new(Address::from(*number))).collect();
    Dial::new(targets, Duration::from_secs(20))
}

/// Returns a wait in this queue with the server's music and the action `queued`.
pub fn enqueue(queue: &str) -> Enqueue {
    Enqueue {
        queue: queue.into(),
        max_size: None,
        wait: Wait::Music,
        max_duration: None,
        action: Some(target("queued")),
    }
}

/// Returns a dial that takes the first leg of this queue within 20 s, with the action `dialed`.
pub fn dequeue(queue: &str) -> Dial {
    let queue = Some(Dequeue { queue: queue.into(), whisper: None });
    Dial { queue, action: Some(target("dialed")), ..dial(&[]) }
}

/// Returns whether the command plays the ringback tone of a country.
pub fn is_ringback(command: &LegCommand) -> bool {
    matches!(command, LegCommand::Play { play: Play { source: AudioSource::Tone(Tone::Ringback(_)), .. }, .. })
}
