//! The application's handle to the driver, and the driver's statistics.

use super::capture::{self};
use super::stream::{Accepted, Incoming, Octets, StreamEvent};
use super::tls::{BadFile, OwnCertificate, Tls};
use crate::config::Config;
use crate::dialog_state::{DialogState, ResumeError};
use crate::digest::Credentials;
use crate::endpoint::Endpoint;
use crate::flow::Transport;
use crate::guard::Guard;
use crate::ladder::Ladder;
use crate::leg::{Command, LegId};
use crate::trunk::TrunkStatus;
use crate::trunk_acl::TrunkName;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tandem_id::{AccountName, Now};
use tokio::sync::{mpsc, oneshot, watch};

/// The error for a command that the driver did not accept. The command queue is full, or the driver has stopped. The
/// caller should shed load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the SIP command queue is full")]
pub struct Busy;

/// Counters since the start, and the current sizes of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Number of received messages.
    pub received: u64,
    /// Number of sent messages.
    pub sent: u64,
    /// Number of messages that could not be sent, because the kernel or the far end of a stream did not accept them.
    pub dropped: u64,
    /// Number of requests that were refused with 503.
    pub shed: u64,
    /// Number of requests from addresses that are in no trunk's networks.
    pub unknown_source_requests: u64,
    /// Number of messages that could not be parsed.
    pub malformed: u64,
    /// Whether the driver is overloaded (late). If so, new INVITEs get 503.
    pub overloaded: bool,
    /// Number of messages that were copied to the capture server.
    pub captured: u64,
    /// Number of messages that could not be copied to the capture server.
    pub uncaptured: u64,
    /// Current number of legs.
    pub legs: usize,
    /// Current number of transactions.
    pub transactions: usize,
    /// Current number of stream connections.
    pub connections: usize,
    /// Current number of registered Contacts of phones.
    pub bindings: usize,
    /// Number of retransmitted requests and of retransmitted responses to INVITEs.
    pub repeated: u64,
    /// Number of requests with a wrong password or an unknown user.
    pub wrong_passwords: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(super) unknown_source_requests: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) overloaded: AtomicBool,
    pub(super) legs: AtomicUsize,
    pub(super) transactions: AtomicUsize,
    pub(super) connections: AtomicUsize,
    pub(super) bindings: AtomicUsize,
    pub(super) repeated: AtomicU64,
    pub(super) wrong_passwords: AtomicU64,
}

/// The application's handle to the driver. A clone is cheap.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) websockets: mpsc::Sender<StreamEvent>,
    pub(super) websocket: Option<SocketAddr>,
    pub(super) addresses: Arc<[(Transport, SocketAddr)]>,
    pub(super) node_addresses: Arc<[SocketAddr]>,
    pub(super) counters: Arc<Counters>,
    pub(super) capture_counts: Arc<capture::Counts>,
    pub(super) ladder: Option<Arc<Ladder>>,
    pub(super) guard: Arc<Guard>,
    pub(super) trunk_statuses: Arc<TrunkStatuses>,
    pub(super) tls: Arc<Tls>,
    pub(super) reloads: mpsc::Sender<Box<Config>>,
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) stop: Arc<watch::Sender<bool>>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Handle {
    /// Queues a command without waiting.
    ///
    /// # Errors
    /// [`Busy`] if the queue is full or the driver has stopped.
    pub fn send(&self, command: Command) -> Result<(), Busy> {
        self.commands.try_send(command).map_err(|_| Busy)
    }

    /// Queues a command that must not be lost. If the queue is full, a new task waits for room. Call this method only
    /// in a tokio runtime. A driver that has stopped ignores the command.
    pub fn post(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command) {
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.send(command).await });
        }
    }

    /// Passes a WebSocket connection to the driver. Another listener, at [`Config::websocket`], has accepted the
    /// connection and completed the handshake for the subprotocol `sip` (RFC 7118). The limits for connections apply to
    /// this connection too. `peer` is the client, also if a proxy has opened the connection: limits and bans apply to
    /// this address. `from_page` says whether the handshake had an `Origin`, which every page in a browser sends, or
    /// whether only a proxy states the address: the source address of such a connection identifies no trunk.
    pub async fn adopt_websocket(&self, stream: impl Octets + 'static, peer: SocketAddr, from_page: bool) {
        let (stream, local) =
            (Incoming::Upgraded { stream: Box::new(stream), from_page }, self.websocket.unwrap_or(peer));
        let accepted = Accepted { stream, transport: Transport::Ws, peer, local };
        let _ = self.websockets.send(StreamEvent::Accepted(accepted)).await;
    }

    /// Returns the bound addresses, in the order of `sip.listen`.
    #[must_use]
    pub fn local_addrs(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// Returns the addresses under which the other nodes of a cluster must know this server ([`Command::Nodes`]): the bound
    /// and the advertised addresses of its UDP and TCP sockets. An address from which this server sends and that stands in
    /// neither, behind a wildcard address, is not in the list.
    #[must_use]
    pub fn node_addresses(&self) -> &[SocketAddr] {
        &self.node_addresses
    }

    /// Returns the ladder, which contains the messages of live and recent calls. Returns `None` if
    /// [`Config::trace_mib`] is 0.
    #[must_use]
    pub fn ladder(&self) -> Option<&Arc<Ladder>> {
        self.ladder.as_ref()
    }

    /// Returns the guard, which has the bans and their reasons.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Returns the certificates that this server shows in TLS handshakes.
    #[must_use]
    pub fn own_certificates(&self) -> Vec<OwnCertificate> {
        self.tls.own_certificates()
    }

    /// Returns the counters and the table sizes.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let counters = &self.counters;
        Statistics {
            received: counters.received.load(Ordering::Relaxed),
            sent: counters.sent.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
            shed: counters.shed.load(Ordering::Relaxed),
            unknown_source_requests: counters.unknown_source_requests.load(Ordering::Relaxed),
            malformed: counters.malformed.load(Ordering::Relaxed),
            overloaded: counters.overloaded.load(Ordering::Relaxed),
            captured: self.capture_counts.sent.load(Ordering::Relaxed),
            uncaptured: self.capture_counts.dropped.load(Ordering::Relaxed),
            legs: counters.legs.load(Ordering::Relaxed),
            transactions: counters.transactions.load(Ordering::Relaxed),
            connections: counters.connections.load(Ordering::Relaxed),
            bindings: counters.bindings.load(Ordering::Relaxed),
            repeated: counters.repeated.load(Ordering::Relaxed),
            wrong_passwords: counters.wrong_passwords.load(Ordering::Relaxed),
        }
    }

    /// Returns the status of a trunk in [`Config::trunk_settings`]. If there is no trunk with this name, returns the default
    /// status, in which nothing is known.
    #[must_use]
    pub fn trunk_status(&self, trunk: &str) -> TrunkStatus {
        let trunk_statuses = self.trunk_statuses.read();
        trunk_statuses
            .iter()
            .flatten()
            .find(|(name, _)| &**name == trunk)
            .map(|(_, status)| *status)
            .unwrap_or_default()
    }

    /// Returns the status of every trunk in [`Config::trunk_settings`].
    #[must_use]
    pub fn trunk_statuses(&self) -> Vec<(TrunkName, TrunkStatus)> {
        self.trunk_statuses.read().iter().flatten().cloned().collect()
    }

    /// Returns the reason why these accounts may not call a SIP URI ([`crate::Endpoint::refusal_of`]). Returns `None` if
    /// the driver has stopped.
    pub async fn refusal_of(&self, accounts: &[AccountName], uri: &str) -> Option<String> {
        let (answer, answered) = oneshot::channel();
        let question = Question::RefusalOf { accounts: accounts.to_vec(), uri: uri.to_owned(), answer };
        self.questions.send(question).await.ok()?;
        answered.await.ok()?
    }

    /// Returns all that a leg knows ([`crate::Endpoint::dialog_state`]). Returns `None` if there is no such leg, or if the
    /// driver has stopped.
    pub async fn dialog_state(&self, now: Now, leg: LegId) -> Option<DialogState> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question::DialogState { now, leg, answer }).await.ok()?;
        answered.await.ok().flatten().map(|state| *state)
    }

    /// Continues a dialog of another endpoint ([`crate::Endpoint::resume`]). Returns `None` if the driver has stopped.
    pub async fn resume(
        &self,
        now: Now,
        leg: LegId,
        state: DialogState,
        credentials: Option<Credentials>,
    ) -> Option<Result<(), ResumeError>> {
        let (answer, answered) = oneshot::channel();
        let (state, credentials) = (Box::new(state), credentials.map(Box::new));
        self.questions.send(Question::Resume { now, leg, state, credentials, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Changes the settings while calls continue ([`crate::Endpoint::reconfigure`]). Sockets, `advertise`,
    /// `nameservers`, `trace_mib` and `hep` do not change.
    ///
    /// # Errors
    /// [`BadFile`] if a TLS file is invalid. In this case no setting changes.
    pub async fn reload(&self, config: Config) -> Result<(), BadFile> {
        self.tls.reconfigure(&config)?;
        self.guard.reconfigure(config.bans.clone(), config.trunks.clone());
        // The send fails if the driver has stopped. A stopped driver needs no settings.
        let _ = self.reloads.send(Box::new(config)).await;
        Ok(())
    }

    /// Stops the driver. The driver executes the queued commands, removes its registrations at trunks, and closes the
    /// sockets. This may take 2 s. Live legs get no more events, so the application must hang up all legs before the
    /// shutdown.
    pub async fn shutdown(&self) {
        let _ = self.stop.send(true);
        let mut stopped = self.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// A question to the endpoint. The application that asks may have gone before the answer.
#[derive(Debug)]
pub(super) enum Question {
    /// Whether accounts may call a SIP URI. The answer is the reason against the call, or `None`.
    RefusalOf { accounts: Vec<AccountName>, uri: String, answer: oneshot::Sender<Option<String>> },
    /// All that a leg knows.
    DialogState { now: Now, leg: LegId, answer: oneshot::Sender<Option<Box<DialogState>>> },
    /// Whether a leg of another endpoint continues in this endpoint.
    Resume {
        now: Now,
        leg: LegId,
        state: Box<DialogState>,
        credentials: Option<Box<Credentials>>,
        answer: oneshot::Sender<Result<(), ResumeError>>,
    },
}

impl Question {
    pub(super) fn answer(self, endpoint: &mut Endpoint) {
        match self {
            Self::RefusalOf { accounts, uri, answer } => {
                let _ = answer.send(endpoint.refusal_of(&accounts, &uri));
            }
            Self::DialogState { now, leg, answer } => {
                let _ = answer.send(endpoint.dialog_state(now, leg).map(Box::new));
            }
            Self::Resume { now, leg, state, credentials, answer } => {
                let _ = answer.send(endpoint.resume(now, leg, *state, credentials.map(|own| *own)));
            }
        }
    }
}

/// The latest status of each trunk. The index is the trunk's index in the endpoint. The entry is `None` for a trunk
/// that is no longer configured.
#[derive(Debug, Default)]
pub(super) struct TrunkStatuses(pub(super) RwLock<Vec<Option<(TrunkName, TrunkStatus)>>>);

impl TrunkStatuses {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Vec<Option<(TrunkName, TrunkStatus)>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, index: usize, status: TrunkStatus) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some((_, place))) = places.get_mut(index) {
            *place = status;
        }
    }

    pub(super) fn replace(&self, all: Vec<Option<(TrunkName, TrunkStatus)>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}
