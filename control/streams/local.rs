//! Streams between the server and an application that is a part of the server. They use the usual messages, over a pipe
//! in memory instead of a network.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tandem_call::id::LegId;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use foldhash::HashMap;

/// Octets that may wait in each direction: about 20 s of audio in messages.
const PIPE: usize = 256 * 1024;

/// The applications that wait for a stream, by leg. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LocalStreams(Arc<Mutex<HashMap<LegId, DuplexStream>>>);

/// The application's end of a stream.
pub struct LocalStream {
    leg: LegId,
    streams: LocalStreams,
    socket: WebSocketStream<DuplexStream>,
}

impl LocalStreams {
    /// Receives the first stream of this leg, whatever its URL. To be called before the leg starts.
    pub async fn expect(&self, leg: LegId) -> LocalStream {
        let (near, far) = tokio::io::duplex(PIPE);
        self.0.lock().insert(leg, far);
        let socket = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        LocalStream { leg, streams: self.clone(), socket }
    }

    /// The pipe to the application that waits for this leg's stream, if there is one.
    pub fn take(&self, leg: LegId) -> Option<DuplexStream> {
        self.0.lock().remove(&leg)
    }
}

impl LocalStream {
    /// Waits for the next message; `None` once the stream is over. Cancel-safe.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.socket.next().await? {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => return Some(message),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Sends a message; `false` if the stream is over.
    pub async fn send(&mut self, text: Utf8Bytes) -> bool {
        self.socket.send(Message::Text(text)).await.is_ok()
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        // The leg may have ended without a stream.
        self.streams.take(self.leg);
    }
}
