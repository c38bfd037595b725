//! The endpoint. It does no I/O: its inputs are datagrams, commands and time; its outputs are messages to transmit,
//! events and the next timeout.
//!
//! The hub, [`Endpoint`], owns one state machine for each subject and routes each input to the right machine:
//!
//! ```text
//!                       ┌─> Transactions   client and server transactions, timers, retransmissions
//!   datagram ─┐         ├─> Dialogs        legs: INVITE sessions and the requests in them
//!   command ──┼─ hub ───┼─> Trunks         registrations, probes, limits, health
//!   timeout ──┘         ├─> Phones         users, Digest authority, registrar
//!                       ├─> Forks          one call to several phones
//!                       └─> Lookups        the targets of a URI (RFC 3263)
//! ```
//!
//! A machine owns its tables and does not change the tables of another machine. The machines work together in two ways:
//!
//! - Trunks, forks and transactions report outputs or outcomes, and the hub carries them out. Several other machines
//!   use these three, or they would have to call the hub.
//! - Dialogs use the machines below them at many places within one input. They get these machines as a [`Context`] for
//!   the duration of that input. Queues between them would only delay the same calls.
//!
//! All machines share a [`Core`]: settings, sockets, randomness, one timer queue and the outputs.
//!
//! Call `poll_output` until it returns `None` after each `handle_*`, then wait until `poll_timeout`.
//!
//! Refusals of requests that belong to no leg are stateless (RFC 3261 §8.2.7), so a scanner costs no memory. Their To
//! tag is derived from the request, so that retransmissions get the same response.

mod calling;
mod command;
mod core;
mod delayed_offer;
mod dialogs;
mod fork;
mod in_dialog;
mod incoming;
mod locate;
mod offering;
mod origin;
mod out_of_dialog;
mod phones;
mod reconfigure;
mod refer;
mod reliable;
mod requests;
mod retry;
mod routing;
mod session_timer;
mod state;
mod transactions;
mod trunks;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::core::Core;
use crate::compose::ResponseParts;
use crate::config::Config;
use crate::guard::{Guard, Offence};
use crate::keys::ServerId;
use crate::ladder::Ladder;
use crate::leg::{Event, LegKey, Transport, TrunkName};
use crate::message::{self, Message};
use crate::timer::Owner;
use crate::transaction::ClientInput;
use dialogs::{Context, Dialogs};
pub use locate::LookupId;
use locate::Lookups;
pub(crate) use locate::MAX_LOOKUPS;
use phones::Phones;
use transactions::Transactions;
use trunks::Trunks;
pub use trunks::{OutOfDialogRequest, Target};

/// A connection of a stream transport. The shell numbers its connections and never reuses a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The identity that a TLS server must prove (RFC 5922), and the client certificate that this server shows to it. The
/// shell assigns the number. A connection is used only for the identity that it was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u32);

/// One received and framed message.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The sender's address.
    pub source: SocketAddr,
    /// The server's address that received the message.
    pub local: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// The connection, if the transport has any.
    pub connection: Option<ConnectionId>,
    /// The trunk whose certificate the far end of the connection has presented.
    pub proven: Option<TrunkName>,
    /// The whole message.
    pub data: Bytes,
}

/// What the shell must do next.
#[derive(Debug)]
pub enum Output {
    /// Send this message.
    Transmit {
        /// The address to send to, if `connection` is `None` or is closed.
        destination: SocketAddr,
        /// The local UDP socket to send from.
        local: Option<SocketAddr>,
        /// The transport.
        transport: Transport,
        /// The connection to use if it is still open.
        connection: Option<ConnectionId>,
        /// The identity that the server must prove, if a TLS connection has to be opened.
        identity: Option<Identity>,
        /// The whole message.
        data: Bytes,
    },
    /// A phone has registered over this connection, so the limits for unknown sources no longer apply to the
    /// connection.
    Trust(ConnectionId),
    /// Requests to the trunk at this address over TLS may use this connection, which the trunk has opened (RFC 5923).
    Alias {
        /// The connection to use.
        connection: ConnectionId,
        /// The address at which the trunk listens.
        address: SocketAddr,
        /// The trunk that the certificate of the connection's far end names.
        trunk: TrunkName,
    },
    /// Report this event to the application.
    Event(Event),
    /// Look up the targets of requests to `uri` (RFC 3263), and answer with [`Endpoint::handle_resolved`].
    Resolve {
        /// The key to answer with.
        lookup: LookupId,
        /// A SIP or SIPS URI.
        uri: String,
        /// The trunk that the URI belongs to, if any.
        trunk: Option<TrunkName>,
    },
}

/// The SIP endpoint: all transactions, dialogs and legs of one process.
///
/// [`Config::max_legs`] and [`Config::max_transactions`] bound its memory. Beyond them, new requests get 503 and new
/// commands end with [`EndCause::Overload`](crate::EndCause::Overload).
pub struct Endpoint {
    core: Core,
    transactions: Transactions,
    dialogs: Dialogs,
    trunks: Trunks,
    lookups: Lookups,
    phones: Phones,
    forks: fork::Forks,
    /// Whether the shell is overloaded. Then new INVITEs get 503.
    overloaded: bool,
}

impl Endpoint {
    /// Creates an endpoint on the addresses of `config.listen`. It ignores entries that cannot be parsed; the shell
    /// reports them. All tags, branches and Call-IDs are generated from the seed.
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
            phones,
            forks: fork::Forks::default(),
            overloaded: false,
        };
        endpoint.set_locals(&addresses);
        endpoint
    }

    /// Replaces the configured addresses by the addresses that the sockets are really bound to.
    pub fn set_locals(&mut self, addresses: &[(Transport, SocketAddr)]) {
        self.core.set_locals(addresses);
        self.phones.set_own_addresses(&self.core);
    }

    /// Sets the guard. The endpoint reports to it the sources that misbehave and the sources that have sent a correct
    /// password.
    pub fn set_guard(&mut self, guard: Arc<Guard>) {
        self.core.guard = Some(guard);
    }

    /// Sets whether new INVITEs get 503 because the shell is overloaded.
    pub fn set_overloaded(&mut self, overloaded: bool) {
        self.overloaded = overloaded;
    }

    /// Sets the message log. The endpoint reports to it the Call-IDs that belong to legs.
    pub fn set_ladder(&mut self, ladder: Arc<Ladder>) {
        self.dialogs.ladder = Some(ladder);
    }

    /// Whether there is a socket with this transport and address family.
    #[must_use]
    pub fn listens_on(&self, transport: Transport, ipv4: bool) -> bool {
        self.core.listens_on(transport, ipv4)
    }

    /// The number of legs, including those whose BYE has no response yet.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.dialogs.len()
    }

    /// The keys of all legs, in no particular order.
    pub fn leg_keys(&self) -> impl Iterator<Item = LegKey> {
        self.dialogs.by_key.keys().copied()
    }

    /// The number of transactions, including those that only wait for retransmissions.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    #[cfg(test)]
    pub(crate) fn table_sizes(&self) -> [usize; 7] {
        let [branches, streams, servers, merged, completed] = self.transactions.table_sizes();
        [branches, streams, servers, merged, completed, self.dialogs.by_key.len(), self.dialogs.by_tag.len()]
    }

    /// Count of requests refused with 503 since the start.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.core.counters.shed
    }

    /// Count of retransmissions since the start: of requests by this server, and of its 2xx responses to INVITEs.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.core.counters.repeated
    }

    /// Count of requests with a wrong password or an unknown user since the start.
    #[must_use]
    pub fn wrong_passwords(&self) -> u64 {
        self.core.counters.wrong_passwords
    }

    /// Count of requests from addresses in no trunk's networks since the start.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.core.counters.strangers
    }

    /// Count of messages that could not be parsed since the start.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.core.counters.malformed
    }

    /// Handles one framed message from the network, however malformed it is.
    pub fn handle_datagram(&mut self, now: Instant, mut arrival: Arrival) {
        // Keep-alives (RFC 5626 §4.4.1, and the NULs that some phones send).
        if arrival.data.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return;
        }
        // RFC 3261 §7.5: empty lines before a message are ignored.
        let empty = arrival.data.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if empty > 0 {
            arrival.data = arrival.data.slice(empty..);
        }
        match message::parse(&arrival.data, arrival.source) {
            Ok(Message::Request(request)) => self.handle_request(now, &arrival, request),
            Ok(Message::Response(response)) => self.handle_response(now, &response),
            Err(malformed) => {
                self.core.offend(now, arrival.source.ip(), Offence::Malformed);
                self.core.refuse_malformed(&arrival, &malformed);
            }
        }
        self.serve_forks(now);
        self.skip_idle_timers();
    }

    /// Handles a failed connection attempt to `peer`, or a broken connection. Requests over it that have no response
    /// yet fail.
    pub fn handle_transport_error(&mut self, now: Instant, transport: Transport, peer: SocketAddr, why: ErrorKind) {
        if !transport.is_reliable() {
            return;
        }
        self.phones.lose_connection(&mut self.core, now, peer);
        for id in self.transactions.unanswered_over(transport, peer) {
            let input = ClientInput::TransportError(why);
            let outcome = self.transactions.handle_client(&mut self.core, now, id, input, None);
            self.client_outcome(now, id, outcome, None);
        }
        self.serve_forks(now);
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
        self.forks.handle_timeout(&mut self.core, now);
        self.serve_forks(now);
    }

    /// Drops the next timers that no longer have anything to do, so that they do not wake the shell. Most of them are
    /// retransmission timers, because the response came in time.
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

    /// Returns the next output that the shell must carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.outputs.pop_front()
    }

    /// Returns when to call [`Endpoint::handle_timeout`] next. The time may be too early; such a call does nothing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let completed = self.transactions.poll_timeout();
        [self.core.timers.next(), completed, self.phones.poll_timeout(), self.forks.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a message is a response that a client transaction waits for. Only the beginning of the message is
    /// checked.
    #[must_use]
    pub fn awaits(&self, data: &[u8]) -> bool {
        self.transactions.awaits(data)
    }

    /// Responds through the transaction, which sends the response again for each retransmission of the request.
    fn respond(&mut self, now: Instant, server: ServerId, parts: ResponseParts<'_>) {
        let _ = self.transactions.respond(&mut self.core, now, server, parts);
    }

    /// Returns the dialogs together with the other machines that they use.
    fn dialogs(&mut self, now: Instant) -> (&mut Dialogs, Context<'_>) {
        let Self { core, transactions, dialogs, trunks, phones, .. } = self;
        (dialogs, Context { now, core, transactions, trunks, phones })
    }

    fn has_room(&self) -> bool {
        self.transactions.has_room(&self.core)
    }
}

/// Parses a listener such as `udp://127.0.0.1:5060`.
#[must_use]
pub fn parse_listen(listen: &str) -> Option<(Transport, SocketAddr)> {
    let (scheme, address) = listen.split_once("://")?;
    Some((Transport::named(scheme)?, address.parse().ok()?))
}

#[cfg(test)]
mod tests;
