//! Webhooks and streams of an external provider that makes the calls for the gateway's frontends.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_host::clock;

use super::Dash;
use crate::frontends::{POLICY, serve, turn_away, upgrade};
use crate::header;

/// Maximum difference between a webhook's timestamp and the server's clock, in both directions.
const TOLERANCE: Duration = Duration::from_secs(300);

/// `POST /api/calls/telnyx/webhook`: verifies a webhook of the external provider, sends the webhook to the frontends,
/// and answers immediately.
pub(super) async fn webhook(
    State(dash): State<Arc<Dash>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let refused = |error: String| (StatusCode::BAD_REQUEST, Json(json!({ "error": error })));
    let signed = header(&headers, "telnyx-signature-ed25519").zip(header(&headers, "telnyx-timestamp"));
    let Some((signature, timestamp)) = signed else {
        return refused("Missing signature headers".to_owned());
    };
    let event = match verified(&dash, signature, timestamp, &body, clock::time()) {
        Ok(event) => event,
        Err(why) => return refused(format!("Webhook verification failed: {why}")),
    };
    let data = event.get("data").cloned().unwrap_or_default();
    let member = |name| data.get(name).and_then(Value::as_str).unwrap_or_default();
    let payload = data.get("payload").unwrap_or(&Value::Null);
    dash.broadcast(member("event_type"), member("id"), member("occurred_at"), payload);
    (StatusCode::OK, Json(json!({ "received": true })))
}

fn verified(dash: &Dash, signature: &str, timestamp: &str, body: &[u8], now: Timestamp) -> Result<Value, &'static str> {
    let key = dash.config.public_key.ok_or("gateways.dash.public_key is not set")?;
    let signature = STANDARD.decode(signature).map_err(|_| "the signature is not base64")?;
    let mut signed = format!("{timestamp}|").into_bytes();
    signed.extend_from_slice(body);
    UnparsedPublicKey::new(&ED25519, key).verify(&signed, &signature).map_err(|_| "the signature does not match")?;
    let at = timestamp.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let apart = at.map(|at| now.duration_since(at).unsigned_abs());
    if apart.is_none_or(|apart| apart > TOLERANCE) {
        return Err("the timestamp differs too much from the server's clock");
    }
    serde_json::from_slice(body).map_err(|_| "the body is not JSON")
}

/// `/audio-stream`: the external provider opens one WebSocket for each call.
pub(super) async fn audio_stream(
    State(dash): State<Arc<Dash>>,
    headers: HeaderMap,
    request: WebSocketUpgrade,
) -> Response {
    let agent = header(&headers, "user-agent").unwrap_or_default().to_ascii_lowercase();
    let is_provider = agent.contains("telnyx") || headers.contains_key("x-telnyx-signature");
    upgrade(request, &headers).on_upgrade(async move |mut socket| {
        if !is_provider {
            return turn_away(socket, POLICY, "Not a Telnyx connection").await;
        }
        let connected = json!({ "event": "connected", "version": "1.0.0" }).to_string();
        if socket.send(Message::text(connected)).await.is_err() {
            return;
        }
        let (id, mut words) = dash.upstreams.open("");
        let frame = |text: &str| {
            dash.frame(id, text);
            None
        };
        serve(&mut socket, &mut words, frame).await;
        dash.upstreams.close(id);
    })
}
