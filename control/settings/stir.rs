//! `[stir]`, and a trunk's own word on it.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use tandem_sip::stir::Attestation;

use super::network::networks;

/// `[stir]`: who vouches for calling numbers (RFC 8224).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StirConfig {
    /// What becomes of the Identity headers of calls that come over trunks.
    pub verify: Verify,
    /// PEM file of the authorities whose certificates are believed.
    pub trust: Option<PathBuf>,
    /// Seconds that a signature may be old, or ahead of our clock.
    pub max_age_seconds: u32,
    /// Milliseconds that a call waits for its certificate.
    pub timeout_ms: u32,
    /// Ports that certificates are fetched from.
    pub ports: Vec<u16>,
    /// Networks that are not public and that certificates may be fetched from all the same.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// PEM file of further authorities for the HTTPS servers that certificates are fetched from.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the private key that calls over trunks are signed with.
    pub key: Option<PathBuf>,
    /// Where others find its certificate.
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

/// What becomes of Identity headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// They are not looked at.
    #[default]
    Off,
    /// Verified, and reported.
    Report,
    /// Calls without a good one are refused (RFC 8224 §6.2.2).
    Require,
}

/// `trunks.stir`: where a trunk departs from `[stir]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrunkStir {
    /// Instead of `stir.verify`, for calls that come over it.
    pub verify: Option<Verify>,
    /// Whether calls over it are signed, if there is a key, and keep the Identity headers that they came with.
    pub sign: bool,
    /// Instead of `stir.key`.
    pub key: Option<PathBuf>,
    /// Instead of `stir.certificate_url`.
    pub certificate_url: Option<Arc<str>>,
    /// What is attested of every call over it; found out for each when `None`.
    pub attestation: Option<Attestation>,
}

impl Default for TrunkStir {
    fn default() -> Self {
        Self { verify: None, sign: true, key: None, certificate_url: None, attestation: None }
    }
}
