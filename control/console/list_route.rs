//! The routes of the lists. All lists share the access control, the response and the followers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tandem_runtime::app::App;

use super::list::{Keyed, List};
use super::{ListQuery, Scope, elsewhere, follow, json};

/// Builds the route of a list.
pub(super) fn of<L: List>() -> Router<App> {
    Router::new().route(L::PATH, get(answer::<L>))
}

async fn answer<L: List>(
    State(app): State<App>,
    scope: Scope,
    headers: HeaderMap,
    Query(query): Query<ListQuery>,
) -> Response {
    if query.follow {
        return follow::list::<L>(app, scope, Arc::new(query), &headers);
    }
    match elsewhere::page::<L>(&app, &scope, &query).await {
        Ok(page) => json(&Keyed(L::ROWS, page.with(|rows| rows.into_iter().map(|row| row.json).collect()))),
        Err(wrong) => wrong.into_response(),
    }
}
