//! `[recordings]`: the folder, the format and the encryption of recordings.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tandem_media::{RecordingKey, WavCoding};

use super::Secret;

/// The settings of `[recordings]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordingsConfig {
    /// The folder of recordings, in the form `file:DIRECTORY`.
    pub url: Arc<str>,
    /// The sample format of new recordings.
    pub format: WavCoding,
    /// The key that encrypts new recordings and decrypts encrypted recordings. The value is base64 of 32 octets, or
    /// `file:PATH`. The file contains the base64 text or the 32 octets.
    pub encryption_key: Option<Secret>,
    /// Whether a client needs the account's credentials to get the audio. If not, the recording's id is sufficient,
    /// because an id cannot be guessed. The providers also require only the id by default.
    pub require_credentials: bool,
}

impl Default for RecordingsConfig {
    fn default() -> Self {
        Self {
            url: "file:data/recordings".into(),
            format: WavCoding::Pcm,
            encryption_key: None,
            require_credentials: false,
        }
    }
}

impl RecordingsConfig {
    /// Reads and decodes the key.
    ///
    /// # Errors
    /// Returns the reason as text. The text does not contain the key.
    pub fn key(&self) -> Result<Option<RecordingKey>, String> {
        let Some(secret) = &self.encryption_key else { return Ok(None) };
        let octets = match secret.expose().split_once(':') {
            Some(("file", path)) => std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?,
            _ => secret.expose().as_bytes().to_vec(),
        };
        let decoded = BASE64_STANDARD.decode(octets.trim_ascii()).ok();
        let key = decoded.and_then(|key| <[u8; 32]>::try_from(key).ok()).or_else(|| {
            // Only a file may contain raw octets. A text of 32 characters is never the base64 form of 32 octets.
            secret.expose().starts_with("file:").then(|| octets.try_into().ok())?
        });
        let help =
            "is neither base64 of 32 octets (`head -c 32 /dev/urandom | base64`) nor \"file:PATH\" of such a file";
        key.map(|key| Some(RecordingKey::new(key))).ok_or_else(|| help.to_owned())
    }
}
