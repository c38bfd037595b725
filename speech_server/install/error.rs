//! The reasons why an installation stops, with advice.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::catalogue;

/// The reason why an installation stopped.
#[derive(Debug)]
pub enum Error {
    /// Neither a language nor the name of a model.
    UnknownName(String),
    /// The address does not answer, or the connection broke too often.
    NoConnection { address: String, reason: String },
    /// The index or the store of files refused a request.
    Refused { address: String, status: u16 },
    /// The index does not have the file.
    NotInIndex { address: String, file: String },
    /// The content of a file is not the expected one.
    WrongContent { file: String, expected: String, found: String },
    /// The file system is full, or will be.
    NoSpace { folder: PathBuf, needed: u64, free: Option<u64> },
    /// The user may not write there.
    NoPermission { path: PathBuf },
    /// Another installation runs in the same directory.
    Busy { folder: PathBuf },
    /// The file system reported another error.
    Files { path: PathBuf, error: io::Error },
}

impl Error {
    /// The error of a file system at this path.
    pub(super) fn files(path: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NoPermission { path: path.to_owned() }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { folder: path.to_owned(), needed: 0, free: None }
            }
            _ => Self::Files { path: path.to_owned(), error },
        }
    }

    /// Whether the command line is wrong, and not the computer or the network.
    pub fn is_of_input(&self) -> bool {
        matches!(self, Self::UnknownName(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName(name) => {
                let models: Vec<_> = catalogue::MODELS.iter().map(|model| model.name).collect();
                write!(
                    f,
                    "`{name}` is neither a language (a code such as en, de or es, or `all`) nor a model ({})",
                    models.join(", ")
                )
            }
            Self::NoConnection { address, reason } => write!(
                f,
                "no answer from {address}: {reason}. Is this computer online? Behind a proxy, set HTTPS_PROXY; with an own \
                 certificate authority, set SSL_CERT_FILE; with an own package index, use --index. A second start continues the \
                 download"
            ),
            Self::Refused { address, status } => write!(f, "{address} answered with the status {status}"),
            Self::NotInIndex { address, file } => {
                write!(f, "{address} does not list the file {file}. Another index may have it: use --index")
            }
            Self::WrongContent { file, expected, found } => write!(
                f,
                "the content of {file} is wrong, so nothing was installed: the SHA-256 must be {expected}, but it is {found}"
            ),
            Self::NoSpace { folder, needed, free } => {
                write!(f, "there is not enough space in {}", folder.display())?;
                if let Some(free) = free {
                    write!(f, ": the models need {}, and {} are free", Size(*needed), Size(*free))?;
                }
                f.write_str(". Choose another directory with --models")
            }
            Self::NoPermission { path } => {
                write!(
                    f,
                    "you may not write {}. Start the command as another user, or choose another directory with --models",
                    path.display()
                )
            }
            Self::Busy { folder } => {
                write!(f, "another installation runs in {}: wait until it has ended", folder.display())
            }
            Self::Files { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// A number of octets for people.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            octets @ 0..10_000 => write!(f, "{octets} bytes"),
            octets @ 10_000..1_000_000 => write!(f, "{} kB", octets / 1000),
            octets => {
                let tenths = (octets + 50_000) / 100_000;
                write!(f, "{}.{} MB", tenths / 10, tenths % 10)
            }
        }
    }
}
