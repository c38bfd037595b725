//! The complete set of instructions for a leg, independent of the document format in which they were written.
//!
//! All URLs here are absolute: a dialect resolves them against the URL of their document.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::command::Command;
use crate::conference::Participation;
use crate::conversation::ConversationSpec;
use crate::internal_call::InternalCall;
use crate::machine_detection::MachineDetection;
use crate::recognition::RecognitionSpec;
use crate::recording::RecordingSpec;
use crate::siprec::SiprecSpec;
use crate::stream::StreamSpec;
use crate::transcription::{TranscriptionOrder, TranscriptionSpec};
use crate::{Callback, Target};

/// The instructions of a leg, in order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// The instructions, first to last. When none is left, a leg that a document controls is hung up.
    pub instructions: Vec<Instruction>,
    /// Problems that the reader of the document found and skipped. They are reported once and do not stop the program.
    pub warnings: Vec<Warning>,
}

/// A part of a document that was ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// The provider's number of the problem.
    pub code: u32,
    /// What was ignored and where, in words.
    pub message: String,
}

/// One instruction of a program.
#[derive(Clone, PartialEq, Debug)]
pub enum Instruction {
    /// Speak or play audio to the leg.
    Play(Play),
    /// Send DTMF digits to the leg: `0-9 A-D * #`; `w` is a pause of 0.5 s, `W` a pause of 1 s.
    SendDigits(SendDigits),
    /// Wait for this long.
    Pause(Duration),
    /// Collect digits, or recognise speech.
    Gather(Gather),
    /// Record the leg until it is silent, sends a digit, or reaches the time limit.
    Record(Record),
    /// Call other parties and bridge the first one that answers with this leg.
    Dial(Dial),
    /// Take part in a conference until it ends.
    Conference(Conference),
    /// Wait in a queue until an agent takes the leg out of it, or the leg leaves it.
    Enqueue(Enqueue),
    /// Leave the queue in which the leg waits; what follows the wait continues. Does nothing outside a queue.
    Leave,
    /// Stream the leg's audio to a WebSocket application until the stream ends.
    Connect(Connect),
    /// Let the caller talk with a WebSocket application that reads and writes text, or with an agent, until one of them
    /// ends it.
    Converse(Converse),
    /// Ask the far end to call another party (REFER), and wait for the result.
    Refer(Refer),
    /// Start a stream beside the following instructions.
    StartStream(StreamSpec),
    /// Stop the streams with this name, or all if `None`.
    StopStream(Option<String>),
    /// Start a session with a recording server beside the following instructions.
    StartSiprec(Box<SiprecSpec>),
    /// Stop the sessions with recording servers with this name, or all if `None`.
    StopSiprec(Option<String>),
    /// Start a live transcription beside the following instructions.
    StartTranscription(Box<TranscriptionSpec>),
    /// Stop the transcriptions with this name, or all if `None`.
    StopTranscription(Option<String>),
    /// Start a recording beside the following instructions.
    StartRecording(RecordingSpec),
    /// Continue with another document.
    Redirect(Target),
    /// Refuse the call. An answered leg is hung up instead.
    Reject(RejectReason),
    /// Names and values to return to the caller at the end of this leg. Only for a leg of an internal call.
    HandBack(Vec<(String, String)>),
    /// End the leg.
    Hangup,
    /// Send the leg its own audio back until something else happens.
    Echo,
    /// An instruction that this server does not implement, although its application waits for the result.
    Unsupported(Box<Unsupported>),
    /// Execute at once a command that a request could send as well.
    Order(Box<Order>),
    /// Start answering-machine detection, and wait for the last result.
    DetectMachine(Box<DetectMachine>),
}

/// The final SIP response with which a call is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectReason {
    /// 603 Decline.
    Rejected,
    /// 486 Busy Here.
    Busy,
    /// Any other SIP final response, 400 to 699.
    Status(u16),
}

/// An instruction that this server does not implement, and the results that its application expects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsupported {
    /// The warning to report.
    pub warning: Warning,
    /// Target that is asked for the next document; without it the next instruction runs.
    pub action: Option<Target>,
    /// Names and values that `action` receives.
    pub outcome: Vec<(String, String)>,
    /// Callback that is notified besides.
    pub callback: Option<Callback>,
    /// Names and values that `callback` receives.
    pub told: Vec<(String, String)>,
}

/// A document's instruction to execute a command.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// The command. One that gives the leg another program replaces the following instructions.
    pub command: Command,
    /// Target that receives the result and is asked for the next document; without it the next instruction runs.
    pub action: Option<Target>,
}

/// Parameters of the instruction for answering-machine detection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetectMachine {
    /// Parameters of the detection.
    pub spec: MachineDetection,
    /// Target that receives the last result and is asked for the next document; without it the next instruction runs.
    pub action: Option<Target>,
}

/// Audio to play to one leg.
#[derive(Clone, PartialEq, Debug)]
pub struct Play {
    /// Source of the audio.
    pub source: AudioSource,
    /// Number of times it is played; `None` to repeat it until it is stopped.
    pub loops: Option<NonZeroU32>,
    /// Callback that receives the start and the end of the playback.
    pub callback: Option<Arc<Callback>>,
    /// Whether to play it as early media if the leg is not answered yet, instead of answering it.
    pub early: bool,
    /// Maximum time after which it is stopped.
    pub longest: Option<Duration>,
}

impl Play {
    /// Creates audio without a callback. `loops` is the number of times it is played; `None` to repeat it until it is
    /// stopped.
    pub fn new(source: AudioSource, loops: Option<NonZeroU32>) -> Self {
        Self { source, loops, callback: None, early: false, longest: None }
    }

    /// Creates audio without a callback that is played once.
    pub fn once(source: AudioSource) -> Self {
        Self::new(source, Some(NonZeroU32::MIN))
    }
}

/// Source of audio. The shell synthesises, fetches and decodes it; the call only waits for its end.
#[derive(Clone, PartialEq, Debug)]
pub enum AudioSource {
    /// Text to synthesise.
    Speech(Speech),
    /// A file at a URL (`http`, `https`; `file` only from the server's own configuration).
    Url(String),
    /// The bytes of an audio file.
    Inline(Bytes),
    /// Name of a file that the account has stored on this server.
    Stored(String),
    /// A generated tone.
    Tone(Tone),
    /// Silence of this length (a pause between prompts).
    Silence(Duration),
    /// The server's own music on hold.
    Music,
}

/// Tones that the server generates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tone {
    /// Ringback tone of a country (`us`, `uk`, ...; `us` for unknown ones), repeated until it is stopped.
    Ringback(String),
    /// The tone before a recording.
    Beep,
}

impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ringback(country) => write!(f, "ringback ({country})"),
            Self::Beep => f.write_str("beep"),
        }
    }
}

/// Text to synthesise as speech.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Speech {
    /// The text; SSML if `ssml` is set.
    pub text: String,
    /// Whether `text` is SSML markup.
    pub ssml: bool,
    /// The provider's name of the voice; any name is mapped to an available voice.
    pub voice: Option<String>,
    /// BCP 47 tag of the language.
    pub language: Option<String>,
}

/// DTMF digits to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendDigits {
    /// The digits `0-9 A-D * #` and the pauses `w` (0.5 s) and `W` (1 s).
    pub digits: String,
    /// Duration of each tone.
    pub tone: Duration,
}

/// Parameters of a gather.
#[derive(Clone, PartialEq, Debug)]
pub struct Gather {
    /// Prompts that are played in order before the timers start. A digit stops them if `barge_in` is set.
    pub prompts: Vec<Play>,
    /// Prompts for the second and later attempts; if empty, `prompts` are used.
    pub retry_prompts: Vec<Play>,
    /// Maximum number of attempts, at least 1.
    pub tries: u32,
    /// Minimum number of digits for a valid result.
    pub min_digits: u32,
    /// Number of digits at which the gather ends by itself.
    pub max_digits: Option<u32>,
    /// Digits that end the gather and are not part of the result.
    pub terminators: String,
    /// Digits that are valid; all sixteen if `None`.
    pub valid_digits: Option<String>,
    /// Maximum silence before the first digit, counted from the end of the prompts.
    pub first_digit_timeout: Duration,
    /// Maximum silence between digits.
    pub inter_digit_timeout: Duration,
    /// Maximum duration of one attempt, counted from the end of the prompts.
    pub total_timeout: Option<Duration>,
    /// Whether a digit, or speech, stops the prompts.
    pub barge_in: bool,
    /// Target that receives the digits; without it the next instruction runs.
    pub action: Option<Target>,
    /// Whether `action` is requested even without digits.
    pub action_on_empty: bool,
    /// The application's own id of the gather, returned with its events.
    pub id: Option<String>,
    /// Speech recognition, beside digits or instead of them. If both are allowed, the first input decides.
    pub speech: Option<Box<GatherSpeech>>,
    /// Callback that receives the end of the gather.
    pub callback: Option<Arc<Callback>>,
}

/// Parameters of a gather's speech recognition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatherSpeech {
    /// Parameters of the recogniser.
    pub listening: RecognitionSpec,
    /// Silence after speech that ends the gather. If `None`, the recogniser decides where an utterance ends.
    pub pause: Option<Duration>,
    /// Maximum duration, counted from the first sound of speech.
    pub longest: Duration,
    /// Callback that receives partial results.
    pub partials: Option<Callback>,
    /// Whether digits are collected too.
    pub keys: bool,
}

/// Parameters of a record instruction.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Parameters of the recording; its limits end the instruction.
    pub spec: RecordingSpec,
    /// Digits that end the recording.
    pub finish_on: String,
    /// Whether a tone is played first.
    pub beep: bool,
    /// Target that receives the result; without it the next instruction runs.
    pub action: Option<Target>,
    /// Transcription to make of the complete recording, independently of the program.
    pub transcribe: Option<TranscriptionOrder>,
}

/// Parameters of a dial.
#[derive(Clone, PartialEq, Debug)]
pub struct Dial {
    /// Targets to call; at least one, unless `queue` is set.
    pub targets: Vec<DialTarget>,
    /// Queue whose first leg is taken, at once or within `timeout`; there are no targets then.
    pub queue: Option<Dequeue>,
    /// Whether the targets are called one after the other instead of all at once.
    pub sequential: bool,
    /// Maximum time until a target answers.
    pub timeout: Duration,
    /// Maximum duration of the bridge.
    pub time_limit: Option<Duration>,
    /// Caller address that the targets see; the leg's own caller if `None`.
    pub caller_id: Option<Address>,
    /// Display name of that caller.
    pub caller_name: Option<String>,
    /// Whether this leg is answered only when a target answers.
    pub answer_on_bridge: bool,
    /// Country of the ringback tone that an answered leg hears while targets ring; silence if `None`.
    pub ring_tone: Option<String>,
    /// Whether the digit `*` from this leg ends the target's leg.
    pub hangup_on_star: bool,
    /// Recording of the two bridged legs.
    pub record: Option<DialRecord>,
    /// Target that receives the result; without it the next instruction runs.
    pub action: Option<Target>,
    /// What follows after the bridge if there is no action.
    pub after: AfterBridge,
    /// Whether an unanswered leg gets the target's own final response if no target answers (for a simple route from
    /// trunk to trunk).
    pub pass_failure: bool,
    /// Target that is asked for a document for the transferee when a side requests a transfer (REFER). Without it the
    /// server makes the transfer itself.
    pub refer: Option<Target>,
}

/// Parameters of a conference instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conference {
    /// The conference and the settings of the participation.
    pub participation: Participation,
    /// Maximum duration of the participation.
    pub time_limit: Option<Duration>,
    /// Whether the digit `*` ends the participation.
    pub hangup_on_star: bool,
    /// Target that receives the result; without it the next instruction runs.
    pub action: Option<Target>,
}

/// Parameters of a wait in a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enqueue {
    /// The account's name of the queue. The queue is created with the first leg that waits in it, and stays.
    pub queue: Arc<str>,
    /// Maximum number of waiting legs: with that many, the leg is not admitted. The queue has a limit of its own too.
    pub most: Option<u32>,
    /// Audio during the wait.
    pub wait: Wait,
    /// Maximum waiting time until an agent takes the leg.
    pub longest: Option<Duration>,
    /// Target that receives the result. Its document runs, unless the leg has ended or was redirected. Without it the
    /// next instruction runs.
    pub action: Option<Target>,
}

/// Audio for a leg that waits or is on hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Wait {
    /// The server's own music on hold.
    Music,
    /// Silence.
    #[default]
    Silence,
    /// A document, repeated; it is requested anew each time.
    Document(Target),
    /// A file at this URL, repeated.
    File(Arc<str>),
    /// A file that the account has stored under this name, repeated.
    Stored(Arc<str>),
}

impl Wait {
    /// Returns the audio file, if it is one.
    pub fn file(&self) -> Option<AudioSource> {
        match self {
            Self::File(url) => Some(AudioSource::Url(url.to_string())),
            Self::Stored(name) => Some(AudioSource::Stored(name.to_string())),
            Self::Music | Self::Silence | Self::Document(_) => None,
        }
    }
}

/// Parameters for taking the first leg out of a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dequeue {
    /// The account's name of the queue.
    pub queue: Arc<str>,
    /// Document that runs on the waiting leg before the bridge.
    pub whisper: Option<Target>,
}

/// Parameters of a transfer by the far end (REFER).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refer {
    /// SIP URI of the transfer target.
    pub to: String,
    /// Additional SIP headers of the REFER.
    pub headers: Vec<(String, String)>,
    /// Target that receives the result; without it the next instruction runs.
    pub action: Option<Target>,
}

/// What a leg does when the leg that it was bridged with has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterBridge {
    /// Continue with the program, or wait for commands.
    Continue,
    /// Be hung up too.
    Hangup,
}

/// Recording of a dial.
#[derive(Clone, PartialEq, Debug)]
pub struct DialRecord {
    /// Whether it starts with the first ringing instead of with the answer.
    pub from_ringing: bool,
    /// Parameters of the recording.
    pub spec: RecordingSpec,
}

/// One target of a dial.
#[derive(Clone, PartialEq, Debug)]
pub struct DialTarget {
    /// Address: a number (over a trunk), a SIP URI, a registered endpoint or an application.
    pub to: Address,
    /// Additional SIP headers of the INVITE.
    pub headers: Vec<(String, String)>,
    /// Credentials for a far end that challenges (digest authentication).
    pub credentials: Option<Credentials>,
    /// Names of the trunks to try, each after the failure of the one before. If empty, the number's prefix selects the
    /// trunk.
    pub via: Vec<Arc<str>>,
    /// DTMF digits that are sent after the answer and before the bridge.
    pub send_digits: Option<String>,
    /// Answering-machine detection that starts with the answer; nothing waits for its result.
    pub detect: Option<Box<MachineDetection>>,
    /// Document that runs on the target's leg before the bridge.
    pub whisper: Option<Target>,
    /// Audio for the target's leg alone before the bridge.
    pub greeting: Option<Play>,
    /// Callback that receives the status events of the target's leg.
    pub status: Option<Callback>,
    /// Opaque client state of the application for the target's leg.
    pub client_state: Option<String>,
    /// Values for the called application, if the target is an application of this server.
    pub handover: Option<Box<InternalCall>>,
}

impl DialTarget {
    /// Creates a target with default settings.
    pub fn new(to: Address) -> Self {
        Self {
            to,
            headers: Vec::new(),
            credentials: None,
            via: Vec::new(),
            send_digits: None,
            detect: None,
            whisper: None,
            greeting: None,
            status: None,
            client_state: None,
            handover: None,
        }
    }
}

/// User name and password for digest authentication (RFC 3261 §22).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password; `Debug` does not show it.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Parameters of a connect instruction: a stream in both directions that the leg waits for.
#[derive(Clone, PartialEq, Debug)]
pub struct Connect {
    /// Parameters of the stream.
    pub stream: StreamSpec,
    /// Target that is asked for a document afterwards; without it the next instruction runs.
    pub action: Option<Target>,
    /// Whether the leg stays, in silence, when the stream fails, until a request redirects it or it is hung up.
    pub outlives_failure: bool,
}

/// Parameters of a converse instruction.
#[derive(Clone, PartialEq, Debug)]
pub struct Converse {
    /// Parameters of the conversation.
    pub spec: Box<ConversationSpec>,
    /// Target that is asked for a document afterwards; without it the next instruction runs.
    pub action: Option<Target>,
}
