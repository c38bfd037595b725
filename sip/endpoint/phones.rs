//! Phones: who registers, who calls with a password, and what keeps their NATs open.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::retry::Full;
use super::state::{Key, Purpose};
use super::{Arrival, Endpoint};
use crate::challenge::{self, Verdict};
use crate::compose::{self, RequestParts, ResponseParts};
use crate::config::UnknownSources;
use crate::dialog::Flow;
use crate::directory::{Directory, User};
use crate::gruu;
use crate::guard::Offence;
use crate::leg::{Caller, Event, RefusedRequest, TrunkName};
use crate::message::{Echo, Method, Request, Uri};
use crate::peer::KnownBy;
use crate::registrar::{Aor, Binding, Change, Due, KeepAlive, Refusal, Register, Way};

/// Two empty lines (RFC 5626 §3.5.1).
const CRLF_CRLF: &[u8] = b"\r\n\r\n";
/// Option tags of a REGISTER that we obey.
const REGISTER_SUPPORTED: &[&str] = &["path", "outbound", "gruu"];
/// Longest Contact, Path and User-Agent values that are kept together, octets.
const MAX_KEPT: usize = 4_096;
/// Most characters of a Call-ID that are told of a refused request.
const MOST_OF_A_CALL_ID: usize = 256;

/// Who sent an INVITE.
pub(super) enum Admission {
    /// A trunk, by its source, its password, or both.
    Trunk {
        /// Which.
        name: Option<TrunkName>,
        /// From outside its networks: it is answered where it called from, like a phone.
        guest: bool,
    },
    /// A phone, or a domain's peer.
    Caller(Caller),
    /// Nobody that may call; it has been told, or is not to be told.
    Refused,
}

impl Endpoint {
    /// Everybody who has a password here, from now on. Whoever is registered stays so until that ends.
    pub fn set_directory(&mut self, directory: Arc<Directory>) {
        self.directory = directory;
    }

    /// A binding that was kept over a restart.
    pub fn restore(&mut self, now: Instant, binding: Binding) {
        let of_transport = |transport| self.locals.iter().position(|local| local.transport == transport);
        let local = self
            .locals
            .iter()
            .position(|local| local.transport == binding.transport && local.bound == binding.local)
            .or_else(|| of_transport(binding.transport));
        let Some(local) = local else { return };
        let peer = match binding.direct {
            Some(direct) if binding.transport.is_reliable() => direct,
            _ => binding.source,
        };
        let flow = Flow { transport: binding.transport, peer, local, connection: None, identity: None, pinned: true };
        self.registrar.restore(now, binding, flow);
    }

    /// Bindings now.
    #[must_use]
    pub fn bindings(&self) -> usize {
        self.registrar.len()
    }

    /// RFC 3261 §10.3.
    pub(super) fn handle_register(&mut self, now: Instant, arrival: &Arrival, request: &Request, key: Key, echo: Echo) {
        let host = request.uri.host_text();
        let username = request.to.uri.user();
        if !self.may_be_challenged(arrival, &host, &username) {
            return self.turn_away(now, arrival, request, &echo, 405);
        }
        let unsupported = request.content.unsupported(REGISTER_SUPPORTED);
        if !unsupported.is_empty() {
            return self.refuse(arrival, &echo, 420, &super::incoming::unsupported_line(&unsupported));
        }
        let directory = Arc::clone(&self.directory);
        let Some(user) = self.authenticate(now, arrival, request, &host, &echo, &directory) else { return };
        if !user.registers || *user.username != *username {
            let why = if user.registers { "the user may register only itself" } else { "the user may not register" };
            self.complain(now, arrival, request, &user.username, why);
            return self.refuse(arrival, &echo, 403, "");
        }
        let length = |name: &'static str| request.content.values(name).iter().map(String::len).sum::<usize>();
        let kept = length("Contact") + length("Path");
        let Some(contacts) = request.content.contacts().filter(|_| kept <= MAX_KEPT) else {
            return self.refuse_with(arrival, &echo, 400, "Malformed Contact");
        };
        if !self.has_room() {
            let lines = self.come_back(Full::Tables);
            return self.refuse(arrival, &echo, 503, &lines);
        }
        let has_flow = request.content.has_token("Supported", "outbound") && contacts.has_flow();
        let path = request.content.list("Path");
        let flow = Flow { pinned: true, ..self.arrival_flow(arrival) };
        let aor = aor(&user, &host, &self.directory);
        let register = Register {
            aor: aor.clone(),
            contacts,
            expires: request.content.value("Expires").and_then(|seconds| seconds.trim().parse().ok()),
            path: path.clone(),
            sip_call_id: String::from_utf8_lossy(&request.call_id).into_owned(),
            cseq: request.cseq,
            flow,
            local: arrival.local,
            symmetric: request.via.rport,
            user_agent: request.content.value("User-Agent").map(|name| name.chars().take(128).collect()),
        };
        let outcome = self.registrar.register(now, register, &mut self.rng);
        let tag = self.fresh_tag();
        let server = self.insert_server(arrival, request, key, echo, None, tag);
        let (status, reason, lines) = match outcome {
            Ok(changes) => {
                if let Some(connection) = arrival.connection.filter(|_| !changes.is_empty()) {
                    self.outputs.push_back(super::Output::Trust(connection));
                }
                for change in changes {
                    self.tell_binding(change);
                }
                let wanted =
                    request.content.has_token("Supported", "gruu") || request.content.has_token("Require", "gruu");
                let named = wanted.then(|| String::from_utf8_lossy(request.to.uri.text()).into_owned());
                let contacts = self.registrar.describe(now, &aor, named.as_deref());
                let mut lines: String = contacts.iter().map(|contact| format!("Contact: {contact}\r\n")).collect();
                // RFC 3327 §5.3.
                lines.extend(path.iter().map(|path| format!("Path: {}\r\n", clean(path))));
                // RFC 5626 §6.
                if has_flow {
                    lines.push_str("Require: outbound\r\nSupported: path, outbound\r\n");
                }
                (200, None, lines)
            }
            Err(Refusal::Malformed(why)) => (400, Some(why), String::new()),
            Err(Refusal::TooBrief(seconds)) => (423, None, format!("Min-Expires: {seconds}\r\n")),
            Err(Refusal::OutOfOrder) => (500, Some("Older than the binding"), String::new()),
            Err(Refusal::Full) => (503, None, self.come_back(Full::Bindings)),
        };
        self.respond(now, server, ResponseParts { status, reason, lines: &lines, ..ResponseParts::default() });
    }

    /// Who sends this INVITE. A trunk is known by its address; a phone has to show its password, also behind a trunk's
    /// address if it registered from there.
    pub(super) fn identify(&mut self, now: Instant, arrival: &Arrival, request: &Request, echo: &Echo) -> Admission {
        let host = request.uri.host_text();
        let source = arrival.source.ip();
        let directory = Arc::clone(&self.directory);
        if let Some(accounts) = accounts_claimed(&directory, arrival, request) {
            let Some(User { account, .. }) = self.authenticate(now, arrival, request, &host, echo, accounts) else {
                return Admission::Refused;
            };
            return Admission::Caller(Caller { account, username: None, domain: None });
        }
        let name = request.from.uri.user();
        // What comes to the address that a carrier has of us by registration comes from that carrier.
        if let Some(domain) = directory.domain_of(source)
            && self.trunk_of(arrival, request).is_none()
            && !self.registrar.is_source(arrival.source)
        {
            let (account, domain) = (Arc::clone(&domain.account), Some(Arc::clone(&domain.name)));
            return Admission::Caller(Caller { account, username: None, domain });
        }
        let known = !self.is_stranger(arrival) || self.registrar_of(request).is_some();
        if known && !self.is_phone(arrival, &host, &name) {
            let name = self.trunk_of(arrival, request);
            if self.known_by(name.as_deref()) == KnownBy::Both {
                let Some(user) = self.authenticate(now, arrival, request, &host, echo, &directory) else {
                    return Admission::Refused;
                };
                if user.trunk != name {
                    self.refuse(arrival, echo, 403, "");
                    return Admission::Refused;
                }
            }
            return Admission::Trunk { name, guest: false };
        }
        if let Some(domain) = directory.domain(&host).filter(|domain| !domain.networks.is_empty()) {
            // Where a domain has both networks and passwords, both are asked for.
            if !domain.admits(source) {
                self.turn_away(now, arrival, request, echo, 403);
                return Admission::Refused;
            }
            if !directory.has_callers(&domain.name) {
                let (account, domain) = (Arc::clone(&domain.account), Some(Arc::clone(&domain.name)));
                return Admission::Caller(Caller { account, username: None, domain });
            }
        }
        // A trunk's calls come in its customers' names: whoever calls is asked, once there is a trunk that may be anywhere.
        let guests = self.peers.iter().any(|peer| peer.peer.known_by == KnownBy::Either);
        if !guests && !self.may_be_challenged(arrival, &host, &name) {
            self.turn_away(now, arrival, request, echo, 403);
            return Admission::Refused;
        }
        let Some(user) = self.authenticate(now, arrival, request, &host, echo, &directory) else {
            return Admission::Refused;
        };
        if user.trunk.is_some() && self.known_by(user.trunk.as_deref()) == KnownBy::Either {
            return Admission::Trunk { name: user.trunk, guest: true };
        }
        if !user.calls || user.trunk.is_some() {
            self.refuse(arrival, echo, 403, "");
            return Admission::Refused;
        }
        let Aor { account, username, domain } = aor(&user, &host, &directory);
        Admission::Caller(Caller { account, username: Some(username), domain })
    }

    fn known_by(&self, trunk: Option<&str>) -> KnownBy {
        let peer = trunk.and_then(|trunk| self.peers.get(self.peer_of(trunk)?));
        peer.map(|peer| peer.peer.known_by).unwrap_or_default()
    }

    /// Whether the source is neither a trunk's nor that of a registered phone.
    pub(super) fn is_outsider(&self, arrival: &Arrival) -> bool {
        self.is_stranger(arrival) && !self.registrar.is_source(arrival.source)
    }

    fn is_phone(&self, arrival: &Arrival, host: &str, name: &str) -> bool {
        self.registrar.is_source(arrival.source)
            && self.directory.users(name, host).any(|user| {
                let (account, username) = (Arc::clone(&user.account), Arc::clone(&user.username));
                self.registrar.is_phone(arrival.source, &Aor { account, username, domain: None })
            })
    }

    /// Whether to show that there is somebody here who takes passwords. Silence towards unknown sources is kept unless they
    /// know a name; otherwise no name is told from another.
    fn may_be_challenged(&self, arrival: &Arrival, host: &str, username: &str) -> bool {
        let silent = self.config.unknown_sources == UnknownSources::Silent && self.is_stranger(arrival);
        self.directory.has_users() && (!silent || self.directory.users(username, host).next().is_some())
    }

    /// As if there were no phones.
    fn turn_away(&mut self, now: Instant, arrival: &Arrival, request: &Request, echo: &Echo, status: u16) {
        if !self.is_stranger(arrival) {
            return self.refuse(arrival, echo, status, "");
        }
        self.note_stranger(now, arrival, request);
        if self.config.unknown_sources == UnknownSources::Reject {
            self.refuse(arrival, echo, 403, "");
        }
    }

    /// The user of `directory` whose password the request shows; otherwise it has been answered.
    fn authenticate(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        host: &str,
        echo: &Echo,
        directory: &Directory,
    ) -> Option<User> {
        let values = request.content.values("Authorization");
        let to = (&request.uri, host);
        let stale = match self.authority.judge(now, request.method.as_str(), to, &values, directory) {
            Verdict::Accepted(user) => {
                let user = user.clone();
                self.acquaint(now, arrival.source.ip());
                return Some(user);
            }
            Verdict::Wrong(username) => {
                let known = directory.users(&username, host).next().is_some();
                let why = if known { "wrong password" } else { "no such user" };
                self.reject_credentials(now, arrival, request, &username, why);
                self.refuse(arrival, echo, 403, "");
                return None;
            }
            Verdict::Elsewhere(username, signed) => {
                let why = format!("the Digest answer is for {}, not for the Request-URI", shown(&signed));
                self.reject_credentials(now, arrival, request, &username, &why);
                // RFC 7616 §3.4.6.
                self.refuse_with(arrival, echo, 400, "Digest uri is not the Request-URI");
                return None;
            }
            Verdict::Stale => true,
            Verdict::Missing => false,
        };
        self.offend(now, arrival.source.ip(), Offence::Challenge);
        let lines =
            self.authority.challenge(now, directory.realm(), &self.config.registrar.algorithms, stale, &mut self.rng);
        self.refuse(arrival, echo, 401, &lines);
        None
    }

    fn reject_credentials(&mut self, now: Instant, arrival: &Arrival, request: &Request, username: &str, why: &str) {
        self.wrong_passwords += 1;
        self.offend(now, arrival.source.ip(), Offence::Credentials);
        self.complain(now, arrival, request, username, why);
    }

    /// Tells that a user was refused. Of one source the log has a line in ten seconds.
    fn complain(&mut self, now: Instant, arrival: &Arrival, request: &Request, username: &str, why: &str) {
        let line = match &self.guard {
            Some(guard) => guard.complain(now, arrival.source.ip()),
            None => Some(0),
        };
        self.event(Event::AuthenticationFailed(Box::new(refusal(arrival, request, username, why, line))));
    }

    /// Tells the application, and the log when a phone is there that was not, or is there no more.
    pub(super) fn tell_binding(&mut self, change: Change) {
        note_binding(&change);
        self.event(Event::Binding(change));
    }

    /// The Contact that a phone has registered, if `uri` is its GRUU of ours: a proxy on the way cannot know it (RFC 5627 §6.1).
    /// A GRUU to which a proxy has added something, as they do for phones behind a NAT, is read by that proxy.
    pub(super) fn contact_of_gruu(&self, now: Instant, uri: &Uri) -> Option<Uri> {
        let instance = uri.instance()?;
        let text = String::from_utf8_lossy(uri.text());
        if gruu::public(&text, &format!("<{instance}>"))? != text {
            return None;
        }
        let (user, host) = (uri.user(), uri.host_text());
        let mut ways = self.directory.users(&user, &host).flat_map(|user| {
            let aor = aor(user, &host, &self.directory);
            self.registrar.contacts(now, &aor, Some(&instance))
        });
        Uri::parse(ways.next()?.contact.as_bytes())
    }

    /// What the registrar's timers found.
    pub(super) fn registrar_timeout(&mut self, now: Instant) {
        while let Some(due) = self.registrar.take_due(now) {
            match due {
                Due::Over(binding) => self.tell_binding(Change::Unbound(binding)),
                Due::KeepAlive(way) => self.keep_alive(now, &way),
            }
        }
    }

    fn keep_alive(&mut self, now: Instant, way: &Way) {
        if self.registrar.keep_alive() == KeepAlive::Crlf {
            return self.transmit(way.flow, Bytes::from_static(CRLF_CRLF));
        }
        if !self.has_room() {
            return;
        }
        let (branch, tag) = (self.random_u128(), self.fresh_tag());
        let (sent_by, contact) = (self.sent_by(way.flow), self.contact(way.flow));
        let data = compose::request(&RequestParts {
            method: "OPTIONS",
            uri: way.contact.as_bytes(),
            via_transport: Some(way.flow.transport),
            sent_by,
            branch,
            routes: &way.routes,
            from: format!("<{contact}>;tag={}", super::state::tag_text(tag)).as_bytes(),
            to: format!("<{}>", way.contact).as_bytes(),
            call_id: format!("{branch:032x}").as_bytes(),
            cseq: 1,
            user_agent: &self.config.user_agent,
            ..RequestParts::default()
        });
        // Nobody waits for what comes back: that it comes keeps the NAT open.
        self.start_client(now, Method::Options, branch, way.flow, data, None, Purpose::Info);
    }
}

/// The accounts, if the request comes from this machine and names one of them as its caller: then it is that account's, also
/// from an address in a trunk's networks.
fn accounts_claimed<'a>(directory: &'a Directory, arrival: &Arrival, request: &Request) -> Option<&'a Directory> {
    let accounts = directory.accounts().filter(|_| arrival.source.ip().to_canonical().is_loopback())?;
    let values = request.content.values("Authorization");
    let mut claimed = challenge::claimed(&values, accounts.realm());
    claimed.any(|name| accounts.users(&name, "").next().is_some()).then_some(accounts)
}

fn aor(user: &User, host: &str, directory: &Directory) -> Aor {
    Aor {
        account: Arc::clone(&user.account),
        username: Arc::clone(&user.username),
        domain: user.domain.clone().or_else(|| directory.domain(host).map(|domain| Arc::clone(&domain.name))),
    }
}

fn note_binding(change: &Change) {
    let (binding, what) = match change {
        Change::Bound(binding) => (binding, "phone has registered"),
        Change::Unbound(binding) => (binding, "phone is no longer registered"),
        Change::Refreshed(_) => return,
    };
    let Binding { aor, source, transport, user_agent, .. } = &**binding;
    let (user, transport) = (shown(&aor.username), transport.token());
    tracing::info!(account = %aor.account, user, user_agent, "{what}: {source} {transport}");
}

/// What a stranger wrote, for the log: 64 characters at most.
/// What is told of a request that was refused. `line`: see [`RefusedRequest::line`].
pub(super) fn refusal(
    arrival: &Arrival,
    request: &Request,
    username: &str,
    why: &str,
    line: Option<u64>,
) -> RefusedRequest {
    let to = Some(request.uri.user()).filter(|user| !user.is_empty()).unwrap_or_else(|| request.to.uri.user());
    RefusedRequest {
        source: arrival.source,
        transport: arrival.transport,
        method: shown(request.method.as_str()),
        username: shown(username),
        from: shown(&request.from.uri.user()),
        to: shown(&to),
        sip_call_id: clean(&String::from_utf8_lossy(&request.call_id)).chars().take(MOST_OF_A_CALL_ID).collect(),
        why: why.to_owned(),
        line,
    }
}

fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(64).collect()
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
pub(super) mod tests;
