//! The state that all machines of the endpoint use: settings, sockets, randomness, one timer queue and the outputs.
//!
//! The core decides nothing about calls. Each method of a machine has two parameters for state: `&mut self` is the
//! state of this machine, and `&mut Core` is the shared state.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use slotmap::SecondaryMap;

use super::phones;
use super::retry::RetryReason;
use super::session_timer::LOWEST_MIN_SE;
use super::transactions::Key;
use super::{Arrival, Output};
use crate::advertise::bracketed;
use crate::compose::{self, ResponseParts};
use crate::config::{Config, UnknownSources};
use crate::flow::{Flow, Target, Transport};
use crate::guard::{Guard, Offence};
use crate::keys::LegSlot;
use crate::leg::{EndCause, Event, LegId};
use crate::message::{Echo, Host, Malformed, Method, Request, Response, Uri};
use crate::prack::Prack;
use crate::registrar::Aor;
use crate::throttle::Throttle;
use crate::timer::TimerQueue;
use crate::trunk_acl;
use crate::trunk_acl::TrunkName;

/// The shared state of the endpoint's machines.
pub(super) struct Core {
    pub(super) config: Config,
    /// The sockets of this server. A [`Flow`] has the index of its socket in this list.
    pub(super) locals: Vec<Local>,
    /// Whether the application refuses new calls.
    pub(super) refuses_calls: bool,
    /// The SIP addresses of the other nodes of the cluster. Empty if this server is alone.
    pub(super) nodes: HashSet<SocketAddr>,
    pub(super) rng: StdRng,
    /// The secret key of two kinds of hashes. The tag of a stateless response is such a hash, and the key of a
    /// transaction is such a hash.
    secret: u64,
    /// The last reading of the wall clock: the time of the reading, and the time since 1970. `None` before the first
    /// reading.
    pub(super) wall_clock: Option<(Instant, Duration)>,
    pub(super) timers: TimerQueue,
    pub(super) guard: Option<Arc<Guard>>,
    /// Whether this server itself has sent the request that is handled now. Any account can make the server call its own
    /// sockets, so such a request is never an offence of its source, which is this host.
    pub(super) handles_own_request: bool,
    pub(super) counters: Counters,
    /// Limits the rate of the reports about INVITEs from unknown sources.
    unknown_source_lines: Throttle,
    pub(super) outputs: VecDeque<Output>,
    /// The keys of the legs whose messages are traced. A leg is traced until its end has been reported.
    pub(super) traced: SecondaryMap<LegSlot, LegId>,
}

/// Counters since the start of the endpoint.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Number of requests that were refused with 503.
    pub(super) shed: u64,
    /// Number of messages that this server has sent again. Only requests and 2xx responses to INVITEs are counted.
    pub(super) repeated: u64,
    /// Number of requests that had a wrong password or named an unknown user.
    pub(super) wrong_passwords: u64,
    /// Number of requests whose source address is in no trunk's networks.
    pub(super) unknown_source_requests: u64,
    /// Number of messages that could not be parsed.
    pub(super) malformed: u64,
}

/// A socket of this server. `sent_by` is the address in the Via, and `contact` is the address in the Contact.
#[derive(Debug, Clone)]
pub(super) struct Local {
    pub(super) transport: Transport,
    pub(super) bound: SocketAddr,
    pub(super) sent_by: String,
    pub(super) contact: String,
}

impl Core {
    /// Creates the shared state of an endpoint without sockets.
    pub(super) fn new(config: Config, rng_seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(rng_seed);
        let secret = rng.next_u64();
        Self {
            config,
            locals: Vec::new(),
            refuses_calls: false,
            nodes: HashSet::new(),
            rng,
            secret,
            wall_clock: None,
            timers: TimerQueue::default(),
            guard: None,
            handles_own_request: false,
            counters: Counters::default(),
            unknown_source_lines: Throttle::default(),
            outputs: VecDeque::new(),
            traced: SecondaryMap::new(),
        }
    }

    /// Replaces the configured addresses by the addresses to which the sockets are actually bound.
    pub(super) fn set_locals(&mut self, addresses: &[(Transport, SocketAddr)]) {
        let advertise = &self.config.advertise;
        let local =
            |&(transport, bound): &_| Local::new(transport, bound, advertise.sent_by(transport, bound, addresses));
        self.locals = addresses.iter().map(local).collect();
    }

    /// Returns whether there is a socket with this transport and address family.
    pub(super) fn listens_on(&self, transport: Transport, ipv4: bool) -> bool {
        self.locals.iter().any(|local| local.transport == transport && local.bound.is_ipv4() == ipv4)
    }

    pub(super) fn random_u128(&mut self) -> u128 {
        u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64())
    }

    /// Returns a new key for a leg, in the form of [`tandem_id::ordered`]. The application makes the keys of outbound
    /// legs in the same form.
    pub(super) fn new_leg_key(&mut self, now: Instant) -> LegId {
        let (read_at, unix_time) = self.wall_clock.unwrap_or((now, Duration::ZERO));
        let milliseconds = (unix_time + now.saturating_duration_since(read_at)).as_millis();
        let milliseconds = u64::try_from(milliseconds).unwrap_or_default();
        LegId(tandem_id::ordered_from(milliseconds, self.random_u128()))
    }

    /// Returns the Retry-After line of a 503 response.
    pub(super) fn retry_after(&mut self, reason: RetryReason) -> String {
        self.retry_within(reason.seconds())
    }

    /// Returns the Retry-After line of a 500 response. A request with an offer gets this response if an earlier offer
    /// or request is not answered yet (RFC 3261 §14.2, RFC 3311 §5.2).
    pub(super) fn retry_after_offer(&mut self) -> String {
        self.retry_within(0..=10)
    }

    pub(super) fn retry_within(&mut self, seconds: RangeInclusive<u32>) -> String {
        let (min, max) = seconds.into_inner();
        let chance = rand::Rng::next_u32(&mut self.rng) % (max - min + 1);
        format!("Retry-After: {}\r\n", min + chance)
    }

    /// Returns a 128-bit hash that depends on the server's secret. An attacker does not know the secret, so the
    /// attacker cannot create two different requests that get the same key.
    pub(super) fn key_of(&self, fields: impl Hash) -> Key {
        let mut hasher = DefaultHasher::new();
        (self.secret, fields).hash(&mut hasher);
        // The state of the hasher is larger than each half of the hash. So one half does not reveal the other half.
        let half = hasher.finish();
        hasher.write_u64(1);
        Key(u128::from(half) << 64 | u128::from(hasher.finish()))
    }

    /// Returns the To tag of a stateless response. All retransmissions of a request get the same tag.
    pub(super) fn stateless_tag(&self, seed: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, seed).hash(&mut hasher);
        hasher.finish()
    }

    /// Returns a hash of the To tag of a received response.
    pub(super) fn tag_hash(&self, response: &Response) -> u64 {
        self.stateless_tag(response.to.tag.as_deref().unwrap_or_default())
    }

    /// Returns the key of a server transaction (RFC 3261 §17.2.3). `method` is used instead of the method of the
    /// request, so that a CANCEL finds the transaction of its INVITE. If the branch has no magic cookie, the key is
    /// made from the fields that RFC 2543 compares.
    pub(super) fn server_key(&self, request: &Request, method: &Method) -> Key {
        let method = if *method == Method::Ack { "INVITE" } else { method.as_str() };
        let sent_by = &request.via.sent_by;
        match &request.via.branch {
            Some(branch) => self.key_of((method, sent_by, branch)),
            None => {
                let tag = request.from.tag.as_deref().unwrap_or_default();
                self.key_of((method, sent_by, request.uri.text(), tag, &request.call_id, request.cseq))
            }
        }
    }

    /// Returns the key that detects merged requests (RFC 3261 §8.2.2.2).
    pub(super) fn merge_key(&self, request: &Request) -> Key {
        self.key_of((&request.call_id, request.from.tag.as_deref().unwrap_or_default(), request.cseq))
    }

    /// Returns the local socket for a new request to `peer`.
    pub(super) fn local_for(&self, transport: Transport, peer: IpAddr) -> Option<usize> {
        let of_transport = |local: &Local| local.transport == transport && local.bound.is_ipv4() == peer.is_ipv4();
        // A loopback socket can reach only loopback addresses. So other destinations use another socket if there is
        // one.
        self.locals
            .iter()
            .position(|local| of_transport(local) && local.bound.ip().is_loopback() == peer.is_loopback())
            .or_else(|| self.locals.iter().position(of_transport))
    }

    /// Returns the index of the local socket that received a message.
    pub(super) fn local_of(&self, arrival: &Arrival) -> usize {
        let locals = || self.locals.iter().enumerate().filter(|(_, local)| local.transport == arrival.transport);
        locals()
            .find(|(_, local)| local.bound == arrival.local)
            .or_else(|| locals().find(|(_, local)| local.bound.port() == arrival.local.port()))
            .or_else(|| locals().next())
            .map_or(0, |(index, _)| index)
    }

    /// Returns the flow on which a message can be sent back to the sender of `arrival`.
    pub(super) fn arrival_flow(&self, arrival: &Arrival) -> Flow {
        Flow {
            transport: arrival.transport,
            peer: arrival.source,
            local: self.local_of(arrival),
            connection: arrival.connection,
            identity: None,
            pinned: false,
            secure: false,
        }
    }

    /// Returns the flow of a response (RFC 3261 §18.2.2). If the request came over a stream, the response uses the same
    /// connection. If this connection is closed, the response goes to the sent-by port of the Via. `maddr` is ignored,
    /// because an attacker could use it to send responses to a third party.
    pub(super) fn response_flow(&self, arrival: &Arrival, echo: &Echo) -> Flow {
        let peer = match arrival.transport.is_reliable() {
            true => echo.reconnect,
            false if echo.destination != arrival.source && self.is_behind_nat(arrival) => arrival.source,
            false => echo.destination,
        };
        Flow { peer, ..self.arrival_flow(arrival) }
    }

    /// Removes targets from the front of the list until a local socket can reach the removed target. Returns the flow
    /// to this target.
    pub(super) fn next_hop(&self, hops: &mut Vec<Target>) -> Option<Flow> {
        while !hops.is_empty() {
            let Target { transport, address, identity } = hops.remove(0);
            if let Some(local) = self.local_for(transport, address.ip()) {
                let (connection, pinned, secure) = (None, false, false);
                return Some(Flow { transport, peer: address, local, connection, identity, pinned, secure });
            }
        }
        None
    }

    /// Returns the Contact URI of this server for messages on this flow. The URI has no angle brackets.
    pub(super) fn contact(&self, flow: Flow) -> String {
        let Some(local) = self.locals.get(flow.local) else { return String::new() };
        match local.transport {
            Transport::Tls if flow.secure => format!("sips:{}", local.sent_by),
            Transport::Wss if flow.secure => format!("sips:{};transport=ws", local.sent_by),
            _ => local.contact.clone(),
        }
    }

    /// Returns the `host:port` in the Via of messages on this flow.
    pub(super) fn sent_by(&self, flow: Flow) -> &str {
        self.locals.get(flow.local).map(|local| local.sent_by.as_str()).unwrap_or_default()
    }

    /// Returns the user part of a URI. Returns `None` if the host of the URI is not an address of this server.
    pub(super) fn own_user(&self, uri: &Uri) -> Option<String> {
        let destination = uri.destination()?;
        let port = destination.port.unwrap_or(5060);
        let ours = match &destination.host {
            Host::Ip(ip) => {
                let address = SocketAddr::new(*ip, port).to_string();
                self.locals.iter().any(|local| local.sent_by == address || local.bound.to_string() == address)
            }
            Host::Name(name) => {
                let address = format!("{name}:{port}");
                self.locals.iter().any(|local| local.sent_by.eq_ignore_ascii_case(&address))
            }
        };
        ours.then(|| uri.user())
    }

    /// Returns the trunk whose networks contain the source. If several trunks match, the narrowest network decides.
    pub(super) fn trunk_at(&self, source: IpAddr) -> Option<&TrunkName> {
        trunk_acl::matching(&self.config.trunks, source)
    }

    /// Returns whether another node of the cluster has this IP address.
    pub(super) fn is_node(&self, ip: IpAddr) -> bool {
        self.nodes.iter().any(|node| node.ip() == ip.to_canonical())
    }

    /// Returns whether the source is outside the networks of all trunks.
    pub(super) fn is_unknown(&self, source: IpAddr) -> bool {
        self.trunk_at(source).is_none()
    }

    /// Returns whether the sender is unknown: neither its source address nor a certificate belongs to a trunk.
    pub(super) fn is_unknown_source(&self, arrival: &Arrival) -> bool {
        self.trunk_of_sender(arrival).is_none()
    }

    /// Returns the trunk to which the certificate or the source address of the sender belongs.
    pub(super) fn trunk_of_sender<'a>(&'a self, arrival: &'a Arrival) -> Option<&'a TrunkName> {
        let by_source = || self.trunk_at(arrival.source.ip()).filter(|_| !arrival.from_page);
        arrival.certified_trunk.as_ref().or_else(by_source)
    }

    /// Returns whether the message comes from a trunk that is behind a NAT ([`crate::Trunk::nat`]).
    fn is_behind_nat(&self, arrival: &Arrival) -> bool {
        self.trunk_at(arrival.source.ip()).is_some_and(|name| self.uses_nat(name))
    }

    /// Returns whether a trunk is behind a NAT ([`crate::Trunk::nat`]).
    pub(super) fn uses_nat(&self, name: &TrunkName) -> bool {
        self.config.trunk_settings.iter().any(|trunk| trunk.trunk == *name && trunk.nat)
    }

    /// Returns the source networks of a trunk, without networks wider than /24 (IPv4) or /64 (IPv6). Such wide networks
    /// may contain unknown senders.
    pub(super) fn narrow_networks(&self, trunk: &TrunkName) -> impl Iterator<Item = &IpNet> {
        self.networks_of(trunk, (24, 64))
    }

    /// Returns the source networks of a trunk that have at least this prefix length (IPv4, IPv6).
    pub(super) fn networks_of(&self, trunk: &TrunkName, least: (u8, u8)) -> impl Iterator<Item = &IpNet> {
        let narrow =
            move |network: &&IpNet| network.prefix_len() >= if network.addr().is_ipv4() { least.0 } else { least.1 };
        let acl = self.config.trunks.iter().find(|one| one.name == *trunk);
        acl.into_iter().flat_map(move |acl| acl.networks.iter().filter(narrow))
    }

    /// Returns whether a network of a trunk contains the source. Networks wider than /8 (IPv4) or /16 (IPv6) do not count,
    /// because they say nothing about the source.
    pub(super) fn is_named_source(&self, source: IpAddr) -> bool {
        let trunks = &self.config.trunks;
        trunks.iter().any(|trunk| self.networks_of(&trunk.name, (8, 16)).any(|network| network.contains(&source)))
    }

    /// Returns the sockets of this server that a message to this address over `transport` reaches. A stream transport
    /// reaches the sockets of all stream transports at this address. For a socket that is bound to every address of the
    /// host, only the loopback addresses and the advertised address are known.
    pub(super) fn own_sockets(&self, transport: Transport, address: SocketAddr) -> impl Iterator<Item = &Local> {
        let ip = address.ip().to_canonical();
        self.locals.iter().filter(move |local| {
            let of_host = || ip.is_loopback() || local.host() == bracketed(ip);
            local.transport.is_reliable() == transport.is_reliable()
                && (local.bound == address
                    || local.bound.ip().is_unspecified() && local.bound.port() == address.port() && of_host())
        })
    }

    /// Returns the setting for reliable provisional responses in calls of this trunk. If there is no trunk, returns the
    /// general setting.
    pub(super) fn prack_of(&self, trunk: Option<&TrunkName>) -> Prack {
        trunk.and_then(|trunk| self.config.prack_by_trunk.get(trunk)).copied().unwrap_or(self.config.prack)
    }

    /// Returns whether provisional responses to this INVITE must be reliable.
    pub(super) fn is_to_be_reliable(&self, request: &Request, trunk: Option<&TrunkName>) -> bool {
        match self.prack_of(trunk) {
            Prack::Off => false,
            Prack::Supported => request.content.has_token("Require", "100rel"),
            Prack::Required => {
                request.content.has_token("Require", "100rel") || request.content.has_token("Supported", "100rel")
            }
        }
    }

    /// Returns whether the far end of a call may transfer the call with REFER. If the trunk has a separate setting,
    /// this setting replaces the general setting.
    pub(super) fn may_refer(&self, trunk: Option<&TrunkName>) -> bool {
        trunk.and_then(|trunk| self.config.refer_by_trunk.get(trunk)).copied().unwrap_or(self.config.refer)
    }

    /// Reports to the guard that a source has misbehaved. A request of this server itself is no offence.
    pub(super) fn record_offence(&self, now: Instant, source: IpAddr, offence: Offence) {
        if let Some(guard) = self.guard.as_ref().filter(|_| !self.handles_own_request) {
            guard.record_offence(now, source, offence);
        }
    }

    /// Reports to the guard that a source has sent a wrong password for the user with this name at this domain.
    pub(super) fn record_wrong_password(&self, now: Instant, source: IpAddr, user: (&str, &str)) {
        if let Some(guard) = &self.guard {
            guard.record_wrong_password(now, Some(source).filter(|_| !self.handles_own_request), user);
        }
    }

    /// Reports to the guard that a source has sent the correct password of the user with this name at this domain.
    pub(super) fn note_authenticated(&self, now: Instant, source: IpAddr, user: (&str, &str)) {
        if let Some(guard) = &self.guard {
            guard.note_authenticated(now, source, user);
        }
    }

    /// Sends a message along a flow.
    pub(super) fn transmit(&mut self, flow: Flow, data: Bytes) {
        let local = self.locals.get(flow.local).map(|local| local.bound);
        self.outputs.push_back(Output::Transmit {
            destination: flow.peer,
            local,
            transport: flow.transport,
            connection: flow.connection,
            identity: flow.identity,
            data,
        });
    }

    /// Reports the end of a leg whose INVITE was not sent.
    pub(super) fn report_unplaced(&mut self, leg: LegId, cause: EndCause) {
        self.event(Event::Ended { leg, cause, status: None, reason: None, headers: Vec::new() });
    }

    /// Reports the end of a leg whose user has no contact, or whose binding has ended.
    pub(super) fn report_unregistered(&mut self, leg: LegId, aor: &Aor) {
        let reason = Some(format!("{} is not registered", aor.username));
        let (cause, status, headers) = (EndCause::Rejected, Some(480), Vec::new());
        self.event(Event::Ended { leg, cause, status, reason, headers });
    }

    /// Reports an event to the application.
    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Reports a message of a leg to the trace. Does nothing if the end of the leg has been reported.
    pub(super) fn trace(&mut self, leg: Option<LegSlot>, sent: bool, flow: Flow, line: impl FnOnce() -> String) {
        if !self.config.trace {
            return;
        }
        if let Some(&leg) = leg.and_then(|leg| self.traced.get(leg)) {
            self.event(Event::Trace { leg, sent, peer: flow.peer, transport: flow.transport, line: line() });
        }
    }

    /// Responds without a transaction. `lines` are complete header lines.
    pub(super) fn refuse(&mut self, arrival: &Arrival, echo: &Echo, status: u16, lines: &str) {
        self.respond_statelessly(arrival, echo, ResponseParts { status, lines, ..ResponseParts::default() });
    }

    /// Responds without a transaction, with this reason phrase.
    pub(super) fn refuse_with(&mut self, arrival: &Arrival, echo: &Echo, status: u16, reason: &str) {
        let parts = ResponseParts { status, reason: Some(reason), ..ResponseParts::default() };
        self.respond_statelessly(arrival, echo, parts);
    }

    /// Responds without a transaction (RFC 3261 §8.2.7).
    pub(super) fn respond_statelessly(&mut self, arrival: &Arrival, echo: &Echo, parts: ResponseParts<'_>) {
        let tag = Some(parts.tag.unwrap_or_else(|| self.stateless_tag(&echo.lines)));
        // A response to an unknown source does not have the Server header.
        let known = arrival.certified_trunk.is_some() || !self.is_unknown(arrival.source.ip());
        let server = if known { self.config.user_agent.as_str() } else { "" };
        let refer = known && self.may_refer(trunk_acl::matching(&self.config.trunks, arrival.source.ip()));
        let data = compose::response(echo, &ResponseParts { tag, server, refer, ..parts });
        let flow = self.response_flow(arrival, echo);
        self.transmit(flow, data);
    }

    /// Counts a request whose source is in no trunk's networks. An INVITE is also reported to the application, because
    /// it may come from a carrier whose address is missing in the configuration.
    pub(super) fn note_unknown_source(&mut self, now: Instant, arrival: &Arrival, request: &Request) {
        self.counters.unknown_source_requests += 1;
        self.record_offence(now, arrival.source.ip(), Offence::Refused);
        if request.method == Method::Invite
            && let Some(held_back) = self.unknown_source_lines.pass(now)
        {
            let what = match self.config.unknown_sources {
                UnknownSources::Reject => "refused with 403: its source is in no trunk's inbound_from",
                UnknownSources::Silent => "ignored: its source is in no trunk's inbound_from",
            };
            let refusal = phones::refusal(arrival, request, "", what, Some(held_back));
            self.event(Event::UnknownSource(Box::new(refusal)));
        }
    }

    /// Responds to a message that could not be parsed. Does nothing if the message has too few valid fields for a
    /// response.
    pub(super) fn refuse_malformed(&mut self, arrival: &Arrival, malformed: &Malformed) {
        self.counters.malformed += 1;
        tracing::debug!(peer = %arrival.source, reason = %malformed.reason, "malformed message");
        let Some(echo) = &malformed.echo else { return };
        if self.is_unknown_source(arrival) && self.config.unknown_sources == UnknownSources::Silent {
            return;
        }
        // The exact reason would reveal to an unknown source which SIP parser the server uses.
        let reason = (!self.is_unknown(arrival.source.ip())).then_some(&*malformed.reason);
        let parts = ResponseParts { status: malformed.status, reason, ..ResponseParts::default() };
        self.respond_statelessly(arrival, echo, parts);
    }

    /// Returns the header lines of an INVITE that are about extensions.
    pub(super) fn invite_lines(&self, prack: Option<Prack>, min_se: u32, replaces: Option<&str>) -> String {
        let prack = prack.unwrap_or(self.config.prack);
        let mut lines = ["Supported: ", compose::supported(prack != Prack::Off), "\r\n"].concat();
        if prack == Prack::Required {
            lines.push_str("Require: 100rel\r\n");
        }
        if let Some(replaces) = replaces {
            lines.push_str("Require: replaces\r\nReplaces: ");
            lines.extend(replaces.chars().map(|c| if c.is_control() { ' ' } else { c }));
            lines.push_str("\r\n");
        }
        lines.push_str(&self.session_lines(min_se));
        lines
    }

    /// Returns the session timer lines for an INVITE. `least` is the Min-SE of a received 422, in seconds.
    pub(super) fn session_lines(&self, least: u32) -> String {
        let (wanted, min_se) = (self.config.session_expires, self.config.min_se.max(LOWEST_MIN_SE).max(least));
        let min = if min_se > LOWEST_MIN_SE { format!("Min-SE: {min_se}\r\n") } else { String::new() };
        match wanted {
            0 => min,
            wanted => format!("Session-Expires: {}\r\n{min}", wanted.max(min_se)),
        }
    }
}

impl Local {
    fn new(transport: Transport, bound: SocketAddr, (host, port): (String, u16)) -> Self {
        let sent_by = format!("{host}:{port}");
        let contact = match transport {
            Transport::Udp => format!("sip:{sent_by}"),
            // RFC 7118 §5.3 does not define `transport=wss`.
            Transport::Ws | Transport::Wss => format!("sip:{sent_by};transport=ws"),
            Transport::Tcp | Transport::Tls => format!("sip:{sent_by};transport={}", transport.parameter()),
        };
        Self { transport, bound, sent_by, contact }
    }

    /// Returns the Contact for a registrar. When the registrar calls this Contact, the `line` parameter identifies the
    /// trunk.
    pub(super) fn contact_of(&self, user: &str, token: u128) -> String {
        let at = self.contact.strip_prefix("sip:").unwrap_or(&self.contact);
        format!("sip:{user}@{at};line={token:032x}")
    }

    /// Returns the URI, in angle brackets, by which a proxy that forwards along a flow names itself in Record-Route.
    /// `user` names the flow.
    pub(super) fn record_route(&self, user: &str) -> String {
        let at = self.contact.strip_prefix("sip:").unwrap_or(&self.contact);
        format!("<sip:{user}@{at};lr>")
    }

    pub(super) fn host(&self) -> &str {
        self.sent_by.rsplit_once(':').map_or(self.sent_by.as_str(), |(host, _)| host)
    }
}
