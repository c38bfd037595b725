//! One stream connection: a task that reads and frames, and writes from a bounded queue. It never makes the driver wait.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::framing::{Frame, Framer};
use crate::endpoint::{Arrival, ConnectionId};
use crate::leg::Transport;

/// Messages that may wait for a slow reader; the connection is closed when it is full.
const WRITE_QUEUE: usize = 128;
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to accept bytes, and to finish a message it began, however it drips.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection from outside every trunk may be idle.
const STRANGER_IDLE: Duration = Duration::from_secs(30);

/// What the tasks tell the driver. The queue is bounded: when it is full they wait, and so does their peer.
#[derive(Debug)]
pub(super) enum StreamEvent {
    Accepted(TcpStream, SocketAddr),
    Message(Arrival),
    /// Over. `peer` is what the connection was opened to, or came from.
    Closed {
        id: ConnectionId,
        peer: SocketAddr,
        why: io::ErrorKind,
    },
}

/// The driver's hold on a connection. Dropping it sends what is queued, then closes.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    /// It came from outside every trunk.
    pub(super) stranger: bool,
    queue: mpsc::Sender<Bytes>,
    task: AbortHandle,
}

impl Connection {
    /// Queues a message; `false` if the peer does not keep up.
    pub(super) fn send(&self, data: Bytes) -> bool {
        self.queue.try_send(data).is_ok()
    }

    /// Takes over an accepted stream. A stranger's may not wait for long.
    pub(super) fn accepted(
        id: ConnectionId,
        stream: TcpStream,
        peer: SocketAddr,
        stranger: bool,
        idle: Duration,
        events: mpsc::Sender<StreamEvent>,
    ) -> Self {
        let (queue, queued) = mpsc::channel(WRITE_QUEUE);
        let pongs = queue.downgrade();
        let idle = if stranger { idle.min(STRANGER_IDLE) } else { idle };
        let task = tokio::spawn(async move { run(id, stream, peer, idle, events, queued, pongs).await });
        Self { peer, stranger, queue, task: task.abort_handle() }
    }

    /// Opens a stream; messages may be queued at once. `from` is the local address to come from.
    pub(super) fn open(
        id: ConnectionId,
        peer: SocketAddr,
        from: Option<SocketAddr>,
        idle: Duration,
        events: mpsc::Sender<StreamEvent>,
    ) -> Self {
        let (queue, queued) = mpsc::channel(WRITE_QUEUE);
        let pongs = queue.downgrade();
        let task = tokio::spawn(async move {
            let connected = timeout(CONNECT_TIMEOUT, connect(peer, from)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => run(id, stream, peer, idle, events, queued, pongs).await,
                Err(error) => {
                    tracing::debug!(%peer, %error, "cannot connect");
                    let _ = events.send(StreamEvent::Closed { id, peer, why: error.kind() }).await;
                }
            }
        });
        Self { peer, stranger: false, queue, task: task.abort_handle() }
    }

    /// Closes at once, whatever is queued.
    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

/// Accepts until the driver is gone.
pub(super) async fn accept(listener: TcpListener, events: mpsc::Sender<StreamEvent>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if events.send(StreamEvent::Accepted(stream, peer)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: accepting again at once would spin.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connect(peer: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from.filter(|from| !from.ip().is_unspecified() && from.is_ipv4() == peer.is_ipv4()) {
        socket.bind(SocketAddr::new(from.ip(), 0))?;
    }
    socket.connect(peer).await
}

async fn run(
    id: ConnectionId,
    stream: TcpStream,
    peer: SocketAddr,
    idle: Duration,
    events: mpsc::Sender<StreamEvent>,
    queued: mpsc::Receiver<Bytes>,
    pongs: mpsc::WeakSender<Bytes>,
) {
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().unwrap_or(peer);
    let (read, write) = stream.into_split();
    let mut writing = pin!(writer(write, queued));
    let reads = tokio::select! {
        () = reader(id, read, peer, local, idle, &events, &pongs) => true,
        // The peer does not take our bytes.
        _ = &mut writing => false,
    };
    let why = if reads { io::ErrorKind::ConnectionReset } else { io::ErrorKind::BrokenPipe };
    let _ = events.send(StreamEvent::Closed { id, peer, why }).await;
    if reads {
        // What the driver still has to say, until it lets go of the queue.
        let _ = writing.await;
    }
}

async fn writer(mut write: OwnedWriteHalf, mut queued: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(data) = queued.recv().await {
        timeout(STALL_TIMEOUT, write.write_all(&data)).await??;
    }
    timeout(STALL_TIMEOUT, write.shutdown()).await?
}

async fn reader(
    id: ConnectionId,
    mut read: impl AsyncRead + Unpin,
    peer: SocketAddr,
    local: SocketAddr,
    idle: Duration,
    events: &mpsc::Sender<StreamEvent>,
    pongs: &mpsc::WeakSender<Bytes>,
) {
    let arrival =
        |data| Arrival { source: peer, local, transport: Transport::Tcp, connection: Some(id), proven: None, data };
    let mut framer = Framer::default();
    // Of the message that is not complete yet.
    let mut whole_by = None;
    loop {
        framer.buffer.reserve(4096);
        let now = Instant::now();
        let deadline = match framer.is_inside() {
            true => *whole_by.get_or_insert(now + STALL_TIMEOUT.min(idle)),
            false => now + idle,
        };
        match timeout_at(deadline, read.read_buf(&mut framer.buffer)).await {
            Ok(Ok(length)) if length > 0 => {}
            _ => return,
        }
        loop {
            let data = match framer.next() {
                Ok(Some(Frame::Message(data))) => data,
                Ok(Some(Frame::Ping)) => {
                    if let Some(queue) = pongs.upgrade() {
                        let _ = queue.try_send(Bytes::from_static(b"\r\n"));
                    }
                    continue;
                }
                Ok(None) => break,
                Err(lost) => {
                    tracing::debug!(%peer, "stream framing lost");
                    if let Some(head) = lost.head {
                        let _ = events.send(StreamEvent::Message(arrival(head))).await;
                    }
                    return;
                }
            };
            whole_by = None;
            if events.send(StreamEvent::Message(arrival(data))).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets `write` write to a reader, and says what the reader found until it gave up, and when that was.
    async fn read_from<F: Future>(idle: u64, write: impl FnOnce(tokio::io::DuplexStream) -> F) -> (usize, u64) {
        let (ours, theirs) = tokio::io::duplex(64);
        let (events, mut found) = mpsc::channel(1_000);
        let (_queue, queued) = mpsc::channel::<Bytes>(1);
        drop(queued);
        let begun = Instant::now();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let pongs = _queue.downgrade();
        let reading = reader(ConnectionId(1), theirs, peer, peer, Duration::from_secs(idle), &events, &pongs);
        tokio::select! { () = reading => {} _ = write(ours) => panic!("it reads on") }
        let mut messages = 0;
        while found.try_recv().is_ok() {
            messages += 1;
        }
        (messages, begun.elapsed().as_secs())
    }

    async fn drip(mut stream: tokio::io::DuplexStream, piece: &[u8]) {
        while stream.write_all(piece).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_dripped_message_has_one_deadline() {
        assert_eq!(read_from(3_600, |stream| drip(stream, b"a: b\r\n")).await, (0, STALL_TIMEOUT.as_secs()));
        assert_eq!(read_from(5, |stream| drip(stream, b"a: b\r\n")).await, (0, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn every_message_has_its_own_deadline() {
        // The end of one and the beginning of the next, a hundred times, and then no end.
        let never_between = |mut stream: tokio::io::DuplexStream| async move {
            stream.write_all(b"OPTIONS").await.unwrap();
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                stream.write_all(b" sip:a SIP/2.0\r\nl: 0\r\n\r\nOPTIONS").await.unwrap();
            }
            std::future::pending::<()>().await
        };
        assert_eq!(read_from(3_600, never_between).await, (100, 2_000 + STALL_TIMEOUT.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_between_messages_may_be_idle() {
        let keep_alive = |stream| drip(stream, b"\r\n\r\n");
        let reading = tokio::time::timeout(Duration::from_secs(10_000), read_from(2, keep_alive));
        assert!(reading.await.is_err(), "keep-alives were not heard");
        assert_eq!(read_from(77, |stream| async move { (std::future::pending::<()>().await, stream) }).await, (0, 77));
    }
}
