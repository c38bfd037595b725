//! Requests that belong to no leg, and the trunks that they are for: registrations and OPTIONS.
//!
//! [`Errand`] says for whom a client transaction runs when no leg owns it; [`Endpoint::send_errand`] starts one, and its end
//! comes back to `errand_answered` or `errand_failed`. A further use of requests outside dialogs is a further variant.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use super::locate::Waiting;
use super::state::{Purpose, tag_text};
use super::{Arrival, Endpoint, Identity};
use crate::arena::Slot;
use crate::compose::{self, RequestParts};
use crate::dialog::Flow;
use crate::leg::{EndCause, Transport, TrunkName};
use crate::message::{Method, Request, Response, Uri};
use crate::peer::{PeerStatus, Registered, Way};
use crate::registration::{Registration, Reply, Step};
use crate::timer::Owner;
use crate::trunk;

/// How long an OPTIONS may go unanswered: long enough for three of them to be lost, far shorter than Timer F.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// What a request outside every leg is for. The number is the trunk's place in [`crate::Config::peers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errand {
    /// REGISTER.
    Register(usize),
    /// OPTIONS.
    Probe(usize),
    /// REGISTER that withdraws a Contact which another configuration does not have.
    Leave(usize),
    /// None: only the trunk's addresses are wanted.
    Locate(usize),
}

/// An address to send a request to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// Who must be there, if a connection over TLS is to be opened.
    pub identity: Option<Identity>,
}

/// A request outside every dialog.
pub(super) struct Outside<'a> {
    pub(super) method: Method,
    pub(super) uri: &'a str,
    /// URI of From, and its tag.
    pub(super) from: (&'a str, u64),
    pub(super) to: &'a str,
    pub(super) call_id: &'a str,
    pub(super) cseq: u32,
    /// URI without brackets.
    pub(super) contact: &'a str,
    /// Whole lines, each with its CRLF.
    pub(super) lines: &'a str,
}

impl Endpoint {
    /// Begins to register with trunks and to ask how they are. Once; the shell's look-ups work by then.
    pub fn start_errands(&mut self, now: Instant) {
        for peer in std::mem::take(&mut self.config.peers) {
            self.add_peer(now, peer);
        }
    }

    /// Withdraws every registration, as far as there is one.
    pub fn withdraw(&mut self, now: Instant) {
        for index in 0..self.peers.len() {
            let step = self.peers.get_mut(index).and_then(|peer| peer.registration.as_mut()).map(Registration::stop);
            if step == Some(Step::Send) {
                self.send_register(now, index, Errand::Register(index));
            }
            self.settle_peer(index);
        }
    }

    /// Whether a registrar has yet to confirm that.
    #[must_use]
    pub fn is_withdrawing(&self) -> bool {
        self.peers.iter().any(|peer| peer.registration.as_ref().is_some_and(Registration::is_withdrawing))
    }

    /// What was found for a trunk's URI, best first; empty if nothing was.
    pub(super) fn errand_located(&mut self, now: Instant, errand: Errand, mut targets: Vec<Target>) {
        let (Errand::Register(index) | Errand::Probe(index) | Errand::Leave(index) | Errand::Locate(index)) = errand;
        self.learn_hosts(index, &targets);
        targets.retain(|target| self.local_for(target.transport, target.address.ip()).is_some());
        match errand {
            Errand::Register(index) => {
                let Some(registration) = self.peers.get_mut(index).and_then(|peer| peer.registration.as_mut()) else {
                    return;
                };
                if registration.handle_located(now, targets, &mut self.rng) == Step::Send {
                    self.send_register(now, index, Errand::Register(index));
                }
                self.settle_peer(index);
            }
            Errand::Probe(index) => match targets.first() {
                Some(&target) => self.send_options(now, index, target),
                None => self.probed(now, index, None),
            },
            Errand::Leave(_) | Errand::Locate(_) => {}
        }
    }

    /// A trunk's names have these addresses: its credentials may be shown there, and the guard leaves them alone.
    pub(super) fn learn_hosts(&mut self, index: usize, targets: &[Target]) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        if peer.learn_addresses(targets.iter().map(|target| target.address.ip())) {
            self.tell_guard();
        }
    }

    /// Tells the guard who the trunks' hosts are.
    pub(super) fn tell_guard(&self) {
        if let Some(guard) = &self.guard {
            guard.set_hosts(self.peers.iter().flat_map(|peer| peer.addresses.iter().copied()));
        }
    }

    /// The next trunk whose status is not what it was, by its place in [`crate::Config::peers`].
    pub fn poll_peer(&mut self) -> Option<(usize, PeerStatus)> {
        let index = self.changed_peers.pop()?;
        let peer = self.peers.get_mut(index)?;
        peer.is_listed = false;
        Some((index, peer.status()))
    }

    pub(super) fn peer_timeout(&mut self, now: Instant, at: Instant, index: usize) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        if peer.wake == Some(at) {
            peer.wake = None;
        }
        peer.forget_doubt(now);
        let registration = peer.registration.as_mut();
        let registrar = registration.and_then(|one| one.is_due(now).then(|| one.register().registrar.clone()));
        let probed = peer.probe.as_mut().is_some_and(|probe| probe.is_due(now));
        let probed = peer.peer.uri.clone().filter(|_| probed);
        let trunk = peer.peer.trunk.clone();
        for (errand, uri) in [(Errand::Register(index), registrar), (Errand::Probe(index), probed)] {
            let Some(uri) = uri else { continue };
            match Uri::parse(uri.as_bytes()) {
                Some(uri) => self.locate(now, &uri, Some(trunk.clone()), Waiting::Errand(errand)),
                None => self.errand_located(now, errand, Vec::new()),
            }
        }
        self.settle_peer(index);
    }

    pub(super) fn errand_answered(&mut self, now: Instant, errand: Errand, response: &Response) {
        if response.status < 200 {
            return;
        }
        match errand {
            Errand::Register(index) => {
                let Some(registration) = self.peers.get_mut(index).and_then(|peer| peer.registration.as_mut()) else {
                    return;
                };
                let reply = Reply::of(response, registration.token);
                if registration.handle_reply(now, reply, &mut self.rng) == Step::Send {
                    self.send_register(now, index, Errand::Register(index));
                }
                self.settle_peer(index);
            }
            Errand::Probe(index) => self.probed(now, index, Some(response.status)),
            Errand::Leave(_) | Errand::Locate(_) => {}
        }
    }

    pub(super) fn errand_failed(&mut self, now: Instant, errand: Errand, cause: EndCause) {
        match errand {
            Errand::Register(index) => {
                let Some(registration) = self.peers.get_mut(index).and_then(|peer| peer.registration.as_mut()) else {
                    return;
                };
                if registration.handle_silence(now, cause, &mut self.rng) == Step::Send {
                    self.send_register(now, index, Errand::Register(index));
                }
                self.settle_peer(index);
            }
            Errand::Probe(index) => self.probed(now, index, None),
            Errand::Leave(_) | Errand::Locate(_) => {}
        }
    }

    fn probed(&mut self, now: Instant, index: usize, status: Option<u16>) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(probe) = &mut peer.probe else { return };
        let changed = probe.handle_result(now, status, &mut self.rng);
        let (down, trunk) = (probe.is_down(), peer.peer.trunk.clone());
        if !down && status.is_some_and(|status| status < 500) {
            peer.trust();
        }
        match (changed, down) {
            (true, true) => {
                let why = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
                tracing::warn!(%trunk, cause = %"trunk-down", "trunk is down: OPTIONS got {why}");
            }
            (true, false) => tracing::info!(%trunk, "trunk is up again"),
            _ => {}
        }
        self.settle_peer(index);
    }

    pub(super) fn send_register(&mut self, now: Instant, index: usize, errand: Errand) {
        let Some(registration) = self.peers.get_mut(index).and_then(|peer| peer.registration.as_mut()) else { return };
        let Some(target) = registration.target() else { return };
        let register = registration.register().clone();
        registration.cseq = registration.cseq.wrapping_add(1) & 0x7fff_ffff;
        let mut lines = match &mut registration.session {
            Some(session) => session.lines("REGISTER", &register.registrar, b"", &mut self.rng),
            None => String::new(),
        };
        lines.push_str(&format!("Expires: {}\r\nSupported: path\r\n", registration.expires()));
        let (tag, cseq, token) = (registration.tag, registration.cseq, registration.token);
        let call_id = registration.call_id.clone();
        let contact =
            match self.local_for(target.transport, target.address.ip()).and_then(|local| self.locals.get(local)) {
                Some(local) => local.contact_of(&compose::escape_user(&register.contact_user), token),
                None => return self.errand_failed(now, errand, EndCause::NoSocket),
            };
        let outside = Outside {
            method: Method::Register,
            uri: &register.registrar,
            from: (&register.address, tag),
            to: &register.address,
            call_id: &call_id,
            cseq,
            contact: &contact,
            lines: &lines,
        };
        self.send_errand(now, target, errand, &outside);
    }

    fn send_options(&mut self, now: Instant, index: usize, target: Target) {
        let Some(uri) = self.peers.get(index).and_then(|peer| peer.peer.uri.clone()) else { return };
        let Some(local) =
            self.local_for(target.transport, target.address.ip()).and_then(|local| self.locals.get(local))
        else {
            return self.probed(now, index, None);
        };
        let (contact, from) = (local.contact.clone(), format!("sip:{}", local.host()));
        let (call_id, tag) = (format!("{:032x}", self.random_u128()), self.fresh_tag());
        let outside = Outside {
            method: Method::Options,
            uri: &uri,
            from: (&from, tag),
            to: &uri,
            call_id: &call_id,
            cseq: 1,
            contact: &contact,
            lines: "Accept: application/sdp\r\n",
        };
        self.send_errand(now, target, Errand::Probe(index), &outside);
    }

    /// Sends a request outside every dialog. Beyond [`crate::Config::max_transactions`] it fails at once, as it does without a
    /// socket for the target.
    pub(super) fn send_errand(&mut self, now: Instant, target: Target, errand: Errand, outside: &Outside<'_>) {
        let Target { transport, address, identity } = target;
        let Some(local) = self.local_for(transport, address.ip()).filter(|_| self.has_room()) else {
            return self.errand_failed(now, errand, EndCause::Overload);
        };
        let flow = Flow { transport, peer: address, local, connection: None, identity, pinned: false };
        let branch = self.random_u128();
        let from = format!("<{}>;tag={}", outside.from.0, tag_text(outside.from.1));
        let data: Bytes = compose::request(&RequestParts {
            method: outside.method.as_str(),
            uri: outside.uri.as_bytes(),
            via_transport: Some(transport),
            sent_by: self.sent_by(flow),
            branch,
            from: from.as_bytes(),
            to: compose::name_addr(None, outside.to).as_bytes(),
            call_id: outside.call_id.as_bytes(),
            cseq: outside.cseq,
            contact: Some(outside.contact),
            lines: outside.lines,
            user_agent: &self.config.user_agent,
            ..RequestParts::default()
        });
        let slot = self.start_client(now, outside.method.clone(), branch, flow, data, None, Purpose::Errand(errand));
        if let Errand::Probe(_) = errand {
            self.give_up_by(slot, now + PROBE_PATIENCE);
        }
    }

    /// Arms the trunk's timer, and lists it if its status changed.
    pub(super) fn settle_peer(&mut self, index: usize) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let next = peer.next_timeout();
        self.timers.arm(&mut peer.wake, next, Owner::Peer(index));
        let status = peer.status();
        let before = std::mem::replace(&mut peer.reported, status);
        if status == before {
            return;
        }
        if status.registered != before.registered {
            let trunk = &peer.peer.trunk;
            match status.registered {
                Registered::Yes => tracing::info!(%trunk, "registered"),
                Registered::Refused(_) => {
                    let cause = tracing::field::display("trunk-not-registered");
                    let registration = peer.registration.as_ref();
                    let registrar = registration.map(|one| one.register().registrar.as_str()).unwrap_or_default();
                    match registration.and_then(Registration::failure) {
                        Some(why) => tracing::warn!(%trunk, cause, "cannot register with {registrar}: {why}"),
                        None => tracing::warn!(%trunk, cause, "cannot register with {registrar}"),
                    }
                }
                Registered::Pending if before.registered == Registered::Yes => {
                    tracing::info!(%trunk, "no longer registered")
                }
                Registered::Pending | Registered::Not => {}
            }
        }
        if !peer.is_listed {
            peer.is_listed = true;
            self.changed_peers.push(index);
        }
    }

    /// The trunk that a request outside every dialog comes from: by a Contact of ours that only its registrar was told, by
    /// the certificate it has shown, or by its source.
    pub(super) fn trunk_of(&self, arrival: &Arrival, request: &Request) -> Option<TrunkName> {
        if let Some(registrar) = self.registrar_of(request) {
            return Some(registrar.clone());
        }
        let source = || trunk::matching(&self.config.trunks, arrival.source.ip()).cloned();
        arrival.proven.clone().or_else(source)
    }

    /// The trunk to whose registrar we gave the Request-URI.
    pub(super) fn registrar_of(&self, request: &Request) -> Option<&TrunkName> {
        let token = request.uri.line_token()?;
        self.peers.get(*self.peers_by_token.get(&token)?).map(|peer| &peer.peer.trunk)
    }

    /// Whom a request is for: the Request-URI's user. A registrar that calls our Contact says in P-Called-Party-ID (RFC 7315
    /// §4.2) or in To which number was called, unless it put that into the Contact's place.
    pub(super) fn called_user(&self, request: &Request) -> String {
        let user = request.uri.user();
        let contact = request
            .uri
            .line_token()
            .and_then(|token| self.peers.get(*self.peers_by_token.get(&token)?))
            .and_then(|peer| peer.registration.as_ref())
            .is_some_and(|registration| registration.register().contact_user == user);
        if !contact {
            return user;
        }
        let named = request.content.called_party().filter(|named| !named.is_empty());
        named.or_else(|| Some(request.to.uri.user()).filter(|user| !user.is_empty())).unwrap_or(user)
    }

    /// Whether a request from a source in no trunk's networks is all the same awaited: a call that a registrar sends to our
    /// Contact, and what belongs to it.
    pub(super) fn is_expected(&self, request: &Request) -> bool {
        let cancels = request.method == Method::Cancel && {
            let key = self.server_key(request, &Method::Invite);
            self.servers_by_key.contains_key(&key) || self.lingering.served(&key).is_some()
        };
        cancels || self.registrar_of(request).is_some()
    }

    /// Where a trunk's password may be shown, beside the address that its calls go to: the addresses that its names have, and
    /// the networks it calls from unless they are so wide that anybody may be in them.
    pub(super) fn home_of(&self, peer: Option<usize>) -> Vec<IpNet> {
        let Some(peer) = peer.and_then(|index| self.peers.get(index)) else { return Vec::new() };
        let networks = self.narrow_networks(&peer.peer.trunk).copied();
        networks.chain(peer.addresses.iter().map(|address| IpNet::from(address.to_canonical()))).collect()
    }

    /// The networks that a trunk calls from, unless they are so wide that anybody may be in them.
    pub(super) fn narrow_networks(&self, trunk: &TrunkName) -> impl Iterator<Item = &IpNet> {
        let narrow = |network: &&IpNet| network.prefix_len() >= if network.addr().is_ipv4() { 24 } else { 64 };
        let acl = self.config.trunks.iter().find(|one| one.name == *trunk);
        acl.into_iter().flat_map(move |acl| acl.networks.iter().filter(narrow))
    }

    /// The place of a trunk in [`crate::Config::peers`].
    pub(super) fn peer_of(&self, trunk: &str) -> Option<usize> {
        self.peers.iter().position(|peer| &*peer.peer.trunk == trunk && !peer.retired)
    }

    /// An INVITE over a leg's trunk was answered, or not, or with 503: the trunk is trusted, or doubted for a while.
    pub(super) fn judge_peer(&mut self, now: Instant, leg: Slot, answers: bool) {
        let Some(index) = self.legs.get(leg).and_then(|leg| leg.peer) else { return };
        let Some(peer) = self.peers.get_mut(index) else { return };
        let trunk = peer.peer.trunk.clone();
        if answers {
            if peer.trust() {
                tracing::info!(%trunk, "trunk answers calls again");
            }
        } else if peer.doubt(now) {
            let uri = peer.peer.uri.as_deref();
            tracing::warn!(%trunk, uri, "trunk did not respond to a call or answered 503: other trunks are tried first for a minute");
        }
        self.settle_peer(index);
    }

    /// Takes a call over a trunk on; `false`: that would be one too many.
    pub(super) fn admit(&mut self, now: Instant, peer: Option<usize>, way: Way) -> bool {
        let Some(index) = peer else { return true };
        let admitted = self.peers.get_mut(index).is_none_or(|peer| peer.admit(now, way));
        self.settle_peer(index);
        admitted
    }
}
