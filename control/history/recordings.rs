//! Recordings and their audio, as REST handlers ask for them.

mod files;
mod mp3;

use std::io;
use std::sync::Arc;

use tandem_call::id::RecordingId;
use tandem_call::recording::{Recording, RecordingStatus};
use tandem_store::{self as store, Store, StoreFailed};

use crate::query::{Page, RecordingFilter};
use crate::records;
use mp3::Mp3s;

pub use files::{RecordingAudio, RecordingFiles};

/// Every recording of the server. Cheap to clone.
#[derive(Clone)]
pub struct Recordings {
    store: Store,
    files: RecordingFiles,
    mp3s: Arc<Mp3s>,
}

impl Recordings {
    /// The recordings of this database and this folder.
    pub fn new(store: Store, files: RecordingFiles) -> Self {
        Self { store, files, mp3s: Arc::default() }
    }

    /// A recording of this account.
    pub async fn get(&self, account: &str, id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        self.store.flush().await?;
        let row = store::recordings::get(&self.store, account, id.0).await?;
        Ok(row.as_ref().and_then(records::recording_of))
    }

    /// A recording by its id alone: its URL is the secret.
    pub async fn get_public(&self, id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        self.store.flush().await?;
        let row = store::recordings::find(&self.store, id.0).await?;
        Ok(row.as_ref().and_then(records::recording_of))
    }

    /// Recordings of this account, newest first; at most `page.limit + 1`.
    pub async fn list(
        &self,
        account: &str,
        filter: &RecordingFilter,
        page: Page,
    ) -> Result<Vec<Recording>, StoreFailed> {
        let store = &self.store;
        store.flush().await?;
        let after = match page.after {
            Some(id) => store::recordings::get(store, account, id).await?.map(|row| row.cursor()),
            None => None,
        };
        let columns = filter.columns();
        let rows = store::recordings::list(store, account, &columns, &page.after(after)).await?;
        Ok(rows.iter().filter_map(records::recording_of).collect())
    }

    /// How many recordings of this account there are.
    pub async fn count(&self, account: &str, filter: &RecordingFilter) -> Result<usize, StoreFailed> {
        let counted = store::recordings::count(&self.store, account, &filter.columns()).await;
        Ok(usize::try_from(counted?).unwrap_or(usize::MAX))
    }

    /// Forgets a recording and its audio. `false` if there is none.
    pub async fn delete(&self, account: &str, id: RecordingId) -> Result<bool, StoreFailed> {
        self.store.flush().await?;
        let found = store::recordings::delete(&self.store, account, id.0).await?;
        if found {
            let wav = self.files.path(id);
            for removed in [tokio::fs::remove_file(&wav).await, Mp3s::remove(&wav).await] {
                if let Err(error) = removed {
                    tracing::warn!(%error, recording = %id, "recording's file not removed");
                }
            }
        }
        Ok(found)
    }

    /// Its audio as WAV (8 kHz), whole once the recording is completed; `mono`: with its channels mixed into one. `NotFound`
    /// when its file is gone.
    pub async fn wav(&self, id: RecordingId, mono: bool) -> io::Result<RecordingAudio> {
        let files = &self.files;
        files.open(files.path(id), mono).await
    }

    /// Its audio as MPEG layer III, which is made when it is first asked for: that takes a while. `NotFound` for a recording
    /// that is not completed.
    pub async fn mp3(&self, recording: &Recording) -> io::Result<RecordingAudio> {
        if recording.status != RecordingStatus::Completed {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = &self.files;
        let mp3 = self.mp3s.of(recording.id, &files.path(recording.id), files.key.as_ref()).await?;
        files.open(mp3, false).await
    }

    /// Whether who knows a recording's id may hear it without credentials.
    pub fn are_open(&self) -> bool {
        self.files.open
    }

    /// How many were made into MP3s.
    pub fn mp3s_made(&self) -> u64 {
        self.mp3s.made()
    }
}
