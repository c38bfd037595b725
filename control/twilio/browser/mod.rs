//! Twilio's Voice SDK for browsers: `/signal`, the WebSocket between a page and this server, and the files and reports that
//! the SDK requests besides.
//!
//! ```text
//!   page ── WebSocket /signal ──► socket ──► tandem_pages ──► the leg of the call
//!                                 │    ▲          │
//!                               token  frame ◄─ protocol
//! ```

mod extras;
mod frame;
mod protocol;
mod socket;
mod token;

use axum::routing::{any, get};
use axum::{Extension, Router};
use tandem_pages::Lines;
use tandem_runtime::app::App;

/// The routes of the SDK. Pages of every origin may use them, because a token decides who calls.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/signal", get(socket::open))
        .route("/v4/EndpointEvents", any(extras::insights))
        .route("/v4/EndpointMetrics", any(extras::insights))
        .route("/js/client/sounds/releases/{release}/{file}", get(extras::sound))
        .layer(Extension(Lines::default()))
}

/// Fuzz entry point. The data is a frame of a page.
pub fn fuzz_frame(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = frame::read(text);
    }
}
