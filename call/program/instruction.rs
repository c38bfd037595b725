//! The complete set of instructions for a leg. The set does not depend on the format of the document.
//!
//! All URLs here are absolute. A dialect resolves relative URLs against the URL of the document.

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
use crate::engine::EngineFailure;
use crate::header_fields::HeaderFields;
use crate::internal_call::InternalCall;
use crate::machine_detection::MachineDetection;
use crate::recognition::RecognitionSpec;
use crate::recording::RecordingSpec;
use crate::siprec::SiprecSpec;
use crate::snapshot::base64_octets;
use crate::stream::StreamSpec;
use crate::transcription::{TranscriptionOrder, TranscriptionSpec};
use crate::{Callback, Target};

/// The instructions of a leg, in the order in which they run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Program {
    /// The instructions in their order. After the last instruction, the leg is hung up if a document controls the leg.
    pub instructions: Vec<Instruction>,
    /// Parts of the document that the parser ignored because of a problem. Each problem is reported once and does not
    /// stop the program.
    pub warnings: Vec<Warning>,
}

/// A part of a document that was ignored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Warning {
    /// The provider's error number of the problem.
    pub code: u32,
    /// Text that says which part was ignored, and where this part is.
    pub message: String,
}

/// One instruction of a program.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Instruction {
    /// Speak or play audio to the leg.
    Play(Play),
    /// Send DTMF digits to the leg: `0-9 A-D * #`. `w` is a pause of 0.5 s, and `W` is a pause of 1 s.
    SendDigits(SendDigits),
    /// Wait for this time.
    Pause(Duration),
    /// Collect digits or recognise speech.
    Gather(Gather),
    /// Record the leg until silence, a digit or the time limit ends the recording.
    Record(Record),
    /// Call other parties, and bridge this leg with the party that answers first.
    Dial(Dial),
    /// Take part in a conference until the participation or the conference ends.
    Conference(Conference),
    /// Wait in a queue until an agent takes the leg, or until the leg leaves the queue.
    Enqueue(Enqueue),
    /// Leave the queue in which the leg waits. The leg then requests the action of the wait. If there is no action, the
    /// leg runs the instructions after the wait. Does nothing outside a queue.
    Leave,
    /// Stream the leg's audio to a WebSocket application. The leg waits until the stream ends.
    Connect(Connect),
    /// Let the caller talk with an agent, or with an application that reads and writes text over a WebSocket. The
    /// instruction ends when one party ends the conversation.
    Converse(Converse),
    /// Ask the far end to call another party (REFER), then wait for the result.
    Refer(Refer),
    /// Start a stream. The following instructions run while the stream runs.
    StartStream(StreamSpec),
    /// Stop the streams with this name, or all streams if `None`.
    StopStream(Option<String>),
    /// Start a session with a recording server. The following instructions run during the session.
    StartSiprec(Box<SiprecSpec>),
    /// Stop the recording-server sessions with this name, or all such sessions if `None`.
    StopSiprec(Option<String>),
    /// Start a live transcription. The following instructions run during the transcription.
    StartTranscription(Box<TranscriptionSpec>),
    /// Stop the transcriptions with this name, or all transcriptions if `None`.
    StopTranscription(Option<String>),
    /// Start a recording. The following instructions run during the recording.
    StartRecording(RecordingSpec),
    /// Continue with another document.
    Redirect(Target),
    /// Refuse the call. An answered leg is hung up instead.
    Reject(RejectReason),
    /// Return these names and values to the calling leg when this leg ends. This instruction is only for a leg of an
    /// internal call.
    ReturnValues(Vec<(String, String)>),
    /// End the leg.
    Hangup,
    /// Send the leg its own audio until another action stops the instruction.
    Echo,
    /// An instruction that this server does not implement. The application receives a result that is prepared in
    /// advance.
    Unsupported(Box<Unsupported>),
    /// A part of the document that this server does not implement. The text is the reason. If the call would now end
    /// without another word, the caller hears an apology. Otherwise the next instruction runs.
    Refused(String),
    /// End the leg because an engine of its agent has failed. The caller has heard an apology.
    GiveUp(Box<EngineFailure>),
    /// Execute a command at once, as if the command had come as a request.
    ExecuteCommand(Box<ExecuteCommand>),
    /// Start answering-machine detection, then wait for the last result.
    DetectMachine(Box<DetectMachine>),
}

/// The final SIP response that refuses a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RejectReason {
    /// Response 603 Decline.
    Rejected,
    /// Response 486 Busy Here.
    Busy,
    /// Any other final response, 400 to 699.
    Status(u16),
}

/// Data of an instruction that this server does not implement. The application expects a result of the instruction, so
/// this struct contains a prepared result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unsupported {
    /// The warning that is reported to the application.
    pub warning: Warning,
    /// Target of the request for the next document. If `None`, the next instruction runs.
    pub action: Option<Target>,
    /// Names and values that the request to `action` contains.
    pub outcome: Vec<(String, String)>,
    /// Callback that is notified in addition to `action`.
    pub callback: Option<Callback>,
    /// Names and values that the notification to `callback` contains.
    pub callback_parameters: Vec<(String, String)>,
}

/// An instruction of a document that executes a command.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExecuteCommand {
    /// The command to execute. If the command gives the leg another program, that program replaces the instructions
    /// after this instruction.
    pub command: Command,
    /// Target that receives the result and returns the next document. If `None`, the next instruction runs.
    pub action: Option<Target>,
}

/// Parameters of the instruction for answering-machine detection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DetectMachine {
    /// Parameters of the detection.
    pub spec: MachineDetection,
    /// Target that receives the last result and returns the next document. If `None`, the next instruction runs.
    pub action: Option<Target>,
}

/// Audio to play to one leg, with its options.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Play {
    /// Source of the audio.
    pub source: AudioSource,
    /// Number of times the audio is played. `None` repeats the audio until it is stopped. This number has no effect on
    /// a tone. A tone plays once or until it is stopped.
    pub loops: Option<NonZeroU32>,
    /// Callback that receives the start and the end of the playback.
    pub callback: Option<Arc<Callback>>,
    /// Whether an unanswered leg hears the audio as early media. Otherwise the leg is answered first.
    pub early: bool,
    /// Maximum playing time. After this time the audio is stopped.
    pub max_duration: Option<Duration>,
}

impl Play {
    /// Creates audio without a callback. `loops` is the number of times the audio is played; `None` repeats the audio
    /// until it is stopped.
    pub fn new(source: AudioSource, loops: Option<NonZeroU32>) -> Self {
        Self { source, loops, callback: None, early: false, max_duration: None }
    }

    /// Creates audio without a callback. The audio is played once.
    pub fn once(source: AudioSource) -> Self {
        Self::new(source, Some(NonZeroU32::MIN))
    }
}

/// Source of audio. The shell synthesises, fetches and decodes the audio; the call only waits for the end of the audio.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum AudioSource {
    /// Text that the server speaks.
    Speech(Speech),
    /// A file at a URL. The scheme is `http` or `https`; `file` is allowed only in the server's own configuration.
    Url(String),
    /// The same as `Url`, but the file is requested anew for each playback, even if a cached file could be used.
    UncachedUrl(String),
    /// The bytes of an audio file.
    Inline(#[serde(with = "base64_octets")] Bytes),
    /// The name of a file that the account has stored on this server.
    Stored(String),
    /// A tone that the server generates.
    Tone(Tone),
    /// Silence of this length, used as a pause between prompts.
    Silence(Duration),
    /// The server's own music on hold.
    Music,
}

/// Tones that the server generates. `control/legs` converts them to the type `Tone` of the media engine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Tone {
    /// Ringback tone of a country (`us`, `uk`, ...), repeated until it is stopped. An unknown country gets the tone of
    /// `us`.
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
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Speech {
    /// The text to speak. If `ssml` is set, the text is SSML.
    pub text: String,
    /// Whether `text` is SSML markup.
    pub ssml: bool,
    /// The name that the provider uses for the voice. The server maps any name to an available voice.
    pub voice: Option<String>,
    /// BCP 47 tag of the language.
    pub language: Option<String>,
}

/// DTMF digits to send.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SendDigits {
    /// The digits `0-9 A-D * #` and the pauses `w` (0.5 s) and `W` (1 s).
    pub digits: String,
    /// Duration of the tone of each digit.
    pub tone: Duration,
}

impl SendDigits {
    /// Creates the digits with the usual duration of a tone, 100 ms.
    pub fn new(digits: impl Into<String>) -> Self {
        Self { digits: digits.into(), tone: Duration::from_millis(100) }
    }
}

/// Parameters of a gather.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gather {
    /// Prompts, played in order before the timers start. If `barge_in` is set, a digit stops the prompts.
    pub prompts: Vec<Play>,
    /// Prompts for the second attempt and later attempts. If the list is empty, `prompts` are played again.
    pub retry_prompts: Vec<Play>,
    /// Maximum number of attempts, at least 1.
    pub tries: u32,
    /// Minimum number of digits for a valid result.
    pub min_digits: u32,
    /// Number of digits at which the gather ends without a terminator.
    pub max_digits: Option<u32>,
    /// Digits that end the gather and are not part of the result.
    pub terminators: String,
    /// Digits that are valid; `None` if all sixteen DTMF digits are valid.
    pub valid_digits: Option<String>,
    /// Maximum silence before the first digit. The time starts at the end of the prompts.
    pub first_digit_timeout: Duration,
    /// Whether `first_digit_timeout` starts only with [`Command::StartGatherTimers`](crate::command::Command).
    pub holds_timers: bool,
    /// Maximum silence between two digits.
    pub inter_digit_timeout: Duration,
    /// Maximum duration of one attempt. The time starts at the end of the prompts.
    pub total_timeout: Option<Duration>,
    /// Whether a digit or speech stops the prompts.
    pub barge_in: bool,
    /// Target that receives the digits. If `None`, the next instruction runs.
    pub action: Option<Target>,
    /// Whether `action` is requested even if no digits came.
    pub action_on_empty: bool,
    /// The id that the application uses for the gather. The events of the gather contain this id.
    pub id: Option<String>,
    /// Speech recognition, in addition to digits or instead of digits. If the gather accepts both, the first input of
    /// the caller decides.
    pub speech: Option<Box<GatherSpeech>>,
    /// Callback that receives the end of the gather.
    pub callback: Option<Arc<Callback>>,
}

/// Parameters of a gather's speech recognition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GatherSpeech {
    /// Parameters of the recogniser.
    pub recognition: RecognitionSpec,
    /// Length of the silence after speech at which the gather ends. If `None`, the recogniser decides where an
    /// utterance ends.
    pub pause: Option<Duration>,
    /// Maximum duration of the speech. The time starts at the first sound of speech.
    pub max_duration: Duration,
    /// Callback that receives partial results.
    pub partials: Option<Callback>,
    /// Whether the gather also collects digits.
    pub digits: bool,
}

/// Parameters of a record instruction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Parameters of the recording. The limits of the recording end the instruction.
    pub spec: RecordingSpec,
    /// Digits that end the recording.
    pub finish_on: String,
    /// Whether a tone is played before the recording.
    pub beep: bool,
    /// Target that receives the result. If `None`, the next instruction runs.
    pub action: Option<Target>,
    /// Transcription of the complete recording. The transcription runs independently of the program.
    pub transcribe: Option<TranscriptionOrder>,
}

/// Parameters of a dial.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Dial {
    /// Targets to call. The list has at least one target, unless `queue` is set.
    pub targets: Vec<DialTarget>,
    /// Queue from which the dial takes the first leg. The dial waits at most `timeout` for a leg. If `queue` is set,
    /// `targets` is empty.
    pub queue: Option<Dequeue>,
    /// Whether the targets are called one after the other. Otherwise all targets are called at the same time.
    pub sequential: bool,
    /// Maximum time until a target answers.
    pub timeout: Duration,
    /// Maximum duration of the bridge.
    pub time_limit: Option<Duration>,
    /// Caller address that the targets see. If `None`, the targets see the address of this leg's caller.
    pub caller_id: Option<Address>,
    /// Display name of the caller that the targets see.
    pub caller_name: Option<String>,
    /// Whether this leg is answered only when a target answers. Otherwise this leg is answered first.
    pub answer_on_bridge: bool,
    /// Country of the ringback tone that an answered leg hears while targets ring. `None` gives silence.
    pub ring_tone: Option<String>,
    /// Whether the digit `*` from this leg hangs up the dialled leg.
    pub hangup_on_star: bool,
    /// Recording of the two bridged legs.
    pub record: Option<DialRecord>,
    /// Target that receives the result. If `None`, the next instruction runs.
    pub action: Option<Target>,
    /// The action of this leg after the bridge, if `action` is `None`.
    pub after: AfterBridge,
    /// Whether an unanswered leg gets the target's final response if no target answers. A simple route from trunk to
    /// trunk sets this field.
    pub pass_failure: bool,
    /// The URL of a document. The document is requested when one of the far ends asks for a transfer (REFER), and runs
    /// on the transferee. If `None`, the server makes the transfer itself.
    pub refer: Option<Target>,
}

impl Dial {
    /// Returns a dial that calls these targets at the same time, for at most `timeout`. The leg is answered first, hears nothing
    /// while the targets ring, and continues after the bridge.
    pub fn new(targets: Vec<DialTarget>, timeout: Duration) -> Self {
        Self {
            targets,
            queue: None,
            sequential: false,
            timeout,
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
}

/// Parameters of a conference instruction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Conference {
    /// The conference and the settings of the participation.
    pub participation: Participation,
    /// Maximum duration of the participation.
    pub time_limit: Option<Duration>,
    /// Whether the digit `*` ends the participation.
    pub hangup_on_star: bool,
    /// Target that receives the result. If `None`, the next instruction runs.
    pub action: Option<Target>,
}

/// Parameters of a wait in a queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enqueue {
    /// The name that the account uses for the queue. The first leg that waits in the queue creates the queue. An empty
    /// queue remains until a request deletes it.
    pub queue: Arc<str>,
    /// Maximum number of legs in the queue for this request. If this number already waits, the leg is not admitted. The
    /// queue also has a limit of its own.
    pub max_size: Option<u32>,
    /// Audio during the wait.
    pub wait: Wait,
    /// Maximum waiting time until an agent takes the leg.
    pub max_duration: Option<Duration>,
    /// Target that receives the result and returns the next document. If `None`, the next instruction runs. If the leg
    /// has ended or was redirected, the returned document does not run.
    pub action: Option<Target>,
}

/// Audio for a leg that waits or is on hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Wait {
    /// The server's own music on hold.
    Music,
    /// No audio.
    #[default]
    Silence,
    /// A document that runs again and again. The server requests the document anew for each repetition.
    Document(Target),
    /// An audio file at this URL. The file is repeated.
    File(Arc<str>),
    /// An audio file that the account has stored under this name. The file is repeated.
    Stored(Arc<str>),
}

impl Wait {
    /// Returns the audio source, if the wait audio is a file.
    pub fn file(&self) -> Option<AudioSource> {
        match self {
            Self::File(url) => Some(AudioSource::Url(url.to_string())),
            Self::Stored(name) => Some(AudioSource::Stored(name.to_string())),
            Self::Music | Self::Silence | Self::Document(_) => None,
        }
    }
}

/// Parameters for a dial that takes the first leg of a queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dequeue {
    /// The name that the account uses for the queue.
    pub queue: Arc<str>,
    /// Document that runs on the waiting leg before the bridge.
    pub whisper: Option<Target>,
}

/// Parameters of a transfer by the far end (REFER).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refer {
    /// SIP URI of the transfer target.
    pub to: String,
    /// Additional SIP headers of the REFER.
    pub headers: HeaderFields,
    /// Target that receives the result. If `None`, the next instruction runs.
    pub action: Option<Target>,
}

/// What a leg does when the other leg of its bridge has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AfterBridge {
    /// The leg continues with its program, or waits for commands.
    Continue,
    /// The leg is hung up too.
    Hangup,
}

/// Recording of a dial.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DialRecord {
    /// Whether the recording starts when the first target rings. Otherwise the recording starts with the answer.
    pub from_ringing: bool,
    /// Parameters of the recording.
    pub spec: RecordingSpec,
}

/// One target of a dial.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DialTarget {
    /// Address of the target: a number (called over a trunk), a SIP URI, a registered endpoint or an application.
    pub to: Address,
    /// Additional SIP headers of the INVITE.
    pub headers: HeaderFields,
    /// Credentials for digest authentication, if the far end sends a challenge.
    pub credentials: Option<Credentials>,
    /// Names of the trunks, in the order in which they are tried, or the id of one trunk ([`is_trunk_id`]). If the call over one trunk fails, the next trunk is
    /// tried. If the list is empty, the prefix of the number selects the trunk.
    pub via: Vec<Arc<str>>,
    /// DTMF digits that are sent after the answer and before the bridge.
    pub send_digits: Option<String>,
    /// Answering-machine detection that starts with the answer. The dial does not wait for the result.
    pub detect: Option<Box<MachineDetection>>,
    /// Document that runs on the target's leg before the bridge.
    pub whisper: Option<Target>,
    /// Audio that only the target's leg hears before the bridge.
    pub greeting: Option<Play>,
    /// Callback that receives the status events of the target's leg.
    pub status: Option<Callback>,
    /// The client state of the target's leg. The application chooses this text, and the server does not interpret it.
    pub client_state: Option<String>,
    /// Values for the called application, if the target is an application of this server.
    pub handover: Option<Box<InternalCall>>,
}

/// Whether a text has the form of an id with which an application selects a trunk: `BY` and 32 hexadecimal digits.
pub fn is_trunk_id(text: &str) -> bool {
    text.strip_prefix("BY").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|octet| octet.is_ascii_hexdigit()))
}

impl DialTarget {
    /// Creates a target with default settings.
    pub fn new(to: Address) -> Self {
        Self {
            to,
            headers: HeaderFields::new(),
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
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password. `Debug` does not show this field.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Parameters of a connect instruction. The leg has a stream in both directions and waits until the stream ends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Connect {
    /// Parameters of the stream.
    pub stream: StreamSpec,
    /// The URL of the document that is requested after the stream has ended. If `None`, the next instruction runs.
    pub action: Option<Target>,
    /// Whether the leg continues in silence if the stream fails. The leg then waits until a request redirects the leg
    /// or until the leg ends.
    pub outlives_failure: bool,
}

/// Parameters of a converse instruction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Converse {
    /// Parameters of the conversation.
    pub spec: Box<ConversationSpec>,
    /// The URL of the document that is requested after the conversation has ended. If `None`, the next instruction
    /// runs.
    pub action: Option<Target>,
}
