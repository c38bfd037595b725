//! `[[trunks]]`: carriers and PBXs.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use super::Secret;
use super::header_pattern::{self, HeaderPattern};
use super::network::networks;
use super::stir::TrunkStir;

/// An entry of `[[trunks]]`: a carrier or a PBX.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig {
    /// The unique name of the trunk.
    pub name: Arc<str>,
    /// The account whose outbound calls may use the trunk and which gets its inbound calls; all accounts when `None`.
    #[serde(default)]
    pub account: Option<Arc<str>>,
    /// The destination of outbound calls, `sip:HOST[:PORT][;transport=tcp]`; `None` for a trunk with inbound calls
    /// only.
    #[serde(default)]
    pub uri: Option<Arc<str>>,
    /// Source networks from which the trunk's calls need no password.
    #[serde(default, deserialize_with = "networks")]
    pub inbound_from: Vec<IpNet>,
    /// The digest user name that the trunk's inbound calls must use.
    #[serde(default)]
    pub inbound_username: Option<Arc<str>>,
    /// The digest password of inbound calls.
    #[serde(default)]
    pub inbound_password: Option<Secret>,
    /// Whether inbound calls need the right source or the password, or both.
    #[serde(default)]
    pub inbound_auth: InboundAuth,
    /// Prefixes of the destinations that the trunk accepts (`+`, `+4930`, `0`). The longest match wins, then priority
    /// and weight.
    #[serde(default)]
    pub prefixes: Vec<Arc<str>>,
    /// The order among trunks with equally long prefixes: the lowest goes first. 0 to 65535, default 0.
    #[serde(default)]
    pub priority: u16,
    /// The share among trunks of equal priority: the first one is drawn at random, in proportion to the weights. 1 to
    /// 65535, default 1.
    #[serde(default = "one")]
    pub weight: u16,
    /// The id by which applications select the trunk for a call: `BY` and 32 hex digits.
    #[serde(default)]
    pub byoc: Option<Arc<str>>,
    /// The digest user name for the trunk's challenges.
    #[serde(default)]
    pub username: Option<Arc<str>>,
    /// The digest password for the trunk's challenges.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The host of the From header field; `sip.advertise` when `None`.
    #[serde(default)]
    pub from_domain: Option<Arc<str>>,
    /// The codecs of the trunk's calls in both directions, best first; those of `[media]` when empty.
    #[serde(default)]
    pub codecs: Vec<tandem_media::CodecName>,
    /// Reliable provisional responses (RFC 3262); `sip.prack` when `None`.
    #[serde(default)]
    pub prack: Option<tandem_sip::Prack>,
    /// How DTMF digits are sent over the trunk.
    #[serde(default)]
    pub dtmf: DtmfMode,
    /// Whether the trunk's far end may transfer calls (REFER); the account pays for the new call. `sip.refer` when
    /// `None`.
    #[serde(default)]
    pub refer: Option<bool>,
    /// Whether a call for a caller without an SDP offer is sent without one too, so that the callee makes the offer
    /// (RFC 3261 §13.2.1).
    #[serde(default)]
    pub late_offer: bool,
    /// Whether calls over the trunk follow 3xx responses.
    #[serde(default = "yes")]
    pub redirects: bool,
    /// Maximum number of simultaneous calls, both directions together; no limit of its own when `None`.
    #[serde(default)]
    pub max_calls: Option<u32>,
    /// Maximum number of new calls per second, for each direction separately; no limit of its own when `None`.
    #[serde(default)]
    pub max_cps: Option<u32>,
    /// Whether to register with the trunk (RFC 3261 §10).
    #[serde(default)]
    pub register: bool,
    /// A PEM file with the authorities that may have issued the trunk's certificate; those of `sip.ca_file` when
    /// `None`.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The name that the trunk's certificate must have; the host of `uri` when `None`.
    #[serde(default)]
    pub tls_name: Option<String>,
    /// SHA-256 fingerprints of the certificates that are accepted, whatever their issuer and name.
    #[serde(default)]
    pub fingerprints: Vec<Fingerprint>,
    /// A PEM file with the certificate that the server shows to the trunk, with `key`; the first of `sip.certificates`
    /// when `None`.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// A PEM file with the private key of `certificate`.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Whether inbound calls must come over TLS with the trunk's certificate. They may come from any address if
    /// `inbound_from` is empty.
    #[serde(default)]
    pub mutual_tls: bool,
    /// Media encryption (SRTP, RFC 3711, with keys in SDP, RFC 4568) in both directions.
    #[serde(default)]
    pub srtp: tandem_media::Srtp,
    /// The sources from which the RTP of the trunk's calls is accepted.
    #[serde(default)]
    pub media_source: tandem_media::MediaSource,
    /// Settings for signed calling numbers (STIR) that differ from `[stir]`.
    #[serde(default)]
    pub stir: TrunkStir,
    /// Seconds between OPTIONS requests; 0: none are sent.
    #[serde(default)]
    pub options_interval: u32,
    /// The registrar, `sip:HOST[:PORT]`, if it is not at `uri`.
    #[serde(default)]
    pub registrar: Option<Arc<str>>,
    /// Seconds that a registration should last.
    #[serde(default = "hour")]
    pub register_expires: u32,
    /// The user of the registered Contact; `username` when `None`.
    #[serde(default)]
    pub contact_user: Option<Arc<str>>,
    /// The form in which the trunk writes numbers.
    #[serde(default)]
    pub number_format: NumberFormat,
    /// The country code, in digits, whose numbers are national for the trunk (`49`).
    #[serde(default)]
    pub country_code: Option<Arc<str>>,
    /// The prefix of national numbers.
    #[serde(default = "national_prefix")]
    pub national_prefix: Arc<str>,
    /// The prefix of numbers in other countries.
    #[serde(default = "international_prefix")]
    pub international_prefix: Arc<str>,
    /// Removed from the start of a called number of an outbound call, after `number_format`.
    #[serde(default)]
    pub strip_prefix: Option<Arc<str>>,
    /// Added to the start of a called number of an outbound call, after `strip_prefix`.
    #[serde(default)]
    pub add_prefix: Option<Arc<str>>,
    /// Removed from the start of a called number of an inbound call, before `number_format`.
    #[serde(default)]
    pub inbound_strip_prefix: Option<Arc<str>>,
    /// Added to the start of a called number of an inbound call, after `inbound_strip_prefix`.
    #[serde(default)]
    pub inbound_add_prefix: Option<Arc<str>>,
    /// Where the trunk has the calling number.
    #[serde(default)]
    pub caller_id: CallerId,
    /// Whether the trunk's asserted identities are believed, and whether it is told the identity of anonymous callers
    /// (RFC 3325).
    #[serde(default)]
    pub trusted: bool,
    /// Header fields of the caller that are passed on with bridged calls over the trunk.
    #[serde(default = "header_pattern::usual")]
    pub pass_headers: Vec<HeaderPattern>,
    /// How the trunk is told that a call was forwarded.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Whether the trunk's calls may reach the account's phones by user name, if the name is no number.
    #[serde(default)]
    pub phones: bool,
    /// The final responses after which a call is tried over the next trunk.
    #[serde(default = "failures")]
    pub failover_on: Vec<u16>,
}

impl TrunkConfig {
    /// How TLS connections of the trunk are made and checked.
    pub fn tls(&self) -> tandem_sip::TrunkTls {
        let own = self.certificate.clone().zip(self.key.clone());
        // Without a check of the name, any certificate of a public authority would be accepted.
        let host = || self.uri.as_deref().and_then(host_name).filter(|_| self.mutual_tls);
        tandem_sip::TrunkTls {
            trunk: Arc::clone(&self.name),
            name: self.tls_name.clone().or_else(host),
            ca_file: self.ca_file.clone(),
            fingerprints: self.fingerprints.iter().map(|fingerprint| fingerprint.0).collect(),
            certificate: own.map(|(certificate, key)| tandem_sip::Certificate { certificate, key }),
            mutual: self.mutual_tls.then(|| self.inbound_from.clone()),
        }
    }

    /// The networks whose source address is enough to identify the trunk's calls.
    pub fn networks(&self) -> Vec<IpNet> {
        if self.mutual_tls { Vec::new() } else { self.inbound_from.clone() }
    }
}

/// The host of `sip:HOST:PORT;...`, unless it is an address.
fn host_name(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once(':')?;
    let authority = rest.split(';').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).split(':').next()?;
    (!host.starts_with('[') && host.parse::<std::net::IpAddr>().is_err()).then(|| host.to_owned())
}

/// The proof that a trunk with `inbound_username` must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InboundAuth {
    /// The source (a network of `inbound_from`, or its certificate), or the password.
    #[default]
    Either,
    /// Both.
    Both,
}

/// SHA-256 of a certificate: 64 hex digits with or without colons, as `openssl x509 -fingerprint -sha256` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "is not the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons";
        let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b':').collect();
        let mut fingerprint = [0; 32];
        if digits.len() != 64 {
            return Err(wrong);
        }
        for (octet, pair) in fingerprint.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong)?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| wrong)?;
        }
        Ok(Self(fingerprint))
    }
}

fn yes() -> bool {
    true
}

fn one() -> u16 {
    1
}

fn hour() -> u32 {
    3_600
}

fn national_prefix() -> Arc<str> {
    "0".into()
}

fn international_prefix() -> Arc<str> {
    "00".into()
}

fn failures() -> Vec<u16> {
    vec![408, 500, 501, 502, 503, 504]
}

/// `trunks.dtmf`: how DTMF digits are sent over a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtmfMode {
    /// As telephone-events, or as tones if the far end does not support these.
    #[default]
    Rfc4733,
    /// With SIP INFO (`application/dtmf-relay`). Telephone-events are neither offered nor accepted.
    Info,
    /// As tones. Telephone-events are neither offered nor accepted.
    Inband,
}

/// The header that carries the calling number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerId {
    /// From alone.
    #[default]
    From,
    /// P-Asserted-Identity in addition to From. To an untrusted trunk, P-Preferred-Identity instead.
    Pai,
    /// Remote-Party-ID in addition to From.
    Rpid,
}

/// The header that tells a trunk that a call was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// No header.
    Off,
    /// The Diversion header.
    #[default]
    Diversion,
    /// The History-Info header.
    HistoryInfo,
}

/// The format in which a trunk writes numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberFormat {
    /// Numbers stay unchanged in both directions.
    #[default]
    AsIs,
    /// E.164: `+493012345678`.
    E164,
    /// E.164 digits without the plus sign: `493012345678`.
    Digits,
    /// `03012345678` within `country_code`, `0015551230001` for other countries.
    National,
}
