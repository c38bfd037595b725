//! Directories that hold what is nobody else's business: recordings, history, credentials.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Makes a directory, and those around it, for us alone. One that is there stays as it is.
pub fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    tracing::info!("made the directory {}", path.display());
    Ok(())
}

/// Whether everybody on this machine can read what is in it.
pub fn is_open(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_ours_alone_and_an_old_one_stays_as_it_is() {
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
