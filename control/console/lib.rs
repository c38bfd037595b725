//! The console: what the server does and did, for people, as JSON and as text (docs/console.md).
//!
//! ```text
//!   credentials ──► Scope: whose things may be seen ──► calls, phones, trunks, numbers, errors ──► a page, or followed
//! ```
#![forbid(unsafe_code)]

pub mod access;
pub mod calls;
pub mod errors;
mod follow;
pub mod numbers;
pub mod phones;
mod story;
pub mod trace;
pub mod trunks;
pub mod webhooks;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_accounts::Account;
use tandem_call::id::{CallId, LegId};
use tandem_call::leg::{Direction, LegInfo};
use tandem_history::event_log::{Line, timeline};
use tandem_history::query::{LegFilter, Page};
use tandem_history::records;
use tandem_runtime::app::App;
use tandem_store::{self as store, Cursor, StoreFailed};

use crate::access::caller;

/// Legs of a session that are shown by name.
const MOST_LEGS: usize = 100;
/// Fewest hex digits of the beginning of an id: 48 bits of it are its time.
const SHORTEST: usize = 10;
/// Rows of a list when nobody says.
const ROWS: u32 = 50;
/// Most rows of a list.
const MOST_ROWS: u32 = 1_000;

/// Paths below `/console`.
pub fn routes() -> Router<App> {
    Router::new()
        .merge(calls::routes())
        .merge(errors::routes())
        .merge(numbers::routes())
        .merge(phones::routes())
        .merge(trunks::routes())
        .merge(webhooks::routes())
}

/// A leg and its application's id for it.
pub type NamedLeg = (String, Arc<LegInfo>);

/// Whose things somebody may see: those of one account, or everybody's.
#[derive(Clone)]
pub struct Scope {
    account: Arc<Account>,
    everybody: bool,
}

impl Scope {
    /// Of an account: an operator sees everything.
    pub fn of(app: &App, account: Arc<Account>) -> Self {
        let everybody = app.accounts.is_operator(&account);
        Self { account, everybody }
    }

    /// Of whoever shows these credentials; an error is the answer to a request without any that fit.
    pub fn asked(app: &App, headers: &HeaderMap) -> Result<Self, Box<Response>> {
        let account = caller(app, headers).map_err(|denied| Box::new(denied.into_response()))?;
        Ok(Self::of(app, account))
    }

    /// Whether things of this account are seen; those of nobody (`""`) by operators.
    pub fn sees(&self, account: &str) -> bool {
        self.everybody || *account == *self.account.name
    }

    /// Whether everybody's things are seen.
    pub fn is_operator(&self) -> bool {
        self.everybody
    }

    /// The accounts whose things are seen, its own first; of these only `one`, if that is given.
    fn accounts(&self, app: &App, one: Option<&str>) -> Vec<Arc<str>> {
        let mut names = vec![Arc::clone(&self.account.name)];
        if self.everybody {
            let others = app.accounts.all();
            let others = others.iter().map(|account| &account.name).filter(|name| **name != self.account.name);
            names.extend(others.cloned());
        }
        names.retain(|name| one.is_none_or(|one| one == &**name));
        names
    }

    /// The session of the newest call.
    async fn newest(&self, app: &App) -> Result<Option<CallId>, StoreFailed> {
        let mut newest: Option<Arc<LegInfo>> = None;
        for account in self.accounts(app, None) {
            let page = Page { limit: 1, after: None, offset: 0 };
            let first = app.calls.list(&account, &LegFilter::default(), page).await?.into_iter().next();
            newest = newest.into_iter().chain(first).max_by_key(|leg| leg.created_at);
        }
        Ok(newest.map(|leg| leg.session))
    }

    /// The session of the one call whose id begins so: letters (`CA`) and then hex digits.
    async fn beginning_with(&self, app: &App, id: &str) -> Result<Option<CallId>, StoreFailed> {
        let digits = id.strip_prefix("CA").unwrap_or(id);
        if digits.len() < SHORTEST || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let rows = store::calls::starting(&app.calls.services().store, digits, 20).await?;
        let mut sessions = rows.iter().filter(|row| self.sees(&row.account)).map(|row| CallId(row.session));
        let first = sessions.next();
        Ok(first.filter(|first| sessions.all(|other| other == *first)))
    }

    /// Which session `id` means and its legs, as far as they are seen, oldest first: it is the session's id, any of its legs'
    /// in any dialect's spelling or the beginning of that, or `last`. `None` if there is none.
    pub async fn session(&self, app: &App, id: &str) -> Result<Option<(CallId, Vec<NamedLeg>)>, StoreFailed> {
        let services = app.calls.services();
        let digits = id.replace('-', "");
        let number = if digits.len() == 32 { u128::from_str_radix(&digits, 16).ok() } else { None };
        let session = if id == "last" {
            self.newest(app).await?
        } else {
            let mut session = number.map(CallId);
            if let Some(leg) = services.dialects.parse_call_id(id).or(number.map(LegId)) {
                services.store.flush().await?;
                let row = store::calls::find(&services.store, leg.0).await?.filter(|row| self.sees(&row.account));
                session = row.map(|row| CallId(row.session)).or(session);
            }
            match session {
                None => self.beginning_with(app, id).await?,
                session => session,
            }
        };
        let Some(session) = session else { return Ok(None) };
        let filter = LegFilter { session: Some(session), ..LegFilter::default() };
        let mut legs = Vec::new();
        for account in self.accounts(app, None) {
            legs.extend(app.calls.list(&account, &filter, Page { limit: MOST_LEGS, after: None, offset: 0 }).await?);
        }
        legs.sort_by_key(|leg| (leg.created_at, leg.id));
        let legs: Vec<_> = legs.into_iter().map(|leg| (services.call_id(&leg), leg)).collect();
        Ok((!legs.is_empty()).then_some((session, legs)))
    }
}

/// A session's legs, oldest first, each with its application's id for it, and its event log.
pub struct CallLog {
    legs: Vec<NamedLeg>,
    /// Its event log.
    pub lines: Vec<Line>,
}

impl CallLog {
    /// The session that is named in any of the ways of [`Scope::session`]. `None` if nobody in scope has one.
    pub async fn find(app: &App, scope: &Scope, id: &str) -> Result<Option<Self>, StoreFailed> {
        let Some((session, legs)) = scope.session(app, id).await? else { return Ok(None) };
        Ok(Some(Self { legs, lines: app.calls.log(session).await? }))
    }
}

impl fmt::Display for CallLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = names(self.legs.iter().map(|(_, leg)| &**leg));
        for (id, leg) in &self.legs {
            let name = names.get(&leg.id).map_or("", String::as_str);
            write!(f, "{name}: {id}, {} {} -> {}", records::direction_word(leg.direction), leg.from, leg.to)?;
            if let Some(trunk) = &leg.sip.trunk {
                write!(f, ", trunk {trunk}")?;
            }
            if let Some(codec) = &leg.sip.codec {
                write!(f, ", {codec}")?;
            }
            writeln!(f, ", {}", outcome(leg))?;
        }
        if let Some(first) = self.lines.first() {
            writeln!(f, "\nseconds since {:.3}\n", first.at)?;
        }
        f.write_str(&timeline(&self.lines, |leg| names.get(&leg).map(String::as_str)))
    }
}

/// How far a leg is, and why it ended.
pub fn outcome(leg: &LegInfo) -> String {
    match &leg.end {
        Some(end) => format!("{}: {end}", records::status_word(leg.status)),
        None => records::status_word(leg.status).to_owned(),
    }
}

/// `caller`, `callee`, `callee 2`, ...
pub fn names<'a>(legs: impl Iterator<Item = &'a LegInfo>) -> HashMap<LegId, String> {
    let mut seen = HashMap::new();
    legs.map(|leg| {
        let role = if leg.direction == Direction::Inbound { "caller" } else { "callee" };
        let count = seen.entry(role).and_modify(|count| *count += 1).or_insert(1);
        (leg.id, if *count == 1 { role.to_owned() } else { format!("{role} {count}") })
    })
    .collect()
}

/// What a list is asked for.
#[derive(Clone, Deserialize, Debug, Default)]
#[serde(default)]
pub struct Wish {
    /// Rows, 1 to [`MOST_ROWS`].
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// One line a row, and then one for each that changes.
    follow: bool,
    /// Of this account.
    account: Option<String>,
    /// Calls in this state; `live` and `ended` stand for several.
    status: Option<String>,
    from: Option<String>,
    to: Option<String>,
    direction: Option<String>,
    /// At or after.
    since: Option<Timestamp>,
    /// Errors of this level.
    level: Option<String>,
    /// Errors of this cause.
    cause: Option<String>,
}

impl Wish {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(ROWS).clamp(1, MOST_ROWS)
    }

    /// The page's place in lists of one row more than are wanted.
    fn page(&self) -> Result<store::Page, Wrong> {
        let after = self.cursor.as_deref().map(read_cursor).transpose()?;
        Ok(store::Page { limit: self.limit() + 1, after, ..store::Page::default() })
    }

    /// The newest of several accounts' rows, and where the page behind them begins.
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

fn read_cursor(text: &str) -> Result<Cursor, Wrong> {
    let (at, id) = text.rsplit_once('-').ok_or(Wrong::Cursor)?;
    let at = at.parse().ok().and_then(|at| Timestamp::from_microsecond(at).ok()).ok_or(Wrong::Cursor)?;
    Ok(Cursor { at, id: u128::from_str_radix(id, 16).map_err(|_| Wrong::Cursor)? })
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    #[error("cursor: take it from \"next\" of the page before")]
    Cursor,
    #[error("status: \"live\", \"ended\", or one of the states that calls show")]
    Status,
    #[error("direction: \"inbound\", \"outbound-api\" or \"outbound-dial\"")]
    Direction,
    #[error("the database does not answer")]
    Store(#[from] StoreFailed),
}

impl From<store::StoreError> for Wrong {
    fn from(error: store::StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        (status, format!("{self}\n")).into_response()
    }
}

/// A body of JSON, with a line's end for terminals.
fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_string(body).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}
