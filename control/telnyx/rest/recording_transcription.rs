//! `/v2/recording_transcriptions`: transcriptions of recordings.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use tandem_accounts::Account;
use tandem_call::transcription::{Transcript, TranscriptState};
use tandem_operations::recordings;
use tandem_runtime::app::App;
use tandem_runtime::transcripts::TRANSCRIPTS;
use tandem_store::resources::{self, Filter, Resource};
use tandem_store::{Page, StoreFailed};

use super::error::ApiError;
use super::resources::listing::{ListFields, Listing};
use super::{Caller, Segments};
use crate::{id, time};

/// Maximum number of transcriptions that the server reads for a list.
const MAX_TRANSCRIPTIONS: u32 = 1_000;

const LIST_FIELDS: ListFields =
    ListFields { filters: &[("recording_id", "/recording_id")], sorts: &[("-created_at", "/created_at")] };

/// `GET /v2/recording_transcriptions`: lists transcriptions.
pub(super) async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    let store = &app.calls.services().store;
    let rows =
        resources::list(store, TRANSCRIPTS, &account.name, &Filter::default(), &Page::first(MAX_TRANSCRIPTIONS)).await;
    let rows = rows.map_err(StoreFailed::from)?;
    listing.answer(rows.iter().filter(|row| is_shown(row)).map(resource).collect(), &LIST_FIELDS)
}

/// `GET /v2/recording_transcriptions/{id}`: one transcription.
pub(super) async fn get(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(transcription): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "data": resource(&one(&app, &account, &transcription).await?) })))
}

/// `DELETE /v2/recording_transcriptions/{id}`: deletes a transcription. Returns the deleted transcription.
pub(super) async fn delete(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(transcription): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let row = one(&app, &account, &transcription).await?;
    let deleted = recordings::delete_transcript(app.calls.services(), &account.name, row.id).await;
    if deleted.map_err(StoreFailed::from)? {
        Ok(Json(json!({ "data": resource(&row) })))
    } else {
        Err(ApiError::no_resource())
    }
}

async fn one(app: &App, account: &Account, transcription: &str) -> Result<Resource<Transcript>, ApiError> {
    let id = id::parse_uuid(transcription).ok_or_else(ApiError::no_resource)?;
    let row = resources::get(&app.calls.services().store, TRANSCRIPTS, &account.name, id).await;
    row.map_err(StoreFailed::from)?.filter(is_shown).ok_or_else(ApiError::no_resource)
}

/// Whether requests can see the transcription. Failed transcriptions are hidden, because Telnyx has no status for a
/// failed transcription.
fn is_shown(row: &Resource<Transcript>) -> bool {
    !matches!(row.details.state, TranscriptState::Failed(_))
}

fn resource(row: &Resource<Transcript>) -> Value {
    let facts = &row.details;
    let (status, text) = match &facts.state {
        TranscriptState::Completed(words) => ("completed", words.text()),
        TranscriptState::InProgress | TranscriptState::Failed(_) => ("in-progress", String::new()),
    };
    let length = facts.recording.duration.unwrap_or_default();
    json!({
        "id": id::uuid(facts.id.0),
        "record_type": "recording_transcription",
        "recording_id": id::uuid(facts.recording.id.0),
        "duration_millis": u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
        "status": status,
        "transcription_text": text,
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
    })
}
