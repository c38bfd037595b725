//! The settings of the control crate: the HTTP listener, the database, speech, and the resources of the configuration
//! file.
//!
//! These types only define the shape. The crate `tandem-config` reads the file and checks that the settings fit
//! together.
#![forbid(unsafe_code)]

mod application;
mod bridge;
pub mod current;
mod endpoint;
pub mod header_pattern;
pub mod log_filter;
mod network;
mod number;
mod recordings;
mod secret;
mod stir;
mod trunk;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

pub use self::application::{Application, PROVIDERS, WorksBy, provider_of_application};
pub use self::bridge::{Bridge, RecordBridge};
pub use self::endpoint::EndpointConfig;
use self::network::networks;
pub use self::number::{HttpMethod, NumberConfig, NumberPattern};
pub use self::recordings::RecordingsConfig;
pub use self::secret::Secret;
pub use self::stir::{StirConfig, TrunkStir, Verify};
pub use self::trunk::{CallerId, DtmfMode, Fingerprint, Forwarding, InboundAuth, NumberFormat, TrunkConfig};

/// `[http]`: the listener of all provider APIs, gateways, the console and the health checks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The address and port to bind; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The `http://` or `https://` base URL that clients are told and that signatures cover; the bound address when
    /// `None`.
    pub public_url: Option<Arc<str>>,
    /// The address and port of a separate listener for `/metrics`, `/healthz` and `/readyz`. With it, `/metrics` is not
    /// on `listen`. Without it, `/metrics` on `listen` is open to this machine, and to others with an operator's
    /// credentials.
    pub metrics_listen: Option<SocketAddr>,
    /// Maximum number of connections at the same time, at most half of them from one source. Further connections wait
    /// or are closed.
    pub max_connections: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            metrics_listen: None,
            max_connections: 1024,
        }
    }
}

impl HttpConfig {
    /// The base of all URLs that the server hands out, without trailing slash. `bound`: the address that the listener
    /// really has.
    pub fn base(&self, bound: SocketAddr) -> Arc<str> {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').into(),
            None => format!("http://{bound}").into(),
        }
    }
}

/// `[database]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:PATH` or `postgres://user:password@host/name`.
    pub url: Secret,
    /// Days for which event logs and finished webhooks are kept; 0: for ever. Calls, recordings and unsent webhooks are
    /// always kept.
    pub retention_days: u16,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: Secret::new("sqlite:data/tandem.db"), retention_days: 30 }
    }
}

impl DatabaseConfig {
    /// The time before which history may be deleted; `None` if it is kept for ever.
    pub fn kept_since(&self, now: Timestamp) -> Option<Timestamp> {
        let age = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        (self.retention_days > 0).then(|| now.checked_sub(age).unwrap_or(Timestamp::MIN))
    }
}

/// `[log]`: the server's own log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Whether lines are text or JSON.
    pub format: LogFormat,
    /// A level, or levels by module, in the form that [`crate::log_filter::check`] accepts.
    pub level: Arc<str>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".into() }
    }
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text: time, level, message, `name=value`.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// `[webhooks]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Networks that are not public, but allowed as targets of webhooks, media files and streams.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// A PEM file with certificate authorities that are trusted for applications' certificates, beside those of this
    /// machine.
    pub ca_file: Option<PathBuf>,
    /// Whether Twilio signatures of `https` URLs with a port are made without the port.
    pub sign_strip_https_port: bool,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        let allow_networks = network::network("127.0.0.0/8").into_iter().collect();
        Self { allow_networks, ca_file: None, sign_strip_https_port: false }
    }
}

/// `[twilio]`: how strictly the API follows the original.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwilioConfig {
    /// Whether a call by REST must show a number of the account, or a caller id that it has verified.
    pub strict_caller_id: bool,
}

/// `[ice]`: the STUN and TURN servers that applications are given for browsers behind NATs.
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IceConfig {
    /// `stun:HOST[:PORT]` of each STUN server.
    pub stun: Vec<Arc<str>>,
    /// `turn:HOST[:PORT][?transport=udp|tcp]`, or the same with `turns:`, of each TURN server.
    pub turn: Vec<Arc<str>>,
    /// The secret shared with the TURN servers, from which temporary passwords are made.
    pub turn_secret: Option<Secret>,
}

/// `[streams]`: audio to and from WebSocket applications.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    /// Seconds of an application's audio that may wait for playout; audio beyond that is refused.
    pub buffer_seconds: u16,
    /// Seconds after which a stream ends if nothing, not even a pong, comes from its application; 0: never.
    pub idle_seconds: u16,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self { buffer_seconds: 600, idle_seconds: 60 }
    }
}

impl StreamsConfig {
    /// The maximum time without any message of the application; `None` if unlimited.
    pub fn idle(&self) -> Option<Duration> {
        (self.idle_seconds > 0).then(|| Duration::from_secs(self.idle_seconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_for_its_days_or_for_ever() {
        let kept_since = |retention_days| {
            let config = DatabaseConfig { retention_days, ..DatabaseConfig::default() };
            config.kept_since("2026-11-21T08:00:00Z".parse().unwrap()).map(|since| since.to_string())
        };
        assert_eq!(kept_since(30).as_deref(), Some("2026-10-22T08:00:00Z"));
        assert_eq!(kept_since(0), None);
        assert_eq!(kept_since(u16::MAX).as_deref(), Some("1847-06-18T08:00:00Z"));
    }
}
