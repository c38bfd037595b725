//! The transaction layer (RFC 3261 §17): client and server transactions, their tables, timers and retransmissions.
//!
//! ```text
//!   a request to send ──> start_client ──> Transmit        a response ──> handle_client ──> ClientOutcome ──> the user
//!   a request received ─> handle_repetition, or insert_server ──> the user ──> respond ──> Transmit
//! ```
//!
//! [`Transactions`] owns only the transactions, and does not know dialogs, trunks or phones. A transaction stores its
//! leg only to trace its messages. A transaction stores its [`Purpose`](client::Purpose) only to return the purpose
//! with the outcome. [`CompletedTransactions`] contains the transactions that only wait for retransmissions.
//! [`Config::max_transactions`](crate::Config::max_transactions) limits the number of all transactions.

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

/// The key of a server transaction: a hash, under the server's secret, of the fields that identify the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) u128);

/// Maximum number of forks whose 2xx to one INVITE gets an ACK. All these forks except the first also get a BYE.
pub(super) const MAX_FORKS: usize = 8;

/// All client and server transactions.
#[derive(Default)]
pub(super) struct Transactions {
    clients: SlotMap<ClientId, Client>,
    /// The client transactions by branch. A CANCEL has the same branch as its INVITE. So the key also has a flag, which
    /// is true for a CANCEL.
    clients_by_branch: HashMap<(u128, bool), ClientId>,
    /// The client transactions over connections, by the address of the far end.
    stream_clients: HashMap<SocketAddr, HashSet<ClientId>>,
    servers: SlotMap<ServerId, Server>,
    servers_by_key: HashMap<Key, ServerId>,
    servers_by_merge_key: HashMap<Key, ServerId>,
    completed: CompletedTransactions,
    /// Far ends that refused TCP. The value is the time until which TCP is not tried again.
    udp_only: HashMap<SocketAddr, Instant>,
    /// The actions of one input. The list is reused for the next input, which saves an allocation.
    actions: Vec<Action>,
}

impl Transactions {
    /// Returns the number of transactions, including completed transactions.
    pub(super) fn len(&self) -> usize {
        self.clients.len() + self.servers.len() + self.completed.len()
    }

    /// Returns whether there is room for another transaction.
    pub(super) fn has_room(&self, core: &Core) -> bool {
        self.len() < core.config.max_transactions
    }

    /// Returns the time at which the next completed transactions expire. The timers of all other transactions are in
    /// [`Core::timers`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.completed.poll_timeout()
    }

    /// Removes completed transactions that have expired.
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
