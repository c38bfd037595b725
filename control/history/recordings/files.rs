//! Where recordings are, in what form, and how their files are read, encrypted at rest or not.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tandem_call::id::RecordingId;
use tandem_media::{RecordedFile, RecordingKey, WavCoding};
use tandem_settings::RecordingsConfig;

/// How much of a file is read at once, octets.
const BLOCK: u64 = 64 * 1024;

/// The folder of recordings, and what new ones are like. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RecordingFiles {
    /// Where they are.
    pub folder: PathBuf,
    /// What their samples are.
    pub coding: WavCoding,
    /// Encrypts new ones, and opens those that are encrypted.
    pub key: Option<RecordingKey>,
    /// Who knows a recording's id needs no credentials to hear it.
    pub open: bool,
}

impl RecordingFiles {
    /// As configured. An error is what is wrong with the key.
    pub fn new(config: &RecordingsConfig) -> Result<Self, String> {
        let folder = config.url.strip_prefix("file:").unwrap_or(&config.url).into();
        Ok(Self { folder, coding: config.format, key: config.key()?, open: !config.require_credentials })
    }

    /// The file of a recording: WAV, or that encrypted.
    pub fn path(&self, id: RecordingId) -> PathBuf {
        self.folder.join(format!("{id}.wav"))
    }

    /// Opens a file of a recording. `mono`: with its channels mixed into one.
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

/// A recording's audio, being given out: the octets of a WAV or MP3 file.
pub struct RecordingAudio {
    file: RecordedFile,
}

impl RecordingAudio {
    /// How many octets there are.
    #[expect(clippy::len_without_is_empty, reason = "of a file nobody asks that")]
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// So many octets from a place on, a block at a time.
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
