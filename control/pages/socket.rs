//! The loop of a page's WebSocket.

use std::future::Future;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use tandem_host::clock;
use tokio::sync::mpsc;

/// Maximum size of a frame, in octets. The largest frames have an SDP and the options of a page.
pub const MAX_FRAME: usize = 64 * 1024;
/// Interval of our heartbeats. The strictest SDK closes a socket that is silent for 15 s.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time after which a page that sends nothing counts as lost. Every SDK answers a heartbeat.
const SILENCE: Duration = Duration::from_secs(35);
/// Time limit for the login. A refused page connects again at once, so this time also limits its attempts.
const LOGIN: Duration = Duration::from_secs(5);

/// Time limit for sending a frame. A page that reads nothing for so long counts as lost.
const SEND: Duration = Duration::from_secs(10);

/// The session of a page on one socket.
pub trait Session: Send {
    /// Handles a frame of the page.
    fn handle(&mut self, text: &str) -> impl Future<Output = ()> + Send;
    /// Waits for an event that is no frame, and handles it. Returns whether the socket stays open. The function may be
    /// cancelled while it waits.
    fn wait(&mut self) -> impl Future<Output = bool> + Send;
    /// Returns the frame that shows that this server is alive. The page must answer it. Called every 5 s.
    fn heartbeat(&mut self) -> Option<String>;
    /// Whether the page has logged in.
    fn is_known(&self) -> bool;
    /// The socket is closed.
    fn end(self);
}

/// Serves a socket until it is closed. `out` has the frames for the page. `first` is a frame that was read already.
pub async fn serve(
    mut socket: WebSocket,
    mut session: impl Session,
    mut out: mpsc::Receiver<String>,
    first: Option<String>,
) {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let opened = clock::now().instant;
    let mut heard = opened;
    if let Some(first) = first {
        session.handle(&first).await;
    }
    loop {
        let is_open = tokio::select! {
            frame = out.recv() => match frame {
                Some(frame) => send(&mut socket, frame).await,
                None => break,
            },
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => {
                    heard = clock::now().instant;
                    session.handle(&text).await;
                    true
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => true,
            },
            _ = heartbeat.tick() => {
                let now = clock::now().instant;
                let is_late = !session.is_known() && now.duration_since(opened) >= LOGIN;
                if is_late || now.duration_since(heard) >= SILENCE {
                    break;
                }
                match session.heartbeat() {
                    Some(frame) => send(&mut socket, frame).await,
                    None => true,
                }
            }
            stays = session.wait() => stays,
        };
        if !is_open {
            break;
        }
    }
    session.end();
}

/// Sends a frame. Returns whether the socket stays open.
async fn send(socket: &mut WebSocket, frame: String) -> bool {
    matches!(tokio::time::timeout(SEND, socket.send(Message::text(frame))).await, Ok(Ok(())))
}
