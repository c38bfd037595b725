//! `/console/errors`: recent errors, each with advice.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;
use tandem_causes::Cause;
use tandem_history::report::{REPORTS, Report, SipRequest};
use tandem_runtime::app::App;
use tandem_store::resources::{self, Filter, Resource};
use tandem_store::{Cursor, TimeRange};

use super::{ListQuery, QueryError, Scope, follow, json};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/errors", get(list))
}

#[derive(Serialize)]
struct Errors {
    errors: Vec<ErrorRow>,
    /// The cursor of the next page.
    next: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ErrorRow {
    id: String,
    at: Timestamp,
    /// The level: `error` or `warning`.
    level: String,
    /// The account. `None` if the error belongs to no account.
    account: Option<String>,
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
            account: Some(row.account).filter(|name| !name.is_empty()),
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

async fn list(State(app): State<App>, headers: HeaderMap, Query(query): Query<ListQuery>) -> Response {
    let scope = match Scope::of_request(&app, &headers) {
        Ok(scope) => scope,
        Err(denied) => return *denied,
    };
    if query.follow {
        let follower = scope.clone();
        let list = move |app: App| {
            let (scope, query) = (scope.clone(), query.clone());
            async move { Ok(page(&app, &scope, &query).await?.errors) }
        };
        return follow::rows(app, &follower, "error", follow::writes, |row: &ErrorRow| row.id.clone(), list);
    }
    match page(&app, &scope, &query).await {
        Ok(page) => json(&page),
        Err(wrong) => wrong.into_response(),
    }
}

async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Errors, QueryError> {
    let page = query.page()?;
    let store = &app.calls.services().store;
    let filter = Filter {
        name: query.level.as_deref(),
        created: TimeRange { since: query.since, before: None },
        ..Filter::default()
    };
    let mut accounts = scope.accounts(app, query.account.as_deref());
    if scope.is_operator() && query.account.is_none() {
        // The empty name selects errors that belong to no account.
        accounts.push("".into());
    }
    let rows = resources::list_of(store, REPORTS, &accounts, &filter, &page).await?;
    let (mut rows, next) = query.cut(rows, |row| Cursor { at: row.created_at, id: row.id });
    if let Some(cause) = &query.cause {
        rows.retain(|row| row.details.cause.is_some_and(|known| known.id() == cause));
    }
    Ok(Errors { errors: rows.into_iter().map(ErrorRow::of).collect(), next })
}
