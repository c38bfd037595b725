//! The backend of a call dashboard. A human agent makes a call in a browser, follows the progress of the call, and
//! talks with the called party.
//!
//! ```text
//!   POST /api/calls/telnyx/initiate ──► call ──its events──► /call-events     (every frontend)
//!                                        ▲ └───its audio──► /frontend-audio  (every frontend that wants the call)
//!                                        └─────mic──────┘                (one frontend at a time)
//! ```
//!
//! Alternatively, an external provider makes the calls. Then the provider posts webhooks and connects to
//! `/audio-stream`, as with the original backend.

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
use foldhash::HashSet;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tandem_id::LegId;
use tandem_runtime::app::App;
use tandem_telnyx as telnyx;

use super::access::{Access, guard, require_secret};
use super::frontends::{Frontends, WhenFull};
use super::limits::Rate;

pub use config::DashConfig;

use sockets::AudioQuery;
use upstream::Upstreams;

/// Capacity of the event queue of a frontend.
const EVENTS: usize = 256;
/// Capacity of the audio queue of a frontend in frames. The queue can contain two seconds of audio of one call.
const FRAMES: usize = 100;

/// The kinds of events that frontends receive.
const KINDS: [&str; 6] =
    ["call.initiated", "call.answered", "call.hangup", "streaming.started", "streaming.failed", "streaming.stopped"];

/// The state of the gateway. The server has one gateway.
struct Dash {
    app: App,
    config: DashConfig,
    /// The frontends on `/call-events`.
    watchers: Frontends<()>,
    /// The frontends on `/frontend-audio`.
    listeners: Frontends<AudioQuery>,
    /// The calls whose audio reaches the gateway.
    upstreams: Upstreams,
    access: Arc<Access>,
    /// The live calls that the gateway has made. Frontends can end and mute only these calls.
    own: Mutex<HashSet<LegId>>,
}

pub(super) fn routes(app: App, config: DashConfig) -> Router {
    let access = Arc::new(Access {
        table: "dash",
        origins: config.allowed_origins.clone(),
        own_host: super::own_host(&app),
        stream_host: config.stream_host.clone(),
        secret: config.secret.clone(),
        prefixes: config.prefixes.clone(),
        calls: Rate::new(config.calls_per_minute),
        names_success: true,
    });
    let dash = Arc::new(Dash {
        app,
        config,
        access: Arc::clone(&access),
        own: Mutex::default(),
        watchers: Frontends::new(EVENTS, WhenFull::Close),
        listeners: Frontends::new(FRAMES, WhenFull::Skip),
        upstreams: Upstreams::default(),
    });
    let sockets = Router::new()
        .route("/call-events", get(sockets::call_events))
        .route("/frontend-audio", get(sockets::frontend_audio))
        .route("/audio-stream", get(outside::audio_stream));
    let secret = Arc::clone(&access);
    Router::new()
        .route("/api/calls/telnyx/initiate", post(http::initiate))
        .route("/api/calls/telnyx/end", post(http::end))
        .route("/api/calls/telnyx/{id}/mute", post(http::mute))
        .route("/api/calls/telnyx/{id}/unmute", post(http::unmute))
        .merge(sockets.clone())
        // Some proxies forward only paths below /api.
        .nest("/api", sockets)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            require_secret(Arc::clone(&secret), request, next)
        }))
        // The signature of a webhook replaces the secret.
        .route("/api/calls/telnyx/webhook", post(outside::webhook))
        .layer(middleware::from_fn(move |request: Request, next: Next| guard(Arc::clone(&access), request, next)))
        .with_state(dash)
}

impl Dash {
    /// Returns the `streamUrl` for the provider and the frontends.
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

    /// Sends an event to every frontend on `/call-events`, if `KINDS` contains the kind of the event.
    fn broadcast(&self, kind: &str, id: &str, occurred_at: &str, payload: &Value) {
        if KINDS.contains(&kind) {
            let event = json!({ "type": kind, "id": id, "occurred_at": occurred_at, "payload": payload });
            self.watchers.broadcast(&Utf8Bytes::from(event.to_string()), |()| true);
        }
    }

    /// Sends an event of a call that this server made. The event gets a new id.
    fn broadcast_own(&self, kind: &str, at: Timestamp, payload: &Value) {
        self.broadcast(kind, &telnyx::id::uuid_v4(rand::random()), &telnyx::time(at), payload);
    }
}
