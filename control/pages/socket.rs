//! The loop of a page's WebSocket.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use tandem_host::clock;
use tokio::sync::{Notify, mpsc};

/// Maximum size of a frame, in octets. The largest frames have an SDP and the options of a page.
pub const MAX_FRAME: usize = 64 * 1024;
/// Interval of our heartbeats. The strictest SDK closes a socket that is silent for 15 s.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time after which a page that sends nothing counts as lost. Every SDK, or its browser, answers a heartbeat.
const SILENCE: Duration = Duration::from_secs(35);
/// Time limit for the login. A refused page connects again at once, so this time also limits its attempts.
const LOGIN: Duration = Duration::from_secs(5);
/// Time limit for sending a frame. A page that reads nothing for so long counts as lost.
const SEND: Duration = Duration::from_secs(10);

/// Maximum number of frames that wait for the network. If there are more, the socket is closed.
const MAX_WAITING: usize = 256;

/// The frames for a page. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    frames: mpsc::Sender<String>,
    /// Notified when a frame was lost.
    overflow: Arc<Notify>,
}

/// The frames that wait for the network.
pub struct Waiting {
    frames: mpsc::Receiver<String>,
    overflow: Arc<Notify>,
}

impl Waiting {
    /// Waits for the next frame. Returns `None` if a frame was lost, and when no outbox is left. The function may be
    /// cancelled while it waits.
    pub async fn next(&mut self) -> Option<String> {
        tokio::select! {
            frame = self.frames.recv() => frame,
            () = self.overflow.notified() => None,
        }
    }

    /// Returns the frames that were sent until now.
    #[cfg(test)]
    pub(crate) fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.frames.try_recv().ok()).collect()
    }
}

impl Outbox {
    /// Creates the outbox of a page, and the frames that wait in it.
    pub fn new() -> (Self, Waiting) {
        let (frames, waiting) = mpsc::channel(MAX_WAITING);
        let overflow = Arc::new(Notify::new());
        (Self { frames, overflow: Arc::clone(&overflow) }, Waiting { frames: waiting, overflow })
    }

    /// Sends a frame. If too many frames wait, the frame is lost, and the socket is closed, because the page would miss it.
    pub fn send(&self, frame: String) {
        if self.frames.try_send(frame).is_err() {
            self.overflow.notify_one();
        }
    }

    /// Whether both are the outbox of one socket.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.frames.same_channel(&other.frames)
    }

    /// Whether the socket is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.frames.is_closed()
    }
}

/// The session of a page on one socket. It is dropped when the socket is closed.
pub trait Session: Send {
    /// Handles a frame of the page.
    fn handle(&mut self, text: &str) -> impl Future<Output = ()> + Send;
    /// Waits for an event that is no frame, and handles it. The function may be cancelled while it waits.
    fn wait(&mut self) -> impl Future<Output = ()> + Send;
    /// Whether the SDK answers no heartbeat. Then this server sends WebSocket pings, which the browser answers.
    const PINGS: bool = false;
    /// Returns the frame that shows that this server is alive. The page must answer it. Called every 5 s.
    fn heartbeat(&mut self) -> Option<String>;
    /// Whether the page has logged in.
    fn is_known(&self) -> bool;
}

/// Serves a socket until it is closed. `first` is a frame that was read already.
pub async fn serve<S: Session>(mut socket: WebSocket, first: Option<String>, session: impl FnOnce(Outbox) -> S) {
    let (outbox, mut waiting) = Outbox::new();
    let mut session = session(outbox);
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let opened = clock::now().instant;
    let mut heard = opened;
    if let Some(first) = first {
        session.handle(&first).await;
    }
    loop {
        let frame = tokio::select! {
            frame = waiting.next() => match frame {
                Some(frame) => Some(Message::text(frame)),
                None => return,
            },
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => {
                    heard = clock::now().instant;
                    session.handle(&text).await;
                    None
                }
                Some(Ok(Message::Pong(_))) if S::PINGS => {
                    heard = clock::now().instant;
                    None
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => None,
            },
            _ = heartbeat.tick() => {
                let now = clock::now().instant;
                let is_late = !session.is_known() && now.duration_since(opened) >= LOGIN;
                if is_late || now.duration_since(heard) >= SILENCE {
                    return;
                }
                if S::PINGS { Some(Message::Ping(Bytes::new())) } else { session.heartbeat().map(Message::text) }
            }
            () = session.wait() => None,
        };
        if let Some(frame) = frame
            && !matches!(tokio::time::timeout(SEND, socket.send(frame)).await, Ok(Ok(())))
        {
            return;
        }
    }
}
