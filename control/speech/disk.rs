//! Cache of synthesised audio on disk. Each text has one file of little-endian samples. The name of the file is the
//! hash of the cache key. The functions that read and write audio never return an error, because a broken cache only
//! makes speech slower.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tandem_host::hash;
use tokio::sync::Mutex;

/// A directory with a size limit in octets. If there is no room, the oldest files are removed first.
pub(super) struct Disk {
    directory: PathBuf,
    limit: u64,
    /// Number of octets in the directory. `None` until the first write.
    used: Mutex<Option<u64>>,
    serial: AtomicU64,
}

impl Disk {
    pub(super) fn new(directory: PathBuf, limit: u64) -> Self {
        Self { directory, limit, used: Mutex::new(None), serial: AtomicU64::new(0) }
    }

    /// Returns the stored audio for this key. `None` if there is no audio for the key.
    pub(super) async fn read(&self, key: &[u8; 32]) -> Option<Arc<[i16]>> {
        let octets = tokio::fs::read(self.path(key)).await.ok()?;
        let (pairs, rest) = octets.as_chunks::<2>();
        (rest.is_empty() && !pairs.is_empty()).then(|| pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect())
    }

    /// Stores audio. If there is no room, the function first removes old files.
    pub(super) async fn write(&self, key: &[u8; 32], samples: &[i16]) {
        let octets: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut used = self.used.lock().await;
        if let Err(error) = self.write_file(&self.path(key), octets, &mut used).await {
            tracing::debug!(directory = %self.directory.display(), %error, "spoken audio was not cached on disk");
        }
    }

    async fn write_file(&self, path: &Path, octets: Vec<u8>, used: &mut Option<u64>) -> io::Result<()> {
        let length = octets.len() as u64;
        if length == 0 || length > self.limit {
            return Ok(());
        }
        tokio::fs::create_dir_all(&self.directory).await?;
        let before = match *used {
            Some(used) => used,
            None => self.files().await?.iter().map(|(_, length, _)| length).sum(),
        };
        *used = Some(if before + length > self.limit { self.make_room(length).await? } else { before });
        // The file gets its final name when it is complete. So a reader never sees a partial file.
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_extension(format!("{}-{serial}", std::process::id()));
        let outcome = match tokio::fs::write(&unfinished, octets).await {
            Ok(()) => tokio::fs::rename(&unfinished, path).await,
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            drop(tokio::fs::remove_file(&unfinished).await);
        }
        *used = used.map(|used| used + length);
        outcome
    }

    /// Removes the oldest files until the remaining files and `length` together have at most 75 % of the limit. Returns
    /// the number of octets in the remaining files.
    async fn make_room(&self, length: u64) -> io::Result<u64> {
        let mut files = self.files().await?;
        files.sort();
        let mut left: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, size, path) in files {
            if left + length <= self.limit / 4 * 3 {
                break;
            }
            if tokio::fs::remove_file(path).await.is_ok() {
                left -= size;
            }
        }
        Ok(left)
    }

    async fn files(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let mut files = Vec::new();
        let mut entries = tokio::fs::read_dir(&self.directory).await?;
        while let Some(entry) = entries.next_entry().await? {
            let metadata = entry.metadata().await?;
            if metadata.is_file() {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        Ok(files)
    }

    fn path(&self, key: &[u8; 32]) -> PathBuf {
        self.directory.join(hash::hex(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_directory_never_outgrows_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path().join("speech"), 1_000);
        for index in 0..20 {
            disk.write(&[index; 32], &[i16::from(index); 100]).await;
            assert_eq!(disk.read(&[index; 32]).await.unwrap().len(), 100);
            let total: u64 = disk.files().await.unwrap().iter().map(|(_, length, _)| length).sum();
            assert!(total <= 1_000, "{total} octets after {index}");
        }
        disk.write(&[99; 32], &[0; 501]).await;
        assert!(disk.read(&[99; 32]).await.is_none(), "larger than all the room");
    }

    #[tokio::test]
    async fn a_damaged_cache_file_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path().to_owned(), 1_000);
        std::fs::write(disk.path(&[1; 32]), b"abc").unwrap();
        std::fs::write(disk.path(&[2; 32]), b"").unwrap();
        assert!(disk.read(&[1; 32]).await.is_none());
        assert!(disk.read(&[2; 32]).await.is_none());
    }
}
