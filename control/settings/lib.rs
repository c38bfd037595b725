//! The settings of the crates below `control/`: the HTTP listener, the database, speech, and the resources in the
//! configuration file.
//!
//! The types of this crate define only the structure of the settings. The crate `tandem-config` reads the file and
//! checks that the settings are consistent.
#![forbid(unsafe_code)]

mod application;
mod bridge;
mod cluster;
mod console;
mod endpoint;
pub mod entry;
pub mod header_pattern;
pub mod log_filter;
mod network;
mod number;
pub mod printable;
mod recordings;
mod secret;
mod stir;
mod trunk;
pub mod web_origin;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer};
use tandem_call::Method;

pub use self::application::{Application, ApplicationKind, PROVIDERS, provider_of_application};
pub use self::bridge::{Bridge, RecordBridge};
pub use self::cluster::ClusterConfig;
pub use self::console::{ConsoleConfig, ConsoleRole, ConsoleUser};
pub use self::endpoint::EndpointConfig;
use self::network::networks;
pub use self::number::{NumberConfig, NumberPattern};
pub use self::recordings::{RecordingsConfig, S3Config};
pub use self::secret::Secret;
pub use self::stir::{StirConfig, TrunkStir, Verify};
pub use self::trunk::{CallerId, DtmfMode, Fingerprint, Forwarding, InboundAuth, NumberFormat, TrunkConfig};

/// Reads an HTTP method as the file spells it: `GET` or `POST`.
fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    #[derive(Deserialize)]
    #[serde(remote = "Method", rename_all = "UPPERCASE")]
    enum Spelled {
        Get,
        Post,
    }
    Spelled::deserialize(deserializer)
}

/// `[http]`: the listener of all provider APIs, gateways, the console and the health checks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The address and port to bind. With port 0, the system chooses a free port.
    pub listen: SocketAddr,
    /// The base URL (`http://` or `https://`) that the server announces to clients. Signatures use this URL too. `None`
    /// means the bound address.
    pub public_url: Option<Arc<str>>,
    /// The address and port of a separate listener for `/metrics`, `/healthz` and `/readyz`. If this listener exists,
    /// `/metrics` is not available on `listen`. If this listener does not exist, clients on this host can read
    /// `/metrics` on `listen` without credentials. Other clients need the credentials of an operator.
    pub metrics_listen: Option<SocketAddr>,
    /// Maximum number of concurrent connections. WebSockets count, except those of phones. At most half of the connections
    /// may come from one source. Further connections wait or are closed.
    pub max_connections: usize,
    /// The networks of the proxies whose `X-Forwarded-For` is true. SIP over WebSocket needs the address of the client:
    /// limits and bans apply to this address, and never to the proxy, which many clients share.
    #[serde(deserialize_with = "network::networks")]
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            metrics_listen: None,
            max_connections: 1024,
            trusted_proxies: ["127.0.0.0/8", "::1"].iter().filter_map(|text| network::network(text)).collect(),
        }
    }
}

impl HttpConfig {
    /// Returns the base of all URLs that the server announces, without a trailing slash. `bound` is the actual address
    /// of the listener.
    pub fn base(&self, bound: SocketAddr) -> Arc<str> {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').into(),
            None => format!("http://{bound}").into(),
        }
    }
}

/// `[database]`: the database and the time for which history is kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The URL of the database: `sqlite:PATH` or `postgres://user:password@host/name`.
    pub url: Secret,
    /// Number of days for which event logs and finished webhooks are kept. 0 means that they are kept without limit.
    /// Calls, recordings and unsent webhooks are always kept.
    pub retention_days: u16,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: Secret::new("sqlite:data/tandem.db"), retention_days: 30 }
    }
}

impl DatabaseConfig {
    /// Returns the time limit for history: history that is older than this time may be deleted. Returns `None` if
    /// history is kept without limit.
    pub fn kept_since(&self, now: Timestamp) -> Option<Timestamp> {
        let age = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        (self.retention_days > 0).then(|| now.checked_sub(age).unwrap_or(Timestamp::MIN))
    }
}

/// `[log]`: the log of the server, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The format of log lines: text or JSON.
    pub format: LogFormat,
    /// The level, or a level for each module, in the form that [`crate::log_filter::check`] accepts.
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

/// `[webhooks]`: requests to applications.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// The non-public networks that are allowed as targets of webhooks, media files and streams.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// A PEM file with certificate authorities for the certificates of applications, in addition to the authorities of
    /// this host.
    pub ca_file: Option<PathBuf>,
    /// Whether the Twilio signature uses the URL without its port if the URL is an `https` URL with a port.
    pub sign_strip_https_port: bool,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        let allow_networks = network::network("127.0.0.0/8").into_iter().collect();
        Self { allow_networks, ca_file: None, sign_strip_https_port: false }
    }
}

/// `[twilio]`: how strictly the API follows Twilio.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwilioConfig {
    /// Whether the caller ID of a call that REST creates must be a number of the account or a verified caller ID of the
    /// account.
    pub strict_caller_id: bool,
}

/// `[ice]`: the STUN and TURN servers that applications receive for browsers behind NATs.
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IceConfig {
    /// The STUN servers, each as `stun:HOST[:PORT]`.
    pub stun: Vec<Arc<str>>,
    /// The TURN servers, each as `turn:HOST[:PORT][?transport=udp|tcp]` or with `turns:` instead of `turn:`.
    pub turn: Vec<Arc<str>>,
    /// The secret that this server shares with the TURN servers. Temporary passwords are derived from this secret.
    pub turn_secret: Option<Secret>,
}

/// `[streams]`: audio to and from WebSocket applications.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    /// Maximum duration in seconds of an application's audio that waits for playout. Further audio is refused.
    pub buffer_seconds: u16,
    /// Maximum time in seconds without any data from the application (not even a pong). After this time, the stream
    /// ends. 0 means no limit.
    pub idle_seconds: u16,
    /// Byte order of linear samples (L16), in both directions.
    pub l16_byte_order: ByteOrder,
}

/// The order of the two octets of a linear sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ByteOrder {
    /// The least significant octet comes first, as in WAV files and in the providers' streams.
    #[default]
    Little,
    /// The most significant octet comes first, as in L16 in RTP (RFC 3551 §4.5.11).
    Big,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self { buffer_seconds: 600, idle_seconds: 60, l16_byte_order: ByteOrder::default() }
    }
}

impl StreamsConfig {
    /// Returns the maximum time without any message from the application. Returns `None` if there is no limit.
    pub fn idle(&self) -> Option<Duration> {
        (self.idle_seconds > 0).then(|| Duration::from_secs(self.idle_seconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_for_its_retention_days_or_forever() {
        let kept_since = |retention_days| {
            let config = DatabaseConfig { retention_days, ..DatabaseConfig::default() };
            config.kept_since("2026-11-21T08:00:00Z".parse().unwrap()).map(|since| since.to_string())
        };
        assert_eq!(kept_since(30).as_deref(), Some("2026-10-22T08:00:00Z"));
        assert_eq!(kept_since(0), None);
        assert_eq!(kept_since(u16::MAX).as_deref(), Some("1847-06-18T08:00:00Z"));
    }
}
