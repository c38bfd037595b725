//! The backend of a page with which a human agent calls people. The page shows the state and the transcript of the
//! call, and plays the audio of the call.
//!
//! ```text
//!   POST /outbound-call ──► call ──audio, words──► /frontend-stream (frontends that requested this call)
//!   POST /end-call ───────►  │
//!   GET /call-status ◄───────┘ or from the database, after the call
//! ```

mod calls;
mod config;
mod http;
mod limits;
mod sockets;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::routing::{get, post};
use parking_lot::Mutex;
use tandem_call::id::LegId;
use tandem_runtime::app::App;

use super::frontends::Frontends;
use super::{Origins, cors};
use foldhash::HashMap;

pub use config::{StarlisConfig, Tracks};

use limits::{Rate, Sockets};
use sockets::Subscribed;
use tokens::Tokens;

/// The state of the gateway. The server has one gateway.
struct Starlis {
    app: App,
    config: StarlisConfig,
    origins: Origins,
    /// The live calls, with the frontends of each call.
    live: Mutex<HashMap<LegId, Arc<Frontends<Subscribed>>>>,
    rate: Rate,
    sockets: Sockets,
    tokens: Tokens,
}

pub(super) fn routes(app: App, config: StarlisConfig) -> Router {
    let origins = match config.allowed_origins.is_empty() {
        true => Origins::All,
        false => Origins::Of(config.allowed_origins.iter().cloned().collect()),
    };
    let starlis = Arc::new(Starlis {
        rate: Rate::new(config.calls_per_minute),
        sockets: Sockets::new(config.sockets_per_user),
        tokens: Tokens::default(),
        live: Mutex::default(),
        origins: origins.clone(),
        app,
        config,
    });
    let guarded = Router::new()
        .route("/outbound-call", post(http::outbound_call))
        .route("/end-call", post(http::end_call))
        .route("/call-status", get(http::call_status))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&starlis), tokens::guard));
    let open = Router::new().route("/", get(http::front_page)).route("/frontend-stream", get(sockets::frontend_stream));
    let tokens = match starlis.config.tokens {
        true => Router::new().route("/generate-token", post(tokens::generate)),
        false => Router::new(),
    };
    guarded
        .merge(open)
        .merge(tokens)
        .layer(middleware::from_fn(move |request: Request, next: Next| cors(origins.clone(), request, next)))
        .with_state(starlis)
}
