//! Twilio's Voice SDK for browsers: `/signal`, the WebSocket between a page and this server, and the files and reports that
//! the SDK requests besides.
//!
//! ```text
//!   page ── WebSocket /signal ──► socket ──► Page ──► Line (one call) ──► the leg of the call
//!                                   │          ▲
//!                                 token      Calls: a leg that rings at the page
//! ```
//!
//! A call belongs to the user, not to the socket: if the socket is lost, the media goes on, and the page takes up the call
//! over a new socket with the call's reconnect token.

mod extras;
mod frame;
mod line;
mod page;
mod socket;
mod token;

use std::sync::Arc;

use axum::routing::{any, get};
use axum::{Extension, Router};
use foldhash::HashMap;
use parking_lot::Mutex;
use tandem_clients::User;
use tandem_runtime::app::App;

use self::line::Line;

/// The routes of the SDK. Pages of every origin may use them, because a token decides who calls.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/signal", get(socket::open))
        .route("/v4/EndpointEvents", any(extras::insights))
        .route("/v4/EndpointMetrics", any(extras::insights))
        .route("/js/client/sounds/releases/{release}/{file}", get(extras::sound))
        .layer(Extension(Lines::default()))
}

/// The live calls of all pages, by reconnect token. The limits of calls bound the number. Cheap to clone.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<HashMap<Arc<str>, Arc<Line>>>>);

impl Lines {
    fn add(&self, line: &Arc<Line>) {
        self.0.lock().insert(Arc::clone(line.reconnect()), Arc::clone(line));
    }

    fn remove(&self, reconnect: &str) {
        self.0.lock().remove(reconnect);
    }

    /// Returns the call with this reconnect token.
    fn find(&self, reconnect: &str) -> Option<Arc<Line>> {
        self.0.lock().get(reconnect).cloned()
    }

    /// Returns the calls of a user.
    fn of_user(&self, user: &User) -> Vec<Arc<Line>> {
        self.0.lock().values().filter(|line| line.user() == user).cloned().collect()
    }
}
