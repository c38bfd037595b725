//! A media session as octets. An application that stores the snapshots of its sessions can continue their RTP streams in another
//! process. This module is pure.
//!
//! ```text
//!   Session::snapshot -> SessionSnapshot --write(encrypt)--> octets
//!   octets --read(decrypt)--> SessionSnapshot -> Engine::resume -> Session, then the commands of the running operations
//! ```
//!
//! ```text
//!   0  "TANDEMM"
//!   7  version of the form
//!   8  the encrypted snapshot
//! ```

use serde::{Deserialize, Serialize};

use crate::command::LegId;
use crate::sdp::Negotiation;
use crate::session::{RunningOperations, SessionState};

const MAGIC: &[u8; 7] = b"TANDEMM";
/// The version of the form. Raise it with each change that the older form cannot express, and continue to read the form
/// before.
const VERSION: u8 = 1;

/// All that a session knows, without its handles. A snapshot contains secrets: the SRTP keys, and digits that the far end
/// is sending. So it has no public form except [`SessionSnapshot::write`].
#[derive(Serialize, Deserialize)]
pub struct SessionSnapshot {
    pub(crate) session: SessionState,
    pub(crate) negotiation: Negotiation,
}

impl std::fmt::Debug for SessionSnapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SessionSnapshot({}, ..)", self.session.key)
    }
}

/// The reason why octets are not a snapshot that this version can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionSnapshotError {
    /// The octets do not begin like a snapshot.
    #[error("this is no snapshot of a media session")]
    NoSnapshot,
    /// The form has a version that this code does not know.
    #[error("the snapshot has version {0}, which this server does not know")]
    Version(u8),
    /// The octets could not be decrypted.
    #[error("the snapshot cannot be decrypted")]
    NotDecrypted,
    /// The octets were decrypted, but their content is damaged.
    #[error("the snapshot is damaged")]
    Malformed,
}

impl SessionSnapshot {
    /// The key of the session.
    pub fn key(&self) -> LegId {
        self.session.key
    }

    /// Returns the operations for which the application has to give handles again.
    pub fn running(&self) -> RunningOperations {
        self.session.running()
    }

    /// Writes the snapshot. `encrypt` gets the plain octets, which contain secrets. It returns the octets that may leave this
    /// function: encrypted, or unchanged if the result stays in memory that no other process reads.
    ///
    /// # Errors
    ///
    /// [`SessionSnapshotError::Malformed`] if a part of the session cannot be written as JSON. This is a defect.
    pub fn write(&self, encrypt: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<Vec<u8>, SessionSnapshotError> {
        let plain = serde_json::to_vec(self).map_err(|_| SessionSnapshotError::Malformed)?;
        let encrypted = encrypt(plain);
        let mut octets = Vec::with_capacity(MAGIC.len() + 1 + encrypted.len());
        octets.extend_from_slice(MAGIC);
        octets.push(VERSION);
        octets.extend_from_slice(&encrypted);
        Ok(octets)
    }

    /// Reads the octets of [`SessionSnapshot::write`]. `decrypt` is the reverse of `encrypt`, and returns `None` if the
    /// octets are not authentic.
    pub fn read(
        octets: &[u8],
        decrypt: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<SessionSnapshot, SessionSnapshotError> {
        let rest = octets.strip_prefix(MAGIC).ok_or(SessionSnapshotError::NoSnapshot)?;
        let (version, encrypted) = rest.split_first().ok_or(SessionSnapshotError::NoSnapshot)?;
        if *version != VERSION {
            return Err(SessionSnapshotError::Version(*version));
        }
        let plain = decrypt(encrypted).ok_or(SessionSnapshotError::NotDecrypted)?;
        serde_json::from_slice(&plain).map_err(|_| SessionSnapshotError::Malformed)
    }
}
