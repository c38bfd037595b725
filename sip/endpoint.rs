//! The endpoint, which does no I/O. The inputs are datagrams, commands and time. The outputs are messages to transmit,
//! events and the next timeout.
//!
//! The hub, [`Endpoint`], owns one state machine for each subject. It routes each input to the machine of this subject:
//!
//! ```text
//!                       ┌─> Transactions   client and server transactions, timers, retransmissions
//!   datagram ─┐         ├─> Dialogs        legs: INVITE sessions and the requests in them
//!   command ──┼─ hub ───┼─> Trunks         registrations, probes, limits, health
//!   timeout ──┘         ├─> Phones         users, Digest authority, registrar
//!                       └─> Lookups        the targets of a URI (RFC 3263)
//! ```
//!
//! A machine owns its tables and does not change the tables of another machine. The machines work together in two ways:
//!
//! - Trunks and transactions return outputs or outcomes, and the hub executes them. Several other machines use trunks
//!   and transactions. Without outputs, a trunk or transaction would have to call the hub.
//! - Dialogs use other machines at many places while they handle one input. During this time, the dialogs have the
//!   other machines as a [`Context`] and call them directly. Queues between the machines would only delay these calls.
//!
//! All machines share a [`Core`]: settings, sockets, randomness, one timer queue and the outputs.
//!
//! After each `handle_*` call, call `poll_output` until it returns `None`. Then wait until the time that `poll_timeout`
//! returns.
//!
//! Requests that belong to no leg are refused statelessly (RFC 3261 §8.2.7), so a scanner costs no memory except a
//! place in the table of unanswered challenges, which has a limit. The To tag of such a refusal is derived from the
//! request, so that retransmissions get the same response.

mod calling;
mod command;
mod core;
mod delayed_offer;
mod dialogs;
mod edge;
mod in_dialog;
mod incoming;
mod leg_cx;
mod locate;
mod lost_flow;
mod offer;
mod offering;
mod origin;
mod orphans;
mod out_of_dialog;
mod phones;
mod reconfigure;
mod refer;
mod reliable;
mod requests;
mod resume;
mod retry;
mod routing;
mod session_timer;
mod state;
mod targets;
mod transactions;
mod trunks;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::core::Core;
use crate::compose::ResponseParts;
use crate::config::Config;
use crate::flow::{ConnectionId, Identity, Transport};
use crate::guard::{Guard, Offence};
use crate::keys::ServerId;
use crate::ladder::Ladder;
use crate::leg::Event;
#[cfg(any(test, feature = "fuzz"))]
use crate::leg::LegId;
use crate::message::{self, Message};
use crate::timer::Owner;
use crate::tls_fault::TransportFault;
use crate::transaction::ClientInput;
use crate::trunk_acl::TrunkName;
use dialogs::{Context, Dialogs};
pub use locate::LookupId;
use locate::Lookups;
pub(crate) use locate::MAX_LOOKUPS;
use orphans::Orphans;
use phones::Phones;
use transactions::Transactions;
pub use trunks::OutOfDialogRequest;
use trunks::Trunks;

/// A message that was received and framed.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The address of the sender.
    pub source: SocketAddr,
    /// The address of this server at which the message arrived.
    pub local: SocketAddr,
    /// The transport over which the message arrived.
    pub transport: Transport,
    /// The connection over which the message arrived, if the transport has connections.
    pub connection: Option<ConnectionId>,
    /// The trunk to which the certificate of the connection's far end belongs.
    pub certified_trunk: Option<TrunkName>,
    /// Whether a page in a browser has opened the connection, or `source` is only the statement of a web proxy. Any page
    /// can open a WebSocket, and any client can use the proxy. So the source address of such a message does not identify
    /// the sender.
    pub from_page: bool,
    /// The whole message as octets.
    pub data: Bytes,
}

/// The next action of the shell.
#[derive(Debug)]
pub enum Output {
    /// Send this message.
    Transmit {
        /// The destination address. It is used if `connection` is `None` or is closed.
        destination: SocketAddr,
        /// The local UDP socket from which the message is sent.
        local: Option<SocketAddr>,
        /// The transport of the message.
        transport: Transport,
        /// The connection on which the message is sent. It is used only if it is still open.
        connection: Option<ConnectionId>,
        /// The identity that the far end must prove if the shell opens a TLS connection for this message.
        identity: Option<Identity>,
        /// The whole message as octets.
        data: Bytes,
    },
    /// A phone has registered over this connection. From now on, the connection is not subject to the limits for
    /// unknown sources.
    Trust(ConnectionId),
    /// The trunk has opened this TLS connection. Requests from this server to the trunk's address may use the
    /// connection (RFC 5923).
    Alias {
        /// The connection that the trunk has opened.
        connection: ConnectionId,
        /// The address on which the trunk accepts connections.
        address: SocketAddr,
        /// The trunk to which the certificate of the connection's far end belongs.
        trunk: TrunkName,
    },
    /// Report this event to the application.
    Event(Event),
    /// Look up the targets of requests to `uri` (RFC 3263). The shell passes the result to
    /// [`Endpoint::handle_resolved`].
    Resolve {
        /// The key of the lookup. The result of the lookup must contain this key.
        lookup: LookupId,
        /// A SIP or SIPS URI.
        uri: String,
        /// The trunk to which the URI belongs, if there is one.
        trunk: Option<TrunkName>,
    },
}

/// The SIP endpoint: all transactions, dialogs and legs of one process.
///
/// [`Config::max_legs`] and [`Config::max_transactions`] limit the memory of the endpoint. Above these limits, new
/// requests get 503 and new commands end with [`EndCause::Overload`](crate::EndCause::Overload).
pub struct Endpoint {
    core: Core,
    transactions: Transactions,
    dialogs: Dialogs,
    trunks: Trunks,
    lookups: Lookups,
    orphans: Orphans,
    phones: Phones,
    /// Whether the shell is overloaded. If so, new INVITEs get 503.
    overloaded: bool,
}

impl Endpoint {
    /// Creates an endpoint with the addresses in `config.listen`. Entries that cannot be parsed are ignored here; the
    /// shell reports them. The seed determines all tags, branches and Call-IDs.
    #[must_use]
    pub fn new(config: Config, rng_seed: [u8; 32]) -> Self {
        let addresses: Vec<_> = config.listen.iter().filter_map(|listen| parse_listen(listen)).collect();
        let phones = Phones::new(&config, rng_seed);
        let mut endpoint = Self {
            core: Core::new(config, rng_seed),
            transactions: Transactions::default(),
            dialogs: Dialogs::default(),
            trunks: Trunks::default(),
            lookups: Lookups::default(),
            orphans: Orphans::default(),
            phones,
            overloaded: false,
        };
        endpoint.set_locals(&addresses);
        endpoint
    }

    /// Replaces the configured addresses by the addresses to which the sockets are actually bound.
    pub fn set_locals(&mut self, addresses: &[(Transport, SocketAddr)]) {
        self.core.set_locals(addresses);
        self.phones.set_own_addresses(&self.core);
    }

    /// Sets the wall-clock time. `unix_time` is the time since 1970 at `now`. The endpoint uses the time only for the keys
    /// of inbound legs. The shell should call this function again from time to time, because the wall clock may be set.
    pub fn set_wall_clock(&mut self, now: Instant, unix_time: Duration) {
        self.core.wall_clock = Some((now, unix_time));
    }

    /// Sets the guard. The endpoint reports two kinds of sources to the guard: sources that misbehave, and sources that
    /// have sent a correct password.
    pub fn set_guard(&mut self, guard: Arc<Guard>) {
        self.core.guard = Some(guard);
    }

    /// Sets whether the shell is overloaded. While the shell is overloaded, new INVITEs get 503.
    pub fn set_overloaded(&mut self, overloaded: bool) {
        self.overloaded = overloaded;
    }

    /// Sets the message log. The endpoint reports the Call-IDs of its legs to this log.
    pub fn set_ladder(&mut self, ladder: Arc<Ladder>) {
        self.dialogs.ladder = Some(ladder);
    }

    /// Returns whether there is a socket with this transport and address family.
    #[must_use]
    pub fn listens_on(&self, transport: Transport, ipv4: bool) -> bool {
        self.core.listens_on(transport, ipv4)
    }

    /// Returns the number of legs, including legs whose BYE has no response yet.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.dialogs.len()
    }

    /// Returns the keys of all legs, in no particular order.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn leg_keys(&self) -> impl Iterator<Item = LegId> {
        self.dialogs.by_key.keys().copied()
    }

    /// Returns the number of transactions, including transactions that only wait for retransmissions.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    #[cfg(test)]
    pub(crate) fn table_sizes(&self) -> [usize; 7] {
        let [branches, streams, servers, merged, completed] = self.transactions.table_sizes();
        [branches, streams, servers, merged, completed, self.dialogs.by_key.len(), self.dialogs.by_tag.len()]
    }

    /// Returns the number of requests that were refused with 503 since the start.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.core.counters.shed
    }

    /// Returns the number of messages that this server has sent again since the start. Only requests and 2xx responses
    /// to INVITEs are counted.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.core.counters.repeated
    }

    /// Returns the number of requests since the start that had a wrong password or named an unknown user.
    #[must_use]
    pub fn wrong_passwords(&self) -> u64 {
        self.core.counters.wrong_passwords
    }

    /// Returns the number of requests since the start whose source address is in no trunk's networks.
    #[must_use]
    pub fn unknown_source_requests(&self) -> u64 {
        self.core.counters.unknown_source_requests
    }

    /// Returns the number of messages since the start that could not be parsed.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.core.counters.malformed
    }

    /// Handles one framed message from the network. The message may be malformed in any way.
    pub fn handle_datagram(&mut self, now: Instant, mut arrival: Arrival) {
        // These are keep-alives (RFC 5626 §4.4.1), and the NULs that some phones send.
        if arrival.data.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return;
        }
        // RFC 3261 §7.5: empty lines before a message are ignored.
        let empty = arrival.data.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if empty > 0 {
            arrival.data = arrival.data.slice(empty..);
        }
        match message::parse(&arrival.data, arrival.source) {
            Ok(Message::Request(request)) => {
                self.core.handles_own_request = self.transactions.has_sent(&request, &arrival.data);
                self.handle_request(now, &arrival, request);
                self.core.handles_own_request = false;
            }
            Ok(Message::Response(response)) => self.handle_response(now, &arrival, &response),
            Err(malformed) => {
                self.core.record_offence(now, arrival.source.ip(), Offence::Malformed);
                self.core.refuse_malformed(&arrival, &malformed);
            }
        }
        self.skip_idle_timers();
    }

    /// Handles a broken connection to `peer`, or a failed attempt to connect to `peer`. Requests over this connection
    /// that have no response yet fail.
    pub fn handle_transport_error(
        &mut self,
        now: Instant,
        transport: Transport,
        peer: SocketAddr,
        why: impl Into<TransportFault>,
    ) {
        let why = why.into();
        if !transport.is_reliable() {
            return;
        }
        self.phones.lose_connection(&mut self.core, now, peer);
        if transport.is_websocket() {
            let (dialogs, mut cx) = self.dialogs(now);
            dialogs.lose_websocket(&mut cx, peer);
        }
        for id in self.transactions.unanswered_over(transport, peer) {
            let input = ClientInput::TransportError(why);
            let outcome = self.transactions.handle_client(&mut self.core, now, id, input, None);
            self.client_outcome(now, id, outcome, None);
        }
    }

    /// Handles an ICMP error about a datagram to `peer`. `quoted` is the beginning of this datagram, as the ICMP message
    /// quotes it. If the datagram is a request that has no response yet, the request fails (RFC 3261 §18.4). The branch
    /// in the quoted text proves that the ICMP message is authentic, because only the hosts on the path know the branch.
    /// An ICMP message without the branch is ignored.
    pub fn handle_icmp_error(&mut self, now: Instant, peer: SocketAddr, quoted: &[u8], why: ErrorKind) {
        let Some(id) = self.transactions.unanswered_in(peer, quoted) else { return };
        let outcome =
            self.transactions.handle_client(&mut self.core, now, id, ClientInput::TransportError(why.into()), None);
        self.client_outcome(now, id, outcome, None);
    }

    /// Fires all timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, owner)) = self.core.timers.pop_due(now) {
            match owner {
                Owner::Client(id) => {
                    let outcome = self.transactions.handle_client_timeout(&mut self.core, now, at, id);
                    self.client_outcome(now, id, outcome, None);
                }
                Owner::Server(id) => self.transactions.handle_server_timeout(&mut self.core, now, at, id),
                Owner::Leg(id) => {
                    let (dialogs, mut cx) = self.dialogs(now);
                    dialogs.handle_timeout(&mut cx, at, id);
                }
                Owner::Trunk(index) => {
                    self.trunks.handle_timeout(&mut self.core, now, at, index);
                    self.serve_trunks(now);
                }
            }
        }
        self.transactions.handle_timeout(now);
        self.phones_timeout(now);
    }

    /// Drops the next timers if their owners have nothing to do. Without this method, each of these timers would wake
    /// the shell. Most of them are retransmission timers whose response came in time.
    fn skip_idle_timers(&mut self) {
        while let Some((at, owner)) = self.core.timers.first() {
            let skipped = match owner {
                Owner::Client(id) => self.transactions.skip_client_timer(&mut self.core, at, id),
                Owner::Server(id) => self.transactions.skip_server_timer(&mut self.core, at, id),
                Owner::Leg(id) => self.dialogs.skip_timer(&mut self.core, at, id),
                Owner::Trunk(_) => return,
            };
            if !skipped {
                return;
            }
        }
    }

    /// Returns the next output for the shell, or `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.outputs.pop_front()
    }

    /// Returns the time for the next call of [`Endpoint::handle_timeout`]. The returned time may be too early. A call
    /// of `handle_timeout` at such a time does nothing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let completed = self.transactions.poll_timeout();
        [self.core.timers.next(), completed, self.phones.poll_timeout()].into_iter().flatten().min()
    }

    /// Returns whether a message is a response for which a client transaction waits. Only the beginning of the message
    /// is checked.
    #[must_use]
    pub fn awaits(&self, data: &[u8]) -> bool {
        self.transactions.awaits(data)
    }

    /// Responds through the server transaction. The transaction repeats the response for each retransmission of the
    /// request.
    fn respond(&mut self, now: Instant, server: ServerId, parts: ResponseParts<'_>) {
        let _ = self.transactions.respond(&mut self.core, now, server, parts);
    }

    /// Returns the dialogs, and a context that contains the other machines.
    fn dialogs(&mut self, now: Instant) -> (&mut Dialogs, Context<'_>) {
        let Self { core, transactions, dialogs, trunks, phones, .. } = self;
        (dialogs, Context { now, core, transactions, trunks, phones })
    }

    fn has_room(&self) -> bool {
        self.transactions.has_room(&self.core)
    }
}

/// Parses an entry of `sip.listen`, for example `udp://127.0.0.1:5060`.
#[must_use]
pub fn parse_listen(listen: &str) -> Option<(Transport, SocketAddr)> {
    let (scheme, address) = listen.split_once("://")?;
    Some((Transport::named(scheme)?, address.parse().ok()?))
}

#[cfg(test)]
pub(crate) mod tests;
