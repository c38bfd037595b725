//! `/console/recordings/{id}/...`: the audio of a recording, and its loudness for a picture.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tandem_causes::Cause;
use tandem_history::recordings::{ByteRange, passing_fault};
use tandem_id::RecordingId;
use tandem_runtime::app::App;

use super::{QueryError, Scope};
use crate::session::refused;

/// Default and maximum number of parts of a recording.
const POINTS: usize = 800;
const MAX_POINTS: usize = 4_000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/console/recordings/{id}/audio", get(audio))
        .route("/console/recordings/{id}/peaks", get(peaks))
}

#[derive(Deserialize)]
struct PeaksQuery {
    points: Option<usize>,
}

#[derive(Serialize)]
struct PeaksShown {
    channels: usize,
    seconds: f64,
    /// For each channel, the loudness of each part, 0 to 100.
    peaks: Vec<Vec<u8>>,
}

/// `GET /console/recordings/{id}/audio`: the WAV file, or a range of it.
async fn audio(State(app): State<App>, scope: Scope, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let id = match find(&app, &scope, &id).await {
        Ok(id) => id,
        Err(response) => return *response,
    };
    match app.recordings.wav(id, false).await {
        Ok(audio) => {
            let length = audio.len();
            let part = ByteRange::of(&headers, length);
            let (start, count) = part.span(length);
            let body = if count == 0 { Body::empty() } else { Body::from_stream(audio.read(start, count)) };
            part.response(length, "audio/x-wav").map(|()| body)
        }
        Err(error) => unreadable(&error),
    }
}

/// `GET /console/recordings/{id}/peaks`: the loudness of the recording.
async fn peaks(
    State(app): State<App>,
    scope: Scope,
    Path(id): Path<String>,
    Query(query): Query<PeaksQuery>,
) -> Response {
    let id = match find(&app, &scope, &id).await {
        Ok(id) => id,
        Err(response) => return *response,
    };
    let points = query.points.unwrap_or(POINTS).clamp(1, MAX_POINTS);
    match app.recordings.peaks(id, points).await {
        Ok(peaks) => {
            let shown = PeaksShown { channels: peaks.channels.len(), seconds: peaks.seconds, peaks: peaks.channels };
            Json(shown).into_response()
        }
        Err(error) => unreadable(&error),
    }
}

/// Finds a recording that the client sees.
async fn find(app: &App, scope: &Scope, id: &str) -> Result<RecordingId, Box<Response>> {
    let unknown = || Box::new(refused(StatusCode::NOT_FOUND, "no such recording"));
    let digits = id.strip_prefix("RE").unwrap_or(id).replace('-', "");
    let id = u128::from_str_radix(&digits, 16).map(RecordingId).map_err(|_| unknown())?;
    for account in scope.accounts(app, None) {
        match app.recordings.get(&account, id).await {
            Ok(Some(_)) => return Ok(id),
            Ok(None) => {}
            Err(failed) => return Err(Box::new(QueryError::from(failed).into_response())),
        }
    }
    Err(unknown())
}

fn unreadable(error: &std::io::Error) -> Response {
    if error.kind() == std::io::ErrorKind::NotFound {
        return refused(StatusCode::NOT_FOUND, "this recording has no audio file");
    }
    let away = match passing_fault(error) {
        Some(Cause::BucketAway) => Some("the bucket of the recordings does not answer; try again later"),
        Some(Cause::BusAway | Cause::NodeDied) => Some("the node with the recording does not answer; try again later"),
        _ => None,
    };
    if let Some(text) = away {
        tracing::warn!(%error, "a recording's audio cannot be read now");
        return refused(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    tracing::error!(%error, "a recording's audio cannot be read");
    refused(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read; the server's log has the reason")
}
