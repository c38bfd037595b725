//! Conversations: the caller talks with an application that reads and writes text over a WebSocket, or with an agent of
//! this server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::id::ConversationId;
use crate::stream::StreamFailure;

/// Parameters of a conversation.
#[derive(Clone, PartialEq, Debug)]
pub struct ConversationSpec {
    /// What the caller talks with.
    pub with: ConversationTarget,
    /// Names and values that are sent to the application in the first message.
    pub parameters: Vec<(String, String)>,
    /// Text that is spoken first.
    pub greeting: Option<String>,
    /// Inputs of the caller that interrupt the greeting.
    pub greeting_cut_by: Inputs,
    /// BCP 47 tag of the language that is spoken to the caller.
    pub speaks: String,
    /// BCP 47 tag of the language that is recognised.
    pub hears: String,
    /// Voice and recogniser settings for languages that are not in `tongues`.
    pub manner: LanguageSettings,
    /// Voice and recogniser settings by language (BCP 47).
    pub languages: Vec<(String, LanguageSettings)>,
    /// Inputs of the caller that interrupt the application's speech.
    pub cut_by: Inputs,
    /// Inputs that are reported to the application although they could not interrupt it.
    pub reports: Inputs,
    /// How readily the caller's voice interrupts.
    pub sensitivity: Sensitivity,
    /// Whether the caller's voice only pauses the speech, until the recognised words decide whether it is cut off or
    /// continues. Words of agreement ("yes", "mhm") do not cut it off.
    pub words_decide: bool,
    /// Whether DTMF digits of the caller are handled.
    pub keys: bool,
    /// Whether new text of the application replaces the text that is being spoken.
    pub preemptible: bool,
    /// Report words to the application before they are final.
    pub partials: bool,
    /// Mask profanity.
    pub no_profanity: bool,
    /// Report to the application who is speaking.
    pub tells_speakers: bool,
    /// Report to the application which part of its text was played.
    pub tells_played: bool,
}

/// What a caller talks with.
#[derive(Clone, PartialEq, Debug)]
pub enum ConversationTarget {
    /// An application at this absolute URL, with the scheme `ws:` or `wss:`.
    Application(String),
    /// An agent of this server.
    Agent(Box<AgentSpec>),
}

/// Settings of an agent from a document, an application or the configuration. A `None` means the value from the
/// configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AgentSpec {
    /// Name of the agent in the configuration.
    pub name: Arc<str>,
    /// System prompt of the agent's model.
    pub prompt: Option<Arc<str>>,
    /// What the agent says first; an empty text means nothing.
    pub first_message: Option<Arc<str>>,
    /// BCP 47 tag of the agent's language.
    pub language: Option<Arc<str>>,
    /// The speech engine's name of the agent's voice.
    pub voice: Option<Arc<str>>,
    /// Earlier utterances, from which the model continues.
    pub history: Vec<Utterance>,
    /// JSON schema of an object with the values that the agent has to ask for. When it has them, the conversation ends
    /// and returns them as its text for what follows.
    pub collects: Option<Arc<str>>,
    /// An event that the agent speaks about first, instead of its first message.
    pub event: Option<Arc<str>>,
    /// What the agent says when it has all values.
    pub farewell: Option<Arc<str>>,
    /// Silence of the caller after which the agent asks whether the caller is still there.
    pub silence: Option<Duration>,
    /// Whether the caller can interrupt the agent.
    pub interruptible: Option<bool>,
    /// The application's id of the conversation.
    pub conversation: Option<u128>,
    /// Report every utterance to the application as soon as it was spoken.
    pub tells_lines: bool,
}

/// One utterance in a conversation with an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Utterance {
    /// `true` if the agent spoke, `false` if the caller did.
    pub by_agent: bool,
    /// The spoken text.
    pub text: Arc<str>,
}

impl ConversationSpec {
    /// Creates a conversation in English that any input of the caller interrupts at once, with everything else off.
    pub fn new(with: ConversationTarget) -> Self {
        Self {
            with,
            parameters: Vec::new(),
            greeting: None,
            greeting_cut_by: Inputs::ANY,
            speaks: "en-US".to_owned(),
            hears: "en-US".to_owned(),
            manner: LanguageSettings::default(),
            languages: Vec::new(),
            cut_by: Inputs::ANY,
            reports: Inputs::NONE,
            sensitivity: Sensitivity::High,
            words_decide: false,
            keys: false,
            preemptible: false,
            partials: false,
            no_profanity: false,
            tells_speakers: false,
            tells_played: false,
        }
    }

    /// Returns the voice and recogniser settings of a language.
    pub fn manner(&self, language: &str) -> &LanguageSettings {
        let own = self.languages.iter().find(|(code, _)| code.eq_ignore_ascii_case(language));
        own.map_or(&self.manner, |(_, manner)| manner)
    }
}

/// Voice and recogniser settings of a language.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LanguageSettings {
    /// The provider's name of the voice.
    pub voice: Option<String>,
    /// The recogniser's name of its model.
    pub model: Option<String>,
    /// Words and phrases that are likely to occur.
    pub hints: Vec<String>,
}

/// A set of kinds of input from a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Inputs {
    /// DTMF digits.
    pub keys: bool,
    /// Speech.
    pub speech: bool,
}

impl Inputs {
    /// No input.
    pub const NONE: Self = Self { keys: false, speech: false };
    /// Digits and speech.
    pub const ANY: Self = Self { keys: true, speech: true };
}

/// How readily a voice counts as an interruption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sensitivity {
    /// Only after a longer time of speech.
    Low,
    /// After a short time of speech.
    Medium,
    /// At once.
    #[default]
    High,
}

/// Facts about a conversation at a status change, reported by the shell.
#[derive(Clone, PartialEq, Debug)]
pub struct ConversationFacts {
    /// Id of the conversation.
    pub id: ConversationId,
    /// The new status.
    pub status: ConversationStatus,
    /// Time since the conversation was started.
    pub duration: Duration,
    /// Facts about the agent; `None` if the conversation is with an application.
    pub agent: Option<AgentFacts>,
}

/// State of a conversation with an agent so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentFacts {
    /// Settings of the agent.
    pub spec: Arc<AgentSpec>,
    /// Utterances, oldest first; only the last 200 are kept.
    pub said: Vec<Utterance>,
}

/// Status changes of a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConversationStatus {
    /// The application is connected.
    Started,
    /// An utterance in a conversation with an agent: spoken by the caller, or played to the caller.
    Said(Utterance),
    /// The application ended the conversation, optionally with a text for what follows.
    Ended(Option<String>),
    /// The leg ended, or does something else now.
    Completed,
    /// The application could not be reached, disconnected, or sent invalid messages.
    Failed {
        /// Whether the application had been connected.
        after_start: bool,
        /// The failure.
        why: StreamFailure,
    },
}

impl fmt::Display for ConversationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Said(line) => write!(f, "got another line of the {}", if line.by_agent { "agent" } else { "caller" }),
            Self::Ended(_) => f.write_str("ended by the application"),
            Self::Completed => f.write_str("ended by the call"),
            Self::Failed { why, .. } => write!(f, "failed: {}", why.detail),
        }
    }
}
