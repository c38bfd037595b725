//! `/console/nodes`: the nodes of the cluster, and which of them take calls.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tandem_cluster::{NodeView, state_word};
use tandem_runtime::app::App;
use tandem_store::StoreError;

use crate::access::{Operator, OperatorItself};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/nodes", get(list)).route("/console/nodes/{name}/drain", post(drain).delete(resume))
}

#[derive(Serialize)]
struct Nodes {
    nodes: Vec<NodeItem>,
}

/// A node.
#[derive(Serialize)]
struct NodeItem {
    name: String,
    /// The state: `alive`, `draining`, `silent` (it does not renew its lease) or `dead` (another node ends its calls).
    state: &'static str,
    /// The number of this start of the node.
    epoch: i64,
    /// Seconds since the last renewal of the lease.
    renewed_seconds_ago: f64,
    legs: u64,
    version: String,
    http: String,
    sip: String,
    /// Whether this node has answered.
    is_own: bool,
}

impl From<NodeView> for NodeItem {
    fn from(node: NodeView) -> Self {
        Self {
            state: state_word(&node),
            epoch: node.row.epoch,
            renewed_seconds_ago: (node.age.as_secs_f64() * 10.0).round() / 10.0,
            legs: node.row.details.legs,
            version: node.row.details.version,
            http: node.row.details.http,
            sip: node.row.details.sip,
            is_own: node.is_own,
            name: node.row.name,
        }
    }
}

/// `GET /console/nodes`: all nodes that are not gone. The list of a server that is alone is empty.
async fn list(State(app): State<App>, _: Operator) -> Response {
    match app.calls.services().cluster.nodes().await {
        Ok(nodes) => Json(Nodes { nodes: nodes.into_iter().map(NodeItem::from).collect() }).into_response(),
        Err(error) => away(&error),
    }
}

/// `POST /console/nodes/{name}/drain`: the node takes no new calls, and continues its calls.
async fn drain(State(app): State<App>, _: OperatorItself, Path(name): Path<String>) -> Response {
    set(&app, &name, true).await
}

/// `DELETE /console/nodes/{name}/drain`: the node takes calls again.
async fn resume(State(app): State<App>, _: OperatorItself, Path(name): Path<String>) -> Response {
    set(&app, &name, false).await
}

async fn set(app: &App, name: &str, drains: bool) -> Response {
    let cluster = &app.calls.services().cluster;
    if !cluster.is_on() {
        return (StatusCode::NOT_FOUND, "this server is in no cluster: it has no [cluster]\n").into_response();
    }
    match cluster.drain(name, drains).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => (StatusCode::NOT_FOUND, "no living node has this name\n").into_response(),
        Err(error) => away(&error),
    }
}

fn away(error: &StoreError) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], format!("{error}\n")).into_response()
}
