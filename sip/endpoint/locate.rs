//! Where a request goes (RFC 3263): the shell looks names up; here it is asked, and what it found is tried in order.
//!
//! ```text
//!  locate ─ an address, in the clear ──────────────────────────> located ─> first hop ─> Timer B, F; 503; no connection
//!     └─ a name, or TLS ─> Output::Resolve ─> handle_resolved ──────^          ^──────────── next hop, new branch ─┘
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::HashMap;

use super::Endpoint;
use super::state::State;
use crate::arena::Slot;
use crate::compose;
use crate::dialog::Flow;
use crate::endpoint::{Errand, Output, Target};
use crate::leg::{EndCause, Event, LegKey, Outgoing, Transport, TrunkName};
use crate::message::{Host, Uri};

/// Most lookups at a time; a call beyond them fails.
pub(crate) const MAX_LOOKUPS: usize = 256;
/// How long a peer that refused TCP is sent long requests over UDP without asking again.
const UDP_ONLY: Duration = Duration::from_secs(3_600);
/// Peers remembered for that; when there are more, all are forgotten, which costs each a refused connection.
const MAX_UDP_ONLY: usize = 1_024;

/// A question of [`Output::Resolve`], for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupId(pub u64);

/// What waits for a lookup.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A call of the application.
    Invite {
        /// Its leg.
        key: LegKey,
        /// The call.
        outgoing: Box<Outgoing>,
    },
    /// A request for a trunk: two at a time for each.
    Errand(Errand),
}

/// The lookups under way, and what was learnt about peers on the way.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    waiting: HashMap<LookupId, Waiting>,
    next: u64,
    /// Peers that do not take TCP, until when.
    udp_only: HashMap<SocketAddr, Instant>,
}

impl Lookups {
    /// Whether the leg waits.
    pub(super) fn holds(&self, leg: LegKey) -> bool {
        self.waiting.values().any(|waiting| matches!(waiting, Waiting::Invite { key, .. } if *key == leg))
    }
}

impl Endpoint {
    /// The shell's answer to [`Output::Resolve`]: the hops in the order to try them, never none, or why there is none.
    pub fn handle_resolved(&mut self, now: Instant, lookup: LookupId, found: Result<Vec<Target>, EndCause>) {
        if let Some(waiting) = self.lookups.waiting.remove(&lookup) {
            self.located(now, waiting, found);
        }
    }

    /// Finds where requests to `uri` go, and goes on with `waiting`: at once for an address, else when the shell has answered.
    pub(super) fn locate(&mut self, now: Instant, uri: &Uri, trunk: Option<TrunkName>, waiting: Waiting) {
        let Some(destination) = uri.destination() else {
            self.located(now, waiting, Err(EndCause::Invalid));
            return;
        };
        let transport = destination.transport.unwrap_or(Transport::Udp);
        if let Host::Ip(ip) = destination.host
            && !transport.is_secure()
        {
            let address = SocketAddr::new(ip, destination.port.unwrap_or(transport.default_port()));
            self.located(now, waiting, Ok(vec![Target { transport, address, identity: None }]));
        } else if matches!(waiting, Waiting::Invite { .. }) && self.lookups.waiting.len() >= MAX_LOOKUPS {
            self.located(now, waiting, Err(EndCause::Overload));
        } else {
            self.lookups.next += 1;
            let lookup = LookupId(self.lookups.next);
            self.lookups.waiting.insert(lookup, waiting);
            let uri = String::from_utf8_lossy(uri.text()).into_owned();
            self.outputs.push_back(Output::Resolve { lookup, uri, trunk });
        }
    }

    fn located(&mut self, now: Instant, waiting: Waiting, found: Result<Vec<Target>, EndCause>) {
        match waiting {
            Waiting::Invite { key, outgoing } => match found {
                Ok(hops) => {
                    // Where a trunk is called by its own URI, and not where a redirection leads.
                    let index = outgoing.next_hop.as_ref().and(outgoing.trunk.as_deref());
                    if let Some(index) = index.and_then(|trunk| self.peer_of(trunk)) {
                        self.learn_hosts(index, &hops);
                    }
                    self.place(now, key, outgoing, hops);
                }
                Err(cause) => self.end_unplaced(key, cause),
            },
            Waiting::Errand(errand) => self.errand_located(now, errand, found.unwrap_or_default()),
        }
    }

    /// The call is hung up before its destination was found.
    pub(super) fn abandon_lookup(&mut self, leg: LegKey) {
        let is_its = |waiting: &Waiting| matches!(waiting, Waiting::Invite { key, .. } if *key == leg);
        let found = self.lookups.waiting.iter().find(|(_, waiting)| is_its(waiting)).map(|(lookup, _)| *lookup);
        if let Some(lookup) = found {
            self.lookups.waiting.remove(&lookup);
            self.end_unplaced(leg, EndCause::LocalHangup);
        }
    }

    pub(super) fn end_unplaced(&mut self, leg: LegKey, cause: EndCause) {
        self.event(Event::Ended { leg, cause, status: None, reason: None, headers: Vec::new() });
    }

    /// Takes hops from the front until there is one that a socket of ours reaches.
    pub(super) fn next_hop(&self, hops: &mut Vec<Target>) -> Option<Flow> {
        while !hops.is_empty() {
            let Target { transport, address, identity } = hops.remove(0);
            if let Some(local) = self.local_for(transport, address.ip()) {
                return Some(Flow { transport, peer: address, local, connection: None, identity, pinned: false });
            }
        }
        None
    }

    /// Gives a request that was just sent other places to go to. With them it waits a quarter of Timer B or F for a sign of
    /// life only: nobody lets a telephone be silent for the RFC's 32 s.
    /// The same if the application is `impatient`, as it has others to turn to.
    pub(super) fn may_also_try(&mut self, now: Instant, slot: Slot, hops: Vec<Target>, impatient: bool) {
        let by = now + self.config.timers.timeout() / 4;
        if let Some(client) = self.clients.get_mut(slot) {
            client.alternatives.extend(hops);
            if impatient || !client.alternatives.is_empty() {
                client.machine.expire_by(by);
                let next = client.machine.next_timeout();
                self.timers.arm(&mut client.wake, next, crate::timer::Owner::Client(slot));
            }
        }
    }

    /// RFC 3261 §18.1.1: a request that might be cut into fragments goes by TCP, unless the peer is known to take none or
    /// we have no socket for it. The way over UDP stays open should the connection be refused.
    pub(super) fn avoid_fragments(&self, now: Instant, flow: Flow, length: usize) -> Option<Flow> {
        let most = self.config.udp_max_request;
        let refused = self.lookups.udp_only.get(&flow.peer).is_some_and(|until| *until > now);
        if flow.transport != Transport::Udp || flow.pinned || most == 0 || length <= most || refused {
            return None;
        }
        let local = self.local_for(Transport::Tcp, flow.peer.ip())?;
        Some(Flow { transport: Transport::Tcp, local, ..flow })
    }

    /// RFC 3263 §4.3: the same request in a new transaction to the next hop. `false` if there is none left, or nobody wants
    /// it any more. The old transaction takes what still comes for it.
    pub(super) fn try_next(&mut self, now: Instant, slot: Slot) -> bool {
        let Some(client) = self.clients.get_mut(slot) else { return false };
        let (mut hops, leg, old) = (std::mem::take(&mut client.alternatives), client.leg, client.flow);
        let mut impatient = false;
        if let Some(State::Calling(calling)) = leg.and_then(|leg| self.legs.get(leg)).map(|leg| &leg.state) {
            if calling.client != slot || calling.hangup.is_some() {
                return false;
            }
            impatient = calling.outgoing.impatient;
        }
        let Some(flow) = self.next_hop(&mut hops) else { return false };
        if old.transport == Transport::Tcp && flow.transport == Transport::Udp && old.peer == flow.peer {
            if self.lookups.udp_only.len() >= MAX_UDP_ONLY {
                self.lookups.udp_only.clear();
            }
            self.lookups.udp_only.insert(flow.peer, now + UDP_ONLY);
        }
        let branch = self.random_u128();
        let contacts = (self.contact(old), self.contact(flow));
        let Some(client) = self.clients.get_mut(slot) else { return false };
        client.leg = None;
        let (method, purpose, again) = (client.method.clone(), client.purpose, client.again.clone());
        let acknowledge = client.acknowledge.clone();
        let request = client.request.clone();
        let data = compose::rerouted(&request, flow.transport, self.sent_by(flow), branch, &contacts);
        let next = self.start_client(now, method, branch, flow, data, leg, purpose);
        if let Some(client) = self.clients.get_mut(next) {
            client.again = again;
            client.acknowledge = acknowledge.map(|mut acknowledge| {
                acknowledge.bytes = None;
                acknowledge
            });
        }
        self.may_also_try(now, next, hops, impatient);
        if let Some(leg) = leg.and_then(|leg| self.legs.get_mut(leg))
            && let State::Calling(calling) = &mut leg.state
        {
            calling.client = next;
            calling.provisional = false;
            leg.dialog.flow = flow;
        }
        true
    }
}
