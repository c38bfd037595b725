//! A call driven by hand, for tests: feed what happened, look at what was ordered, move a clock that nobody waits for.
//!
//! The script keeps the books of everything the call starts, so that [`CallScript::assert_settled`] can say at the end
//! whether anything was left behind. Its methods panic when the test asks for what did not happen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken expectation ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::call::{Call, NewLeg, OnAnswer};
use crate::command::{Accepted, Command, Refused, Request};
use crate::conversation::{ConversationSpec, ConversationStatus, With};
use crate::event::{CallEvent, EventKind, PlaybackEnd};
use crate::fetch::{FailureKind, Fetch, FetchFailure};
use crate::hearing::{Heard, Listening, Words};
use crate::id::{CallId, ConversationId, FetchId, LegId, OpId, QueueId, SiprecId, StreamId, TranscriptionId};
use crate::leg::{Direction, Hearers, LegInfo, SipFacts, Status};
use crate::output::{Invite, LegCommand, LegEvent, LegGone, Output};
use crate::program::instruction::{
    AfterBridge, AudioSource, Dequeue, Dial, DialTarget, Enqueue, Gather, GatherSpeech, Instruction, Play, Program,
    Tone, Wait,
};
use crate::queue::NotQueued;
use crate::recording::{RecordingChannels, RecordingEnd, RecordingSource, RecordingSpec, Track};
use crate::route::{Decision, Route};
use crate::siprec::{SiprecSpec, SiprecStatus};
use crate::stream::{Form, Opens, StreamSpec, StreamStatus};
use crate::transcription::{TranscriptionSpec, TranscriptionStatus};
use crate::{Now, Target};

/// A call, a clock and the books of both.
pub struct CallScript {
    /// The call itself, for what the script has no word for; drain its outputs with [`CallScript::drain`] afterwards.
    pub call: Call,
    /// The moment it is.
    pub now: Now,
    /// Everything ordered and told so far, oldest first; tests may clear it.
    pub outputs: Vec<Output>,
    /// What is under way and was neither finished nor stopped.
    pub plays: BTreeSet<(LegId, OpId)>,
    /// Recordings not finished yet.
    pub recordings: BTreeSet<(LegId, OpId)>,
    /// Recordings told to stop.
    pub stopping: BTreeSet<(LegId, OpId)>,
    /// Streams not ended yet.
    pub streams: BTreeSet<(LegId, StreamId)>,
    /// Recording sessions not ended yet.
    pub siprecs: BTreeSet<(LegId, SiprecId)>,
    /// Ears that are open.
    pub ears: BTreeSet<(LegId, OpId)>,
    /// Transcriptions not ended yet.
    pub transcriptions: BTreeSet<(LegId, OpId, TranscriptionId)>,
    /// Conversations not ended yet.
    pub conversations: BTreeSet<(LegId, ConversationId)>,
    /// Documents asked for and not answered yet.
    pub fetches: Vec<(LegId, FetchId)>,
    /// The last order to enter a queue.
    pub entering: Option<OpId>,
    /// Ended events, per leg.
    pub ended: BTreeMap<LegId, u32>,
    /// Release orders, per leg.
    pub released: BTreeMap<LegId, u32>,
    /// Every leg seen, oldest first.
    pub legs: Vec<LegId>,
}

impl CallScript {
    /// A call without legs.
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
            ears: BTreeSet::new(),
            transcriptions: BTreeSet::new(),
            conversations: BTreeSet::new(),
            fetches: Vec::new(),
            entering: None,
            ended: BTreeMap::new(),
            released: BTreeMap::new(),
            legs: Vec::new(),
        }
    }

    /// Somebody calls and this decides.
    pub fn inbound(decision: Decision) -> Self {
        let mut script = Self::new(7);
        script.incoming(LegId(1), decision);
        script
    }

    /// Somebody calls and these instructions run.
    pub fn runs(instructions: Vec<Instruction>) -> Self {
        Self::inbound(Decision::Program(program(instructions)))
    }

    /// Somebody calls, an application drives by commands and has answered.
    pub fn commanded() -> Self {
        let mut script = Self::inbound(Decision::Commands);
        script
            .request(Command::Answer { record: None, stream: None, headers: Vec::new() })
            .expect("answer is accepted");
        script
    }

    /// We call and do `then` once answered; 30 s to ring.
    pub fn outbound(then: OnAnswer) -> Self {
        let mut script = Self::new(7);
        script.dial_out(LegId(1), |leg| leg.then = then);
        script
    }

    /// Another inbound leg.
    pub fn incoming(&mut self, leg: LegId, decision: Decision) {
        let route = Route {
            account: "main".into(),
            dialect: "test".into(),
            application: None,
            status: None,
            record: None,
            decision,
        };
        self.call.handle_incoming(self.now, info(leg, Direction::Inbound), route);
        self.drain();
    }

    /// Another outbound leg, changed by `change` before it leaves.
    pub fn dial_out(&mut self, leg: LegId, change: impl FnOnce(&mut NewLeg)) {
        let info = info(leg, Direction::OutboundApi);
        let invite = Invite {
            to: info.to.clone(),
            from: info.from.clone(),
            caller_name: None,
            headers: Vec::new(),
            inherits: false,
            credentials: None,
            via: Vec::new(),
            replaces: None,
        };
        let mut new = NewLeg::waiting(info, invite, Duration::from_secs(30));
        change(&mut new);
        self.call.handle_new_leg(self.now, new).expect("there is room");
        self.drain();
    }

    /// The first leg.
    pub fn leg(&self) -> LegId {
        *self.legs.first().expect("there is a leg")
    }

    /// The newest leg.
    pub fn newest(&self) -> LegId {
        *self.legs.last().expect("there is a leg")
    }

    /// Something happened on the first leg.
    pub fn feed(&mut self, event: LegEvent) {
        self.feed_to(self.leg(), event);
    }

    /// Something happened on a leg.
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
            LegEvent::ListeningEnded { op, .. } => drop(self.ears.remove(&(leg, *op))),
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

    /// The far end answers.
    pub fn answers(&mut self, leg: LegId) {
        self.feed_to(leg, LegEvent::Answered { codec: Some("PCMU".to_owned()), headers: Vec::new(), dialog: None });
    }

    /// The far end refuses.
    pub fn refuses(&mut self, leg: LegId, status: u16) {
        self.feed_to(leg, LegEvent::Ended { reason: LegGone::Rejected, sip_status: Some(status), detail: None });
    }

    /// The far end hangs up.
    pub fn hangs_up(&mut self, leg: LegId) {
        self.feed_to(leg, LegEvent::Ended { reason: LegGone::Bye, sip_status: None, detail: None });
    }

    /// The caller is let into the queue that it was last to enter, or not; nothing if it was to enter none.
    pub fn is_enqueued(&mut self, standing: Result<QueueId, NotQueued>) {
        if let Some(op) = self.entering {
            self.feed(LegEvent::Enqueued { op, standing });
        }
    }

    /// The caller presses keys.
    pub fn presses(&mut self, keys: &str) {
        for key in keys.chars() {
            self.feed(LegEvent::Dtmf(key));
        }
    }

    /// The newest audio under way on a leg plays to its end.
    pub fn play_ends(&mut self, leg: LegId) {
        let op = self.plays.iter().rev().find(|(of, _)| *of == leg).expect("something plays").1;
        self.feed_to(leg, LegEvent::PlayFinished { op, end: PlaybackEnd::Completed });
    }

    /// The newest recording of a leg is whole on disk: four seconds, of which one was cut away.
    pub fn recording_ends(&mut self, leg: LegId, end: RecordingEnd) {
        let op = self.recordings.iter().rev().find(|(of, _)| *of == leg).expect("something is recorded").1;
        let (duration, recorded) = (Duration::from_secs(3), Duration::from_secs(4));
        self.feed_to(leg, LegEvent::RecordingFinished { op, end, duration, recorded });
    }

    /// A stream of a leg changes.
    pub fn stream_is(&mut self, leg: LegId, status: StreamStatus) {
        let id = self.streams.iter().rev().find(|(of, _)| *of == leg).expect("a stream runs").1;
        self.feed_to(leg, LegEvent::Stream { id, status });
    }

    /// The open ears of the first leg hear this.
    pub fn hears(&mut self, heard: Heard) {
        let op = self.ears.iter().next_back().expect("somebody listens").1;
        self.feed(LegEvent::Heard { op, heard });
    }

    /// They hear this utterance, for good.
    pub fn hears_words(&mut self, text: &str) {
        self.hears(Heard::Final(Words { stable: text.to_owned(), confidence: Some(0.9), ..Words::default() }));
    }

    /// They hear nothing more.
    pub fn hears_no_more(&mut self, failed: Option<&str>) {
        let op = self.ears.iter().next_back().expect("somebody listens").1;
        self.feed(LegEvent::ListeningEnded { op, failed: failed.map(str::to_owned) });
    }

    /// The newest recording session of the first leg changes.
    pub fn siprec_is(&mut self, status: SiprecStatus) {
        let id = self.siprecs.iter().next_back().expect("one runs").1;
        self.feed(LegEvent::Siprec { id, status });
    }

    /// The newest transcription of the first leg changes.
    pub fn transcription_is(&mut self, status: TranscriptionStatus) {
        let id = self.transcriptions.iter().next_back().expect("one runs").2;
        self.feed(LegEvent::Transcription { id, status });
    }

    /// The conversation of a leg changes.
    pub fn conversation_is(&mut self, leg: LegId, status: ConversationStatus) {
        let id = self.conversations.iter().rev().find(|(of, _)| *of == leg).expect("a conversation runs").1;
        self.feed_to(leg, LegEvent::Conversation { id, status });
    }

    /// The application answers the oldest open request for a document.
    pub fn fetched(&mut self, instructions: Vec<Instruction>) {
        self.fetch_is(Ok(program(instructions)));
    }

    /// The oldest open request for a document fails.
    pub fn fetch_fails(&mut self) {
        self.fetch_is(Err(FetchFailure { kind: FailureKind::Status(500), detail: "500".to_owned() }));
    }

    fn fetch_is(&mut self, result: Result<Program, FetchFailure>) {
        assert!(!self.fetches.is_empty(), "no document was asked for");
        let (leg, id) = self.fetches.remove(0);
        self.call.handle_fetched(self.now, leg, id, result);
        self.drain();
    }

    /// The server ends.
    pub fn shuts_down(&mut self) {
        self.call.handle_shutdown(self.now);
        self.drain();
    }

    /// An application's request to the first leg.
    pub fn request(&mut self, command: Command) -> Result<Accepted, Refused> {
        self.request_to(self.leg(), command)
    }

    /// An application's request to a leg.
    pub fn request_to(&mut self, leg: LegId, command: Command) -> Result<Accepted, Refused> {
        let accepted = self.call.handle_request(self.now, leg, Request { client_state: None, command });
        self.drain();
        accepted
    }

    /// Time goes by; every timer on the way goes off at its own moment.
    pub fn passes(&mut self, length: Duration) {
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

    /// Takes what the call ordered into the books.
    pub fn drain(&mut self) {
        while let Some(output) = self.call.poll_output() {
            self.note(&output);
            self.outputs.push(output);
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
                    // Digits and tones by request end by themselves or with the leg.
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
                    LegCommand::Listen { op, .. } => {
                        self.ears.insert((leg, *op));
                    }
                    LegCommand::FinishListening { op } => {
                        assert!(self.ears.contains(&(leg, *op)), "finished ears that were not open");
                    }
                    LegCommand::StopListening { op } => {
                        assert!(self.ears.remove(&(leg, *op)), "stopped ears that were not open");
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

    /// Every recording told to stop is closed.
    pub fn close_recordings(&mut self) {
        for (leg, op) in std::mem::take(&mut self.stopping) {
            if self.recordings.contains(&(leg, op)) {
                let (end, second) = (RecordingEnd::Stopped, Duration::from_secs(1));
                self.feed_to(leg, LegEvent::RecordingFinished { op, end, duration: second, recorded: second });
            }
        }
    }

    /// Every transcription told to end has told all.
    pub fn end_transcriptions(&mut self) {
        for (leg, _, id) in std::mem::take(&mut self.transcriptions) {
            self.feed_to(leg, LegEvent::Transcription { id, status: TranscriptionStatus::Stopped });
        }
    }

    /// Nothing is left: every leg has ended and been released once, and nothing started still runs.
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
        assert!(self.ears.is_empty(), "ears are open: {:?}", self.ears);
        assert!(self.transcriptions.is_empty(), "transcriptions are left: {:?}", self.transcriptions);
        assert!(self.conversations.is_empty(), "conversations are left: {:?}", self.conversations);
    }

    /// Audio of the lane is over too. Audio by request beside the lane (digits, a recording's tone) ends with the leg.
    pub fn assert_silent(&self) {
        assert!(self.plays.is_empty(), "audio is left: {:?}", self.plays);
    }

    /// Facts told, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &CallEvent> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Event(event) => Some(&**event),
            _ => None,
        })
    }

    /// Orders to a leg, oldest first.
    pub fn orders(&self, leg: LegId) -> impl DoubleEndedIterator<Item = &LegCommand> {
        self.outputs.iter().filter_map(move |output| match output {
            Output::Leg { leg: of, command } if *of == leg => Some(&**command),
            _ => None,
        })
    }

    /// Documents asked for, oldest first.
    pub fn asked(&self) -> impl DoubleEndedIterator<Item = &Fetch> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Fetch(fetch) => Some(&**fetch),
            _ => None,
        })
    }

    /// URL of the last document asked for.
    pub fn last_url(&self) -> Option<&str> {
        self.asked().next_back().map(|fetch| &*fetch.target.url)
    }

    /// Whether such a fact was told.
    pub fn told(&self, what: impl Fn(&EventKind) -> bool) -> bool {
        self.events().any(|event| what(&event.kind))
    }

    /// Whether such an order was given to a leg.
    pub fn ordered(&self, leg: LegId, what: impl Fn(&LegCommand) -> bool) -> bool {
        self.orders(leg).any(what)
    }
}

/// Facts of a leg that calls `+15550002` from `+15550001`.
pub fn info(leg: LegId, direction: Direction) -> LegInfo {
    LegInfo {
        id: leg,
        session: CallId(1),
        parent: None,
        account: "main".into(),
        dialect: "test".into(),
        application: None,
        direction,
        from: Address::from("+15550001"),
        to: Address::from("+15550002"),
        caller_name: None,
        forwarded_from: None,
        status: Status::Queued,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        answered_at: None,
        answered_by: None,
        end: None,
        client_state: None,
        status_callback: None,
        fallback: None,
        sip: SipFacts::default(),
        handover: None,
    }
}

/// A program of these.
pub fn program(instructions: Vec<Instruction>) -> Program {
    Program { instructions, warnings: Vec::new() }
}

/// A document at this path.
pub fn target(path: &str) -> Target {
    Target { url: Arc::from(format!("http://app.test/{path}")), method: crate::Method::Post }
}

/// A file played once.
pub fn file(name: &str) -> Play {
    Play::once(AudioSource::Url(format!("http://app.test/{name}.wav")))
}

/// Up to four digits ended by `#`, 5 s of silence, one try, asking `gathered`.
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

/// As [`gather`], for words too; over after a second's pause.
pub fn spoken_gather() -> Gather {
    let speech = GatherSpeech {
        listening: Listening::default(),
        pause: Some(Duration::from_secs(1)),
        longest: Duration::from_secs(60),
        partials: None,
        keys: true,
    };
    Gather { speech: Some(Box::new(speech)), ..gather() }
}

/// A transcription of both directions, of this name.
pub fn transcription(name: &str) -> TranscriptionSpec {
    TranscriptionSpec {
        name: Some(name.to_owned()),
        track: Track::Both,
        listening: Listening::default(),
        labels: (None, None),
        engine: (String::new(), String::new()),
        at_end: false,
        alone: false,
        callback: None,
    }
}

/// A mono recording of both directions.
pub fn recording() -> RecordingSpec {
    RecordingSpec::whole(RecordingSource::Request, RecordingChannels::Mono)
}

/// A recording session of both directions, of this name.
pub fn siprec(name: &str) -> Box<SiprecSpec> {
    Box::new(SiprecSpec {
        connector: "recorder".to_owned(),
        name: Some(name.to_owned()),
        track: Track::Both,
        parameters: Vec::new(),
        callback: None,
    })
}

/// A stream of this name.
pub fn stream(name: &str) -> StreamSpec {
    StreamSpec {
        url: "ws://app.test/".to_owned(),
        name: Some(name.to_owned()),
        track: Track::Inbound,
        codec: None,
        playout: None,
        parameters: Vec::new(),
        callback: None,
        hearers: Hearers::Own,
        auth_token: None,
        opens: Opens::default(),
        form: Form::Messages,
    }
}

/// A conversation in English, with everything else off.
pub fn conversation() -> ConversationSpec {
    ConversationSpec::new(With::Application("ws://app.test/".to_owned()))
}

/// A dial of these numbers, 20 s each, all at once, answering first, without an action.
pub fn dial(numbers: &[&str]) -> Dial {
    Dial {
        targets: numbers.iter().map(|number| DialTarget::new(Address::from(*number))).collect(),
        queue: None,
        sequential: false,
        timeout: Duration::from_secs(20),
        time_limit: None,
        caller_id: None,
        caller_name: None,
        answer_on_bridge: false,
        ring_tone: None,
        hangup_on_star: false,
        record: None,
        action: None,
        after: AfterBridge::Continue,
        pass_failure: false,
        refer: None,
    }
}

/// A wait in this queue with the server's music, asking `queued` afterwards.
pub fn enqueue(queue: &str) -> Enqueue {
    Enqueue { queue: queue.into(), most: None, wait: Wait::Music, longest: None, action: Some(target("queued")) }
}

/// A dial of whoever is first in this queue, 20 s, asking `dialed`.
pub fn dequeue(queue: &str) -> Dial {
    let queue = Some(Dequeue { queue: queue.into(), whisper: None });
    Dial { queue, action: Some(target("dialed")), ..dial(&[]) }
}

/// Whether this is the order to play a country's ringback.
pub fn is_ringback(command: &LegCommand) -> bool {
    matches!(command, LegCommand::Play { play: Play { source: AudioSource::Tone(Tone::Ringback(_)), .. }, .. })
}
