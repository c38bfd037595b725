//! `/v2/texml/...` and `/v2/texml_applications`. Clients use bearer authentication. Requests are JSON or forms, and
//! answers are JSON. The REST API of Twilio's family serves the resources below an account. This module adds default
//! parameters and refuses unsupported parameters.

mod ai_call;
pub(super) mod answer;
mod applications;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tandem_accounts::Account;
use tandem_runtime::app::App;
use tandem_telnyx::{self as telnyx, id};
use tandem_twilio::rest::{JSON, MemberRequest, other_body, serve_member};

use super::{Texml, envelope};

/// Maximum size of a request body, in octets.
const MAX_BODY: usize = 256 * 1024;
/// Parameters that are refused. Each parameter has one accepted value, which means that the client does not use the
/// parameter's feature.
const REFUSED: [(&str, &str); 5] = [
    ("DeepfakeDetection", "Disable"),
    ("MediaEncryption", "disabled"),
    ("Passports", ""),
    ("SuperviseCallSid", ""),
    ("SupervisingRole", ""),
];

type Pairs = Vec<(String, String)>;
/// The status and body of an error answer. After such an error, the request is not processed further.
type Refusal = (StatusCode, Value);

/// All routes of TeXML's REST API.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v2/texml/Accounts/{account}/{*path}", any(serve))
        .route("/v2/texml/calls/{connection}", any(serve_connection))
        .route("/v2/texml/ai_calls/{connection}", any(serve_ai_call))
        .route("/v2/texml/secrets", any(refuse_secrets))
        .route(
            "/v2/texml_applications",
            get(applications::serve).post(applications::serve).fallback(applications::serve),
        )
        .route(
            "/v2/texml_applications/{id}",
            get(applications::serve)
                .patch(applications::serve)
                .delete(applications::serve)
                .fallback(applications::serve),
        )
}

/// Answers requests to resources below an account.
async fn serve(State(app): State<App>, request: axum::http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    answered(&app, &parts, body, &path, None).await
}

/// Answers requests to an older path. A request to this path creates a call of an application.
async fn serve_connection(State(app): State<App>, request: axum::http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Some(account) = caller(&app, &parts) else { return refused(unauthenticated()) };
    let path = format!("/v2/texml/Accounts/{}/Calls", id::user_id(&account.name));
    answered(&app, &parts, body, &path, Some(connection(&parts))).await
}

/// Answers requests that create a call of an application. When the called party answers, an assistant talks with it.
async fn serve_ai_call(State(app): State<App>, request: axum::http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Some(account) = caller(&app, &parts) else { return refused(unauthenticated()) };
    if parts.method != Method::POST {
        let detail = "The method is not allowed";
        return refused(envelope(StatusCode::METHOD_NOT_ALLOWED, "10030", "Method not allowed", detail));
    }
    let own = id::user_id(&account.name);
    let path = format!("/v2/texml/Accounts/{own}/Calls");
    let given = match respond(&app, &parts, body, &account, Some(own.as_str())).await {
        Ok(pairs) => ai_call::pairs(&app, &account, pairs),
        Err(refusal) => return refused(refusal),
    };
    match given {
        Ok(mut pairs) => {
            complete(&mut pairs, &["Calls"], Some(connection(&parts)));
            let request = MemberRequest { method: &parts.method, path: &path, headers: &parts.headers };
            serve_member(&app, &Texml, request, pairs).await
        }
        Err(refusal) => refused(refusal),
    }
}

/// The last segment of the path.
fn connection(parts: &Parts) -> String {
    let connection = parts.uri.path().rsplit('/').next().unwrap_or_default();
    percent_decode_str(connection).decode_utf8_lossy().into_owned()
}

async fn refuse_secrets() -> Response {
    refused(not_permitted("Secrets are not available on this server; use parameters in the document's URL instead"))
}

async fn answered(app: &App, parts: &Parts, body: Body, path: &str, connection: Option<String>) -> Response {
    let plain = path.strip_suffix(".json").unwrap_or(path);
    let segments: Vec<&str> = plain.split('/').filter(|segment| !segment.is_empty()).skip(3).collect();
    let is_audio = parts.method == Method::GET && segments.get(1) == Some(&"Recordings");
    let mut pairs = match caller(app, parts) {
        Some(account) => match respond(app, parts, body, &account, segments.first().copied()).await {
            Ok(pairs) => pairs,
            Err(refusal) => return refused(refusal),
        },
        // A request for a recording may need no credentials. The code of Twilio's family checks the credentials.
        None if is_audio => Pairs::new(),
        None => return refused(unauthenticated()),
    };
    let below = if parts.method == Method::POST { segments.get(1..).unwrap_or_default() } else { &[] };
    complete(&mut pairs, below, connection);
    let member_request = MemberRequest { method: &parts.method, path, headers: &parts.headers };
    serve_member(app, &Texml, member_request, pairs).await
}

/// Adds the application in the path of a request and the defaults of its other parameters.
fn complete(pairs: &mut Pairs, below: &[&str], connection: Option<String>) {
    if let Some(connection) = connection {
        pairs.retain(|(name, _)| name != "ApplicationSid");
        pairs.push(("ApplicationSid".to_owned(), connection));
    }
    for (name, value) in defaults(below) {
        if !pairs.iter().any(|(known, _)| known == name) {
            pairs.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
}

/// The parameters of a request. The request fails if the account in the path is not the client's account, or if a
/// parameter is refused.
async fn respond(
    app: &App,
    parts: &Parts,
    body: Body,
    account: &Arc<Account>,
    sid: Option<&str>,
) -> Result<Pairs, Refusal> {
    let own = id::user_id(&account.name);
    if sid != Some(own.as_str()) {
        let detail = format!("This API key belongs to the account {own}");
        return Err(envelope(StatusCode::NOT_FOUND, "10005", "Resource not found", &detail));
    }
    let pairs = if parts.method == Method::POST {
        let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
            app.calls.services().counters.body_refused();
            return Err(envelope(StatusCode::BAD_REQUEST, "10015", "Bad Request", "The request body cannot be read"));
        };
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        match other_body(&parts.headers, &body) {
            Some(JSON) => of_json(&body)?,
            Some(other) => {
                let detail = format!("The request body is {other}, but this API takes a form or JSON");
                return Err(envelope(StatusCode::BAD_REQUEST, "10015", "Bad Request", &detail));
            }
            None if essence.eq_ignore_ascii_case("application/json") => of_json(&body)?,
            None => of_form(&body),
        }
    } else {
        of_form(parts.uri.query().unwrap_or_default().as_bytes())
    };
    for (name, value) in &pairs {
        let is_refused = |(refused, idle): &(&str, &str)| name == refused && !value.is_empty() && value != idle;
        if REFUSED.iter().any(is_refused) {
            return Err(not_permitted(&format!("'{name}' is not available on this server")));
        }
    }
    Ok(pairs)
}

fn of_form(encoded: &[u8]) -> Pairs {
    form_urlencoded::parse(encoded).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// Converts a JSON object to form parameters. An array of texts becomes a repeated parameter. Other nested values
/// become JSON texts.
fn of_json(body: &[u8]) -> Result<Pairs, Refusal> {
    let bad = |detail: &str| envelope(StatusCode::BAD_REQUEST, "10023", "Invalid JSON", detail);
    if body.trim_ascii().is_empty() {
        return Ok(Pairs::new());
    }
    let value = serde_json::from_slice(body).map_err(|error| bad(&format!("The request body is not JSON: {error}")))?;
    let Value::Object(members) = value else { return Err(bad("The request body must be a JSON object")) };
    let mut pairs = Pairs::new();
    for (name, value) in members {
        let name = camel(&name);
        match value {
            Value::Null => {}
            Value::Array(items) if items.iter().all(Value::is_string) => {
                pairs.extend(items.iter().map(|item| (name.clone(), plain(item))));
            }
            value => pairs.push((name, plain(&value))),
        }
    }
    Ok(pairs)
}

/// The name of a request parameter in TeXML's spelling. For example, `from_` becomes `From` and `async_amd` becomes
/// `AsyncAmd`. The reason is that telnyx-python uses its own names for the parameters of a new call.
fn camel(name: &str) -> String {
    if name.starts_with(|first: char| first.is_ascii_uppercase()) {
        return name.to_owned();
    }
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.split('_').map(capital).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Values for parameters that a request does not have. The list has only the defaults of TeXML that differ from
/// Twilio's defaults.
fn defaults(below: &[&str]) -> &'static [(&'static str, &'static str)] {
    match below {
        ["Calls"] | ["Conferences", _, "Participants"] => &[("Timeout", "30")],
        ["Calls", _, "Recordings"] => &[("RecordingChannels", "dual"), ("PlayBeep", "true")],
        ["Calls", _, "Streams"] => &[("BidirectionalMode", "mp3")],
        _ => &[],
    }
}

fn caller(app: &App, parts: &Parts) -> Option<Arc<Account>> {
    telnyx::rest::caller(&app.accounts, &parts.headers)
}

fn unauthenticated() -> Refusal {
    let detail = "The required authentication headers were either invalid or not included in the request.";
    envelope(StatusCode::UNAUTHORIZED, "10009", "Authentication failed", detail)
}

fn not_permitted(detail: &str) -> Refusal {
    envelope(StatusCode::UNPROCESSABLE_ENTITY, "10038", "Feature not permitted", detail)
}

fn refused((status, body): Refusal) -> Response {
    (status, Json(body)).into_response()
}
