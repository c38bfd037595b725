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
mod sockets;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::routing::{get, post};
use parking_lot::Mutex;
use tandem_id::LegId;
use tandem_runtime::app::App;

use super::access::{Access, guard, require_secret};
use super::frontends::Frontends;
use super::limits::{Rate, Sockets};
use foldhash::HashMap;

pub use config::{StarlisConfig, Tracks};

use sockets::Subscribed;
use tokens::Tokens;

/// The state of the gateway. The server has one gateway.
struct Starlis {
    app: App,
    config: StarlisConfig,
    access: Arc<Access>,
    /// The live calls.
    live: Mutex<HashMap<LegId, LiveCall>>,
    rate: Rate,
    sockets: Sockets,
    tokens: Tokens,
}

/// A live call of the gateway.
#[derive(Clone)]
struct LiveCall {
    /// The user who made the call. Only this user may follow and end the call.
    user: Arc<str>,
    frontends: Arc<Frontends<Subscribed>>,
}

pub(super) fn routes(app: App, config: StarlisConfig) -> Router {
    let access = Arc::new(Access {
        table: "starlis",
        origins: config.allowed_origins.clone(),
        own_host: super::own_host(&app),
        stream_host: None,
        secret: config.secret.clone(),
        prefixes: config.prefixes.clone(),
        calls: Rate::new(config.total_calls_per_minute()),
        names_success: false,
    });
    let starlis = Arc::new(Starlis {
        rate: Rate::new(config.calls_per_minute),
        sockets: Sockets::new(config.sockets_per_user),
        tokens: Tokens::default(),
        live: Mutex::default(),
        access: Arc::clone(&access),
        app,
        config,
    });
    let guarded = Router::new()
        .route("/outbound-call", post(http::outbound_call))
        .route("/end-call", post(http::end_call))
        .route("/call-status", get(http::call_status))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&starlis), tokens::guard));
    let sockets = Router::new().route("/frontend-stream", get(sockets::frontend_stream));
    let tokens = match starlis.config.tokens {
        true => Router::new().route("/generate-token", post(tokens::generate)),
        false => Router::new(),
    };
    // With `tokens`, only the request for a token needs the secret.
    let with_tokens = starlis.config.tokens;
    let secret = Arc::clone(&access);
    let secret =
        middleware::from_fn(move |request: Request, next: Next| require_secret(Arc::clone(&secret), request, next));
    let routes = match with_tokens {
        true => guarded.merge(sockets).merge(tokens.layer(secret)),
        false => guarded.merge(sockets).layer(secret),
    };
    routes
        .route("/", get(http::front_page))
        .layer(middleware::from_fn(move |request: Request, next: Next| guard(Arc::clone(&access), request, next)))
        .with_state(starlis)
}
