//! The file of an SQLite database. This module handles the permissions of the file and the lock on the file, and
//! checks that no other file has replaced the file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The database file. The file is identified by the device number and the inode number that it had when the server
/// opened it.
pub(super) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// Creates the file if it does not exist. Only the owner can read the file. SQLite gives the same permissions to
    /// the other files of the database.
    pub(super) fn open(path: &Path) -> io::Result<DatabaseFile> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for path in [path.to_owned(), sibling(path, "-wal"), sibling(path, "-shm")] {
            let Ok(found) = path.metadata() else { continue };
            if found.is_file() && found.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(&path, Permissions::from_mode(found.permissions().mode() & 0o700))?;
                tracing::info!("changed the permissions of {}: only its owner can read it", path.display());
            }
        }
        let found = path.metadata()?;
        Ok(DatabaseFile { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Checks that the path still leads to the file that the server opened. If this file was deleted, its data is lost
    /// when the process ends.
    pub(super) fn check(&self) -> Result<(), String> {
        let shown = self.path.display();
        match self.path.metadata() {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) => Err(format!("the database's file {shown} was replaced while the server runs: restart the server")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("the database's file {shown} was deleted or moved: put it back, or restart the server"))
            }
            Err(error) => Err(format!("the database's file {shown}: {error}")),
        }
    }

    /// Locks the database for one server. The lock ends when the returned file is dropped.
    ///
    /// The lock is on the file itself, so it also holds for a path that leads to the file through a symbolic link or a
    /// hard link. This lock (`flock`) and the locks of SQLite (POSIX record locks) do not affect each other: on Linux they
    /// are separate. The file may be on a network disk on which they are not separate. Such a disk is not suitable for
    /// SQLite.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(file)
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_and_existing_database_files_get_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new.db"), folder.path().join("old.db"));
        DatabaseFile::open(&new).unwrap();
        for path in [old.clone(), sibling(&old, "-wal")] {
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
        DatabaseFile::open(&old).unwrap();
        assert_eq!([mode(&new), mode(&old), mode(&sibling(&old, "-wal"))], [0o600; 3]);
    }

    #[test]
    fn a_deleted_or_replaced_database_file_and_its_return_are_detected() {
        let folder = tempfile::tempdir().unwrap();
        let (path, away) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let file = DatabaseFile::open(&path).unwrap();
        assert_eq!(file.check(), Ok(()));
        fs::rename(&path, &away).unwrap();
        assert!(file.check().unwrap_err().contains("was deleted or moved"));
        fs::write(&path, "another").unwrap();
        assert!(file.check().unwrap_err().contains("was replaced"));
        fs::rename(&away, &path).unwrap();
        assert_eq!(file.check(), Ok(()));
    }

    #[test]
    fn only_one_process_locks_a_database() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::open(&folder.path().join("a.db")).unwrap();
        let lock = file.lock().unwrap();
        assert_eq!(file.lock().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(lock);
        file.lock().unwrap();
    }

    #[test]
    fn the_lock_of_a_database_covers_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let file = DatabaseFile::open(&at("a.db")).unwrap();
        std::os::unix::fs::symlink(at("a.db"), at("symbolic.db")).unwrap();
        fs::hard_link(at("a.db"), at("hard.db")).unwrap();
        let _lock = file.lock().unwrap();
        for name in ["symbolic.db", "hard.db"] {
            let other = DatabaseFile::open(&at(name)).unwrap();
            assert_eq!(other.lock().unwrap_err().kind(), ErrorKind::WouldBlock, "{name}");
        }
    }
}
