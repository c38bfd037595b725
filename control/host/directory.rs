//! Directories with private data: recordings, history, and credentials.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Creates a directory and its parents. Only the owner has access (mode 0700). An existing directory does not change.
pub fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    tracing::info!("created the directory {}", path.display());
    Ok(())
}

/// Minimum number of free octets on a disk. A disk with less free space counts as full.
const ROOM: u64 = 1024 * 1024;

/// Checks whether files can be created in a directory. For this check, the function creates a file and removes it
/// again.
pub fn try_write(path: &Path) -> io::Result<()> {
    let probe = path.join(format!(".tandem-{}", std::process::id()));
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe)?;
    fs::remove_file(probe)
}

/// Checks that the directory's disk has free space. The function blocks its thread.
///
/// # Errors
/// Returns the problem as text.
pub fn check_room(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let found = rustix::fs::statvfs(path).map_err(|error| format!("{shown}: {}", io::Error::from(error)))?;
    // Some file systems report no blocks.
    match found.f_bavail.saturating_mul(found.f_frsize) < ROOM && found.f_blocks > 0 {
        true => Err(format!("the disk of {shown} is full")),
        false => Ok(()),
    }
}

/// Whether all users of this host have access to the directory.
pub fn is_open(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_of_a_directory_detects_a_write_failure_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        try_write(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(check_room(folder.path()), Ok(()));
        // Even root cannot create a file in `/proc`.
        assert!(try_write(Path::new("/proc")).is_err());
        assert!(check_room(&folder.path().join("gone")).is_err());
    }

    #[test]
    fn a_new_directory_has_mode_0700_and_an_existing_directory_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = (folder.path().join("a"), folder.path().join("a/b"));
        make(&inner).unwrap();
        for path in [&outer, &inner] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
            assert!(!is_open(path));
        }
        std::fs::set_permissions(&outer, PermissionsExt::from_mode(0o755)).unwrap();
        make(&outer).unwrap();
        assert!(is_open(&outer));
        assert_eq!(outer.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(make(&folder.path().join("file/c")).is_err());
    }
}
