//! Recordings: deleting them.

use tandem_call::recording::{Recording, RecordingStatus};
use tandem_history::recordings::Recordings;

use crate::calls::DeleteError;

/// Deletes a recording that has ended, with its audio.
pub async fn delete(recordings: &Recordings, account: &str, recording: &Recording) -> Result<(), DeleteError> {
    if matches!(recording.status, RecordingStatus::InProgress | RecordingStatus::Paused) {
        return Err(DeleteError::Live);
    }
    recordings.delete(account, recording.id).await?.then_some(()).ok_or(DeleteError::Unknown)
}
