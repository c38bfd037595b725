//! Phones: registrations, calls with a password, and keep-alives for NAT mappings.

mod cluster;
mod unanswered;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng};

use super::core::Core;
use super::retry::RetryReason;
use super::state::tag_text;
use super::transactions::Key;
use super::transactions::client::{NewClient, Purpose};
use super::transactions::server::NewServer;
use super::trunks::Trunks;
use super::{Arrival, Endpoint};
use crate::challenge::{self, AuthenticationResult, Authority};
use crate::compose::{self, RequestParts, ResponseParts};
use crate::config::{Config, UnknownSources};
use crate::directory::{Directory, User};
use crate::flow::Flow;
use crate::gruu;
use crate::guard::Offence;
use crate::leg::{Caller, Event, RefusedRequest};
use crate::message::{Echo, Method, Request, Uri};
use crate::registrar::{
    Aor, Binding, BindingRef, Change, ContactTarget, Due, KeepAlive, Refusal, Register, Registrar, RegistrarConfig,
};
use crate::trunk::KnownBy;
use crate::trunk_acl::TrunkName;
use unanswered::{Challenged, Unanswered};

/// The double CRLF that is sent as a keep-alive (RFC 5626 §3.5.1).
const CRLF_CRLF: &[u8] = b"\r\n\r\n";
/// Option tags that this server supports in a REGISTER.
const REGISTER_SUPPORTED: &[&str] = &["path", "outbound", "gruu"];
/// Maximum total length, in octets, of all Contact and Path values of a REGISTER.
const MAX_CONTACT_OCTETS: usize = 4_096;
/// Maximum number of octets of a host name (RFC 1035 §2.3.4).
const MAX_HOST_LENGTH: usize = 253;
/// Maximum number of characters of the Call-ID in a report about a refused request.
const MAX_CALL_ID_LENGTH: usize = 256;
/// The reason in the report about a request whose challenge was not answered.
const NO_CREDENTIALS: &str = "was challenged (401), and no credentials came";

/// The users that have a password, and the phones that registered with a password.
#[derive(Debug)]
pub(super) struct Phones {
    pub(super) directory: Arc<Directory>,
    /// Creates challenges, and checks the answers to the challenges.
    authority: Authority,
    registrar: Registrar,
    /// The requests that were challenged a short time ago.
    unanswered: Unanswered,
}

/// The response to a REGISTER.
pub(super) struct RegisterAnswer {
    status: u16,
    reason: Option<&'static str>,
    /// Complete header lines.
    lines: String,
}

/// The sender of an INVITE.
pub(super) enum Admission {
    /// A trunk, which the server recognised by its source, its password, or both.
    Trunk {
        /// The name of the trunk.
        name: Option<TrunkName>,
        /// Whether the server recognised the trunk only by its password, because the call came from outside the trunk's
        /// networks. If so, later requests of this server go to the source of the INVITE, as for a phone.
        by_password: bool,
    },
    /// A phone, or a caller in a domain's networks.
    Caller(Caller),
    /// A sender that may not call. The server has already answered the request, or must not answer it.
    Refused,
}

impl Endpoint {
    /// Replaces the users and their passwords. Registered phones stay registered until their bindings end.
    pub fn set_directory(&mut self, directory: Arc<Directory>) {
        self.phones.directory = directory;
    }

    /// Adds a binding that was stored before a restart, and reports it as [`Change::Restored`].
    pub fn restore(&mut self, now: Instant, binding: Binding) {
        self.phones.restore(&mut self.core, now, binding);
    }

    /// Returns the current number of bindings, without those of other nodes.
    #[must_use]
    pub fn bindings(&self) -> usize {
        self.phones.registrar.own()
    }

    /// Handles a REGISTER (RFC 3261 §10.3).
    pub(super) fn handle_register(&mut self, now: Instant, arrival: &Arrival, request: &Request, key: Key, echo: Echo) {
        let room = self.has_room();
        let answer = self.phones.handle_register(&mut self.core, room, now, arrival, request, &echo);
        let Some(RegisterAnswer { status, reason, lines }) = answer else { return };
        let tag = self.core.rng.next_u64();
        let new = NewServer { arrival, request, key, merge_key: None, echo, leg: None, tag, refer: false };
        let server = self.transactions.insert_server(&self.core, new);
        self.respond(now, server, ResponseParts { status, reason, lines: &lines, ..ResponseParts::default() });
        if arrival.transport.is_websocket() {
            let (dialogs, mut cx) = self.dialogs(now);
            dialogs.find_flows(&mut cx);
        }
    }

    /// Handles the timers of the registrar, and reports challenges that were not answered.
    pub(super) fn phones_timeout(&mut self, now: Instant) {
        self.phones.report_unanswered(&mut self.core, now);
        while let Some(target) = self.phones.handle_timeout(&mut self.core, now) {
            self.send_keep_alive(now, &target);
        }
    }

    /// Sends OPTIONS to a phone, so that its NAT mapping stays open. The content of the response is ignored.
    fn send_keep_alive(&mut self, now: Instant, target: &ContactTarget) {
        if !self.has_room() {
            return;
        }
        let (branch, tag) = (self.core.random_u128(), self.core.rng.next_u64());
        let (sent_by, contact) = (self.core.sent_by(target.flow), self.core.contact(target.flow));
        let data = compose::request(&RequestParts {
            method: "OPTIONS",
            uri: target.contact.as_bytes(),
            via_transport: Some(target.flow.transport),
            sent_by,
            branch,
            routes: &target.routes,
            from: format!("<{contact}>;tag={}", tag_text(tag)).as_bytes(),
            to: format!("<{}>", target.contact).as_bytes(),
            call_id: format!("{branch:032x}").as_bytes(),
            cseq: 1,
            user_agent: &self.core.config.user_agent,
            ..RequestParts::default()
        });
        let (method, purpose) = (Method::Options, Purpose::Info);
        let new = NewClient { method, branch, flow: target.flow, data, leg: None, purpose };
        self.transactions.start_client(&mut self.core, now, new);
    }
}

impl Phones {
    /// Creates the state of the phones. At first, no phone is registered.
    pub(super) fn new(config: &Config, rng_seed: [u8; 32]) -> Self {
        // The authority has a random generator of its own. So an attacker who sees many nonces learns nothing about
        // tags and branches.
        let authority = Authority::new(&mut StdRng::from_seed(rng_seed.map(|octet| octet ^ 0x5a)));
        let registrar = Registrar::new(config.registrar.clone());
        Self { directory: Arc::clone(&config.directory), authority, registrar, unanswered: Unanswered::default() }
    }

    /// Sets the addresses of this server. If a phone computes its Digest answer for one of these addresses, the answer
    /// is valid for every call to this server.
    pub(super) fn set_own_addresses(&mut self, core: &Core) {
        let own = core.locals.iter().flat_map(|local| [local.sent_by.clone(), local.bound.to_string()]);
        self.authority.set_own(own.collect());
    }

    /// Replaces the settings and the users. Registered phones stay registered until their bindings end.
    pub(super) fn reconfigure(&mut self, config: RegistrarConfig, directory: Arc<Directory>) {
        self.registrar.reconfigure(config);
        self.directory = directory;
    }

    /// Adds a binding that was stored before a restart.
    fn restore(&mut self, core: &mut Core, now: Instant, binding: Binding) {
        let of_transport = |transport| core.locals.iter().position(|local| local.transport == transport);
        let local = core
            .locals
            .iter()
            .position(|local| local.transport == binding.transport && local.bound == binding.local)
            .or_else(|| of_transport(binding.transport));
        let Some(local) = local else { return };
        let peer = match binding.direct {
            Some(direct) if binding.transport.is_reliable() => direct,
            _ => binding.source,
        };
        let (transport, connection, identity) = (binding.transport, None, None);
        let flow = Flow { transport, peer, local, connection, identity, pinned: true, secure: false };
        if let Some(change) = self.registrar.restore(now, binding, flow) {
            report_binding(core, change);
        }
    }

    /// Notifies the registrar that a connection to `peer` has closed.
    pub(super) fn lose_connection(&mut self, core: &mut Core, now: Instant, peer: SocketAddr) {
        for change in self.registrar.lose_connection(now, peer) {
            report_binding(core, change);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.registrar.poll_timeout(), self.unanswered.poll_timeout()].into_iter().flatten().min()
    }

    /// Reports the challenged requests whose clients have sent no credentials in time. For each source, at most one
    /// request in 10 s is reported.
    fn report_unanswered(&mut self, core: &mut Core, now: Instant) {
        while let Some(Challenged { is_known, mut request, .. }) = self.unanswered.poll_due(now) {
            let Some(held_back) = log_line(core, now, request.source) else { continue };
            request.line = Some(held_back + self.unanswered.take_left_out());
            let is_known = is_known || self.registrar.is_source(request.source);
            core.event(Event::ChallengeUnanswered { request, is_known });
        }
    }

    /// Ends expired bindings and sends the keep-alives that are due. Returns the next phone to which OPTIONS must be
    /// sent. Call this method until it returns `None`.
    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) -> Option<Box<ContactTarget>> {
        while let Some(due) = self.registrar.take_due(now) {
            match due {
                Due::Expired(change) => report_binding(core, change),
                Due::KeepAlive(target) if self.registrar.keep_alive() == KeepAlive::Crlf => {
                    core.transmit(target.flow, Bytes::from_static(CRLF_CRLF));
                }
                Due::KeepAlive(target) => return Some(target),
            }
        }
        None
    }

    /// Returns the contact and path of one binding. Returns `None` if the binding has ended.
    pub(super) fn contact(&self, now: Instant, binding: &BindingRef) -> Option<ContactTarget> {
        self.registrar.contact(now, binding)
    }

    /// Handles a REGISTER (RFC 3261 §10.3). `room` says whether there is room for a transaction. Returns `None` if the
    /// request was answered without a transaction.
    pub(super) fn handle_register(
        &mut self,
        core: &mut Core,
        room: bool,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        echo: &Echo,
    ) -> Option<RegisterAnswer> {
        let host = request.uri.host_text();
        let username = request.to.uri.user();
        if !self.may_be_challenged(core, arrival, &host, &username) {
            self.refuse_unknown(core, now, arrival, request, echo, 405);
            return None;
        }
        let unsupported = request.content.unsupported(REGISTER_SUPPORTED);
        if !unsupported.is_empty() {
            core.refuse(arrival, echo, 420, &super::incoming::unsupported_line(&unsupported));
            return None;
        }
        let directory = Arc::clone(&self.directory);
        let user = self.authenticate(core, now, arrival, request, echo, &directory)?;
        if !user.registers || *user.username != *username {
            let why = if user.registers { "the user may register only itself" } else { "the user may not register" };
            report_authentication_failure(core, now, arrival, request, &user.username, why);
            core.refuse(arrival, echo, 403, "");
            return None;
        }
        let length = |name: &'static str| request.content.values(name).iter().map(String::len).sum::<usize>();
        let stored_octets = length("Contact") + length("Path");
        let Some(contacts) = request.content.contacts().filter(|_| stored_octets <= MAX_CONTACT_OCTETS) else {
            core.refuse_with(arrival, echo, 400, "Malformed Contact");
            return None;
        };
        if !room {
            let lines = core.retry_after(RetryReason::Tables);
            core.refuse(arrival, echo, 503, &lines);
            return None;
        }
        let has_flow = request.content.has_token("Supported", "outbound") && contacts.has_flow();
        let path = request.content.list("Path");
        let flow = Flow { pinned: true, ..core.arrival_flow(arrival) };
        let aor = aor(&user, &host, &self.directory);
        let register = Register {
            aor: aor.clone(),
            host: Some(host.to_ascii_lowercase()).filter(|host| aor.domain.is_none() && host.len() <= MAX_HOST_LENGTH),
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
        let outcome = self.registrar.register(now, register, &mut core.rng);
        let (status, reason, lines) = match outcome {
            Ok(changes) => {
                if let Some(connection) = arrival.connection.filter(|_| !changes.is_empty()) {
                    core.outputs.push_back(super::Output::Trust(connection));
                }
                for change in changes {
                    report_binding(core, change);
                }
                let wanted =
                    request.content.has_token("Supported", "gruu") || request.content.has_token("Require", "gruu");
                let named = wanted.then(|| String::from_utf8_lossy(request.to.uri.text()).into_owned());
                let contacts = self.registrar.contact_values(now, &aor, named.as_deref());
                let mut lines: String = contacts.iter().map(|contact| format!("Contact: {contact}\r\n")).collect();
                // RFC 3327 §5.3: the response repeats the Path values.
                lines.extend(path.iter().map(|path| format!("Path: {}\r\n", clean(path))));
                // RFC 5626 §6: the response confirms the extension "outbound".
                if has_flow {
                    lines.push_str("Require: outbound\r\nSupported: path, outbound\r\n");
                }
                (200, None, lines)
            }
            Err(Refusal::Malformed(why)) => (400, Some(why), String::new()),
            Err(Refusal::TooBrief(seconds)) => (423, None, format!("Min-Expires: {seconds}\r\n")),
            Err(Refusal::OutOfOrder) => (500, Some("Older than the binding"), String::new()),
            Err(Refusal::Full) => (503, None, core.retry_after(RetryReason::Bindings)),
        };
        Some(RegisterAnswer { status, reason, lines })
    }

    /// Identifies the sender of an INVITE. The server recognises a trunk by its source, by a password, or by both. A
    /// phone must authenticate with its password, even if the phone registered from the address of a trunk.
    pub(super) fn identify(
        &mut self,
        core: &mut Core,
        trunks: &Trunks,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        echo: &Echo,
    ) -> Admission {
        let host = request.uri.host_text();
        let source = arrival.source.ip();
        let directory = Arc::clone(&self.directory);
        if let Some(accounts) = accounts_claimed(&directory, arrival, request) {
            let Some(User { account, .. }) = self.authenticate(core, now, arrival, request, echo, accounts) else {
                return Admission::Refused;
            };
            return Admission::Caller(Caller { account, username: None, domain: None });
        }
        let name = request.from.uri.user();
        // A carrier that got this server's Contact by registration may call this Contact. Such a call belongs to the
        // carrier and not to the domain.
        if let Some(domain) = directory.domain_of(source).filter(|_| !arrival.from_page)
            && trunks.trunk_of(core, arrival, request).is_none()
            && !self.registrar.is_source(arrival.source)
        {
            let (account, domain) = (domain.account.clone(), Some(Arc::clone(&domain.name)));
            return Admission::Caller(Caller { account, username: None, domain });
        }
        let known = !core.is_unknown_source(arrival) || trunks.registrar_of(request).is_some();
        if known && !self.is_phone(arrival, &host, &name) {
            let name = trunks.trunk_of(core, arrival, request);
            if trunks.known_by(name.as_deref()) == KnownBy::Both {
                let Some(user) = self.authenticate(core, now, arrival, request, echo, &directory) else {
                    return Admission::Refused;
                };
                if user.trunk != name {
                    core.refuse(arrival, echo, 403, "");
                    return Admission::Refused;
                }
            }
            return Admission::Trunk { name, by_password: false };
        }
        if let Some(domain) = directory.domain(&host).filter(|domain| !domain.networks.is_empty()) {
            // If a domain has both networks and passwords, the caller needs both.
            if !domain.admits(source) {
                self.refuse_unknown(core, now, arrival, request, echo, 403);
                return Admission::Refused;
            }
            if !directory.has_callers(&domain.name) && !arrival.from_page {
                let (account, domain) = (domain.account.clone(), Some(Arc::clone(&domain.name)));
                return Admission::Caller(Caller { account, username: None, domain });
            }
        }
        // The From of a trunk's call names a customer of the trunk and not the trunk. So if any trunk may authenticate
        // from any address, every unknown caller is challenged.
        let has_password_trunks = trunks.has_password_trunks();
        if !has_password_trunks && !self.may_be_challenged(core, arrival, &host, &name) {
            self.refuse_unknown(core, now, arrival, request, echo, 403);
            return Admission::Refused;
        }
        let Some(user) = self.authenticate(core, now, arrival, request, echo, &directory) else {
            return Admission::Refused;
        };
        if user.trunk.is_some() && trunks.known_by(user.trunk.as_deref()) == KnownBy::Either {
            return Admission::Trunk { name: user.trunk, by_password: true };
        }
        if !user.calls || user.trunk.is_some() {
            core.refuse(arrival, echo, 403, "");
            return Admission::Refused;
        }
        let Aor { account, username, domain } = aor(&user, &host, &directory);
        Admission::Caller(Caller { account, username: Some(username), domain })
    }

    /// Returns whether the source belongs neither to a trunk nor to a registered phone.
    pub(super) fn is_unknown_and_unregistered(&self, core: &Core, arrival: &Arrival) -> bool {
        core.is_unknown_source(arrival) && !self.registrar.is_source(arrival.source)
    }

    fn is_phone(&self, arrival: &Arrival, host: &str, name: &str) -> bool {
        self.registrar.is_source(arrival.source)
            && self.directory.users(name, host).any(|user| {
                let (account, username) = (user.account.clone(), Arc::clone(&user.username));
                self.registrar.is_phone(arrival.source, &Aor { account, username, domain: None })
            })
    }

    /// Returns whether this server may send a challenge, because a challenge shows that the server accepts passwords.
    /// With `UnknownSources::Silent`, an unknown source is challenged only if the request names an existing user. In
    /// all other cases, existing users and unknown users are treated alike.
    fn may_be_challenged(&self, core: &Core, arrival: &Arrival, host: &str, username: &str) -> bool {
        let silent = core.config.unknown_sources == UnknownSources::Silent && core.is_unknown_source(arrival);
        self.directory.has_users() && (!silent || self.directory.users(username, host).next().is_some())
    }

    /// Refuses a request in the same way as a server that has no phones.
    fn refuse_unknown(
        &mut self,
        core: &mut Core,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        echo: &Echo,
        status: u16,
    ) {
        if !core.is_unknown_source(arrival) {
            return core.refuse(arrival, echo, status, "");
        }
        core.note_unknown_source(now, arrival, request);
        if core.config.unknown_sources == UnknownSources::Reject {
            core.refuse(arrival, echo, 403, "");
        }
    }

    /// Returns the user of `directory` whose password the request proves. If the request proves no password, this
    /// function answers the request and returns `None`.
    fn authenticate(
        &mut self,
        core: &mut Core,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        echo: &Echo,
        directory: &Directory,
    ) -> Option<User> {
        let host = request.uri.host_text();
        let host = &*host;
        let values = request.content.values("Authorization");
        let domain = directory.domain(host).map_or("", |domain| &*domain.name);
        if challenge::claimed(&values, directory.realm()).next().is_some() {
            self.unanswered.answer(arrival, request, &call_id(request));
        }
        if let Some(username) = challenge::claimed(&values, directory.realm()).next()
            && let Some(why) = self.why_unchecked(core, now, arrival, directory, (&username, host, domain))
        {
            report_authentication_failure(core, now, arrival, request, &username, why);
            // Otherwise a source that continues to guess would never be banned. A new phone of the user needs a few
            // requests only.
            core.record_offence(now, arrival.source.ip(), Offence::Refused);
            core.refuse(arrival, echo, 403, "");
            return None;
        }
        let to = (&request.uri, host);
        let stale = match self.authority.check(now, request.method.as_str(), to, &values, directory) {
            AuthenticationResult::Accepted(user) => {
                let user = user.clone();
                core.note_authenticated(now, arrival.source.ip(), (&user.username, domain));
                return Some(user);
            }
            AuthenticationResult::WrongCredentials(username) => {
                let known = directory.users(&username, host).next().is_some();
                let why = if known { "wrong password" } else { "no such user" };
                reject_credentials(core, now, arrival, request, (&username, domain), why);
                core.refuse(arrival, echo, 403, "");
                return None;
            }
            AuthenticationResult::WrongUri(username, signed) => {
                let why = format!("the Digest answer is for {}, not for the Request-URI", shown(&signed));
                reject_credentials(core, now, arrival, request, (&username, domain), &why);
                // RFC 7616 §3.4.6: the `uri` in the Digest answer must match the Request-URI.
                core.refuse_with(arrival, echo, 400, "Digest uri is not the Request-URI");
                return None;
            }
            AuthenticationResult::Stale => true,
            AuthenticationResult::Missing => false,
        };
        core.record_offence(now, arrival.source.ip(), Offence::Challenge);
        // If this server itself has sent the request, the outbound leg reports the challenge as its end.
        if !stale && !core.handles_own_request {
            let (t1, is_known) = (core.config.timers.t1, !core.is_unknown_source(arrival));
            let describe = || refusal(arrival, request, "", NO_CREDENTIALS, None);
            self.unanswered.note(now, t1, is_known, &call_id(request), describe);
        }
        let lines =
            self.authority.challenge(now, directory.realm(), &core.config.registrar.algorithms, stale, &mut core.rng);
        core.refuse(arrival, echo, 401, &lines);
        None
    }

    /// Returns the reason why the password of a user is not checked at all, so that the sender learns nothing about the
    /// password. Returns `None` if the password may be checked.
    fn why_unchecked(
        &self,
        core: &Core,
        now: Instant,
        arrival: &Arrival,
        directory: &Directory,
        (username, host, domain): (&str, &str, &str),
    ) -> Option<&'static str> {
        // An application chooses the credentials of its calls, and this server would guess passwords for it. A trunk
        // between two accounts of one server is different: the operator has written its password.
        let mut users = directory.users(username, host);
        if core.handles_own_request && !users.any(|user| user.trunk.is_some()) {
            return Some("a call of this server to itself cannot use the password of a phone");
        }
        let is_full = core.guard.as_ref().is_some_and(|guard| guard.is_under_attack(now, (username, domain)));
        let is_home = || {
            let source = arrival.source.ip();
            let mut users = directory.users(username, host);
            users.any(|user| self.registrar.has_contact_at(now, &aor(user, host, directory), source))
        };
        (is_full && !is_home()).then_some("too many wrong passwords for this user within a minute")
    }

    /// Returns the Contact of the registered phone whose GRUU at this server is `uri`, and the path to the phone. A proxy
    /// on the path cannot know this Contact (RFC 5627 §6.1). Some proxies add parameters to the GRUU of a phone behind a
    /// NAT. For such a GRUU the function returns `None`, because the proxy knows the path to the phone.
    pub(super) fn phone_of_gruu(&self, now: Instant, uri: &Uri) -> Option<(Uri, Flow)> {
        let instance = uri.instance()?;
        let text = String::from_utf8_lossy(uri.text());
        if gruu::public(&text, &format!("<{instance}>"))? != text {
            return None;
        }
        let (user, host) = (uri.user(), uri.host_text());
        let target_of = |user| self.registrar.target_of_instance(now, &aor(user, &host, &self.directory), &instance);
        let target = self.directory.users(&user, &host).find_map(target_of)?;
        Some((Uri::parse(target.contact.as_bytes())?, target.flow))
    }

    /// Returns the path to the registered phone of the user at `address` (a From or To value) whose Contact is `contact`.
    pub(super) fn flow_of_contact(&self, now: Instant, address: &[u8], contact: &Uri) -> Option<Flow> {
        let address = Uri::of_address(address)?;
        let (user, host) = (address.user(), address.host_text());
        let flow_of = |user| self.registrar.flow_of_contact(now, &aor(user, &host, &self.directory), contact);
        self.directory.users(&user, &host).find_map(flow_of)
    }
}

/// Returns the accounts' directory if the request is a call of an account itself. Such a call comes from a loopback
/// address, and its credentials name an account. The call belongs to this account, even if a trunk's networks contain
/// the address.
fn accounts_claimed<'a>(directory: &'a Directory, arrival: &Arrival, request: &Request) -> Option<&'a Directory> {
    let is_local = arrival.source.ip().to_canonical().is_loopback() && !arrival.from_page;
    let accounts = directory.accounts().filter(|_| is_local)?;
    let values = request.content.values("Authorization");
    let mut claimed = challenge::claimed(&values, accounts.realm());
    claimed.any(|name| accounts.users(&name, "").next().is_some()).then_some(accounts)
}

fn aor(user: &User, host: &str, directory: &Directory) -> Aor {
    Aor {
        account: user.account.clone(),
        username: Arc::clone(&user.username),
        domain: user.domain.clone().or_else(|| directory.domain(host).map(|domain| Arc::clone(&domain.name))),
    }
}

fn reject_credentials(
    core: &mut Core,
    now: Instant,
    arrival: &Arrival,
    request: &Request,
    user: (&str, &str),
    why: &str,
) {
    core.counters.wrong_passwords += 1;
    core.record_wrong_password(now, arrival.source.ip(), user);
    report_authentication_failure(core, now, arrival, request, user.0, why);
}

/// Reports that a user was refused. For each source, at most one line in 10 s is written to the log.
fn report_authentication_failure(
    core: &mut Core,
    now: Instant,
    arrival: &Arrival,
    request: &Request,
    username: &str,
    why: &str,
) {
    let line = log_line(core, now, arrival.source);
    core.event(Event::AuthenticationFailed(Box::new(refusal(arrival, request, username, why, line))));
}

/// Decides whether a line about this source may be written to the log. For each source, at most one line in 10 s is
/// written. If so, returns the number of lines that were suppressed since the last one.
fn log_line(core: &Core, now: Instant, source: SocketAddr) -> Option<u64> {
    core.guard.as_ref().map_or(Some(0), |guard| guard.take_log_line(now, source.ip()))
}

/// Reports a change of a binding to the application. If the binding is new or has ended, writes the change to the log
/// too.
fn report_binding(core: &mut Core, change: Change) {
    log_binding(&change);
    core.event(Event::Binding(change));
}

fn log_binding(change: &Change) {
    let (binding, what) = match change {
        Change::Bound(binding) => (binding, "phone has registered"),
        Change::Unbound(binding) => (binding, "phone is no longer registered"),
        Change::Refreshed(_) | Change::Restored(_) | Change::Learned(_) | Change::Forgotten(_) => return,
    };
    let Binding { aor, source, transport, user_agent, .. } = &**binding;
    let (user, transport) = (shown(&aor.username), transport.token());
    tracing::info!(account = %aor.account, user, user_agent, "{what}: {source} {transport}");
}

/// Describes a refused request for the application. The Call-ID is cut to [`MAX_CALL_ID_LENGTH`] characters, and all
/// other texts are cut to 64 characters. `line` becomes [`RefusedRequest::line`].
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
        sip_call_id: call_id(request),
        why: why.to_owned(),
        line,
    }
}

/// Returns the Call-ID of a request as reports have it: cut to [`MAX_CALL_ID_LENGTH`] characters.
fn call_id(request: &Request) -> String {
    clean(&String::from_utf8_lossy(&request.call_id)).chars().take(MAX_CALL_ID_LENGTH).collect()
}

fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(64).collect()
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
pub(super) mod tests;
