//! Handlers for the HTTP requests of frontends.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_call::address::PhoneNumber;
use tandem_call::leg::{LegInfo, Status};
use tandem_host::clock;

use super::Starlis;
use super::calls::CallRequest;
use crate::access::CallLimit;
use crate::text;

/// Maximum length of the id of a user who makes a call, in octets. The record of the call has this id.
const MAX_USER: usize = 256;

/// `GET /`: returns a message that the server is running.
pub(super) async fn front_page() -> Json<Value> {
    Json(json!({ "message": "Server is running" }))
}

/// `POST /outbound-call`: starts a call.
pub(super) async fn outbound_call(State(starlis): State<Arc<Starlis>>, body: Bytes) -> Response {
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let (Some(user), Some(number)) = (text(&body, "user_id"), text(&body, "number")) else {
        return wrong("User ID and phone number are required");
    };
    if user.len() > MAX_USER {
        return wrong("The user ID is too long");
    }
    let now = clock::now().instant;
    let limited = |limit: CallLimit| limit.response(Json(json!({ "success": false, "error": limit.to_string() })));
    if let Err(wait) = starlis.rate.take(&user, now) {
        return limited(CallLimit::TooMany(wait));
    }
    let Some(to) = number.parse().ok().filter(PhoneNumber::is_e164) else {
        return failed(&format!("{number} is not a number in E.164 format (e.g., +1234567890)"));
    };
    if let Err(limit) = starlis.access.take_call(&to, now) {
        return limited(limit);
    }
    let request = CallRequest {
        user: user.into(),
        to,
        prompt: text(&body, "prompt"),
        first_message: text(&body, "first_message"),
    };
    match starlis.call(request).await {
        Ok(leg) => {
            let call_sid = starlis.call_sid(leg);
            Json(json!({ "success": true, "message": "Call initiated", "callSid": call_sid })).into_response()
        }
        Err(error) => failed(&error.to_string()),
    }
}

/// `POST /end-call`: hangs up a call.
pub(super) async fn end_call(State(starlis): State<Arc<Starlis>>, body: Bytes) -> Response {
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let (Some(call_sid), Some(user)) = (text(&body, "callSid"), text(&body, "user_id")) else {
        return wrong("Call SID and User ID are required");
    };
    match starlis.end(&call_sid, &user).await {
        Ok(()) => Json(json!({ "success": true, "message": "Call ended successfully" })).into_response(),
        Err(error) => failed(&error.to_string()),
    }
}

/// The call that a status request names.
#[derive(Deserialize)]
pub(super) struct CallSelector {
    #[serde(rename = "callSid", default)]
    call_sid: String,
    #[serde(default)]
    user_id: String,
}

/// `GET /call-status`: the state of a live or ended call.
pub(super) async fn call_status(State(starlis): State<Arc<Starlis>>, Query(means): Query<CallSelector>) -> Response {
    if means.call_sid.is_empty() || means.user_id.is_empty() {
        return wrong("Call SID and User ID are required");
    }
    match starlis.find(&means.call_sid, &means.user_id).await {
        Ok(leg) => Json(shown(&means.call_sid, &leg, clock::time())).into_response(),
        Err(error) => failed(&error.to_string()),
    }
}

fn shown(call_sid: &str, leg: &LegInfo, now: Timestamp) -> Value {
    let status = match leg.status {
        Status::Queued | Status::Initiated => "queued",
        Status::Ringing => "ringing",
        Status::InProgress => "in-progress",
        Status::Completed => "completed",
        Status::Busy => "busy",
        Status::Failed => "failed",
        // The client has no word for a canceled call, so the word for an unanswered call is used.
        Status::NoAnswer | Status::Canceled => "no-answer",
    };
    json!({
        "success": true,
        "callSid": call_sid,
        "status": status,
        "startTime": leg.answered_at.map(iso),
        "endTime": leg.end.as_ref().map(|end| iso(end.at)),
        "duration": leg.duration(now).as_secs(),
    })
}

/// Formats a time in UTC with whole seconds: `2024-03-20T10:00:00Z`.
fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn wrong(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}

fn failed(error: &str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "success": false, "error": error }))).into_response()
}
