//! The transaction layer (RFC 3261 §17): client and server transactions, their tables, timers and retransmissions.
//!
//! ```text
//!   a request to send ──> start_client ──> Transmit        a response ──> handle_client ──> ClientOutcome ──> the user
//!   a request received ─> handle_repetition, or insert_server ──> the user ──> respond ──> Transmit
//! ```
//!
//! It owns the transactions and nothing else: it does not know what a dialog, a trunk or a phone is. A transaction names
//! its leg only to trace its messages, and its [`Purpose`](client::Purpose) only to hand that back with the outcome. Transactions that wait
//! for repetitions alone are kept in [`CompletedTransactions`]. The number of all of them is bounded by
//! [`Config::max_transactions`](crate::Config::max_transactions).

pub(super) mod client;
mod completed;
pub(super) mod server;

use std::net::SocketAddr;
use std::time::Instant;

use slotmap::SlotMap;

use self::client::Client;
use self::completed::CompletedTransactions;
use self::server::Server;
use super::core::Core;
use crate::keys::{ClientId, ServerId};
use crate::transaction::Action;
use crate::{HashMap, HashSet};

/// The key of a server transaction: a keyed hash of the fields that identify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) u128);

/// Most 2xx responses from forks of one INVITE that are acknowledged (and ended with BYE).
pub(super) const MAX_FORKS: usize = 8;

/// All client and server transactions.
#[derive(Default)]
pub(super) struct Transactions {
    clients: SlotMap<ClientId, Client>,
    /// By the branch, and whether the request is a CANCEL, which has the branch of its INVITE.
    clients_by_branch: HashMap<(u128, bool), ClientId>,
    /// Those over connections, by the far end's address.
    stream_clients: HashMap<SocketAddr, HashSet<ClientId>>,
    servers: SlotMap<ServerId, Server>,
    servers_by_key: HashMap<Key, ServerId>,
    servers_by_merge_key: HashMap<Key, ServerId>,
    completed: CompletedTransactions,
    /// Far ends that do not take TCP, until when.
    udp_only: HashMap<SocketAddr, Instant>,
    /// The actions of one input; kept between inputs to save its allocation.
    actions: Vec<Action>,
}

impl Transactions {
    /// Live transactions, completed ones included.
    pub(super) fn len(&self) -> usize {
        self.clients.len() + self.servers.len() + self.completed.len()
    }

    /// Whether another transaction may start.
    pub(super) fn has_room(&self, core: &Core) -> bool {
        self.len() < core.config.max_transactions
    }

    /// When completed transactions are forgotten next. The timers of the others are in [`Core::timers`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.completed.poll_timeout()
    }

    /// Forgets completed transactions whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.completed.handle_timeout(now);
    }

    #[cfg(test)]
    pub(super) fn table_sizes(&self) -> [usize; 5] {
        [
            self.clients_by_branch.len(),
            self.stream_clients.len(),
            self.servers_by_key.len(),
            self.servers_by_merge_key.len(),
            self.completed.table_sizes(),
        ]
    }
}
