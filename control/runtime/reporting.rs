//! Reports problems. Every failure of the server and of its calls goes through [`Services::report`].

use std::sync::{Arc, Weak};

use jiff::Timestamp;
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::leg::LegInfo;
use tandem_causes::Cause;
use tandem_dialect::{ReportedError, Signing};
use tandem_events::{Bus, Event, Kind, ProblemEvent, ResourceEvent, ResourceKind, Topic};
use tandem_history::event_log::Line;
use tandem_history::live_log::{Entry, LogListener};
use tandem_history::notification::NOTIFICATIONS;
use tandem_history::problem::Problem;
use tandem_history::report::REPORTS;
use tandem_history::stored_log;
use tandem_host::clock;
use tandem_http::exchange::HttpExchange;
use tandem_id::{AccountName, CallId, LegId};
use tandem_store::resources::{self, Resource};

use crate::calls::Calls;
use crate::inbox::{FetchedDocument, Inbox, LoggedExchange};
use crate::registry::Registry;
use crate::services::Services;

/// The target of log lines about the problems of calls. A program that shows the logs of the calls itself can leave out
/// this target.
pub const OF_CALLS: &str = "tandem_runtime::problems_of_calls";

/// The owner of a problem.
#[derive(Clone, Copy, Debug)]
pub enum ProblemOwner<'a> {
    /// The server. Only operators see the problem.
    Server,
    Account(&'a AccountName),
    Leg {
        id: LegId,
        /// The call in which the leg was created.
        session: CallId,
        account: &'a AccountName,
        dialect: &'a str,
    },
}

impl ProblemOwner<'_> {
    /// Returns the leg that the problem belongs to.
    pub fn leg(&self) -> Option<LegId> {
        match self {
            Self::Leg { id, .. } => Some(*id),
            Self::Server | Self::Account(_) => None,
        }
    }
}

impl<'a> From<Option<&'a AccountName>> for ProblemOwner<'a> {
    /// A problem without an account belongs to the server.
    fn from(account: Option<&'a AccountName>) -> Self {
        account.map_or(Self::Server, Self::Account)
    }
}

impl<'a> From<&'a LegInfo> for ProblemOwner<'a> {
    fn from(leg: &'a LegInfo) -> Self {
        Self::Leg { id: leg.id, session: leg.session, account: &leg.account, dialect: &leg.dialect }
    }
}

/// Makes the database and the conferences report their problems with [`Services::report`], and makes the inventory publish
/// its changes. Their crates are below this crate, so they cannot call the functions of this crate themselves.
pub(crate) fn connect(services: &Arc<Services>) {
    fn report(services: &Weak<Services>, account: &AccountName, problem: Problem) {
        if let Some(services) = services.upgrade() {
            let owner = if account.is_server() { ProblemOwner::Server } else { ProblemOwner::Account(account) };
            services.report(owner, clock::time(), problem);
        }
    }
    let own = Arc::downgrade(services);
    services.store.health().report_to(move |account, cause, text| report(&own, account, Problem::new(cause, text)));
    let own = Arc::downgrade(services);
    services.conferences.reporter().set(move |account, problem| report(&own, account, problem));
    let publish = |kind| {
        let events = services.events.clone();
        move |account: &AccountName| resource_changed(&events, account, kind)
    };
    let routing = services.routing.load_full();
    let inventory = routing.inventory();
    inventory.numbers.on_change(publish(ResourceKind::Numbers));
    inventory.applications.on_change(publish(ResourceKind::Applications));
    inventory.callers.on_change(publish(ResourceKind::VerifiedCallers));
    inventory.profiles.on_change(publish(ResourceKind::OutboundProfiles));
}

/// Publishes a change of resources. `account` is empty if resources of several accounts have changed.
pub(crate) fn resource_changed(events: &Bus, account: &AccountName, kind: ResourceKind) {
    let topic = Topic::new(Kind::Resource, account);
    events.publish(topic, || Event::Resource(ResourceEvent { account: account.clone(), kind }));
}

impl Services {
    /// Returns the problem of a failed document request for whose result no leg waits: the leg has ended, or another
    /// document controls the leg. The application need not answer such a request with a document, so only a failure of
    /// the request is a problem.
    pub(crate) fn problem_of_unused(
        &self,
        leg: &LegInfo,
        why: &FetchFailure,
        exchange: Option<&HttpExchange>,
    ) -> Option<Problem> {
        match why.kind {
            FailureKind::BadUrl
            | FailureKind::BadHost
            | FailureKind::ConnectTimeout
            | FailureKind::ConnectRefused
            | FailureKind::Connection
            | FailureKind::Tls
            | FailureKind::Timeout
            | FailureKind::Redirects
            | FailureKind::Status(_)
            | FailureKind::Protocol => {}
            FailureKind::TooLarge
            | FailureKind::Empty
            | FailureKind::ContentType
            | FailureKind::Document(_)
            | FailureKind::ScriptSyntax
            | FailureKind::ScriptInvalid
            | FailureKind::OtherDialect
            | FailureKind::Loop
            | FailureKind::TooMuchWork
            | FailureKind::NotServed => return None,
        }
        let text = format!("document failed, and no call waited for it: {}", why.detail);
        let cause = Cause::of_failure(why);
        let hint = exchange.and_then(|exchange| signature_hint(self, leg.into(), cause, exchange));
        let problem = Problem { hint, ..Problem::new(cause, text) };
        let dialect = self.dialects.get(&leg.dialect);
        let Some(code) = dialect.and_then(|dialect| dialect.error_number(ReportedError::Document(why))) else {
            return Some(problem);
        };
        Some(problem.notified(code, why.detail.clone(), exchange.cloned()))
    }

    /// Returns how the requests of an account are signed in a dialect. `None` if they are not signed.
    pub fn signing(&self, account: &AccountName, dialect: &str) -> Option<Signing> {
        self.dialects.get(dialect)?.signing(&*self.accounts.by_name(account)?)
    }

    /// Reports a problem: counts the problem, logs a WARN line with the advice, and stores the problem for
    /// `tandem errors` and for the provider's list of notifications. If the database is slow, the stored forms are
    /// dropped and counted.
    ///
    /// In one second, only a few problems of each cause are in the server's log. Any host on the network can cause
    /// problems that belong to no call, so such a problem is stored only if it is not held back from the log. The call
    /// limits the number of its own problems.
    pub fn report<'a>(&self, owner: impl Into<ProblemOwner<'a>>, at: Timestamp, mut problem: Problem) {
        let owner = owner.into();
        self.counters.problem(problem.cause);
        let server = AccountName::server();
        let (account, leg) = match owner {
            ProblemOwner::Server => (&server, None),
            ProblemOwner::Account(account) => (account, None),
            ProblemOwner::Leg { id, session, account, dialect } => {
                let call = self.dialects.get(dialect).map_or_else(|| id.to_string(), |dialect| dialect.call_id(id));
                (account, Some((id, session, call)))
            }
        };
        match self.counters.log_line(problem.cause, clock::now().instant) {
            Some(held_back) => {
                let held_back = problem.held_back.map(|earlier| earlier + held_back);
                let call = leg.as_ref().map(|(_, session, call)| (*session, call.as_str()));
                held_back.iter().for_each(|held_back| log(account, call, *held_back, &problem));
            }
            None if leg.is_none() => return,
            None => {}
        }
        let (level, parent) = (problem.level.word(), leg.as_ref().map(|(id, _, _)| id.0));
        if let Some(notification) = problem.notification.take() {
            let mut row = Resource::new(account, level, *notification);
            row.parent = parent;
            resources::submit(&self.store, NOTIFICATIONS, &row);
        }
        let sessions: Vec<_> = leg.iter().map(|(_, session, _)| *session).collect();
        let cause = problem.cause.id();
        let (session, call) = leg.map(|(_, session, call)| (session.to_string(), call)).unzip();
        let mut row = Resource::new(account, level, problem.report(call, session));
        (row.created_at, row.updated_at, row.parent) = (at, at, parent);
        resources::submit_report(&self.store, REPORTS, &row, cause);
        let leg = owner.leg();
        let topic = Topic::of_call(Kind::Problem, account, &sessions, leg);
        self.events.publish(topic, || Event::Problem(ProblemEvent { leg, report: row }));
    }
}

impl Calls {
    /// Reports a problem that no line of its call describes yet. If the problem belongs to a live call, its text becomes a
    /// line of the call's log.
    pub fn report_with_line(&self, of: ProblemOwner<'_>, problem: Problem) {
        let at = clock::time();
        if let ProblemOwner::Leg { id, session, .. } = of
            && let Some(inbox) = self.inbox(session)
        {
            let mut log = inbox.log();
            let (text, data) = (problem.message.clone(), Some(Box::new(problem.data())));
            log.push_line(Line { at, leg: Some(id), kind: "call".into(), text, data });
            log.push_advice(problem.advice_line(at, Some(id)));
        }
        self.services().report(of, at, problem);
    }

    /// Adds a line to the log of a live call. If the call has ended, the line is lost.
    pub fn note(&self, leg: &LegInfo, text: &str) {
        if let Some(inbox) = self.inbox(leg.session) {
            inbox.log().push(clock::time(), Some(leg.id), "call", text);
        }
    }

    /// Adds an HTTP exchange to the log of a call, live or ended, together with a line about the exchange. If the call
    /// is overloaded, the exchange and the line are dropped. If the exchange failed, also reports the problem.
    pub fn exchanged(
        &self,
        of: ProblemOwner<'_>,
        session: CallId,
        exchange: HttpExchange,
        line: Option<Line>,
        problem: Option<Problem>,
    ) {
        self.registry().exchanged(of, session, exchange, line, problem);
    }
}

impl Registry {
    /// Does the same as [`Calls::exchanged`].
    pub(crate) fn exchanged(
        &self,
        of: ProblemOwner<'_>,
        session: CallId,
        exchange: HttpExchange,
        line: Option<Line>,
        problem: Option<Problem>,
    ) {
        let leg = of.leg();
        let at = line.as_ref().map_or(exchange.at, |line| line.at);
        let advice = problem.as_ref().map(|problem| problem.advice_line(at, leg));
        let is_kept = problem.is_some() && self.keeps_problem(session);
        self.note_exchange(session, LoggedExchange { leg, exchange, line, advice });
        match problem {
            Some(problem) if is_kept => self.services().report(of, at, problem),
            Some(problem) => self.services().counters.problem(problem.cause),
            None => {}
        }
    }

    /// Passes the result of a document request to its call. If the call has ended, adds the request to the stored log of
    /// the call, and reports a failed request.
    pub(crate) fn fetched(&self, inbox: &Inbox, fetched: FetchedDocument) {
        let Err(late) = inbox.fetched(fetched) else { return };
        let FetchedDocument { leg, line, exchange, result, .. } = *late;
        let problem = result.err().and_then(|why| self.services().problem_of_unused(&leg, &why, exchange.as_ref()));
        let at = clock::time();
        let line = Line { at, leg: Some(leg.id), kind: "webhook".into(), text: line, data: None };
        match (exchange, problem) {
            (Some(exchange), problem) => self.exchanged((&*leg).into(), leg.session, exchange, Some(line), problem),
            (None, Some(problem)) => self.services().report(&*leg, at, problem),
            (None, None) => {}
        }
    }

    /// Adds an HTTP exchange, the line about the exchange and the advice about a failed exchange to the log of a call,
    /// live or ended. If the call is overloaded, they are dropped.
    pub(crate) fn note_exchange(&self, session: CallId, exchange: LoggedExchange) {
        let late = match self.inbox(session.0) {
            Some(inbox) => inbox.exchanged(exchange),
            None => Err(Box::new(exchange)),
        };
        let Err(late) = late else { return };
        let LoggedExchange { leg, exchange, line, advice } = *late;
        let events = &self.services().events;
        let publish = |entry: &dyn Fn() -> Entry| events.entry(&[session], leg, entry);
        line.iter().for_each(|line| publish(&|| Entry::Line(line.clone())));
        publish(&|| Entry::Exchange(leg, Box::new(exchange.clone())));
        advice.iter().for_each(|line| publish(&|| Entry::Line(line.clone())));
        let store = &self.services().store;
        stored_log::late_exchange(store, session, leg, &exchange, line);
        advice.into_iter().for_each(|line| stored_log::late(store, session, line));
    }

    /// Counts a problem of a call. Returns whether the problem may be stored. The call limits the number of its
    /// problems. After the end of the call, only a few problems in a second are stored.
    fn keeps_problem(&self, session: CallId) -> bool {
        match self.inbox(session.0).filter(|inbox| !inbox.is_over()) {
            Some(inbox) => inbox.log().admits_problem(),
            None => self.services().counters.late_problem(clock::now().instant),
        }
    }
}

/// Returns advice about the signature of a request that the application refused with `cause`. `None` if the cause has
/// nothing to do with signatures.
pub(crate) fn signature_hint(
    services: &Services,
    of: ProblemOwner<'_>,
    cause: Cause,
    exchange: &HttpExchange,
) -> Option<String> {
    let ProblemOwner::Leg { id, account, dialect, .. } = of else { return None };
    if !matches!(cause, Cause::Status401 | Cause::Status403) {
        return None;
    }
    let Some(signature) = &exchange.signature else { return Some("This request has no signature.".to_owned()) };
    let signing = services.signing(account, dialect)?;
    if !signing.covers_url {
        return Some(signing.check);
    }
    let call = services.dialects.get(dialect)?.call_id(id);
    let url = signature.url.split('#').next().unwrap_or_default();
    Some(format!("We signed {url} with {}: `tandem signature {call}`.", signing.key))
}

/// Writes a problem to the server's log. `call` is the id of the call, and the id of the leg in the provider's form.
fn log(account: &AccountName, call: Option<(CallId, &str)>, held_back: u64, problem: &Problem) {
    let Problem { cause, message, request, .. } = problem;
    let account = (!account.is_server()).then_some(account.as_str());
    let (held_back, advice) = ((held_back > 0).then_some(held_back), problem.advice());
    match call {
        Some((session, leg)) => {
            let call = tracing::field::display(session);
            tracing::warn!(target: OF_CALLS, held_back, call, leg, account, %cause, advice = &*advice, "{message}");
        }
        None => {
            let sip_call_id = request.as_deref().map(|request| request.sip_call_id.as_str());
            tracing::warn!(held_back, account, sip_call_id, %cause, advice = &*advice, "{message}");
        }
    }
}
