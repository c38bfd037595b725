//! Deletes recordings, and transcriptions of recordings.

use tandem_call::recording::{Recording, RecordingStatus};
use tandem_history::recordings::Recordings;
use tandem_id::AccountName;
use tandem_runtime::services::Services;
use tandem_runtime::transcripts::TRANSCRIPTS;
use tandem_store::StoreError;
use tandem_store::resources;

use crate::calls::DeleteError;

/// Deletes an ended recording and its audio.
pub async fn delete(recordings: &Recordings, account: &AccountName, recording: &Recording) -> Result<(), DeleteError> {
    if matches!(recording.status, RecordingStatus::InProgress | RecordingStatus::Paused) {
        return Err(DeleteError::Live);
    }
    recordings.delete(account, recording.id).await?.then_some(()).ok_or(DeleteError::Unknown)
}

/// Deletes a transcription. Returns `false` if the account has no transcription with this id.
pub async fn delete_transcript(services: &Services, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    resources::delete(&services.store, TRANSCRIPTS, account, id).await
}
