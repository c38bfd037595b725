//! The HTTP listener: every provider's surface, health, metrics, and a call's event log.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::clock;
use crate::console::CallLog;
use crate::counters::metric;
use crate::dialect::{telnyx, twilio};

/// What a browser is told that was pointed at the server.
const PLACES: &str = "\
Tandem answers SIP, and over HTTP these APIs: /2010-04-01/ (Twilio) and /v2/ (Telnyx), with an account's credentials.
How it is: /healthz, /readyz, /metrics
A call's log: /console/sessions/{any id of the call}/events?format=text
";

/// All routes.
pub fn router(app: App) -> Router {
    Router::new()
        .merge(twilio::rest::routes())
        .merge(telnyx::rest::routes())
        .route("/", get(|| async { PLACES }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/console/sessions/{id}/events", get(events))
        .layer(middleware::from_fn_with_state(app.clone(), note_unauthorized))
        .with_state(app)
}

async fn ready(State(app): State<App>) -> Response {
    if !app.calls.accepts() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    match app.calls.services().store.flush().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            tracing::error!(%error, "not ready: database");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

async fn metrics(State(app): State<App>) -> Response {
    let services = app.calls.services();
    let mut text = String::with_capacity(4096);
    services.counters.render(&mut text);
    let deliveries = services.deliveries().counts();
    let media = services.media.load();
    let sip = services.sip().statistics();
    let dropped = services.store.writer().dropped();
    for (name, help, kind, value) in [
        ("tandem_live_legs", "Legs with a media session", "gauge", media.sessions),
        ("tandem_rtp_packets_in_total", "RTP packets received", "counter", media.packets_in),
        ("tandem_rtp_packets_out_total", "RTP packets sent", "counter", media.packets_out),
        ("tandem_rtp_packets_relayed_total", "RTP packets passed from one leg to another", "counter", media.relayed),
        ("tandem_rtp_packets_dropped_total", "RTP packets from strangers or not agreed", "counter", media.dropped),
        (
            "tandem_sdp_refused_total",
            "Offers and answers not SDP, or without audio for us",
            "counter",
            media.sdp_refused,
        ),
        ("tandem_rtp_malformed_total", "Datagrams that are not RTP or RTCP", "counter", media.malformed),
        ("tandem_sip_messages_in_total", "SIP messages received", "counter", sip.received),
        ("tandem_sip_messages_out_total", "SIP messages sent", "counter", sip.sent),
        ("tandem_sip_messages_dropped_total", "SIP messages that could not be sent", "counter", sip.dropped),
        ("tandem_sip_requests_shed_total", "SIP requests refused with 503", "counter", sip.shed),
        ("tandem_sip_strangers_total", "SIP requests from addresses in no trunk's networks", "counter", sip.strangers),
        ("tandem_sip_malformed_total", "SIP messages that could not be understood", "counter", sip.malformed),
        ("tandem_sip_transactions", "SIP transactions", "gauge", sip.transactions as u64),
        ("tandem_sip_connections", "SIP stream connections", "gauge", sip.connections as u64),
        ("tandem_webhooks_delivered_total", "Webhooks accepted", "counter", deliveries.delivered),
        ("tandem_webhooks_failed_total", "Webhooks given up", "counter", deliveries.failed),
        ("tandem_webhooks_retried_total", "Attempts that were followed by another", "counter", deliveries.retried),
        ("tandem_mp3s_made_total", "Recordings made into MP3s", "counter", app.recordings.mp3s_made()),
        ("tandem_event_lines_dropped_total", "Log lines dropped because the database was slow", "counter", dropped),
    ] {
        metric(&mut text, name, help, kind, value);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// The event log of a session, which is named by its id or a leg's, for the account that has a leg in it, by its credentials
/// in any dialect.
async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Response {
    let accounts = &app.accounts;
    let caller = twilio::rest::caller(accounts, &headers).or_else(|| telnyx::rest::caller(accounts, &headers));
    let Some(account) = caller else {
        let challenges = ["Basic realm=\"tandem\"", "Bearer"].map(|challenge| (header::WWW_AUTHENTICATE, challenge));
        return (StatusCode::UNAUTHORIZED, AppendHeaders(challenges), "an account's credentials, please\n")
            .into_response();
    };
    match CallLog::find(&app, account, &id).await {
        Ok(Some(log)) if wish.format.as_deref() == Some("text") => log.to_string().into_response(),
        Ok(Some(log)) => {
            let lines = serde_json::to_string(&log.lines).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json")], lines + "\n").into_response()
        }
        Ok(None) => (StatusCode::NOT_FOUND, "no such call\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}

/// How a log is wished for.
#[derive(serde::Deserialize)]
struct Wish {
    /// `text`, or else JSON.
    format: Option<String>,
}

/// Wrong credentials are counted, and leave a line unless there is a flood of them.
async fn note_unauthorized(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(held_back) = app.calls.services().counters.unauthorized(clock::now().instant)
    {
        let (path, held_back) = (uri.path(), (held_back > 0).then_some(held_back));
        tracing::warn!(
            held_back,
            peer = peer.map(tracing::field::display),
            "401: wrong credentials for {method} {path}"
        );
    }
    response
}
