//! Tokens of subscribers (`/api/fabric/subscribers/tokens`), with which pages log in. A subscriber exists as soon as it has
//! a token.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_accounts::Account;
use tandem_host::{clock, hash};
use tandem_id::uuid;
use tandem_runtime::app::App;
use tandem_settings::web_origin;

use crate::browser::token::{self, Kind, LIFE, REFRESH_LIFE};

const PATH: &str = "/api/fabric/subscribers/tokens";

pub(super) fn routes() -> Router<App> {
    Router::new().route(PATH, post(create)).route(&format!("{PATH}/refresh"), post(refresh))
}

pub(super) fn refused(status: StatusCode, code: &str, attribute: Option<&str>, message: &str) -> Response {
    let error =
        json!({ "type": "validation_error", "code": code, "message": message, "attribute": attribute, "url": null });
    (status, Json(json!({ "errors": [error] }))).into_response()
}

async fn create(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(account) = super::account(&app.accounts, &headers) else {
        return refused(StatusCode::UNAUTHORIZED, "unauthorized", None, "the project id or the token is wrong");
    };
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let Some(reference) = body.get("reference").and_then(Value::as_str).filter(|name| token::is_name(name)) else {
        let message = "reference must be a name of 1 to 256 characters without spaces";
        return refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter", Some("reference"), message);
    };
    let now = clock::time();
    let expires = match body.get("expire_at").filter(|value| !value.is_null()) {
        None => now + LIFE,
        Some(value) => match value.as_i64().and_then(|at| Timestamp::from_second(at).ok()).filter(|at| *at > now) {
            Some(at) => at,
            None => {
                let message = "expire_at must be a time in the future, in seconds of Unix time";
                return refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter", Some("expire_at"), message);
            }
        },
    };
    tokens(&app, &account, reference, expires, now, StatusCode::OK)
}

async fn refresh(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(own) = super::account(&app.accounts, &headers) else {
        return refused(StatusCode::UNAUTHORIZED, "unauthorized", None, "the project id or the token is wrong");
    };
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let text = body.get("refresh_token").and_then(Value::as_str).unwrap_or_default();
    let now = clock::time();
    match token::verify(&app.accounts, Kind::Refresh, text, now) {
        Ok((account, claims)) if account.name == own.name => {
            tokens(&app, &account, &claims.reference, now + LIFE, now, StatusCode::CREATED)
        }
        _ => {
            let message = "refresh_token is not valid, or has expired";
            refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter", Some("refresh_token"), message)
        }
    }
}

fn tokens(
    app: &App,
    account: &Account,
    reference: &str,
    expires: Timestamp,
    now: Timestamp,
    status: StatusCode,
) -> Response {
    // The SDK connects over TLS only. Without TLS in the public URL, the page must be sent here in another way.
    let host = app.public_url.starts_with("https://").then(|| app.public_url.trim_start_matches("https://"));
    let host =
        host.map(|host| host.split('/').next().unwrap_or(host)).filter(|_| web_origin::host(&app.public_url).is_some());
    let access = token::mint(account, Kind::Access, reference, expires, host);
    let renewal = token::mint(account, Kind::Refresh, reference, expires.max(now + REFRESH_LIFE), None);
    let subscriber = uuid(hash::id([reference.as_bytes()]));
    (status, Json(json!({ "subscriber_id": subscriber, "token": access, "refresh_token": renewal }))).into_response()
}
