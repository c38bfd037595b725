//! The location, the format and the optional encryption of recording files, and the functions that read the files.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tandem_id::RecordingId;
use tandem_media::{Peaks, RecordedFile, RecordingKey, WavCoding};
use tandem_settings::RecordingsConfig;

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
}

impl RecordingFiles {
    /// Creates the value from the configuration. The error describes the fault of the key.
    pub fn new(config: &RecordingsConfig) -> Result<Self, String> {
        let folder = config.url.strip_prefix("file:").unwrap_or(&config.url).into();
        Ok(Self { folder, coding: config.format, key: config.key()?, open: !config.require_credentials })
    }

    /// Returns the path of a recording's WAV file. The file may be encrypted.
    pub fn path(&self, id: RecordingId) -> PathBuf {
        self.folder.join(format!("{id}.wav"))
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
