//! The settings of STIR/SHAKEN, for the server and for single trunks.

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
    /// How the server treats the Identity headers of calls over trunks.
    pub verify: Verify,
    /// PEM file with the trusted authorities.
    pub trust: Option<PathBuf>,
    /// Maximum age of a signature in seconds. The time of a signature may also be ahead of this server's clock by at
    /// most this number of seconds.
    pub max_age_seconds: u32,
    /// Maximum time that a call waits for the certificate, in milliseconds.
    pub timeout_ms: u32,
    /// The ports from which certificates may be fetched.
    pub ports: Vec<u16>,
    /// The non-public networks from which certificates may be fetched.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// PEM file with additional authorities for the HTTPS servers of certificates.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the private key that signs calls over trunks.
    pub key: Option<PathBuf>,
    /// URL from which the far end fetches the certificate of `key`.
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

/// How the server treats Identity headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Identity headers are ignored.
    #[default]
    Off,
    /// Identity headers are verified, and the result is reported.
    Report,
    /// Calls without a valid Identity header are refused (RFC 8224 §6.2.2).
    Require,
}

/// The settings of `trunks.stir`, which replace settings of `[stir]` for one trunk.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrunkStir {
    /// Replaces `stir.verify` for inbound calls over the trunk.
    pub verify: Option<Verify>,
    /// Whether this server signs calls over the trunk (if there is a key). If so, this server also passes on the
    /// Identity headers of the inbound INVITE.
    pub sign: bool,
    /// Replaces `stir.key`.
    pub key: Option<PathBuf>,
    /// Replaces `stir.certificate_url`.
    pub certificate_url: Option<Arc<str>>,
    /// The attestation of every call over the trunk. `None` means that the server determines the attestation for each
    /// call.
    pub attestation: Option<Attestation>,
}

impl Default for TrunkStir {
    fn default() -> Self {
        Self { verify: None, sign: true, key: None, certificate_url: None, attestation: None }
    }
}
