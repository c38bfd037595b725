//! Copies every message to a capture server (HEP version 3). SIP does not wait for the capture server. A copy that
//! cannot be sent is dropped and counted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::hep::{Agent, packet};
use crate::ladder::TracedMessage;

/// Maximum number of messages that may wait. Further messages are dropped.
const QUEUE: usize = 4_096;
/// Time between two attempts to connect, if the host name has no address or the server cannot be reached.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// The queue of messages for the capture task. The task ends when the last clone of the queue is dropped.
#[derive(Debug, Clone)]
pub(super) struct Capture {
    queue: mpsc::Sender<TracedMessage>,
    counts: Arc<Counts>,
}

/// Numbers of messages since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Capture {
    /// Starts the task that sends the copies to `target` (`HOST:PORT`).
    pub(super) fn start(target: String, agent: Agent, counts: Arc<Counts>) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        tokio::spawn(run(target, agent, messages, Arc::clone(&counts)));
        Self { queue, counts }
    }

    /// Queues a message for the capture server.
    pub(super) fn take(&self, message: TracedMessage) {
        if self.queue.try_send(message).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns the `HOST:PORT` of a URL `udp://HOST:PORT`. Returns `None` if the URL has another form, or if the port is 0.
pub(crate) fn target(url: &str) -> Option<String> {
    let place = url.strip_prefix("udp://")?;
    let (host, port) = place.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)).then(|| place.to_owned())
}

async fn run(target: String, agent: Agent, mut messages: mpsc::Receiver<TracedMessage>, counts: Arc<Counts>) {
    let mut socket: Option<UdpSocket> = None;
    let mut retry = Instant::now();
    while let Some(message) = messages.recv().await {
        if socket.is_none() && Instant::now() >= retry {
            socket = connect(&target)
                .await
                .inspect_err(
                    |error| tracing::warn!(%error, "sip.hep: cannot reach udp://{target}: next attempt in 30 s"),
                )
                .ok();
            retry = Instant::now() + RETRY_PAUSE;
        }
        let at = wall_clock().saturating_sub(Instant::now().into_std().saturating_duration_since(message.at));
        let sent = match &socket {
            Some(socket) => {
                let packet = packet(&agent, &message, at);
                // If the previous packet could not be delivered, the first send returns this error and sends nothing.
                // So the packet is sent a second time.
                socket.send(&packet).await.is_ok() || socket.send(&packet).await.is_ok()
            }
            None => false,
        };
        let counter = if sent { &counts.sent } else { &counts.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn connect(target: &str) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host(target).await? {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[expect(clippy::disallowed_methods, reason = "the shell provides the wall-clock time")]
pub(super) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_server_is_a_host_and_a_port() {
        assert_eq!(target("udp://127.0.0.1:9060").as_deref(), Some("127.0.0.1:9060"));
        assert_eq!(target("udp://[::1]:9060").as_deref(), Some("[::1]:9060"));
        for wrong in ["127.0.0.1:9060", "tcp://127.0.0.1:9060", "udp://127.0.0.1", "udp://:9060", "udp://homer:0"] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
    }
}
