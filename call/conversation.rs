//! A conversation: the caller talks; an application reads and writes words over a WebSocket, or an agent of this server answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::id::ConversationId;
use crate::stream::StreamFailure;

/// A conversation as asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct ConversationSpec {
    /// Who the caller talks with.
    pub with: With,
    /// Passed to the application in the first message.
    pub parameters: Vec<(String, String)>,
    /// Said first.
    pub greeting: Option<String>,
    /// What cuts that short.
    pub greeting_cut_by: Inputs,
    /// BCP 47 language that is spoken.
    pub speaks: String,
    /// BCP 47 language that is understood.
    pub hears: String,
    /// How those that are not in `tongues` are spoken and understood.
    pub manner: Manner,
    /// How certain languages are.
    pub tongues: Vec<(String, Manner)>,
    /// What cuts short what the application says.
    pub cut_by: Inputs,
    /// What the application is told of, though it could not cut it short.
    pub reports: Inputs,
    /// How readily the caller's voice does.
    pub sensitivity: Sensitivity,
    /// The caller's voice only stops what is said; words decide whether it is cut short or goes on. Words of agreement ("yes", "mhm")
    /// do not cut it short.
    pub words_decide: bool,
    /// Whether keys are heard at all.
    pub keys: bool,
    /// Whether what the application says is cut short by what it says next.
    pub preemptible: bool,
    /// The application is told words before they are final.
    pub partials: bool,
    /// Profanity is not spelled out.
    pub no_profanity: bool,
    /// The application is told who speaks.
    pub tells_speakers: bool,
    /// It is told what was heard of what it said.
    pub tells_played: bool,
}

/// Who the caller talks with.
#[derive(Clone, PartialEq, Debug)]
pub enum With {
    /// An application at this URL: `ws:` or `wss:`, absolute.
    Application(String),
    /// An agent of this server.
    Agent(Box<AgentSpec>),
}

/// An agent as a document, an application or the configuration asks for it. What is `None` here is as the configuration says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AgentSpec {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What its model is told to be and to do.
    pub prompt: Option<Arc<str>>,
    /// What it says first; an empty text: nothing.
    pub first_message: Option<Arc<str>>,
    /// BCP 47 language.
    pub language: Option<Arc<str>>,
    /// Its voice, in the words of the speech engine.
    pub voice: Option<Arc<str>>,
    /// What was said before: the model continues from there.
    pub history: Vec<Line>,
    /// A JSON schema of an object: the agent finds out these values, and the conversation ends with them as its word for whoever
    /// goes on.
    pub collects: Option<Arc<str>>,
    /// Something that happened, which the agent speaks about first instead of its first message.
    pub event: Option<Arc<str>>,
    /// Said when all values were found out.
    pub farewell: Option<Arc<str>>,
    /// How long the caller may be silent until he is asked whether he is there.
    pub silence: Option<Duration>,
    /// Whether the caller may cut the agent short.
    pub interruptible: Option<bool>,
    /// By which an application knows the conversation.
    pub conversation: Option<u128>,
    /// The application is told whatever was said as soon as it was.
    pub tells_lines: bool,
}

/// Something that was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// By the agent; else by the caller.
    pub by_agent: bool,
    /// The words.
    pub text: Arc<str>,
}

impl ConversationSpec {
    /// One in English that anything of the caller cuts short at once, with everything else off.
    pub fn new(with: With) -> Self {
        Self {
            with,
            parameters: Vec::new(),
            greeting: None,
            greeting_cut_by: Inputs::ANY,
            speaks: "en-US".to_owned(),
            hears: "en-US".to_owned(),
            manner: Manner::default(),
            tongues: Vec::new(),
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

    /// How a language is spoken and understood.
    pub fn manner(&self, language: &str) -> &Manner {
        let own = self.tongues.iter().find(|(code, _)| code.eq_ignore_ascii_case(language));
        own.map_or(&self.manner, |(_, manner)| manner)
    }
}

/// How a language is spoken and understood.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// The voice, in the provider's words.
    pub voice: Option<String>,
    /// The recogniser's model, in its words.
    pub model: Option<String>,
    /// Words and phrases that are likely.
    pub hints: Vec<String>,
}

/// Doings of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Inputs {
    /// Pressing a key.
    pub keys: bool,
    /// Speaking.
    pub speech: bool,
}

impl Inputs {
    /// Neither.
    pub const NONE: Self = Self { keys: false, speech: false };
    /// Either.
    pub const ANY: Self = Self { keys: true, speech: true };
}

/// How readily a voice is taken for an interruption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sensitivity {
    /// After a while.
    Low,
    /// In between.
    Medium,
    /// At once.
    #[default]
    High,
}

/// A conversation's life, told by the shell.
#[derive(Clone, PartialEq, Debug)]
pub struct ConversationFacts {
    /// Its id.
    pub id: ConversationId,
    /// What happened.
    pub status: ConversationStatus,
    /// Since it was ordered.
    pub duration: Duration,
    /// Of an agent's.
    pub agent: Option<AgentFacts>,
}

/// A conversation with an agent until now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentFacts {
    /// As asked for.
    pub spec: Arc<AgentSpec>,
    /// What was said, oldest first: 200 lines at most, of more the last ones.
    pub said: Vec<Line>,
}

/// What happened to a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConversationStatus {
    /// The application is there.
    Started,
    /// Something was said in a conversation with an agent: by the caller, or heard by him.
    Said(Line),
    /// The application ended it, perhaps with a word for whoever goes on.
    Ended(Option<String>),
    /// The leg ended, or does something else now.
    Completed,
    /// The application could not be reached, broke off, or cannot be understood.
    Failed {
        /// It had been reached.
        after_start: bool,
        /// Why.
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
