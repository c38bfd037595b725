//! Voice agents: a caller talks with a language model. A conversation treats an agent like an application at the other
//! end of a WebSocket. The conversation reports the caller's inputs to the agent, and the agent requests the words to
//! say.
//!
//! ```text
//!   conversation ──ConversationEvent────► responder (when to answer, what to do) ──► chat (the model), tools
//!   conversation ◄──ConversationCommand── responder ◄──words, results──────────────────┘
//! ```
//!
//! An agent with a model that receives and produces audio uses `realtime` instead of `responder` and `chat`.
#![forbid(unsafe_code)]

mod chat;
mod config;
mod history;
pub mod realtime;
mod responder;
mod spoken;
mod tools;
pub mod words;

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tandem_call::conversation::{AgentSpec, ConversationSpec, LanguageSettings, Utterance};
use tandem_call::engine::EngineFailure;
use tandem_dialect::conversation::{ConversationCommand, ConversationEvent};
use tandem_host::clock;
use tandem_http::Client;
use tokio::task::JoinSet;

use chat::ChatRequest;
use foldhash::HashMap;
use responder::{Responder, ResponderOutput};

pub use chat::ToolCall;
pub use config::{
    AgentConfig, HttpTool, Interruptions, ModelConfig, Patience, PhraseConfig, Protocol, ToolConfig,
    TransferDestination,
};
pub use tools::call_tool;

/// The agents of the configuration, by name.
#[derive(Debug, Default)]
pub struct Agents(HashMap<Arc<str>, Arc<AgentConfig>>);

impl Agents {
    /// Collects the agents and reads the `prompt_file` of each agent.
    ///
    /// # Errors
    /// Returns the reason for the first file that cannot be read or is too long.
    pub fn new(agents: impl IntoIterator<Item = AgentConfig>) -> Result<Self, String> {
        let named = |agent: AgentConfig| Ok((Arc::clone(&agent.name), Arc::new(agent.with_prompt()?)));
        Ok(Self(agents.into_iter().map(named).collect::<Result<_, String>>()?))
    }

    /// Returns the name of the agent if the configuration has exactly one agent.
    pub fn only(&self) -> Option<&Arc<str>> {
        let mut names = self.0.keys();
        names.next().filter(|_| names.next().is_none())
    }

    /// Returns all agents, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<AgentConfig>> {
        self.0.values()
    }

    /// Returns the agent with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<AgentConfig>> {
        self.0.get(name)
    }
}

/// One agent in one conversation. The conversation uses this type.
pub struct Agent {
    responder: Responder,
    config: Arc<AgentConfig>,
    client: Client,
    tools: Vec<Value>,
    chat_request: Option<(u64, ChatRequest)>,
    running: JoinSet<(String, Result<String, String>)>,
}

/// An action that an agent requests from the conversation or from the call.
pub enum AgentOutput {
    /// A command to the conversation. An application at the other end of a WebSocket could send the same command.
    Command(ConversationCommand),
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    /// Start speech recognition again.
    RestartRecognition,
    /// A line of the dialogue: words that the caller said or heard.
    Utterance(Utterance),
    /// A line for the call's log. The fields are the text and the data of the line.
    Note(String, Value),
    EngineFailed(EngineFailure),
}

impl Agent {
    /// Creates an agent from the configuration. Sets the languages, the voice and the interruption rules in `spec` from
    /// the settings of the agent.
    pub fn new(config: Arc<AgentConfig>, client: Client, agent: AgentSpec, spec: &mut ConversationSpec) -> Self {
        let language = agent.language.as_ref().unwrap_or(&config.language).to_string();
        (spec.speech_language, spec.recognition_language) = (language.clone(), language);
        let voice = agent.voice.as_ref().or(config.voice.as_ref()).map(ToString::to_string);
        spec.default_language_settings =
            LanguageSettings { voice, ..std::mem::take(&mut spec.default_language_settings) };
        let interruptions = match agent.interruptible {
            Some(false) => Interruptions::None,
            Some(true) | None => config.interruptions,
        };
        spec.interrupted_by = responder::interrupted_by(interruptions);
        spec.words_decide_interruption = config.interruptions != Interruptions::Voice;
        (spec.digits, spec.partials, spec.reports_speakers, spec.reports_played) = (true, true, true, true);
        let responder = Responder::new(Arc::clone(&config), agent);
        let tools = responder.tools();
        Self { responder, config, client, tools, chat_request: None, running: JoinSet::new() }
    }

    /// Starts the conversation.
    pub fn begin(&mut self, now: Instant) {
        self.responder.begin(now);
    }

    pub fn handle_event(&mut self, now: Instant, event: ConversationEvent) {
        self.responder.handle_event(now, event);
    }

    /// Waits for the agent's next request. This function is cancel-safe.
    pub async fn next(&mut self) -> AgentOutput {
        loop {
            while let Some(act) = self.responder.poll_output() {
                if let Some(wish) = self.perform(act) {
                    return wish;
                }
            }
            let due = self.responder.poll_timeout();
            tokio::select! {
                (id, piece) = answered(&mut self.chat_request) => {
                    if !matches!(piece, chat::Piece::Text(_)) {
                        self.chat_request = None;
                    }
                    self.responder.handle_piece(clock::now().instant, id, piece);
                }
                Some(ran) = self.running.join_next() => {
                    // An aborted tool call has no result.
                    if let Ok((id, result)) = ran {
                        self.responder.handle_tool_result(clock::now().instant, &id, result);
                    }
                }
                () = sleep_until(due), if due.is_some() => self.responder.handle_timeout(clock::now().instant),
                // More work comes only from an external event. The task that receives the event calls this function
                // again.
                () = std::future::pending() => {}
            }
        }
    }

    fn perform(&mut self, act: ResponderOutput) -> Option<AgentOutput> {
        match act {
            ResponderOutput::Command(ask) => return Some(AgentOutput::Command(ask)),
            ResponderOutput::Record(on) => return Some(AgentOutput::Record(on)),
            ResponderOutput::RestartRecognition => return Some(AgentOutput::RestartRecognition),
            ResponderOutput::Note(text, data) => return Some(AgentOutput::Note(text, data)),
            ResponderOutput::EngineFailed(failure) => return Some(AgentOutput::EngineFailed(failure)),
            ResponderOutput::Utterance(line) => return Some(AgentOutput::Utterance(line)),
            ResponderOutput::AskModel { id, messages } => {
                self.chat_request = None;
                self.chat_request =
                    Some((id, ChatRequest::begin(self.client.clone(), &self.config.model, messages, &self.tools)));
            }
            ResponderOutput::CancelAnswer => self.chat_request = None,
            ResponderOutput::Run { id, tool, arguments } => {
                let client = self.client.clone();
                self.running.spawn(async move { (id, call_tool(client, tool, arguments).await) });
            }
        }
        None
    }
}

/// Waits for the next piece of the model's response. Without a running request, the future never completes.
async fn answered(chat_request: &mut Option<(u64, ChatRequest)>) -> (u64, chat::Piece) {
    match chat_request {
        Some((id, one)) => (*id, one.next().await),
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}
