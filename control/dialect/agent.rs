//! Voice agents whose behaviour is defined by a document of a provider. A script has the prompts, the tools and the data of one
//! agent in one conversation. The engine of the server has the turns, the dialogue, the model, the speech, and the requests to web
//! servers.
//!
//! ```text
//!   engine ──turn()──► script: prompt, tools, model fields ──► the model
//!   the model ──tool call──► engine ──call()──► script ──Request──► web server ──answered()──► script ──Result──► the model, actions
//!   end of the conversation ──end_question()──► the model ──end_report()──► script ──► web servers
//! ```

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tandem_call::command::Command;
use tandem_call::conversation::{AgentMessage, Inputs};
use tandem_call::program::instruction::Program;
pub use tandem_http::{Request, Response};

/// The behaviour of one agent in one conversation. A script does no I/O, reads no clock, and knows no engine. All texts that a
/// script returns are bounded by the document that defines it and by the answers of its web servers.
pub trait AgentScript: Send {
    /// Returns the settings of the conversation. The engine asks once, before the conversation starts.
    fn settings(&self) -> AgentSettings {
        AgentSettings::default()
    }

    /// Returns the requests to send when the conversation starts. The answers go to [`Self::answered`]. There the text of the
    /// result is ignored.
    fn begin(&mut self, _now: Timestamp) -> Vec<ScriptRequest> {
        Vec::new()
    }

    /// Returns the prompt, the tools and the model fields of the next request to the model. The engine asks before each request,
    /// because tools and prompts change.
    fn turn(&mut self, now: Timestamp) -> TurnSettings;

    /// Takes a tool call of the model. `call.arguments` comes from the model, so the script checks it.
    fn call(&mut self, call: &ScriptCall, now: Timestamp) -> ScriptStep;

    /// Takes the answer to the request with this id, or the reason why there is none. The answer may have any HTTP status. The
    /// step may be a further request with the same id. The engine sends at most [`MAX_REQUESTS`] requests for one tool call.
    fn answered(&mut self, id: &str, answer: Result<&Response, String>, now: Timestamp) -> ScriptStep;

    /// Takes a request of the application in the provider's form (`ConversationRequest::ToScript`).
    fn request(&mut self, _text: &str, _now: Timestamp) -> Vec<AgentAction> {
        Vec::new()
    }

    /// Returns a last question to the model, which the engine asks after the conversation. The caller does not hear the answer.
    /// `None` means no question.
    fn end_question(&mut self, _why: EndReason, _now: Timestamp) -> Option<EndQuestion> {
        None
    }

    /// Returns the requests to send after the conversation. Their answers are ignored.
    fn end_report(&mut self, _end: &ConversationSummary<'_>, _now: Timestamp) -> Vec<ScriptRequest> {
        Vec::new()
    }

    /// Returns a definition from which the dialect makes this script again, in its present state. The engine uses it when the
    /// agent comes back after a program. `None` means that the agent comes back with the definition of its start.
    fn write(&self) -> Option<Arc<str>> {
        None
    }
}

/// Maximum number of requests for one tool call.
pub const MAX_REQUESTS: u32 = 8;

/// The settings of an agent. For a field that is `None`, the value of the agent in the configuration applies.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AgentSettings {
    /// The beginning of the conversation.
    pub opening: Opening,
    /// The languages of the agent, the default language first. With two or more languages, the model selects the language of
    /// each answer, and the recogniser expects any language.
    pub languages: Vec<AgentLanguage>,
    /// Words and phrases that the caller is likely to say.
    pub hints: Vec<String>,
    /// Replacements in the text that is spoken. The dialogue keeps the written text.
    pub pronunciations: Vec<Pronunciation>,
    /// The inputs of the caller that interrupt the agent.
    pub interrupted_by: Option<Inputs>,
    /// The times of the conversation.
    pub times: AgentTimes,
    /// Instruction for the model when the caller is silent. `None`: the agent says the phrase of the configuration.
    pub silence_prompt: Option<String>,
    /// Whether the call goes on after [`EndReason::TimedOut`]. Then the agent ends without a goodbye. Without this, the agent says
    /// goodbye and hangs up.
    pub keeps_call: bool,
}

/// The beginning of a conversation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Opening {
    /// The beginning that the configuration defines.
    #[default]
    Configured,
    /// The agent says this text.
    Say {
        /// The text.
        text: String,
        /// Whether the caller can interrupt the text.
        interruptible: bool,
    },
    /// The model writes the first words.
    Model,
    /// The agent waits for the words of the caller.
    WaitForCaller,
}

/// A language of an agent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AgentLanguage {
    /// BCP 47 tag of the language.
    pub code: String,
    /// Name of the language for the model, for example `English`.
    pub name: String,
    /// The name that the speech engine uses for the voice.
    pub voice: Option<String>,
    /// Texts for the time in which the model thinks. The agent says the next one, if the model has not answered in time.
    pub fillers: Vec<String>,
}

/// A replacement in spoken text. Only whole words are replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pronunciation {
    /// The written words.
    pub replace: String,
    /// The words to speak.
    pub with: String,
    /// Whether upper case and lower case are equal.
    pub ignore_case: bool,
}

/// Times of a conversation. `None` means no change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgentTimes {
    /// The time of silence after which the turn of the caller has ended.
    pub end_of_speech: Option<Duration>,
    /// The time of silence after which the agent asks whether the caller is still there.
    pub silence: Option<Duration>,
    /// The number of such questions before the agent ends the conversation ([`EndReason::TimedOut`]).
    pub silence_prompts: Option<u32>,
    /// The longest time of the conversation.
    pub longest: Option<Duration>,
}

/// Audio in the background of a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackgroundAudio {
    /// URL of the file.
    pub url: String,
    /// Number of times that the file plays. `None` means without end.
    pub times: Option<u32>,
    /// Whether the agent neither listens nor speaks until the file ends.
    pub waits: bool,
}

/// The parts of one request to the model.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TurnSettings {
    /// The system prompt.
    pub prompt: String,
    /// The tools.
    pub tools: Vec<ScriptTool>,
    /// Fields of the request that replace those of the configuration, for example `temperature`.
    pub model: Map<String, Value>,
}

/// A tool of an agent.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ScriptTool {
    /// Name of the tool: 1 to 64 characters from `a-z A-Z 0-9 _ -`.
    pub name: String,
    /// Description for the model.
    pub description: String,
    /// JSON schema of the arguments, which is an object.
    pub parameters: Value,
    /// Texts for the time in which a request of the tool runs. The agent says the next one, unless the model has said something
    /// with the tool call.
    pub fillers: Fillers,
    /// URL of a file that plays while a request of the tool runs.
    pub wait_file: Option<String>,
}

/// Filler texts by language. An entry with an empty language fits each language.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fillers(pub Vec<(String, Vec<String>)>);

impl Fillers {
    /// Creates fillers for each language.
    pub fn of_each_language(texts: impl IntoIterator<Item = String>) -> Self {
        Self(vec![(String::new(), texts.into_iter().collect())])
    }

    /// Returns the texts for a language. `en` fits `en-US`, and the reverse.
    pub fn of(&self, language: &str) -> &[String] {
        let primary = |tag: &str| tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let own = self.0.iter().find(|(code, _)| code.eq_ignore_ascii_case(language));
        let near = || self.0.iter().find(|(code, _)| !code.is_empty() && primary(code) == primary(language));
        let any = || self.0.iter().find(|(code, _)| code.is_empty() || code == "default");
        own.or_else(near).or_else(any).map_or(&[], |(_, texts)| texts)
    }
}

/// A tool call of the model.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScriptCall {
    /// The id that the model gave to the call.
    pub id: String,
    /// Name of the tool. The model may have invented it.
    pub name: String,
    /// The arguments as the model wrote them, which should be a JSON object.
    pub arguments: String,
}

/// The next step of a tool call.
#[derive(Debug)]
pub enum ScriptStep {
    /// Send this request.
    Request(ScriptRequest),
    /// The call is complete.
    Result(ScriptResult),
}

impl ScriptStep {
    /// A successful result without actions.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Result(ScriptResult { text: Ok(text.into()), ..ScriptResult::default() })
    }

    /// A call that is not possible. The model receives the reason.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Result(ScriptResult { text: Err(ToolFault::Refused(why.into())), ..ScriptResult::default() })
    }

    /// A call whose request failed. The model receives the reason, and the call's log has a failure.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Result(ScriptResult { text: Err(ToolFault::Failed(why.into())), ..ScriptResult::default() })
    }
}

/// A request of a script to a web server. The request is already signed.
#[derive(Debug)]
pub struct ScriptRequest {
    /// The id of the tool call, or another id that the script selects.
    pub id: String,
    /// The request. Its timeout and the size of its answer are limited by the engine.
    pub request: Request,
}

/// The result of a tool call.
#[derive(Debug)]
pub struct ScriptResult {
    /// The text for the model, or the reason why there is none.
    pub text: Result<String, ToolFault>,
    /// The actions, in order.
    pub actions: Vec<AgentAction>,
    /// Whether the actions run after the model's next answer was spoken. If false, they run at once.
    pub after_reply: bool,
}

impl Default for ScriptResult {
    fn default() -> Self {
        Self { text: Ok(String::new()), actions: Vec::new(), after_reply: false }
    }
}

/// The reason why a tool call has no result. The text is for the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToolFault {
    /// The call is not possible, for example because of its arguments.
    Refused(String),
    /// The web server failed, or its answer is not usable.
    Failed(String),
}

impl ToolFault {
    /// Returns the text for the model.
    pub fn into_text(self) -> String {
        let (Self::Refused(why) | Self::Failed(why)) = self;
        why
    }
}

/// An action of an agent, which the engine runs.
#[derive(Clone, PartialEq, Debug)]
pub enum AgentAction {
    /// Say this text.
    Say(String),
    /// Say this text, unless the model has said something in the answer with the tool call.
    SayUnlessSaid(String),
    /// Hang up after all text is spoken.
    HangUp,
    /// Neither listen nor speak until the application ends the hold, or until this time is over. `None` means the longest time.
    Hold(Option<Duration>),
    /// End the conversation after all text is spoken. The document continues, with this text as the result of the conversation.
    Stop(Option<String>),
    /// Run a program on the leg after all text is spoken.
    Run {
        /// The program.
        program: Box<Program>,
        /// The continuation after the program.
        then: AfterRun,
    },
    /// Send these DTMF digits: `0-9 A-D * #`, and `w` for a pause.
    SendDigits(String),
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    /// Report these values, a JSON object, which are known so far.
    ReportPartialResult(String),
    /// Play audio in the background. It replaces other background audio.
    PlayBackground(BackgroundAudio),
    /// Stop the background audio.
    StopBackground,
    /// Give the model this text as if the caller had said it, and let the model answer.
    UserInput(String),
    /// Give the model this text as an instruction, from the next request on.
    System(String),
    /// Replace the dialogue that the model knows by these messages.
    ReplaceHistory(Vec<AgentMessage>),
    /// Replace the tool call with this action, and its result, by this text of the agent in the dialogue that the model knows.
    /// `None` removes both. The model answers the result before that.
    ReplaceCall(Option<String>),
    /// Change times of the conversation.
    SetTimes(AgentTimes),
    /// Replace the words and phrases that the caller is likely to say.
    SetHints(Vec<String>),
    /// Carry out a command for the leg, such as a recording or a stream. The conversation goes on, unless the command ends it.
    Command(Box<Command>),
    /// Write a warning to the log of the call: a part of an answer or of the document was ignored. At most 50 warnings of one
    /// conversation are written.
    Warn(String),
    /// `true`: the model does not answer the results of this round of tool calls, and the agent waits for the caller.
    WaitForCaller(bool),
}

/// The continuation after a program that an agent started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AfterRun {
    /// The agent has left. The rest of the program's leg is up to the program.
    Leave,
    /// When the program ends and the leg still exists, the agent comes back with its dialogue, and the document continues after
    /// the agent as before. `event` is a text for the model about the program. With a text, the model speaks first. Without a
    /// text, the agent waits for the caller.
    Return {
        /// The text for the model.
        event: Option<String>,
    },
}

/// The reason of the end of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// The caller hung up, or an application sent the leg somewhere else.
    Caller,
    /// The agent hung up.
    HungUp,
    /// A time of the agent was over: its longest time, or the time for which it waits for a silent caller.
    TimedOut,
    /// The agent stopped ([`AgentAction::Stop`]).
    Stopped,
    /// The agent started a program ([`AfterRun::Leave`]).
    Left,
    /// The agent started a program and may come back ([`AfterRun::Return`]). Then a new script with the definition of
    /// [`AgentScript::write`] continues, which has an end of its own.
    Interrupted,
    /// An engine failed, and the agent gave up.
    Failed,
}

/// A question to the model after a conversation.
#[derive(Clone, PartialEq, Debug)]
pub struct EndQuestion {
    /// The instruction to the model.
    pub prompt: String,
    /// Fields of the request that replace those of the configuration.
    pub model: Map<String, Value>,
}

/// The facts about a conversation that has ended.
#[derive(Clone, Debug)]
pub struct ConversationSummary<'a> {
    /// The reason of the end.
    pub why: EndReason,
    /// Start of the conversation.
    pub began: Timestamp,
    /// End of the conversation.
    pub ended: Timestamp,
    /// The dialogue, oldest line first. A very long dialogue has lost its oldest lines.
    pub dialogue: &'a [DialogueLine],
    /// The model's answer to [`AgentScript::end_question`], or the reason why there is none. `None` without a question.
    pub answer: Option<Result<String, String>>,
}

/// A line of the dialogue.
#[derive(Clone, PartialEq, Debug)]
pub struct DialogueLine {
    /// Time of the line.
    pub at: Timestamp,
    /// The kind of the line.
    pub kind: LineKind,
    /// The text. For words of the agent, the part that the caller heard.
    pub text: String,
}

/// The kind of a line of the dialogue.
#[derive(Clone, PartialEq, Debug)]
pub enum LineKind {
    /// An instruction to the model.
    System,
    /// Words of the caller.
    Caller,
    /// Words of the agent.
    Agent {
        /// Time between the request to the model and the first text. `None` if the words are not the model's.
        latency: Option<Duration>,
        /// The tool calls of the answer.
        calls: Vec<ScriptCall>,
    },
    /// The result of a tool call.
    Tool {
        /// The id of the call.
        id: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fillers_of_a_language_fit_its_regions_and_an_empty_language_fits_all() {
        let texts = |text: &str| vec![text.to_owned()];
        let fillers = Fillers(vec![("en-US".to_owned(), texts("hold on")), (String::new(), texts("mm"))]);
        assert_eq!(fillers.of("en-us"), ["hold on"]);
        assert_eq!(fillers.of("en-GB"), ["hold on"]);
        assert_eq!(fillers.of("es"), ["mm"]);
        assert!(Fillers::default().of("es").is_empty());
    }
}
