//! Tokens for the SDK 1.x (`/api/relay/rest/jwt`), with which pages log in as a resource. A resource exists as soon as it has
//! a token.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tandem_accounts::Account;
use tandem_host::clock;
use tandem_id::uuid;
use tandem_runtime::app::App;

use super::subscribers::refused;
use crate::browser::token::{self, Kind};

const PATH: &str = "/api/relay/rest/jwt";
/// Usual life of a token, in minutes.
const MINUTES: i64 = 15;
/// Maximum life of a token, in minutes: a year.
const MAX_MINUTES: i64 = 365 * 24 * 60;
const EXPIRES_IN: &str = "expires_in must be a number of minutes, at most a year";
/// Time for which the renewal of a token is possible after the end of the token.
const RENEWABLE: SignedDuration = SignedDuration::from_hours(2);

pub(super) fn routes() -> Router<App> {
    Router::new().route(PATH, post(create).put(renew))
}

fn no_account() -> Response {
    refused(StatusCode::UNAUTHORIZED, "unauthorized", None, "the project id or the token is wrong")
}

fn invalid(parameter: &str, message: &str) -> Response {
    refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter", Some(parameter), message)
}

/// Returns the end of the token's life. Returns `None` if the request names no possible time.
fn expires(body: &Value) -> Option<Timestamp> {
    let minutes = match body.get("expires_in").filter(|value| !value.is_null()) {
        None => MINUTES,
        Some(value) => value.as_i64().filter(|minutes| (1..=MAX_MINUTES).contains(minutes))?,
    };
    Some(clock::time() + SignedDuration::from_mins(minutes))
}

async fn create(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(account) = super::account(&app.accounts, &headers) else { return no_account() };
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let Some(expires) = expires(&body) else { return invalid("expires_in", EXPIRES_IN) };
    let resource = match body.get("resource").filter(|value| !value.is_null()) {
        None => Some(uuid(rand::random())),
        Some(value) => value.as_str().filter(|name| token::is_name(name)).map(str::to_owned),
    };
    match resource {
        Some(resource) => tokens(&account, &resource, expires),
        None => invalid("resource", "resource must be a name of 1 to 256 characters without spaces"),
    }
}

async fn renew(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(own) = super::account(&app.accounts, &headers) else { return no_account() };
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let Some(expires) = expires(&body) else { return invalid("expires_in", EXPIRES_IN) };
    let text = body.get("refresh_token").and_then(Value::as_str).unwrap_or_default();
    match token::verify(&app.accounts, Kind::RelayRefresh, text, clock::time()) {
        Ok((account, claims)) if account.name == own.name => tokens(&account, &claims.reference, expires),
        _ => invalid("refresh_token", "refresh_token is not valid, or has expired"),
    }
}

fn tokens(account: &Account, resource: &str, expires: Timestamp) -> Response {
    let access = token::mint(account, Kind::Relay, resource, expires, None);
    let renewal = token::mint(account, Kind::RelayRefresh, resource, expires + RENEWABLE, None);
    Json(json!({ "jwt_token": access, "refresh_token": renewal })).into_response()
}
