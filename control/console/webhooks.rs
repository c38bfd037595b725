//! Webhooks, for application developers: lists the webhooks of a call, and sends a webhook again.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use tandem_runtime::app::App;
use tandem_store::deliveries::{self, DeliveryRow};
use tandem_webhooks::{Body, Delivery};

use super::{QueryError, Scope};
use crate::access::Changer;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/calls/{id}/webhooks", get(list)).route("/console/webhooks/{id}/replay", post(replay))
}

/// A webhook and its state.
#[derive(Serialize)]
pub(super) struct WebhookRow {
    id: String,
    event: String,
    method: String,
    url: String,
    /// The body: names and values in order, or JSON.
    body: Body,
    /// The state of the delivery: `pending`, `delivered` or `failed`.
    state: &'static str,
    attempts: i64,
    last_status: Option<i64>,
    last_error: Option<String>,
    created_at: Timestamp,
    done_at: Option<Timestamp>,
    /// The id of the webhook that this webhook repeats.
    replay_of: Option<String>,
}

impl WebhookRow {
    pub(super) fn of(row: DeliveryRow) -> Option<Self> {
        let delivery: Delivery = serde_json::from_str(&row.request).ok()?;
        Some(Self {
            id: format!("{:032x}", row.id),
            event: row.event,
            method: delivery.method.name().to_owned(),
            url: tandem_http::without_credentials(&delivery.url),
            body: delivery.body,
            state: row.state.word(),
            attempts: row.attempts,
            last_status: row.last_status,
            last_error: row.last_error,
            created_at: row.created_at,
            done_at: row.done_at,
            replay_of: delivery.replay_of,
        })
    }
}

/// `GET /console/calls/{id}/webhooks`: the webhooks of a call, oldest webhook first.
async fn list(State(app): State<App>, scope: Scope, Path(id): Path<String>) -> Response {
    let session = match scope.session(&app, &id).await {
        Ok(Some((session, _))) => session,
        Ok(None) => return (StatusCode::NOT_FOUND, "no such call\n").into_response(),
        Err(failed) => return QueryError::from(failed).into_response(),
    };
    match deliveries::list(&app.calls.services().store, session.0).await {
        // The legs of a call may belong to several accounts.
        Ok(rows) => {
            let rows = rows.into_iter().filter(|row| scope.sees(&row.account));
            Json(rows.filter_map(WebhookRow::of).collect::<Vec<_>>()).into_response()
        }
        Err(failed) => QueryError::from(failed).into_response(),
    }
}

/// `POST /console/webhooks/{id}/replay`: sends a webhook again, with the same body, the same idempotency token and a new signature. The repeated webhook is
/// sent after the webhooks that still wait.
async fn replay(State(app): State<App>, Changer(scope): Changer, Path(id): Path<String>) -> Response {
    let services = app.calls.services();
    let Ok(id) = u128::from_str_radix(&id.replace('-', ""), 16) else {
        return (StatusCode::NOT_FOUND, "no such webhook\n").into_response();
    };
    let mut found = Ok(None);
    for account in scope.accounts(&app, None) {
        found = deliveries::get(&services.store, &account, id).await;
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    let row = match found {
        Ok(Some(row)) => row,
        Ok(None) => return (StatusCode::NOT_FOUND, "no such webhook\n").into_response(),
        Err(failed) => return QueryError::from(failed).into_response(),
    };
    let Ok(mut delivery) = serde_json::from_str::<Delivery>(&row.request) else {
        let text = "another version of the server stored this webhook, and this version cannot read it\n";
        return (StatusCode::CONFLICT, text).into_response();
    };
    delivery.replay_of.get_or_insert_with(|| format!("{:032x}", delivery.id));
    delivery.id = rand::random();
    let body = serde_json::json!({ "id": format!("{:032x}", delivery.id), "replay_of": delivery.replay_of });
    match services.deliveries.enqueue(delivery).await {
        Ok(()) => (StatusCode::ACCEPTED, Json(body)).into_response(),
        Err(failed) => QueryError::from(failed).into_response(),
    }
}
