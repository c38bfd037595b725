//! What an account keeps on the server: media.

pub(super) mod listing;
pub(super) mod media;

use axum::Router;

use crate::app::App;

/// Their routes.
pub(super) fn routes() -> Router<App> {
    media::routes()
}
