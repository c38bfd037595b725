//! One stream connection. A task opens the connection, reads and frames messages, and writes messages from a bounded
//! queue. The driver never waits for this task.
//!
//! ```text
//!  accepted ─> TLS? ─> WebSocket? ─┐                    ┌─> websocket.rs: one message in one WebSocket message
//!                                  ├─> Link ─> serve ───┤
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
use crate::endpoint::Arrival;
use crate::flow::{ConnectionId, Identity, Transport};
use crate::tls_fault::TransportFault;
use crate::trunk_acl::TrunkName;

/// Maximum number of messages that may wait for a far end that reads slowly. If the queue is full, the connection is
/// closed.
const WRITE_QUEUE: usize = 128;
/// Maximum time to open a connection, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for each handshake of a client: the TLS handshake and the WebSocket handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for the far end to accept octets. The same limit applies to the time for a complete message from the
/// far end, even if octets arrive all the time.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum idle time of a connection from a source outside every trunk.
const MAX_UNKNOWN_SOURCE_IDLE: Duration = Duration::from_secs(30);

/// A stream of octets from any listener.
pub trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Octets for S {}

/// An event that a connection task sends to the driver. The queue of events is bounded. If the queue is full, the task
/// waits, and therefore the far end must wait too.
pub(super) enum StreamEvent {
    Accepted(Accepted),
    Message(Arrival),
    /// The client has shown the certificate of a trunk.
    Certified(ConnectionId),
    /// The connection is closed. `peer` is the address of the far end.
    Closed {
        id: ConnectionId,
        transport: Transport,
        peer: SocketAddr,
        why: TransportFault,
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
    /// A socket of the driver accepted the connection, and nothing has been read yet.
    Fresh(TcpStream),
    /// Another listener accepted the connection and completed the WebSocket handshake.
    Upgraded {
        /// The connection.
        stream: Box<dyn Octets>,
        /// Whether a page in a browser has opened the connection.
        from_page: bool,
    },
}

/// The key of a connection: the transport, the far end's address, and the identity that the far end must prove.
pub(super) type ConnectionKey = (Transport, SocketAddr, Option<Identity>);

/// The driver's handle of a connection. When the handle is dropped, the task sends the queued messages and then closes
/// the connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: ConnectionKey,
    /// Whether the source of the connection is still unknown. An unknown source is outside every trunk, and has not yet
    /// proven its identity with a password or certificate on this connection.
    unknown_source: Arc<AtomicBool>,
    queue: mpsc::Sender<Bytes>,
    task: AbortHandle,
}

/// The properties of a connection that its tasks need.
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) transport: Transport,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) certified_trunk: Option<TrunkName>,
    /// Whether a page in a browser has opened the connection.
    pub(super) from_page: bool,
    /// Maximum time for which a known far end may send nothing.
    pub(super) idle: Duration,
    pub(super) unknown_source: Arc<AtomicBool>,
    /// Interval of the keep-alives, if the server sends keep-alives on this connection.
    pub(super) keep_alive: Option<Duration>,
    pub(super) events: mpsc::Sender<StreamEvent>,
}

impl Link {
    /// Returns the maximum time for which the far end may send nothing. The time is shorter while the far end is
    /// unknown.
    pub(super) fn idle(&self) -> Duration {
        if self.unknown_source.load(Ordering::Relaxed) { self.idle.min(MAX_UNKNOWN_SOURCE_IDLE) } else { self.idle }
    }

    /// Passes a message to the driver. Returns `false` if the driver has stopped.
    pub(super) async fn deliver(&self, data: Bytes) -> bool {
        let arrival = Arrival {
            source: self.peer,
            local: self.local,
            transport: self.transport,
            connection: Some(self.id),
            certified_trunk: self.certified_trunk.clone(),
            from_page: self.from_page,
            data,
        };
        self.events.send(StreamEvent::Message(arrival)).await.is_ok()
    }

    pub(super) async fn close(&self, why: impl Into<TransportFault>) {
        let why = why.into();
        let Self { id, transport, peer, .. } = *self;
        let _ = self.events.send(StreamEvent::Closed { id, transport, peer, why }).await;
    }
}

impl Connection {
    /// Returns whether the source of the connection is still unknown. An unknown source is outside every trunk, and has
    /// not yet proven its identity with a password or certificate on this connection.
    pub(super) fn is_unknown_source(&self) -> bool {
        self.unknown_source.load(Ordering::Relaxed)
    }

    /// Marks the far end as known, so that the connection may be idle for as long as a trunk's connection.
    pub(super) fn trust(&self) {
        self.unknown_source.store(false, Ordering::Relaxed);
    }

    /// Queues a message. The error `Full` means that the far end does not read fast enough. The error `Closed` means
    /// that the connection has ended; an event with the reason follows.
    pub(super) fn send(&self, data: Bytes) -> Result<(), TrySendError<Bytes>> {
        self.queue.try_send(data)
    }

    /// Starts the task of an accepted stream. The time limits are shorter for an unknown source.
    pub(super) fn accepted(stream: Incoming, mut link: Link, tls: Arc<Tls>) -> Self {
        let (queue, queued) = mpsc::channel(WRITE_QUEUE);
        let (transport, peer, pongs) = (link.transport, link.peer, queue.downgrade());
        let unknown_source = Arc::clone(&link.unknown_source);
        let task = tokio::spawn(async move {
            if let Err(error) = accept_stream(stream, &mut link, &tls, queued, pongs).await {
                // Any client can fail a handshake. So a warning is logged only for known sources.
                if link.unknown_source.load(Ordering::Relaxed) {
                    tracing::debug!(%peer, %error, "{} connection failed", transport.token());
                } else {
                    tracing::warn!(%peer, "{} connection refused: {error}", transport.token());
                }
                link.close(io::ErrorKind::ConnectionAborted).await;
            }
        });
        Self { key: (transport, peer, None), unknown_source, queue, task: task.abort_handle() }
    }

    /// Opens a connection. Messages can be queued at once. `from` is the local address of the new connection.
    pub(super) fn open(
        mut link: Link,
        identity: Option<Identity>,
        from: Option<SocketAddr>,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> Self {
        let (queue, queued) = mpsc::channel(WRITE_QUEUE);
        let (transport, peer, pongs) = (link.transport, link.peer, queue.downgrade());
        let unknown_source = Arc::clone(&link.unknown_source);
        let task = tokio::spawn(async move {
            let opened = timeout(CONNECT_TIMEOUT, async {
                let stream = connect(peer, from).await.map_err(|error| (error.kind().into(), error))?;
                let _ = stream.set_nodelay(true);
                link.local = stream.local_addr().unwrap_or(peer);
                let Some((config, name)) = tls else { return Ok(Box::new(stream) as Box<dyn Octets>) };
                let host = name.to_str().into_owned();
                match TlsConnector::from(config).connect(name, stream).await {
                    Ok(stream) => Ok(Box::new(stream) as Box<dyn Octets>),
                    Err(error) => {
                        tracing::warn!(%peer, "TLS to {host} failed: {error}");
                        Err((TransportFault::of_handshake(&error), error))
                    }
                }
            });
            let timed_out = |_| Err((io::ErrorKind::TimedOut.into(), io::ErrorKind::TimedOut.into()));
            match opened.await.unwrap_or_else(timed_out) {
                Ok(stream) => serve(stream, &link, queued, pongs).await,
                Err((why, error)) => {
                    tracing::debug!(%peer, %error, "cannot connect");
                    link.close(why).await;
                }
            }
        });
        Self { key: (transport, peer, identity), unknown_source, queue, task: task.abort_handle() }
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
                // Most likely the process has no file descriptors left. The pause prevents a busy loop.
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

/// Does the handshakes of the transport. Each handshake has a time limit. After the handshakes, carries messages until
/// the connection ends.
async fn accept_stream(
    stream: Incoming,
    link: &mut Link,
    tls: &Tls,
    queued: mpsc::Receiver<Bytes>,
    pongs: mpsc::WeakSender<Bytes>,
) -> io::Result<()> {
    let time_limit = HANDSHAKE_TIMEOUT.min(link.idle());
    let stream: Box<dyn Octets> = match stream {
        Incoming::Upgraded { stream, from_page } => {
            link.from_page = from_page;
            websocket::serve(websocket::resumed(stream).await, link, queued).await;
            return Ok(());
        }
        Incoming::Fresh(stream) => {
            let _ = stream.set_nodelay(true);
            if link.transport.is_secure() {
                let config = tls.server().ok_or_else(|| io::Error::other("the server has no certificate"))?;
                let stream = timeout(time_limit, TlsAcceptor::from(config).accept(stream)).await??;
                let chain = tls::chain(&stream);
                link.certified_trunk = tls.trunk_of_certificate(link.peer.ip(), chain);
                if link.certified_trunk.is_some() {
                    let _ = link.events.send(StreamEvent::Certified(link.id)).await;
                } else if let Some(own) = chain.first() {
                    let fingerprint = tls::fingerprint_text(own);
                    tracing::info!(peer = %link.peer, fingerprint, "the client's certificate belongs to no trunk");
                }
                Box::new(stream)
            } else {
                Box::new(stream)
            }
        }
    };
    if matches!(link.transport, Transport::Ws | Transport::Wss) {
        let (socket, from_page) = timeout(time_limit, websocket::accept(stream)).await??;
        link.from_page = from_page;
        websocket::serve(socket, link, queued).await;
    } else {
        serve(stream, link, queued, pongs).await;
    }
    Ok(())
}

async fn serve(stream: Box<dyn Octets>, link: &Link, queued: mpsc::Receiver<Bytes>, pongs: mpsc::WeakSender<Bytes>) {
    let pings = Pings::every(link.keep_alive);
    let (read, write) = tokio::io::split(stream);
    let mut writing = pin!(writer(write, queued, &pings));
    let (reads, why) = tokio::select! {
        why = reader(read, link, &pongs, &pings) => (true, why),
        // The writer ended, because the far end does not accept octets.
        _ = &mut writing => (false, io::ErrorKind::BrokenPipe.into()),
    };
    link.close(why).await;
    if reads {
        // The writer sends the messages that the driver has queued, until the driver drops the queue.
        let _ = writing.await;
    }
}

/// The pings that the server sends on one connection, and the pongs of the far end (RFC 5626 §4.4.1).
struct Pings {
    every: Option<Duration>,
    /// Number of pings without a pong.
    owed: AtomicU32,
    /// Number of received pongs. A far end that does not support RFC 5626 sends no pongs.
    answers: AtomicU32,
}

impl Pings {
    fn every(every: Option<Duration>) -> Self {
        Self { every, owed: AtomicU32::new(0), answers: AtomicU32::new(0) }
    }

    /// Records a new ping. Returns `false` if the far end is dead. A far end is dead if it has answered earlier pings
    /// but not the last ping.
    fn send(&self) -> bool {
        let dead = self.owed.load(Ordering::Relaxed) > 0 && self.answers.load(Ordering::Relaxed) > 0;
        self.owed.store(1, Ordering::Relaxed);
        !dead
    }

    /// Returns whether a received CRLF is a pong that is expected.
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

async fn reader(
    mut read: impl AsyncRead + Unpin,
    link: &Link,
    pongs: &mpsc::WeakSender<Bytes>,
    pings: &Pings,
) -> TransportFault {
    let mut framer = Framer::default();
    // Deadline for the rest of an incomplete message.
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
            // The far end became known meanwhile, so a longer idle time applies.
            Err(_) if !framer.is_inside() && heard + link.idle() > deadline => continue,
            Ok(Err(error)) => return TransportFault::of_connection(&error),
            _ => return io::ErrorKind::ConnectionReset.into(),
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
                    return io::ErrorKind::ConnectionReset.into();
                }
            };
            whole_by = None;
            if !link.deliver(data).await {
                return io::ErrorKind::ConnectionReset.into();
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
        let unknown_source = Arc::default();
        Link {
            id,
            transport,
            peer,
            local: peer,
            certified_trunk: None,
            from_page: false,
            idle,
            unknown_source,
            keep_alive: None,
            events,
        }
    }

    /// Lets `write` send octets to a reader. Returns the number of messages that the reader found, and the number of
    /// seconds until the reader ended.
    async fn read_from<F: Future>(idle: u64, write: impl FnOnce(tokio::io::DuplexStream) -> F) -> (usize, u64) {
        let (ours, theirs) = tokio::io::duplex(64);
        let (events, mut found) = mpsc::channel(1_000);
        let (queue, _queued) = mpsc::channel::<Bytes>(1);
        let begun = Instant::now();
        let pongs = queue.downgrade();
        let (link, pings) = (link(idle, events), Pings::every(None));
        let reading = reader(theirs, &link, &pongs, &pings);
        tokio::select! { _ = reading => {} _ = write(ours) => panic!("it reads on") }
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
    async fn a_message_that_arrives_octet_by_octet_has_one_deadline() {
        assert_eq!(read_from(3_600, |stream| drip(stream, b"a: b\r\n")).await, (0, STALL_TIMEOUT.as_secs()));
        assert_eq!(read_from(5, |stream| drip(stream, b"a: b\r\n")).await, (0, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn every_message_has_its_own_deadline() {
        // Each write has the end of one message and the beginning of the next message. There are a hundred writes; the
        // last message never ends.
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
    async fn a_connection_closes_when_the_far_end_stops_answering_keep_alives() {
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
        tokio::join!(serve(Box::new(theirs), &link, queued, pongs), peer);
        assert_eq!(begun.elapsed().as_secs(), 150);
        assert!(matches!(
            found.recv().await,
            Some(StreamEvent::Closed { why: TransportFault::Io(io::ErrorKind::BrokenPipe), .. })
        ));
        drop(queue);
    }

    #[tokio::test]
    async fn a_message_after_a_refused_connection_fails_as_closed_and_not_as_full() {
        let (events, mut found) = mpsc::channel(8);
        let closed_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let link = Link { peer: closed_port, ..link(3_600, events) };
        let connection = Connection::open(link, None, None, None);
        let closed = found.recv().await;
        assert!(matches!(
            closed,
            Some(StreamEvent::Closed { why: TransportFault::Io(io::ErrorKind::ConnectionRefused), .. })
        ));
        connection.queue.closed().await;
        assert!(matches!(connection.send(Bytes::from_static(b"late")), Err(TrySendError::Closed(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn keep_alives_are_sent_to_a_far_end_that_never_answers_them() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let (events, _found) = mpsc::channel(8);
        let (queue, queued) = mpsc::channel(1);
        let pongs = queue.downgrade();
        let mut link = link(3_600, events);
        link.keep_alive = Some(Duration::from_secs(30));
        let begun = Instant::now();
        let mut pings = vec![0; 4 * 100];
        tokio::select! {
            () = serve(Box::new(theirs), &link, queued, pongs) => panic!("closed"),
            read = ours.read_exact(&mut pings) => assert!(read.is_ok()),
        }
        assert_eq!(begun.elapsed().as_secs(), 3_000);
        drop(queue);
    }
}
