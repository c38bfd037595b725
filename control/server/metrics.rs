//! `GET /metrics`.

use std::net::SocketAddr;

use axum::Extension;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use tandem_console::access::operator;
use tandem_host::clock;
use tandem_metrics::{Page, engines, families};
use tandem_runtime::app::App;

use crate::pages;

/// `GET /metrics` on the main listener. Clients on this host need no credentials. Other clients need the credentials or
/// an API key of an operator's account.
pub(super) async fn guarded(
    State(app): State<App>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
) -> Response {
    // A request that a proxy on this host has forwarded is not local.
    let passed_on = ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    let local = peer.is_some_and(|Extension(peer)| peer.0.ip().to_canonical().is_loopback())
        && !passed_on
        && pages::names_this_server(&app.public_url, &headers);
    if !local && let Err(denied) = operator(&app, &headers) {
        return denied.into_response();
    }
    metrics(State(app)).await
}

/// `GET /metrics` on the listener for metrics.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page(&app)).into_response()
}

/// Writes all metrics.
pub(super) fn page(app: &App) -> String {
    let services = app.calls.services();
    let mut page = Page::default();
    services.counters.render(&mut page);
    engines::media(&mut page, &services.media.load());
    let guarded = services.sip.guard().counts(clock::now().instant);
    let ladder = services.sip.ladder().map(|ladder| ladder.fill()).unwrap_or_default();
    engines::sip(&mut page, &services.sip.statistics(), guarded, ladder);
    engines::trunks(&mut page, &services.sip.trunk_statuses());
    engines::certificates(&mut page, &services.sip.own_certificates());
    let deliveries = services.deliveries.counts();
    let (health, writer) = (services.store.health(), services.store.writer());
    for (family, value) in [
        (&families::WEBHOOKS_DELIVERED, deliveries.delivered),
        (&families::WEBHOOKS_FAILED, deliveries.failed),
        (&families::WEBHOOKS_RETRIED, deliveries.retried),
        (&families::MP3S_MADE, app.recordings.mp3s_made()),
        (&families::EVENT_LINES_DROPPED, writer.dropped()),
        (&families::DATABASE_READY, health.problem().is_none().into()),
        (&families::DATABASE_WRITES_WAITING, writer.waiting()),
        (&families::DATABASE_FAILURES, writer.failures()),
        (&families::DATABASE_WRITES_LOST, writer.lost()),
    ] {
        page.value(family, value);
    }
    cluster(&mut page, app);
    page.into_text()
}

/// Writes the metrics of a node of a cluster. A server that is alone has the families without values.
fn cluster(page: &mut Page, app: &App) {
    let cluster = &app.calls.services().cluster;
    let mut info = page.family(&families::NODE_INFO);
    if let (Some(name), Some(epoch)) = (cluster.name(), cluster.epoch()) {
        // A name has only letters, digits, hyphens, underscores and dots.
        info.row(&format!("node=\"{name}\",epoch=\"{epoch}\""), 1);
    }
    let is_on = cluster.is_on();
    for (family, value) in [
        (&families::NODE_TAKES_CALLS, u64::from(app.calls.accepts())),
        (&families::NODE_LEASE_HELD, u64::from(cluster.holds_lease() == Some(true))),
        (&families::NODE_BUS_CONNECTED, u64::from(cluster.is_on_bus() == Some(true))),
        (&families::NODES_LIVING, cluster.others().len() as u64 + 1),
    ] {
        let mut rows = page.family(family);
        if is_on {
            rows.row("", value);
        }
    }
    let mut messages = page.family(&families::BUS_MESSAGES);
    if let Some(counts) = cluster.bus_counts() {
        messages.row("direction=\"sent\"", counts.sent);
        messages.row("direction=\"received\"", counts.received);
    }
}
