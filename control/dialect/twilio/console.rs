//! The console's part that is Twilio's own: why a signature fits or does not.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;

use super::explain::{Seen, explain};
use super::rest;
use crate::app::App;

/// Longest URL, and most parameters, of a signature to be explained.
const MAX_URL: usize = 4_096;
const MAX_PARAMETERS: usize = 300;

/// Paths below `/console`.
pub fn routes() -> Router<App> {
    Router::new().route("/console/signature", post(signature))
}

/// What an application saw of a request of ours.
#[derive(Deserialize)]
struct Question {
    url: String,
    /// Values are texts, or lists of them.
    #[serde(default)]
    params: serde_json::Map<String, Value>,
    signature: String,
}

/// Explains a signature by the caller's own key, and whether it is another account's.
async fn signature(State(app): State<App>, headers: HeaderMap, Json(question): Json<Question>) -> Response {
    let Some(account) = rest::caller(&app.accounts, &headers) else {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"tandem\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "an account's credentials, please\n").into_response();
    };
    if question.url.len() > MAX_URL || question.params.len() > MAX_PARAMETERS {
        let most = format!("a URL of at most {MAX_URL} octets and at most {MAX_PARAMETERS} params, please\n");
        return (StatusCode::BAD_REQUEST, most).into_response();
    }
    let Some(own) = &account.twilio else {
        return (StatusCode::BAD_REQUEST, "this account's webhooks are not signed in that way\n").into_response();
    };
    let mut keys = vec![(format!("the auth token of {}", own.account_sid), own.auth_token.clone())];
    let others = app.accounts.all();
    let others =
        others.iter().filter_map(|other| other.twilio.as_ref()).filter(|key| key.account_sid != own.account_sid);
    keys.extend(others.map(|other| ("the auth token of another account".to_owned(), other.auth_token.clone())));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parameters = question.params.iter().flat_map(|(name, value)| match value {
        Value::Array(values) => values.iter().map(|value| (name.clone(), text(value))).collect::<Vec<_>>(),
        value => vec![(name.clone(), text(value))],
    });
    let seen = Seen { url: question.url, parameters: parameters.collect() };
    let body = serde_json::to_string(&explain(&keys, &seen, &question.signature)).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}
