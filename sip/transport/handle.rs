//! The handle to the driver, and what it tells of itself.

use super::capture::{self};
use super::stream::{Accepted, Incoming, Octets, StreamEvent};
use super::tls::{BadFile, Tls};
use crate::config::Config;
use crate::guard::Guard;
use crate::ladder::Ladder;
use crate::leg::{Command, Transport, TrunkName};
use crate::peer::PeerStatus;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, watch};

/// The driver's command queue is full, or the driver is gone: the caller should shed load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the SIP command queue is full")]
pub struct Busy;

/// Counters since the start, and the present size of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages received.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages not sent because the kernel or a stream peer did not take them.
    pub dropped: u64,
    /// Requests refused with 503.
    pub shed: u64,
    /// Requests from addresses that are in no trunk's networks.
    pub strangers: u64,
    /// Messages that could not be understood.
    pub malformed: u64,
    /// The driver is late: new INVITEs get 503.
    pub overloaded: bool,
    /// Messages that the capture server was told of.
    pub captured: u64,
    /// Messages that it could not be told of.
    pub uncaptured: u64,
    /// Legs now.
    pub legs: usize,
    /// Transactions now.
    pub transactions: usize,
    /// Stream connections now.
    pub connections: usize,
    /// Contacts of phones that are registered now.
    pub bindings: usize,
    /// Requests, and answers to INVITEs, that were sent again as nothing came back.
    pub repeated: u64,
    /// Requests with a wrong password, or for a user that there is not.
    pub wrong_passwords: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(super) strangers: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) overloaded: AtomicBool,
    pub(super) legs: AtomicUsize,
    pub(super) transactions: AtomicUsize,
    pub(super) connections: AtomicUsize,
    pub(super) bindings: AtomicUsize,
    pub(super) repeated: AtomicU64,
    pub(super) wrong_passwords: AtomicU64,
}

/// How the application talks to the driver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) websockets: mpsc::Sender<StreamEvent>,
    pub(super) websocket: Option<SocketAddr>,
    pub(super) addresses: Arc<[(Transport, SocketAddr)]>,
    pub(super) counters: Arc<Counters>,
    pub(super) told: Arc<capture::Counts>,
    pub(super) ladder: Option<Arc<Ladder>>,
    pub(super) guard: Arc<Guard>,
    pub(super) peers: Arc<Peers>,
    pub(super) tls: Arc<Tls>,
    pub(super) reloads: mpsc::Sender<Box<Config>>,
    pub(super) stop: Arc<watch::Sender<bool>>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Handle {
    /// Queues a command; never waits.
    ///
    /// # Errors
    /// [`Busy`] if the queue is full or the driver has stopped.
    pub fn send(&self, command: Command) -> Result<(), Busy> {
        self.commands.try_send(command).map_err(|_| Busy)
    }

    /// Queues a command that must not be lost: when the queue is full, a task waits for room. Must be called on a tokio
    /// runtime. A driver that has stopped takes nothing.
    pub fn post(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command) {
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.send(command).await });
        }
    }

    /// Takes over a WebSocket connection that somebody else's listener accepted, at [`Config::websocket`], and on which hands
    /// were shaken for the subprotocol `sip` (RFC 7118). What may be held of us holds for it too.
    pub async fn adopt_websocket(&self, stream: impl Octets + 'static, peer: SocketAddr) {
        let (stream, local) = (Incoming::Upgraded(Box::new(stream)), self.websocket.unwrap_or(peer));
        let accepted = Accepted { stream, transport: Transport::Ws, peer, local };
        let _ = self.websockets.send(StreamEvent::Accepted(accepted)).await;
    }

    /// The addresses bound, in the order of `sip.listen`.
    #[must_use]
    pub fn local_addrs(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// The messages of live and recent calls; `None` when [`Config::trace_mib`] is 0.
    #[must_use]
    pub fn ladder(&self) -> Option<&Arc<Ladder>> {
        self.ladder.as_ref()
    }

    /// Who is banned, and why.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Counters and table sizes.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let counters = &self.counters;
        Statistics {
            received: counters.received.load(Ordering::Relaxed),
            sent: counters.sent.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
            shed: counters.shed.load(Ordering::Relaxed),
            strangers: counters.strangers.load(Ordering::Relaxed),
            malformed: counters.malformed.load(Ordering::Relaxed),
            overloaded: counters.overloaded.load(Ordering::Relaxed),
            captured: self.told.sent.load(Ordering::Relaxed),
            uncaptured: self.told.dropped.load(Ordering::Relaxed),
            legs: counters.legs.load(Ordering::Relaxed),
            transactions: counters.transactions.load(Ordering::Relaxed),
            connections: counters.connections.load(Ordering::Relaxed),
            bindings: counters.bindings.load(Ordering::Relaxed),
            repeated: counters.repeated.load(Ordering::Relaxed),
            wrong_passwords: counters.wrong_passwords.load(Ordering::Relaxed),
        }
    }

    /// How a trunk of [`Config::peers`] stands; as one that nothing is known of if there is none of that name.
    #[must_use]
    pub fn peer(&self, trunk: &str) -> PeerStatus {
        let peers = self.peers.read();
        peers.iter().flatten().find(|(name, _)| &**name == trunk).map(|(_, status)| *status).unwrap_or_default()
    }

    /// How every trunk of [`Config::peers`] stands.
    #[must_use]
    pub fn peers(&self) -> Vec<(TrunkName, PeerStatus)> {
        self.peers.read().iter().flatten().cloned().collect()
    }

    /// Takes other settings while calls go on ([`crate::Endpoint::reconfigure`]). Sockets, `advertise`, `nameservers`,
    /// `trace_mib` and `hep` stay as they were.
    ///
    /// # Errors
    /// A file of TLS's that is not as it should be: then nothing has changed.
    pub async fn reload(&self, config: Config) -> Result<(), BadFile> {
        self.tls.reconfigure(&config)?;
        self.guard.reconfigure(config.bans.clone(), config.trunks.clone());
        // A driver that has stopped needs no settings.
        let _ = self.reloads.send(Box::new(config)).await;
        Ok(())
    }

    /// Stops the driver: commands already queued are carried out and their messages sent, registrations are withdrawn, which
    /// may take two seconds, then the sockets close. Live legs get no events any more; hang them up before.
    pub async fn shutdown(&self) {
        let _ = self.stop.send(true);
        let mut stopped = self.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// How the trunks stand, as the driver last heard: each at the place that the endpoint has it at, if it is configured still.
#[derive(Debug, Default)]
pub(super) struct Peers(pub(super) RwLock<Vec<Option<(TrunkName, PeerStatus)>>>);

impl Peers {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Vec<Option<(TrunkName, PeerStatus)>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, index: usize, status: PeerStatus) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some((_, place))) = places.get_mut(index) {
            *place = status;
        }
    }

    pub(super) fn replace(&self, all: Vec<Option<(TrunkName, PeerStatus)>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}
