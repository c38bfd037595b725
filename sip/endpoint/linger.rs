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
use super::state::{Again, Key, MAX_FORKS};
use super::{Arrival, Endpoint};
use crate::arena::Slot;
use crate::compose::{self, ResponseParts};
use crate::dialog::{Dialog, Flow};
use crate::message::{Method, Request, Response};

/// Those whose times end so close together are forgotten together.
const TOGETHER: Duration = Duration::from_millis(250);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    served: HashMap<Key, Served>,
    asked: HashMap<u128, Asked>,
    /// Keys of RFC 3261 §8.2.2.2 of the INVITEs among them.
    merged: HashSet<Key>,
    ends: VecDeque<Ends>,
    /// Of the last one of `asked`.
    flow: Option<Arc<Flow>>,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) leg: Option<Slot>,
    pub(super) tag: u64,
    pub(super) answer: Answer,
}

/// What its repetition gets.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Nothing: it is an INVITE, and its 2xx is the leg's to repeat.
    Legs,
    /// This status, and no more than every answer says; whether that it takes REFER.
    Status { status: u16, refer: bool },
    /// This, on this way.
    Whole(Box<(u16, Flow, Bytes)>),
}

/// An INVITE of ours that was answered with a 2xx.
#[derive(Debug)]
struct Asked {
    leg: Option<Slot>,
    /// The same as the one before it has: most go to one of a few trunks.
    flow: Arc<Flow>,
    /// Of whose 2xx: the hash of the tag of To.
    tag: u64,
    /// Those of its forks; with the first at most [`MAX_FORKS`].
    forks: Box<[u64]>,
}

/// Those whose times end until then. A list for each kind: that takes half of what one of all would.
#[derive(Debug)]
struct Ends {
    first: Instant,
    last: Instant,
    served: Vec<Key>,
    merged: Vec<Key>,
    asked: Vec<u128>,
}

impl Lingering {
    /// How many transactions linger.
    pub(super) fn len(&self) -> usize {
        self.served.len() + self.asked.len()
    }

    /// `merge_key`: of an INVITE.
    pub(super) fn serve(&mut self, until: Instant, key: Key, merge_key: Option<Key>, served: Served) {
        self.served.insert(key, served);
        self.note(until, |ends| {
            ends.served.push(key);
            ends.merged.extend(merge_key);
        });
        self.merged.extend(merge_key);
    }

    /// By the branch of the INVITE. `tag`: the hash of its 2xx's tag of To.
    pub(super) fn ask(&mut self, until: Instant, branch: u128, leg: Option<Slot>, flow: Flow, tag: u64) {
        let flow = match self.flow.take().filter(|known| **known == flow) {
            Some(known) => known,
            None => Arc::new(flow),
        };
        self.flow = Some(Arc::clone(&flow));
        self.asked.insert(branch, Asked { leg, flow, tag, forks: Box::default() });
        self.note(until, |ends| ends.asked.push(branch));
    }

    pub(super) fn served(&self, key: &Key) -> Option<&Served> {
        self.served.get(key)
    }

    /// Whether an INVITE of ours with that branch was answered.
    pub(super) fn has_asked(&self, branch: u128) -> bool {
        self.asked.contains_key(&branch)
    }

    /// Whether an INVITE among them has this key of RFC 3261 §8.2.2.2.
    pub(super) fn has_merged(&self, key: &Key) -> bool {
        self.merged.contains(key)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.ends.front().map(|ends| ends.last)
    }

    /// Forgets those whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let mut forgot = false;
        while self.ends.front().is_some_and(|ends| ends.last <= now) {
            forgot = true;
            let Some(Ends { served, merged, asked, .. }) = self.ends.pop_front() else { break };
            for key in &served {
                self.served.remove(key);
            }
            for key in &merged {
                self.merged.remove(key);
            }
            for branch in &asked {
                self.asked.remove(branch);
            }
        }
        // What a burst took is given back.
        if forgot && self.served.capacity() > 8 * self.served.len().max(128) {
            self.served.shrink_to(2 * self.served.len());
            self.asked.shrink_to(2 * self.asked.len());
            self.merged.shrink_to(2 * self.merged.len());
        }
    }

    fn note(&mut self, until: Instant, note: impl FnOnce(&mut Ends)) {
        // All linger equally long, so the last ends last.
        if self.ends.back().is_none_or(|ends| until >= ends.first + TOGETHER) {
            let (served, merged, asked) = (Vec::new(), Vec::new(), Vec::new());
            self.ends.push_back(Ends { first: until, last: until, served, merged, asked });
        }
        if let Some(ends) = self.ends.back_mut() {
            ends.last = ends.last.max(until);
            note(ends);
        }
    }

    #[cfg(test)]
    pub(super) fn table_sizes(&self) -> usize {
        self.served.len() + self.asked.len() + self.merged.len() + self.ends.len()
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
        let Some(Served { leg, tag, answer }) = self.lingering.served(key).cloned() else { return false };
        let flow = self.arrival_flow(arrival);
        let is_ack = request.method == Method::Ack;
        self.trace(leg, false, flow, || {
            if is_ack { "ACK".to_owned() } else { format!("{} (retransmission)", super::server::request_line(request)) }
        });
        let (status, flow, data) = match answer {
            Answer::Legs => {
                if let (true, Some(leg)) = (is_ack, leg) {
                    self.handle_ack(now, arrival, leg, request);
                }
                return true;
            }
            Answer::Status { status, refer } => {
                let Some(echo) = request.echo(arrival.source) else { return true };
                let server = self.config.user_agent.as_str();
                let parts = ResponseParts { status, tag: Some(tag), refer, server, ..ResponseParts::default() };
                (status, self.response_flow(arrival, &echo), compose::response(&echo, &parts))
            }
            Answer::Whole(whole) => *whole,
        };
        self.transmit(flow, data);
        let method = request.method.as_str();
        self.trace(leg, true, flow, || response_line(status, compose::reason_phrase(status), method, true));
        true
    }

    /// A response to an INVITE that got a 2xx before: its repetition gets its ACK again, a fork's is acknowledged and hung up
    /// (RFC 3261 §13.2.2.4).
    pub(super) fn handle_late_response(&mut self, now: Instant, branch: u128, response: &Response) {
        let tag = self.tag_hash(response);
        let Some(asked) = self.lingering.asked.get_mut(&branch) else {
            tracing::debug!(status = response.status, "response matches no transaction");
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
        self.trace(leg, false, flow, || response_line(response.status, &response.reason(), "INVITE", true));
        let Some(target) = target.filter(|_| room) else { return };
        let dialog = Dialog::from_response(response, &target, flow);
        let (flow, data) = self.compose_ack(now, branch, &dialog, response.cseq, &Again::default());
        self.transmit(flow, data.clone());
        self.trace(leg, true, flow, || format!("{} (retransmission)", super::client::start_line(&data)));
        if !again {
            self.send_bye_outside(now, dialog);
        }
    }

    /// The To tag of a response to a request of ours, as a number.
    pub(super) fn tag_hash(&self, response: &Response) -> u64 {
        self.stateless_tag(response.to.tag.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
