//! What an operator sets for control: the HTTP listener, the database, speech, and the resources that the file names.
//!
//! These types only say the shape; crate `tandem-config` reads them and checks that they make sense together.
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
pub use self::trunk::{CallerId, Dtmf, Fingerprint, Forwarding, InboundAuth, NumberFormat, TrunkConfig};

/// `[http]`: the one listener of every provider surface, gateway, console and health check.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port to bind. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `http://` or `https://` base that callers are told and that signatures sign; the bound address when `None`.
    pub public_url: Option<Arc<str>>,
    /// Address and port of a listener for `/metrics`, `/healthz` and `/readyz` alone. With it `/metrics` is not on `listen`;
    /// without it, `/metrics` is there for this machine, and for others with an operator's credentials.
    pub metrics_listen: Option<SocketAddr>,
    /// Connections at a time, half of them from one source at most; more wait, or are closed.
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
    /// The base of every URL that we hand out, without a trailing slash. `bound` is the listener's real address.
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
    /// Days that event logs and webhooks which are done are kept; 0 for ever. Calls, recordings and webhooks still to be
    /// sent are always kept.
    pub retention_days: u16,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: Secret::new("sqlite:data/tandem.db"), retention_days: 30 }
    }
}

impl DatabaseConfig {
    /// What is older may go; `None`: nothing may.
    pub fn kept_since(&self, now: Timestamp) -> Option<Timestamp> {
        let age = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        (self.retention_days > 0).then(|| now.checked_sub(age).unwrap_or(Timestamp::MIN))
    }
}

/// `[log]`: the server's own log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// What is logged: a level, or levels by module; [`crate::log_filter::check`] says in what form.
    pub level: Arc<str>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".into() }
    }
}

/// How a line of the log is written.
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
    /// Networks that are not public and may all the same be the target of webhooks, media files and streams.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// PEM file of certificate authorities that applications may have their certificates from, beside this machine's own.
    pub ca_file: Option<PathBuf>,
    /// Whether Twilio's webhooks to `https` URLs with a port are signed as if they had none.
    pub sign_strip_https_port: bool,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        let allow_networks = network::network("127.0.0.0/8").into_iter().collect();
        Self { allow_networks, ca_file: None, sign_strip_https_port: false }
    }
}

/// `[twilio]`: how like the original its API is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwilioConfig {
    /// Whether calls by REST must say that they come from a number of the account, or one that it has verified.
    pub strict_caller_id: bool,
}

/// `[ice]`: servers that help browsers through NATs, as their applications are told.
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IceConfig {
    /// `stun:HOST[:PORT]`.
    pub stun: Vec<Arc<str>>,
    /// `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:`.
    pub turn: Vec<Arc<str>>,
    /// What the TURN servers make their passwords of, as we do.
    pub turn_secret: Option<Secret>,
}

/// `[streams]`: audio to and from WebSocket applications.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    /// Seconds of an application's audio that may wait to be played; what it sends beyond them is refused.
    pub buffer_seconds: u16,
    /// Seconds without any sign of life of an application, not even a pong, before its stream is ended; 0: never.
    pub idle_seconds: u16,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self { buffer_seconds: 600, idle_seconds: 60 }
    }
}

impl StreamsConfig {
    /// Longest without a sign of life; `None`: for ever.
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
