//! Calls from outside. This module admits a call, finds its route, and verifies its calling number.

use std::sync::Arc;

use tandem_accounts::subaccount::AccountStatus;
use tandem_call::address::Address;
use tandem_call::command::{Command, Request};
use tandem_call::header_fields::HeaderFields;
use tandem_call::route::{Decision, Route};
use tandem_causes::Cause;
use tandem_clients as clients;
use tandem_cluster::Refusal;
use tandem_events::{Event, Kind, PhoneEvent, Topic};
use tandem_history::problem::Problem;
use tandem_history::report::SipRequest;
use tandem_host::clock;
use tandem_id::{AccountName, CallId, LegId};
use tandem_leg::fork::{Contact, MediaKind};
use tandem_leg::signal::IncomingCall;
use tandem_legs::sip::{PendingCall, Report, SipSignalling, report};
use tandem_legs::{RouteMedia, Signalling};
use tandem_routing::channels::Barred;
use tandem_routing::new_call::inbound_leg;
use tandem_routing::trunk::identity;
use tandem_routing::{Arrival, Routing, UnknownNumber, customer_trunk, phones};
use tandem_sip as sip;
use tandem_stir::{self as stir, VerificationRequest};

use super::Calls;
use crate::call_task::{self, CallStart};
use crate::inbox;
use crate::reporting::ProblemOwner;

impl Calls {
    /// Handles an event of the SIP endpoint. Never waits.
    pub fn on_sip(&self, event: sip::Event) {
        match event {
            sip::Event::Binding(change) => {
                if let sip::Change::Bound(binding) = &change {
                    self.refusals().forget(&binding.aor.account, &binding.aor.username);
                }
                self.note_phone(&change);
                phones::keep(&self.services().store, &self.services().cluster, change);
            }
            sip::Event::AuthenticationFailed(refused) => self.phone_refused(&refused),
            sip::Event::ChallengeUnanswered { request, is_known } => self.challenge_unanswered(&request, is_known),
            sip::Event::UnknownSource(refused) => self.unknown_source_refused(&refused),
            sip::Event::TrunkTroubled(trouble) => self.trunk_troubled(*trouble),
            event => match report(event) {
                Some(Report::Incoming(leg, call, waiting)) => {
                    let sip = SipSignalling::new(Arc::clone(&self.services().sip));
                    self.incoming(leg, Signalling::Sip(sip), *call, waiting, None);
                }
                Some(Report::Signal(leg, event)) => self.0.registry.signal(leg, event),
                Some(Report::Trace(trace)) => self.0.registry.trace(&trace),
                None => {}
            },
        }
    }

    /// Handles a registration, or the end of a registration: the phone is or was a contact of its user.
    fn note_phone(&self, change: &sip::Change) {
        let (binding, registered) = match change {
            sip::Change::Restored(binding)
            | sip::Change::Bound(binding)
            | sip::Change::Refreshed(binding)
            | sip::Change::Learned(binding) => (binding, true),
            sip::Change::Unbound(binding) | sip::Change::Forgotten(binding) => (binding, false),
        };
        let (services, sip::Aor { account, username, domain }) = (self.services(), binding.aor.clone());
        let user = clients::User { account, name: username, domain };
        if registered {
            let by_websocket = binding.transport.is_websocket();
            let is_webrtc = services.routing.load().phones().is_webrtc(&user, by_websocket);
            let media = if is_webrtc { MediaKind::WebRtc } else { MediaKind::Plain };
            let contact = Contact { id: binding.id.0, q: binding.q, media };
            let (device, shares_device) = (binding.device(), binding.outbound_instance().is_some());
            let device = device.map(str::to_owned);
            services.clients.add(&user, clients::Client { contact, device, shares_device, has_token: false });
        } else {
            services.clients.remove(&user, binding.id.0);
        }
        services.events.publish(Topic::new(Kind::Phone, &binding.aor.account), || {
            let clients::User { account, name: username, domain } = user;
            Event::Phone(PhoneEvent { account, username, domain, registered })
        });
    }

    /// Handles a request of a phone user that SIP has refused. If exactly one account has a user with this name, the
    /// refusal is stored for that account.
    fn phone_refused(&self, refused: &sip::RefusedRequest) {
        let owner = self.owner_of_user(&refused.username);
        let sip::RefusedRequest { method, username, source, transport, why, line, .. } = refused;
        let text = format!("{method} of user {username:?} from {source} {} refused: {why}", transport.token());
        if let Some(owner) = &owner {
            self.0.refusals.note(owner, refused, clock::time());
        }
        self.refused(owner.as_ref(), Cause::WrongSipPassword, *line, text, refused);
    }

    /// Returns the account that has a phone user with this name, if exactly one account has such a user.
    fn owner_of_user(&self, name: &str) -> Option<AccountName> {
        let users = self.services().routing.load_full().phones().users();
        let mut owners = users.iter().filter(|user| *user.name == *name).map(|user| &user.account);
        owners.next().filter(|first| owners.all(|other| other == *first)).cloned()
    }

    /// Handles a request without credentials whose challenge was not answered.
    fn challenge_unanswered(&self, refused: &sip::RefusedRequest, is_known: bool) {
        let sip::RefusedRequest { method, from, to, source, transport, why, line, .. } = refused;
        let transport = transport.token();
        if method == "REGISTER" {
            let text = format!("REGISTER of user {to:?} from {source} {transport} {why}: the phone sends no password");
            let owner = self.owner_of_user(to);
            return self.refused(owner.as_ref(), Cause::WrongSipPassword, *line, text, refused);
        }
        let (cause, reason) = match is_known {
            true => (Cause::WrongSipPassword, "a call from there needs a password"),
            false => {
                (Cause::Stranger, "its address is in inbound_from of no trunk, and no phone has logged in from there")
            }
        };
        let text = format!("{method} for {to:?} from {from:?} at {source} {transport} {why}: {reason}");
        self.refused(None, cause, *line, text, refused);
    }

    /// Handles a trunk that went down, or whose registration failed.
    fn trunk_troubled(&self, trouble: sip::TrunkTrouble) {
        let sip::TrunkTrouble { trunk, account, fault, why } = trouble;
        let cause = match fault {
            sip::TrunkFault::RegistrationRefused => Cause::TrunkNotRegistered,
            sip::TrunkFault::RegistrarSilent => Cause::RegistrarSilent,
            sip::TrunkFault::Down => Cause::TrunkDown,
            sip::TrunkFault::Tls => Cause::TrunkTls,
        };
        self.services().report(account.as_ref(), clock::time(), Problem::new(cause, format!("trunk {trunk}: {why}")));
    }

    /// Handles a call from a source that is neither a trunk nor a phone.
    fn unknown_source_refused(&self, refused: &sip::RefusedRequest) {
        let sip::RefusedRequest { method, from, to, source, transport, why, line, .. } = refused;
        let text = format!("{method} from {from:?} at {source} {} to {to:?} {why}", transport.token());
        self.refused(None, Cause::Stranger, *line, text, refused);
    }

    /// Reports a refused request. If `line` is `Some`, the refusal is also logged. The value of `line` is the number of
    /// earlier log lines that were suppressed.
    fn refused(
        &self,
        owner: Option<&AccountName>,
        cause: Cause,
        line: Option<u64>,
        text: String,
        refused: &sip::RefusedRequest,
    ) {
        let request = Some(Box::new(refused.into()));
        self.services().report(owner, clock::time(), Problem { request, held_back: line, ..Problem::new(cause, text) });
    }

    /// Admits a call, or refuses it. `signalling` is the signalling of the leg. `route` is the route if the caller has
    /// chosen one, as in the console.
    pub(super) fn incoming(
        &self,
        leg: LegId,
        signalling: Signalling,
        mut incoming: IncomingCall,
        waiting: PendingCall,
        route: Option<Route>,
    ) {
        let services = self.services();
        if let Some(refusal) = self.refusal() {
            let cause = if refusal == Refusal::NoLease { Cause::DatabaseAway } else { Cause::Shutdown };
            self.call_refused(&incoming, cause, 503, &refusal.to_string(), None);
            return signalling.refuse(leg, 503, None);
        }
        if let Some(replaced) = incoming.replaces {
            let calls = self.clone();
            drop(waiting);
            tokio::spawn(async move { calls.replace(leg, signalling, replaced, incoming).await });
            return;
        }
        let routing = services.routing.load_full();
        let trunk = routing.trunk(incoming.trunk.as_deref());
        match trunk {
            Some(trunk) => identity::receive(trunk, &mut incoming),
            // The trunk was removed from the configuration a moment ago.
            None if incoming.trunk.is_some() && routing.has_trunks() => {
                self.call_refused(
                    &incoming,
                    Cause::Stranger,
                    403,
                    "its trunk was removed from the configuration",
                    None,
                );
                return signalling.refuse(leg, 403, None);
            }
            None if incoming.caller.is_none() => drop(identity::withhold(&mut incoming)),
            None => {}
        }
        let verification = services.stir.load_full().verification_request(trunk.map(|trunk| &**trunk), &incoming);
        let user = &incoming.to_user;
        let arrival = Arrival {
            trunk: incoming.trunk.as_deref(),
            caller: incoming.caller.as_ref(),
            request_uri: &incoming.request_uri,
            user,
            is_secure: incoming.is_secure,
        };
        let route = route.map_or_else(|| routing.of_arrival(&arrival), Ok);
        // A suspended account can neither make nor receive calls.
        let active = |route: &Route| services.accounts.status(&route.owner.account) == AccountStatus::Active;
        let refusal = |status| (status, routing.refusal(&Arrival { user: &shown(user), ..arrival }, status));
        let route = route.map_err(refusal).and_then(|route| match active(&route) {
            true => Ok(route),
            false => Err((403, UnknownNumber::inactive(&route.owner.account))),
        });
        let route = match route {
            Ok(route) => route,
            Err((status, UnknownNumber { why, remedy })) => {
                self.call_refused(&incoming, Cause::UnknownNumber, status, &why, Some(remedy));
                return signalling.refuse(leg, status, None);
            }
        };
        if let Some(shortage) = services.media.shortage() {
            self.call_refused(&incoming, Cause::MediaFull, 503, &shortage.to_string(), None);
            return signalling.refuse(leg, 503, None);
        }
        if let Err(barred) = services.take_inbound(&routing, leg, incoming.caller.as_ref(), &route, user) {
            let status = if matches!(barred, Barred::Full(_)) { 486 } else { 403 };
            self.call_refused(&incoming, Cause::CallLimit, status, &barred.to_string(), None);
            return signalling.refuse(leg, status, None);
        }
        // A PBX calls from many different numbers, like a carrier.
        let domain = incoming.caller.as_ref().and_then(|caller| routing.phones().domain(caller.domain()?));
        if let Some(domain) = domain.filter(|domain| domain.details.trunk) {
            if !routing.may_call_from(&route.owner.account, &Address::from(&*incoming.from_user)) {
                let why = "the PBX's account does not own the calling number";
                self.call_refused(&incoming, Cause::ForeignCallerId, 403, why, None);
                services.channels.free(leg);
                return signalling.refuse(leg, 403, None);
            }
            incoming.trunk = Some(customer_trunk::name(domain.id));
            incoming.caller = None;
        }
        self.begin((leg, signalling), incoming, waiting, (route, routing), verification);
    }

    /// Reports a call that was refused before it had a leg.
    fn call_refused(&self, incoming: &IncomingCall, cause: Cause, status: u16, why: &str, hint: Option<String>) {
        let services = self.services();
        services.counters.refused();
        let (source, transport) = (incoming.source, incoming.transport);
        let (from, to) = (shown(&incoming.from_user), shown(&incoming.to_user));
        let text = format!("call from {from:?} at {source} {transport} to {to:?} refused with {status}: {why}");
        let routing = services.routing.load_full();
        let trunk = || routing.trunk(incoming.trunk.as_deref()).and_then(|trunk| trunk.account.clone());
        let account = incoming.caller.as_ref().map(|caller| caller.account.clone()).or_else(trunk);
        let username = incoming.caller.as_ref().and_then(|caller| caller.name());
        let request = SipRequest {
            method: "INVITE".to_owned(),
            from,
            to,
            username: username.map(|name| name.to_string()).unwrap_or_default(),
            source: source.to_string(),
            transport: transport.to_owned(),
            sip_call_id: shown(&incoming.signalling_id),
        };
        let problem = Problem { hint, request: Some(Box::new(request)), ..Problem::new(cause, text) };
        services.report(account.as_ref(), clock::time(), problem);
    }

    /// Begins the call of an inbound leg. The routing is the one that has found the route.
    fn begin(
        &self,
        (leg, signalling): (LegId, Signalling),
        incoming: IncomingCall,
        waiting: PendingCall,
        (route, routing): (Route, Arc<Routing>),
        verification: Option<VerificationRequest>,
    ) {
        let session = CallId::new(clock::time(), &mut rand::rng());
        let line = inbox::trace_line(false, incoming.source, incoming.transport, &incoming.line);
        let caller = incoming.caller.as_ref().and_then(|caller| {
            let (account, domain) = (caller.account.clone(), caller.domain().cloned());
            Some(clients::User { account, name: caller.name()?.clone(), domain })
        });
        let media = RouteMedia::new(&routing, incoming.trunk.as_deref(), caller.as_ref());
        let domain = incoming.caller.as_ref().and_then(|caller| caller.domain());
        let domain = domain.and_then(|name| routing.phones().domain(name));
        let domain = domain.filter(|domain| domain.details.voice.is_some());
        let (mut info, offer) = inbound_leg(leg, session, route.owner.clone(), incoming, domain);
        info.sip.number = routing.stored_number_id(&info.account, &info.to);
        let (inbox, receiver) = self.0.registry.open(session);
        self.0.registry.register(leg.0, inbox.clone());
        self.0.registry.register(session.0, inbox.clone());
        let beginning = |info, signalling, waiting| {
            let (info, route) = (Box::new(info), Box::new(route));
            CallStart::Incoming { info, line, offer, signalling, media, route, waiting }
        };
        let calls = self.clone();
        let Some(verification) = verification else {
            let registry = self.0.registry.clone();
            return call_task::spawn(registry, session, inbox, receiver, beginning(info, signalling, waiting));
        };
        // SIP events that arrive during the verification wait in the inbox.
        tokio::spawn(async move {
            drop(waiting);
            match calls.services().stir.load_full().verify(verification, &calls.services().counters.stir).await {
                Ok(found) => {
                    let (at, text) = (clock::time(), stir::line(&found));
                    inbox.log().push(at, Some(leg), "sip", text);
                    info.sip.identity = Some(Box::new(found));
                    call_task::spawn(
                        calls.0.registry.clone(),
                        session,
                        inbox,
                        receiver,
                        beginning(info, signalling, PendingCall::default()),
                    );
                }
                Err(fault) => {
                    let text = format!(
                        "call from {} to {} refused with {}: its calling number is not verified: {fault}",
                        info.from,
                        info.to,
                        fault.status()
                    );
                    calls.services().counters.refused();
                    calls.services().report(
                        ProblemOwner::Account(&info.account),
                        clock::time(),
                        Problem::new(Cause::NotVerified, text),
                    );
                    signalling.refuse(leg, fault.status(), Some(fault.phrase().to_owned()));
                    calls.0.registry.forget(leg.0);
                    calls.0.registry.forget(session.0);
                }
            }
        });
    }

    /// Handles an INVITE that replaces a live leg (RFC 3891). The new leg receives the account, the dialect and the
    /// application of the replaced leg.
    async fn replace(&self, leg: LegId, signalling: Signalling, replaced: LegId, incoming: IncomingCall) {
        let Some(info) = self.find(replaced).await.ok().flatten() else {
            return signalling.refuse(leg, 481, None);
        };
        let route = Route { owner: info.owner(), status: None, record: None, decision: Decision::Commands };
        let routing = self.services().routing.load_full();
        self.begin((leg, signalling), incoming, PendingCall::default(), (route, routing), None);
        let command = Command::ReplaceLeg { of: replaced };
        if let Err(refused) = self.request(leg, Request { client_state: None, command }).await {
            tracing::info!(%leg, %refused, "cannot replace another leg");
            let hangup = Command::Hangup { headers: HeaderFields::new() };
            // An error is ignored, because the leg may have ended already.
            let _ = self.request(leg, Request { client_state: None, command: hangup }).await;
        }
    }
}

/// Prepares text from the network for the log: truncates the text to 64 characters and replaces control characters with
/// spaces.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(64).collect()
}
