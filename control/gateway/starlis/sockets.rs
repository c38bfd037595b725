//! `/frontend-stream`: the audio and transcript of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{LiveCall, Starlis};
use crate::frontends::{NORMAL, POLICY, TRY_AGAIN, serve, turn_away, upgrade};
use crate::text;

/// The query parameters of a frontend: the call that the frontend wants to receive, the user, and the token.
#[derive(Deserialize)]
pub(super) struct CallSelector {
    #[serde(rename = "callSid", default)]
    call_sid: String,
    #[serde(default)]
    user_id: String,
    #[serde(default)]
    token: Option<String>,
}

/// `GET /frontend-stream`: connects a frontend to a call.
pub(super) async fn frontend_stream(
    State(starlis): State<Arc<Starlis>>,
    Query(means): Query<CallSelector>,
    headers: HeaderMap,
    request: WebSocketUpgrade,
) -> Response {
    if let Err((status, error)) = starlis.admit(means.token.as_deref()) {
        return (status, Json(json!({ "error": error }))).into_response();
    }
    upgrade(request, &headers).on_upgrade(async move |socket| listen(&starlis, socket, &means).await)
}

async fn listen(starlis: &Starlis, mut socket: WebSocket, means: &CallSelector) {
    if means.call_sid.is_empty() || means.user_id.is_empty() {
        return turn_away(socket, POLICY, "Missing callSid or user_id").await;
    }
    let Some(_place) = starlis.sockets.take(&means.user_id) else {
        return turn_away(socket, POLICY, "Too many connections").await;
    };
    let leg = starlis.leg(&means.call_sid);
    let live = || starlis.live.lock().get(&leg?).filter(|call| *call.user == *means.user_id).cloned();
    let Some(LiveCall { frontends, .. }) = live() else {
        return match starlis.find(&means.call_sid, &means.user_id).await {
            Ok(leg) if leg.status.is_final() => turn_away(socket, NORMAL, "Call ended").await,
            _ => turn_away(socket, POLICY, "Call not found").await,
        };
    };
    let subscribed = Subscribed::default();
    let Some((id, mut queue)) = frontends.join(subscribed.clone()) else {
        return turn_away(socket, TRY_AGAIN, "Too many connections").await;
    };
    if live().is_none() {
        // The call has ended in the meantime. The call's frontends were closed before this frontend joined.
        return turn_away(socket, NORMAL, "Call ended").await;
    }
    serve(&mut socket, &mut queue, |message| {
        let message = serde_json::from_str::<Value>(message).unwrap_or_default();
        if text(&message, "event").as_deref() == Some("connect-twilio") {
            subscribed.ask();
        }
        None
    })
    .await;
    frontends.leave(id);
}

/// Whether a frontend has requested the call's audio and transcript. Without this request, the frontend receives
/// nothing until the server closes the WebSocket at the end of the call.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscribed(Arc<AtomicBool>);

impl Subscribed {
    fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn has(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
