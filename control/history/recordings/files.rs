//! The location, the format and the optional encryption of recording files, and the functions that read the files.
//!
//! Without a bucket, all files are in one folder. With a bucket, a file moves on:
//!
//! ```text
//!  {id}.wav ──end of the recording──► waiting/{id}.wav ──uploaded──► copies/{id}.wav ──not used for hours──► removed
//!                                                                         ▲
//!                                             a request ──► fetched from the bucket
//! ```
//!
//! So the folders say what is still to do, and a restart needs no other record of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tandem_cluster::Cluster;
use tandem_host::clock;
use tandem_id::RecordingId;
use tandem_media::{Peaks, RecordedFile, RecordingKey, WavCoding};
use tandem_settings::RecordingsConfig;
use tokio::sync::Notify;

use super::bucket::Bucket;

/// Maximum number of octets in one read from a file.
const BLOCK: u64 = 64 * 1024;

/// The folder of recordings, and the format of new recordings. This type is cheap to clone.
#[derive(Clone, Debug)]
pub struct RecordingFiles {
    pub folder: PathBuf,
    /// Sample format of new recordings.
    pub coding: WavCoding,
    /// Key that encrypts new recordings and decrypts encrypted recordings. `None` means no encryption.
    pub key: Option<RecordingKey>,
    /// Whether clients without credentials may receive the audio of a recording. Such a client must know the id of the
    /// recording.
    pub open: bool,
    /// The bucket, if recordings are kept in a bucket.
    pub(super) bucket: Option<Arc<Bucket>>,
    /// Wakes the uploads.
    pub(super) waiting: Arc<Notify>,
    /// The nodes that may have other recordings.
    pub(super) cluster: Cluster,
}

/// Where a file is, if there is a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The folder of the recordings that run. Without a bucket, it has all recordings.
    Running,
    /// Complete recordings that are not in the bucket.
    Waiting,
    /// Copies of recordings that are in the bucket, and their MP3 files.
    Copy,
}

impl RecordingFiles {
    /// Creates the value from the configuration. With a bucket, the files are in `data_dir` before they are uploaded. The
    /// error names the setting at fault and its fault.
    pub fn new(config: &RecordingsConfig, data_dir: &Path) -> Result<Self, String> {
        let bucket = Bucket::new(config).map_err(|error| format!("recordings.url: {error}"))?;
        Ok(Self {
            folder: config.folder(data_dir),
            coding: config.format,
            key: config.key().map_err(|error| format!("recordings.encryption_key: {error}"))?,
            open: !config.require_credentials,
            bucket: bucket.map(Arc::new),
            waiting: Arc::default(),
            cluster: Cluster::alone(),
        })
    }

    /// Creates the value for recordings that stay in a folder.
    pub fn in_folder(folder: PathBuf, coding: WavCoding, key: Option<RecordingKey>) -> Self {
        Self { folder, coding, key, open: true, bucket: None, waiting: Arc::default(), cluster: Cluster::alone() }
    }

    /// Returns the path of the WAV file of a recording that runs. The file may be encrypted.
    pub fn path(&self, id: RecordingId) -> PathBuf {
        self.path_in(Place::Running, id)
    }

    pub(super) fn path_in(&self, place: Place, id: RecordingId) -> PathBuf {
        self.folder_of(place).join(format!("{id}.wav"))
    }

    /// The places that this server uses, in the order in which a file moves.
    pub(super) fn places(&self) -> &'static [Place] {
        match &self.bucket {
            Some(_) => &[Place::Running, Place::Waiting, Place::Copy],
            None if self.cluster.is_on() => &[Place::Running, Place::Copy],
            None => &[Place::Running],
        }
    }

    pub(super) fn folder_of(&self, place: Place) -> PathBuf {
        match place {
            Place::Running => self.folder.clone(),
            Place::Waiting => self.folder.join("waiting"),
            Place::Copy => self.folder.join("copies"),
        }
    }

    /// Returns the path of a recording's WAV file. A recording that is only in the bucket, or on the disk of another node,
    /// is fetched. The error is `NotFound` if there is no such file; a [`super::BucketError`] is inside of an error of
    /// another kind.
    pub(super) async fn find(&self, id: RecordingId) -> io::Result<PathBuf> {
        let holders = self.holders(id);
        if self.bucket.is_none() && holders.is_empty() {
            return Ok(self.path(id));
        }
        // A file moves in this order, so a file that moves during the search is found. A copy of a recording that is not in
        // a bucket may be incomplete.
        let is_kept = |place: &&Place| **place != Place::Copy || self.bucket.is_some();
        for place in self.places().iter().filter(is_kept) {
            let path = self.path_in(*place, id);
            if tokio::fs::try_exists(&path).await? {
                if *place == Place::Copy {
                    touch(&path).await;
                }
                return Ok(path);
            }
        }
        let path = self.path_in(Place::Copy, id);
        let part = path.with_extension(format!("{:016x}.part", rand::random::<u64>()));
        let is_there = self.fetch(&holders, id, &part, &path).await;
        let fetched = match (is_there, &self.bucket) {
            (Ok(true), _) if !tokio::fs::try_exists(&part).await? => return Ok(path),
            (Ok(true), _) => Ok(()),
            (Ok(false), Some(bucket)) => bucket.fetch(id, &part).await,
            (Ok(false), None) => Err(io::ErrorKind::NotFound.into()),
            (Err(error), _) => Err(error),
        };
        let fetched = match fetched {
            Ok(()) => tokio::fs::rename(&part, &path).await,
            Err(error) => Err(error),
        };
        if fetched.is_err() {
            // The file may not exist, so an error is ignored.
            let _ = tokio::fs::remove_file(&part).await;
            // An earlier copy is better than no audio, if its node is away.
            if tokio::fs::try_exists(&path).await? {
                return Ok(path);
            }
        }
        fetched.map(|()| path)
    }

    /// Returns the path of the MP3 file that belongs to a WAV file. A file that waits for the bucket has its MP3 file
    /// among the copies.
    pub(super) fn mp3_of(&self, wav: &Path, id: RecordingId) -> PathBuf {
        let is_copy = self.bucket.is_some() || wav.parent() != Some(self.folder.as_path());
        let place = if is_copy { self.path_in(Place::Copy, id) } else { wav.to_owned() };
        place.with_extension("mp3")
    }

    /// Opens the audio of a recording. `mono` mixes the channels into one channel. A recording that is only in the bucket
    /// is fetched. The error is `NotFound` if there is no such file; a [`super::BucketError`] is inside of an error of
    /// another kind.
    pub async fn audio(&self, id: RecordingId, mono: bool) -> io::Result<RecordingAudio> {
        self.open(self.find(id).await?, mono).await
    }

    /// Opens a file of a recording. `mono` mixes the channels into one channel.
    pub async fn open(&self, path: PathBuf, mono: bool) -> io::Result<RecordingAudio> {
        let key = self.key.clone();
        blocking(move || {
            let file = RecordedFile::open(&path, key.as_ref())?;
            let file = if mono { file.mono()? } else { file };
            Ok(RecordingAudio { file })
        })
        .await
    }
}

impl RecordingFiles {
    /// Reads the loudness of a file.
    pub(super) async fn peaks(&self, path: PathBuf, points: usize) -> io::Result<Peaks> {
        let key = self.key.clone();
        blocking(move || RecordedFile::open(&path, key.as_ref())?.peaks(points)).await
    }
}

/// The audio of an opened recording: the octets of a WAV or MP3 file.
pub struct RecordingAudio {
    file: RecordedFile,
}

impl RecordingAudio {
    /// Returns the length of the audio in octets.
    #[expect(clippy::len_without_is_empty, reason = "an empty file needs no special case")]
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Streams `count` octets from the position `from`, in blocks of at most 64 KiB.
    pub fn read(self, from: u64, count: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold((self.file, from, count), |(mut file, at, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let (file, block) = blocking(move || {
                let mut block = vec![0; usize::try_from(left.min(BLOCK)).unwrap_or_default()];
                let read = file.read_at(at, &mut block)?;
                block.truncate(read);
                Ok((file, block))
            })
            .await?;
            let read = block.len() as u64;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Some((Bytes::from(block), (file, at + read, left.saturating_sub(read)))))
        })
    }
}

/// Notes that a copy was used now. It is removed when it has not been used for some time.
async fn touch(path: &Path) {
    let path = path.to_owned();
    let touched = blocking(move || std::fs::File::open(path)?.set_modified(clock::time().into())).await;
    if let Err(error) = touched {
        tracing::debug!(%error, "the time of a recording's copy was not set");
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
