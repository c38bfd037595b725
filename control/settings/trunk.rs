//! `[[trunks]]`: carriers and PBXs.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use super::Secret;
use super::header_pattern::{self, HeaderPattern};
use super::network::networks;
use super::stir::TrunkStir;

/// `[[trunks]]`: a carrier or a PBX.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig {
    /// Its name, unique.
    pub name: Arc<str>,
    /// Whose outbound calls may use it and whose inbound calls arrive by it; every account's when `None`.
    #[serde(default)]
    pub account: Option<Arc<str>>,
    /// `sip:HOST[:PORT][;transport=tcp]`, where outbound calls go; `None` for a trunk that only calls in.
    #[serde(default)]
    pub uri: Option<Arc<str>>,
    /// Source networks that may send calls without a password.
    #[serde(default, deserialize_with = "networks")]
    pub inbound_from: Vec<IpNet>,
    /// Digest user name that its calls show.
    #[serde(default)]
    pub inbound_username: Option<Arc<str>>,
    /// Its password.
    #[serde(default)]
    pub inbound_password: Option<Secret>,
    /// Whether source or password is enough, or both are asked for.
    #[serde(default)]
    pub inbound_auth: InboundAuth,
    /// Beginnings of the destinations it takes (`+`, `+4930`, `0`); the longest match wins, then priority and weight.
    #[serde(default)]
    pub prefixes: Vec<Arc<str>>,
    /// Among equally long prefixes the lowest goes first. 0 to 65535, default 0.
    #[serde(default)]
    pub priority: u16,
    /// Among equal priorities one goes first by chance, this often compared with the others. 1 to 65535, default 1.
    #[serde(default = "one")]
    pub weight: u16,
    /// The id by which applications choose it for a call, `BY` and 32 hex digits.
    #[serde(default)]
    pub byoc: Option<Arc<str>>,
    /// Digest user name that answers the peer's challenges.
    #[serde(default)]
    pub username: Option<Arc<str>>,
    /// Digest password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Host of the From header; what `sip.advertise` says when `None`.
    #[serde(default)]
    pub from_domain: Option<Arc<str>>,
    /// Codecs of the calls over it, both ways, best first; those of `[media]` when empty.
    #[serde(default)]
    pub codecs: Vec<tandem_media::CodecName>,
    /// Reliable provisional responses (RFC 3262); what `sip.prack` says when `None`.
    #[serde(default)]
    pub prack: Option<tandem_sip::Prack>,
    /// How keys are pressed over it.
    #[serde(default)]
    pub dtmf: Dtmf,
    /// Whether its peer may transfer calls (REFER), at the expense of whoever calls on; what `sip.refer` says when `None`.
    #[serde(default)]
    pub refer: Option<bool>,
    /// Whether calls over it for callers that made no offer make none either: the callee does then (RFC 3261 §13.2.1).
    #[serde(default)]
    pub late_offer: bool,
    /// Whether calls over it follow 3xx responses.
    #[serde(default = "yes")]
    pub redirects: bool,
    /// Most calls at a time, both directions; no limit of its own when `None`.
    #[serde(default)]
    pub max_calls: Option<u32>,
    /// Most new calls per second, each direction for itself; no limit of its own when `None`.
    #[serde(default)]
    pub max_cps: Option<u32>,
    /// Whether to register with the peer (RFC 3261 §10).
    #[serde(default)]
    pub register: bool,
    /// PEM file of the authorities its certificate is checked against; `sip.ca_file`'s when `None`.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The name its certificate is for; the host of `uri` when `None`.
    #[serde(default)]
    pub tls_name: Option<String>,
    /// The certificates it may have, whoever issued them, for whatever name.
    #[serde(default)]
    pub fingerprints: Vec<Fingerprint>,
    /// PEM file of the certificate that we show it, with `key`; the first of `sip.certificates` when `None`.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// It calls in over TLS with its certificate only, and then from anywhere if `inbound_from` is empty.
    #[serde(default)]
    pub mutual_tls: bool,
    /// Encrypted media (RFC 3711, keys by RFC 4568), both ways.
    #[serde(default)]
    pub srtp: tandem_media::Srtp,
    /// Where the RTP of its calls may come from.
    #[serde(default)]
    pub media_source: tandem_media::MediaSource,
    /// Signatures of calling numbers, where not as in `[stir]`.
    #[serde(default)]
    pub stir: TrunkStir,
    /// Seconds between OPTIONS pings; 0 for none.
    #[serde(default)]
    pub options_interval: u32,
    /// Where to register, when not at `uri`: `sip:HOST[:PORT]`.
    #[serde(default)]
    pub registrar: Option<Arc<str>>,
    /// Seconds that a registration is asked to last.
    #[serde(default = "hour")]
    pub register_expires: u32,
    /// User of the Contact that is registered; `username` when `None`.
    #[serde(default)]
    pub contact_user: Option<Arc<str>>,
    /// How it writes numbers.
    #[serde(default)]
    pub number_format: NumberFormat,
    /// Digits of the country whose numbers are national to it (`49`).
    #[serde(default)]
    pub country_code: Option<Arc<str>>,
    /// What a national number begins with.
    #[serde(default = "national_prefix")]
    pub national_prefix: Arc<str>,
    /// What a number of another country begins with.
    #[serde(default = "international_prefix")]
    pub international_prefix: Arc<str>,
    /// Taken from the beginning of a called number on its way out, after `number_format` ...
    #[serde(default)]
    pub strip_prefix: Option<Arc<str>>,
    /// ... and put there.
    #[serde(default)]
    pub add_prefix: Option<Arc<str>>,
    /// Taken from the beginning of a called number on its way in, before `number_format` ...
    #[serde(default)]
    pub inbound_strip_prefix: Option<Arc<str>>,
    /// ... and put there.
    #[serde(default)]
    pub inbound_add_prefix: Option<Arc<str>>,
    /// Where it has the calling number.
    #[serde(default)]
    pub caller_id: CallerId,
    /// Whether what it asserts of callers is believed, and whether it is told of those who want to be unknown (RFC 3325).
    #[serde(default)]
    pub trusted: bool,
    /// Header fields of the caller that go with calls straight through over it.
    #[serde(default = "header_pattern::usual")]
    pub pass_headers: Vec<HeaderPattern>,
    /// How it is told that a call was forwarded.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Whether calls from it reach its account's phones by their names, where the name is no number's.
    #[serde(default)]
    pub phones: bool,
    /// Final responses after which a call is tried over the next trunk.
    #[serde(default = "failures")]
    pub failover_on: Vec<u16>,
}

impl TrunkConfig {
    /// How its connections over TLS are made and checked.
    pub fn tls(&self) -> tandem_sip::TrunkTls {
        let own = self.certificate.clone().zip(self.key.clone());
        // Any certificate of a public authority would do, were its name not looked at.
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

    /// The networks whose addresses alone say that a call is from there.
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

/// What a trunk with `inbound_username` has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InboundAuth {
    /// That it calls from `inbound_from` (or with its certificate), or its password.
    #[default]
    Either,
    /// Both.
    Both,
}

/// SHA-256 of a certificate, 64 hexadecimal digits with or without colons, as `openssl x509 -fingerprint -sha256` shows it.
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

/// `trunks.dtmf`: how keys are pressed over a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtmf {
    /// As telephone-events, and as tones with a peer that has none.
    #[default]
    Rfc4733,
    /// By INFO (`application/dtmf-relay`); telephone-events are not offered, nor taken.
    Info,
    /// As tones; telephone-events are not offered, nor taken.
    Inband,
}

/// Where a trunk has the calling number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerId {
    /// From alone.
    #[default]
    From,
    /// P-Asserted-Identity, or to a trunk that is not trusted P-Preferred-Identity, beside From.
    Pai,
    /// Remote-Party-ID beside From.
    Rpid,
}

/// How a trunk is told that a call was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// Not at all.
    Off,
    /// By Diversion.
    #[default]
    Diversion,
    /// By History-Info.
    HistoryInfo,
}

/// How a trunk writes numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberFormat {
    /// As they come, both ways.
    #[default]
    AsIs,
    /// `+493012345678`.
    E164,
    /// `493012345678`.
    Digits,
    /// `03012345678` within `country_code`, `0015551230001` beyond it.
    National,
}
