//! The HTTP routes of the server: the APIs of all providers, the gateways, health, metrics, and the console requests
//! that concern one call or the whole server.
#![forbid(unsafe_code)]

mod bans;
mod browsers;
#[cfg(test)]
mod features;
mod figures;
pub mod listener;
mod metrics;
mod owner;
mod pages;
mod requests;
mod sip_websocket;
#[cfg(test)]
mod verbs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use ipnet::IpNet;
use tandem_causes::Cause;
use tandem_console::access::{Operator, OperatorItself, caller};
use tandem_console::session::{self, Sessions};
use tandem_console::trace::{COLUMNS, CallTrace, NoTrace};
use tandem_console::{self as console, CallLog, QueryError, Scope};
use tandem_history::problem::Problem;
use tandem_history::report::Refusal;
use tandem_host::clock;
use tandem_runtime::app::{App, Login};
use tandem_runtime::reporting::ProblemOwner;
use tandem_settings::ConsoleUser;
use tandem_settings::log_filter::LOG;
use tandem_signalwire as signalwire;
use tandem_telnyx as telnyx;
use tandem_texml as texml;
use tandem_twilio::{self as twilio, rest::Members};

pub use crate::bans::BanLifted;
use crate::sip_websocket::TrustedProxies;

/// The providers that use Twilio's REST paths.
const FAMILY: Members = &[&twilio::Twilio, &signalwire::SignalWire];

/// The functions that find the account of a request. Providers with the same REST paths share one entry.
pub const LOGINS: &[Login] = &[
    Login {
        caller: |accounts, headers| FAMILY.iter().find_map(|member| twilio::rest::caller(*member, accounts, headers)),
        owner: |accounts, headers| FAMILY.iter().find_map(|member| twilio::rest::owner(*member, accounts, headers)),
    },
    Login { caller: telnyx::rest::caller, owner: telnyx::rest::caller },
];

/// The text that a client receives at `/`, `/console` and `/console/`. A browser gets a page.
const PLACES: &str = "\
Tandem answers SIP, and over HTTP these APIs: /2010-04-01/ (Twilio), /v2/ (Telnyx) and /api/calling/ (SignalWire), with an account's credentials.
The web console, in a browser: /console/
State: /healthz, /readyz, /metrics; log filter: /console/log
Lists: /console/calls, /console/live, /console/phones, /console/trunks, /console/numbers, /console/errors; ?follow=true follows them
Everything about a call: /console/calls/{any id of the call, or last}
A call's log: /console/sessions/{any id of the call, or last}/events?format=text
A call's webhooks: /console/calls/{any id of the call}/webhooks; send one again: POST /console/webhooks/{its id}/replay
Check a signature: POST /console/signature
A call's SIP messages: /console/calls/{any id of the call, or a SIP Call-ID}/trace?format=text, and as a capture /trace.pcap
";

/// Builds all routes. `with_metrics` is false if `/metrics` has a separate listener. `gateways` contains the routes of
/// the gateways. `front_page` says whether the routes of the gateways include `/`. `proxies` are the networks of
/// `http.trusted_proxies`. `console_users` are the users of the web console.
pub fn router(
    app: App,
    with_metrics: bool,
    (gateways, front_page): (Router, bool),
    proxies: impl Into<Arc<[IpNet]>>,
    console_users: Vec<ConsoleUser>,
) -> Router {
    let proxies = TrustedProxies(proxies.into());
    let front = if front_page { Router::new() } else { Router::new().route("/", get(places)) };
    let sessions = Sessions::new(console_users, &app.calls.services().cluster);
    let metrics = if with_metrics { Router::new().route("/metrics", get(metrics::guarded)) } else { Router::new() };
    let apis = Router::new()
        .merge(twilio::rest::routes(FAMILY))
        .merge(telnyx::rest::routes())
        .merge(signalwire::rest::routes())
        .merge(texml::rest::routes())
        .layer(middleware::from_fn_with_state(app.clone(), requests::note));
    let console = Router::new()
        .merge(console::page::routes(PLACES))
        .merge(console::routes(app.clone(), Arc::clone(&sessions)))
        .merge(twilio::console::routes())
        .route("/console/sessions/{id}/events", get(events))
        .route("/console/calls/{id}/trace", get(trace))
        .route("/console/calls/{id}/trace.pcap", get(trace_pcap))
        .route("/console/figures", get(figures::answer).layer(Extension(figures::Figures::start(app.clone()))))
        .route("/console/reload", post(reload))
        .route("/console/log", get(log).post(change_log))
        .route("/console/sip/strangers", get(unknown_sources))
        .route("/console/sip/bans", get(bans))
        .route("/console/sip/bans/{address}", delete(unban))
        .layer(middleware::map_response(pages::printable))
        .layer(middleware::from_fn_with_state(app.clone(), requests::note_change))
        .layer(middleware::from_fn_with_state(sessions, session::identify));
    let (cluster, store) = (app.calls.services().cluster.clone(), app.calls.services().store.clone());
    let owners = owner::Owners::new(&app);
    let routes = Router::new()
        .merge(apis)
        .merge(console)
        .merge(metrics)
        .merge(front)
        .route("/sip", get(sip_websocket::open).layer(Extension(proxies.clone())))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .layer(middleware::from_fn_with_state(app.clone(), pages::refuse_foreign))
        .merge(twilio::browser::routes().layer(middleware::from_fn_with_state(proxies.clone(), browsers::name_client)))
        .with_state(app.clone())
        .merge(gateways)
        .layer(middleware::from_fn_with_state(Arc::new(browsers::Browsers::new(app.clone(), proxies)), browsers::open))
        .layer(middleware::from_fn(twilio::rest::elsewhere::refuse))
        .layer(middleware::from_fn_with_state(app, note_refused));
    if !cluster.is_on() {
        return routes;
    }
    owner::answer(&cluster, &store, &routes);
    routes
        .layer(middleware::from_fn_with_state(owners.clone(), owner::forward))
        .layer(middleware::from_fn_with_state(owners, owner::store_changes))
}

/// Builds the routes of a separate listener for `/metrics`.
pub fn metrics_router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::metrics))
        .with_state(app)
}

/// `GET /readyz`: whether the server takes new calls. The answer 503 has the reason.
async fn ready(State(app): State<App>) -> Response {
    if let Some(refusal) = app.calls.refusal() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response();
    }
    if let Some(shortage) = app.calls.services().media.shortage() {
        let headers = [(header::RETRY_AFTER, "5")];
        return (StatusCode::SERVICE_UNAVAILABLE, headers, format!("{shortage}\n")).into_response();
    }
    // Reports the results of the heartbeat, which runs once a second, and of the writer. This check does not wait for
    // the database.
    match app.calls.services().store.health().problem() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], reason + "\n").into_response(),
    }
}

/// `GET /`: the places of this server, as a page for a browser and as text for every
/// other client.
async fn places(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match accept.contains("text/html") {
        true => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], places_page()).into_response(),
        false => PLACES.into_response(),
    }
}

/// Returns [`PLACES`] as a page. A path without an id is a link.
fn places_page() -> String {
    let link = |word: &str| {
        let path = word.trim_end_matches([',', ';', ':']);
        let is_link = path.starts_with('/') && path.len() > 1 && !path.contains('{') && !path.ends_with("signature");
        match is_link {
            true => format!("<a href=\"{path}\">{path}</a>{}", word.get(path.len()..).unwrap_or_default()),
            false => word.to_owned(),
        }
    };
    let lines: String = PLACES
        .lines()
        .map(|line| format!("<p>{}</p>\n", line.split(' ').map(link).collect::<Vec<_>>().join(" ")))
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Tandem</title>\n<h1>Tandem</h1>\n{lines}\
         <p>A list asks for a user name and a password: the account's SID and auth token, which <code>tandem env</code> \
         prints. In a terminal: <code>tandem calls</code>, <code>tandem show last</code>, <code>tandem errors</code>.</p>\n\
         </html>\n"
    )
}

/// `GET /console/sessions/{id}/events`: the event log of a call. `id` is the id of the call or of one of its legs.
/// Requires the credentials of the account that owns the leg, in the form of any provider.
async fn events(
    State(app): State<App>,
    scope: Scope,
    Path(id): Path<String>,
    Query(query): Query<TraceQuery>,
) -> Response {
    match CallLog::find(&app, &scope, &id).await {
        Ok(Some(log)) if query.format.as_deref() == Some("text") => log.to_string().into_response(),
        Ok(Some(log)) => {
            let lines = serde_json::to_string(&log.lines).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json")], lines + "\n").into_response()
        }
        Ok(None) => (StatusCode::NOT_FOUND, "no such call\n").into_response(),
        Err(failed) => QueryError::from(failed).into_response(),
    }
}

/// `GET /console/calls/{id}/trace`: the SIP messages of a call that the requesting account can see.
async fn trace(
    State(app): State<App>,
    scope: Scope,
    Path(id): Path<String>,
    Query(query): Query<TraceQuery>,
) -> Response {
    shown(CallTrace::find(&app, &scope, &id).await, &query)
}

/// `GET /console/calls/{id}/trace.pcap`: the same messages as a capture file.
async fn trace_pcap(State(app): State<App>, scope: Scope, Path(id): Path<String>) -> Response {
    match CallTrace::find(&app, &scope, &id).await {
        Ok(trace) => ([(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap")], trace.pcap()).into_response(),
        Err(why) => no_trace(&why),
    }
}

/// `GET /console/sip/strangers`: the last SIP messages from addresses outside the networks of all trunks.
async fn unknown_sources(State(app): State<App>, _: Operator, Query(query): Query<TraceQuery>) -> Response {
    shown(CallTrace::of_unknown_sources(&app), &query)
}

/// `POST /console/reload`: reads the configuration file again, like SIGHUP.
async fn reload(State(app): State<App>, _: OperatorItself) -> Response {
    match app.configuration.reload().await {
        Some(Ok(unchanged)) => unchanged.into_response(),
        Some(Err(faults)) => (StatusCode::UNPROCESSABLE_ENTITY, faults).into_response(),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, "the server cannot reload a configuration file now\n").into_response()
        }
    }
}

/// `GET /console/log`: the filter of the server's log.
async fn log(_: Operator) -> Response {
    shown_log(None)
}

/// `POST /console/log`: changes the filter of the server's log. The change lasts for a limited time or until the next
/// change.
async fn change_log(_: OperatorItself, body: Bytes) -> Response {
    let query: LogRequest = match serde_json::from_slice(&body) {
        Ok(query) => query,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}; {LOG_EXAMPLE}\n")).into_response(),
    };
    if query.seconds.is_some_and(|seconds| !(1..=LONGEST_LOG).contains(&seconds)) {
        let says = format!("seconds must be 1 to {LONGEST_LOG}\n");
        return (StatusCode::BAD_REQUEST, says).into_response();
    }
    match LOG.change(&query.level) {
        Some(Ok(change)) => {
            if let Some(seconds) = query.seconds {
                LOG.restore_after(change, Duration::from_secs(seconds));
            }
            tracing::info!(seconds = query.seconds, "the log filter was changed over the API to {:?}", query.level);
            shown_log(query.seconds)
        }
        Some(Err(why)) => (StatusCode::BAD_REQUEST, format!("level: {why}\n")).into_response(),
        None => shown_log(None),
    }
}

fn shown_log(seconds: Option<u64>) -> Response {
    let Some(filter) = LOG.get() else {
        let says = "this process has no adjustable log filter\n";
        return (StatusCode::SERVICE_UNAVAILABLE, says).into_response();
    };
    let shown = serde_json::json!({ "level": filter.now, "usual": filter.usual, "seconds": seconds });
    ([(header::CONTENT_TYPE, "application/json")], format!("{shown}\n")).into_response()
}

/// A request to change the filter of the log.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LogRequest {
    /// A level, or a list of levels by module.
    level: String,
    /// Duration of the change in seconds. If absent, the change lasts until the next change.
    seconds: Option<u64>,
}

const LOG_EXAMPLE: &str = r#"send {"level": "info,tandem_sip=debug", "seconds": 600}"#;
/// Maximum duration of a changed filter, in seconds: one day.
const LONGEST_LOG: u64 = 86_400;

/// `GET /console/sip/bans`: the banned sources, with the reason, the start and the end of each ban.
async fn bans(State(app): State<App>, _: Operator, Query(query): Query<TraceQuery>) -> Response {
    let bans = bans::list(app.calls.services().sip.guard(), clock::now());
    match query.format.as_deref() {
        Some("text") => bans::text(&bans).into_response(),
        _ => {
            let body = serde_json::to_string(&bans).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
        }
    }
}

/// `DELETE /console/sip/bans/{address}`: ends the ban of an address.
async fn unban(State(app): State<App>, _: OperatorItself, Path(address): Path<String>) -> Response {
    // The address may also be a network such as `2001:db8::/64`, as the list of bans shows it.
    let Ok(source) = address.split('/').next().unwrap_or_default().parse() else {
        return (StatusCode::BAD_REQUEST, "not an IP address\n").into_response();
    };
    app.calls.services().cluster.post(&BanLifted { source });
    match app.calls.services().sip.guard().unban(clock::now().instant, source) {
        true => {
            tracing::info!("the ban of {source} was lifted over the API");
            StatusCode::NO_CONTENT.into_response()
        }
        false => (StatusCode::NOT_FOUND, "not banned\n").into_response(),
    }
}

fn shown(trace: Result<CallTrace, NoTrace>, query: &TraceQuery) -> Response {
    match trace {
        Ok(trace) if query.format.as_deref() == Some("text") => {
            trace.text(query.columns.unwrap_or(COLUMNS)).into_response()
        }
        Ok(trace) => {
            let body = serde_json::to_string(&trace).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
        }
        Err(why) => no_trace(&why),
    }
}

fn no_trace(why: &NoTrace) -> Response {
    let status = match why {
        NoTrace::Off | NoTrace::Unknown(_) | NoTrace::NoCalls | NoTrace::Gone(_) => StatusCode::NOT_FOUND,
        NoTrace::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{why}\n")).into_response()
}

/// Query parameters of a request for a call's log or trace.
#[derive(serde::Deserialize)]
struct TraceQuery {
    /// The format of the response: `text`, or any other value for JSON.
    format: Option<String>,
    /// Width of the text, in columns.
    columns: Option<usize>,
}

/// Middleware that reports refused requests. It reports requests with wrong credentials, and refused requests that
/// would change data. The rate of reports is limited.
async fn note_refused(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let credentials = request.headers().get(header::AUTHORIZATION).cloned();
    let mut response = next.run(request).await;
    let (status, path) = (response.status(), uri.path());
    let services = app.calls.services();
    // A page asks whether somebody has signed in, and nobody has.
    let asks = method == axum::http::Method::GET && path == "/console/session";
    if status == StatusCode::UNAUTHORIZED && !asks {
        services.counters.unauthorized();
        let from = peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
        let text = format!("401: wrong credentials for {method} {path}{from}");
        services.report(ProblemOwner::Server, clock::time(), Problem::new(Cause::WrongCredentials, text));
    } else if status.is_client_error() && method != axum::http::Method::GET {
        if response.extensions_mut().remove::<requests::Noted>().is_some() {
            return response;
        }
        let headers = credentials.map(|credentials| (header::AUTHORIZATION, credentials)).into_iter().collect();
        let account = caller(&app, &headers).ok();
        let refusal = match response.extensions_mut().remove::<Refusal>() {
            Some(refusal) => refusal,
            // Any host may request a path that does not exist. Only an account learns of such a request.
            None if account.is_none() => return response,
            None => Refusal::of_answer(&requests::body(&mut response).await),
        };
        let owner = account.as_deref().map(|account| &account.name);
        let problem = refusal.problem(status.as_u16(), format_args!("{method} {path}"));
        services.report(owner, clock::time(), problem);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_links_to_paths_without_an_id() {
        let page = places_page();
        assert!(page.contains("<a href=\"/console/calls\">/console/calls</a>, "), "{page}");
        assert!(page.contains("<a href=\"/healthz\">") && !page.contains("href=\"/console/calls/{"), "{page}");
        assert!(page.starts_with("<!DOCTYPE html>"));
    }
}
