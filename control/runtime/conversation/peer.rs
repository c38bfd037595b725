//! The other side of a conversation: an application at a WebSocket, or an agent of this server.

use std::time::Instant;

use serde_json::Value;
use tandem_call::Now;
use tandem_call::conversation::Line;
use tandem_call::stream::{StreamFailure, StreamFault};
use tandem_dialect::conversation::{Ask, ConversationWire, Told};
use tandem_http::websocket::{Socket, Word};

use crate::agent::{Agent, Wish};

/// The other side of a conversation.
pub(super) enum Peer {
    /// An application, with its wire format.
    Application(Box<Socket>, Box<dyn ConversationWire>),
    /// An agent.
    Agent(Box<Agent>),
}

/// A message of the other side.
pub(super) enum Said {
    /// A request to the conversation.
    Ask(Ask),
    /// An invalid message; the text is sent back to the application.
    Malformed(String),
    /// The connection is closed.
    Closed(StreamFailure),
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    /// Start speech recognition again.
    Listen,
    /// A line of the dialogue: the caller said it, or the caller heard it.
    Line(Line),
    /// A line for the call's log, with its data.
    Note(String, Value),
}

impl Peer {
    /// Tells the other side that the conversation starts.
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
    pub(super) async fn tell(&mut self, told: Told, now: Now) -> Result<(), StreamFailure> {
        match self {
            Self::Application(socket, wire) => socket.send(wire.told(&told, now.time)).await,
            Self::Agent(agent) => {
                agent.told(now.instant, told);
                Ok(())
            }
        }
    }

    /// Waits for the next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> Said {
        match self {
            Self::Application(socket, wire) => match socket.next().await {
                Word::Text(text) => wire.decode(&text).map_or_else(Said::Malformed, Said::Ask),
                Word::Binary => Said::Malformed(wire.binary()),
                Word::Closed(how) => {
                    let gone = || {
                        StreamFault::Closed
                            .because("the application closed the WebSocket without ending the conversation")
                    };
                    Said::Closed(how.err().unwrap_or_else(gone))
                }
            },
            Self::Agent(agent) => match agent.next().await {
                Wish::Ask(ask) => Said::Ask(ask),
                Wish::Record(on) => Said::Record(on),
                Wish::Listen => Said::Listen,
                Wish::Note(text, data) => Said::Note(text, data),
                Wish::Said(line) => Said::Line(line),
            },
        }
    }

    /// Closes the connection. `malformed`: because of an invalid message.
    pub(super) async fn close(self, malformed: bool) {
        if let Self::Application(socket, wire) = self {
            let (code, reason) = if malformed { wire.malformed() } else { wire.farewell() };
            socket.close(code, reason).await;
        }
    }
}
