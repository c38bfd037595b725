//! The backend of a call dashboard: agents make calls from a browser, see their progress, and speak and listen in it.
//!
//! ```text
//!   POST /api/calls/telnyx/initiate ──► call ──its events──► /call-events     (every frontend)
//!                                        ▲ └───its audio──► /frontend-audio  (every frontend, or those that name the call)
//!                                        └─────────mic──────┘                (one frontend at a time)
//! ```
//!
//! A provider outside may take the place of the call: it posts webhooks and connects to `/audio-stream`, as it did to the backend.

mod calls;
mod config;
mod http;
mod outside;
mod sockets;
mod upstream;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::extract::ws::Utf8Bytes;
use axum::middleware::{self, Next};
use axum::routing::{get, post};
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_runtime::app::App;
use tandem_telnyx as telnyx;

use super::frontends::{Frontends, WhenFull};
use super::{Origins, cors};

pub use config::DashConfig;

use sockets::Wanted;
use upstream::Upstreams;

/// Events that may wait for a frontend.
const EVENTS: usize = 256;
/// Frames of audio that may wait for a frontend: two seconds of one call.
const FRAMES: usize = 100;

/// The kinds of events that frontends are told of.
const KINDS: [&str; 6] =
    ["call.initiated", "call.answered", "call.hangup", "streaming.started", "streaming.failed", "streaming.stopped"];

/// The gateway. One for the server.
struct Dash {
    app: App,
    config: DashConfig,
    /// On `/call-events`.
    watchers: Frontends<()>,
    /// On `/frontend-audio`.
    listeners: Frontends<Wanted>,
    /// The calls whose audio comes here.
    upstreams: Upstreams,
}

/// Everything of the gateway.
pub(super) fn routes(app: App, config: DashConfig) -> Router {
    let dash = Arc::new(Dash {
        app,
        config,
        watchers: Frontends::new(EVENTS, WhenFull::Close),
        listeners: Frontends::new(FRAMES, WhenFull::Skip),
        upstreams: Upstreams::default(),
    });
    let sockets = Router::new()
        .route("/call-events", get(sockets::call_events))
        .route("/frontend-audio", get(sockets::frontend_audio))
        .route("/audio-stream", get(outside::audio_stream));
    Router::new()
        .route("/api/calls/telnyx/initiate", post(http::initiate))
        .route("/api/calls/telnyx/end", post(http::end))
        .route("/api/calls/telnyx/{id}/mute", post(http::mute))
        .route("/api/calls/telnyx/{id}/unmute", post(http::unmute))
        .route("/api/calls/telnyx/webhook", post(outside::webhook))
        .merge(sockets.clone())
        // Where a proxy passes on everything below /api.
        .nest("/api", sockets)
        .layer(middleware::from_fn(|request: Request, next: Next| cors(Origins::All, request, next)))
        .with_state(dash)
}

impl Dash {
    /// `streamUrl`, as the provider is told it.
    fn stream_url(&self) -> String {
        let host = match &self.config.stream_host {
            Some(host) => host,
            None => {
                let url = &*self.app.public_url;
                url.split_once("://").map_or(url, |(_, host)| host)
            }
        };
        format!("wss://{host}/audio-stream")
    }

    /// Tells every frontend on `/call-events` of an event, if it is of a kind that they know.
    fn broadcast(&self, kind: &str, id: &str, occurred_at: &str, payload: &Value) {
        if KINDS.contains(&kind) {
            let event = json!({ "type": kind, "id": id, "occurred_at": occurred_at, "payload": payload });
            self.watchers.tell(&Utf8Bytes::from(event.to_string()), |()| true);
        }
    }

    /// The same for an event of ours.
    fn broadcast_own(&self, kind: &str, at: Timestamp, payload: &Value) {
        self.broadcast(kind, &telnyx::id::uuid_v4(rand::random()), &telnyx::time(at), payload);
    }
}
