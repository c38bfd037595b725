//! The WebSockets of frontends.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::ws::{Utf8Bytes, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_host::clock;

use super::Dash;
use super::upstream::CallSelector;
use crate::frontends::{FrontendMessage, TRY_AGAIN, serve, turn_away, upgrade};

/// The ids of the call that a frontend wants to receive. If both ids are absent, the frontend receives all calls.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct AudioQuery {
    stream_id: Option<String>,
    call_control_id: Option<String>,
}

impl AudioQuery {
    fn selector(&self) -> CallSelector<'_> {
        CallSelector { stream_id: self.stream_id.as_deref(), control_id: self.call_control_id.as_deref() }
    }
}

/// `/call-events`: sends events to a frontend. Messages of the frontend are ignored.
pub(super) async fn call_events(
    State(dash): State<Arc<Dash>>,
    headers: HeaderMap,
    request: WebSocketUpgrade,
) -> Response {
    upgrade(request, &headers).on_upgrade(async move |mut socket| {
        let Some((id, mut queue)) = dash.watchers.join(()) else {
            return turn_away(socket, TRY_AGAIN, "Too many connections").await;
        };
        let welcome = json!({ "type": "welcome", "message": "Connected to call events WebSocket" }).to_string();
        if socket.send(welcome.into()).await.is_ok() {
            serve(&mut socket, &mut queue, |_| None).await;
        }
        dash.watchers.leave(id);
    })
}

/// `/frontend-audio`: sends the audio of calls to a frontend, and the audio of the frontend's microphone to one of the
/// calls.
pub(super) async fn frontend_audio(
    State(dash): State<Arc<Dash>>,
    Query(query): Query<AudioQuery>,
    headers: HeaderMap,
    request: WebSocketUpgrade,
) -> Response {
    upgrade(request, &headers).on_upgrade(async move |mut socket| {
        // The frontend was probably opened for the newest call.
        let mut bound = dash.upstreams.newest();
        let Some((id, mut queue)) = dash.listeners.join(query.clone()) else {
            return turn_away(socket, TRY_AGAIN, "Too many connections").await;
        };
        let connected = json!({
            "event": "connected",
            "message": "Connected to audio stream",
            "config": { "format": "PCMU", "sampleRate": 8000, "channels": 1 },
        });
        if socket.send(connected.to_string().into()).await.is_ok() {
            serve(&mut socket, &mut queue, |text| spoken(&dash, id, &query, &mut bound, text)).await;
        }
        dash.listeners.leave(id);
    })
}

/// Handles a message of a frontend. Audio goes to the frontend's call, and other events are ignored. If the message is
/// invalid, returns an error message for the frontend.
fn spoken(dash: &Dash, id: u64, query: &AudioQuery, bound: &mut Option<u64>, text: &str) -> Option<FrontendMessage> {
    let Ok(frame) = serde_json::from_str::<Spoken<'_>>(text) else {
        return Some(problem(100_003, "malformed_frame", "the message is not a JSON object of the expected form"));
    };
    if frame.event.as_deref() != Some("media") {
        return None;
    }
    let payload = frame.media.and_then(|media| media.payload);
    let Some(payload) = payload.filter(|payload| STANDARD.decode(payload.as_bytes()).is_ok()) else {
        return Some(problem(100_004, "invalid_media", "media.payload is not base64"));
    };
    let own = CallSelector { stream_id: frame.stream_id.as_deref(), control_id: frame.call_control_id.as_deref() };
    let means = if query.selector().anything() { own } else { query.selector() };
    let frame = json!({ "event": "media", "media": { "payload": payload } }).to_string();
    dash.upstreams.speak(id, means, bound, frame.into(), clock::now().instant);
    None
}

fn problem(code: u32, title: &str, detail: &str) -> FrontendMessage {
    let payload = json!({ "code": code, "title": title, "detail": detail });
    FrontendMessage::Text(json!({ "event": "error", "payload": payload }).to_string().into())
}

#[derive(Deserialize)]
struct Spoken<'a> {
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stream_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    call_control_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    media: Option<Media<'a>>,
}

/// A message of a call's stream, with only the members that the gateway reads.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    stream_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    media: Option<Media<'a>>,
}

#[derive(Deserialize)]
struct Media<'a> {
    #[serde(borrow, default)]
    track: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Option<Cow<'a, str>>,
}

impl Dash {
    /// Forwards a message of a call's stream to the frontends that want this call. Forwarded messages are `start`,
    /// `media` of the called party, `stop` and `error`.
    pub(super) fn frame(&self, upstream: u64, text: &str) {
        let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else { return };
        let message = match &*frame.event {
            "start" => self.started(upstream, text, frame.stream_id.as_deref()),
            "media" if frame.media.and_then(|media| media.track).as_deref() == Some("inbound") => text.into(),
            "stop" | "error" => text.into(),
            _ => return,
        };
        let Some((control_id, stream_id)) = self.upstreams.ids(upstream) else { return };
        self.listeners.broadcast(&message, |query| query.selector().fits(&control_id, &stream_id));
    }

    /// Stores the ids of a stream that starts. Returns the `start` message of the stream with the additional members
    /// `sample_rate` and `channels`. These members are at the same level as `media_format`, because frontends expect
    /// the members at this level.
    fn started(&self, upstream: u64, text: &str, stream_id: Option<&str>) -> Utf8Bytes {
        let Ok(mut frame) = serde_json::from_str::<Value>(text) else { return text.into() };
        let Some(start) = frame.get_mut("start").and_then(Value::as_object_mut) else { return text.into() };
        let control_id = start.get("call_control_id").and_then(Value::as_str).unwrap_or_default();
        self.upstreams.begin(upstream, control_id, stream_id.unwrap_or_default());
        for name in ["sample_rate", "channels"] {
            let value = start.get("media_format").and_then(|format| format.get(name)).cloned();
            start.insert(name.to_owned(), value.unwrap_or(Value::Null));
        }
        frame.to_string().into()
    }
}
