//! The way of complete recordings into the bucket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use tandem_host::{clock, directory};
use tandem_id::RecordingId;
use tandem_store::{self as store, Store, StoreError};

use super::bucket::{Bucket, BucketError};
use super::files::{Place, RecordingFiles};
use super::mp3::Mp3s;

/// Maximum number of uploads at the same time.
const UPLOADS: usize = 4;
/// File extension of an empty file in the folder of waiting recordings: the recording is to be deleted in the bucket.
const DELETED: &str = "deleted";

/// An upload failed. It is repeated later: the recording waits on the disk.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("a recording's file cannot be read or moved: {0}")]
    File(#[from] io::Error),
    #[error("the place of a recording cannot be stored: {0}")]
    Store(#[from] StoreError),
}

/// The numbers of recordings that one pass has uploaded, and deleted in the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    pub uploaded: usize,
    pub deleted: usize,
}

impl RecordingFiles {
    /// Whether recordings are kept in a bucket.
    pub fn has_bucket(&self) -> bool {
        self.bucket.is_some()
    }

    /// Whether there are copies of recordings that are elsewhere too.
    pub fn has_copies(&self) -> bool {
        self.has_bucket() || self.cluster.is_on()
    }

    /// Creates the folders, and checks that files can be created there. With a bucket, writes a small object into it. The
    /// result is `Err` if the server cannot start, and `Ok(Some)` if the bucket does not answer now.
    pub async fn prepare(&self) -> Result<Option<BucketError>, String> {
        for place in self.places() {
            let folder = self.folder_of(*place);
            directory::make(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let folder = &self.folder;
        directory::try_write(folder)
            .map_err(|error| format!("cannot create a file in {}: {error}", folder.display()))?;
        match self.try_bucket().await {
            Ok(()) => Ok(None),
            Err(error) if error.is_refused => Err(error.to_string()),
            Err(error) => Ok(Some(error)),
        }
    }

    /// Writes a small object into the bucket, if there is one.
    pub async fn try_bucket(&self) -> Result<(), BucketError> {
        match &self.bucket {
            Some(bucket) => bucket.try_write().await,
            None => Ok(()),
        }
    }

    /// A recording is complete: its file waits for the upload. Does not wait for the disk.
    pub fn complete(&self, id: RecordingId) {
        if !self.has_bucket() {
            return;
        }
        let files = self.clone();
        tokio::spawn(async move {
            let (from, to) = (files.path(id), files.path_in(Place::Waiting, id));
            match tokio::fs::rename(from, to).await {
                Ok(()) => files.waiting.notify_one(),
                // A recording without audio has no file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The next start of the server moves the file.
                Err(error) => {
                    tracing::error!(%error, recording = %id, "a recording cannot be moved to the waiting ones");
                }
            }
        });
    }

    /// Moves the files of complete recordings of an earlier process to the waiting ones. Call this before the first call,
    /// and after the recovery, which completes the recordings of an earlier process. A file without a record stays.
    pub async fn recover(&self, store: &Store) -> Result<usize, UploadError> {
        let mut moved = 0;
        if !self.has_bucket() {
            return Ok(moved);
        }
        for id in names(&self.folder, "wav").await? {
            if store::recordings::find(store, id.0).await?.is_some_and(|row| row.ended_at.is_some()) {
                tokio::fs::rename(self.path(id), self.path_in(Place::Waiting, id)).await?;
                moved += 1;
            }
        }
        Ok(moved)
    }

    /// Waits until a recording waits for its upload, or is to be deleted in the bucket.
    pub async fn changed(&self) {
        self.waiting.notified().await;
    }

    /// Returns the number of recordings that are not in the bucket yet.
    pub async fn waiting(&self) -> io::Result<usize> {
        if !self.has_bucket() {
            return Ok(0);
        }
        Ok(names(&self.folder_of(Place::Waiting), "wav").await?.len())
    }

    /// Uploads the waiting recordings, and deletes those in the bucket that were deleted here. Ends at the first
    /// error of the bucket or of the database.
    pub async fn upload(&self, store: &Store) -> Result<Passed, UploadError> {
        let Some(bucket) = &self.bucket else { return Ok(Passed::default()) };
        let folder = self.folder_of(Place::Waiting);
        let (uploads, deletions) = (names(&folder, "wav").await?, names(&folder, DELETED).await?);
        let passed = Passed { uploaded: uploads.len(), deleted: deletions.len() };
        let uploads = stream::iter(uploads).map(|id| self.upload_one(bucket, store, id));
        let mut uploads = std::pin::pin!(uploads.buffer_unordered(UPLOADS));
        let mut unreadable = None;
        while let Some(result) = uploads.next().await {
            match result {
                // The other files can still be uploaded.
                Err(UploadError::File(error)) => unreadable = Some(error),
                other => other?,
            }
        }
        for id in deletions {
            bucket.delete(id).await?;
            // An upload that ran during the deletion has left a copy.
            self.remove_local(id).await?;
            remove(&self.marker(id)).await?;
        }
        unreadable.map_or(Ok(passed), |error| Err(error.into()))
    }

    async fn upload_one(&self, bucket: &Bucket, store: &Store, id: RecordingId) -> Result<(), UploadError> {
        let path = self.path_in(Place::Waiting, id);
        match bucket.put(id, &path).await {
            Ok(uploaded) => uploaded?,
            // The recording was deleted in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        store::recordings::set_path(store, id.0, &bucket.url_of(id)).await?;
        match tokio::fs::rename(&path, self.path_in(Place::Copy, id)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes the audio of a recording whose record is deleted. The object in the bucket is deleted by the next
    /// [`Self::upload`].
    pub(super) async fn remove(&self, id: RecordingId) -> io::Result<()> {
        self.tell_deleted(id);
        if self.has_bucket() {
            tokio::fs::write(self.marker(id), []).await?;
            self.waiting.notify_one();
        }
        self.remove_local(id).await
    }

    pub(super) async fn remove_local(&self, id: RecordingId) -> io::Result<()> {
        for place in self.places() {
            let wav = self.path_in(*place, id);
            remove(&wav).await?;
            Mp3s::remove(&wav).await?;
        }
        Ok(())
    }

    fn marker(&self, id: RecordingId) -> PathBuf {
        self.path_in(Place::Waiting, id).with_extension(DELETED)
    }

    /// Removes the copies that were not used for this time.
    pub async fn remove_old_copies(&self, unused: Duration) -> io::Result<usize> {
        let Some(since) = SystemTime::from(clock::time()).checked_sub(unused) else { return Ok(0) };
        let folder = self.folder_of(Place::Copy);
        let remove = move || {
            let mut removed = 0;
            let entries = match std::fs::read_dir(folder) {
                // Without a bucket, the first copy makes the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                // A file may be removed during the loop.
                let is_old = entry.metadata().and_then(|found| found.modified()).is_ok_and(|at| at <= since);
                if is_old && std::fs::remove_file(entry.path()).is_ok() {
                    removed += 1;
                }
            }
            Ok(removed)
        };
        tokio::task::spawn_blocking(remove).await.map_err(io::Error::other)?
    }
}

/// Returns the recordings that have a file with this extension in a folder, the oldest first.
async fn names(folder: &Path, extension: &'static str) -> io::Result<Vec<RecordingId>> {
    let folder = folder.to_owned();
    let read = move || {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = PathBuf::from(entry?.file_name());
            let name = path.file_stem().and_then(|name| name.to_str());
            if path.extension().is_some_and(|own| own == extension) {
                found.extend(name.and_then(|name| u128::from_str_radix(name, 16).ok()).map(RecordingId));
            }
        }
        found.sort();
        Ok(found)
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

async fn remove(path: &Path) -> io::Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use tandem_media::WavCoding;
    use tempfile::TempDir;

    use super::*;

    const ID: RecordingId = RecordingId(0x1af5_aabe);

    async fn files() -> (TempDir, RecordingFiles, Store) {
        let folder = TempDir::new().unwrap();
        let store = Store::open(&format!("sqlite:{}", folder.path().join("t.db").display())).await.unwrap();
        let mut files = RecordingFiles::in_folder(folder.path().join("recordings"), WavCoding::Pcm, None);
        files.bucket = Some(Arc::new(Bucket::of(Arc::new(InMemory::new()))));
        assert!(files.prepare().await.unwrap().is_none());
        (folder, files, store)
    }

    /// Returns the octets of a recording, wherever it is.
    async fn octets(files: &RecordingFiles, id: RecordingId) -> io::Result<Vec<u8>> {
        let audio = files.audio(id, false).await?;
        let length = audio.len();
        let blocks: Vec<_> = audio.read(0, length).map(Result::unwrap).collect().await;
        Ok(blocks.concat())
    }

    /// The content is longer than two parts of an upload, and is no multiple of a part.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_recording_has_the_same_octets_before_and_after_its_way_into_the_bucket_and_back() {
        for length in [10, 20_000_001] {
            let (_folder, files, store) = files().await;
            let content: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
            std::fs::write(files.path(ID), &content).unwrap();
            files.complete(ID);
            files.changed().await;
            assert_eq!(files.waiting().await.unwrap(), 1);
            assert_eq!(octets(&files, ID).await.unwrap(), content);
            assert_eq!(files.upload(&store).await.unwrap(), Passed { uploaded: 1, deleted: 0 });
            assert_eq!(files.remove_old_copies(Duration::from_secs(60)).await.unwrap(), 0);
            assert_eq!(files.remove_old_copies(Duration::ZERO).await.unwrap(), 1);
            // The file comes from the bucket, and is a copy again.
            assert_eq!(octets(&files, ID).await.unwrap(), content);
            assert!(files.path_in(Place::Copy, ID).exists());
            files.remove(ID).await.unwrap();
            assert_eq!(files.upload(&store).await.unwrap(), Passed { uploaded: 0, deleted: 1 });
            assert_eq!(octets(&files, ID).await.unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(files.upload(&store).await.unwrap(), Passed::default());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_recording_that_is_deleted_while_it_waits_is_not_uploaded() {
        let (_folder, files, store) = files().await;
        std::fs::write(files.path_in(Place::Waiting, ID), "audio").unwrap();
        files.remove(ID).await.unwrap();
        assert_eq!(files.upload(&store).await.unwrap(), Passed { uploaded: 0, deleted: 1 });
        assert_eq!(octets(&files, ID).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_cannot_be_read_does_not_hold_up_the_others() {
        let (_folder, files, store) = files().await;
        // A directory opens, and cannot be read.
        std::fs::create_dir(files.path_in(Place::Waiting, RecordingId(1))).unwrap();
        std::fs::write(files.path_in(Place::Waiting, ID), "audio").unwrap();
        assert!(matches!(files.upload(&store).await, Err(UploadError::File(_))));
        assert_eq!(files.waiting().await.unwrap(), 1);
        assert_eq!(octets(&files, ID).await.unwrap(), b"audio");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_without_a_record_stays_where_it_is_after_a_crash() {
        let (_folder, files, store) = files().await;
        std::fs::write(files.path(ID), "audio").unwrap();
        assert_eq!(files.recover(&store).await.unwrap(), 0);
        assert!(files.path(ID).exists());
    }
}
