//! Events: facts about a call in the order in which they happened, for webhooks, the call's record and its log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::Callback;
use crate::conference::Participation;
use crate::conversation::{ConversationFacts, ConversationStatus};
use crate::fetch::FetchFailure;
use crate::id::{LegId, OpId, QueueId};
use crate::leg::LegInfo;
use crate::machine_detection::{DetectionResult, MachineDetection};
use crate::program::instruction::{AudioSource, Unsupported, Warning};
use crate::queue::QueueOutcome;
use crate::recognition::RecognisedText;
use crate::recording::{Recording, RecordingStatus};
use crate::siprec::{SiprecFacts, SiprecStatus};
use crate::stream::{StreamFacts, StreamSpec, StreamStatus};
use crate::transcription::{Transcript, TranscriptState, TranscriptionFacts, TranscriptionStatus};

/// One event of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct CallEvent {
    /// Time of the event.
    pub at: Timestamp,
    /// The leg that the event is about, with its facts right after the event.
    pub leg: Arc<LegInfo>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened on a leg.
#[derive(Clone, PartialEq, Debug)]
pub enum EventKind {
    /// The leg was created: an inbound call arrived, or the INVITE of an outbound leg is sent.
    Initiated,
    /// The leg rings.
    Ringing {
        /// Whether early media flows (183 with SDP).
        early_media: bool,
    },
    /// The leg was answered.
    Answered {
        /// The stream that starts with the answer.
        stream: Option<Box<StreamSpec>>,
    },
    /// The leg ended; always its last status event. `LegInfo::end` has the cause.
    Ended,
    /// The far end sent a DTMF digit.
    DtmfReceived {
        /// One of `0-9 A-D * #`.
        digit: char,
    },
    /// Audio to the leg started.
    PlaybackStarted(Playback),
    /// Audio to the leg ended.
    PlaybackEnded(Playback, PlaybackEnd),
    /// A gather ended, with or without digits.
    GatherEnded {
        /// The collected digits, without the terminator.
        digits: String,
        /// Why the gather ended.
        end: GatherEnd,
        /// The digit that ended the gather.
        terminator: Option<char>,
        /// The application's own id of the gather.
        id: Option<String>,
        /// The words that were spoken instead of digits.
        words: Option<Box<RecognisedText>>,
        /// The callback that receives this event.
        callback: Option<Arc<Callback>>,
    },
    /// A gather has recognised some speech, and has not ended.
    GatherPartial {
        /// All words of the gather so far.
        words: RecognisedText,
        /// Number of earlier events of this kind of the same gather, from 0.
        sequence: u32,
        /// The callback that receives this event.
        callback: Callback,
    },
    /// The speech recognition of a gather could not start, or failed.
    RecognitionFailed {
        /// Reason of the failure, in words.
        why: String,
    },
    /// The leg was bridged with another one.
    Bridged {
        /// Facts about the other leg.
        with: Arc<LegInfo>,
    },
    /// The bridge ended.
    Unbridged,
    /// The leg joined a conference.
    ConferenceJoined(Participation),
    /// The leg left a conference.
    ConferenceLeft(Participation),
    /// The leg entered a queue.
    Enqueued {
        /// Name of the queue.
        queue: Arc<str>,
        /// Id of the queue.
        id: QueueId,
    },
    /// The leg left a queue, or could not enter it.
    Dequeued(QueueOutcome),
    /// A recording started, paused, resumed or ended, as its status says.
    Recording(Recording),
    /// The status of a stream changed.
    Stream(StreamFacts),
    /// The status of a session with a recording server changed.
    Siprec(SiprecFacts),
    /// The status of a live transcription changed.
    Transcription(TranscriptionFacts),
    /// The transcription of a recording is complete, or failed.
    Transcribed(Box<Transcript>),
    /// The status of a conversation changed.
    Conversation(Box<ConversationFacts>),
    /// Answering-machine detection has a result; `LegInfo::answered_by` has it too.
    MachineDetected(MachineFacts),
    /// A dial ended.
    Dialed(DialResult),
    /// Progress of a transfer that the far end was asked for (REFER).
    Refer(ReferFacts),
    /// A document could not be fetched or parsed. The fallback follows, or the end of the leg.
    FetchFailed {
        /// What failed.
        failure: FetchFailure,
    },
    /// No document could be fetched; the caller hears an apology, then the server hangs up.
    Apologised,
    /// An instruction requested something that this server does not implement.
    Unsupported(Box<Unsupported>),
    /// A document or a request had a problem that did not stop it.
    Warned(Warning),
}

impl EventKind {
    /// Returns whether the event reports a failure that operators should see: something could not be fetched, parsed or
    /// stored.
    pub fn is_trouble(&self) -> bool {
        match self {
            Self::FetchFailed { .. } | Self::Warned(_) | Self::RecognitionFailed { .. } => true,
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

/// Result of answering-machine detection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineFacts {
    /// The result.
    pub verdict: DetectionResult,
    /// Time from the start of the detection to the result.
    pub after: Duration,
    /// Parameters of the detection.
    pub spec: Box<MachineDetection>,
}

/// A transfer that the far end was asked for (REFER, RFC 3515).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReferFacts {
    /// The SIP URI that the far end is asked to call.
    pub to: String,
    /// Progress of the transfer.
    pub state: ReferState,
    /// Status code of the far end's response to the REFER.
    pub answer: Option<u16>,
    /// Status code of the call that the far end made, as it reported with NOTIFY.
    pub progress: Option<u16>,
}

/// Progress of a transfer by REFER.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReferState {
    /// The REFER was sent.
    Started,
    /// The far end reached the transfer target.
    Completed,
    /// The far end refused, or its call failed.
    Failed,
}

/// One playback of audio to a leg.
#[derive(Clone, PartialEq, Debug)]
pub struct Playback {
    /// Id of the operation.
    pub op: OpId,
    /// Source of the audio.
    pub source: AudioSource,
    /// Whether this is the prompt of a gather; some dialects do not report prompts.
    pub prompt: bool,
    /// The callback that receives the start and the end of the playback.
    pub callback: Option<Arc<Callback>>,
}

/// Why a playback ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlaybackEnd {
    /// The audio was played to its end.
    Completed,
    /// Stopped by a request, a digit or a new document.
    Stopped,
    /// The leg ended.
    Hangup,
    /// The audio does not exist (404); the reason in words.
    Missing(String),
    /// The audio could not be fetched, decoded or synthesised; the reason in words.
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

/// Why a gather ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GatherEnd {
    /// Enough valid digits, or valid digits with the terminator.
    Valid,
    /// Only invalid digits, also in the last attempt.
    Invalid,
    /// No digits, or too few, within the time limit.
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

/// Result of a dial.
#[derive(Clone, PartialEq, Debug)]
pub struct DialResult {
    /// Status of the dial.
    pub status: DialStatus,
    /// The leg that was bridged, or the last one tried.
    pub child: Option<LegId>,
    /// Duration of the bridge.
    pub duration: Duration,
    /// Whether the legs were bridged.
    pub bridged: bool,
    /// Whether a request took the dialled leg away; `duration` has no meaning then.
    pub taken: bool,
    /// Status code of the final SIP response to the dialled leg.
    pub sip_status: Option<u16>,
    /// SIP Call-ID of the dialled leg.
    pub sip_call_id: Option<Arc<str>>,
    /// Headers of the final SIP response.
    pub sip_headers: Vec<(String, String)>,
    /// Values that the called application returned.
    pub returned: Vec<(String, String)>,
    /// The complete recording of the dial, if there is one.
    pub recording: Option<Recording>,
}

/// Status of a dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialStatus {
    /// The legs were bridged and the bridge has ended.
    Completed,
    /// The leg took part in a conference.
    Answered,
    /// The called party was busy.
    Busy,
    /// No answer.
    NoAnswer,
    /// The called party could not be reached, or refused.
    Failed,
    /// The dial was cancelled before an answer.
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
