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

mod agents;
mod chat;
mod config;
mod ending;
mod history;
mod hooks;
mod languages;
pub mod realtime;
mod responder;
mod schema;
mod spoken;
mod tools;
pub mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tandem_call::command::Command;
use tandem_call::conversation::{AgentSpec, ConversationRequest, ConversationSpec, LanguageSettings, Utterance};
use tandem_call::engine::EngineFailure;
use tandem_dialect::agent::{AgentScript, EndReason, Pronunciation, Response, ScriptRequest};
use tandem_dialect::conversation::{ConversationCommand, ConversationEvent};
use tandem_host::clock;
use tandem_http::Client;
use tokio::task::JoinSet;

use chat::ChatRequest;
use responder::{Responder, ResponderOutput};
use tools::{ConfiguredScript, LARGEST};

pub use agents::Agents;
pub use chat::ToolCall;
pub use config::{
    AgentConfig, HttpTool, Interruptions, ModelConfig, Patience, PhraseConfig, Protocol, ToolConfig,
    TransferDestination,
};
pub use ending::EndReport;

/// Maximum duration of a request of a script.
const LONGEST_REQUEST: Duration = Duration::from_secs(120);
/// The language code with which the recogniser expects any language.
const ANY_LANGUAGE: &str = "multi";

/// One agent in one conversation. The conversation uses this type.
pub struct Agent {
    responder: Responder,
    config: Arc<AgentConfig>,
    client: Client,
    chat_request: Option<(u64, ChatRequest)>,
    running: JoinSet<(String, Result<Response, String>)>,
}

/// An action that an agent requests from the conversation or from the call.
pub enum AgentOutput {
    /// A command to the conversation. An application at the other end of a WebSocket could send the same command.
    Command(ConversationCommand),
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    /// Carry out a command for the leg.
    LegCommand(Box<Command>),
    /// Write a warning to the log of the call.
    Warn(String),
    /// Start speech recognition again.
    RestartRecognition,
    /// A line of the dialogue: words that the caller said or heard.
    Utterance(Utterance),
    /// The values that are known so far, as a JSON object.
    PartialResult(String),
    /// A line for the call's log. The fields are the text and the data of the line.
    Note(String, Value),
    EngineFailed(EngineFailure),
}

impl Agent {
    /// Creates an agent from the configuration. Sets the languages, the voice and the interruption rules in `spec` from
    /// the settings of the agent.
    pub fn new(
        config: Arc<AgentConfig>,
        client: Client,
        agent: AgentSpec,
        spec: &mut ConversationSpec,
        script: Option<Box<dyn AgentScript>>,
    ) -> Self {
        let script = script.unwrap_or_else(|| Box::new(ConfiguredScript::new(&config, &agent)));
        let responder = Responder::new(Arc::clone(&config), agent.clone(), script, clock::now());
        let settings = responder.settings();
        let first = settings.languages.first();
        let own = || first.map_or_else(|| config.language.to_string(), |language| language.code.clone());
        let language = agent.language.as_ref().map_or_else(own, ToString::to_string);
        // An agent with several languages expects each of them from the caller.
        let recognised = match languages::are_several(&settings.languages) {
            true => ANY_LANGUAGE.to_owned(),
            false => language.clone(),
        };
        (spec.speech_language, spec.recognition_language) = (language, recognised);
        let configured = || config.voice.as_ref().map(ToString::to_string);
        let default_voice = || first.and_then(|language| language.voice.clone()).or_else(configured);
        let voice = agent.voice.as_ref().map(ToString::to_string).or_else(default_voice);
        spec.default_language_settings = LanguageSettings {
            voice,
            hints: settings.hints.clone(),
            ..std::mem::take(&mut spec.default_language_settings)
        };
        let voices = settings.languages.iter().filter(|_| settings.languages.len() > 1);
        spec.languages.extend(voices.map(|language| {
            let settings = LanguageSettings { voice: language.voice.clone(), ..LanguageSettings::default() };
            (language.code.clone(), settings)
        }));
        let interruptions = match agent.interruptible {
            Some(false) => Interruptions::None,
            Some(true) | None => config.interruptions,
        };
        let configured = responder::interrupted_by(interruptions);
        spec.interrupted_by = settings.interrupted_by.unwrap_or(configured);
        spec.words_decide_interruption = config.interruptions != Interruptions::Voice;
        (spec.digits, spec.partials, spec.reports_speakers, spec.reports_played) = (true, true, true, true);
        Self { responder, config, client, chat_request: None, running: JoinSet::new() }
    }

    /// Starts the conversation.
    pub fn begin(&mut self, now: Instant) {
        self.responder.begin(now);
    }

    pub fn handle_event(&mut self, now: Instant, event: ConversationEvent) {
        self.responder.handle_event(now, event);
    }

    /// Handles a request of an application.
    pub fn handle_request(&mut self, now: Instant, request: ConversationRequest) {
        self.responder.handle_request(now, request);
    }

    /// Returns the replacements in the text that is spoken.
    pub fn pronunciations(&self) -> &[Pronunciation] {
        &self.responder.settings().pronunciations
    }

    /// Ends the agent. Then does the work of its script that follows the conversation: a last question to the model, and reports
    /// to web servers. This takes at most 180 s.
    pub async fn finish(self, why: Option<EndReason>) -> Vec<EndReport> {
        let Self { responder, config, client, chat_request, running } = self;
        // Nobody needs the answers of the open requests any more.
        drop((chat_request, running));
        let ending = responder.finish(clock::now().instant, why);
        ending.run(&client, &config.model).await
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
                    // An aborted request has no result.
                    if let Ok((id, result)) = ran {
                        self.responder.handle_response(clock::now().instant, &id, result.as_ref().map_err(Clone::clone));
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
            ResponderOutput::LegCommand(command) => return Some(AgentOutput::LegCommand(command)),
            ResponderOutput::Warn(text) => return Some(AgentOutput::Warn(text)),
            ResponderOutput::RestartRecognition => return Some(AgentOutput::RestartRecognition),
            ResponderOutput::Note(text, data) => return Some(AgentOutput::Note(text, data)),
            ResponderOutput::EngineFailed(failure) => return Some(AgentOutput::EngineFailed(failure)),
            ResponderOutput::Utterance(line) => return Some(AgentOutput::Utterance(line)),
            ResponderOutput::PartialResult(values) => return Some(AgentOutput::PartialResult(values)),
            ResponderOutput::AskModel { id, question } => {
                self.chat_request = None;
                self.chat_request = Some((id, ChatRequest::begin(self.client.clone(), &self.config.model, question)));
            }
            ResponderOutput::CancelAnswer => self.chat_request = None,
            ResponderOutput::Send(request) => {
                let client = self.client.clone();
                self.running.spawn(request.send(client));
            }
        }
        None
    }
}

/// A request of a script. Two requests are equal if the web server could not distinguish them.
#[derive(Clone, Debug)]
pub struct OutgoingRequest(Arc<ScriptRequest>);

impl OutgoingRequest {
    /// Limits the time of the request and the size of its answer.
    fn limited(mut request: ScriptRequest) -> Self {
        let limits = &mut request.request;
        limits.timeouts.total = limits.timeouts.total.min(LONGEST_REQUEST);
        limits.max_body = limits.max_body.min(LARGEST);
        Self(Arc::new(request))
    }

    /// Sends the request. Returns the id of the request and the answer.
    pub async fn send(self, client: Client) -> (String, Result<Response, String>) {
        let answer = client.send(&self.0.request).await;
        (self.0.id.clone(), answer.map_err(|error| error.to_string()))
    }
}

impl PartialEq for OutgoingRequest {
    fn eq(&self, other: &Self) -> bool {
        let parts = |one: &Self| {
            let ScriptRequest { id, request } = &*one.0;
            (id.clone(), request.method.clone(), request.url.clone(), request.headers.clone(), request.body.clone())
        };
        parts(self) == parts(other)
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
