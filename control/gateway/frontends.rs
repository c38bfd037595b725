//! WebSockets of browsers and other frontends. Each frontend has a bounded queue, so that a slow frontend does not
//! delay the other frontends.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use futures_util::SinkExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};

/// Maximum number of frontends of one kind. The server closes the WebSocket of a further frontend immediately.
const MAX_FRONTENDS: usize = 1_000;
/// Maximum length of a message from a frontend, in octets. A message of this length contains some seconds of audio.
const LONGEST: usize = 256 * 1024;
/// Size of the read buffer of a WebSocket, in octets. The default of the library is 128 KiB, and the buffer exists as long as
/// the WebSocket.
const READ_BUFFER: usize = 4 * 1024;
/// Time between two pings. The server drops a frontend that sends nothing for twice this time.
const PING: Duration = Duration::from_secs(30);
/// The server drops a frontend that accepts no data for this time.
const STALLED: Duration = Duration::from_secs(20);

/// WebSocket close code for a normal end. This code and the next two codes are in RFC 6455 §7.4.1 and in the IANA
/// registry.
pub(super) const NORMAL: u16 = 1000;
pub(super) const POLICY: u16 = 1008;
pub(super) const TRY_AGAIN: u16 = 1013;

/// A message for a frontend.
#[derive(Clone, Debug)]
pub(super) enum FrontendMessage {
    Text(Utf8Bytes),
    Close(u16, &'static str),
}

/// The action if the queue of a frontend is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WhenFull {
    /// Drop the message, because late audio has no use.
    Skip,
    /// Close the WebSocket with code 1013, so that the frontend knows about the missed messages.
    Close,
}

/// The frontends of one kind. `W` describes the messages that a frontend wants to receive.
#[derive(Debug)]
pub(super) struct Frontends<W> {
    all: Mutex<Vec<Frontend<W>>>,
    next: AtomicU64,
    room: usize,
    when_full: WhenFull,
}

#[derive(Debug)]
struct Frontend<W> {
    id: u64,
    wants: W,
    queue: mpsc::Sender<FrontendMessage>,
}

impl<W> Frontends<W> {
    /// Creates an empty set. `room` is the capacity of the queue of each frontend, in messages.
    pub(super) fn new(room: usize, when_full: WhenFull) -> Self {
        Self { all: Mutex::default(), next: AtomicU64::new(1), room, when_full }
    }

    /// Adds a frontend. Returns the frontend's number and its queue. `None` if there are too many frontends.
    pub(super) fn join(&self, wants: W) -> Option<(u64, mpsc::Receiver<FrontendMessage>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (queue, waiting) = mpsc::channel(self.room);
        let mut all = self.all.lock();
        if all.len() >= MAX_FRONTENDS {
            return None;
        }
        all.push(Frontend { id, wants, queue });
        Some((id, waiting))
    }

    pub(super) fn leave(&self, id: u64) {
        self.all.lock().retain(|one| one.id != id);
    }

    /// Adds a text to the queue of each frontend that wants the text. This function never waits.
    pub(super) fn broadcast(&self, text: &Utf8Bytes, wanted_by: impl Fn(&W) -> bool) {
        self.all.lock().retain(|one| {
            if !wanted_by(&one.wants) {
                return true;
            }
            match one.queue.try_send(FrontendMessage::Text(text.clone())) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => self.when_full == WhenFull::Skip,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }

    /// Closes and removes all frontends.
    pub(super) fn close(&self, code: u16, reason: &'static str) {
        for one in self.all.lock().drain(..) {
            // A frontend with a full queue gets the close reason "Too slow" instead.
            let _ = one.queue.try_send(FrontendMessage::Close(code, reason));
        }
    }
}

/// Accepts the WebSocket handshake of a frontend. Selects the first subprotocol that the frontend offers, because
/// browsers close the socket if the server selects none.
pub(super) fn upgrade(request: WebSocketUpgrade, headers: &HeaderMap) -> WebSocketUpgrade {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|line| line.to_str().ok());
    let first: Option<Cow<'static, str>> =
        offered.and_then(|line| line.split(',').next()).map(|word| word.trim().to_owned().into());
    request.read_buffer_size(READ_BUFFER).max_message_size(LONGEST).max_frame_size(LONGEST).protocols(first)
}

pub(super) async fn turn_away(mut socket: WebSocket, code: u16, reason: &'static str) {
    close(&mut socket, code, reason).await;
}

/// Sends the messages of the queue to the frontend, and passes the messages of the frontend to the function `receive`.
/// If `receive` returns a message, this message goes only to this frontend. The function runs until one side ends the
/// connection.
pub(super) async fn serve(
    socket: &mut WebSocket,
    queue: &mut mpsc::Receiver<FrontendMessage>,
    mut receive: impl FnMut(&str) -> Option<FrontendMessage>,
) {
    let mut alive = Instant::now();
    let mut ping = interval_at(alive + PING, PING);
    loop {
        let out = tokio::select! {
            waiting = queue.recv() => waiting.unwrap_or(FrontendMessage::Close(TRY_AGAIN, "Too slow")),
            message = socket.recv() => {
                alive = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => match receive(&text) {
                        Some(answer) => answer,
                        None => continue,
                    },
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        // The receiver has queued our close frame. This flush sends the close frame.
                        let _ = timeout(STALLED, socket.flush()).await;
                        return;
                    }
                    Some(Ok(_)) => continue,
                }
            }
            _ = ping.tick() => {
                let gone = alive.elapsed() > 2 * PING;
                if gone || !put(socket, Message::Ping(Vec::new().into())).await {
                    return;
                }
                continue;
            }
        };
        match out {
            FrontendMessage::Text(text) => {
                if !put(socket, Message::Text(text)).await {
                    return;
                }
            }
            FrontendMessage::Close(code, reason) => return close(socket, code, reason).await,
        }
    }
}

/// Sends a message. Returns `false` if the connection is closed or stalled.
async fn put(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(STALLED, socket.send(message)).await, Ok(Ok(())))
}

async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    let handshake = async {
        if put(socket, Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await {
            // Waits for the close frame of the frontend and ignores all messages before it.
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // The connection ends even if the frontend does not answer.
    let _ = timeout(Duration::from_secs(2), handshake).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(queue: &mut mpsc::Receiver<FrontendMessage>) -> Vec<String> {
        let mut texts = Vec::new();
        while let Ok(FrontendMessage::Text(text)) = queue.try_recv() {
            texts.push(text.to_string());
        }
        texts
    }

    #[test]
    fn a_slow_frontend_misses_audio_and_does_not_delay_others() {
        let frontends = Frontends::new(2, WhenFull::Skip);
        let (_, mut slow) = frontends.join(()).unwrap();
        let (_, mut quick) = frontends.join(()).unwrap();
        let mut received = Vec::new();
        for frame in ["1", "2", "3"] {
            frontends.broadcast(&frame.into(), |()| true);
            received.extend(texts(&mut quick));
        }
        assert_eq!(
            (received, texts(&mut slow)),
            (vec!["1".into(), "2".into(), "3".into()], vec!["1".into(), "2".into()])
        );
        frontends.broadcast(&"4".into(), |()| true);
        assert_eq!(texts(&mut slow), ["4"], "it goes on");
    }

    #[test]
    fn a_frontend_with_a_full_event_queue_is_closed() {
        let frontends = Frontends::new(1, WhenFull::Close);
        let (_, mut slow) = frontends.join(()).unwrap();
        frontends.broadcast(&"1".into(), |()| true);
        frontends.broadcast(&"2".into(), |()| true);
        assert_eq!(texts(&mut slow), ["1"]);
        assert!(slow.is_closed());
    }

    #[test]
    fn a_frontend_gets_the_messages_of_its_filter_until_it_leaves() {
        let frontends = Frontends::new(8, WhenFull::Skip);
        let (one, mut queue) = frontends.join("a").unwrap();
        frontends.broadcast(&"to a".into(), |wants| *wants == "a");
        frontends.broadcast(&"to b".into(), |wants| *wants == "b");
        frontends.leave(one);
        frontends.broadcast(&"late".into(), |_| true);
        assert_eq!(texts(&mut queue), ["to a"]);
    }
}
