//! Transactions whose work is done and that wait for repetitions alone, for 64*T1 (RFC 3261 §17, RFC 6026 §7): at any time
//! these are nearly all of them. What a repetition needs is kept, and nothing else:
//!
//! - of an INVITE that got its 2xx (Timer L): that it was. The 2xx is the leg's to repeat;
//! - of another request that was answered (Timer J): its status, if the answer can be written again from the repetition;
//!   else the answer itself;
//! - of an INVITE of ours that got a 2xx (Timer M): whose. Its ACK is written again from the repetition.
//!
//! They are forgotten a quarter of a second's worth at a time, at the end of the last one's time: nobody is woken for each. They
//! count as transactions, so that [`Config::max_transactions`](crate::Config::max_transactions) bounds them, and cost 100
//! to 200 octets each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{HashMap, HashSet};
use bytes::Bytes;

use super::server::response_line;
use super::state::{InDialogRequest, Key, MAX_FORKS};
use super::{Arrival, Endpoint};
use crate::compose::{self, ResponseParts};
use crate::dialog::{Dialog, Flow};
use crate::keys::LegId;
use crate::message::{Method, Request, Response};

/// Those whose times end so close together are forgotten together.
const BUCKET: Duration = Duration::from_millis(250);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct CompletedTransactions {
    servers: HashMap<Key, AnsweredServer>,
    invites: HashMap<u128, AnsweredInvite>,
    /// Keys of RFC 3261 §8.2.2.2 of the INVITEs among them.
    merge_keys: HashSet<Key>,
    buckets: VecDeque<ExpiryBucket>,
    /// Of the last one of `invites`.
    flow: Option<Arc<Flow>>,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub(super) struct AnsweredServer {
    pub(super) leg: Option<LegId>,
    pub(super) tag: u64,
    pub(super) answer: Answer,
}

/// What its repetition gets.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Nothing: it is an INVITE, and its 2xx is the leg's to repeat.
    ByLeg,
    /// This status, and no more than every answer says; whether that it takes REFER.
    Status { status: u16, refer: bool },
    /// This, on this way.
    Stored(Box<(u16, Flow, Bytes)>),
}

/// An INVITE of ours that was answered with a 2xx.
#[derive(Debug)]
struct AnsweredInvite {
    leg: Option<LegId>,
    /// The same as the one before it has: most go to one of a few trunks.
    flow: Arc<Flow>,
    /// Of whose 2xx: the hash of the tag of To.
    tag: u64,
    /// Those of its forks; with the first at most [`MAX_FORKS`].
    forks: Box<[u64]>,
}

/// Those whose times end until then. A list for each kind: that takes half of what one of all would.
#[derive(Debug)]
struct ExpiryBucket {
    first: Instant,
    last: Instant,
    servers: Vec<Key>,
    merge_keys: Vec<Key>,
    invites: Vec<u128>,
}

impl CompletedTransactions {
    /// How many transactions linger.
    pub(super) fn len(&self) -> usize {
        self.servers.len() + self.invites.len()
    }

    /// `merge_key`: of an INVITE.
    pub(super) fn insert_server(&mut self, until: Instant, key: Key, merge_key: Option<Key>, served: AnsweredServer) {
        self.servers.insert(key, served);
        self.add_to_bucket(until, |bucket| {
            bucket.servers.push(key);
            bucket.merge_keys.extend(merge_key);
        });
        self.merge_keys.extend(merge_key);
    }

    /// By the branch of the INVITE. `tag`: the hash of its 2xx's tag of To.
    pub(super) fn insert_invite(&mut self, until: Instant, branch: u128, leg: Option<LegId>, flow: Flow, tag: u64) {
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

    /// Whether an INVITE of ours with that branch was answered.
    pub(super) fn has_invite(&self, branch: u128) -> bool {
        self.invites.contains_key(&branch)
    }

    /// Whether an INVITE among them has this key of RFC 3261 §8.2.2.2.
    pub(super) fn has_merge_key(&self, key: &Key) -> bool {
        self.merge_keys.contains(key)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.buckets.front().map(|bucket| bucket.last)
    }

    /// Forgets those whose time is over.
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
        // What a burst took is given back.
        if forgot && self.servers.capacity() > 8 * self.servers.len().max(128) {
            self.servers.shrink_to(2 * self.servers.len());
            self.invites.shrink_to(2 * self.invites.len());
            self.merge_keys.shrink_to(2 * self.merge_keys.len());
        }
    }

    fn add_to_bucket(&mut self, until: Instant, add: impl FnOnce(&mut ExpiryBucket)) {
        // All linger equally long, so the last ends last.
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

impl Endpoint {
    /// A repetition of a request that was answered, or the ACK of a 2xx with its INVITE's branch. `false`: none such lingers.
    pub(super) fn handle_late_repetition(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        key: &Key,
        request: &Request,
    ) -> bool {
        let Some(AnsweredServer { leg, tag, answer }) = self.completed.answered_server(key).cloned() else {
            return false;
        };
        let flow = self.core.arrival_flow(arrival);
        let is_ack = request.method == Method::Ack;
        self.core.trace(leg, false, flow, || {
            if is_ack { "ACK".to_owned() } else { format!("{} (retransmission)", super::server::request_line(request)) }
        });
        let (status, flow, data) = match answer {
            Answer::ByLeg => {
                if let (true, Some(leg)) = (is_ack, leg) {
                    self.handle_ack(now, arrival, leg, request);
                }
                return true;
            }
            Answer::Status { status, refer } => {
                let Some(echo) = request.echo(arrival.source) else { return true };
                let server = self.core.config.user_agent.as_str();
                let parts = ResponseParts { status, tag: Some(tag), refer, server, ..ResponseParts::default() };
                (status, self.core.response_flow(arrival, &echo), compose::response(&echo, &parts))
            }
            Answer::Stored(whole) => *whole,
        };
        self.core.transmit(flow, data);
        let method = request.method.as_str();
        self.core.trace(leg, true, flow, || response_line(status, compose::reason_phrase(status), method, true));
        true
    }

    /// A response to an INVITE that got a 2xx before: its repetition gets its ACK again, a fork's is acknowledged and hung up
    /// (RFC 3261 §13.2.2.4).
    pub(super) fn handle_late_response(&mut self, now: Instant, branch: u128, response: &Response) {
        let tag = self.core.tag_hash(response);
        let Some(asked) = self.completed.invites.get_mut(&branch) else {
            tracing::debug!(status = response.status, "response to no transaction of ours");
            return;
        };
        if response.method != Method::Invite {
            return;
        }
        let (leg, flow) = (asked.leg, *asked.flow);
        let again = asked.tag == tag || asked.forks.contains(&tag);
        let target = response.content.contact().filter(|_| (200..300).contains(&response.status));
        let room = target.is_some() && (again || asked.forks.len() + 1 < MAX_FORKS);
        if room && !again {
            asked.forks = asked.forks.iter().copied().chain([tag]).collect();
        }
        self.core.trace(leg, false, flow, || response_line(response.status, &response.reason(), "INVITE", true));
        let Some(target) = target.filter(|_| room) else { return };
        let dialog = Dialog::from_response(response, &target, flow);
        let (flow, data) = self.compose_ack(now, branch, &dialog, response.cseq, &InDialogRequest::default());
        self.core.transmit(flow, data.clone());
        self.core.trace(leg, true, flow, || format!("{} (retransmission)", super::client::start_line(&data)));
        if !again {
            self.send_bye_without_leg(now, dialog);
        }
    }
}

#[cfg(test)]
mod tests;
