//! `[gateways.dash]`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, de::Error};

/// `[gateways.dash]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DashConfig {
    /// Whose calls it makes; the only account's when left out.
    pub account: Option<Arc<str>>,
    /// One of `[[applications]]` that its calls are said to belong to (`connection_id`).
    pub application: Option<Arc<str>>,
    /// Where frontends look for `/call-events`; 0: on `http.listen` only.
    pub call_events_port: u16,
    /// Where a provider outside looks for `/audio-stream`; 0: on `http.listen` only.
    pub audio_stream_port: u16,
    /// Where frontends look for `/frontend-audio`; 0: on `http.listen` only.
    pub frontend_audio_port: u16,
    /// Host, with its port if need be, of the `streamUrl` that frontends are told; that of `http.public_url` when left out.
    pub stream_host: Option<Arc<str>>,
    /// Of a provider outside: its webhooks are taken when this key has signed them.
    #[serde(deserialize_with = "public_key")]
    pub public_key: Option<VerifyingKey>,
}

impl Default for DashConfig {
    fn default() -> Self {
        Self {
            account: None,
            application: None,
            call_events_port: 8080,
            audio_stream_port: 8081,
            frontend_audio_port: 8082,
            stream_host: None,
            public_key: None,
        }
    }
}

impl DashConfig {
    /// Its ports, each with its key.
    pub(crate) fn ports(&self) -> [(&'static str, u16); 3] {
        [
            ("gateways.dash.call_events_port", self.call_events_port),
            ("gateways.dash.audio_stream_port", self.audio_stream_port),
            ("gateways.dash.frontend_audio_port", self.frontend_audio_port),
        ]
    }
}

fn public_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VerifyingKey>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let octets = STANDARD.decode(text.trim()).ok().and_then(|octets| <[u8; 32]>::try_from(octets).ok());
    let key = octets.and_then(|octets| VerifyingKey::from_bytes(&octets).ok());
    key.map(Some).ok_or_else(|| D::Error::custom("is not a public key: base64 of 32 octets, as the provider shows it"))
}
