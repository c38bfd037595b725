//! `[recordings]`: the folder or the bucket, the format and the encryption of recordings.

use std::path::{Path, PathBuf};
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
    /// The folder of recordings, in the form `file:DIRECTORY`, or their bucket, in the form `s3://BUCKET/PREFIX`.
    pub url: Arc<str>,
    /// The access to the bucket.
    pub s3: S3Config,
    /// Hours for which a recording that is in the bucket also stays on the disk, after the last request for it.
    pub keep_local_hours: u32,
    /// The sample format of new recordings.
    pub format: WavCoding,
    /// The key that encrypts new recordings and decrypts encrypted recordings. The value is base64 of 32 octets, or
    /// `file:PATH`. The file contains the base64 text or the 32 octets.
    pub encryption_key: Option<Secret>,
    /// Whether a client needs the account's credentials to get the audio. If not, the recording's id is sufficient,
    /// because an id cannot be guessed. The providers also require only the id by default.
    pub require_credentials: bool,
}

/// The settings of `[recordings.s3]`. Without a key, the server uses the variables `AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY` and so on, or the role of the machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// The URL of the server. `None`: that of AWS for the region.
    pub endpoint: Option<Arc<str>>,
    /// The region of the bucket.
    pub region: Option<Arc<str>>,
    pub access_key_id: Option<Arc<str>>,
    pub secret_access_key: Option<Secret>,
}

impl Default for RecordingsConfig {
    fn default() -> Self {
        Self {
            url: "file:data/recordings".into(),
            s3: S3Config::default(),
            keep_local_hours: 24,
            format: WavCoding::Pcm,
            encryption_key: None,
            require_credentials: false,
        }
    }
}

impl RecordingsConfig {
    /// Returns the name of the bucket and the prefix of the names in it. `None` if recordings stay in a folder.
    pub fn bucket(&self) -> Option<(&str, &str)> {
        let place = self.url.strip_prefix("s3://")?;
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        Some((name, prefix.trim_matches('/')))
    }

    /// Returns the folder of the recordings. Recordings for a bucket wait in `data_dir`.
    pub fn folder(&self, data_dir: &Path) -> PathBuf {
        self.url.strip_prefix("file:").map_or_else(|| data_dir.join("recordings"), PathBuf::from)
    }

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
