//! The other side of a conversation: an application at a WebSocket, or an agent of this server.

use std::time::Instant;

use serde_json::Value;
use tandem_call::conversation::Utterance;
use tandem_call::engine::EngineFailure;
use tandem_call::stream::{StreamFailure, StreamFault};
use tandem_dialect::conversation::{ConversationCommand, ConversationEvent, ConversationWire};
use tandem_http::websocket::{Socket, SocketMessage};
use tandem_id::Now;

use tandem_agent::{Agent, AgentOutput};

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
    /// Start speech recognition again.
    RestartRecognition,
    /// A line of the dialogue: words that the caller said or heard.
    Utterance(Utterance),
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
                AgentOutput::RestartRecognition => BackendMessage::RestartRecognition,
                AgentOutput::Note(text, data) => BackendMessage::Note(text, data),
                AgentOutput::EngineFailed(failure) => BackendMessage::EngineFailed(failure),
                AgentOutput::Utterance(line) => BackendMessage::Utterance(line),
            },
        }
    }

    /// Closes the connection. `malformed` says whether the reason is an invalid message.
    pub(super) async fn close(self, malformed: bool) {
        if let Self::Application(socket, wire) = self {
            let (code, reason) = if malformed { wire.malformed() } else { wire.close_reason() };
            socket.close(code, reason).await;
        }
    }
}
