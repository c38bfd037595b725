//! Access to recordings and their audio for REST handlers.

mod bucket;
mod files;
mod mp3;
mod owner;
mod range;
mod uploads;

use std::io;
use std::sync::Arc;

use tandem_call::recording::{Recording, RecordingChannels, RecordingFormat};
use tandem_causes::cause::Cause;
use tandem_id::{AccountName, RecordingId};
use tandem_media::Peaks;
use tandem_store::{self as store, Store, StoreFailed};

use crate::query::{Page, RecordingFilter};
use crate::records;
use mp3::Mp3s;
use owner::OwnerAway;

pub use bucket::BucketError;
pub use files::{RecordingAudio, RecordingFiles};
pub use range::ByteRange;
pub use uploads::{Passed, UploadError};

/// The size of the header of a WAV file, in octets.
const WAV_HEAD: u64 = 44;
/// The samples of a recording in a second.
const RATE: u64 = 8_000;

/// Returns the size of a complete recording's file, in the format that the application asked for, in octets. `None` if
/// the recording has no duration yet. The size is that of a file of 16-bit samples, which is the default of
/// `recordings.format`.
pub fn file_octets(recording: &Recording) -> Option<u64> {
    let samples = u64::try_from(recording.duration?.as_micros()).unwrap_or(u64::MAX).saturating_mul(RATE) / 1_000_000;
    let channels = if recording.spec.channels == RecordingChannels::Dual { 2 } else { 1 };
    Some(match recording.spec.format {
        RecordingFormat::Mp3 => tandem_media::mp3_octets(channels, samples),
        RecordingFormat::Wav => WAV_HEAD + samples.saturating_mul(2 * u64::from(channels)),
    })
}

/// Returns the cause of an error of [`Recordings::mp3`] or [`Recordings::wav`], if the recording exists and cannot be read
/// now: the disk has no space for a new file, or accepts no new file, or the bucket or the node with the file does not
/// answer.
pub fn passing_fault(error: &io::Error) -> Option<Cause> {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    if let Some(inner) = error.get_ref() {
        if inner.is::<BucketError>() {
            return Some(Cause::BucketAway);
        }
        if let Some(away) = inner.downcast_ref::<OwnerAway>() {
            return Some(away.cause());
        }
    }
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem).then_some(Cause::DiskFull)
}

/// All recordings of the server. This type is cheap to clone.
#[derive(Clone)]
pub struct Recordings {
    store: Store,
    files: RecordingFiles,
    mp3s: Arc<Mp3s>,
}

impl Recordings {
    /// Creates the access to the recordings in this database and in this folder.
    pub fn new(store: Store, files: RecordingFiles) -> Self {
        Self { store, files, mp3s: Arc::default() }
    }

    /// Returns a recording of this account.
    pub async fn get(&self, account: &AccountName, id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        let row = store::recordings::get(&self.store, account, id.0).await?;
        Ok(row.as_ref().and_then(records::recording_of))
    }

    /// Returns a recording of any account by its id. The id in the URL is the only secret.
    pub async fn get_public(&self, id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        let row = store::recordings::find(&self.store, id.0).await?;
        Ok(row.as_ref().and_then(records::recording_of))
    }

    /// Returns recordings of this account, newest recording first. Returns at most `page.limit + 1` recordings.
    pub async fn list(
        &self,
        account: &AccountName,
        filter: &RecordingFilter,
        page: Page,
    ) -> Result<Vec<Recording>, StoreFailed> {
        let store = &self.store;
        let columns = filter.columns();
        let after = match page.after {
            Some(id) => store::recordings::get(store, account, id).await?.map(|row| row.cursor()),
            None => None,
        };
        let rows = store::recordings::list(store, std::slice::from_ref(account), &columns, &page.after(after)).await?;
        Ok(rows.iter().filter_map(records::recording_of).collect())
    }

    /// Returns the number of this account's recordings that match the filter.
    pub async fn count(&self, account: &AccountName, filter: &RecordingFilter) -> Result<usize, StoreFailed> {
        let counted = store::recordings::count(&self.store, account, &filter.columns()).await;
        Ok(usize::try_from(counted?).unwrap_or(usize::MAX))
    }

    /// Deletes a recording and its audio. Returns `false` if there is no such recording.
    pub async fn delete(&self, account: &AccountName, id: RecordingId) -> Result<bool, StoreFailed> {
        let found = store::recordings::delete(&self.store, account, id.0).await?;
        if found && let Err(error) = self.files.remove(id).await {
            tracing::warn!(%error, recording = %id, "recording's file not removed");
        }
        Ok(found)
    }

    /// Opens the audio as WAV (8 kHz). The audio of an unfinished recording is not complete. `mono` mixes the channels
    /// into one channel. Returns the error `NotFound` if the file does not exist.
    pub async fn wav(&self, id: RecordingId, mono: bool) -> io::Result<RecordingAudio> {
        self.files.audio(id, mono).await
    }

    /// Reads the loudness of a recording in `points` parts of equal length. The result for a long recording is read from
    /// samples of each part. Returns the error `NotFound` if the file does not exist.
    pub async fn peaks(&self, id: RecordingId, points: usize) -> io::Result<Peaks> {
        self.files.peaks(self.files.find(id).await?, points).await
    }

    /// Opens the audio as MP3. The first request encodes the file, which takes some time and space on the disk
    /// ([`passing_fault`]). Returns the error `NotFound` if the recording is not complete.
    pub async fn mp3(&self, recording: &Recording) -> io::Result<RecordingAudio> {
        if !recording.has_audio() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = &self.files;
        let wav = files.find(recording.id).await?;
        let mp3 = files.mp3_of(&wav, recording.id);
        let mp3 = self.mp3s.of(recording.id, &wav, mp3, files.key.as_ref()).await?;
        files.open(mp3, false).await
    }

    /// Whether clients without credentials may receive the audio of a recording. Such a client must know the id of the
    /// recording.
    pub fn are_open(&self) -> bool {
        self.files.open
    }

    /// Returns the number of MP3 files that this process has encoded.
    pub fn mp3s_made(&self) -> u64 {
        self.mp3s.made()
    }
}
