//! Streams to an application that is a component of this server. The server and the application exchange the usual
//! messages. A pipe in memory replaces the network connection.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tandem_id::LegId;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use foldhash::HashMap;

/// Maximum number of octets that wait in each direction. Messages of this total size contain about 20 s of audio.
const PIPE: usize = 256 * 1024;

/// The applications that wait for a stream. The key is the leg. All clones share one table.
#[derive(Clone, Debug, Default)]
pub struct LocalStreams(Arc<Mutex<HashMap<LegId, DuplexStream>>>);

/// The application's end of a stream.
pub struct LocalStream {
    leg: LegId,
    streams: LocalStreams,
    socket: WebSocketStream<DuplexStream>,
}

impl LocalStreams {
    /// Registers an application for the first stream of this leg. The stream may have any URL. Call this function
    /// before the leg starts.
    pub async fn expect(&self, leg: LegId) -> LocalStream {
        let (near, far) = tokio::io::duplex(PIPE);
        self.0.lock().insert(leg, far);
        let socket = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        LocalStream { leg, streams: self.clone(), socket }
    }

    /// Returns the pipe to the application that waits for this leg's stream. Returns `None` if no application waits.
    pub fn take(&self, leg: LegId) -> Option<DuplexStream> {
        self.0.lock().remove(&leg)
    }
}

impl LocalStream {
    /// Waits for the next message. Returns `None` after the end of the stream. This function is cancel-safe.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.socket.next().await? {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => return Some(message),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Sends a message. Returns `false` if the stream has ended.
    pub async fn send(&mut self, text: Utf8Bytes) -> bool {
        self.socket.send(Message::Text(text)).await.is_ok()
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        // If the leg ended without a stream, the pipe is still in the table.
        self.streams.take(self.leg);
    }
}
