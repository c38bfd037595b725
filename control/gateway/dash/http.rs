//! Handlers for the HTTP requests of frontends.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use tandem_call::address::{Address, PhoneNumber};
use tandem_host::clock;
use tandem_telnyx as telnyx;

use super::Dash;
use super::calls::PlacedCall;
use crate::text;

type Answer = (StatusCode, Json<Value>);

/// `POST /api/calls/telnyx/initiate`: starts a call. The error is a response with a `Retry-After`, or with another status
/// than 400.
pub(super) async fn initiate(State(dash): State<Arc<Dash>>, body: Bytes) -> Result<Answer, Response> {
    let body = match object(&body) {
        Ok(body) => body,
        Err(answer) => return Ok(answer),
    };
    let (Some(to), Some(from), Some(agent)) = (text(&body, "to"), text(&body, "from"), text(&body, "agentId")) else {
        return Ok(refused("Please provide to, from, and agentId"));
    };
    let failed = |detail: &str| refused(&format!("Failed to initiate Telnyx call: {detail}"));
    if !to.starts_with('+') {
        return Ok(failed("Destination number must be in E.164 format (e.g., +1234567890)"));
    }
    let number = |text: &str| text.parse().ok().filter(PhoneNumber::is_e164);
    let (Some(to), Some(from)) = (number(&to), number(&from).map(Address::Phone)) else {
        let wrong = if number(&to).is_none() { "to" } else { "from" };
        return Ok(failed(&format!("The '{wrong}' parameter must be in E164 format.")));
    };
    dash.access.take_call(&to, clock::now().instant).map_err(|limit| limit.response(failed(&limit.to_string()).1))?;
    Ok(match dash.call(to, from, &agent).await {
        Ok(made) => (StatusCode::CREATED, Json(json!({ "success": true, "data": initiated(&dash, &made, &agent) }))),
        Err(error) => failed(&error.detail()),
    })
}

fn initiated(dash: &Dash, made: &PlacedCall, agent: &str) -> Value {
    let (status, direction, url) = ("initiated", "outbound-dial", dash.stream_url());
    // The database of the original backend has record ids with 24 hexadecimal digits.
    let record: String = made.leg.to_string().chars().filter(char::is_ascii_hexdigit).take(24).collect();
    json!({
        "callId": made.control_id,
        "status": status,
        "direction": direction,
        "streamUrl": url,
        "dbRecord": {
            "_id": record,
            "agent": agent,
            "direction": direction,
            "provider": telnyx::NAME,
            "startTime": format!("{:.3}", made.at),
            "status": status,
            "call_id": made.control_id,
            "stream_url": url,
        },
    })
}

/// `POST /api/calls/telnyx/end`: hangs up a call.
pub(super) async fn end(State(dash): State<Arc<Dash>>, body: Bytes) -> Answer {
    let body = match object(&body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let Some(id) = text(&body, "call_control_id") else {
        return refused("Please provide call_control_id in request body");
    };
    match dash.end(&id).await {
        Ok(()) => (StatusCode::OK, Json(done())),
        Err(error) => refused(&format!("Failed to end call: {}", error.detail())),
    }
}

/// `POST /api/calls/telnyx/{id}/mute`: the called party no longer hears the agent.
pub(super) async fn mute(State(dash): State<Arc<Dash>>, Path(id): Path<String>) -> Answer {
    change(&dash, &id, true, "mute").await
}

/// `POST /api/calls/telnyx/{id}/unmute`: the called party hears the agent again.
pub(super) async fn unmute(State(dash): State<Arc<Dash>>, Path(id): Path<String>) -> Answer {
    change(&dash, &id, false, "unmute").await
}

async fn change(dash: &Dash, id: &str, muted: bool, verb: &str) -> Answer {
    match dash.mute(id, muted).await {
        Ok(()) => {
            let data = json!({ "success": true, "message": format!("Call {verb}d successfully"), "data": done() });
            (StatusCode::OK, Json(json!({ "success": true, "data": data })))
        }
        Err(error) => refused(&format!("Failed to {verb} call: {}", error.detail())),
    }
}

/// The provider's answer to a command that succeeded.
fn done() -> Value {
    json!({ "data": { "result": "ok" } })
}

fn object(body: &[u8]) -> Result<Value, Answer> {
    // An empty body counts as an empty object. So the error names the missing members.
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| refused(&format!("The body is not JSON: {error}")))
}

fn refused(error: &str) -> Answer {
    (StatusCode::BAD_REQUEST, Json(json!({ "success": false, "error": error })))
}
