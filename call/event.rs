//! Events: facts about a call for webhooks, for the record of the call and for its log. Events come in the order in
//! which the facts happened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::conference::Participation;
use crate::conversation::ConversationFacts;
use crate::engine::EngineFailure;
use crate::fetch::FetchFailure;
use crate::header_fields::HeaderFields;
use crate::leg::LegInfo;
use crate::machine_detection::{DetectionResult, MachineDetection};
use crate::program::instruction::{AudioSource, Unsupported, Warning};
use crate::queue::QueueOutcome;
use crate::recognition::RecognisedText;
use crate::recording::Recording;
use crate::siprec::SiprecFacts;
use crate::stream::{StreamFacts, StreamSpec};
use crate::transcription::{Transcript, TranscriptionFacts};
use tandem_id::{LegId, OpId, QueueId};

/// One event of a call.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CallEvent {
    /// Time of the event.
    pub at: Timestamp,
    /// The leg that the event is about. The fields show the state of the leg right after the event.
    pub leg: Arc<LegInfo>,
    /// The kind of the event.
    pub kind: EventKind,
}

/// Kinds of events of a leg.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum EventKind {
    /// The leg was created: an inbound call arrived, or the INVITE of an outbound leg is sent.
    Initiated,
    /// The leg rings.
    Ringing {
        /// Whether early media flows (183 with SDP was received or sent).
        early_media: bool,
    },
    /// The leg was answered.
    Answered {
        /// The stream that starts with the answer, if there is one.
        stream: Option<Box<StreamSpec>>,
    },
    /// The leg ended. This event is always the last status event of a leg. `LegInfo::end` has the cause.
    Ended,
    /// The far end sent a DTMF digit.
    DtmfReceived {
        /// The digit: one of `0-9 A-D * #`.
        digit: char,
    },
    /// The server started to play audio to the leg.
    PlaybackStarted(Playback),
    /// The server stopped playing audio to the leg.
    PlaybackEnded(Playback, PlaybackEnd),
    /// A gather ended, with or without digits.
    GatherEnded {
        /// The collected digits, without the terminator.
        digits: String,
        /// The reason why the gather ended.
        end: GatherEnd,
        /// The digit that ended the gather, if a digit ended it.
        terminator: Option<char>,
        /// The id that the application uses for the gather.
        id: Option<String>,
        /// The recognised words, if the caller spoke and did not press digits.
        words: Option<Box<RecognisedText>>,
        /// The callback that receives this event.
        callback: Option<Arc<Callback>>,
    },
    /// A gather that still runs has recognised some speech.
    GatherPartial {
        /// All words that the gather has recognised so far.
        words: RecognisedText,
        /// Number of events of this kind that the gather has already emitted; 0 for the first event.
        sequence: u32,
        /// The callback that receives this event.
        callback: Callback,
    },
    /// An engine that works for the leg failed: a language model, a voice, a recogniser or a tool.
    EngineFailed(EngineFailure),
    /// The leg was bridged with another leg.
    Bridged {
        /// Facts about the other leg of the bridge.
        with: Arc<LegInfo>,
    },
    /// The bridge of the leg ended.
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
    /// The leg left a queue, or the queue did not admit the leg.
    Dequeued(QueueOutcome),
    /// A recording started, paused, resumed or ended. The status of the recording says which of these happened.
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
    /// Answering-machine detection has a result. `LegInfo::answered_by` also has the result.
    MachineDetected(MachineFacts),
    /// A dial ended.
    Dialed(DialResult),
    /// The status of a transfer by REFER changed. This server asked the far end for this transfer.
    Refer(ReferFacts),
    /// A document could not be fetched or parsed. The server then fetches the fallback document, or ends the leg.
    FetchFailed {
        /// The kind and the details of the failure.
        failure: FetchFailure,
    },
    /// No document could be fetched. The caller hears an apology, then the server hangs up.
    Apologised,
    /// An instruction requested something that this server does not implement.
    Unsupported(Box<Unsupported>),
    /// A document or a request was executed although it had a problem.
    Warned(Warning),
}

/// Result of answering-machine detection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MachineFacts {
    /// The detection result.
    pub result: DetectionResult,
    /// Time from the start of the detection to the result.
    pub after: Duration,
    /// Parameters of the detection.
    pub spec: Box<MachineDetection>,
}

/// A transfer by REFER (RFC 3515): the server asked the far end to call another party.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReferFacts {
    /// The SIP URI of the party that the far end is asked to call.
    pub to: String,
    /// Progress of the transfer.
    pub state: ReferState,
    /// Status code of the far end's response to the REFER.
    pub answer: Option<u16>,
    /// Status code of the far end's call to the other party. The far end reported this code in a NOTIFY.
    pub progress: Option<u16>,
}

/// Progress of a transfer by REFER.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReferState {
    /// The REFER was sent.
    Started,
    /// The far end reached the other party.
    Completed,
    /// The far end refused the REFER, or the far end's call to the other party failed.
    Failed,
}

/// One playback of audio to a leg.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Playback {
    /// Id of the playback operation.
    pub op: OpId,
    /// Source of the audio.
    pub source: AudioSource,
    /// Whether the audio is the prompt of a gather. Some dialects do not report prompts.
    pub prompt: bool,
    /// The callback that receives the start and the end of the playback.
    pub callback: Option<Arc<Callback>>,
}

/// The reason why a playback ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PlaybackEnd {
    /// The audio was played to its end.
    Completed,
    /// A request, a digit or a new document stopped the audio.
    Stopped,
    /// The leg ended.
    Hangup,
    /// The audio does not exist (HTTP status 404). Contains the reason in words.
    Missing(String),
    /// The audio could not be fetched, decoded or synthesised. Contains the reason in words.
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

/// The reason why a gather ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GatherEnd {
    /// The caller entered enough valid digits, or valid digits and the terminator.
    Valid,
    /// The digits of the caller were still invalid in the last attempt.
    Invalid,
    /// The caller entered no digits, or too few digits, within the time limit.
    Timeout,
    /// A request or a new document stopped the gather.
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
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DialResult {
    /// Status of the dial.
    pub status: DialStatus,
    /// The dialled leg that was bridged. If no leg was bridged, the leg that was dialled last.
    pub child: Option<LegId>,
    /// Duration of the bridge.
    pub duration: Duration,
    /// Whether the dialled leg was called by its SIP URI.
    pub called_uri: bool,
    /// Whether the dialled leg answered.
    pub answered: bool,
    /// Whether the legs were bridged at any time.
    pub bridged: bool,
    /// Whether a request moved the dialled leg away from the dial. If true, `duration` has no meaning.
    pub taken: bool,
    /// Status code of the final SIP response to the dialled leg.
    pub sip_status: Option<u16>,
    /// SIP Call-ID of the dialled leg.
    pub sip_call_id: Option<Arc<str>>,
    /// Headers of the final SIP response.
    pub sip_headers: HeaderFields,
    /// Values that the called application returned.
    pub returned: Vec<(String, String)>,
    /// The complete recording of the dial, if there is one.
    pub recording: Option<Recording>,
}

/// Status of a dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DialStatus {
    /// The legs were bridged and the bridge has ended.
    Completed,
    /// The leg took part in a conference. This status is only for a conference instruction.
    Answered,
    /// The called party was busy.
    Busy,
    /// The called party did not answer.
    NoAnswer,
    /// The called party could not be reached, or refused the call.
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
