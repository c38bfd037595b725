//! The console. The console shows people the current and past state of the server, as JSON and as text
//! (docs/console.md).
//!
//! ```text
//!   credentials ──► Scope: the visible accounts ──► list: calls, phones, trunks, numbers, errors ──► a page
//!                                                        the event bus ──► follow: new and changed rows
//! ```
#![forbid(unsafe_code)]

pub mod access;
mod accounts;
mod archive;
mod call_row;
mod calls;
mod changes;
mod conferences;
mod elsewhere;
mod entries;
mod errors;
mod explain;
mod follow;
mod follow_story;
mod legs;
mod list;
mod list_route;
mod live;
mod nodes;
mod numbers;
pub mod page;
mod phone;
mod phones;
mod queues;
mod recordings;
pub mod session;
pub mod signature;
mod story;
#[cfg(test)]
mod testing;
pub mod trace;
mod trunks;
mod webhooks;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_accounts::Account;
use tandem_call::leg::{Direction, LegInfo};
use tandem_history::event_log::{Line, timeline};
use tandem_history::records;
use tandem_history::report::{REPORTS, Report, SipRequest};
use tandem_id::{AccountName, CallId, LegId};
use tandem_runtime::app::App;
use tandem_settings::ConsoleRole;
use tandem_settings::printable::printable;
use tandem_softphone::Desk;
use tandem_store::calls::{CallFilter, CallRow, Parts};
use tandem_store::resources::{self, Resource};
use tandem_store::{self as store, Cursor, StoreFailed};

use crate::session::Sessions;

/// Maximum number of legs of one call that are listed.
const MAX_LEGS: u32 = 100;
/// Minimum number of hex digits in an abbreviated id. The first 48 bits of an id contain the time at which the id was
/// created. 6 digits select the calls of 4.7 hours, and 10 digits select the calls of 256 ms.
const MIN_ID_DIGITS: usize = 6;
/// Number of the latest errors among which the last refused call is searched.
const LATEST_ERRORS: u32 = 200;
/// Number of the latest legs among which the last outer call is searched.
const LATEST_LEGS: u32 = 50;
/// Minimum number of characters of a part of an id.
const MIN_PART: usize = 6;
/// Maximum number of legs that a search for a part of an id reads.
const MAX_FOUND: u32 = 50;
/// Default number of rows in a list.
const ROWS: u32 = 50;
/// Maximum number of rows in a list.
const MAX_ROWS: u32 = 1_000;

/// Builds the routes below `/console`. The caller adds the middleware [`session::identify`] with the same sessions.
pub fn routes(app: App, sessions: Arc<Sessions>) -> Router<App> {
    elsewhere::answer(&app);
    legs::answer_other_nodes(&app);
    follow_story::answer_others(&app);
    let desk = Desk::new(app);
    desk.answer_other_nodes();
    Router::new()
        .merge(session::routes(sessions))
        .merge(accounts::routes())
        .merge(calls::routes())
        .merge(changes::routes())
        .merge(conferences::routes(desk.clone()))
        .merge(entries::routes())
        .merge(legs::routes(desk.clone()))
        .merge(errors::routes())
        .merge(explain::routes())
        .merge(live::routes())
        .merge(nodes::routes())
        .merge(numbers::routes())
        .merge(phone::routes(desk))
        .merge(phones::routes())
        .merge(queues::routes())
        .merge(recordings::routes())
        .merge(signature::routes())
        .merge(trunks::routes())
        .merge(webhooks::routes())
}

/// The id of a leg in the provider's form, and the leg.
pub type NamedLeg = (String, Arc<LegInfo>);

/// The accounts that a client may see: its own account, or all accounts.
#[derive(Clone)]
pub struct Scope {
    account: Arc<Account>,
    all_accounts: bool,
    role: ConsoleRole,
    /// The name of the user, or of the account.
    name: Arc<str>,
}

impl Scope {
    /// Returns the scope of an account. An operator's account sees all accounts.
    pub fn of(app: &App, account: Arc<Account>) -> Self {
        let all_accounts = app.accounts.is_operator(&account);
        let role = if all_accounts { ConsoleRole::Operator } else { ConsoleRole::Account };
        let name = account.name.as_str().into();
        Self { account, all_accounts, role, name }
    }

    /// Returns the scope of a user of the web console.
    fn signed_in(account: Arc<Account>, all_accounts: bool, role: ConsoleRole, name: Arc<str>) -> Self {
        Self { account, all_accounts, role, name }
    }

    /// The role of the client, which decides about its changes.
    pub fn role(&self) -> ConsoleRole {
        self.role
    }

    /// The role as a word.
    pub fn role_word(&self) -> &'static str {
        match self.role {
            ConsoleRole::Operator => "operator",
            ConsoleRole::Account => "account",
            ConsoleRole::Reader => "reader",
        }
    }

    /// The account of the client; one of those it sees if it sees all.
    pub fn account(&self) -> &AccountName {
        &self.account.name
    }

    /// The name of the user or of the account, for the list of changes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether data of this account is visible. Data that belongs to the server is visible to operators.
    pub fn sees(&self, account: &AccountName) -> bool {
        self.all_accounts || *account == self.account.name
    }

    /// Whether data of all accounts is visible.
    pub fn is_operator(&self) -> bool {
        self.all_accounts
    }

    /// Returns the visible accounts. The client's own account comes first. If `one` is given, returns only the account
    /// `one`, if this account is visible.
    fn accounts(&self, app: &App, one: Option<&AccountName>) -> Vec<AccountName> {
        let mut names = vec![self.account.name.clone()];
        if self.all_accounts {
            let others = app.accounts.all();
            let others = others.iter().map(|account| &account.name).filter(|name| **name != self.account.name);
            names.extend(others.cloned());
        }
        names.retain(|name| one.is_none_or(|one| one == name));
        names
    }

    /// Returns the id of the newest visible call. A call from one number of the server to another one is an inner call of the
    /// call that it belongs to, so the outer call counts.
    async fn newest(&self, app: &App) -> Result<Option<CallId>, StoreFailed> {
        let accounts = self.accounts(app, None);
        let legs = app.calls.page(&accounts, &CallFilter::default(), &store::Page::first(LATEST_LEGS)).await?;
        let outer = legs.iter().find(|leg| leg.direction != Direction::Inbound || leg.depth() == 0);
        Ok(outer.or(legs.first()).map(|leg| leg.session))
    }

    /// Returns the newest call that the server refused before the call had a record, if the report of it is visible.
    async fn refused_call(&self, app: &App) -> Result<Option<(Timestamp, SipRequest)>, StoreFailed> {
        let store = &app.calls.services().store;
        let mut accounts = self.accounts(app, None);
        if self.all_accounts {
            // The empty name selects reports that belong to no account.
            accounts.push(AccountName::server());
        }
        let page = store::Page::first(LATEST_ERRORS);
        let reports = resources::list_of(store, REPORTS, &accounts, &resources::Filter::default(), &page).await?;
        let call = |report: Resource<Report>| {
            let request = report.details.request.filter(|request| request.method == "INVITE")?;
            Some((report.created_at, *request))
        };
        Ok(reports.into_iter().find_map(call))
    }

    /// Returns the visible calls that have a leg whose id begins with `id`, each call once. `id` consists of an optional
    /// `CA` and hex digits. If `id` is too short, the list is empty.
    async fn starting_with(&self, app: &App, id: &str) -> Result<Vec<CallId>, StoreFailed> {
        let digits = id.strip_prefix("CA").unwrap_or(id);
        if digits.len() < MIN_ID_DIGITS || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let rows = store::calls::starting(&app.calls.services().store, digits, 20).await?;
        Ok(sessions(rows.iter().filter(|row| self.sees(&row.account))))
    }

    /// Returns the visible calls that have a leg whose id contains `part`, or whose SIP Call-ID contains `part`, each call
    /// once. Only the newest calls are searched ([`store::calls::SEARCHED`]). If `part` is too short, the list is empty.
    async fn containing(&self, app: &App, part: &str) -> Result<Vec<CallId>, StoreFailed> {
        if part.len() < MIN_PART {
            return Ok(Vec::new());
        }
        let services = app.calls.services();
        let digits = part.strip_prefix("CA").unwrap_or(part).replace('-', "").to_ascii_lowercase();
        let is_id = digits.len() >= MIN_PART && digits.bytes().all(|octet| octet.is_ascii_hexdigit());
        let accounts = self.accounts(app, None);
        let mut found = Vec::new();
        for text in is_id.then_some(&*digits).into_iter().chain([part]) {
            let parts = Parts { any: Some(text), ..Parts::default() };
            let (filter, page) = (CallFilter::default(), store::Page::first(MAX_FOUND));
            found.extend(store::calls::search(&services.store, &accounts, &filter, parts, &page).await?);
        }
        // The search also finds the text in other fields of the record.
        found.retain(|row| {
            let leg = records::leg_of(row);
            let call_id = leg.as_ref().and_then(|leg| leg.sip.call_id.as_deref());
            is_id && format!("{:032x}", row.id).contains(&digits) || call_id.is_some_and(|id| id.contains(part))
        });
        Ok(sessions(found.iter()))
    }

    /// Finds a call. Returns the id of the call and its visible legs, oldest leg first. `id` may be the id of the call,
    /// the id of a leg in the form of any provider, a part of such a leg id or of a SIP Call-ID, or `last`. Returns `None` if
    /// there is no such call.
    pub async fn session(&self, app: &App, id: &str) -> Result<Option<(CallId, Vec<NamedLeg>)>, StoreFailed> {
        let services = app.calls.services();
        let digits = id.replace('-', "");
        let number = if digits.len() == 32 { u128::from_str_radix(&digits, 16).ok() } else { None };
        let session = if id == "last" {
            self.newest(app).await?
        } else {
            let mut session = number.map(CallId);
            if let Some(leg) = services.dialects.parse_call_id(id).or(number.map(LegId)) {
                let leg = app.calls.find(leg).await?.filter(|leg| self.sees(&leg.account));
                session = leg.map(|leg| leg.session).or(session);
            }
            match session {
                None => match self.starting_with(app, id).await?.as_slice() {
                    [one] => Some(*one),
                    [] => match self.containing(app, id).await?.as_slice() {
                        [one] => Some(*one),
                        _ => None,
                    },
                    _ => None,
                },
                session => session,
            }
        };
        let Some(session) = session else { return Ok(None) };
        let legs = self.legs(app, session).await?;
        let legs: Vec<_> = legs.into_iter().map(|leg| (services.call_id(&leg), leg)).collect();
        Ok((!legs.is_empty()).then_some((session, legs)))
    }

    /// Returns the visible legs of a call, oldest leg first.
    async fn legs(&self, app: &App, session: CallId) -> Result<Vec<Arc<LegInfo>>, StoreFailed> {
        let filter = CallFilter { session: Some(session.0), ..CallFilter::default() };
        let accounts = self.accounts(app, None);
        let mut legs = app.calls.page(&accounts, &filter, &store::Page::first(MAX_LEGS)).await?;
        legs.sort_by_key(|leg| (leg.created_at, leg.id));
        Ok(legs)
    }
}

/// Returns the calls of these legs, each call once.
fn sessions<'a>(legs: impl Iterator<Item = &'a CallRow>) -> Vec<CallId> {
    let mut sessions: Vec<_> = legs.map(|row| CallId(row.session)).collect();
    sessions.sort_unstable_by_key(|session| session.0);
    sessions.dedup();
    sessions
}

/// A call with its event log. The value contains the legs of the call, oldest leg first. Each leg has its id in the
/// provider's form.
pub struct CallLog {
    legs: Vec<NamedLeg>,
    /// The lines of the event log.
    pub lines: Vec<Line>,
}

impl CallLog {
    /// Finds the log of a call. `id` has one of the forms of [`Scope::session`]. Returns `None` if no such call is
    /// visible.
    pub async fn find(app: &App, scope: &Scope, id: &str) -> Result<Option<Self>, StoreFailed> {
        let Some((session, legs)) = scope.session(app, id).await? else { return Ok(None) };
        Ok(Some(Self { legs, lines: app.calls.log(session).await?.lines }))
    }
}

impl fmt::Display for CallLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = names(self.legs.iter().map(|(_, leg)| &**leg));
        for (id, leg) in &self.legs {
            let name = names.get(&leg.id).map_or("", String::as_str);
            let direction = records::direction_word(leg.direction);
            let mut line = format!("{name}: {id}, {direction} {} -> {}", leg.from, leg.to);
            let trunk = leg.sip.trunk.iter().map(|trunk| format!("trunk {trunk}"));
            let codec = leg.sip.codec.iter().map(ToString::to_string);
            for more in trunk.chain(codec).chain([outcome(leg)]) {
                line.push_str(", ");
                line.push_str(&more);
            }
            writeln!(f, "{}", printable(&line))?;
        }
        if let Some(first) = self.lines.first() {
            writeln!(f, "\nseconds since {:.3}\n", first.at)?;
        }
        f.write_str(&timeline(&self.lines, |leg| names.get(&leg).map(String::as_str)))
    }
}

/// Returns the status of a leg. For an ended leg, the text includes the reason.
pub fn outcome(leg: &LegInfo) -> String {
    match &leg.end {
        Some(end) => format!("{}: {end}", records::status_word(leg.status)),
        None => records::status_word(leg.status).to_owned(),
    }
}

/// Returns a name for each leg: `caller`, `callee`, `callee 2`, ...
pub fn names<'a>(legs: impl Iterator<Item = &'a LegInfo>) -> HashMap<LegId, String> {
    let mut seen = HashMap::new();
    legs.map(|leg| {
        let role = if leg.direction == Direction::Inbound { "caller" } else { "callee" };
        let count = seen.entry(role).and_modify(|count| *count += 1).or_insert(1);
        (leg.id, if *count == 1 { role.to_owned() } else { format!("{role} {count}") })
    })
    .collect()
}

/// The query parameters of a list.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
#[serde(default)]
pub struct ListQuery {
    /// Maximum number of rows, from 1 to [`MAX_ROWS`].
    limit: Option<u32>,
    /// The value of `next` from the previous page.
    cursor: Option<String>,
    /// Whether to follow the list. The response then has one line for each row, and later one line for each changed
    /// row.
    follow: bool,
    /// If set, only rows of this account match.
    account: Option<AccountName>,
    /// If set, only calls in this state match. `live` and `ended` each include several states.
    status: Option<String>,
    from: Option<String>,
    to: Option<String>,
    /// If set, only calls that contain this text match: in a party, in an id, in the SIP Call-ID or in another text of the
    /// record.
    search: Option<String>,
    direction: Option<String>,
    /// If set, only rows with this time or a later time match.
    since: Option<Timestamp>,
    /// If set, only errors of this level match.
    level: Option<String>,
    /// If set, only errors with this cause match.
    cause: Option<String>,
}

impl ListQuery {
    /// Whether the query selects calls by a party.
    fn has_party(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    /// The text that a call must contain. People write numbers with spaces and signs.
    fn search(&self) -> Option<String> {
        let text = self.search.as_deref()?.trim();
        let is_number = text.bytes().all(|octet| octet.is_ascii_digit() || b"+-() ./".contains(&octet));
        let text: String =
            if is_number { text.chars().filter(char::is_ascii_digit).collect() } else { text.to_owned() };
        Some(text).filter(|text| !text.is_empty())
    }

    /// Whether the query selects rows of this account.
    fn selects_account(&self, account: &AccountName) -> bool {
        self.account.as_ref().is_none_or(|one| one == account)
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(ROWS).clamp(1, MAX_ROWS)
    }

    /// Returns the page to read from the database. The page has one row more than the client requested. The additional
    /// row shows whether another page follows.
    fn page(&self) -> Result<store::Page, QueryError> {
        let after = self.cursor.as_deref().map(read_cursor).transpose()?;
        Ok(store::Page { limit: self.limit() + 1, after, ..store::Page::default() })
    }

    /// Merges the rows of several accounts. Returns the newest rows and the cursor of the next page.
    fn cut<T>(&self, mut rows: Vec<T>, place: impl Fn(&T) -> Cursor) -> (Vec<T>, Option<String>) {
        rows.sort_by_key(|row| {
            let Cursor { at, id } = place(row);
            std::cmp::Reverse((at, id))
        });
        let limit = self.limit() as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| {
            let Cursor { at, id } = place(row);
            format!("{}-{id:032x}", at.as_microsecond())
        });
        (rows, next)
    }
}

fn read_cursor(text: &str) -> Result<Cursor, QueryError> {
    let (at, id) = text.rsplit_once('-').ok_or(QueryError::Cursor)?;
    let at = at.parse().ok().and_then(|at| Timestamp::from_microsecond(at).ok()).ok_or(QueryError::Cursor)?;
    Ok(Cursor { at, id: u128::from_str_radix(id, 16).map_err(|_| QueryError::Cursor)? })
}

/// The reason why the request for a list is refused.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The cursor does not come from a previous page.
    #[error("cursor: use the \"next\" of the previous page")]
    Cursor,
    /// The requested status is not a status of calls.
    #[error("status: must be \"live\", \"ended\" or a status of a call")]
    Status,
    /// The requested direction is not a direction of calls.
    #[error("direction: must be \"inbound\", \"outbound-api\" or \"outbound-dial\"")]
    Direction,
    /// The database failed.
    #[error("{0}")]
    Store(#[from] StoreFailed),
}

impl From<store::StoreError> for QueryError {
    fn from(error: store::StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        match self {
            Self::Store(failed) => {
                let (status, seconds) = match failed {
                    StoreFailed::TooManyReads => (StatusCode::TOO_MANY_REQUESTS, "1"),
                    StoreFailed::Away | StoreFailed::ReadTooSlow => (StatusCode::SERVICE_UNAVAILABLE, "5"),
                };
                (status, [(header::RETRY_AFTER, seconds)], text).into_response()
            }
            _ => (StatusCode::BAD_REQUEST, text).into_response(),
        }
    }
}

/// Creates a JSON response with a line break at its end, for terminals.
fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_string(body).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}
