//! The registry of calls: finds a live call by its leg, and ended calls in the database.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::HashMap;
use jiff::Timestamp;
use parking_lot::RwLock;
use tandem_accounts::subaccount::AccountStatus;
use tandem_call::address::Address;
use tandem_call::command::{Accepted, Command, Refused, Request};
use tandem_call::id::{CallId, LegId};
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegInfo, Status};
use tandem_call::program::instruction::RejectReason;
use tandem_call::route::{Decision, Route};
use tandem_causes::{Cause, UNSTORED};
use tandem_clock as clock;
use tandem_dialect::ReportedError;
use tandem_history::event_log::{self, Exchanged, Line};
use tandem_history::feed::Entry;
use tandem_history::notification::{Level, Notification};
use tandem_history::query::{LegFilter, Page};
use tandem_history::records;
use tandem_history::refusals::Refusals;
use tandem_history::report::{Report, SipRequest};
use tandem_http::exchange::HttpExchange;
use tandem_routing::channels::Barred;
use tandem_routing::new_call::{CreateError, Created, NewCall, inbound_leg, outbound_legs};
use tandem_routing::trunk::identity;
use tandem_routing::{CallerIdCheck, customer_trunk, phones};
use tandem_sip as sip;
use tandem_stir::{self as stir, VerificationRequest};
use tandem_store::{self as store, StoreFailed};
use tokio::sync::{Mutex, Notify, oneshot};

use crate::call_task::{self, CallStart};
use crate::inbox::{self, Inbox, Message, NotTaken};
use crate::leg as leg_io;
use crate::loopback::LoopbackDialog;
use crate::services::Services;

/// All calls of the server. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Arc<Registry>);

/// A call from one leg of this server to another, without SIP.
pub struct IncomingInternalCall {
    /// The called leg.
    pub info: LegInfo,
    /// The calling leg.
    pub from: LegId,
    /// SDP offer of the calling leg.
    pub offer: bytes::Bytes,
    /// The connection from the called leg to the calling one.
    pub loopback: LoopbackDialog,
}

struct Registry {
    services: Arc<Services>,
    /// The inbox of each live leg and session, by id. The number of live legs bounds the map.
    inboxes: RwLock<HashMap<u128, Inbox>>,
    draining: AtomicBool,
    refusals: Refusals,
    /// Notified when the last entry is removed.
    idle: Notify,
    /// Held while two calls are merged.
    merging: Mutex<()>,
}

impl Calls {
    /// Creates an empty registry.
    pub fn new(services: Services) -> Self {
        clock::started();
        let registry = Registry {
            services: Arc::new(services),
            inboxes: RwLock::default(),
            draining: AtomicBool::new(false),
            refusals: Refusals::default(),
            idle: Notify::new(),
            merging: Mutex::new(()),
        };
        Self(Arc::new(registry))
    }

    /// Returns the services that calls use.
    pub fn services(&self) -> &Arc<Services> {
        &self.0.services
    }

    /// Handles an event of the SIP endpoint; never waits.
    pub fn on_sip(&self, event: sip::Event) {
        match event {
            sip::Event::Incoming { leg, incoming } => self.incoming(LegId(leg.0), *incoming),
            sip::Event::Binding(change) => {
                if let sip::Change::Bound(binding) = &change {
                    self.refusals().forget(&binding.aor.account, &binding.aor.username);
                }
                phones::keep(&self.services().store, change);
            }
            sip::Event::AuthenticationFailed(refused) => self.phone_refused(&refused),
            sip::Event::Stranger(refused) => self.stranger_refused(&refused),
            event => {
                let leg = LegId(event.leg().0);
                if let Some(inbox) = self.inbox(leg.0) {
                    inbox.sip(leg, event);
                }
            }
        }
    }

    /// Handles a refused phone user. The refusal is stored for the account that has a user with this name, if exactly
    /// one has.
    fn phone_refused(&self, refused: &sip::RefusedRequest) {
        let services = self.services();
        let users = services.routing.get().phones().users();
        let mut owners = users.iter().filter(|aor| *aor.username == *refused.username).map(|aor| &aor.account);
        let owner = owners.next().filter(|first| owners.all(|other| other == *first));
        let sip::RefusedRequest { method, username, source, transport, why, line, .. } = refused;
        let text = format!("{method} of user {username:?} from {source} {} refused: {why}", transport.token());
        if let Some(owner) = owner {
            self.0.refusals.note(owner, refused, clock::time());
        }
        self.refused(owner.map(|owner| &**owner), Cause::WrongSipPassword, *line, text, refused);
    }

    /// Handles a call from a source that is neither a trunk nor a phone.
    fn stranger_refused(&self, refused: &sip::RefusedRequest) {
        let sip::RefusedRequest { method, from, to, source, transport, why, line, .. } = refused;
        let text = format!("{method} from {from:?} at {source} {} to {to:?} {why}", transport.token());
        self.refused(None, Cause::Stranger, *line, text, refused);
    }

    /// Reports a refused request, and logs it if it has a `line` (the number of earlier log lines that were
    /// suppressed).
    fn refused(
        &self,
        account: Option<&str>,
        cause: Cause,
        line: Option<u64>,
        text: String,
        refused: &sip::RefusedRequest,
    ) {
        if let Some(held_back) = line {
            let held_back = (held_back > 0).then_some(held_back);
            let sip_call_id = &*refused.sip_call_id;
            tracing::warn!(held_back, account, sip_call_id, %cause, advice = cause.advice(), "{text}");
        }
        let report = Report { request: Some(Box::new(refused.into())), ..Report::new(cause, text) };
        self.services().keep(account, report);
    }

    /// Returns the last refusals of phone users.
    pub fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    fn incoming(&self, leg: LegId, mut incoming: sip::Incoming) {
        let services = self.services();
        let refuse = |status| self.refuse(leg, status, None);
        if self.0.draining.load(Ordering::Relaxed) {
            return refuse(503);
        }
        if let Some(replaced) = incoming.replaces {
            let calls = self.clone();
            incoming.waiting = sip::PendingCallGuard::default();
            tokio::spawn(async move { calls.replace(leg, LegId(replaced.0), incoming).await });
            return;
        }
        let routing = services.routing.get();
        let trunk = routing.trunk(incoming.trunk.as_deref());
        match trunk {
            Some(trunk) => identity::receive(trunk, &mut incoming),
            // The trunk has just been removed from the configuration.
            None if incoming.trunk.is_some() && routing.has_trunks() => return refuse(403),
            None if incoming.caller.is_none() => drop(identity::withhold(&mut incoming)),
            None => {}
        }
        let inquiry = services.stir.get().inquire(trunk.map(|trunk| &**trunk), &incoming);
        let user = &incoming.to_user;
        let open = |domain: &str| routing.phones().is_secure(domain) && !incoming.transport.is_secure();
        let route = match &incoming.caller {
            Some(caller) if caller.domain.as_deref().is_some_and(open) => Err(403),
            Some(caller) => routing.from_phone(caller, &incoming.request_uri, user),
            None => {
                let trunk = incoming.trunk.as_deref();
                routing.inbound_or_phone(trunk, user, &incoming.request_uri).ok_or(404)
            }
        };
        // A suspended account can neither call nor be called.
        let active = |route: &Route| services.accounts.standing(&route.account) == AccountStatus::Active;
        let route = match route.and_then(|route| active(&route).then_some(route).ok_or(403)) {
            Ok(route) => route,
            Err(status) => {
                if let Some(held_back) = services.counters.refused_line(clock::now().instant) {
                    let held_back = (held_back > 0).then_some(held_back);
                    let (source, transport) = (incoming.source, incoming.transport.token());
                    let (from, to) = (shown(&incoming.from_user), shown(user));
                    let (trunk, phone) = (incoming.trunk.as_deref(), incoming.caller.as_ref());
                    let username = phone.and_then(|caller| caller.username.as_deref());
                    let (why, hint) = match username {
                        Some(_) => ("the phone may not call this number".to_owned(), None),
                        None => {
                            let unknown = routing.unknown_number(trunk, &to);
                            (unknown.why, Some(unknown.remedy))
                        }
                    };
                    let text =
                        format!("call from {from:?} at {source} {transport} to {to:?} refused with {status}: {why}");
                    let account = match phone {
                        Some(caller) => Some(&caller.account),
                        None => routing.trunk(trunk).and_then(|trunk| trunk.account.as_ref()),
                    };
                    let cause = Cause::UnknownNumber;
                    let sip_call_id = shown(&incoming.sip_call_id);
                    let request = SipRequest {
                        from: from.clone(),
                        to,
                        username: username.unwrap_or_default().to_owned(),
                        source: source.to_string(),
                        transport: transport.to_owned(),
                        sip_call_id: incoming.sip_call_id.clone(),
                    };
                    let report = Report { hint, request: Some(Box::new(request)), ..Report::new(cause, &*text) };
                    let advice = report.advice();
                    services.keep(account.map(|account| &**account), report);
                    tracing::warn!(held_back, from, trunk, phone = username, sip_call_id, %cause, advice, "{text}");
                }
                services.counters.refused();
                return refuse(status);
            }
        };
        if let Err(barred) = self.take_channels(leg, incoming.caller.as_ref(), &route, user) {
            services.counters.refused();
            return refuse(if matches!(barred, Barred::Full(_)) { 486 } else { 403 });
        }
        // A PBX calls with many different numbers, like a carrier.
        let domain = incoming.caller.as_ref().and_then(|caller| routing.phones().domain(caller.domain.as_deref()?));
        if let Some(domain) = domain.filter(|domain| domain.details.trunk) {
            if !routing.may_call_from(&route.account, &Address::from(&*incoming.from_user)) {
                tracing::info!(from = %incoming.from_user, "call from a PBX refused: its account does not own the calling number");
                services.channels.free(leg);
                return refuse(403);
            }
            incoming.trunk = Some(customer_trunk::name(domain.id));
            incoming.caller = None;
        }
        self.begin(leg, incoming, route, inquiry);
    }

    /// Takes the channels of an incoming call to `user`.
    fn take_channels(&self, leg: LegId, caller: Option<&sip::Caller>, route: &Route, user: &str) -> Result<(), Barred> {
        let services = self.services();
        let wanted = services.routing.get().channels(caller, route, user);
        let taken = wanted.and_then(|wanted| services.channels.take(leg, wanted));
        taken.inspect_err(|barred| tracing::info!(%leg, account = %route.account, "call refused: {barred}"))
    }

    fn refuse(&self, leg: LegId, status: u16, reason: Option<&str>) {
        let (leg, reason) = (sip::LegKey(leg.0), reason.map(str::to_owned));
        // A client that honours Retry-After sends nothing until then.
        let headers = (status == 503).then(leg_io::retry_after).into_iter().collect();
        let reject = sip::Command::Reject { leg, status, reason, headers };
        if let Err(error) = self.services().sip.send(reject) {
            tracing::warn!(?error, "SIP accepts no command");
        }
    }

    fn begin(&self, leg: LegId, mut incoming: sip::Incoming, route: Route, inquiry: Option<VerificationRequest>) {
        let waiting = std::mem::take(&mut incoming.waiting);
        let session = CallId::new(clock::time(), &mut rand::rng());
        let line = ["INVITE ", &incoming.request_uri].concat();
        let line = inbox::traced(false, incoming.source, incoming.transport.token(), &line);
        let phone = incoming.caller.as_ref().and_then(|caller| {
            let (account, domain) = (Arc::clone(&caller.account), caller.domain.clone());
            Some(sip::Aor { account, username: caller.username.clone()?, domain })
        });
        let domain = incoming.caller.as_ref().and_then(|caller| caller.domain.as_deref());
        let domain = domain.and_then(|name| self.services().routing.get().phones().domain(name));
        let domain = domain.filter(|domain| domain.details.voice.is_some());
        let (mut info, offer) = inbound_leg(leg, session, incoming, domain);
        info.sip.number = self.services().number_id(&route.account, &info.to);
        let (inbox, receiver) = self.open(session);
        self.register(leg.0, inbox.clone());
        self.register(session.0, inbox.clone());
        let beginning = |info, waiting| {
            let (info, route) = (Box::new(info), Box::new(route));
            CallStart::Incoming { info, line, offer, phone, route, waiting, within: None }
        };
        let calls = self.clone();
        let Some(inquiry) = inquiry else {
            return call_task::spawn(calls, session, inbox, receiver, beginning(info, waiting));
        };
        // SIP events that arrive meanwhile wait in the inbox.
        tokio::spawn(async move {
            drop(waiting);
            match calls.services().stir.get().verify(inquiry, &calls.services().counters.stir).await {
                Ok(found) => {
                    let (at, text) = (clock::time(), stir::line(&found));
                    inbox.log().push(at, Some(leg), "sip", text);
                    info.sip.identity = Some(Box::new(found));
                    call_task::spawn(
                        calls,
                        session,
                        inbox,
                        receiver,
                        beginning(info, sip::PendingCallGuard::default()),
                    );
                }
                Err(fault) => {
                    tracing::info!(to = %info.to, status = fault.status(), %fault, "call refused: its calling number is not verified");
                    calls.services().counters.refused();
                    calls.refuse(leg, fault.status(), Some(fault.phrase()));
                    calls.forget(leg.0);
                    calls.forget(session.0);
                }
            }
        });
    }

    /// Begins the call of an application that another leg of this server calls.
    pub fn begin_within(&self, within: IncomingInternalCall, mut route: Route) {
        let IncomingInternalCall { info, from, offer, loopback } = within;
        let (leg, session) = (info.id, info.session);
        if self.take_channels(leg, None, &route, info.to.user()).is_err() {
            (route.decision, route.status) = (Decision::Reject(RejectReason::Busy), None);
        }
        let (inbox, receiver) = self.open(session);
        self.register(leg.0, inbox.clone());
        self.register(session.0, inbox.clone());
        let beginning = CallStart::Incoming {
            line: format!("called by leg {from} of this server"),
            info: Box::new(info),
            offer: Some(offer),
            phone: None,
            route: Box::new(route),
            waiting: sip::PendingCallGuard::default(),
            within: Some(loopback),
        };
        call_task::spawn(self.clone(), session, inbox, receiver, beginning);
    }

    /// Handles an INVITE that replaces a live leg (RFC 3891). The new leg gets the account, dialect and application of
    /// the replaced leg.
    async fn replace(&self, leg: LegId, replaced: LegId, incoming: sip::Incoming) {
        let known = store::calls::find(&self.services().store, replaced.0).await.ok().flatten();
        let Some(info) = known.as_ref().and_then(records::leg_of) else {
            let (leg, headers) = (sip::LegKey(leg.0), Vec::new());
            return self.services().sip.post(sip::Command::Reject { leg, status: 481, reason: None, headers });
        };
        let route = Route {
            account: info.account,
            dialect: info.dialect,
            application: info.application,
            status: None,
            record: None,
            decision: Decision::Commands,
        };
        self.begin(leg, incoming, route, None);
        let command = Command::ReplaceLeg { of: replaced };
        if let Err(refused) = self.request(leg, Request { client_state: None, command }).await {
            tracing::info!(%leg, %refused, "cannot replace another leg");
            let hangup = Command::Hangup { headers: Vec::new() };
            // The leg may have ended already.
            let _ = self.request(leg, Request { client_state: None, command: hangup }).await;
        }
    }

    /// Makes an outbound call, if the account may use its calling number. Returns at once; events report the progress.
    pub async fn create(&self, call: NewCall) -> Result<Created, CreateError> {
        let id = LegId::new(clock::time(), &mut rand::rng());
        self.create_if_allowed(id, call).await
    }

    /// Like [`Calls::create`], with a given id for the leg, so that a caller can subscribe to the leg's events before
    /// it exists. The id must be unused.
    pub async fn create_if_allowed(&self, id: LegId, call: NewCall) -> Result<Created, CreateError> {
        let standing = self.services().routing.get().caller(&call.account, &call.from);
        if standing == CallerIdCheck::Refused {
            return Err(CreateError::ForeignCaller(call.from.to_string()));
        }
        let created = self.create_as(id, call).await?;
        if standing == CallerIdCheck::Tolerated {
            self.note_foreign_caller(&created.leg);
        }
        Ok(created)
    }

    /// Like [`Calls::create`], without a check of the calling number: the account has shown by other means that it may
    /// use the number.
    pub async fn create_from_anywhere(&self, call: NewCall) -> Result<Created, CreateError> {
        let id = LegId::new(clock::time(), &mut rand::rng());
        self.create_as(id, call).await
    }

    /// Notes, in the call's log and as a notification, that the provider would have refused the calling number.
    fn note_foreign_caller(&self, leg: &LegInfo) {
        let dialect = self.services().dialects.get(&leg.dialect);
        let code = dialect.and_then(|dialect| dialect.error_number(ReportedError::ForeignCaller));
        let refused = code.map_or_else(
            || "the provider would refuse this".to_owned(),
            |code| {
                let mut name = leg.dialect.to_string();
                name.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
                format!("{name} would refuse this: {code}")
            },
        );
        let message = format!("{refused}: {} is neither a number of the account nor a verified caller id", leg.from);
        if let Some(inbox) = self.inbox(leg.id.0) {
            inbox.log().push(clock::time(), Some(leg.id), "call", &message);
        }
        if let Some(code) = code {
            let trouble = Notification { code, message, cause: None, exchange: None };
            self.services().note_notification(&leg.account, Some(leg.id), Level::Warning, trouble);
        }
    }

    /// Like [`Calls::create_from_anywhere`], with a given, unused id for the leg.
    pub async fn create_as(&self, id: LegId, call: NewCall) -> Result<Created, CreateError> {
        if self.0.draining.load(Ordering::Relaxed) {
            return Err(CreateError::Draining);
        }
        let services = self.services();
        if !services.media.has_ports() {
            return Err(CreateError::NoPorts);
        }
        for to in iter::once(&call.to).chain(&call.also) {
            if !services.reaches(&call.account, call.dialect, to, &call.via) {
                return Err(CreateError::NoRoute(to.to_string()));
            }
        }
        let linked = match call.link_to {
            Some(leg) => Some((self.inbox(leg.0).ok_or(CreateError::NoSuchLeg)?, self.live_session(leg).await)),
            None => None,
        };
        let now = clock::time();
        let session = match &linked {
            Some((_, session)) => session.ok_or(CreateError::NoSuchLeg)?,
            None => CallId::new(now, &mut rand::rng()),
        };
        let number = services.number_id(&call.account, &call.from);
        let (mut leg, others) = outbound_legs(id, session, call, now);
        leg.info.sip.number = number;
        let info = Arc::new(leg.info.clone());
        let recording = leg.record.as_ref().map(|new| new.id);
        let legs: Vec<_> = iter::once(leg).chain(others).collect();
        let ids: Vec<_> = legs.iter().map(|leg| leg.info.id.0).collect();
        if let Err(barred) = legs.iter().try_for_each(|leg| services.take_outbound(&leg.info)) {
            ids.iter().for_each(|id| services.channels.free(LegId(*id)));
            return Err(barred.into());
        }
        for leg in &legs {
            let row = records::call_row(&Arc::new(leg.info.clone()), info.created_at);
            if let Err(error) = store::calls::upsert(&services.store, row).await {
                ids.iter().for_each(|id| services.channels.free(LegId(*id)));
                return Err(StoreFailed::from(error).into());
            }
        }
        // A client that receives the id of a call may ask for the call after a crash.
        if let Err(error) = services.store.flush().await {
            ids.iter().for_each(|id| services.channels.free(LegId(*id)));
            for leg in legs {
                let info = Arc::new(never_called(leg.info, now));
                store::calls::upsert(&services.store, records::call_row(&info, now))
                    .await
                    .map_err(StoreFailed::from)?;
            }
            return Err(StoreFailed::from(error).into());
        }
        match linked {
            Some((inbox, _)) => {
                ids.iter().for_each(|id| self.register(*id, inbox.clone()));
                if let Err(not_taken) = inbox.offer(Message::NewLegs(legs)) {
                    // No client knows of these legs yet.
                    for id in ids {
                        self.forget(id);
                        store::calls::delete(&services.store, &info.account, id).await.map_err(StoreFailed::from)?;
                    }
                    return Err(match not_taken {
                        NotTaken::Over => CreateError::NoSuchLeg,
                        NotTaken::Full => CreateError::Full,
                    });
                }
            }
            None => {
                let (inbox, receiver) = self.open(session);
                ids.iter().for_each(|id| self.register(*id, inbox.clone()));
                self.register(session.0, inbox.clone());
                call_task::spawn(self.clone(), session, inbox, receiver, CallStart::Outgoing(legs));
            }
        }
        Ok(Created { leg: info, recording })
    }

    async fn live_session(&self, leg: LegId) -> Option<CallId> {
        let row = store::calls::find(&self.services().store, leg.0).await.ok()??;
        Some(CallId(row.session))
    }

    /// Sends a request to a live leg and waits for the answer. The request is carried out even if the caller stops
    /// waiting.
    pub async fn request(&self, leg: LegId, request: Request) -> Result<Accepted, Refused> {
        if let Command::Bridge { with, .. } | Command::ReplaceLeg { of: with } = &request.command {
            let (calls, with) = (self.clone(), *with);
            let merged = tokio::spawn(async move { calls.merge(leg, with).await });
            merged.await.unwrap_or(Err(Refused::CannotBridge))?;
        }
        let inbox = self.inbox(leg.0).ok_or(Refused::NoSuchLeg)?;
        let (reply, answer) = oneshot::channel();
        match inbox.offer(Message::Request { leg, request: Box::new(request), reply }) {
            Ok(()) => answer.await.unwrap_or(Err(Refused::Ended)),
            Err(NotTaken::Over) => Err(Refused::Ended),
            Err(NotTaken::Full) => Err(Refused::TooMany),
        }
    }

    /// Moves two legs into one call. Neither call waits for the other; this function waits for both. Only one merge
    /// runs at a time, because both legs must still be in the same calls at its end as at its beginning.
    pub async fn merge(&self, leg: LegId, with: LegId) -> Result<(), Refused> {
        let _one_at_a_time = self.0.merging.lock().await;
        let target = self.inbox(leg.0).ok_or(Refused::NoSuchLeg)?;
        let other = self.inbox(with.0).ok_or(Refused::CannotBridge)?;
        if other.same(&target) {
            return Ok(());
        }
        let (reply, room) = oneshot::channel();
        let (_unsettled, settled) = oneshot::channel();
        target.post(Message::Expect { room: reply, settled }).map_err(|_| Refused::Ended)?;
        let room = room.await.map_err(|_| Refused::Ended)?;
        let (done, merged) = oneshot::channel();
        other.post(Message::MergeInto { target, room, done }).map_err(|_| Refused::CannotBridge)?;
        merged.await.map_err(|_| Refused::CannotBridge)
    }

    /// Returns a leg of this account, live or ended.
    pub async fn get(&self, account: &str, leg: LegId) -> Result<Option<Arc<LegInfo>>, StoreFailed> {
        let row = store::calls::get(&self.services().store, account, leg.0).await?;
        Ok(row.as_ref().and_then(records::leg_of).map(Arc::new))
    }

    /// Whether any account has a leg with this id.
    pub async fn is_known(&self, leg: LegId) -> Result<bool, StoreFailed> {
        Ok(store::calls::find(&self.services().store, leg.0).await?.is_some())
    }

    /// Returns legs of this account, newest first. At most `page.limit + 1` are returned, which shows whether another
    /// page follows.
    pub async fn list(&self, account: &str, filter: &LegFilter, page: Page) -> Result<Vec<Arc<LegInfo>>, StoreFailed> {
        let store = &self.services().store;
        let after = match page.after {
            Some(id) => store::calls::get(store, account, id).await?.map(|row| row.cursor()),
            None => None,
        };
        let columns = filter.columns();
        let rows = store::calls::list(store, account, &columns, &page.after(after)).await?;
        Ok(rows.iter().filter_map(records::leg_of).filter(|leg| filter.fits(leg)).map(Arc::new).collect())
    }

    /// Deletes the record of an ended leg. Returns `false` if there is none.
    pub async fn delete(&self, account: &str, leg: LegId) -> Result<bool, StoreFailed> {
        Ok(store::calls::delete(&self.services().store, account, leg.0).await?)
    }

    /// Returns the event log of a session, live or ended, sorted by time. The session is the one in which a leg was
    /// created.
    pub async fn log(&self, session: CallId) -> Result<Vec<Line>, StoreFailed> {
        let live = self.ask(session, Message::Log).await;
        let mut lines = event_log::read(&self.services().store, session).await?.and(live);
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }

    /// Returns the HTTP requests and answers of a session, live or ended, oldest first.
    pub async fn exchanges(&self, session: CallId) -> Result<Vec<Exchanged>, StoreFailed> {
        let live = self.ask(session, Message::Exchanges).await;
        let mut exchanges = event_log::read_exchanges(&self.services().store, session).await?.and(live);
        exchanges.sort_by_key(|(_, exchange)| exchange.at);
        Ok(exchanges)
    }

    /// Asks a live call for some of its data. Returns nothing if the call has ended.
    async fn ask<T>(&self, session: CallId, question: impl FnOnce(oneshot::Sender<Vec<T>>) -> Message) -> Vec<T> {
        let Some(inbox) = self.inbox(session.0) else { return Vec::new() };
        let (reply, answer) = oneshot::channel();
        if inbox.offer(question(reply)).is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Adds an HTTP request with its answer, and an optional line, to the log of a session, live or ended. Both are
    /// dropped if the call is overloaded.
    pub fn exchanged(&self, session: CallId, leg: Option<LegId>, exchange: HttpExchange, line: Option<Line>) {
        let late = match self.inbox(session.0) {
            Some(inbox) => inbox.exchanged(leg, exchange, line),
            None => Err(Box::new((exchange, line))),
        };
        if let Err(late) = late {
            let (exchange, line) = *late;
            if let Some(wire) = self.services().feed.wire(session) {
                line.iter().cloned().for_each(|line| wire.tell(Entry::Line(line)));
                wire.tell(Entry::Exchange(leg, Box::new(exchange.clone())));
            }
            event_log::late_exchange(&self.services().store, session, leg, &exchange, line);
        }
    }

    /// Adds a line to the log of a session, live or ended.
    pub fn noted(&self, session: CallId, line: Line) {
        match self.inbox(session.0) {
            Some(inbox) if !inbox.is_over() => inbox.log().push_line(line),
            _ => event_log::late(&self.services().store, session, line),
        }
    }

    /// Stops accepting new calls.
    pub fn stop_accepting(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether new calls are accepted.
    pub fn accepts(&self) -> bool {
        !self.0.draining.load(Ordering::Relaxed)
    }

    /// Returns the number of legs with a media session.
    pub fn live_legs(&self) -> u64 {
        self.services().media.load().sessions
    }

    /// Waits until no call is live.
    pub async fn idle(&self) {
        loop {
            let told = self.0.idle.notified();
            if self.0.inboxes.read().is_empty() {
                return;
            }
            told.await;
        }
    }

    /// Hangs up all calls.
    pub fn hangup_all(&self) {
        let inboxes: Vec<_> = self.0.inboxes.read().values().cloned().collect();
        for inbox in inboxes {
            // A call that has ended needs no hang-up.
            let _ = inbox.post(Message::HangupAll);
        }
    }

    /// Creates the inbox of a new session and connects its log to the live feed.
    fn open(&self, session: CallId) -> (Inbox, inbox::Messages) {
        let (inbox, receiver) = Inbox::new();
        inbox.log().publish_to(self.services().feed.wire(session));
        (inbox, receiver)
    }

    /// Makes an inbox reachable under the id of a leg or of a session.
    pub fn register(&self, id: u128, inbox: Inbox) {
        self.0.inboxes.write().insert(id, inbox);
    }

    /// Removes the inbox of a leg or of a session, and frees the channels of the leg.
    pub fn forget(&self, id: u128) {
        self.services().channels.free(LegId(id));
        self.services().usage_changed();
        let mut inboxes = self.0.inboxes.write();
        inboxes.remove(&id);
        if inboxes.is_empty() {
            self.0.idle.notify_waiters();
        }
    }

    /// Whether a call with this leg is live.
    pub fn is_live(&self, leg: LegId) -> bool {
        self.inbox(leg.0).is_some()
    }

    /// Posts a message to the call of a live leg; the message is never dropped for lack of space. Returns `false` if
    /// the call has ended.
    pub fn tell(&self, leg: LegId, message: Message) -> bool {
        self.inbox(leg.0).is_some_and(|inbox| inbox.post(message).is_ok())
    }

    fn inbox(&self, id: u128) -> Option<Inbox> {
        self.0.inboxes.read().get(&id).cloned()
    }
}

/// Returns text from the network for the log: at most 64 characters, without control characters.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(64).collect()
}

/// Returns the failed record of a leg that was refused because its record could not be stored. The record may still be
/// stored later by the writer.
fn never_called(mut leg: LegInfo, at: Timestamp) -> LegInfo {
    let detail = Some(UNSTORED.to_owned());
    leg.end =
        Some(LegEnd { at, cause: EndCause::Failed, by: EndedBy::Server, sip_status: None, detail, failure: None });
    leg.status = Status::Failed;
    leg
}
