//! The console's pages for Twilio's signatures. One page lists the signed strings of a call's requests. The other page
//! explains a signature that an application received.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_accounts::Account;
use tandem_call::Method;
use tandem_clock as clock;
use tandem_console::Scope;
use tandem_dialect::{Body, SignInput};
use tandem_history::event_log::Exchanged;
use tandem_http::exchange::{ExchangeDirection, HttpExchange};
use tandem_runtime::app::App;
use tandem_store::StoreFailed;

use super::explain::{ReceivedRequest, compare, explain_by, usual_urls};
use super::signed_request;

/// Limits for a request to explain a signature. `MAX_URL` is the maximum length of the URL in octets. `MAX_PARAMETERS`
/// is the maximum number of parameters.
const MAX_URL: usize = 4_096;
const MAX_PARAMETERS: usize = 300;

/// The routes below `/console`.
pub fn routes() -> Router<App> {
    Router::new().route("/console/signature", get(signed).post(signature))
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

/// Explains a signature. The function tries the auth token of the client's account first, then the tokens of all other
/// accounts.
async fn signature(State(app): State<App>, headers: HeaderMap, Json(question): Json<SignatureRequest>) -> Response {
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
        Some(call) => requests(&app, &scope, call).await.ok().flatten().map(|(_, sent)| sent).unwrap_or_default(),
        None => Vec::new(),
    };
    let sent: Vec<_> = sent.into_iter().map(|(_, exchange)| without_fragment(&exchange.url).to_owned()).collect();
    let body = serde_json::to_string(&explain_by(&keys, &received, &question.signature, &sent)).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}

/// The query of a request to list a call's signed requests. `url` is a URL that the call's application validates.
#[derive(Deserialize)]
struct SignedQuery {
    call: String,
    url: Option<String>,
}

/// The answer with the signed requests of a call.
#[derive(Serialize)]
struct Signed {
    /// The id of the call.
    session: String,
    /// A readable description of the key that signed the requests.
    key: String,
    requests: Vec<LoggedSignature>,
    /// The URLs that the application may check instead of the URL of the last refused request. They differ in the scheme
    /// and in the port. Empty if the application refused no request.
    usual: Vec<String>,
    /// The comparison of a signed URL with the URL in the query. `None` if the query has no URL.
    comparison: Option<Comparison>,
}

/// One signed request to the application.
#[derive(Serialize)]
struct LoggedSignature {
    at: Timestamp,
    method: String,
    url: String,
    signature: String,
    /// HTTP status of the application's answer. `None` if there was no answer.
    status: Option<u16>,
}

/// Differences between the signed URL and the URL that the application validates.
#[derive(Serialize)]
struct Comparison {
    signed: String,
    checked: String,
    differences: Vec<String>,
    advice: String,
}

/// Lists the signed requests of a call.
async fn signed(State(app): State<App>, headers: HeaderMap, Query(asked): Query<SignedQuery>) -> Response {
    let scope = match Scope::of_request(&app, &headers) {
        Ok(scope) => scope,
        Err(denied) => return *denied,
    };
    let (session, sent) = match requests(&app, &scope, &asked.call).await {
        Ok(Some(found)) => found,
        Ok(None) => return (StatusCode::NOT_FOUND, "no such call\n").into_response(),
        Err(_) => return (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    };
    let owner = match owner(&app, &scope, &asked.call).await {
        Some(owner) if owner.twilio.is_some() => owner,
        _ => return (StatusCode::BAD_REQUEST, "this call's webhooks have no Twilio signature\n").into_response(),
    };
    let Some(keys) = &owner.twilio else { return StatusCode::NOT_FOUND.into_response() };
    let requests: Vec<_> = sent.iter().map(|(_, exchange)| sign_again(&keys.auth_token, exchange)).collect();
    let comparison = asked.url.map(|checked| {
        let path = |url: &str| url::Url::parse(url).map(|url| url.path().to_owned()).unwrap_or_default();
        let nearest = requests.iter().rev().find(|request| path(&request.url) == path(&checked));
        let refused = || requests.iter().rev().find(|request| matches!(request.status, Some(401 | 403)));
        let signed =
            nearest.or_else(refused).or(requests.last()).map(|request| request.url.clone()).unwrap_or_default();
        let differences = compare(&signed, &checked);
        let advice = advice(&signed, &checked, &differences);
        Comparison { signed, checked, differences, advice }
    });
    let refused = requests.iter().rev().find(|request| matches!(request.status, Some(401 | 403)));
    let usual = refused.map(|request| usual_urls(&request.url)).unwrap_or_default();
    let told = Signed { session, key: format!("the auth token of {}", keys.account_sid), requests, usual, comparison };
    let body = serde_json::to_string(&told).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}

/// Returns the advice for an application that checks the URL `checked`.
fn advice(signed: &str, checked: &str, differences: &[String]) -> String {
    if differences.is_empty() {
        return format!(
            "The URL is the same. So either your application does not really check this URL: print the URL that it gives to \
             its validator, which is often {}. Or the key differs: compare the auth token in your application with this \
             account's. Or your application changes the parameters before it checks them.",
            usual_urls(signed).first().map_or("another one", String::as_str),
        );
    }
    if usual_urls(signed).iter().any(|url| url == checked) {
        return format!(
            "Only the scheme or the port differs. The URL that fits is {signed}: give your validator this URL, or let your \
             framework trust the headers of its proxy (Flask: ProxyFix, Express: trust proxy, Django: \
             SECURE_PROXY_SSL_HEADER)."
        );
    }
    format!(
        "The URL that fits is {signed}: give your validator this URL. Or configure the URL that it checks, and map it to \
         the signed URL's origin with [[origins]]."
    )
}

/// Returns the call's id and the requests that this server sent to the application during the call. `None` if there is
/// no such call.
async fn requests(app: &App, scope: &Scope, call: &str) -> Result<Option<(String, Vec<Exchanged>)>, StoreFailed> {
    let Some((session, _)) = scope.session(app, call).await? else { return Ok(None) };
    let mut sent = app.calls.exchanges(session).await?;
    // The log also has the application's requests to this server.
    sent.retain(|(_, exchange)| exchange.direction == ExchangeDirection::Sent && exchange.url.starts_with("http"));
    Ok(Some((session.to_string(), sent)))
}

/// The account of a call.
async fn owner(app: &App, scope: &Scope, call: &str) -> Option<Arc<Account>> {
    let (_, legs) = scope.session(app, call).await.ok()??;
    legs.iter().find_map(|(_, leg)| app.accounts.by_name(&leg.account))
}

fn sign_again(auth_token: &str, exchange: &HttpExchange) -> LoggedSignature {
    let method = Method::parse(&exchange.method).unwrap_or_default();
    let body = Body::Form(exchange.parameters.clone());
    let input = SignInput { url: &exchange.url, method, body: &body, id: 0, attempt: 1, now: clock::time() };
    let signed = signed_request::sign(auth_token, &["X-Twilio-Signature"], &input, false);
    let signature = signed.headers.iter().find(|(name, _)| name == "X-Twilio-Signature");
    LoggedSignature {
        at: exchange.at,
        method: exchange.method.to_string(),
        url: signed.url,
        signature: signature.map(|(_, value)| value.clone()).unwrap_or_default(),
        status: exchange.answer.as_ref().map(|answer| answer.status),
    }
}

fn without_fragment(url: &str) -> &str {
    url.split('#').next().unwrap_or(url)
}
