//! Recordings and their audio, as REST handlers ask for them.

use std::path::PathBuf;
use std::sync::Arc;

use tandem_call::id::RecordingId;
use tandem_call::recording::Recording;

use crate::query::{Page, RecordingFilter, StoreFailed};
use crate::records;
use crate::services::Services;
use crate::store;

/// Every recording of the server. Cheap to clone.
#[derive(Clone)]
pub struct Recordings(Arc<Services>);

impl Recordings {
    /// Those of these services.
    pub fn new(services: Arc<Services>) -> Self {
        Self(services)
    }

    /// A recording of this account.
    pub async fn get(&self, account: &str, id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        self.0.store.flush().await?;
        let row = store::recordings::get(&self.0.store, account, id.0).await?;
        Ok(row.as_ref().and_then(records::recording_of))
    }

    /// A recording by its id alone: its URL is the secret.
    pub async fn get_public(&self, id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        self.0.store.flush().await?;
        let row = store::recordings::find(&self.0.store, id.0).await?;
        Ok(row.as_ref().and_then(records::recording_of))
    }

    /// Recordings of this account, newest first; at most `page.limit + 1`.
    pub async fn list(
        &self,
        account: &str,
        filter: &RecordingFilter,
        page: Page,
    ) -> Result<Vec<Recording>, StoreFailed> {
        let store = &self.0.store;
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
        let counted = store::recordings::count(&self.0.store, account, &filter.columns()).await;
        Ok(usize::try_from(counted?).unwrap_or(usize::MAX))
    }

    /// Forgets a recording and its audio. `false` if there is none.
    pub async fn delete(&self, account: &str, id: RecordingId) -> Result<bool, StoreFailed> {
        self.0.store.flush().await?;
        let found = store::recordings::delete(&self.0.store, account, id.0).await?;
        if found && let Err(error) = tokio::fs::remove_file(self.path(id)).await {
            tracing::warn!(%error, recording = %id, "recording's file not removed");
        }
        Ok(found)
    }

    /// The file with its audio (16-bit PCM WAV, 8 kHz), complete once the recording is completed.
    pub fn path(&self, id: RecordingId) -> PathBuf {
        self.0.recording_path(id)
    }

    /// Its audio as an MPEG layer III file.
    pub async fn mp3(&self, id: RecordingId) -> std::io::Result<bytes::Bytes> {
        let wav = tokio::fs::read(self.path(id)).await?;
        let encode = move || {
            let (samples, channels) = wav_samples(&wav);
            tandem_media::encode_mp3(&samples, channels)
        };
        tokio::task::spawn_blocking(encode).await.map(bytes::Bytes::from).map_err(std::io::Error::other)
    }
}

/// Samples and channel count of a WAV file that we wrote: a 44-octet header, then 16-bit PCM.
fn wav_samples(wav: &[u8]) -> (Vec<i16>, u16) {
    let channels = wav.get(22).copied().unwrap_or(1).into();
    let data = wav.get(44..).unwrap_or_default();
    let sample = |pair: &[u8]| match pair {
        [low, high] => i16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    (data.chunks_exact(2).map(sample).collect(), channels)
}
