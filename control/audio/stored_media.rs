//! Media storage: audio files that accounts upload to this server. Calls play these files by name.
//!
//! ```text
//!   upload ── file, synced ──► row in the database, then memory      play by name ──► path of the file
//!                              sweep ── expired rows and their files, files without a row ──► removed
//! ```
//!
//! A file has at most [`MAX_FILE_OCTETS`] octets. An account has at most [`MAX_ACCOUNT_OCTETS`] octets and at most
//! [`MAX_ROWS`] names.

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_host::directory;
use tandem_id::AccountName;
use tandem_routing::inventory::{InventoryError, InventoryItem, MAX_ROWS, ResourceCache};
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

/// Maximum size of a file, in octets.
pub const MAX_FILE_OCTETS: usize = 20 * 1024 * 1024;
/// Maximum size of all files of an account, in octets.
pub const MAX_ACCOUNT_OCTETS: u64 = 2 * 1024 * 1024 * 1024;

/// An uploaded file. Calls play the file by the name of its resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredFile {
    /// Content type of the upload, for example `audio/wav`.
    pub content_type: String,
    /// Size in octets.
    pub octets: u64,
    /// Time at which the file expires. An expired file is not available.
    pub expires_at: Timestamp,
    /// Name of the file in the folder. Every upload has a new file name.
    file: String,
}

/// The uploaded files of all accounts.
#[derive(Debug)]
pub struct StoredMedia {
    folder: PathBuf,
    media: ResourceCache<StoredFile>,
}

/// The reason why a file was not stored.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    /// The account already has a file with this name.
    #[error("the account already has a file with this name")]
    NameTaken,
    /// The account has reached its limit for the number or the size of files.
    #[error("the account may store at most {MAX_ACCOUNT_OCTETS} octets in {MAX_ROWS} files")]
    Full,
    /// The file could not be written.
    #[error("the file could not be written: {0}")]
    Disk(#[from] io::Error),
    /// The database query failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<InventoryError> for NotStored {
    fn from(why: InventoryError) -> Self {
        match why {
            InventoryError::Taken => Self::NameTaken,
            InventoryError::Full => Self::Full,
            InventoryError::Store(error) => Self::Store(error),
        }
    }
}

impl InventoryItem for StoredFile {
    const WORD: &'static str = "medium";

    fn key(row: &Resource<Self>) -> String {
        key(&row.account, &row.name)
    }
}

/// Returns the key of a file in memory. The key consists of the account, a line break and the name. No name contains a
/// line break.
fn key(account: &AccountName, name: &str) -> String {
    format!("{account}\n{name}")
}

impl StoredMedia {
    /// Reads the rows of the files from the database. The files are in `folder`, which is created if it does not exist.
    /// Expired files are removed.
    pub async fn load(folder: PathBuf, store: &Store, now: Timestamp) -> Result<Self, NotStored> {
        directory::make(&folder)?;
        let stored = Self { folder, media: ResourceCache::load(store).await? };
        stored.sweep(store, now).await?;
        stored.remove_strays()?;
        Ok(stored)
    }

    /// Returns the account's files that have not expired, newest file first.
    pub fn all(&self, account: &AccountName, now: Timestamp) -> Vec<Arc<Resource<StoredFile>>> {
        let mut all = self.media.all(account);
        all.retain(|row| row.details.expires_at > now);
        all
    }

    /// Returns the account's file with this name. Returns `None` if the file has expired.
    pub fn find(&self, account: &AccountName, name: &str, now: Timestamp) -> Option<Arc<Resource<StoredFile>>> {
        self.media.find(&key(account, name)).filter(|row| row.details.expires_at > now)
    }

    pub fn path(&self, medium: &StoredFile) -> PathBuf {
        self.folder.join(&medium.file)
    }

    /// Stores a new file under a name that the account does not use.
    pub async fn add(
        &self,
        store: &Store,
        account: &AccountName,
        name: &str,
        content: (Bytes, String),
        expires_at: Timestamp,
    ) -> Result<Arc<Resource<StoredFile>>, NotStored> {
        if let Some(expired) = self.media.find(&key(account, name)) {
            if expired.details.expires_at > tandem_host::clock::time() {
                return Err(NotStored::NameTaken);
            }
            self.delete(store, &expired).await?;
        }
        let details = self.write(account, content, expires_at, 0).await?;
        let put = self.media.put(store, Resource::new(account, name, details.clone())).await;
        put.map_err(|why| {
            self.remove_file(&details);
            why.into()
        })
    }

    /// Replaces the content of a file, its time of expiry, or both.
    pub async fn change(
        &self,
        store: &Store,
        row: &Resource<StoredFile>,
        content: Option<(Bytes, String)>,
        expires_at: Timestamp,
    ) -> Result<Arc<Resource<StoredFile>>, NotStored> {
        let details = match content {
            Some(content) => self.write(&row.account, content, expires_at, row.details.octets).await?,
            None => StoredFile { expires_at, ..row.details.clone() },
        };
        let is_new_file = details.file != row.details.file;
        let changed = Resource { details: details.clone(), updated_at: Timestamp::now(), ..row.clone() };
        let put = self.media.put(store, changed).await;
        if is_new_file {
            // The row names only one of the two files.
            self.remove_file(if put.is_ok() { &row.details } else { &details });
        }
        put.map_err(NotStored::from)
    }

    /// Deletes a file and its row. Returns `false` if the file was already deleted.
    pub async fn delete(&self, store: &Store, row: &Resource<StoredFile>) -> Result<bool, StoreError> {
        let deleted = self.media.delete(store, &row.account, row.id).await?;
        if deleted {
            self.remove_file(&row.details);
        }
        Ok(deleted)
    }

    /// Deletes expired files. Returns the number of deleted files.
    pub async fn sweep(&self, store: &Store, now: Timestamp) -> Result<usize, StoreError> {
        let mut removed = 0;
        for key in self.media.keys() {
            if let Some(row) = self.media.find(&key).filter(|row| row.details.expires_at <= now) {
                removed += usize::from(self.delete(store, &row).await?);
            }
        }
        Ok(removed)
    }

    /// Writes a new file. `replaced` is the size in octets of the old file that the new file replaces.
    async fn write(
        &self,
        account: &AccountName,
        (content, content_type): (Bytes, String),
        expires_at: Timestamp,
        replaced: u64,
    ) -> Result<StoredFile, NotStored> {
        let octets = content.len() as u64;
        let held: u64 = self.media.all(account).iter().map(|row| row.details.octets).sum();
        if held.saturating_sub(replaced) + octets > MAX_ACCOUNT_OCTETS {
            return Err(NotStored::Full);
        }
        let file = format!("{:032x}", rand::random::<u128>());
        let (folder, path) = (self.folder.clone(), self.folder.join(&file));
        let written = tokio::task::spawn_blocking(move || write(&folder, &path, &content));
        written.await.map_err(io::Error::other)??;
        Ok(StoredFile { content_type, octets, expires_at, file })
    }

    fn remove_file(&self, medium: &StoredFile) {
        let path = self.path(medium);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!("{} could not be removed: {error}", path.display());
        }
    }

    /// Deletes files without a row. A crash during an upload can leave such files.
    fn remove_strays(&self) -> io::Result<()> {
        let named: HashSet<String> = self
            .media
            .keys()
            .iter()
            .filter_map(|key| self.media.find(key))
            .map(|row| row.details.file.clone())
            .collect();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let is_named = entry.file_name().to_str().is_some_and(|name| named.contains(name));
            if !is_named && entry.file_type()?.is_file() {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Writes a file. When this function returns, the file and its directory entry are on disk.
fn write(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    directory::check_room(folder).map_err(io::Error::other)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

    fn wav(text: &'static str) -> (Bytes, String) {
        (Bytes::from_static(text.as_bytes()), "audio/wav".to_owned())
    }

    #[tokio::test]
    async fn a_stored_file_survives_a_restart_until_it_expires() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let (folder, now) = (directory.path().join("media"), Timestamp::now());
        let stored = StoredMedia::load(folder.clone(), &store, now).await.unwrap();
        let row = stored.add(&store, &AccountName::new("acme"), "hello", wav("one"), now + HOUR).await.unwrap();
        assert!(matches!(
            stored.add(&store, &AccountName::new("acme"), "hello", wav("two"), now + HOUR).await,
            Err(NotStored::NameTaken)
        ));
        stored.add(&store, &AccountName::new("other"), "hello", wav("theirs"), now + HOUR).await.unwrap();
        let changed = stored.change(&store, &row, Some(wav("three")), now + HOUR + HOUR).await.unwrap();
        assert!(!stored.path(&row.details).exists(), "the file before it is gone");

        std::fs::write(folder.join("stray"), "cut short").unwrap();
        let stored = StoredMedia::load(folder.clone(), &store, now).await.unwrap();
        let found = stored.find(&AccountName::new("acme"), "hello", now).unwrap();
        assert_eq!(
            (&found.details, std::fs::read_to_string(stored.path(&found.details)).unwrap()),
            (&changed.details, "three".into())
        );
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "the stray file is gone");

        assert!(stored.find(&AccountName::new("other"), "hello", now + HOUR).is_none());
        assert_eq!(stored.sweep(&store, now + HOUR).await.unwrap(), 1);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert!(stored.delete(&store, &found).await.unwrap() && !stored.delete(&store, &found).await.unwrap());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn if_the_database_fails_the_old_file_stays_and_a_new_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let (folder, now) = (directory.path().join("media"), Timestamp::now());
        let stored = StoredMedia::load(folder.clone(), &store, now).await.unwrap();
        let row = stored.add(&store, &AccountName::new("acme"), "hello", wav("one"), now + HOUR).await.unwrap();
        store.close().await;
        for content in [None, Some(wav("two"))] {
            assert!(matches!(stored.change(&store, &row, content, now + HOUR).await, Err(NotStored::Store(_))));
        }
        assert!(matches!(
            stored.add(&store, &AccountName::new("acme"), "new", wav("three"), now + HOUR).await,
            Err(NotStored::Store(_))
        ));
        let found = stored.find(&AccountName::new("acme"), "hello", now).unwrap();
        assert_eq!(std::fs::read_to_string(stored.path(&found.details)).unwrap(), "one");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}
