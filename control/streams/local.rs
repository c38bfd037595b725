//! Streams to an application that is a component of this server. Two bounded channels replace the WebSocket.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use parking_lot::Mutex;
use tandem_call::stream::{StreamFailure, StreamFault};
use tandem_http::Client;
use tandem_http::websocket::{NORMAL, Socket, SocketMessage};
use tandem_id::LegId;
use tokio::sync::mpsc;

/// Maximum number of messages that wait in each direction. So many messages contain 20 s of audio of one track.
const MESSAGES: usize = 1_000;
/// Maximum time for which the component may accept no message. After this time, the stream fails.
const STALLED: Duration = Duration::from_secs(20);

/// The applications that wait for a stream. The key is the leg. All clones share one table.
#[derive(Clone, Debug, Default)]
pub struct LocalStreams(Arc<Mutex<HashMap<LegId, Pipe>>>);

/// A message of a stream to a component of this server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LocalMessage {
    /// A message in the provider's text form.
    Text(String),
    /// 20 ms of audio without a header.
    Octets(Vec<u8>),
}

/// The component's end of a stream.
pub struct LocalStream {
    leg: LegId,
    streams: LocalStreams,
    received: mpsc::Receiver<LocalMessage>,
    sent: mpsc::Sender<String>,
}

/// The server's end of a stream to a component of this server.
#[derive(Debug)]
pub(super) struct Pipe {
    sent: mpsc::Sender<LocalMessage>,
    received: mpsc::Receiver<String>,
}

impl LocalStreams {
    /// Registers a component for the first stream of this leg. The stream may have any URL. Call this function before
    /// the leg starts.
    pub fn expect(&self, leg: LegId) -> LocalStream {
        let (to_component, received) = mpsc::channel(MESSAGES);
        let (sent, from_component) = mpsc::channel(MESSAGES);
        self.0.lock().insert(leg, Pipe { sent: to_component, received: from_component });
        LocalStream { leg, streams: self.clone(), received, sent }
    }

    /// Returns the channels to the component that waits for this leg's stream. Returns `None` if no component waits.
    pub(super) fn take(&self, leg: LegId) -> Option<Pipe> {
        self.0.lock().remove(&leg)
    }
}

impl LocalStream {
    /// Waits for the next message. Returns `None` after the end of the stream. This function is cancel-safe.
    pub async fn next(&mut self) -> Option<LocalMessage> {
        self.received.recv().await
    }

    /// Sends a message in the provider's text form. Returns `false` if the stream has ended.
    pub async fn send(&mut self, text: String) -> bool {
        self.sent.send(text).await.is_ok()
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        // If the leg ended without a stream, the channels are still in the table.
        self.streams.take(self.leg);
    }
}

/// The connection of a stream to its application.
pub(super) enum Channel {
    Network(Box<Socket>),
    Local(Pipe),
}

impl Channel {
    /// Connects to the application. If a component of this server waits for the stream, `local` are the channels to it.
    /// Otherwise the function connects to the application's URL.
    pub(super) async fn open(
        client: &Client,
        url: &str,
        headers: Vec<(String, String)>,
        idle: Option<Duration>,
        local: Option<Pipe>,
    ) -> Result<Self, StreamFailure> {
        Ok(match local {
            Some(pipe) => Self::Local(pipe),
            None => Self::Network(Box::new(Socket::open(client, url, headers, idle).await?)),
        })
    }

    /// Returns the next message of the application. Cancel-safe.
    pub(super) async fn next(&mut self) -> SocketMessage {
        match self {
            Self::Network(socket) => socket.next().await,
            Self::Local(pipe) => match pipe.received.recv().await {
                Some(text) => SocketMessage::Text(text.into()),
                None => SocketMessage::Closed(Err(StreamFault::Closed.because("the component has closed the stream"))),
            },
        }
    }

    /// Sends a text message.
    pub(super) async fn send(&mut self, text: String) -> Result<(), StreamFailure> {
        match self {
            Self::Network(socket) => socket.send(text).await,
            Self::Local(pipe) => pipe.put(LocalMessage::Text(text)).await,
        }
    }

    /// Sends a binary message.
    pub(super) async fn send_octets(&mut self, octets: Vec<u8>) -> Result<(), StreamFailure> {
        match self {
            Self::Network(socket) => socket.send_octets(octets).await,
            Self::Local(pipe) => pipe.put(LocalMessage::Octets(octets)).await,
        }
    }

    /// Sends a text message as [`Self::send`] does, but the message may stay in the buffer until [`Self::flush`].
    pub(super) async fn feed(&mut self, text: String) -> Result<(), StreamFailure> {
        match self {
            Self::Network(socket) => socket.feed(text).await,
            Self::Local(pipe) => pipe.put(LocalMessage::Text(text)).await,
        }
    }

    /// Sends all messages that [`Self::feed`] left in the buffer.
    pub(super) async fn flush(&mut self) -> Result<(), StreamFailure> {
        match self {
            Self::Network(socket) => socket.flush().await,
            Self::Local(_) => Ok(()),
        }
    }

    /// Ends the stream. A WebSocket closes with the code 1000 (RFC 6455 §7.4.1).
    pub(super) async fn close(self) {
        if let Self::Network(socket) = self {
            socket.close(NORMAL, "").await;
        }
    }
}

impl Pipe {
    async fn put(&self, message: LocalMessage) -> Result<(), StreamFailure> {
        match self.sent.send_timeout(message, STALLED).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(StreamFault::Broken.because("the component accepts no messages"))
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => {
                Err(StreamFault::Closed.because("the component has closed the stream"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEG: LegId = LegId(1);

    #[tokio::test]
    async fn messages_of_a_local_stream_arrive_in_order_in_both_directions() {
        let streams = LocalStreams::default();
        let mut component = streams.expect(LEG);
        let mut channel = Channel::Local(streams.take(LEG).unwrap());
        channel.send("start".to_owned()).await.unwrap();
        channel.send_octets(vec![1, 2]).await.unwrap();
        assert_eq!(component.next().await, Some(LocalMessage::Text("start".to_owned())));
        assert_eq!(component.next().await, Some(LocalMessage::Octets(vec![1, 2])));
        assert!(component.send("media".to_owned()).await);
        assert!(matches!(channel.next().await, SocketMessage::Text(text) if text == "media"));
        channel.close().await;
        assert_eq!(component.next().await, None);
        assert!(!component.send("late".to_owned()).await);
    }

    #[tokio::test]
    async fn a_stream_fails_when_its_component_has_ended() {
        let streams = LocalStreams::default();
        drop(streams.expect(LEG));
        assert!(streams.take(LEG).is_none(), "the table keeps no channels of a component that is gone");
        let component = streams.expect(LEG);
        let mut channel = Channel::Local(streams.take(LEG).unwrap());
        drop(component);
        assert_eq!(channel.send("a".to_owned()).await.unwrap_err().fault, StreamFault::Closed);
        let SocketMessage::Closed(Err(why)) = channel.next().await else { panic!("the component is gone") };
        assert_eq!(why.fault, StreamFault::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_fails_when_its_component_reads_nothing() {
        let streams = LocalStreams::default();
        let _component = streams.expect(LEG);
        let mut channel = Channel::Local(streams.take(LEG).unwrap());
        for _ in 0..MESSAGES {
            channel.send_octets(vec![0; 160]).await.unwrap();
        }
        assert_eq!(channel.send_octets(vec![0; 160]).await.unwrap_err().fault, StreamFault::Broken);
    }
}
