//! The trunks: their registrations, OPTIONS probes, limits and health.
//!
//! ```text
//!   a timer ──> handle_timeout ──> Locate ──> handle_located ──> Send ──> handle_response, or handle_failure
//!   a call  ──> admit, release, report_invite_outcome
//! ```
//!
//! [`Trunks`] sends nothing itself. [`TrunkOutput`]s make the hub look up a URI, or send a request outside every
//! dialog. The index of a trunk identifies the trunk. The index does not change while the endpoint lives.

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use rand::Rng;

use super::Arrival;
use super::core::Core;
use crate::HashMap;
use crate::compose;
use crate::digest;
use crate::flow::Target;
use crate::leg::{EndCause, Event};
use crate::message::{Destination, Host, Method, Request, Response, Uri};
use crate::probe::Probe;
use crate::registration::{Registration, Reply, Step};
use crate::timer::Owner;
use crate::tls_fault::TransportFault;
use crate::trunk::{
    CallDirection, KnownBy, Registered, Trunk, TrunkFault, TrunkSlice, TrunkState, TrunkStatus, TrunkTrouble,
};
use crate::trunk_acl::TrunkName;

/// Widest source network (IPv4, IPv6) that shows that an address belongs to a trunk. Carriers have networks of this
/// size. A wider network is the operator's way to accept calls from unknown addresses.
const WIDEST_NETWORK: (u8, u8) = (16, 32);

/// The purpose of a request outside every dialog. The number is the index of the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutOfDialogRequest {
    /// A REGISTER.
    Register(usize),
    /// An OPTIONS that checks whether the trunk responds.
    Probe(usize),
    /// A REGISTER that removes a Contact of an earlier configuration.
    Unregister(usize),
    /// No request. Only the addresses of the trunk are looked up.
    Resolve(usize),
}

/// A task that the trunks give to the hub.
#[derive(Debug)]
pub(super) enum TrunkOutput {
    /// Look up the targets of requests to this URI. The result goes to [`Trunks::handle_located`].
    Locate { kind: OutOfDialogRequest, uri: Uri, trunk: TrunkName },
    /// Send this request. The outcome of the request goes to [`Trunks::handle_response`] or [`Trunks::handle_failure`].
    Send(Box<OutOfDialogMessage>),
}

/// The parts of a request outside every dialog.
#[derive(Debug)]
pub(super) struct OutOfDialogMessage {
    pub(super) kind: OutOfDialogRequest,
    pub(super) target: Target,
    pub(super) method: Method,
    pub(super) uri: String,
    /// The URI and the tag in the From header.
    pub(super) from: (String, u64),
    pub(super) to: String,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    /// The URI in the Contact header, without angle brackets.
    pub(super) contact: String,
    /// Complete header lines. Each line ends with CRLF.
    pub(super) lines: String,
}

/// All trunks.
#[derive(Debug, Default)]
pub(super) struct Trunks {
    /// All trunks by index. A trunk that is no longer configured keeps its index.
    states: Vec<TrunkState>,
    /// The indexes of the trunks at which this server registers. The key is the token in the registered Contact.
    by_token: HashMap<u128, usize>,
    /// Trunks whose status changed since the status was last polled.
    changed: Vec<usize>,
    /// Whether other servers share the limits of the trunks.
    shares_limits: bool,
    outputs: VecDeque<TrunkOutput>,
}

impl OutOfDialogRequest {
    fn trunk(self) -> usize {
        match self {
            Self::Register(index) | Self::Probe(index) | Self::Unregister(index) | Self::Resolve(index) => index,
        }
    }
}

impl Trunks {
    pub(super) fn poll_output(&mut self) -> Option<TrunkOutput> {
        self.outputs.pop_front()
    }

    /// Returns the next trunk whose status changed, with the new status.
    pub(super) fn poll_status(&mut self) -> Option<(usize, TrunkStatus)> {
        let index = self.changed.pop()?;
        let trunk = self.states.get_mut(index)?;
        trunk.is_listed = false;
        Some((index, trunk.status()))
    }

    /// Returns every trunk by its index. The entry is `None` for a trunk that is no longer configured.
    pub(super) fn statuses(&self) -> Vec<Option<(TrunkName, TrunkStatus)>> {
        let shown = |state: &TrunkState| (!state.retired).then(|| (state.settings.trunk.clone(), state.status()));
        self.states.iter().map(shown).collect()
    }

    // ----- configuration ------------------------------------------------------------------------------------------

    /// Replaces the configured trunks. A trunk keeps its calls and its index. The registration of a trunk that is no
    /// longer configured is removed.
    pub(super) fn reconfigure(&mut self, core: &mut Core, now: Instant, trunks: Vec<Trunk>) {
        for index in 0..self.states.len() {
            let name = self.states.get(index).map(|state| state.settings.trunk.clone()).unwrap_or_default();
            if !trunks.iter().any(|trunk| trunk.trunk == name) {
                self.change(core, now, index, Trunk::new(name));
                self.states.get_mut(index).into_iter().for_each(|state| state.retired = true);
            }
        }
        for trunk in trunks {
            match self.states.iter().position(|state| state.settings.trunk == trunk.trunk) {
                Some(index) => self.change(core, now, index, trunk),
                None => self.add(core, now, trunk),
            }
        }
        self.update_guard(core);
    }

    /// Adds a trunk, and starts its registration and its probes.
    pub(super) fn add(&mut self, core: &mut Core, now: Instant, trunk: Trunk) {
        let index = self.states.len();
        let mut state = TrunkState::new(trunk, None, None);
        if self.shares_limits {
            state.set_slice(now, TrunkSlice::default());
        }
        self.states.push(state);
        self.start(core, now, index);
        self.update(core, index);
    }

    fn change(&mut self, core: &mut Core, now: Instant, index: usize, trunk: Trunk) {
        let Some(state) = self.states.get_mut(index) else { return };
        let (credentials, old) = (trunk.credentials.clone(), mem::replace(&mut state.settings, trunk));
        state.retired = false;
        let (uri, interval) = (&state.settings.uri, state.settings.options_interval);
        if (&old.uri, old.options_interval) != (uri, interval) {
            state.probe = None;
        }
        let registers_anew = old.register != state.settings.register || old.credentials != credentials;
        if old.uri != state.settings.uri {
            state.addresses.clear();
        }
        if registers_anew && state.registration.as_mut().map(Registration::stop) == Some(Step::Send) {
            // The response has no effect. The old Contact expires even without a response.
            self.send_register(core, now, OutOfDialogRequest::Unregister(index));
        }
        if registers_anew
            && let Some(registration) = self.states.get_mut(index).and_then(|state| state.registration.take())
        {
            self.by_token.remove(&registration.token);
        }
        self.start(core, now, index);
        self.update(core, index);
    }

    /// Starts the registration and the probes of a trunk, if they are configured and have not been started yet.
    fn start(&mut self, core: &mut Core, now: Instant, index: usize) {
        let Some(TrunkState { settings, registration, probe, .. }) = self.states.get_mut(index) else { return };
        if registration.is_none()
            && let Some(register) = settings.register.clone()
        {
            let session = settings.credentials.clone().map(digest::Session::new);
            let begun = registration.insert(Registration::new(now, register, session, &mut core.rng));
            self.by_token.insert(begun.token, index);
        }
        if probe.is_none() && settings.uri.is_some() {
            *probe = settings.options_interval.map(|interval| Probe::new(now, interval, &mut core.rng));
        }
        let uri = settings.uri.as_deref().filter(|_| probe.is_none()).and_then(|uri| Uri::parse(uri.as_bytes()));
        if let Some(uri) = uri {
            let (kind, trunk) = (OutOfDialogRequest::Resolve(index), settings.trunk.clone());
            self.outputs.push_back(TrunkOutput::Locate { kind, uri, trunk });
        }
    }

    /// Removes all registrations of this server.
    pub(super) fn withdraw(&mut self, core: &mut Core, now: Instant) {
        for index in 0..self.states.len() {
            let step = self.registration_mut(index).map(Registration::stop);
            if step == Some(Step::Send) {
                self.send_register(core, now, OutOfDialogRequest::Register(index));
            }
            self.update(core, index);
        }
    }

    /// Returns whether a registrar still has to confirm the removal of a registration.
    pub(super) fn is_withdrawing(&self) -> bool {
        self.states.iter().any(|trunk| trunk.registration.as_ref().is_some_and(Registration::is_withdrawing))
    }

    // ----- registration and probes --------------------------------------------------------------------------------

    /// Handles a timer of the trunk. This function may also be called before the timer is due.
    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant, at: Instant, index: usize) {
        let Some(trunk) = self.states.get_mut(index) else { return };
        if trunk.wake == Some(at) {
            trunk.wake = None;
        }
        trunk.forget_doubt(now);
        let registration = trunk.registration.as_mut();
        let registrar = registration.and_then(|one| one.is_due(now).then(|| one.register().registrar.clone()));
        let probed = trunk.probe.as_mut().is_some_and(|probe| probe.is_due(now));
        let probed = trunk.settings.uri.clone().filter(|_| probed);
        let name = trunk.settings.trunk.clone();
        let wanted = [(OutOfDialogRequest::Register(index), registrar), (OutOfDialogRequest::Probe(index), probed)];
        for (kind, uri) in wanted {
            let Some(uri) = uri else { continue };
            match Uri::parse(uri.as_bytes()) {
                Some(uri) => self.outputs.push_back(TrunkOutput::Locate { kind, uri, trunk: name.clone() }),
                None => self.handle_located(core, now, kind, Vec::new()),
            }
        }
        self.update(core, index);
    }

    /// Handles the addresses that were found for a trunk's URI, best first. The list is empty if no address was found.
    pub(super) fn handle_located(
        &mut self,
        core: &mut Core,
        now: Instant,
        kind: OutOfDialogRequest,
        mut targets: Vec<Target>,
    ) {
        self.learn_hosts(core, kind.trunk(), &targets);
        targets.retain(|target| core.local_for(target.transport, target.address.ip()).is_some());
        match kind {
            OutOfDialogRequest::Register(index) => {
                let Some(registration) = self.registration_mut(index) else { return };
                if registration.handle_located(now, targets, &mut core.rng) == Step::Send {
                    self.send_register(core, now, kind);
                }
                self.update(core, index);
            }
            OutOfDialogRequest::Probe(index) => match targets.first() {
                Some(&target) => self.send_options(core, now, index, target),
                None => self.probed(core, now, index, None),
            },
            OutOfDialogRequest::Unregister(_) | OutOfDialogRequest::Resolve(_) => {}
        }
    }

    /// Handles the response to a request of a trunk.
    pub(super) fn handle_response(
        &mut self,
        core: &mut Core,
        now: Instant,
        kind: OutOfDialogRequest,
        response: &Response,
    ) {
        if response.status < 200 {
            return;
        }
        if let Some(trunk) = self.states.get_mut(kind.trunk()) {
            trunk.tls_fault = None;
        }
        match kind {
            OutOfDialogRequest::Register(index) => {
                let Some(registration) = self.registration_mut(index) else { return };
                let reply = Reply::of(response, registration.token);
                if registration.handle_reply(now, reply, &mut core.rng) == Step::Send {
                    self.send_register(core, now, kind);
                }
                self.update(core, index);
            }
            OutOfDialogRequest::Probe(index) => self.probed(core, now, index, Some(response.status)),
            OutOfDialogRequest::Unregister(_) | OutOfDialogRequest::Resolve(_) => {}
        }
    }

    /// Handles a failed request of a trunk. The request got no response or could not be sent.
    pub(super) fn handle_failure(&mut self, core: &mut Core, now: Instant, kind: OutOfDialogRequest, cause: EndCause) {
        let tls_fault = if let EndCause::Tls(fault) = cause { Some(fault) } else { None };
        if let Some(trunk) = self.states.get_mut(kind.trunk()) {
            trunk.tls_fault = tls_fault;
        }
        match kind {
            OutOfDialogRequest::Register(index) => {
                let Some(registration) = self.registration_mut(index) else { return };
                if registration.handle_silence(now, cause, &mut core.rng) == Step::Send {
                    self.send_register(core, now, kind);
                }
                self.update(core, index);
            }
            OutOfDialogRequest::Probe(index) => self.probed(core, now, index, None),
            OutOfDialogRequest::Unregister(_) | OutOfDialogRequest::Resolve(_) => {}
        }
    }

    fn probed(&mut self, core: &mut Core, now: Instant, index: usize, status: Option<u16>) {
        let Some(trunk) = self.states.get_mut(index) else { return };
        let Some(probe) = &mut trunk.probe else { return };
        let changed = probe.handle_result(now, status, &mut core.rng);
        let (down, name) = (probe.is_down(), trunk.settings.trunk.clone());
        if !down && status.is_some_and(|status| status < 500) {
            trunk.trust();
        }
        match (changed, down) {
            (true, true) => match (trunk.tls_fault, status) {
                (Some(fault), _) => trunk.report(core, TrunkFault::Tls, TransportFault::Tls(fault).to_string()),
                (None, Some(status)) => trunk.report(core, TrunkFault::Down, format!("OPTIONS got {status}")),
                (None, None) => trunk.report(core, TrunkFault::Down, "OPTIONS got no answer".to_owned()),
            },
            (true, false) => tracing::info!(trunk = %name, "trunk is up again"),
            _ => {}
        }
        self.update(core, index);
    }

    fn send_register(&mut self, core: &mut Core, now: Instant, kind: OutOfDialogRequest) {
        let Some(registration) = self.registration_mut(kind.trunk()) else { return };
        let Some(target) = registration.target() else { return };
        let register = registration.register().clone();
        registration.cseq = registration.cseq.wrapping_add(1) & 0x7fff_ffff;
        let mut lines = match &mut registration.session {
            Some(session) => session.lines("REGISTER", &register.registrar, b"", &mut core.rng),
            None => String::new(),
        };
        lines.push_str(&format!("Expires: {}\r\nSupported: path\r\n", registration.expires()));
        let (tag, cseq, token) = (registration.tag, registration.cseq, registration.token);
        let call_id = registration.call_id.clone();
        let local = core.local_for(target.transport, target.address.ip()).and_then(|local| core.locals.get(local));
        let Some(local) = local else { return self.handle_failure(core, now, kind, EndCause::NoSocket) };
        let contact = local.contact_of(&compose::escape_user(&register.contact_user), token);
        self.outputs.push_back(TrunkOutput::Send(Box::new(OutOfDialogMessage {
            kind,
            target,
            method: Method::Register,
            uri: register.registrar,
            from: (register.address.clone(), tag),
            to: register.address,
            call_id,
            cseq,
            contact,
            lines,
        })));
    }

    fn send_options(&mut self, core: &mut Core, now: Instant, index: usize, target: Target) {
        let Some(uri) = self.states.get(index).and_then(|trunk| trunk.settings.uri.clone()) else { return };
        let local = core.local_for(target.transport, target.address.ip()).and_then(|local| core.locals.get(local));
        let Some(local) = local else { return self.probed(core, now, index, None) };
        let (contact, from) = (local.contact.clone(), format!("sip:{}", local.host()));
        let (call_id, tag) = (format!("{:032x}", core.random_u128()), core.rng.next_u64());
        self.outputs.push_back(TrunkOutput::Send(Box::new(OutOfDialogMessage {
            kind: OutOfDialogRequest::Probe(index),
            target,
            method: Method::Options,
            to: uri.clone(),
            uri,
            from: (from, tag),
            call_id,
            cseq: 1,
            contact,
            lines: "Accept: application/sdp\r\n".to_owned(),
        })));
    }

    fn registration_mut(&mut self, index: usize) -> Option<&mut Registration> {
        self.states.get_mut(index)?.registration.as_mut()
    }

    /// Sets the timer of the trunk. Adds the trunk to the changed trunks if its status changed.
    fn update(&mut self, core: &mut Core, index: usize) {
        let Some(trunk) = self.states.get_mut(index) else { return };
        let next = trunk.next_timeout();
        core.timers.arm(&mut trunk.wake, next, Owner::Trunk(index));
        let status = trunk.status();
        let before = mem::replace(&mut trunk.reported, status);
        if status == before {
            return;
        }
        if status.registered != before.registered {
            report_registration(core, trunk, status.registered, before.registered);
        }
        if !trunk.is_listed {
            trunk.is_listed = true;
            self.changed.push(index);
        }
    }

    // ----- addresses ----------------------------------------------------------------------------------------------

    /// Stores the addresses of a trunk's host names. These addresses may receive the trunk's credentials, and the guard
    /// does not ban them.
    pub(super) fn learn_hosts(&mut self, core: &Core, index: usize, targets: &[Target]) {
        let Some(trunk) = self.states.get_mut(index) else { return };
        if trunk.learn_addresses(targets.iter().map(|target| target.address.ip())) {
            self.update_guard(core);
        }
    }

    fn update_guard(&self, core: &Core) {
        if let Some(guard) = &core.guard {
            guard.set_hosts(self.states.iter().flat_map(|trunk| trunk.addresses.iter().copied()));
        }
    }

    /// Returns the configured trunks to which this address belongs: a host name of the trunk has the address, or the
    /// trunk's source networks contain the address. Networks wider than [`WIDEST_NETWORK`] do not count.
    pub(super) fn at_address(&self, core: &Core, address: IpAddr) -> impl Iterator<Item = &Trunk> {
        let is_there = move |trunk: &&TrunkState| {
            let mut networks = core.networks_of(&trunk.settings.trunk, WIDEST_NETWORK);
            !trunk.retired
                && (trunk.addresses.iter().any(|known| known.to_canonical() == address)
                    || networks.any(|network| network.contains(&address)))
        };
        self.states.iter().filter(is_there).map(|trunk| &trunk.settings)
    }

    /// Returns the configured trunks whose URI or registrar has this host name.
    pub(super) fn at_host(&self, name: &str) -> impl Iterator<Item = &Trunk> {
        let has_name = move |uri: &str| match Uri::parse(uri.as_bytes()).and_then(|uri| uri.destination()) {
            Some(Destination { host: Host::Name(own), .. }) => own.trim_end_matches('.').eq_ignore_ascii_case(name),
            _ => false,
        };
        let configured = self.states.iter().filter(|trunk| !trunk.retired).map(|trunk| &trunk.settings);
        configured.filter(move |trunk| {
            let registrar = trunk.register.as_ref().map(|register| &*register.registrar);
            trunk.uri.as_deref().into_iter().chain(registrar).any(has_name)
        })
    }

    /// Returns the addresses to which this server may send a trunk's credentials. The list contains the addresses of
    /// the trunk's host names and the trunk's source networks. Source networks that are too wide are left out, because
    /// they may contain unknown senders. The destination of the trunk's calls is not in the list, but may also get the
    /// credentials.
    pub(super) fn trusted_networks_of(&self, core: &Core, trunk: Option<usize>) -> Vec<IpNet> {
        let Some(trunk) = trunk.and_then(|index| self.states.get(index)) else { return Vec::new() };
        let networks = core.narrow_networks(&trunk.settings.trunk).copied();
        networks.chain(trunk.addresses.iter().map(|address| IpNet::from(address.to_canonical()))).collect()
    }

    // ----- recognition --------------------------------------------------------------------------------------------

    /// Returns the settings of a trunk.
    pub(super) fn get(&self, index: usize) -> Option<&Trunk> {
        self.states.get(index).map(|trunk| &trunk.settings)
    }

    /// Returns the index of a configured trunk.
    pub(super) fn index_of(&self, trunk: &str) -> Option<usize> {
        self.states.iter().position(|state| &*state.settings.trunk == trunk && !state.retired)
    }

    /// Returns how the server recognises calls of this trunk.
    pub(super) fn known_by(&self, trunk: Option<&str>) -> KnownBy {
        let trunk = trunk.and_then(|trunk| self.get(self.index_of(trunk)?));
        trunk.map(|trunk| trunk.known_by).unwrap_or_default()
    }

    /// Returns whether there is a trunk that may authenticate with a password. Such a trunk may call from any address.
    pub(super) fn has_password_trunks(&self) -> bool {
        self.states.iter().any(|trunk| trunk.settings.known_by == KnownBy::Either)
    }

    /// Returns the trunk that sent a request outside every dialog. The trunk is recognised by its certificate, by the
    /// source address, or by a Contact that only the trunk's registrar knows.
    pub(super) fn trunk_of(&self, core: &Core, arrival: &Arrival, request: &Request) -> Option<TrunkName> {
        if let Some(registrar) = self.registrar_of(request) {
            return Some(registrar.clone());
        }
        core.trunk_of_sender(arrival).cloned()
    }

    /// Returns the trunk at which this server registered a Contact with the token of the Request-URI.
    pub(super) fn registrar_of(&self, request: &Request) -> Option<&TrunkName> {
        let token = request.uri.line_token()?;
        self.get(*self.by_token.get(&token)?).map(|trunk| &trunk.trunk)
    }

    /// Returns the called user, which is usually the user of the Request-URI. If a registrar calls the Contact of this
    /// server, the called number is in P-Called-Party-ID (RFC 7315 §4.2) or in To. If the registrar has put the called
    /// number into the Contact as the user, the user of the Request-URI is returned.
    pub(super) fn called_user(&self, request: &Request) -> String {
        let user = request.uri.user();
        let contact = request
            .uri
            .line_token()
            .and_then(|token| self.states.get(*self.by_token.get(&token)?))
            .and_then(|trunk| trunk.registration.as_ref())
            .is_some_and(|registration| registration.register().contact_user == user);
        if !contact {
            return user;
        }
        let named = request.content.called_party().filter(|named| !named.is_empty());
        named.or_else(|| Some(request.to.uri.user()).filter(|user| !user.is_empty())).unwrap_or(user)
    }

    // ----- calls --------------------------------------------------------------------------------------------------

    /// Counts a call of a trunk. Returns `false` if the trunk's limits do not allow the call.
    pub(super) fn admit(
        &mut self,
        core: &mut Core,
        now: Instant,
        trunk: Option<usize>,
        direction: CallDirection,
    ) -> bool {
        let Some(index) = trunk else { return true };
        let admitted = self.states.get_mut(index).is_none_or(|trunk| trunk.admit(now, direction));
        self.update(core, index);
        admitted
    }

    /// Counts a call that continues after a restart. The limits do not refuse such a call.
    pub(super) fn count(&mut self, core: &mut Core, trunk: Option<usize>) {
        let Some(index) = trunk else { return };
        self.states.get_mut(index).into_iter().for_each(TrunkState::count);
        self.update(core, index);
    }

    /// Sets the slices of these trunks. A trunk without a slice until now gets the slice 0.
    pub(super) fn set_slices(&mut self, core: &mut Core, now: Instant, slices: &[(TrunkName, TrunkSlice)]) {
        let is_first = !mem::replace(&mut self.shares_limits, true);
        for index in 0..self.states.len() {
            let Some(state) = self.states.get_mut(index) else { continue };
            let named = slices.iter().find(|(name, _)| *name == state.settings.trunk).map(|(_, slice)| *slice);
            let Some(slice) = named.or_else(|| is_first.then(TrunkSlice::default)) else { continue };
            state.set_slice(now, slice);
            self.update(core, index);
        }
    }

    /// Returns whether the trunk has reached its `max_calls` at this server alone. If only the slice is used up, there may
    /// be room within a second.
    pub(super) fn is_full(&self, trunk: Option<usize>) -> bool {
        trunk.and_then(|index| self.states.get(index)).is_some_and(TrunkState::has_all_calls)
    }

    /// Counts the end of an admitted call.
    pub(super) fn release(&mut self, core: &mut Core, trunk: Option<usize>) {
        let Some(index) = trunk else { return };
        self.states.get_mut(index).into_iter().for_each(TrunkState::release);
        self.update(core, index);
    }

    /// Records whether an INVITE over the trunk was answered. If the INVITE got no response or a 503, the trunk is
    /// doubtful for some time.
    pub(super) fn report_invite_outcome(
        &mut self,
        core: &mut Core,
        now: Instant,
        trunk: Option<usize>,
        answered: bool,
    ) {
        let Some(index) = trunk else { return };
        let Some(state) = self.states.get_mut(index) else { return };
        let trunk = state.settings.trunk.clone();
        if answered {
            if state.trust() {
                tracing::info!(%trunk, "trunk answers calls again");
            }
        } else if state.doubt(now) {
            let uri = state.settings.uri.as_deref();
            tracing::warn!(%trunk, uri, "trunk did not respond to a call or answered 503: other trunks are tried first for a minute");
        }
        self.update(core, index);
    }
}

fn report_registration(core: &mut Core, state: &TrunkState, status: Registered, before: Registered) {
    let trunk = &state.settings.trunk;
    let failed = |core: &mut Core, fault| {
        let registration = state.registration.as_ref();
        let registrar = registration.map(|one| one.register().registrar.as_str()).unwrap_or_default();
        let failure = registration.and_then(Registration::failure).map(|why| format!(": {why}"));
        state.report(core, fault, format!("cannot register with {registrar}{}", failure.unwrap_or_default()));
    };
    match status {
        Registered::Yes => tracing::info!(%trunk, "registered"),
        Registered::Refused(_) => failed(core, TrunkFault::RegistrationRefused),
        Registered::Unanswered if state.tls_fault.is_some() => failed(core, TrunkFault::Tls),
        Registered::Unanswered => failed(core, TrunkFault::RegistrarSilent),
        Registered::Pending if before == Registered::Yes => tracing::info!(%trunk, "no longer registered"),
        Registered::Pending | Registered::Not => {}
    }
}

impl TrunkState {
    /// Reports a trouble of the trunk to the application.
    fn report(&self, core: &mut Core, fault: TrunkFault, why: String) {
        let (trunk, account) = (self.settings.trunk.clone(), self.settings.account.clone());
        core.event(Event::TrunkTroubled(Box::new(TrunkTrouble { trunk, account, fault, why })));
    }
}

#[cfg(test)]
impl Trunks {
    /// Returns the status of a trunk.
    pub(super) fn status(&self, index: usize) -> Option<TrunkStatus> {
        self.states.get(index).map(TrunkState::status)
    }
}
