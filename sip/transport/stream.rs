//! One stream connection: a task that opens it, reads and frames messages, and writes from a bounded queue. The driver
//! never waits for it.
//!
//! ```text
//!  accepted ─> TLS? ─> WebSocket? ─┐                    ┌─> websocket.rs: one message in one WebSocket message
//!                                  ├─> Link ─> carry ───┤
//!  opened ───> TLS? ───────────────┘                    └─> reader and writer: Content-Length separates messages
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::framing::{Frame, Framer};
use super::tls::{self, Tls};
use super::websocket;
use crate::endpoint::{Arrival, ConnectionId, Identity};
use crate::leg::{Transport, TrunkName};

/// Most messages that may wait for a far end that reads slowly. When the queue is full, the connection is closed.
const WRITE_QUEUE: usize = 128;
/// Longest time to open a connection, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a client's TLS handshake, and for its WebSocket handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for the far end to accept octets, and to complete a message that it began, however slowly the octets
/// come.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest idle time of a connection from outside every trunk.
const STRANGER_IDLE: Duration = Duration::from_secs(30);

/// A stream of octets from any listener.
pub trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Octets for S {}

/// An event of a connection task for the driver. The queue is bounded. When it is full, the task waits, and so does the
/// far end.
pub(super) enum StreamEvent {
    Accepted(Accepted),
    Message(Arrival),
    /// The client has shown the certificate of a trunk.
    Proven(ConnectionId),
    /// The connection is closed. `peer` is the address that it was opened to or came from.
    Closed {
        id: ConnectionId,
        transport: Transport,
        peer: SocketAddr,
        why: io::ErrorKind,
    },
}

/// An accepted connection.
pub(super) struct Accepted {
    pub(super) stream: Incoming,
    pub(super) transport: Transport,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

/// The stage that an accepted connection has reached.
pub(super) enum Incoming {
    /// Accepted by a socket of the driver; nothing has been read.
    Fresh(TcpStream),
    /// Accepted by another listener; from here on it is a WebSocket connection.
    Upgraded(Box<dyn Octets>),
}

/// The key of a connection: its transport, its address, and the identity that the far end must prove.
pub(super) type Way = (Transport, SocketAddr, Option<Identity>);

/// The driver's handle of a connection. When it is dropped, queued messages are sent, then the connection is closed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) way: Way,
    /// Whether the connection came from outside every trunk and neither a password nor a certificate has been accepted
    /// on it.
    stranger: Arc<AtomicBool>,
    queue: mpsc::Sender<Bytes>,
    task: AbortHandle,
}

/// The properties of a connection that its tasks need.
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) transport: Transport,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) proven: Option<TrunkName>,
    /// How long the far end may send nothing, unless it is an unknown source.
    pub(super) idle: Duration,
    pub(super) stranger: Arc<AtomicBool>,
    /// Interval of keep-alives, on connections that the server keeps alive.
    pub(super) keep_alive: Option<Duration>,
    pub(super) events: mpsc::Sender<StreamEvent>,
}

impl Link {
    /// How long the far end may send nothing now.
    pub(super) fn idle(&self) -> Duration {
        if self.stranger.load(Ordering::Relaxed) { self.idle.min(STRANGER_IDLE) } else { self.idle }
    }

    /// Passes a message to the driver. Returns `false` if the driver has stopped.
    pub(super) async fn deliver(&self, data: Bytes) -> bool {
        let arrival = Arrival {
            source: self.peer,
            local: self.local,
            transport: self.transport,
            connection: Some(self.id),
            proven: self.proven.clone(),
            data,
        };
        self.events.send(StreamEvent::Message(arrival)).await.is_ok()
    }

    pub(super) async fn close(&self, why: io::ErrorKind) {
        let Self { id, transport, peer, .. } = *self;
        let _ = self.events.send(StreamEvent::Closed { id, transport, peer, why }).await;
    }
}

impl Connection {
    /// Whether the connection came from outside every trunk and neither a password nor a certificate has been accepted
    /// on it.
    pub(super) fn is_stranger(&self) -> bool {
        self.stranger.load(Ordering::Relaxed)
    }

    /// Lets the connection be idle as long as a trunk's.
    pub(super) fn trust(&self) {
        self.stranger.store(false, Ordering::Relaxed);
    }

    /// Queues a message. `Full`: the far end does not read fast enough. `Closed`: the connection has ended, and an
    /// event with the reason follows.
    pub(super) fn send(&self, data: Bytes) -> Result<(), TrySendError<Bytes>> {
        self.queue.try_send(data)
    }

    /// Takes over an accepted stream. The time limits are shorter for an unknown source.
    pub(super) fn accepted(stream: Incoming, mut link: Link, tls: Arc<Tls>) -> Self {
        let (queue, queued) = mpsc::channel(WRITE_QUEUE);
        let (transport, peer, pongs) = (link.transport, link.peer, queue.downgrade());
        let stranger = Arc::clone(&link.stranger);
        let task = tokio::spawn(async move {
            if let Err(error) = welcome(stream, &mut link, &tls, queued, pongs).await {
                // Any client can fail a handshake; only failures of known sources are worth a warning.
                if link.stranger.load(Ordering::Relaxed) {
                    tracing::debug!(%peer, %error, "{} connection failed", transport.token());
                } else {
                    tracing::warn!(%peer, "{} connection refused: {error}", transport.token());
                }
                link.close(io::ErrorKind::ConnectionAborted).await;
            }
        });
        Self { way: (transport, peer, None), stranger, queue, task: task.abort_handle() }
    }

    /// Opens a stream. Messages can be queued at once. `from` is the local address to use.
    pub(super) fn open(
        mut link: Link,
        identity: Option<Identity>,
        from: Option<SocketAddr>,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> Self {
        let (queue, queued) = mpsc::channel(WRITE_QUEUE);
        let (transport, peer, pongs) = (link.transport, link.peer, queue.downgrade());
        let stranger = Arc::clone(&link.stranger);
        let task = tokio::spawn(async move {
            let opened = timeout(CONNECT_TIMEOUT, async {
                let stream = connect(peer, from).await.map_err(|error| (error.kind(), error))?;
                let _ = stream.set_nodelay(true);
                link.local = stream.local_addr().unwrap_or(peer);
                let Some((config, name)) = tls else { return Ok(Box::new(stream) as Box<dyn Octets>) };
                let host = name.to_str().into_owned();
                match TlsConnector::from(config).connect(name, stream).await {
                    Ok(stream) => Ok(Box::new(stream) as Box<dyn Octets>),
                    Err(error) => {
                        tracing::warn!(%peer, "TLS to {host} failed: {error}");
                        Err((tls::failed(&error), error))
                    }
                }
            });
            let timed_out = |_| Err((io::ErrorKind::TimedOut, io::ErrorKind::TimedOut.into()));
            match opened.await.unwrap_or_else(timed_out) {
                Ok(stream) => carry(stream, &link, queued, pongs).await,
                Err((why, error)) => {
                    tracing::debug!(%peer, %error, "cannot connect");
                    link.close(why).await;
                }
            }
        });
        Self { way: (transport, peer, identity), stranger, queue, task: task.abort_handle() }
    }

    /// Closes the connection at once and drops its queue.
    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

/// Accepts connections until the driver stops.
pub(super) async fn accept(listener: TcpListener, transport: Transport, events: mpsc::Sender<StreamEvent>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let local = stream.local_addr().unwrap_or(peer);
                let accepted = Accepted { stream: Incoming::Fresh(stream), transport, peer, local };
                if events.send(StreamEvent::Accepted(accepted)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Most likely out of file descriptors. Accepting again at once would be a busy loop.
                tracing::warn!(%error, "cannot accept a connection");
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

/// Does the handshakes of the transport, each within its time limit, and then carries messages until the connection
/// ends.
async fn welcome(
    stream: Incoming,
    link: &mut Link,
    tls: &Tls,
    queued: mpsc::Receiver<Bytes>,
    pongs: mpsc::WeakSender<Bytes>,
) -> io::Result<()> {
    let patience = HANDSHAKE_TIMEOUT.min(link.idle());
    let stream: Box<dyn Octets> = match stream {
        Incoming::Upgraded(stream) => {
            websocket::carry(websocket::resumed(stream).await, link, queued).await;
            return Ok(());
        }
        Incoming::Fresh(stream) => {
            let _ = stream.set_nodelay(true);
            if link.transport.is_secure() {
                let config = tls.server().ok_or_else(|| io::Error::other("the server has no certificate"))?;
                let stream = timeout(patience, TlsAcceptor::from(config).accept(stream)).await??;
                let chain = tls::chain(&stream);
                link.proven = tls.prove(link.peer.ip(), chain);
                if link.proven.is_some() {
                    let _ = link.events.send(StreamEvent::Proven(link.id)).await;
                } else if let Some(own) = chain.first() {
                    let fingerprint = tls::shown(own);
                    tracing::info!(peer = %link.peer, fingerprint, "the client's certificate belongs to no trunk");
                }
                Box::new(stream)
            } else {
                Box::new(stream)
            }
        }
    };
    if matches!(link.transport, Transport::Ws | Transport::Wss) {
        let socket = timeout(patience, websocket::accept(stream)).await??;
        websocket::carry(socket, link, queued).await;
    } else {
        carry(stream, link, queued, pongs).await;
    }
    Ok(())
}

async fn carry(stream: Box<dyn Octets>, link: &Link, queued: mpsc::Receiver<Bytes>, pongs: mpsc::WeakSender<Bytes>) {
    let pings = Pings::every(link.keep_alive);
    let (read, write) = tokio::io::split(stream);
    let mut writing = pin!(writer(write, queued, &pings));
    let reads = tokio::select! {
        () = reader(read, link, &pongs, &pings) => true,
        // The far end does not accept octets.
        _ = &mut writing => false,
    };
    link.close(if reads { io::ErrorKind::ConnectionReset } else { io::ErrorKind::BrokenPipe }).await;
    if reads {
        // Sends what the driver has queued, until the driver drops the queue.
        let _ = writing.await;
    }
}

/// The keep-alives that the server sends, and whether they are answered (RFC 5626 §4.4.1).
struct Pings {
    every: Option<Duration>,
    /// Pings whose pong has not come yet.
    owed: AtomicU32,
    /// Pongs received. A far end without RFC 5626 sends none.
    answers: AtomicU32,
}

impl Pings {
    fn every(every: Option<Duration>) -> Self {
        Self { every, owed: AtomicU32::new(0), answers: AtomicU32::new(0) }
    }

    /// Records a new ping. Returns `false` if the last ping is unanswered although the far end answered earlier ones.
    fn send(&self) -> bool {
        let dead = self.owed.load(Ordering::Relaxed) > 0 && self.answers.load(Ordering::Relaxed) > 0;
        self.owed.store(1, Ordering::Relaxed);
        !dead
    }

    /// Whether a received CRLF is an expected pong.
    fn take_pong(&self) -> bool {
        let due = self.owed.swap(0, Ordering::Relaxed) > 0;
        self.answers.fetch_add(u32::from(due), Ordering::Relaxed);
        due
    }
}

async fn writer(
    mut write: impl AsyncWrite + Unpin,
    mut queued: mpsc::Receiver<Bytes>,
    pings: &Pings,
) -> io::Result<()> {
    let quiet = pings.every.unwrap_or(Duration::from_secs(86_400));
    loop {
        let data = match timeout(quiet, queued.recv()).await {
            Ok(Some(data)) => data,
            Ok(None) => break,
            Err(_) if pings.every.is_none() => continue,
            Err(_) if pings.send() => Bytes::from_static(b"\r\n\r\n"),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        timeout(STALL_TIMEOUT, async {
            write.write_all(&data).await?;
            write.flush().await
        })
        .await??;
    }
    timeout(STALL_TIMEOUT, write.shutdown()).await?
}

async fn reader(mut read: impl AsyncRead + Unpin, link: &Link, pongs: &mpsc::WeakSender<Bytes>, pings: &Pings) {
    let mut framer = Framer::default();
    // Deadline of the message that is not complete yet.
    let mut whole_by = None;
    let mut heard = Instant::now();
    loop {
        framer.buffer.reserve(4096);
        let now = Instant::now();
        let deadline = match framer.is_inside() {
            true => *whole_by.get_or_insert(now + STALL_TIMEOUT.min(link.idle())),
            false => heard + link.idle(),
        };
        match timeout_at(deadline, read.read_buf(&mut framer.buffer)).await {
            Ok(Ok(length)) if length > 0 => heard = Instant::now(),
            // The far end became known meanwhile, so it may be idle longer.
            Err(_) if !framer.is_inside() && heard + link.idle() > deadline => continue,
            _ => return,
        }
        loop {
            let data = match framer.next(|| pings.take_pong()) {
                Ok(Some(Frame::Message(data))) => data,
                Ok(Some(Frame::Ping)) => {
                    if let Some(queue) = pongs.upgrade() {
                        let _ = queue.try_send(Bytes::from_static(b"\r\n"));
                    }
                    continue;
                }
                Ok(None) => break,
                Err(lost) => {
                    tracing::debug!(peer = %link.peer, "stream cannot be framed (RFC 3261 §18.3): closing the connection");
                    if let Some(head) = lost.head {
                        link.deliver(head).await;
                    }
                    return;
                }
            };
            whole_by = None;
            if !link.deliver(data).await {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(idle: u64, events: mpsc::Sender<StreamEvent>) -> Link {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let (id, transport, idle) = (ConnectionId(1), Transport::Tcp, Duration::from_secs(idle));
        let stranger = Arc::default();
        Link { id, transport, peer, local: peer, proven: None, idle, stranger, keep_alive: None, events }
    }

    /// Lets `write` write to a reader. Returns how many messages the reader found until it gave up, and after how many
    /// seconds that was.
    async fn read_from<F: Future>(idle: u64, write: impl FnOnce(tokio::io::DuplexStream) -> F) -> (usize, u64) {
        let (ours, theirs) = tokio::io::duplex(64);
        let (events, mut found) = mpsc::channel(1_000);
        let (queue, _queued) = mpsc::channel::<Bytes>(1);
        let begun = Instant::now();
        let pongs = queue.downgrade();
        let (link, pings) = (link(idle, events), Pings::every(None));
        let reading = reader(theirs, &link, &pongs, &pings);
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
        std::future::pending::<()>().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_dripped_message_has_one_deadline() {
        assert_eq!(read_from(3_600, |stream| drip(stream, b"a: b\r\n")).await, (0, STALL_TIMEOUT.as_secs()));
        assert_eq!(read_from(5, |stream| drip(stream, b"a: b\r\n")).await, (0, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn every_message_has_its_own_deadline() {
        // The end of one message and the beginning of the next, a hundred times; the last message never ends.
        let never_between = |mut stream: tokio::io::DuplexStream| async move {
            stream.write_all(b"OPTIONS").await.unwrap();
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                stream.write_all(b" sip:a SIP/2.0\r\nl: 0\r\n\r\nOPTIONS").await.unwrap();
            }
            std::future::pending::<()>().await;
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

    #[tokio::test(start_paused = true)]
    async fn our_keep_alives_close_a_connection_whose_peer_stops_answering_them() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let (events, mut found) = mpsc::channel(8);
        let (queue, queued) = mpsc::channel(1);
        let pongs = queue.downgrade();
        let mut link = link(3_600, events);
        link.keep_alive = Some(Duration::from_secs(30));
        let begun = Instant::now();
        let peer = async {
            let mut ping = [0; 4];
            for _ in 0..3 {
                ours.read_exact(&mut ping).await.unwrap();
                assert_eq!(ping, *b"\r\n\r\n");
                ours.write_all(b"\r\n").await.unwrap();
            }
            ours.read_exact(&mut ping).await.unwrap();
            assert_eq!(ours.read(&mut ping).await.unwrap(), 0, "pongs are not answered; the connection closes");
        };
        tokio::join!(carry(Box::new(theirs), &link, queued, pongs), peer);
        assert_eq!(begun.elapsed().as_secs(), 150);
        assert!(matches!(found.recv().await, Some(StreamEvent::Closed { why: io::ErrorKind::BrokenPipe, .. })));
        drop(queue);
    }

    #[tokio::test]
    async fn a_message_that_comes_after_a_connection_was_refused_is_not_one_that_the_peer_was_too_slow_for() {
        let (events, mut found) = mpsc::channel(8);
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let link = Link { peer: nobody, ..link(3_600, events) };
        let connection = Connection::open(link, None, None, None);
        let closed = found.recv().await;
        assert!(matches!(closed, Some(StreamEvent::Closed { why: io::ErrorKind::ConnectionRefused, .. })));
        connection.queue.closed().await;
        assert!(matches!(connection.send(Bytes::from_static(b"late")), Err(TrySendError::Closed(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn keep_alives_that_a_peer_never_answers_are_sent_all_the_same() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let (events, _found) = mpsc::channel(8);
        let (queue, queued) = mpsc::channel(1);
        let pongs = queue.downgrade();
        let mut link = link(3_600, events);
        link.keep_alive = Some(Duration::from_secs(30));
        let begun = Instant::now();
        let mut pings = vec![0; 4 * 100];
        tokio::select! {
            () = carry(Box::new(theirs), &link, queued, pongs) => panic!("closed"),
            read = ours.read_exact(&mut pings) => assert!(read.is_ok()),
        }
        assert_eq!(begun.elapsed().as_secs(), 3_000);
        drop(queue);
    }
}
