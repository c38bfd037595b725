//! `/console/errors`: recent errors, each with advice.

use axum::Router;
use jiff::Timestamp;
use serde::Serialize;
use tandem_causes::Cause;
use tandem_events::{Event, Kind, ProblemEvent};
use tandem_history::report::{REPORTS, Report, SipRequest};
use tandem_id::AccountName;
use tandem_runtime::app::App;
use tandem_store::resources::{self, Filter, Resource};
use tandem_store::{Cursor, TimeRange};

use super::list::{Change, List, Page};
use super::{ListQuery, QueryError, Scope, list_route};

pub(super) fn routes() -> Router<App> {
    list_route::of::<Errors>()
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
        let filter = Filter {
            name: query.level.as_deref(),
            created: TimeRange { since: query.since, before: None },
            ..Filter::default()
        };
        let mut accounts = scope.accounts(app, query.account.as_ref());
        if scope.is_operator() && query.account.is_none() {
            // The empty name selects errors that belong to no account.
            accounts.push(AccountName::server());
        }
        let rows = resources::list_of(store, REPORTS, &accounts, &filter, &page).await?;
        let (mut rows, next) = query.cut(rows, |row| Cursor { at: row.created_at, id: row.id });
        rows.retain(|row| selects(query, row));
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

/// Whether an error matches the level, the time and the cause of the query.
fn selects(query: &ListQuery, row: &Resource<Report>) -> bool {
    query.level.as_ref().is_none_or(|level| *level == row.name)
        && query.since.is_none_or(|since| row.created_at >= since)
        && query.cause.as_ref().is_none_or(|cause| row.details.cause.is_some_and(|known| known.id() == cause))
}
