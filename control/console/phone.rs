//! The softphone of the web console: one request is one call, as of the page `/dev/phone`.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use serde::Deserialize;
use tandem_id::AccountName;
use tandem_pages::socket::MAX_FRAME;
use tandem_runtime::app::App;
use tandem_softphone::{Call, Desk};

use crate::access::Changer;
use crate::session::refused;

pub(super) fn routes(app: App) -> Router<App> {
    Router::new()
        .route("/console/phone/calls", post(call))
        .layer(DefaultBodyLimit::max(MAX_FRAME))
        .layer(Extension(Desk::new(app)))
}

/// The parties of a call.
#[derive(Deserialize)]
struct Parties {
    to: String,
    #[serde(default)]
    from: String,
    /// The account whose numbers and phones are called. Without it, the client's own account.
    account: Option<AccountName>,
}

/// `POST /console/phone/calls`: makes a call. The body is the browser's offer with all its candidates.
async fn call(
    Changer(scope): Changer,
    Extension(desk): Extension<Desk>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(parties): Query<Parties>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let account = parties.account.unwrap_or_else(|| scope.account().clone());
    if !scope.sees(&account) {
        return refused(StatusCode::NOT_FOUND, "no such account");
    }
    let call = Call { account, place: "the console", name: "console", peer, to: parties.to, from: parties.from };
    desk.call(call, &headers, body)
}
