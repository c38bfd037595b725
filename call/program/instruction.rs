//! The closed set of instructions a leg can be given, whoever's words they were written in.
//!
//! URLs are absolute here: a dialect resolves them against the document they came from.

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
use crate::handover::Handover;
use crate::hearing::Listening;
use crate::machine::MachineDetection;
use crate::recording::RecordingSpec;
use crate::siprec::SiprecSpec;
use crate::stream::StreamSpec;
use crate::transcription::{TranscriptionOrder, TranscriptionSpec};
use crate::{Callback, Target};

/// What a leg does next, in order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// Run first to last; when none is left a document-driven leg is hung up.
    pub instructions: Vec<Instruction>,
    /// What the reader of the document found odd but could live with; reported once, never fatal.
    pub warnings: Vec<Warning>,
}

/// Something in a document that was passed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// The provider's own number for it.
    pub code: u32,
    /// What was passed over and where, in words.
    pub message: String,
}

/// One instruction.
#[derive(Clone, PartialEq, Debug)]
pub enum Instruction {
    /// Speak or play audio to the leg.
    Play(Play),
    /// Send DTMF to the leg: `0-9 A-D * #`, `w` half a second, `W` a second of silence.
    SendDigits(SendDigits),
    /// Do nothing for this long.
    Pause(Duration),
    /// Collect digits, or words.
    Gather(Gather),
    /// Record the leg until it falls silent, presses a key or the time is up.
    Record(Record),
    /// Call someone and join them to this leg.
    Dial(Dial),
    /// Take part in a conference until that is over.
    Conference(Conference),
    /// Wait in a queue until somebody takes the leg out of it, or it leaves.
    Enqueue(Enqueue),
    /// Leave the queue that the leg waits in: what follows the wait goes on. Nothing, where it waits in none.
    Leave,
    /// Give the leg's audio to a WebSocket application until it lets go.
    Connect(Connect),
    /// Let the caller talk with a WebSocket application that reads and writes words, until either has had enough.
    Converse(Converse),
    /// Have the far end call somebody else (REFER), and wait for how that goes.
    Refer(Refer),
    /// Start a stream beside what follows.
    StartStream(StreamSpec),
    /// Stop a stream by name; every stream if none is named.
    StopStream(Option<String>),
    /// Start a session with a recording server beside what follows.
    StartSiprec(Box<SiprecSpec>),
    /// Stop such a session by name; every one if none is named.
    StopSiprec(Option<String>),
    /// Start a live transcription beside what follows.
    StartTranscription(Box<TranscriptionSpec>),
    /// Stop a transcription by name; every one if none is named.
    StopTranscription(Option<String>),
    /// Start recording beside what follows.
    StartRecording(RecordingSpec),
    /// Go on with another document.
    Redirect(Target),
    /// Refuse the call (only while unanswered; afterwards it hangs up).
    Reject(RejectReason),
    /// What whoever called this leg is told at its end, by name: only where it was called within this server.
    HandBack(Vec<(String, String)>),
    /// End the leg.
    Hangup,
    /// Send the leg its own audio back until something else happens.
    Echo,
    /// What this server does not do, though its application waits to hear how it came out.
    Unserved(Box<Unserved>),
    /// Do at once a command that a request could give the leg as well.
    Order(Box<Order>),
    /// Find out who is there, and wait for the last verdict.
    DetectMachine(Box<DetectMachine>),
}

/// Why a call is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectReason {
    /// 603 Decline.
    Rejected,
    /// 486 Busy Here.
    Busy,
    /// Any other SIP final response, 400 to 699.
    Status(u16),
}

/// Something that this server does not do, and who waits for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unserved {
    /// What is reported.
    pub warning: Warning,
    /// Asked what follows; without it the next instruction runs.
    pub action: Option<Target>,
    /// What that one is told, by name.
    pub outcome: Vec<(String, String)>,
    /// Told beside.
    pub callback: Option<Callback>,
    /// What that one is told, by name.
    pub told: Vec<(String, String)>,
}

/// A command that a request could give the leg, in a document.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// What. One that gives the leg something else to run replaces what would follow.
    pub command: Command,
    /// Told whether it was done, and asked what follows; without it the next instruction runs.
    pub action: Option<Target>,
}

/// Find out who is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetectMachine {
    /// By which figures.
    pub spec: MachineDetection,
    /// Told of the last verdict, and asked what follows; without it the next instruction runs.
    pub action: Option<Target>,
}

/// Audio to one leg.
#[derive(Clone, PartialEq, Debug)]
pub struct Play {
    /// What is heard.
    pub source: AudioSource,
    /// How often; `None` for ever.
    pub loops: Option<NonZeroU32>,
    /// Told of its beginning and its end.
    pub callback: Option<Arc<Callback>>,
    /// Of a leg that is not answered yet it is early media, and does not answer it.
    pub early: bool,
    /// Stopped after so long.
    pub longest: Option<Duration>,
}

impl Play {
    /// Audio that nobody is told of; `loops` is how often it is heard, `None` for ever.
    pub fn new(source: AudioSource, loops: Option<NonZeroU32>) -> Self {
        Self { source, loops, callback: None, early: false, longest: None }
    }

    /// The same, heard once.
    pub fn once(source: AudioSource) -> Self {
        Self::new(source, Some(NonZeroU32::MIN))
    }
}

/// Where audio comes from. The shell synthesises, fetches and decodes; the call only waits for the end of it.
#[derive(Clone, PartialEq, Debug)]
pub enum AudioSource {
    /// Text for a voice.
    Speech(Speech),
    /// A file by URL (`http`, `https`; `file` only from the server's own configuration).
    Url(String),
    /// A file's bytes.
    Inline(Bytes),
    /// A file that the account has stored on the server, by its name.
    Stored(String),
    /// A generated tone.
    Tone(Tone),
    /// Silence of this length (a pause between prompts).
    Silence(Duration),
    /// The music that the server itself has for those who wait.
    Music,
}

/// Generated tones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tone {
    /// Ringback of a country (`us`, `uk`, ...; unknown ones sound like `us`), for ever.
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

/// Text to be spoken.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Speech {
    /// The words; SSML if `ssml`.
    pub text: String,
    /// Whether `text` is SSML markup.
    pub ssml: bool,
    /// The voice asked for, in the provider's words; any name maps to some voice.
    pub voice: Option<String>,
    /// BCP 47 language.
    pub language: Option<String>,
}

/// DTMF to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendDigits {
    /// `0-9 A-D * # w W`.
    pub digits: String,
    /// Length of each tone.
    pub tone: Duration,
}

/// Collect digits, or words.
#[derive(Clone, PartialEq, Debug)]
pub struct Gather {
    /// Played in order before the clock starts; a digit cuts them short if `barge_in`.
    pub prompts: Vec<Play>,
    /// Played instead of `prompts` from the second try on, when not empty.
    pub retry_prompts: Vec<Play>,
    /// How often to ask before giving up, at least 1.
    pub tries: u32,
    /// Fewest digits that count as valid.
    pub min_digits: u32,
    /// Collection ends by itself at this many.
    pub max_digits: Option<u32>,
    /// Keys that end it and do not count.
    pub terminators: String,
    /// Keys that count; `None` for all sixteen.
    pub valid_digits: Option<String>,
    /// Silence allowed before the first digit, once the prompts have ended.
    pub first_digit_timeout: Duration,
    /// Silence allowed between digits.
    pub inter_digit_timeout: Duration,
    /// Longest for one try as a whole, once the prompts have ended.
    pub total_timeout: Option<Duration>,
    /// Whether a digit cuts the prompts short.
    pub barge_in: bool,
    /// Where the digits go; without it the next instruction runs.
    pub action: Option<Target>,
    /// Ask `action` even when nothing was pressed.
    pub action_on_empty: bool,
    /// The application's own name for it, echoed.
    pub id: Option<String>,
    /// Words count as well, or alone: whichever of keys and words comes first.
    pub speech: Option<Box<GatherSpeech>>,
    /// Told of its end.
    pub callback: Option<Arc<Callback>>,
}

/// What a gather listens for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatherSpeech {
    /// How.
    pub listening: Listening,
    /// Silence behind words that ends it; where the recogniser sees an utterance's end if `None`.
    pub pause: Option<Duration>,
    /// Longest from the first sound.
    pub longest: Duration,
    /// Told what is heard so far.
    pub partials: Option<Callback>,
    /// Keys count too.
    pub keys: bool,
}

/// Record one leg in the foreground.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// What is recorded and how; its limits end the instruction.
    pub spec: RecordingSpec,
    /// Keys that end it.
    pub finish_on: String,
    /// A tone first.
    pub beep: bool,
    /// Where the result goes; without it the next instruction runs.
    pub action: Option<Target>,
    /// Written down once it is whole, beside all else.
    pub transcribe: Option<TranscriptionOrder>,
}

/// Call others and join the first that answers.
#[derive(Clone, PartialEq, Debug)]
pub struct Dial {
    /// Who; at least one, or else `queue`.
    pub targets: Vec<DialTarget>,
    /// Whoever waits first in this queue, or comes within `timeout`; there are no targets then.
    pub queue: Option<Dequeue>,
    /// One after the other instead of all at once.
    pub sequential: bool,
    /// How long a target may ring.
    pub timeout: Duration,
    /// Longest time the two may be joined.
    pub time_limit: Option<Duration>,
    /// Who is said to call; the leg's own caller if `None`.
    pub caller_id: Option<Address>,
    /// The name shown with it.
    pub caller_name: Option<String>,
    /// Do not answer this leg before a target answers.
    pub answer_on_bridge: bool,
    /// Ringback for an answered leg while targets ring: a country, or `None` for silence.
    pub ring_tone: Option<String>,
    /// `*` from this leg ends the target's leg.
    pub hangup_on_star: bool,
    /// Record the two.
    pub record: Option<DialRecord>,
    /// Where the outcome goes; without it the next instruction runs.
    pub action: Option<Target>,
    /// What follows when the join is over and there is no action.
    pub after: AfterBridge,
    /// If nobody answers an unanswered leg gets the target's own refusal (a plain trunk-to-trunk route).
    pub pass_failure: bool,
    /// Asked for a document of the one to be transferred when either side asks for a transfer (REFER); without it the
    /// transfer is made.
    pub refer: Option<Target>,
}

/// Take part in a conference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conference {
    /// Which, and how.
    pub participation: Participation,
    /// For how long at most.
    pub time_limit: Option<Duration>,
    /// `*` leaves it.
    pub hangup_on_star: bool,
    /// Where the outcome goes; without it the next instruction runs.
    pub action: Option<Target>,
}

/// Wait in a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enqueue {
    /// The account's name for it. It comes to be with the first who waits in it, and stays.
    pub queue: Arc<str>,
    /// Not if so many wait there already; the queue has a limit of its own, too.
    pub most: Option<u32>,
    /// What is heard meanwhile.
    pub wait: Wait,
    /// For how long at most, until somebody takes it.
    pub longest: Option<Duration>,
    /// Told how it came out; what it answers runs, unless the leg is over or was sent elsewhere. Without it the next
    /// instruction runs.
    pub action: Option<Target>,
}

/// What somebody who waits hears.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Wait {
    /// The server's own music.
    Music,
    /// Nothing.
    #[default]
    Silence,
    /// A document, over and over; asked for each time.
    Document(Target),
    /// A file by its URL, over and over.
    File(Arc<str>),
    /// A file that the account has stored, by its name, over and over.
    Stored(Arc<str>),
}

impl Wait {
    /// The file that is heard, if it is one.
    pub fn file(&self) -> Option<AudioSource> {
        match self {
            Self::File(url) => Some(AudioSource::Url(url.to_string())),
            Self::Stored(name) => Some(AudioSource::Stored(name.to_string())),
            Self::Music | Self::Silence | Self::Document(_) => None,
        }
    }
}

/// Take somebody out of a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dequeue {
    /// The account's name for it.
    pub queue: Arc<str>,
    /// A document that runs on the leg of the one who waited, before the join.
    pub whisper: Option<Target>,
}

/// Have the far end call somebody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refer {
    /// A SIP URI.
    pub to: String,
    /// Extra SIP headers on the REFER.
    pub headers: Vec<(String, String)>,
    /// Where the outcome goes; without it the next instruction runs.
    pub action: Option<Target>,
}

/// What becomes of a leg when the one it was joined to is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterBridge {
    /// Goes on with its program, or waits for commands.
    Continue,
    /// Is hung up too.
    Hangup,
}

/// Recording of a dial.
#[derive(Clone, PartialEq, Debug)]
pub struct DialRecord {
    /// From the first ringing instead of from the answer.
    pub from_ringing: bool,
    /// What and how.
    pub spec: RecordingSpec,
}

/// One to be called.
#[derive(Clone, PartialEq, Debug)]
pub struct DialTarget {
    /// A number (over a trunk), a SIP URI, a registered endpoint or an application.
    pub to: Address,
    /// Extra SIP headers on the INVITE.
    pub headers: Vec<(String, String)>,
    /// For a peer that challenges.
    pub credentials: Option<Credentials>,
    /// The trunks it goes over, by name: the next when one fails. By its own prefix when empty.
    pub via: Vec<Arc<str>>,
    /// Sent once answered, before the join.
    pub send_digits: Option<String>,
    /// Who answers is found out; nothing waits for it.
    pub detect: Option<Box<MachineDetection>>,
    /// A document that runs on the target's leg before the join.
    pub whisper: Option<Target>,
    /// Audio for it alone before the join.
    pub greeting: Option<Play>,
    /// Progress of the target's leg.
    pub status: Option<Callback>,
    /// Opaque word of the application for the target's leg.
    pub client_state: Option<String>,
    /// What an application of this server is told, if it is one that is called.
    pub handover: Option<Box<Handover>>,
}

impl DialTarget {
    /// A target with nothing special about it.
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

/// A user and password for digest authentication (RFC 3261 §22).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password; never shown.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Give a leg's audio to a WebSocket application, both ways, until it closes.
#[derive(Clone, PartialEq, Debug)]
pub struct Connect {
    /// The stream.
    pub stream: StreamSpec,
    /// Asked afterwards; without it the next instruction runs.
    pub action: Option<Target>,
    /// Whether the leg stays, in silence, when the stream fails: until it is sent elsewhere by request or hung up.
    pub outlives_failure: bool,
}

/// Let a caller talk with an application.
#[derive(Clone, PartialEq, Debug)]
pub struct Converse {
    /// How.
    pub spec: Box<ConversationSpec>,
    /// Asked afterwards; without it the next instruction runs.
    pub action: Option<Target>,
}
