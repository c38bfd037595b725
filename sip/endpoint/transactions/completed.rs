//! Completed transactions. A completed transaction only waits for retransmissions, for 64*T1 (RFC 3261 §17, RFC 6026
//! §7). At any time, nearly all transactions are in this state. So each completed transaction stores only the data that
//! a retransmission needs:
//!
//! - For a received INVITE that got its 2xx (Timer L), no response is stored. The leg retransmits the 2xx.
//! - For any other received request (Timer J), only the status is stored if the retransmitted request is sufficient to
//!   compose the response again. Otherwise the response is stored.
//! - For a sent INVITE that got a 2xx (Timer M), a hash of the To tag in the 2xx is stored. The ACK is composed again
//!   from the retransmitted 2xx.
//!
//! Completed transactions are removed in buckets of 250 ms, when the last transaction in the bucket expires. So the
//! shell is not woken for each transaction. Completed transactions count towards
//! [`Config::max_transactions`](crate::Config::max_transactions). Each completed transaction takes 100 to 200 octets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::flow::Flow;
use crate::{HashMap, HashSet};
use bytes::Bytes;

use super::Key;
use crate::keys::LegSlot;

/// Duration of a bucket. Transactions that expire within the same 250 ms are removed together.
const BUCKET: Duration = Duration::from_millis(250);

/// All completed transactions.
#[derive(Debug, Default)]
pub(super) struct CompletedTransactions {
    servers: HashMap<Key, AnsweredServer>,
    invites: HashMap<u128, AnsweredInvite>,
    /// The keys that detect merged requests (RFC 3261 §8.2.2.2), for the INVITEs in `servers`.
    merge_keys: HashSet<Key>,
    buckets: VecDeque<ExpiryBucket>,
    /// The flow of the newest entry in `invites`. If the next INVITE uses an equal flow, its entry shares this value.
    flow: Option<Arc<Flow>>,
}

/// A received request that this server has answered.
#[derive(Debug, Clone)]
pub(super) struct AnsweredServer {
    pub(super) leg: Option<LegSlot>,
    pub(super) tag: u64,
    pub(super) answer: Answer,
}

/// The response to a retransmission of a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// No response. The request is an INVITE, and the leg retransmits its 2xx.
    ByLeg,
    /// A response with this status and no headers of its own. `refer` says whether the Allow header of the response
    /// contains REFER.
    Status { status: u16, refer: bool },
    /// A stored response, with its status and its flow.
    Stored(Box<(u16, Flow, Bytes)>),
}

/// An INVITE that this server sent and that got a 2xx.
#[derive(Debug)]
pub(super) struct AnsweredInvite {
    pub(super) leg: Option<LegSlot>,
    /// The flow of the INVITE. Several INVITEs share one flow value, because most INVITEs go to only a few trunks.
    pub(super) flow: Arc<Flow>,
    /// The hash of the To tag of the first 2xx.
    pub(super) tag: u64,
    /// The hashes of the To tags in the 2xx responses of the other forks. `tag` and this list together contain at most
    /// [`MAX_FORKS`](super::MAX_FORKS) tags.
    pub(super) forks: Box<[u64]>,
}

/// Transactions that are removed together. There is one list per kind of transaction, because these lists take half the
/// memory of one list for all kinds.
#[derive(Debug)]
struct ExpiryBucket {
    first: Instant,
    last: Instant,
    servers: Vec<Key>,
    merge_keys: Vec<Key>,
    invites: Vec<u128>,
}

impl CompletedTransactions {
    /// Returns the number of completed transactions.
    pub(super) fn len(&self) -> usize {
        self.servers.len() + self.invites.len()
    }

    /// Adds an answered request. `merge_key` is set only for an INVITE.
    pub(super) fn insert_server(&mut self, until: Instant, key: Key, merge_key: Option<Key>, answered: AnsweredServer) {
        self.servers.insert(key, answered);
        self.add_to_bucket(until, |bucket| {
            bucket.servers.push(key);
            bucket.merge_keys.extend(merge_key);
        });
        self.merge_keys.extend(merge_key);
    }

    /// Adds a sent INVITE under its branch. `tag` is the hash of the To tag in the 2xx.
    pub(super) fn insert_invite(&mut self, until: Instant, branch: u128, leg: Option<LegSlot>, flow: Flow, tag: u64) {
        let flow = match self.flow.take().filter(|known| **known == flow) {
            Some(known) => known,
            None => Arc::new(flow),
        };
        self.flow = Some(Arc::clone(&flow));
        self.invites.insert(branch, AnsweredInvite { leg, flow, tag, forks: Box::default() });
        self.add_to_bucket(until, |bucket| bucket.invites.push(branch));
    }

    pub(super) fn answered_server(&self, key: &Key) -> Option<&AnsweredServer> {
        self.servers.get(key)
    }

    /// Returns the INVITE with this branch, if it was sent and got a 2xx.
    pub(super) fn invite_mut(&mut self, branch: u128) -> Option<&mut AnsweredInvite> {
        self.invites.get_mut(&branch)
    }

    /// Returns the branch and the flow of each INVITE of this leg.
    pub(super) fn invites_of(&self, leg: LegSlot) -> impl Iterator<Item = (u128, Flow)> {
        let of_leg = self.invites.iter().filter(move |(_, invite)| invite.leg == Some(leg));
        of_leg.map(|(branch, invite)| (*branch, *invite.flow))
    }

    /// Returns whether an INVITE with this branch was sent and got a 2xx.
    pub(super) fn has_invite(&self, branch: u128) -> bool {
        self.invites.contains_key(&branch)
    }

    /// Returns whether a received INVITE has this key, which detects merged requests (RFC 3261 §8.2.2.2).
    pub(super) fn has_merge_key(&self, key: &Key) -> bool {
        self.merge_keys.contains(key)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.buckets.front().map(|bucket| bucket.last)
    }

    /// Removes the transactions that have expired.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let mut forgot = false;
        while self.buckets.front().is_some_and(|bucket| bucket.last <= now) {
            forgot = true;
            let Some(ExpiryBucket { servers, merge_keys, invites, .. }) = self.buckets.pop_front() else { break };
            for key in &servers {
                self.servers.remove(key);
            }
            for key in &merge_keys {
                self.merge_keys.remove(key);
            }
            for branch in &invites {
                self.invites.remove(branch);
            }
        }
        // Frees the memory that a burst of transactions took.
        if forgot && self.servers.capacity() > 8 * self.servers.len().max(128) {
            self.servers.shrink_to(2 * self.servers.len());
            self.invites.shrink_to(2 * self.invites.len());
            self.merge_keys.shrink_to(2 * self.merge_keys.len());
        }
    }

    fn add_to_bucket(&mut self, until: Instant, add: impl FnOnce(&mut ExpiryBucket)) {
        // All transactions wait for the same time, so the newest transaction expires last.
        if self.buckets.back().is_none_or(|bucket| until >= bucket.first + BUCKET) {
            let (servers, merge_keys, invites) = (Vec::new(), Vec::new(), Vec::new());
            self.buckets.push_back(ExpiryBucket { first: until, last: until, servers, merge_keys, invites });
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.last = bucket.last.max(until);
            add(bucket);
        }
    }

    #[cfg(test)]
    pub(super) fn table_sizes(&self) -> usize {
        self.servers.len() + self.invites.len() + self.merge_keys.len() + self.buckets.len()
    }
}

#[cfg(test)]
mod tests;
