//! Facts about a call, in the order they happened: for webhooks, the call's record and its log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::Callback;
use crate::conference::Participation;
use crate::conversation::{ConversationFacts, ConversationStatus};
use crate::fetch::FetchFailure;
use crate::hearing::Words;
use crate::id::{LegId, OpId, QueueId};
use crate::leg::LegInfo;
use crate::machine::{MachineDetection, Verdict};
use crate::program::instruction::{AudioSource, Unserved, Warning};
use crate::queue::QueueOutcome;
use crate::recording::{Recording, RecordingStatus};
use crate::siprec::{SiprecFacts, SiprecStatus};
use crate::stream::{StreamFacts, StreamSpec, StreamStatus};
use crate::transcription::{Transcript, TranscriptState, TranscriptionFacts, TranscriptionStatus};

/// One fact.
#[derive(Clone, PartialEq, Debug)]
pub struct CallEvent {
    /// When.
    pub at: Timestamp,
    /// The leg it is about, as it was right after.
    pub leg: Arc<LegInfo>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum EventKind {
    /// The leg came to be: an inbound one is known and waits, an outbound one's INVITE leaves.
    Initiated,
    /// It rings; `early_media` if audio already flows.
    Ringing {
        /// 183 with SDP.
        early_media: bool,
    },
    /// It was answered.
    Answered {
        /// The stream that begins with the answer.
        stream: Option<Box<StreamSpec>>,
    },
    /// It is over; always the leg's last status fact. `LegInfo::end` says how.
    Ended,
    /// A key was pressed.
    DtmfReceived {
        /// `0-9 A-D * #`.
        digit: char,
    },
    /// Audio to the leg began.
    PlaybackStarted(Playback),
    /// It is over.
    PlaybackEnded(Playback, PlaybackEnd),
    /// Digits were collected, or not.
    GatherEnded {
        /// What was pressed, without the terminator.
        digits: String,
        /// Why it ended.
        end: GatherEnd,
        /// The key that ended it.
        terminator: Option<char>,
        /// The application's own name for it.
        id: Option<String>,
        /// The words that were said instead of digits.
        words: Option<Box<Words>>,
        /// The callback that is told of the end.
        callback: Option<Arc<Callback>>,
    },
    /// A gather hears this so far.
    GatherHeard {
        /// All of it.
        words: Words,
        /// How often that gather was heard before, from 0.
        sequence: u32,
        /// The callback that is told.
        callback: Callback,
    },
    /// A gather cannot hear, or no longer.
    ListeningFailed {
        /// Why.
        why: String,
    },
    /// Joined to another leg.
    Bridged {
        /// The other.
        with: Arc<LegInfo>,
    },
    /// No longer joined.
    Unbridged,
    /// Takes part in a conference.
    ConferenceJoined(Participation),
    /// No longer.
    ConferenceLeft(Participation),
    /// Waits in a queue.
    Enqueued {
        /// Its name.
        queue: Arc<str>,
        /// Its id.
        id: QueueId,
    },
    /// No longer, or it never could.
    Dequeued(QueueOutcome),
    /// A recording began, was held, ended: its status says which.
    Recording(Recording),
    /// A stream's life.
    Stream(StreamFacts),
    /// A recording session's life.
    Siprec(SiprecFacts),
    /// A live transcription's life.
    Transcription(TranscriptionFacts),
    /// The transcription of a recording is done, or cannot be made.
    Transcribed(Box<Transcript>),
    /// A conversation's life.
    Conversation(Box<ConversationFacts>),
    /// Something was found out about who answered; `LegInfo::answered_by` says it too.
    MachineDetected(MachineFacts),
    /// A dial is over.
    Dialed(DialResult),
    /// The far end was asked to call somebody else: how far that is.
    Refer(ReferFacts),
    /// A document could not be had or read; what follows is the fallback, or the end.
    FetchFailed {
        /// What went wrong.
        failure: FetchFailure,
    },
    /// There is no document, and the caller is told so before the server hangs up.
    Apologised,
    /// Something was asked for that this server does not do.
    Unserved(Box<Unserved>),
    /// A document had something odd.
    Warned(Warning),
}

impl EventKind {
    /// Whether an operator is to hear of it: something could not be had, read or kept.
    pub fn is_trouble(&self) -> bool {
        match self {
            Self::FetchFailed { .. } | Self::Warned(_) | Self::ListeningFailed { .. } => true,
            Self::PlaybackEnded(_, end) => matches!(end, PlaybackEnd::Missing(_) | PlaybackEnd::Failed(_)),
            Self::Recording(recording) => matches!(recording.status, RecordingStatus::Failed(_)),
            Self::Siprec(facts) => matches!(facts.status, SiprecStatus::Failed(_) | SiprecStatus::Paused),
            Self::Stream(stream) => matches!(stream.status, StreamStatus::Failed(_)),
            Self::Transcription(facts) => matches!(facts.status, TranscriptionStatus::Failed(_)),
            Self::Transcribed(transcript) => matches!(transcript.state, TranscriptState::Failed(_)),
            Self::Conversation(facts) => matches!(facts.status, ConversationStatus::Failed { .. }),
            _ => false,
        }
    }
}

/// What was found out about who answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineFacts {
    /// Who.
    pub verdict: Verdict,
    /// How long after the answer.
    pub after: Duration,
    /// What was asked for.
    pub spec: Box<MachineDetection>,
}

/// A transfer that the far end was asked for (REFER).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReferFacts {
    /// The SIP URI that it is to call.
    pub to: String,
    /// How far it is.
    pub state: ReferState,
    /// Status of its answer to the REFER.
    pub answer: Option<u16>,
    /// Status of the call that it made, as it told (NOTIFY).
    pub progress: Option<u16>,
}

/// How far such a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReferState {
    /// Asked for.
    Started,
    /// The far end talks to the other one.
    Completed,
    /// It would not, or could not.
    Failed,
}

/// A piece of audio to a leg.
#[derive(Clone, PartialEq, Debug)]
pub struct Playback {
    /// Its operation.
    pub op: OpId,
    /// What is heard.
    pub source: AudioSource,
    /// Whether it is the prompt of a gather (some applications are not told of those).
    pub prompt: bool,
    /// The callback that is told of its beginning and its end.
    pub callback: Option<Arc<Callback>>,
}

/// Why audio to a leg ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlaybackEnd {
    /// Played to its end.
    Completed,
    /// Stopped by a request, a key or a new document.
    Stopped,
    /// The leg ended.
    Hangup,
    /// There is no such audio (404).
    Missing(String),
    /// The audio could not be had (unreachable, unreadable, no voice).
    Failed(String),
}

impl fmt::Display for PlaybackEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Stopped => f.write_str("stopped"),
            Self::Hangup => f.write_str("ended with the leg"),
            Self::Missing(why) | Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Why collecting digits ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GatherEnd {
    /// Enough valid digits, or the terminator after them.
    Valid,
    /// Digits, but not valid ones, after the last try.
    Invalid,
    /// Nothing, or too little, in time.
    Timeout,
    /// Stopped by a request or a new document.
    Stopped,
    /// The leg ended.
    Hangup,
}

impl fmt::Display for GatherEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "complete",
            Self::Invalid => "invalid digits",
            Self::Timeout => "timed out",
            Self::Stopped => "stopped",
            Self::Hangup => "the leg ended",
        })
    }
}

/// How a dial came out.
#[derive(Clone, PartialEq, Debug)]
pub struct DialResult {
    /// How it came out.
    pub status: DialStatus,
    /// The leg that was joined, or the last one tried.
    pub child: Option<LegId>,
    /// How long the two were joined.
    pub duration: Duration,
    /// Whether they were joined at all.
    pub bridged: bool,
    /// Whether a request took it away; how long that one was joined says nothing then.
    pub taken: bool,
    /// The final SIP response of the child.
    pub sip_status: Option<u16>,
    /// The child's SIP Call-ID.
    pub sip_call_id: Option<Arc<str>>,
    /// Headers of its answer.
    pub sip_headers: Vec<(String, String)>,
    /// What the application that was called handed back.
    pub returned: Vec<(String, String)>,
    /// The recording of it, whole, if there is one.
    pub recording: Option<Recording>,
}

/// How a dial came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialStatus {
    /// Joined and over.
    Completed,
    /// It was a conference, which was taken part in.
    Answered,
    /// Busy.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// Could not be reached, or refused.
    Failed,
    /// Given up.
    Canceled,
}

impl fmt::Display for DialStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "completed",
            Self::Answered => "answered",
            Self::Busy => "busy",
            Self::NoAnswer => "no answer",
            Self::Failed => "failed",
            Self::Canceled => "given up",
        })
    }
}
