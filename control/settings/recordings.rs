//! `[recordings]`: where they are, and how they are kept.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tandem_media::{RecordingKey, WavCoding};

use super::Secret;

/// `[recordings]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordingsConfig {
    /// `file:DIRECTORY`.
    pub url: Arc<str>,
    /// What the samples of new ones are.
    pub format: WavCoding,
    /// Encrypts new ones and opens those that are encrypted: base64 of 32 octets, or `file:PATH` of a file with that, or with
    /// the 32 octets themselves.
    pub encryption_key: Option<Secret>,
    /// Audio is given out with the account's credentials only; else the recording's id, which nobody can guess, is enough, as at
    /// the providers.
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
    /// The key, read; what is wrong with it, in words without it.
    pub fn key(&self) -> Result<Option<RecordingKey>, String> {
        let Some(secret) = &self.encryption_key else { return Ok(None) };
        let octets = match secret.expose().split_once(':') {
            Some(("file", path)) => std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?,
            _ => secret.expose().as_bytes().to_vec(),
        };
        let decoded = BASE64_STANDARD.decode(octets.trim_ascii()).ok();
        let key = decoded.and_then(|key| <[u8; 32]>::try_from(key).ok()).or_else(|| {
            // As they are only in a file: text of 32 characters is no base64 of 32 octets.
            secret.expose().starts_with("file:").then(|| octets.try_into().ok())?
        });
        let help =
            "is neither base64 of 32 octets (`head -c 32 /dev/urandom | base64`) nor \"file:PATH\" of such a file";
        key.map(|key| Some(RecordingKey::new(key))).ok_or_else(|| help.to_owned())
    }
}
