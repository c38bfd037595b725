//! Conversations: the caller talks with an agent of this server, or with an application that reads and writes text over
//! a WebSocket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stream::StreamFailure;
use tandem_id::ConversationId;

/// The first words of the failure of a conversation with an agent that does not exist.
pub const NO_AGENT: &str = "no agent in [[agents]]";
/// The first words of the failure of a conversation with an agent whose script is not valid.
pub const BAD_DEFINITION: &str = "the definition of the agent is not valid";

/// Parameters of a conversation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConversationSpec {
    /// The other party of the conversation: an application or an agent.
    pub with: ConversationTarget,
    /// The id of the conversation, if the application knows the id already. `None` means a new id.
    pub id: Option<ConversationId>,
    /// Names and values that are sent to the application in the first message.
    pub parameters: Vec<(String, String)>,
    /// Text that is spoken to the caller at the start.
    pub greeting: Option<String>,
    /// Inputs of the caller that interrupt the greeting.
    pub greeting_interrupted_by: Inputs,
    /// BCP 47 tag of the language in which the application or agent speaks.
    pub speech_language: String,
    /// BCP 47 tag of the language that the speech recognition expects from the caller.
    pub recognition_language: String,
    /// Voice and recogniser settings for languages that are not in `languages`.
    pub default_language_settings: LanguageSettings,
    /// Voice and recogniser settings by language (BCP 47).
    pub languages: Vec<(String, LanguageSettings)>,
    /// Inputs of the caller that interrupt the application's speech.
    pub interrupted_by: Inputs,
    /// Inputs of the caller that are reported to the application while the application speaks. This setting is only for
    /// inputs that do not interrupt the speech.
    pub reports: Inputs,
    /// How long the caller must speak to interrupt.
    pub sensitivity: Sensitivity,
    /// Whether the recognised words decide about an interruption. If true, the caller's voice first only pauses the
    /// application's speech. The recognised words then decide whether this speech ends or continues. After words of
    /// agreement ("yes", "mhm") it continues.
    pub words_decide_interruption: bool,
    /// Whether the conversation handles DTMF digits of the caller.
    pub digits: bool,
    /// Whether new text of the application replaces text that is still being spoken.
    pub preemptible: bool,
    /// Whether words are reported to the application before they are final.
    pub partials: bool,
    /// Whether profanity in the recognised words is masked.
    pub no_profanity: bool,
    /// Whether the application is notified when a speaker starts or stops speaking. The speaker is the caller or the
    /// application.
    pub reports_speakers: bool,
    /// Whether the application is notified which part of its text was played.
    pub reports_played: bool,
}

/// The other party of a conversation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ConversationTarget {
    /// An application at this absolute URL. The scheme is `ws:` or `wss:`.
    Application(String),
    /// An agent of this server.
    Agent(Box<AgentSpec>),
}

/// Settings of an agent from a document, an application or the configuration. For a field that is `None`, the value
/// from the configuration applies.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Name of the agent in the configuration.
    pub name: Arc<str>,
    /// System prompt of the agent's model.
    pub prompt: Option<Arc<str>>,
    /// The first words of the agent. With an empty text the agent does not speak first.
    pub first_message: Option<Arc<str>>,
    /// BCP 47 tag of the agent's language.
    pub language: Option<Arc<str>>,
    /// The name that the speech engine uses for the agent's voice.
    pub voice: Option<Arc<str>>,
    /// Earlier utterances, which the model knows when the conversation starts.
    pub history: Vec<Utterance>,
    /// JSON schema of an object. The agent asks the caller for the values of this object. When the agent has all
    /// values, the conversation ends, and the object becomes the result text of the conversation.
    pub collect_schema: Option<Arc<str>>,
    /// Text about an event, for the agent's model. If this field is set, the conversation starts with the model's
    /// answer to this text, and not with `first_message`.
    pub event: Option<Arc<str>>,
    /// The last words of the agent after it has all values of `collect_schema`.
    pub closing_message: Option<Arc<str>>,
    /// How long the caller must be silent before the agent asks whether the caller is still there.
    pub silence: Option<Duration>,
    /// Whether the caller can interrupt the agent.
    pub interruptible: Option<bool>,
    /// The id that the application uses for the conversation.
    pub conversation: Option<u128>,
    /// Whether every utterance is reported to the application as soon as it was spoken.
    pub reports_utterances: bool,
    /// Whether the values of `collect_schema` that are known so far are reported to the application.
    #[serde(default)]
    pub reports_partial_results: bool,
    /// Definition of the agent's behaviour in the provider's form. Only the dialect of the leg understands this text. `name`
    /// still gives the model, the phrases and the fallback.
    pub script: Option<Arc<str>>,
}

/// A request of an application to the running conversation of a leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConversationRequest {
    /// Add messages to the dialogue that the agent's model knows. An agent at a model for audio gets them in the same way.
    AddMessages {
        /// The messages, oldest first.
        messages: Vec<AgentMessage>,
        /// Whether the agent answers the messages at once. If false, they count from the next answer on.
        answer: bool,
    },
    /// The agent neither listens nor speaks until `Unhold`, or until this time is over. `None` means the longest time that the
    /// server allows.
    Hold(Option<Duration>),
    /// End the hold.
    Unhold,
    /// A request in the provider's form, which only the script of the agent understands. An agent without a script ignores it.
    ToScript(Arc<str>),
}

/// A message that an application adds to a conversation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgentMessage {
    /// The author of the message.
    pub role: MessageRole,
    /// The text of the message.
    pub text: Arc<str>,
}

/// The author of a message in the dialogue that a model knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MessageRole {
    /// The operator or the application: an instruction for the model.
    System,
    /// The caller.
    User,
    /// The agent.
    Assistant,
}

impl AgentSpec {
    /// Returns the agent that comes back after a program, with this dialogue. With a text about the program (`event`), the
    /// model speaks first. Without a text, the agent waits for the caller. `script` is the present state of the script.
    #[must_use]
    pub fn returning(&self, history: Vec<Utterance>, event: Option<String>, script: Option<Arc<str>>) -> Self {
        Self {
            history,
            first_message: Some("".into()),
            event: event.map(Into::into),
            script: script.or_else(|| self.script.clone()),
            ..self.clone()
        }
    }
}

/// One utterance in a conversation with an agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Utterance {
    /// `true` if the agent spoke, `false` if the caller did.
    pub by_agent: bool,
    /// The spoken text.
    pub text: Arc<str>,
}

impl ConversationSpec {
    /// Creates a conversation in English. Any input of the caller interrupts the speech at once. All other options are
    /// off.
    pub fn new(with: ConversationTarget) -> Self {
        Self {
            with,
            id: None,
            parameters: Vec::new(),
            greeting: None,
            greeting_interrupted_by: Inputs::ANY,
            speech_language: "en-US".to_owned(),
            recognition_language: "en-US".to_owned(),
            default_language_settings: LanguageSettings::default(),
            languages: Vec::new(),
            interrupted_by: Inputs::ANY,
            reports: Inputs::NONE,
            sensitivity: Sensitivity::High,
            words_decide_interruption: false,
            digits: false,
            preemptible: false,
            partials: false,
            no_profanity: false,
            reports_speakers: false,
            reports_played: false,
        }
    }

    /// Returns the voice and recogniser settings for a language.
    pub fn language_settings(&self, language: &str) -> &LanguageSettings {
        let own = self.languages.iter().find(|(code, _)| code.eq_ignore_ascii_case(language));
        own.map_or(&self.default_language_settings, |(_, settings)| settings)
    }
}

/// Voice and recogniser settings of a language.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LanguageSettings {
    /// The name that the provider uses for the voice.
    pub voice: Option<String>,
    /// The name that the recogniser uses for its model.
    pub model: Option<String>,
    /// Words and phrases that the caller is likely to say.
    pub hints: Vec<String>,
}

/// The kinds of input by which a caller can act: digits, speech, both or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Whether the set contains DTMF digits.
    pub digits: bool,
    /// Whether the set contains speech.
    pub speech: bool,
}

impl Inputs {
    /// The set without any input.
    pub const NONE: Self = Self { digits: false, speech: false };
    /// The set of digits and speech.
    pub const ANY: Self = Self { digits: true, speech: true };
}

/// How long the caller must speak until the speech counts as an interruption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Sensitivity {
    /// The caller interrupts only after a long time of speech.
    Low,
    /// The caller interrupts after a short time of speech.
    Medium,
    /// The caller interrupts with the first sound of speech.
    #[default]
    High,
}

/// Facts about a conversation when its status changes. The shell reports these facts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConversationFacts {
    /// Id of the conversation.
    pub id: ConversationId,
    /// The new status.
    pub status: ConversationStatus,
    /// Time since the start of the conversation.
    pub duration: Duration,
    /// Facts about the agent; `None` if the conversation is with an application.
    pub agent: Option<AgentFacts>,
}

/// Settings and utterances of a conversation with an agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgentFacts {
    /// Settings of the agent.
    pub spec: Arc<AgentSpec>,
    /// The last 200 utterances, oldest first.
    pub utterances: Vec<Utterance>,
}

/// Status changes of a conversation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConversationStatus {
    /// The application is connected, or the agent has started.
    Started,
    /// The caller spoke an utterance, or the agent's utterance was played to the caller.
    Utterance(Utterance),
    /// The agent knows these values of `collect_schema` so far. The text is a JSON object.
    PartialResult(String),
    /// The application ended the conversation. The optional text is passed to the document that follows.
    Ended(Option<String>),
    /// The leg ended, or the leg now runs another instruction.
    Completed,
    /// The application could not be reached, closed the connection, or sent invalid messages.
    Failed {
        /// Whether the application was connected before the failure.
        after_start: bool,
        /// The cause of the failure.
        why: StreamFailure,
    },
}

impl fmt::Display for ConversationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Utterance(line) => {
                write!(f, "got another line of the {}", if line.by_agent { "agent" } else { "caller" })
            }
            Self::PartialResult(_) => f.write_str("got some of the values to collect"),
            Self::Ended(_) => f.write_str("ended by the application"),
            Self::Completed => f.write_str("ended by the call"),
            Self::Failed { why, .. } => write!(f, "failed: {}", why.detail),
        }
    }
}
