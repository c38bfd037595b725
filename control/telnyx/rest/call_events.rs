//! `GET /v2/call_events`: the webhooks of a leg, or of all legs of a call, in order. Commands are not in the list,
//! because the server does not store commands.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use tandem_accounts::Account;
use tandem_id::LegId;
use tandem_runtime::app::App;
use tandem_store::StoreFailed;
use tandem_store::deliveries::{self, DeliveryRow, DeliveryState};
use tandem_webhooks::{Body, Delivery};

use super::error::ApiError;
use super::resources::listing::{ListFields, Listing};
use super::{Caller, known};
use crate::{NAME, id};

const LEG: &str = "filter[leg_id]";
const SESSION: &str = "filter[application_session_id]";

const LIST_FIELDS: ListFields = ListFields {
    filters: &[
        ("leg_id", "/call_leg_id"),
        ("application_session_id", "/call_session_id"),
        ("connection_id", "/metadata/payload/connection_id"),
        ("from", "/metadata/payload/from"),
        ("to", "/metadata/payload/to"),
        ("name", "/name"),
        ("type", "/type"),
        ("failed", "/failed"),
    ],
    sorts: &[("event_timestamp", "/event_timestamp")],
};

pub(super) async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let query = query.unwrap_or_default();
    let listing = Listing::parse(&query)?;
    let mut rows = Vec::new();
    if let Some(session) = session(&app, &account, &query).await? {
        let stored = deliveries::list(&app.calls.services().store, session).await.map_err(StoreFailed::from)?;
        rows.extend(
            stored.into_iter().filter(|row| row.account == account.name && row.dialect == NAME).filter_map(event),
        );
    }
    let Json(mut answer) = listing.answer(rows, &LIST_FIELDS)?;
    for row in answer.get_mut("data").and_then(Value::as_array_mut).into_iter().flatten() {
        row.as_object_mut().map(|row| row.remove("failed"));
    }
    Ok(Json(answer))
}

/// The id of the call that the query names. The query contains the id of the call or the id of one of its legs. `None`
/// if the call is unknown.
async fn session(app: &App, account: &Account, query: &str) -> Result<Option<u128>, ApiError> {
    let value_of = |parameter: &str| {
        form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == parameter)
            .map(|(_, value)| value.into_owned())
    };
    if let Some(session) = value_of(SESSION) {
        return Ok(id::parse_uuid(&session));
    }
    let leg = value_of(LEG).ok_or_else(|| ApiError::missing(LEG).in_query(LEG))?;
    let Some(leg) = id::parse_uuid(&leg) else { return Ok(None) };
    Ok(known(app, account, LegId(leg)).await?.map(|leg| leg.session.0))
}

/// The webhook as a resource of the API. `None` if the webhook is not a call event.
fn event(row: DeliveryRow) -> Option<Value> {
    let delivery: Delivery = serde_json::from_str(&row.request).ok()?;
    let Body::Json(data) = delivery.body else { return None };
    let payload = data.get("payload")?;
    Some(json!({
        "record_type": "call_event",
        "type": "webhook",
        "name": row.event,
        "call_leg_id": payload.get("call_leg_id")?,
        "call_session_id": payload.get("call_session_id")?,
        "event_timestamp": data.get("occurred_at")?,
        "metadata": data,
        "failed": row.state == DeliveryState::Failed,
    }))
}
