//! `/console/errors`: recent errors, each with advice. `/console/errors/causes`: how often each cause occurred.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;
use tandem_causes::Cause;
use tandem_events::{Event, Kind, ProblemEvent};
use tandem_history::report::{REPORTS, Report, SipRequest};
use tandem_id::AccountName;
use tandem_runtime::app::App;
use tandem_store::resources::{self, CauseCount, Filter, Resource};
use tandem_store::{self as store, Cursor, TimeRange};

use super::list::{Change, List, Page};
use super::{ListQuery, QueryError, Scope, json, list_route};

pub(super) fn routes() -> Router<App> {
    list_route::of::<Errors>().route("/console/errors/causes", get(causes))
}

/// The list of errors.
struct Errors;

#[derive(Serialize)]
pub(super) struct ErrorRow {
    id: String,
    at: Timestamp,
    /// The level: `error` or `warning`.
    level: String,
    /// The account. `None` if the error belongs to no account.
    account: Option<AccountName>,
    call: Option<String>,
    session: Option<String>,
    cause: Option<Cause>,
    /// The provider's error number.
    code: Option<u32>,
    message: String,
    /// One sentence that explains the cause.
    happened: Option<&'static str>,
    /// Advice on how to fix the problem.
    advice: Option<String>,
    /// The section of docs/troubleshooting.md that describes the cause.
    page: Option<String>,
    /// The SIP request, if the server refused the request before a call existed.
    request: Option<Box<SipRequest>>,
}

impl ErrorRow {
    pub(super) fn of(row: Resource<Report>) -> Self {
        let advice = row.details.advice();
        let Report { cause, code, message, hint: _, call, session, request } = row.details;
        Self {
            id: format!("{:032x}", row.id),
            at: row.created_at,
            level: row.name,
            account: Some(row.account).filter(|name| !name.is_server()),
            call,
            session,
            cause,
            code,
            message,
            happened: cause.map(Cause::happened),
            advice,
            page: cause.map(Cause::page),
            request,
        }
    }
}

impl List for Errors {
    type Row = ErrorRow;
    const PATH: &'static str = "/console/errors";
    const ROWS: &'static str = "errors";
    const ROW: &'static str = "error";
    const KINDS: &'static [Kind] = &[Kind::Problem];

    fn key(row: &ErrorRow) -> String {
        row.id.clone()
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<ErrorRow>, QueryError> {
        let page = query.page()?;
        let store = &app.calls.services().store;
        let rows = resources::list_of(store, REPORTS, &accounts(app, scope, query), &filter(query), &page).await?;
        let (rows, next) = query.cut(rows, |row| Cursor { at: row.created_at, id: row.id });
        Ok(Page { next: Some(next), ..Page::whole(rows.into_iter().map(ErrorRow::of).collect()) })
    }

    fn change(_app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<ErrorRow> {
        match event {
            Event::Problem(ProblemEvent { report, .. })
                if scope.sees(&report.account) && query.selects_account(&report.account) && selects(query, report) =>
            {
                Change::Row(ErrorRow::of(report.clone()))
            }
            _ => Change::Nothing,
        }
    }
}

fn filter(query: &ListQuery) -> Filter<'_> {
    Filter {
        name: query.level.as_deref(),
        cause: query.cause.as_deref(),
        created: TimeRange { since: query.since, before: None },
        ..Filter::default()
    }
}

fn accounts(app: &App, scope: &Scope, query: &ListQuery) -> Vec<AccountName> {
    let mut accounts = scope.accounts(app, query.account.as_ref());
    if scope.is_operator() && query.account.is_none() {
        // The empty name selects errors that belong to no account.
        accounts.push(AccountName::server());
    }
    accounts
}

/// Maximum number of errors of each cause in the answer.
const NEWEST: u32 = 20;

/// A cause, and how often it occurred.
#[derive(Serialize)]
struct CauseShown {
    /// The id of the cause; `other` for errors of older versions without a known cause.
    cause: String,
    /// `error` if one of the errors has this level.
    level: &'static str,
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
    happened: Option<&'static str>,
    advice: Option<&'static str>,
    /// The rest of the documentation page, as Markdown.
    more: Option<&'static str>,
    page: Option<String>,
    /// The newest errors of this cause, the newest first.
    newest: Vec<ErrorRow>,
}

#[derive(Serialize)]
struct Causes {
    /// The cause with the newest error first.
    causes: Vec<CauseShown>,
}

/// `GET /console/errors/causes`: the causes of the errors that the query selects.
async fn causes(State(app): State<App>, scope: Scope, Query(query): Query<ListQuery>) -> Response {
    match read_causes(&app, &scope, &query).await {
        Ok(causes) => json(&causes),
        Err(wrong) => wrong.into_response(),
    }
}

async fn read_causes(app: &App, scope: &Scope, query: &ListQuery) -> Result<Causes, QueryError> {
    let store = &app.calls.services().store;
    let accounts = accounts(app, scope, query);
    let one = if scope.is_operator() { query.account.as_ref() } else { Some(scope.account()) };
    let mut causes = Vec::new();
    if accounts.is_empty() {
        return Ok(Causes { causes });
    }
    for CauseCount { cause: id, count, errors, first, last } in resources::causes(store, one, &filter(query)).await? {
        let newest = Filter { cause: Some(&id), ..filter(query) };
        let rows = resources::list_of(store, REPORTS, &accounts, &newest, &store::Page::first(NEWEST)).await?;
        let cause = Cause::of_id(&id);
        causes.push(CauseShown {
            level: if errors > 0 { "error" } else { "warning" },
            count,
            first_at: first,
            last_at: last,
            happened: cause.map(Cause::happened),
            advice: cause.map(Cause::advice),
            more: cause.map(Cause::more).filter(|more| !more.is_empty()),
            page: cause.map(Cause::page),
            newest: rows.into_iter().map(ErrorRow::of).collect(),
            cause: id,
        });
    }
    Ok(Causes { causes })
}

/// Whether an error matches the level, the time and the cause of the query.
fn selects(query: &ListQuery, row: &Resource<Report>) -> bool {
    query.level.as_ref().is_none_or(|level| *level == row.name)
        && query.since.is_none_or(|since| row.created_at >= since)
        && query.cause.as_ref().is_none_or(|cause| row.details.cause.is_some_and(|known| known.id() == cause))
}
