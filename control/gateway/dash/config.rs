//! The settings of the dash gateway.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, de::Error};
use tandem_id::AccountName;
use tandem_settings::Secret;

/// The settings of the dash gateway (`[gateways.dash]`).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DashConfig {
    /// The account that makes the calls. This setting may be absent if the server has one account.
    pub account: Option<AccountName>,
    /// The id of an application of `[[applications]]`. The calls have this id as their `connection_id`.
    pub application: Option<Arc<str>>,
    /// The port for `/call-events`. Frontends connect to this port. 0 means that only `http.listen` serves this path.
    pub call_events_port: u16,
    /// The port for `/audio-stream`. An external provider connects to this port. 0 means that only `http.listen` serves
    /// this path.
    pub audio_stream_port: u16,
    /// The port for `/frontend-audio`. Frontends connect to this port. 0 means that only `http.listen` serves this
    /// path.
    pub frontend_audio_port: u16,
    /// Host of the `streamUrl`, with a port if needed. If this setting is absent, the `streamUrl` has the host of
    /// `http.public_url`.
    pub stream_host: Option<Arc<str>>,
    /// Maximum number of calls that all frontends together may start within 60 s. The range is 1 to 10,000.
    pub calls_per_minute: u32,
    /// The beginnings of the numbers that frontends may call, for example `+49`. An empty list allows every number.
    pub prefixes: Vec<Arc<str>>,
    /// Web origins whose pages may use the gateway, in addition to `http://localhost:3000` and the host of
    /// `http.public_url`. If the list is empty, all pages of this machine and of this host may use the gateway.
    pub allowed_origins: Vec<Arc<str>>,
    /// The password of the gateway: each request has it as `Authorization: Bearer`, and each WebSocket as `?secret=`.
    /// `None` means no password.
    pub secret: Option<Secret>,
    /// Ed25519 public key of an external provider. The gateway accepts only webhooks with a signature of this key.
    #[serde(deserialize_with = "public_key")]
    pub public_key: Option<[u8; 32]>,
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
            calls_per_minute: 60,
            prefixes: Vec::new(),
            allowed_origins: Vec::new(),
            secret: None,
            public_key: None,
        }
    }
}

impl DashConfig {
    /// Returns the ports with the names of their settings.
    pub(crate) fn ports(&self) -> [(&'static str, u16); 3] {
        [
            ("gateways.dash.call_events_port", self.call_events_port),
            ("gateways.dash.audio_stream_port", self.audio_stream_port),
            ("gateways.dash.frontend_audio_port", self.frontend_audio_port),
        ]
    }
}

fn public_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let key = STANDARD.decode(text.trim()).ok().and_then(|octets| <[u8; 32]>::try_from(octets).ok());
    key.map(Some)
        .ok_or_else(|| D::Error::custom("is not a public key: expected 32 octets in base64, as the provider shows it"))
}
