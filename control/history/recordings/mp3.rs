//! Recordings as MP3. The first request encodes the MP3 file, which is then kept next to the WAV file.
//!
//! ```text
//!  request ──► there? ──yes──────────────────────────────► {id}.mp3
//!                └─no─► wait for the lane ──► encode to {id}.mp3.part ──► rename
//! ```

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_id::RecordingId;
use tandem_media::{EncryptedWriter, RecordedFile, RecordingKey, unfinished};
use tokio::sync::Mutex;

/// File extension of an incomplete MP3 file. A killed process can leave such a file.
const UNFINISHED: &str = "mp3.part";

/// Encodes recordings in two lanes. Each lane encodes one recording at a time. A recording always uses the same lane,
/// so two lanes never encode one recording at the same time. Only HTTP requests wait for a lane. If a client abandons a
/// request, the request leaves the queue. If the recording of this request is already being encoded, the MP3 file is
/// completed and kept.
#[derive(Default)]
pub(super) struct Mp3s {
    locks: [Arc<Mutex<()>>; 2],
    made: Arc<AtomicU64>,
}

impl Mp3s {
    /// Returns the path `mp3` of the MP3 file. Encodes the recording's file `wav` if the MP3 file does not exist.
    pub(super) async fn of(
        &self,
        id: RecordingId,
        wav: &Path,
        mp3: PathBuf,
        key: Option<&RecordingKey>,
    ) -> io::Result<PathBuf> {
        if tokio::fs::try_exists(&mp3).await? {
            return Ok(mp3);
        }
        let [even, odd] = &self.locks;
        let lane = Arc::clone(if id.0.is_multiple_of(2) { even } else { odd }).lock_owned().await;
        let (wav, key, made) = (wav.to_owned(), key.cloned(), Arc::clone(&self.made));
        let make = move || {
            let _lane = lane;
            // An earlier request in this lane may already have encoded the file.
            if !mp3.try_exists()? {
                make(&wav, &mp3, key.as_ref())?;
                made.fetch_add(1, Ordering::Relaxed);
            }
            Ok(mp3)
        };
        tokio::task::spawn_blocking(make).await.map_err(io::Error::other)?
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Removes the MP3 file of this recording, and the unfinished files of a killed process. Call this function after
    /// the WAV file is removed. If this recording is still being encoded, the MP3 file is removed at the end of the
    /// encoding.
    pub(super) async fn remove(wav: &Path) -> io::Result<()> {
        for left in [wav.with_extension(UNFINISHED), wav.with_extension("mp3"), unfinished(wav)] {
            match tokio::fs::remove_file(left).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn make(wav: &Path, mp3: &Path, key: Option<&RecordingKey>) -> io::Result<()> {
    let part = mp3.with_extension(UNFINISHED);
    let made = encode(wav, &part, key).and_then(|()| fs::rename(&part, mp3));
    if made.is_err() {
        // The file may not exist, so an error is ignored.
        let _ = fs::remove_file(&part);
        return made;
    }
    // The recording may have been uploaded during the encoding. Its file is then beside the MP3 file.
    if !wav.try_exists()? && !mp3.with_extension("wav").try_exists()? {
        // The recording was deleted during the encoding. A deletion removes the WAV file first. So either the deletion
        // or this check finds the MP3 file.
        fs::remove_file(mp3)?;
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

/// Encodes a recording to MP3. If there is a key, the MP3 file is encrypted.
fn encode(wav: &Path, to: &Path, key: Option<&RecordingKey>) -> io::Result<()> {
    let recording = RecordedFile::open(wav, key)?;
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    match key {
        None => tandem_media::encode_mp3(recording, &out)?,
        Some(key) => {
            let mut encrypted = EncryptedWriter::new(&out, key, &rand::random())?;
            tandem_media::encode_mp3(recording, &mut encrypted)?;
            encrypted.finish()?;
        }
    }
    // After this call, the file is complete on disk before it receives its final name, even if the power fails.
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use tempfile::TempDir;

    const ID: RecordingId = RecordingId(0x1af5_aabe);

    /// Returns a mono WAV file with a sawtooth signal. `seconds` is the duration.
    fn recording(seconds: u32) -> Vec<u8> {
        let data = seconds * 16_000;
        let mut file = b"RIFF".to_vec();
        file.extend((data + 36).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        file.extend(8_000_u32.to_le_bytes());
        file.extend(16_000_u32.to_le_bytes());
        file.extend(b"\x02\0\x10\0data");
        file.extend(data.to_le_bytes());
        file.extend((0..data / 2).flat_map(|at| (((at % 40) as i16 - 20) * 500).to_le_bytes()));
        file
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_requests_encode_a_recording_once() {
        let folder = TempDir::new().unwrap();
        let wav = folder.path().join(format!("{ID}.wav"));
        fs::write(&wav, recording(20)).unwrap();
        let mp3s = Arc::new(Mp3s::default());
        let ask = || {
            let (mp3s, wav) = (Arc::clone(&mp3s), wav.clone());
            tokio::spawn(async move { mp3s.of(ID, &wav, wav.with_extension("mp3"), None).await.unwrap() })
        };
        let mp3 = wav.with_extension("mp3");
        for request in (0..16).map(|_| ask()).collect::<Vec<_>>() {
            assert_eq!(request.await.unwrap(), mp3);
        }
        assert_eq!(mp3s.made(), 1);
        assert_eq!(names(&folder), [format!("{ID}.mp3"), format!("{ID}.wav")]);
        assert!(tandem_media::decode(&fs::read(&mp3).unwrap(), None).unwrap().samples().len() > 19 * 8_000);
        // A restarted server finds the existing file.
        let restarted = Mp3s::default();
        assert_eq!(
            (restarted.of(ID, &wav, wav.with_extension("mp3"), None).await.unwrap(), restarted.made()),
            (mp3, 0)
        );
    }

    #[tokio::test]
    async fn an_incomplete_mp3_of_an_earlier_process_is_replaced() {
        let folder = TempDir::new().unwrap();
        let wav = folder.path().join("1.wav");
        fs::write(&wav, recording(1)).unwrap();
        fs::write(wav.with_extension("mp3.part"), [0; 100_000]).unwrap();
        let mp3 = Mp3s::default().of(ID, &wav, wav.with_extension("mp3"), None).await.unwrap();
        assert_eq!(names(&folder), ["1.mp3", "1.wav"]);
        assert!(fs::metadata(mp3).unwrap().len() < 10_000);
        fs::write(wav.with_extension("mp3.part"), [0; 100_000]).unwrap();
        fs::remove_file(&wav).unwrap();
        Mp3s::remove(&wav).await.unwrap();
        assert_eq!(names(&folder), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_failed_encoding_leaves_no_file() {
        let folder = TempDir::new().unwrap();
        let wav = folder.path().join("1.wav");
        let mp3s = Mp3s::default();
        assert_eq!(
            mp3s.of(ID, &wav, wav.with_extension("mp3"), None).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        fs::write(&wav, [0; 1_000]).unwrap();
        assert_eq!(
            mp3s.of(ID, &wav, wav.with_extension("mp3"), None).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!((names(&folder), mp3s.made()), (vec!["1.wav".to_owned()], 0));
    }

    #[tokio::test]
    async fn an_encoding_on_a_full_disk_fails_as_a_fault_of_the_disk() {
        let folder = TempDir::new().unwrap();
        let wav = folder.path().join("1.wav");
        fs::write(&wav, recording(1)).unwrap();
        std::os::unix::fs::symlink("/dev/full", wav.with_extension(UNFINISHED)).unwrap();
        let error = Mp3s::default().of(ID, &wav, wav.with_extension("mp3"), None).await.unwrap_err();
        assert_eq!(super::super::passing_fault(&error), Some(tandem_causes::cause::Cause::DiskFull), "{error}");
        assert_eq!(names(&folder), ["1.wav"]);
        assert_eq!(super::super::passing_fault(&io::ErrorKind::NotFound.into()), None);
    }

    /// The recording is so long that the encoding still runs when the incomplete MP3 file appears.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_recording_deleted_during_its_encoding_leaves_no_file() {
        let folder = TempDir::new().unwrap();
        let wav = folder.path().join("1.wav");
        fs::write(&wav, recording(300)).unwrap();
        let encoding = tokio::spawn({
            let wav = wav.clone();
            async move { Mp3s::default().of(ID, &wav, wav.with_extension("mp3"), None).await }
        });
        while !wav.with_extension(UNFINISHED).exists() {
            tokio::task::yield_now().await;
        }
        fs::remove_file(&wav).unwrap();
        assert_eq!(encoding.await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(names(&folder), Vec::<String>::new());
    }

    #[tokio::test]
    async fn the_mp3_of_an_encrypted_recording_is_encrypted() {
        let folder = TempDir::new().unwrap();
        let wav = folder.path().join("1.wav");
        fs::write(&wav, recording(1)).unwrap();
        let key = RecordingKey::new([1; 32]);
        let mp3 = Mp3s::default().of(ID, &wav, wav.with_extension("mp3"), Some(&key)).await.unwrap();
        assert!(fs::read(&mp3).unwrap().starts_with(b"TANDEMS1"));
        assert!(RecordedFile::open(&mp3, None).is_err());
        let mut octets = Vec::new();
        RecordedFile::open(&mp3, Some(&key)).unwrap().read_to_end(&mut octets).unwrap();
        assert!(tandem_media::decode(&octets, None).unwrap().samples().len() > 7_000);
    }

    #[tokio::test]
    async fn a_cancelled_request_does_not_block_the_next() {
        let folder = TempDir::new().unwrap();
        let wav = folder.path().join("1.wav");
        fs::write(&wav, recording(60)).unwrap();
        let mp3s = Mp3s::default();
        let at_once = std::time::Duration::from_millis(1);
        drop(tokio::time::timeout(at_once, mp3s.of(ID, &wav, wav.with_extension("mp3"), None)).await);
        mp3s.of(ID, &wav, wav.with_extension("mp3"), None).await.unwrap();
        assert_eq!(mp3s.made(), 1);
    }
}
