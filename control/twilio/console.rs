//! The console's page that explains a signature of Twilio's form that an application received.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use tandem_console::{Scope, signature};
use tandem_runtime::app::App;

use super::explain::{ReceivedRequest, explain_by};

/// Limits for a request to explain a signature. `MAX_URL` is the maximum length of the URL in octets. `MAX_PARAMETERS`
/// is the maximum number of parameters.
const MAX_URL: usize = 4_096;
const MAX_PARAMETERS: usize = 300;

/// The routes below `/console`.
pub fn routes() -> Router<App> {
    Router::new().route("/console/signature", post(explained))
}

/// A request that this server sent, as the application received the request. The signature came with the request.
#[derive(Deserialize)]
struct SignatureRequest {
    url: String,
    /// Each value is a text or a list of texts.
    #[serde(default)]
    params: serde_json::Map<String, Value>,
    signature: String,
}

/// `POST /console/signature`: why an application accepts or refuses a signature. The function tries the auth token of the client's account first, then the tokens of all other
/// accounts.
async fn explained(State(app): State<App>, headers: HeaderMap, Json(question): Json<SignatureRequest>) -> Response {
    let Some(account) = app.caller(&headers) else {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"tandem\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "the credentials of an account are required\n").into_response();
    };
    if question.url.len() > MAX_URL || question.params.len() > MAX_PARAMETERS {
        let max =
            format!("the URL may have at most {MAX_URL} octets, and there may be at most {MAX_PARAMETERS} params\n");
        return (StatusCode::BAD_REQUEST, max).into_response();
    }
    let Some(own) = &account.twilio else {
        return (StatusCode::BAD_REQUEST, "this account's webhooks have no Twilio signature\n").into_response();
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
    let received = ReceivedRequest { url: question.url, parameters: parameters.collect() };
    let call = question.params.get("CallSid").and_then(Value::as_str);
    let scope = Scope::of(&app, Arc::clone(&account));
    let sent = match call {
        // The sent URLs only help the search. If these URLs are not available, the search still tries the usual
        // differences.
        Some(call) => {
            signature::requests(&app, &scope, call).await.ok().flatten().map(|sent| sent.exchanges).unwrap_or_default()
        }
        None => Vec::new(),
    };
    let sent: Vec<_> = sent.into_iter().map(|(_, exchange)| without_fragment(&exchange.url).to_owned()).collect();
    let body = serde_json::to_string(&explain_by(&keys, &received, &question.signature, &sent)).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}

fn without_fragment(url: &str) -> &str {
    url.split('#').next().unwrap_or(url)
}
