//! Where a request goes (RFC 3263): the shell looks names up; here it is asked, and what it found is tried in order.
//!
//! ```text
//!  locate ─ an address, in the clear ──────────────────────────> located ─> first hop ─> Timer B, F; 503; no connection
//!     └─ a name, or TLS ─> Output::Resolve ─> handle_resolved ──────^          ^──────────── next hop, new branch ─┘
//! ```

use std::net::{IpAddr, SocketAddr};
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
use crate::network;
use crate::peer::PeerState;

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
                    let found = hops.len();
                    let hops = self.allowed(&outgoing, hops);
                    if hops.is_empty() && found > 0 {
                        return self.end_unplaced(key, EndCause::Forbidden);
                    }
                    self.place(now, key, outgoing, hops);
                }
                Err(cause) => self.end_unplaced(key, cause),
            },
            Waiting::Errand(errand) => self.errand_located(now, errand, found.unwrap_or_default()),
        }
    }

    /// Those of the hops that its accounts may call. A trunk is called at its own URI; a SIP URI of an application's, where a
    /// redirection leads, and what an account has written itself go to public addresses, to networks that are allowed, and
    /// to the hosts of trunks that the accounts may use, and to sockets of ours. A host of other accounts' trunks is theirs alone: it knows us by our
    /// address, and would take the call for one of theirs.
    fn allowed(&self, outgoing: &Outgoing, mut hops: Vec<Target>) -> Vec<Target> {
        let over_trunk = outgoing.trunk.is_some() && outgoing.next_hop.is_some();
        if outgoing.accounts.is_empty() || over_trunk {
            return hops;
        }
        let is_ours = |hop: &Target| self.locals.iter().any(|local| local.bound == hop.address);
        hops.retain(|hop| {
            is_ours(hop)
                || match self.why_not(outgoing, hop.address.ip().to_canonical()) {
                    None => true,
                    Some(why) => {
                        let (account, address) = (outgoing.accounts.first().map(|account| &**account), hop.address);
                        tracing::warn!(account, "call to {} refused: {address} is {why}", outgoing.request_uri);
                        false
                    }
                }
        });
        hops
    }

    /// Why the accounts of a call may not call an address.
    fn why_not(&self, outgoing: &Outgoing, address: IpAddr) -> Option<String> {
        let is_there = |peer: &&PeerState| {
            !peer.retired
                && (peer.addresses.iter().any(|known| known.to_canonical() == address)
                    || self.narrow_networks(&peer.peer.trunk).any(|network| network.contains(&address)))
        };
        let mut there = self.peers.iter().filter(is_there).peekable();
        if there.peek().is_some() {
            let usable =
                |peer: &PeerState| peer.peer.account.as_ref().is_none_or(|own| outgoing.accounts.contains(own));
            return (!there.any(usable)).then(|| "another account's trunk".to_owned());
        }
        let purpose = network::purpose(address)?;
        let allowed = match &self.config.allow_networks {
            Some(networks) => networks.iter().any(|network| network.contains(&address)),
            None => address.is_loopback() && self.locals.iter().all(|local| local.bound.ip().is_loopback()),
        };
        (!allowed).then(|| format!("{purpose} and not in sip.allow_networks"))
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

    /// Gives a request that was just sent other places to go to. With them it waits [`crate::Config::failover_ms`] for a sign of
    /// life only: nobody lets a telephone be silent for the RFC's 32 s.
    /// The same if the application is `impatient`, as it has others to turn to.
    pub(super) fn may_also_try(&mut self, now: Instant, slot: Slot, hops: Vec<Target>, impatient: bool) {
        let patience = Duration::from_millis(self.config.failover_ms.into()).min(self.config.timers.timeout());
        if let Some(client) = self.clients.get_mut(slot) {
            client.alternatives.extend(hops);
            if impatient || !client.alternatives.is_empty() {
                self.give_up_by(slot, now + patience);
            }
        }
    }

    /// A request that nothing was heard of by then has failed.
    pub(super) fn give_up_by(&mut self, slot: Slot, by: Instant) {
        if let Some(client) = self.clients.get_mut(slot) {
            client.machine.expire_by(by);
            let next = client.machine.next_timeout();
            self.timers.arm(&mut client.wake, next, crate::timer::Owner::Client(slot));
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
