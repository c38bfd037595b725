//! ICE, consent and DTLS of one leg.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds};
use serde::{Deserialize, Serialize};

use crate::checks::{Checks, Kind};
use crate::fingerprint::Fingerprint;
use crate::handshake::{Handshake, Keys, News};
use crate::identity::Identity;

/// The time without consent after which a connection counts as interrupted.
const INTERRUPTED: Duration = Duration::from_secs(15);
/// The time without consent after which nothing more may be sent (RFC 7675 §5.1).
const EXPIRED: Duration = Duration::from_secs(30);
/// The time in which the signalling can end a leg whose far end has closed the DTLS association. The signalling takes another
/// way, so the order of the two messages is not known.
const CLOSING: Duration = Duration::from_secs(2);
/// The time within which a connection must find a route.
const SETUP: Duration = Duration::from_secs(30);
/// The time without an answer to our checks after which a route gives way to another one that answers. We check every 3 s,
/// so that one lost datagram moves nothing.
const SILENT: Duration = Duration::from_secs(7);
/// The time that a silent route has to answer again after another one has answered. After an interruption of all ways, the
/// old one is better.
const GRACE: Duration = Duration::from_secs(1);
/// The pace of connectivity checks. RFC 8445 §14.2 names 50 ms for a host with many connections; one audio stream with
/// few candidates can go faster.
const PACE: Duration = Duration::from_millis(20);
/// The number of unanswered checks after which the agent gives up a way: somewhat more than [`EXPIRED`].
const CHECKS: usize = 13;
/// The highest number of candidates that a far end may announce, between two ICE restarts.
const MAX_CANDIDATES: usize = 32;
/// The highest number of sources that may pass a STUN check, between two ICE restarts. A browser has one for each network
/// and each TURN server.
const MAX_SOURCES: usize = 64;
/// The highest number of DTLS datagrams that wait for the far end's description.
const MAX_EARLY: usize = 8;
/// The highest number of datagrams that wait for [`Connection::poll_transmit`]. A flight of a handshake has at most six.
const MAX_WAITING: usize = 64;

/// The user name and password of STUN messages (RFC 8839 §5.4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credentials({})", self.ufrag)
    }
}

impl From<&Credentials> for IceCreds {
    fn from(credentials: &Credentials) -> IceCreds {
        IceCreds { ufrag: credentials.ufrag.clone(), pass: credentials.password.clone() }
    }
}

/// The transport protocol of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// A stream with the framing of RFC 4571. We only accept connections (RFC 6544, `passive`).
    Tcp,
}

/// The part that this side plays in the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// `a=setup:active`
    Client,
    /// `a=setup:passive`
    Server,
}

/// The kind of a far end. It decides about the DTLS of an association.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FarEnd {
    /// A browser: DTLS 1.2 or 1.3, and a certificate with an ECDSA key.
    #[default]
    Browser,
    /// A SIP phone: DTLS 1.2, and a certificate with an ECDSA or an RSA key.
    Phone,
}

/// An address of this host, as the far end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalAddress {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The address in the candidate.
    pub address: SocketAddr,
}

/// The far end's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// The far end's credentials. Other credentials than before mean an ICE restart of the far end.
    pub credentials: Credentials,
    /// The fingerprints of the far end's certificate. One of them must match. Other fingerprints than before begin a new
    /// DTLS association.
    pub fingerprints: Vec<Fingerprint>,
    /// Our own role in the handshake, as offer and answer have agreed it.
    pub role: Role,
    /// Whether the far end only answers checks (RFC 8445 §2.5).
    pub lite: bool,
    /// The kind of the far end.
    #[serde(default)]
    pub far_end: FarEnd,
}

/// The way of our packets to the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The transport protocol.
    pub protocol: Protocol,
    /// Our address.
    pub local: SocketAddr,
    /// The far end's address.
    pub remote: SocketAddr,
}

/// A datagram that must be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The way of the datagram.
    pub route: Route,
    /// The content: STUN or DTLS.
    pub octets: Vec<u8>,
}

/// What a received datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// RTP or RTCP, which the caller handles.
    Media,
    /// The connection has handled the datagram.
    Handled,
    /// The datagram is not authentic, or nobody announced it. It has changed nothing, and was counted.
    Refused,
}

/// A change of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Packets go this way from now on.
    Route(Route),
    /// The handshake is complete. These keys replace earlier keys.
    Keys(Keys),
    /// The far end has given no consent for 15 s. The connection goes on trying.
    Interrupted,
    /// The far end gives consent again.
    Restored,
    /// The connection has ended. An ICE restart can bring it back, unless the reason is the handshake or the fingerprint.
    Failed(Failure),
}

/// The reason why a connection has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No pair of addresses passed the connectivity checks within 30 s (RFC 8445 §8.1.2).
    #[error("ICE found no route to the far end")]
    NoRoute,
    /// The far end has answered no connectivity check for 30 s (RFC 7675 §5.1).
    #[error("the far end no longer consents to receive media")]
    ConsentExpired,
    /// The far end's certificate does not have the fingerprint of its description (RFC 8122 §5).
    #[error("the far end's certificate does not fit the fingerprint in its SDP")]
    Fingerprint,
    /// The DTLS handshake failed (RFC 5763 §5). The text is the error of the handshake.
    #[error("the DTLS handshake failed: {0}")]
    Handshake(String),
    /// The far end has closed the DTLS association, and its signalling has not ended the leg within 2 s.
    #[error("the far end has closed its media connection")]
    Closed,
}

/// The numbers of datagrams and candidates that changed nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// STUN messages that are malformed, not for this connection, or have a wrong password.
    pub refused_stun: u64,
    /// DTLS records of sources that have not passed a STUN check.
    pub refused_dtls: u64,
    /// Candidates that are malformed, have a host name, or are too many.
    pub skipped_candidates: u64,
    /// Datagrams that are neither STUN nor DTLS nor RTP.
    pub unknown: u64,
}

/// The time of the last sign of consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consent {
    /// No check has succeeded since this time.
    Awaited {
        since: Instant,
    },
    Given {
        at: Instant,
    },
    Interrupted {
        at: Instant,
    },
    /// The far end has closed the DTLS association.
    Closed {
        at: Instant,
    },
    Over,
}

/// ICE, consent and DTLS of one leg.
pub struct Connection {
    identity: Arc<Identity>,
    agent: IceAgent,
    remote: Option<Remote>,
    /// The association whose keys are in use, or the first one.
    handshake: Option<Handshake>,
    /// The association that replaces `handshake` when it is complete: the far end has another certificate.
    next: Option<Handshake>,
    /// The fingerprints of the newest association, which another process may have completed.
    fingerprints: Option<Vec<Fingerprint>>,
    route: Option<Route>,
    checks: Checks,
    /// When the far end has last answered on `route`.
    answered: Instant,
    /// The latest other route on which the far end has answered since then, and the time of the first such answer.
    other: Option<(Route, Instant)>,
    /// The source of the newest DTLS record. A handshake can begin before a route is chosen.
    dtls_source: Option<Route>,
    sources: Vec<(Protocol, SocketAddr)>,
    early: Vec<(Route, Vec<u8>)>,
    candidates: usize,
    consent: Consent,
    waiting: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counts: Counts,
}

impl Connection {
    /// Creates a connection. `controlling` says whether this side has made the offer (RFC 8445 §6.1.1). With `lite`, this
    /// side only answers checks: it must then be reachable at each of its addresses.
    pub fn new(
        now: Instant,
        identity: Arc<Identity>,
        credentials: &Credentials,
        addresses: &[LocalAddress],
        controlling: bool,
        lite: bool,
    ) -> Connection {
        let mut agent = IceAgent::new(credentials.into());
        agent.set_ice_lite(lite);
        agent.set_controlling(controlling && !lite);
        agent.set_timing_advance(PACE);
        agent.set_max_stun_retransmits(CHECKS);
        for LocalAddress { protocol, address } in addresses {
            if let Some(candidate) = candidate_of(*protocol, *address) {
                agent.add_local_candidate(candidate);
            }
        }
        agent.handle_timeout(now);
        Connection {
            identity,
            agent,
            remote: None,
            handshake: None,
            next: None,
            fingerprints: None,
            route: None,
            checks: Checks::default(),
            answered: now,
            other: None,
            dtls_source: None,
            sources: Vec::new(),
            early: Vec::new(),
            candidates: 0,
            consent: Consent::Awaited { since: now },
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The lines `a=candidate` of our addresses, without `a=`.
    pub fn local_candidates(addresses: &[LocalAddress]) -> Vec<String> {
        // The agent computes foundations and priorities.
        let mut agent = IceAgent::new(IceCreds { ufrag: String::new(), pass: String::new() });
        let all = addresses.iter().filter_map(|LocalAddress { protocol, address }| {
            let candidate = candidate_of(*protocol, *address)?;
            let line = agent.add_local_candidate(candidate)?.to_sdp_string();
            line.split_once(" ufrag").map(|(line, _)| line.to_owned())
        });
        all.collect()
    }

    /// The numbers of datagrams and candidates that changed nothing.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The way of our packets, once a check has succeeded.
    pub fn route(&self) -> Option<Route> {
        self.route
    }

    /// Applies the far end's description. The same description again changes nothing.
    pub fn set_remote(&mut self, now: Instant, remote: &Remote) {
        if self.remote.as_ref() == Some(remote) {
            return;
        }
        if remote.lite && !self.agent.ice_lite() {
            self.agent.set_controlling(true);
        }
        self.agent.set_remote_credentials((&remote.credentials).into());
        self.agent.handle_timeout(now);
        if self.fingerprints.as_ref() != Some(&remote.fingerprints) {
            let is_next = self.fingerprints.replace(remote.fingerprints.clone()).is_some();
            match Handshake::new(now, &self.identity, remote) {
                Ok(handshake) if is_next => self.next = Some(handshake),
                Ok(handshake) => self.handshake = Some(handshake),
                Err(failure) => self.fail(failure),
            }
        }
        self.remote = Some(remote.clone());
        self.drain_agent(now);
        for (route, octets) in std::mem::take(&mut self.early) {
            self.handle_dtls(now, route, &octets);
        }
        self.drain_handshakes(now);
    }

    /// Continues a connection whose handshake was complete in another process, with a certificate that has one of
    /// `fingerprints`. `route` stays until a check succeeds. Call this function before [`Connection::set_remote`]. The
    /// caller has the keys.
    pub fn resume(&mut self, now: Instant, route: Route, fingerprints: &[Fingerprint]) {
        self.route = Some(route);
        self.answered = now;
        self.consent = Consent::Given { at: now };
        self.fingerprints = Some(fingerprints.to_vec());
    }

    /// Restarts ICE with new credentials of this side (RFC 8445 §9). Packets keep their way until a check succeeds with
    /// the new credentials. The DTLS association stays.
    pub fn restart(&mut self, now: Instant, credentials: &Credentials) {
        self.agent.ice_restart(credentials.into(), true);
        self.remote = None;
        self.sources.clear();
        self.other = None;
        self.candidates = 0;
        if let Consent::Closed { .. } | Consent::Over = self.consent {
            self.consent = Consent::Awaited { since: now };
        }
        self.agent.handle_timeout(now);
        self.drain_agent(now);
    }

    /// Adds a candidate of the far end: the text after `a=`. A candidate that cannot be used is counted. Names
    /// (`.local`) are not resolved: the far end's checks show its address (RFC 8445 §7.3.1.3).
    pub fn add_candidate(&mut self, now: Instant, line: &str) {
        self.candidates += 1;
        let line = line.trim();
        let line = line.strip_prefix("a=").unwrap_or(line);
        match Candidate::from_sdp_string(line) {
            // We begin no streams. Those of the far end show their address by their checks.
            Ok(candidate) if protocol_of(candidate.proto()) == Some(Protocol::Tcp) => {}
            Ok(candidate) if self.candidates <= MAX_CANDIDATES && !candidate.addr().ip().is_multicast() => {
                self.agent.add_remote_candidate(candidate);
                self.agent.handle_timeout(now);
                self.drain_agent(now);
            }
            _ => self.counts.skipped_candidates += 1,
        }
    }

    /// Handles a datagram, or a frame of a TCP connection. `route` says where it came from and at which of our addresses
    /// it arrived.
    pub fn handle_datagram(&mut self, now: Instant, route: Route, octets: &[u8]) -> Datagram {
        match octets.first() {
            Some(128..=191) => Datagram::Media,
            Some(0..=3) => self.handle_stun(now, route, octets),
            Some(20..=63) => {
                let handled = self.handle_dtls(now, route, octets);
                self.drain_handshakes(now);
                handled
            }
            _ => {
                self.counts.unknown += 1;
                Datagram::Refused
            }
        }
    }

    fn handle_stun(&mut self, now: Instant, route: Route, octets: &[u8]) -> Datagram {
        let Some(kind) = self.take_stun(now, route, octets) else {
            self.counts.refused_stun += 1;
            return Datagram::Refused;
        };
        // A check is consent, too: some browsers stop their answers when several pairs are open, and go on with checks.
        if kind != Kind::Repetition {
            self.note_consent(now);
        }
        self.drain_agent(now);
        Datagram::Handled
    }

    /// Gives a STUN message to the agent. Returns `None` if the message is not authentic.
    fn take_stun(&mut self, now: Instant, route: Route, octets: &[u8]) -> Option<Kind> {
        let message = StunMessage::parse(octets).ok()?;
        let id = message.trans_id();
        let kind = self.checks.judge(route.remote, message.is_binding_request(), id);
        let known = self.knows(route);
        let has_place = known || self.sources.len() < MAX_SOURCES;
        if kind == Kind::Forged || !has_place || !self.agent.accepts_message(&message) {
            return None;
        }
        // A lite side sends no checks, so that a nomination of the far end has to do.
        let nominates = kind == Kind::Check && message.use_candidate() && self.agent.ice_lite();
        let succeeds = kind == Kind::Answer && message.is_successful_binding_response();
        let (proto, source, destination) = (route.protocol.into(), route.remote, route.local);
        self.agent.handle_packet(now, StunPacket { proto, source, destination, message });
        // The agent evaluates nominations here. Otherwise it would do so at its next timeout only.
        self.agent.handle_timeout(now);
        if !known {
            self.sources.push((route.protocol, route.remote));
        }
        self.checks.note_received(route.remote, kind, id);
        if succeeds || nominates {
            self.note_answered(now, route);
        }
        Some(kind)
    }

    /// Whether this source has passed a STUN check.
    fn knows(&self, route: Route) -> bool {
        self.sources.contains(&(route.protocol, route.remote))
    }

    /// Takes note that the far end can be reached on a route.
    fn note_answered(&mut self, now: Instant, route: Route) {
        if self.route == Some(route) {
            self.answered = now;
            self.other = None;
        } else {
            self.other = Some((route, self.other.map_or(now, |(_, since)| since)));
        }
    }

    /// When the route gives way to another one: a NAT has given the far end another address, or one of its networks is
    /// gone. The agent itself gives up a nominated pair only after [`CHECKS`].
    fn moves_at(&self) -> Option<Instant> {
        self.route?;
        self.other.map(|(_, since)| (self.answered + SILENT).max(since + GRACE))
    }

    fn move_when_silent(&mut self, now: Instant) {
        if self.moves_at().is_some_and(|at| at <= now)
            && let Some((route, _)) = self.other.take()
        {
            self.set_route(now, route);
        }
    }

    fn set_route(&mut self, now: Instant, route: Route) {
        (self.answered, self.other) = (now, None);
        if self.route.replace(route) != Some(route) {
            self.events.push_back(Event::Route(route));
        }
    }

    fn note_consent(&mut self, now: Instant) {
        match self.consent {
            Consent::Closed { .. } | Consent::Over => return,
            Consent::Interrupted { .. } => self.events.push_back(Event::Restored),
            // A check of the far end is not a route yet.
            Consent::Awaited { .. } if self.route.is_none() => return,
            Consent::Awaited { .. } | Consent::Given { .. } => {}
        }
        self.consent = Consent::Given { at: now };
    }

    fn handle_dtls(&mut self, now: Instant, route: Route, octets: &[u8]) -> Datagram {
        if !self.knows(route) {
            self.counts.refused_dtls += 1;
            return Datagram::Refused;
        }
        if self.remote.is_none() && self.handshake.is_none() {
            if self.early.len() < MAX_EARLY {
                self.early.push((route, octets.to_vec()));
            }
            return Datagram::Handled;
        }
        self.dtls_source = Some(route);
        let handled = match (&mut self.next, &mut self.handshake) {
            (Some(handshake), _) | (None, Some(handshake)) => handshake.handle_datagram(now, octets),
            (None, None) => Ok(()),
        };
        if let Err(failure) = handled {
            self.fail(failure);
        }
        Datagram::Handled
    }

    /// Does the work that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.agent.poll_timeout().is_some_and(|at| at <= now) {
            self.agent.handle_timeout(now);
            self.drain_agent(now);
        }
        self.move_when_silent(now);
        let handshakes = [&mut self.handshake, &mut self.next].into_iter().flatten();
        let due = handshakes.filter(|handshake| handshake.timeout().is_some_and(|at| at <= now));
        let results: Vec<Result<(), Failure>> = due.map(|handshake| handshake.handle_timeout(now)).collect();
        if !results.is_empty() {
            results.into_iter().filter_map(Result::err).for_each(|failure| self.fail(failure));
            self.drain_handshakes(now);
        }
        match self.consent {
            Consent::Awaited { since } if since + SETUP <= now => self.fail(Failure::NoRoute),
            Consent::Given { at } if at + INTERRUPTED <= now => {
                self.consent = Consent::Interrupted { at };
                self.events.push_back(Event::Interrupted);
            }
            Consent::Interrupted { at } if at + EXPIRED <= now => self.fail(Failure::ConsentExpired),
            Consent::Closed { at } if at + CLOSING <= now => self.fail(Failure::Closed),
            _ => {}
        }
    }

    /// Returns the time at which [`Connection::handle_timeout`] must be called. `None` after the end.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let consent = match self.consent {
            Consent::Over => return None,
            Consent::Awaited { since } => since + SETUP,
            Consent::Given { at } => at + INTERRUPTED,
            Consent::Interrupted { at } => at + EXPIRED,
            Consent::Closed { at } => at + CLOSING,
        };
        let handshakes = [&self.handshake, &self.next];
        let handshakes =
            handshakes.into_iter().flatten().filter(|one| one.role() == Role::Server || self.route.is_some());
        let times = handshakes.filter_map(Handshake::timeout).chain(self.agent.poll_timeout());
        times.chain(self.moves_at()).chain([consent]).min()
    }

    /// Returns the next datagram that must be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some(transmit) = self.agent.poll_transmit() {
            let protocol = protocol_of(transmit.proto)?;
            let route = Route { protocol, local: transmit.source, remote: transmit.destination };
            let octets: Vec<u8> = transmit.contents.into();
            if let Some(check) = StunMessage::parse(&octets).ok().filter(StunMessage::is_binding_request) {
                self.checks.note_sent(route.remote, check.trans_id());
            }
            return Some(Transmit { route, octets });
        }
        self.waiting.pop_front()
    }

    /// Returns the next change.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ends the connection, and tells the far end.
    pub fn close(&mut self) {
        let Some(to) = self.route.or(self.dtls_source) else { return };
        let waiting = &mut self.waiting;
        if let Some(handshake) = &mut self.handshake {
            handshake.close(|octets| push(waiting, to, octets));
        }
        self.consent = Consent::Over;
    }

    fn fail(&mut self, failure: Failure) {
        if self.consent != Consent::Over {
            self.consent = Consent::Over;
            self.events.push_back(Event::Failed(failure));
        }
    }

    /// Takes the events of the agent. A client begins its handshake when it has a route.
    fn drain_agent(&mut self, now: Instant) {
        let before = self.route;
        while let Some(event) = self.agent.poll_event() {
            if let IceAgentEvent::NominatedSend { proto, source, destination } = event
                && let Some(protocol) = protocol_of(proto)
            {
                let route = Route { protocol, local: source, remote: destination };
                self.set_route(now, route);
                self.note_consent(now);
            }
        }
        if self.route != before {
            self.drain_handshakes(now);
        }
    }

    /// Takes the datagrams and the news of the handshakes.
    fn drain_handshakes(&mut self, now: Instant) {
        if let Err(failure) = self.poll_handshakes(now) {
            self.fail(failure);
        }
    }

    fn poll_handshakes(&mut self, now: Instant) -> Result<(), Failure> {
        let Some(to) = self.route.or(self.dtls_source) else { return Ok(()) };
        let mut poll = |handshake: &mut Option<Handshake>| match handshake {
            // A client begins its handshake with the first poll, so its way must be known.
            Some(handshake) if handshake.role() == Role::Server || self.route.is_some() => {
                handshake.poll(now, |octets| push(&mut self.waiting, to, octets))
            }
            _ => Ok(Vec::new()),
        };
        let (news, next) = (poll(&mut self.handshake)?, poll(&mut self.next)?);
        let (is_replaced, has_next_keys) = (self.next.is_some(), next.iter().any(|one| matches!(one, News::Keys(_))));
        if has_next_keys {
            self.handshake = self.next.take();
        }
        for (is_old, one) in
            news.into_iter().map(|one| (is_replaced, one)).chain(next.into_iter().map(|one| (false, one)))
        {
            match one {
                News::Keys(_) | News::Closed if is_old => {}
                News::Keys(keys) => self.events.push_back(Event::Keys(keys)),
                News::Closed => self.consent = Consent::Closed { at: now },
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("route", &self.route).field("consent", &self.consent).finish()
    }
}

/// Whether a datagram of a connection is STUN (RFC 7983 §7).
pub fn is_stun(octets: &[u8]) -> bool {
    matches!(octets.first(), Some(0..=3))
}

/// Returns our user name in a connectivity check (RFC 8445 §7.2.2). Returns `None` for every other packet. The packet need
/// not be authentic.
pub fn checked_ufrag(octets: &[u8]) -> Option<&str> {
    let message = is_stun(octets).then(|| StunMessage::parse(octets).ok())??;
    message.is_binding_request().then(|| message.username())??.split_once(':').map(|(ours, _)| ours)
}

fn push(waiting: &mut VecDeque<Transmit>, route: Route, octets: &[u8]) {
    // A datagram of a handshake that is lost here is sent again later.
    if waiting.len() < MAX_WAITING {
        waiting.push_back(Transmit { route, octets: octets.to_vec() });
    }
}

fn candidate_of(protocol: Protocol, address: SocketAddr) -> Option<Candidate> {
    match protocol {
        Protocol::Udp => Candidate::builder().udp().host(address).build().ok(),
        Protocol::Tcp => Candidate::builder().tcp().host(address).tcptype("passive".parse().ok()?).build().ok(),
    }
}

impl From<Protocol> for is::Protocol {
    fn from(protocol: Protocol) -> is::Protocol {
        match protocol {
            Protocol::Udp => is::Protocol::Udp,
            Protocol::Tcp => is::Protocol::Tcp,
        }
    }
}

fn protocol_of(protocol: is::Protocol) -> Option<Protocol> {
    match protocol {
        is::Protocol::Udp => Some(Protocol::Udp),
        is::Protocol::Tcp => Some(Protocol::Tcp),
        is::Protocol::SslTcp | is::Protocol::Tls => None,
    }
}
