//! The settings of STIR/SHAKEN, for the server and for a trunk.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use tandem_sip::stir::Attestation;

use super::network::networks;

/// The settings of `[stir]`: verification and signing of calling numbers (RFC 8224).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StirConfig {
    /// Treatment of the Identity headers of calls over trunks.
    pub verify: Verify,
    /// PEM file of the trusted authorities.
    pub trust: Option<PathBuf>,
    /// Maximum age of a signature, and maximum lead over our clock, in seconds.
    pub max_age_seconds: u32,
    /// Maximum time that a call waits for the certificate, in milliseconds.
    pub timeout_ms: u32,
    /// Ports at which certificates may be fetched.
    pub ports: Vec<u16>,
    /// Non-public networks from which certificates may be fetched.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// PEM file of further authorities for the HTTPS servers that certificates are fetched from.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the private key for signing calls over trunks.
    pub key: Option<PathBuf>,
    /// URL of the certificate of `key`, for the verifying side.
    pub certificate_url: Option<Arc<str>>,
}

impl Default for StirConfig {
    fn default() -> Self {
        Self {
            verify: Verify::Off,
            trust: None,
            max_age_seconds: 60,
            timeout_ms: 1_500,
            ports: vec![443, 8443],
            allow_networks: Vec::new(),
            ca_file: None,
            key: None,
            certificate_url: None,
        }
    }
}

/// The treatment of Identity headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// They are ignored.
    #[default]
    Off,
    /// They are verified, and the result is reported.
    Report,
    /// Calls without a valid Identity header are refused (RFC 8224 §6.2.2).
    Require,
}

/// The settings of `trunks.stir`, which override `[stir]` for a trunk.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrunkStir {
    /// Replaces `stir.verify` for incoming calls over the trunk.
    pub verify: Option<Verify>,
    /// Whether calls over the trunk are signed, if there is a key, and keep the Identity headers that they arrived
    /// with.
    pub sign: bool,
    /// Replaces `stir.key`.
    pub key: Option<PathBuf>,
    /// Replaces `stir.certificate_url`.
    pub certificate_url: Option<Arc<str>>,
    /// Attestation of every call over the trunk; determined for each call when `None`.
    pub attestation: Option<Attestation>,
}

impl Default for TrunkStir {
    fn default() -> Self {
        Self { verify: None, sign: true, key: None, certificate_url: None, attestation: None }
    }
}
