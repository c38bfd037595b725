//! Who the caller talks with: an application at the other end of a WebSocket, or an agent of this server.

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
    /// An application, and how it writes.
    Application(Box<Socket>, Box<dyn ConversationWire>),
    /// An agent.
    Agent(Box<Agent>),
}

/// What it says.
pub(super) enum Said {
    /// It asks for something.
    Ask(Ask),
    /// What it says means nothing; what it is told of that.
    Malformed(String),
    /// It is gone.
    Closed(StreamFailure),
    /// Begin or end a recording.
    Record(bool),
    /// Listen anew.
    Listen,
    /// This was said: by the caller, or heard by him.
    Line(Line),
    /// For the call's log.
    Note(String, Value),
}

impl Peer {
    /// The conversation begins.
    pub(super) async fn begin(&mut self, now: Instant) -> Result<(), StreamFailure> {
        match self {
            Self::Application(socket, wire) => socket.send(wire.setup()).await,
            Self::Agent(agent) => {
                agent.begin(now);
                Ok(())
            }
        }
    }

    /// Tells it something.
    pub(super) async fn tell(&mut self, told: Told, now: Now) -> Result<(), StreamFailure> {
        match self {
            Self::Application(socket, wire) => socket.send(wire.told(&told, now.time)).await,
            Self::Agent(agent) => {
                agent.told(now.instant, told);
                Ok(())
            }
        }
    }

    /// What it says next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Said {
        match self {
            Self::Application(socket, wire) => match socket.next().await {
                Word::Text(text) => wire.decode(&text).map_or_else(Said::Malformed, Said::Ask),
                Word::Binary => Said::Malformed(wire.binary()),
                Word::Closed(how) => {
                    let gone = || StreamFault::Closed.because("the application closed it without an end");
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

    /// Ends it. `malformed`: because what it says cannot be understood.
    pub(super) async fn close(self, malformed: bool) {
        if let Self::Application(socket, wire) = self {
            let (code, reason) = if malformed { wire.malformed() } else { wire.farewell() };
            socket.close(code, reason).await;
        }
    }
}
