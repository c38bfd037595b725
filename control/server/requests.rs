//! The requests that applications send about their calls: REST requests, Call Control commands and Calling API commands
//! of all providers. Each request that changes a call, or that was refused, stands in the log of its call with its body,
//! the answer and the time, beside the requests that this server sends.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tandem_accounts::Account;
use tandem_call::leg::LegInfo;
use tandem_causes::Cause;
use tandem_console::Scope;
use tandem_history::change::{self, Change};
use tandem_history::event_log::Line;
use tandem_history::problem::Problem;
use tandem_history::report::{Refusal, Unused};
use tandem_history::secrets::{MASK, is_secret, redact};
use tandem_host::clock;
use tandem_http::exchange::{HttpAnswer, HttpExchange};
use tandem_id::{AccountName, LegId};
use tandem_runtime::app::App;
use tandem_runtime::reporting::ProblemOwner;

/// Maximum number of octets of a body that are read for the log.
const MAX_BODY: usize = 64 * 1024;
/// Maximum number of possible ids of calls in one request that are looked up.
const MAX_IDS: usize = 6;
/// The members of a request or an answer that name a call, in all providers' spelling.
const CALL_IDS: [&str; 6] = ["call_control_id", "CallSid", "call_sid", "sid", "call_id", "id"];
/// Requests of the console that change no data: the sign-in, and a softphone that connects.
const UNNOTED: [&str; 2] = ["/console/session", "/console/phone/socket"];
/// Maximum number of characters of the parameters in a line of a call's log, and of a part of the path.
const SHOWN: usize = 160;
const SHOWN_PART: usize = 12;

/// The mark of a response whose request is already in the log of a call, or among the problems.
#[derive(Clone, Copy)]
pub(super) struct Noted;

/// Middleware that adds the requests of an application to the log of their call. A request that only reads is not logged.
/// A refused request is also a problem of its call, or of its account if the request names no call.
pub(super) async fn note(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    if matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let headers = credentials(request.headers());
    let is_json = !is_form(request.headers());
    let began = clock::now();
    let (request, sent) = copied(request);
    let mut response = next.run(request).await;
    let Some(account) = app.caller(&headers) else { return response };
    let answer = body(&mut response).await;
    let sent = Sent::read(&sent.lock(), is_json);
    let leg = named_call(&app, &account, &path, &sent, &answer).await;
    let status = response.status();
    let refusal = response.extensions_mut().remove::<Refusal>();
    let refusal = status.is_client_error().then(|| refusal.unwrap_or_else(|| Refusal::of_answer(&answer)));
    let unused = response.extensions_mut().remove::<Unused>().unwrap_or_default().0;
    response.extensions_mut().insert(Noted);
    let now = clock::now();
    let (time, elapsed) = (began.time, now.instant.saturating_duration_since(began.instant));
    // An application cannot know at once that a call has ended. A request that comes too late is no problem.
    let after_the_end = leg.as_ref().and_then(|leg| leg.end.as_ref()).is_some_and(|end| end.at <= now.time);
    let why = refusal.as_ref().map(|refusal| refusal.why.clone());
    let problem = refusal
        .filter(|_| !after_the_end)
        .map(|refusal| refusal.problem(status.as_u16(), format_args!("{method} {}", short_path(&path))));
    let idle = (!unused.is_empty()).then(|| format!("without effect: {}", unused.join(", ")));
    let why = why.or_else(|| idle.clone());
    let problem = problem.or_else(|| {
        let text = format!("{method} {}: {}", short_path(&path), idle?);
        Some(Problem::warning(Cause::UnusedParameter, text))
    });
    let Some(leg) = leg else {
        if status.is_success() && !path.ends_with("/Tokens.json") {
            let (who, role) = (account.name.to_string(), "application".to_owned());
            let action = method.as_str().to_owned();
            let change = Change { who, role, action, object: path.clone(), parameters: sent.words };
            change::note(&app.calls.services().store, &account.name, change);
        }
        let owner = ProblemOwner::Account(&account.name);
        problem.into_iter().for_each(|problem| app.calls.services().report(owner, time, problem));
        return response;
    };
    let url = format!("{}{path}", app.public_url);
    let mut exchange = HttpExchange::new(time, method.as_str().to_owned(), &url, &sent.parameters, elapsed);
    exchange = exchange.received(sent.body);
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    exchange.answer = Some(HttpAnswer::ours(status.as_u16(), kind, &redacted_text(&answer)));
    let why = why
        .map(|why| if after_the_end && status.is_client_error() { format!("{why}; the call has ended") } else { why });
    let line = line(&exchange, &path, &sent.words, why.as_deref(), leg.id);
    app.calls.exchanged(ProblemOwner::from(&*leg), leg.session, exchange, Some(line), problem);
    response
}

/// Middleware that stores the changes that a person makes in the console. An act on a call belongs to the account of the call,
/// also if an operator does it: both see it.
pub(super) async fn note_change(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    if matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) || UNNOTED.contains(&&*path) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let scope = Scope::from_request_parts(&mut parts, &app).await.ok();
    let (request, sent) = copied(Request::from_parts(parts, body));
    let owner = account_of_call(&app, &path).await;
    let response = next.run(request).await;
    if let Some(scope) = scope.filter(|_| response.status().is_success()) {
        let sent = Sent::read(&sent.lock(), true);
        let (who, role) = (scope.name().to_owned(), scope.role_word().to_owned());
        let change = Change { who, role, action: method.as_str().to_owned(), object: path, parameters: sent.words };
        change::note(&app.calls.services().store, owner.as_ref().unwrap_or(scope.account()), change);
    }
    response
}

/// Returns the account of the leg whose id is in the path.
async fn account_of_call(app: &App, path: &str) -> Option<AccountName> {
    let part = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let id = path.split('/').find_map(|text| app.calls.services().dialects.parse_call_id(&part(text)))?;
    app.calls.find(id).await.ok().flatten().map(|leg| leg.account.clone())
}

/// The parameters of a request, without secrets.
#[derive(Default)]
struct Sent {
    /// The fields of a form.
    parameters: Vec<(String, String)>,
    /// A JSON body.
    body: Option<String>,
    /// The parameters as words, such as `payload=Hello voice=female`.
    words: String,
    /// The possible ids of calls.
    ids: Vec<String>,
}

impl Sent {
    fn read(octets: &[u8], is_json: bool) -> Self {
        if is_json {
            let Ok(mut json) = serde_json::from_slice::<Value>(octets) else { return Self::default() };
            let ids = ids(&json);
            redact(&mut json);
            let body = Some(json.to_string()).filter(|text| text != "{}");
            return Self { parameters: Vec::new(), body, words: json_words(&json), ids };
        }
        let pairs: Vec<(String, String)> = form_urlencoded::parse(octets).into_owned().collect();
        let ids = pairs.iter().filter(|(name, _)| CALL_IDS.contains(&name.as_str())).map(|(_, id)| id.clone());
        let ids = ids.collect();
        let pairs = pairs.into_iter().map(|(name, value)| {
            let value = if is_secret(&name) { MASK.to_owned() } else { tandem_http::without_credentials(&value) };
            (name, value)
        });
        let parameters: Vec<(String, String)> = pairs.collect();
        let words = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        Self { parameters, body: None, words, ids }
    }
}

/// Returns the call that a request names: in its path, in its body, or in the answer. Returns `None` if the request names
/// no call, or a call that the account must not see.
async fn named_call(app: &App, account: &Account, path: &str, sent: &Sent, answer: &[u8]) -> Option<Arc<LegInfo>> {
    let part = |part: &str| {
        let part = percent_decode_str(part).decode_utf8_lossy();
        part.strip_suffix(".json").map_or_else(|| part.to_string(), str::to_owned)
    };
    let in_answer = serde_json::from_slice(answer).map(|answer: Value| ids(&answer)).unwrap_or_default();
    let texts = path.split('/').map(part).chain(sent.ids.iter().cloned()).chain(in_answer);
    let dialects = &app.calls.services().dialects;
    let found: Vec<LegId> = texts.filter_map(|text| dialects.parse_call_id(&text)).take(MAX_IDS).collect();
    for id in found {
        let Ok(Some(leg)) = app.calls.find(id).await else { continue };
        let parent = app.accounts.parent(&leg.account);
        if leg.account == account.name || parent.is_some_and(|parent| parent == account.name) {
            return Some(leg);
        }
    }
    None
}

/// Returns the ids of calls in a JSON object, and in its member `data`.
fn ids(json: &Value) -> Vec<String> {
    let objects = [Some(json), json.get("data"), json.get("params")];
    let found = objects.into_iter().flatten().flat_map(|object| CALL_IDS.iter().filter_map(|name| object.get(*name)));
    found.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn redacted_text(answer: &[u8]) -> String {
    match serde_json::from_slice::<Value>(answer) {
        Ok(mut json) => {
            redact(&mut json);
            json.to_string()
        }
        Err(_) => String::from_utf8_lossy(answer).into_owned(),
    }
}

/// Returns the line of a request for the log of a call: the method, the path, the status, the reason of a refusal, and the
/// parameters.
fn line(exchange: &HttpExchange, path: &str, words: &str, why: Option<&str>, leg: LegId) -> Line {
    let more = if words.chars().count() > SHOWN { "..." } else { "" };
    let parameters: String = words.chars().take(SHOWN).collect();
    let space = if parameters.is_empty() { "" } else { " " };
    let why = why.filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
    let status = exchange.answer.as_ref().map(|answer| answer.status).unwrap_or_default();
    let (method, path, elapsed, at) = (&exchange.method, short_path(path), exchange.elapsed_ms, exchange.at);
    let text = format!("{method} {path} {status} ({elapsed} ms){why}{space}{parameters}{more}");
    Line { at, leg: Some(leg), kind: "request".into(), text, data: None }
}

/// Shortens the long parts of a path, such as ids.
fn short_path(path: &str) -> String {
    let short = |part: &str| match part.char_indices().nth(SHOWN_PART) {
        Some((end, _)) => format!("{}...", part.get(..end).unwrap_or_default()),
        None => part.to_owned(),
    };
    path.split('/').map(short).collect::<Vec<_>>().join("/")
}

/// Returns the members of a JSON object as words, such as `payload=Hello voice=female`. The members of `params` are
/// words too. The ids of calls are left out, because the line belongs to the call.
fn json_words(body: &Value) -> String {
    let Value::Object(members) = body else { return body.to_string() };
    let word = |(name, value): (&String, &Value)| match value {
        Value::Null => None,
        Value::String(_) if CALL_IDS.contains(&name.as_str()) => None,
        Value::String(text) => Some(format!("{name}={text}")),
        other => Some(format!("{name}={other}")),
    };
    let inner = members.get("params").and_then(Value::as_object).into_iter().flatten();
    let outer = members.iter().filter(|(name, value)| *name != "params" || !value.is_object());
    outer.chain(inner).filter_map(word).collect::<Vec<_>>().join(" ")
}

fn credentials(headers: &HeaderMap) -> HeaderMap {
    headers.get(header::AUTHORIZATION).map(|value| (header::AUTHORIZATION, value.clone())).into_iter().collect()
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/x-www-form-urlencoded")
}

/// Copies the start of a request's body while the handler reads the body.
fn copied(request: Request) -> (Request, Arc<Mutex<Vec<u8>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let copy = Arc::clone(&kept);
    let (parts, body) = request.into_parts();
    let body = body.into_data_stream().inspect(move |piece| {
        let Ok(piece) = piece else { return };
        let mut copy = copy.lock();
        let room = MAX_BODY.saturating_sub(copy.len());
        copy.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
    });
    (Request::from_parts(parts, Body::from_stream(body)), kept)
}

/// Reads the body of an answer, and puts the body back. The result is empty if the body is long.
pub(super) async fn body(response: &mut Response) -> Vec<u8> {
    let length = response.body().size_hint().exact();
    if length.is_none_or(|length| length > MAX_BODY as u64) {
        return Vec::new();
    }
    let body = std::mem::take(response.body_mut());
    let octets = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    *response.body_mut() = Body::from(octets.clone());
    octets.to_vec()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_in_forms_and_in_json_at_any_depth() {
        let form = Sent::read(b"Url=http%3A%2F%2Fu%3Asecret1%40h%2Fx&SipAuthPassword=secret2&CallSid=CA1", false);
        assert_eq!(form.ids, ["CA1"]);
        assert_eq!(form.parameters[0].1, "http://h/x");
        assert_eq!(form.parameters[1].1, "***");
        let json = json!({
            "call_control_id": "v3:a", "sip_auth_password": "secret3",
            "media": [{ "stream_auth_token": "secret4", "url": "wss://u:secret5@h/" }], "password": null,
        });
        let json = Sent::read(json.to_string().as_bytes(), true);
        assert_eq!(json.ids, ["v3:a"]);
        let body = json.body.unwrap();
        assert!(!body.contains("secret") && body.contains("\"password\":null") && body.contains("wss://h/"), "{body}");
        assert_eq!(redacted_text(br#"{"auth_token":"secret"}"#), r#"{"auth_token":"***"}"#);
    }

    /// The line of a request with this JSON body.
    fn line_of(path: &str, status: u16, why: Option<&str>, body: &Value) -> String {
        let sent = Sent::read(body.to_string().as_bytes(), true);
        let exchange = HttpExchange::new(Timestamp::UNIX_EPOCH, "POST", "http://h/", &[], Default::default());
        let exchange = HttpExchange { answer: Some(HttpAnswer::ours(status, "", "")), ..exchange };
        line(&exchange, path, &sent.words, why, LegId(1)).text
    }

    #[test]
    fn the_log_line_of_a_long_request_is_short() {
        let path = format!("/v2/calls/v3:{}/actions/speak", "x".repeat(80));
        let text = line_of(&path, 200, None, &json!({ "payload": "y".repeat(9_000) }));
        assert!(text.starts_with("POST /v2/calls/v3:xxxxxxxxx.../actions/speak 200 (0 ms) payload=yyy"), "{text}");
        assert!(text.len() < 300 && text.ends_with("yyy..."), "{text}");
    }

    #[test]
    fn the_log_line_of_a_refused_request_has_its_reason_and_its_parameters() {
        let body =
            json!({ "command": "calling.play", "id": "c1", "params": { "volume": 1, "play": [{ "url": "x" }] } });
        let text = line_of("/api/calling/calls", 422, Some("no (7)"), &body);
        let words = "command=calling.play play=[{\"url\":\"x\"}] volume=1";
        assert_eq!(text, format!("POST /api/calling/calls 422 (0 ms): no (7) {words}"));
    }
}
