//! The HTTP listener: every provider's surface, health, metrics, and a call's event log.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Json, Response};
use axum::routing::get;
use tandem_call::id::CallId;

use crate::account::Account;
use crate::app::App;
use crate::counters::metric;
use crate::dialect::{telnyx, twilio};
use crate::event_log::Line;
use crate::query::{LegFilter, Page, StoreFailed};

/// What a browser is told that was pointed at the server.
const PLACES: &str = "\
Tandem answers SIP, and over HTTP these APIs: /2010-04-01/ (Twilio) and /v2/ (Telnyx), with an account's credentials.
How it is: /healthz, /readyz, /metrics
A call's log: /console/sessions/{session}/events
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
        .route("/console/sessions/{session}/events", get(events))
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
        ("tandem_rtp_malformed_total", "Datagrams that are not RTP or RTCP", "counter", media.malformed),
        ("tandem_sip_messages_in_total", "SIP messages received", "counter", sip.received),
        ("tandem_sip_messages_out_total", "SIP messages sent", "counter", sip.sent),
        ("tandem_sip_messages_dropped_total", "SIP messages that could not be sent", "counter", sip.dropped),
        ("tandem_sip_requests_shed_total", "SIP requests refused with 503", "counter", sip.shed),
        ("tandem_sip_strangers_total", "SIP requests from addresses in no trunk's networks", "counter", sip.strangers),
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

/// A session's event log, for the account that has a leg in it, by its credentials in any dialect.
async fn events(State(app): State<App>, headers: HeaderMap, Path(session): Path<String>) -> Response {
    let accounts = &app.accounts;
    let caller = twilio::rest::caller(accounts, &headers).or_else(|| telnyx::rest::caller(accounts, &headers));
    let Some(account) = caller else {
        let challenges = ["Basic realm=\"tandem\"", "Bearer"].map(|challenge| (header::WWW_AUTHENTICATE, challenge));
        return (StatusCode::UNAUTHORIZED, AppendHeaders(challenges), "an account's credentials, please\n")
            .into_response();
    };
    match log(&app, account, &session).await {
        Ok(Some(lines)) => Json(lines).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no such session\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}

/// `None` if the account has no such session.
async fn log(app: &App, account: &Account, session: &str) -> Result<Option<Vec<Line>>, StoreFailed> {
    let Ok(session) = u128::from_str_radix(&session.replace('-', ""), 16).map(CallId) else { return Ok(None) };
    let born_in_it = LegFilter { session: Some(session), ..LegFilter::default() };
    let one = Page { limit: 1, after: None, offset: 0 };
    if app.calls.list(&account.name, &born_in_it, one).await?.is_empty() {
        return Ok(None);
    }
    app.calls.log(session).await.map(Some)
}
