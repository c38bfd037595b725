//! The HTTP listener. It limits the resources of a client that has not authenticated yet.
//!
//! ```text
//!  accept ──► room? (all, per source) ──► head (HEAD) ──► handler ◄── body (BODY) ──► response (free while it moves)
//!     ▲         no: closed at once           ▲                                              │
//!     └─ waits while all places are taken    └──────────── kept alive (HEAD) ◄──────────────┘
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use futures_util::stream::{self, StreamExt};
use http::header;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

/// Maximum time for the head of a request. Also the maximum time between two requests on one connection.
const HEAD: Duration = Duration::from_secs(15);
/// Maximum time for the body of a request.
const BODY: Duration = Duration::from_secs(30);
/// Maximum size of a request's head, in octets.
const MAX_HEAD: usize = 64 * 1024;
/// Maximum number of octets that the listener reads from a body that the handler has not read. If a connection is
/// closed with unread octets, TCP resets the connection, and the client may lose the response.
const MAX_UNWANTED: usize = 256 * 1024;
/// Maximum time during which a client acknowledges no sent data (TCP user timeout). A slow client that acknowledges
/// some data stays connected.
const STALL: Duration = Duration::from_secs(60);
/// Pause after a failed `accept`. The most likely reason is a lack of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Serves `router` on at most `max_connections` connections until `stop`. At most half of the connections may come from one
/// source. A WebSocket counts as a connection until it is closed, unless its handler gives the `HeldSlot` back. Requests that
/// started before `stop` are still answered.
pub async fn serve(listener: TcpListener, router: Router, max_connections: usize, stop: impl Future<Output = ()>) {
    let places = ConnectionSlots::new(max_connections);
    let router = router.layer(middleware::from_fn(bounded_body));
    let connections = TaskTracker::new();
    let (end, ending) = watch::channel(false);
    let accept = async {
        loop {
            let Some(permit) = places.free().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "HTTP: cannot accept");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let Some(place) = places.take(permit, peer.ip()) else {
                tracing::debug!(%peer, "HTTP: too many connections from this source");
                continue;
            };
            let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, STALL.as_millis() as u32);
            let _ = stream.set_nodelay(true);
            let (router, ending) = (router.clone(), ending.clone());
            let slot = HeldSlot::from(place);
            connections.spawn(connection(Counted { stream, slot: slot.clone() }, peer, slot, router, ending));
        }
    };
    tokio::select! { () = accept => {} () = stop => {} }
    drop(listener);
    let _ = end.send(true);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    slot: HeldSlot,
    router: Router,
    mut ending: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(slot.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let early = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = ending.wait_for(|end| *end) => None,
    };
    let ended = match early {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection");
    }
}

/// Limits the time for the body of a request. If the handler has not read the whole body, this function reads the rest,
/// because the handler may have refused the request after the head.
async fn bounded_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let deadline = Instant::now() + BODY;
    // A client that waits for "100 Continue" sends no body before it receives this response.
    let sends_anyway = !parts.headers.contains_key(header::EXPECT);
    let octets = Arc::new(tokio::sync::Mutex::new(body.into_data_stream()));
    let body = stream::unfold(Arc::clone(&octets), move |octets| async move {
        let next = timeout_at(deadline, async { octets.lock().await.next().await }).await;
        let next: Result<Bytes, Box<dyn Error + Send + Sync>> = match next {
            Ok(next) => next?.map_err(Into::into),
            Err(late) => Err(late.into()),
        };
        Some((next, octets))
    });
    let response = next.run(Request::from_parts(parts, Body::from_stream(body))).await;
    if sends_anyway {
        let _ = timeout_at(deadline, async {
            let mut room = MAX_UNWANTED;
            while let Some(Ok(unwanted)) = octets.lock().await.next().await {
                let Some(rest) = room.checked_sub(unwanted.len()) else { break };
                room = rest;
            }
        })
        .await;
    }
    response
}

/// The number of connections in total, and the number of connections of each source. There are never more sources than
/// connections.
struct ConnectionSlots {
    all: Arc<Semaphore>,
    per_source: usize,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The slot of one connection. The slot becomes free when this value is dropped.
struct ConnectionSlot {
    source: IpAddr,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

/// The slot of a connection, as the extension of each request on the connection.
#[derive(Clone, Default)]
pub(crate) struct HeldSlot(Arc<Mutex<Option<ConnectionSlot>>>);

impl HeldSlot {
    /// Frees the slot before the connection ends, because another limit counts the connection from now on.
    pub(crate) fn give_back(&self) {
        drop(self.0.lock().take());
    }
}

impl From<ConnectionSlot> for HeldSlot {
    fn from(slot: ConnectionSlot) -> Self {
        Self(Arc::new(Mutex::new(Some(slot))))
    }
}

/// A connection that keeps its slot for as long as it exists. After an upgrade, the WebSocket owns the connection.
struct Counted<S> {
    stream: S,
    slot: HeldSlot,
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.slot.give_back();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl ConnectionSlots {
    fn new(max_connections: usize) -> Self {
        let all = Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        Self { all, per_source: max_connections.div_ceil(2).max(1), sources: Arc::default() }
    }

    /// Waits until a slot is free.
    async fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all).acquire_owned().await.ok()
    }

    /// Takes a slot for this source. Returns `None` if the source already has its maximum number of slots.
    fn take(&self, permit: OwnedSemaphorePermit, source: IpAddr) -> Option<ConnectionSlot> {
        let source = network(source);
        let mut sources = self.sources.lock();
        let taken = sources.entry(source).or_default();
        if *taken >= self.per_source {
            return None;
        }
        *taken += 1;
        Some(ConnectionSlot { source, sources: Arc::clone(&self.sources), _permit: permit })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut sources = self.sources.lock();
        if let Some(taken) = sources.get_mut(&self.source) {
            *taken -= 1;
            if *taken == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// Returns the network that counts as one source: an IPv4 address, or the /64 network of an IPv6 address.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        ipv4 => ipv4,
    }
}

#[cfg(test)]
mod tests;
