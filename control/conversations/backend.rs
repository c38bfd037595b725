//! The other side of a conversation: an application at a WebSocket, or an agent of this server.

use std::time::Instant;

use serde_json::Value;
use tandem_call::command::Command;
use tandem_call::conversation::{ConversationRequest, Utterance};
use tandem_call::engine::EngineFailure;
use tandem_call::stream::{StreamFailure, StreamFault};
use tandem_dialect::agent::{EndReason, Pronunciation};
use tandem_dialect::conversation::{ConversationCommand, ConversationEvent, ConversationWire};
use tandem_http::websocket::{Socket, SocketMessage};
use tandem_id::Now;

use tandem_agent::{Agent, AgentOutput, EndReport};

/// The other side of a conversation.
pub(super) enum ConversationBackend {
    /// An application, with the wire format of its messages.
    Application(Box<Socket>, Box<dyn ConversationWire>),
    /// A voice agent of this server.
    Agent(Box<Agent>),
}

/// A message from the other side.
pub(super) enum BackendMessage {
    /// A request to the conversation.
    Command(ConversationCommand),
    /// An invalid message. The text is the error that the application receives.
    Malformed(String),
    /// The connection was closed, for this reason.
    Closed(StreamFailure),
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
    /// An engine of the agent failed.
    EngineFailed(EngineFailure),
}

impl ConversationBackend {
    /// Notifies the other side that the conversation starts.
    pub(super) async fn begin(&mut self, now: Instant) -> Result<(), StreamFailure> {
        match self {
            Self::Application(socket, wire) => socket.send(wire.setup()).await,
            Self::Agent(agent) => {
                agent.begin(now);
                Ok(())
            }
        }
    }

    /// Sends an event to the other side.
    pub(super) async fn send(&mut self, event: ConversationEvent, now: Now) -> Result<(), StreamFailure> {
        match self {
            Self::Application(socket, wire) => socket.send(wire.encode(&event, now.time)).await,
            Self::Agent(agent) => {
                agent.handle_event(now.instant, event);
                Ok(())
            }
        }
    }

    /// Returns the replacements in the text that is spoken.
    pub(super) fn pronunciations(&self) -> Vec<Pronunciation> {
        match self {
            Self::Application(..) => Vec::new(),
            Self::Agent(agent) => agent.pronunciations().to_vec(),
        }
    }

    /// Passes a request of an application to the agent. Returns `false` if the other side is no agent.
    pub(super) fn request(&mut self, now: Instant, request: ConversationRequest) -> bool {
        match self {
            Self::Application(..) => false,
            Self::Agent(agent) => {
                agent.handle_request(now, request);
                true
            }
        }
    }

    /// Whether the other side reports the failures of the recogniser, with the consequence for the call.
    pub(super) fn reports_recognition(&self) -> bool {
        matches!(self, Self::Agent(_))
    }

    /// Waits for the next message of the other side. This function is cancel-safe.
    pub(super) async fn next(&mut self) -> BackendMessage {
        match self {
            Self::Application(socket, wire) => match socket.next().await {
                SocketMessage::Text(text) => {
                    wire.decode(&text).map_or_else(BackendMessage::Malformed, BackendMessage::Command)
                }
                SocketMessage::Binary => BackendMessage::Malformed(wire.binary()),
                SocketMessage::Closed(how) => {
                    let gone = || {
                        StreamFault::Closed
                            .because("the application closed the WebSocket without ending the conversation")
                    };
                    BackendMessage::Closed(how.err().unwrap_or_else(gone))
                }
            },
            Self::Agent(agent) => match agent.next().await {
                AgentOutput::Command(ask) => BackendMessage::Command(ask),
                AgentOutput::Record(on) => BackendMessage::Record(on),
                AgentOutput::LegCommand(command) => BackendMessage::LegCommand(command),
                AgentOutput::Warn(text) => BackendMessage::Warn(text),
                AgentOutput::RestartRecognition => BackendMessage::RestartRecognition,
                AgentOutput::Note(text, data) => BackendMessage::Note(text, data),
                AgentOutput::EngineFailed(failure) => BackendMessage::EngineFailed(failure),
                AgentOutput::Utterance(line) => BackendMessage::Utterance(line),
                AgentOutput::PartialResult(values) => BackendMessage::PartialResult(values),
            },
        }
    }

    /// Closes the connection of an application. `malformed` says whether the reason is an invalid message. Lets an agent do the
    /// work that follows its conversation, and returns the reports of the agent. `why` is the reason of the end, if the agent has
    /// not ended the conversation.
    pub(super) async fn finish(self, malformed: bool, why: Option<EndReason>) -> Vec<EndReport> {
        match self {
            Self::Application(socket, wire) => {
                let (code, reason) = if malformed { wire.malformed() } else { wire.close_reason() };
                socket.close(code, reason).await;
                Vec::new()
            }
            Self::Agent(agent) => agent.finish(why).await,
        }
    }
}
