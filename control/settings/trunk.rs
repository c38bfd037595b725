//! `[[trunks]]`: connections to carriers and PBXs.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use tandem_id::AccountName;

use super::Secret;
use super::header_pattern::{self, HeaderPattern};
use super::network::networks;
use super::stir::TrunkStir;

/// An entry of `[[trunks]]`: the connection to a carrier or a PBX.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig {
    /// The unique name of the trunk.
    pub name: Arc<str>,
    /// The account of the trunk. Only this account may use the trunk for outbound calls, and this account receives the
    /// trunk's inbound calls. `None` means all accounts.
    #[serde(default)]
    pub account: Option<AccountName>,
    /// The destination of outbound calls, `sip:HOST[:PORT][;transport=tcp]`. `None` means that the trunk has only
    /// inbound calls.
    #[serde(default)]
    pub uri: Option<Arc<str>>,
    /// The source networks from which inbound calls of the trunk need no password.
    #[serde(default, deserialize_with = "networks")]
    pub inbound_from: Vec<IpNet>,
    /// The user name that the trunk's inbound calls must use in digest authentication.
    #[serde(default)]
    pub inbound_username: Option<Arc<str>>,
    /// The password for the digest authentication of inbound calls.
    #[serde(default)]
    pub inbound_password: Option<Secret>,
    /// Whether inbound calls need the right source, the password, or both.
    #[serde(default)]
    pub inbound_auth: InboundAuth,
    /// The prefixes of the destinations that the trunk accepts, for example `+`, `+4930` or `0`. The trunk with the
    /// longest matching prefix is used first. After that, priority and weight decide.
    #[serde(default)]
    pub prefixes: Vec<Arc<str>>,
    /// The order of trunks whose matching prefixes have the same length. The trunk with the lowest number is used
    /// first. The range is 0 to 65535, and the default is 0.
    #[serde(default)]
    pub priority: u16,
    /// The trunk's share of the calls among trunks of equal priority. The first trunk is chosen at random, and the
    /// probability of a trunk is proportional to its weight. The range is 1 to 65535, and the default is 1.
    #[serde(default = "one")]
    pub weight: u16,
    /// The id that applications use to choose this trunk for a call: `BY` and 32 hex digits.
    #[serde(default)]
    pub byoc: Option<Arc<str>>,
    /// The user name with which this server answers digest challenges of the trunk.
    #[serde(default)]
    pub username: Option<Arc<str>>,
    /// The password with which this server answers digest challenges of the trunk.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The host in the From header field. `None` means the host in `sip.advertise`.
    #[serde(default)]
    pub from_domain: Option<Arc<str>>,
    /// The codecs of the trunk's calls in both directions, best codec first. An empty list means the codecs of
    /// `[media]`.
    #[serde(default)]
    pub codecs: Vec<tandem_media::CodecName>,
    /// The use of reliable provisional responses (RFC 3262). `None` means the setting `sip.prack`.
    #[serde(default)]
    pub prack: Option<tandem_sip::Prack>,
    /// How DTMF digits are sent over the trunk.
    #[serde(default)]
    pub dtmf: DtmfMode,
    /// Whether the trunk's far end may transfer calls (REFER). The account pays for the new call. `None` means the
    /// setting `sip.refer`.
    #[serde(default)]
    pub refer: Option<bool>,
    /// Whether this server sends an INVITE without an SDP offer over this trunk if the caller's INVITE had no offer.
    /// The callee then makes the offer (RFC 3261 §13.2.1).
    #[serde(default)]
    pub late_offer: bool,
    /// Whether calls over the trunk follow redirections (3xx responses).
    #[serde(default = "yes")]
    pub redirects: bool,
    /// Whether the trunk is behind a NAT router and is known by its address. Responses and the requests of a call then go
    /// to the address of the router, and not to the addresses in Via and Contact.
    #[serde(default)]
    pub nat: bool,
    /// Maximum number of concurrent calls of the trunk. Inbound and outbound calls count together. `None` means that
    /// the trunk has no limit of its own.
    #[serde(default)]
    pub max_calls: Option<u32>,
    /// Maximum number of new calls of the trunk in one second. Inbound and outbound calls count separately. `None`
    /// means that the trunk has no limit of its own.
    #[serde(default)]
    pub max_cps: Option<u32>,
    /// Whether this server registers with the trunk (RFC 3261 §10).
    #[serde(default)]
    pub register: bool,
    /// A PEM file with the accepted authorities for the trunk's certificate. `None` means the authorities of
    /// `sip.ca_file`.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The name that the trunk's certificate must contain. `None` means the host in `uri`.
    #[serde(default)]
    pub tls_name: Option<String>,
    /// SHA-256 fingerprints of accepted certificates. If a certificate has one of these fingerprints, its issuer and
    /// its name are not checked.
    #[serde(default)]
    pub fingerprints: Vec<Fingerprint>,
    /// A PEM file with the certificate that the server presents to the trunk. Requires `key`. `None` means the first
    /// certificate of `sip.certificates`.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// A PEM file with the private key for `certificate`.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Whether inbound calls must arrive over TLS with the trunk's certificate. If `inbound_from` is empty, such calls
    /// may come from any address.
    #[serde(default)]
    pub mutual_tls: bool,
    /// Media encryption in both directions (SRTP, RFC 3711). The keys are in the SDP (RFC 4568).
    #[serde(default)]
    pub srtp: tandem_media::Srtp,
    /// The sources from which the trunk's calls accept RTP.
    #[serde(default)]
    pub media_source: tandem_media::MediaSource,
    /// Settings for signed calling numbers (STIR) that replace settings of `[stir]`.
    #[serde(default)]
    pub stir: TrunkStir,
    /// Seconds between two OPTIONS requests. 0 means that no OPTIONS requests are sent.
    #[serde(default)]
    pub options_interval: u32,
    /// The registrar, in the form `sip:HOST[:PORT]`. `None` means that the registrar is at `uri`.
    #[serde(default)]
    pub registrar: Option<Arc<str>>,
    /// Requested duration of a registration, in seconds.
    #[serde(default = "hour")]
    pub register_expires: u32,
    /// The user in the registered Contact. `None` means `username`.
    #[serde(default)]
    pub contact_user: Option<Arc<str>>,
    /// The form in which the trunk writes numbers.
    #[serde(default)]
    pub number_format: NumberFormat,
    /// The country code of the numbers that are national for the trunk, as digits (for example `49`).
    #[serde(default)]
    pub country_code: Option<Arc<str>>,
    /// The prefix of national numbers.
    #[serde(default = "national_prefix")]
    pub national_prefix: Arc<str>,
    /// The prefix of numbers in other countries.
    #[serde(default = "international_prefix")]
    pub international_prefix: Arc<str>,
    /// A prefix that is removed from the called number of an outbound call, after `number_format` is applied.
    #[serde(default)]
    pub strip_prefix: Option<Arc<str>>,
    /// A prefix that is added to the called number of an outbound call, after `strip_prefix` is removed.
    #[serde(default)]
    pub add_prefix: Option<Arc<str>>,
    /// A prefix that is removed from the called number of an inbound call, before `number_format` is applied.
    #[serde(default)]
    pub inbound_strip_prefix: Option<Arc<str>>,
    /// A prefix that is added to the called number of an inbound call, after `inbound_strip_prefix` is removed.
    #[serde(default)]
    pub inbound_add_prefix: Option<Arc<str>>,
    /// The header field for the calling number in calls over the trunk.
    #[serde(default)]
    pub caller_id: CallerId,
    /// Whether the trunk is trusted (RFC 3325). This server believes the asserted identities of a trusted trunk. This
    /// server also tells a trusted trunk the identity of anonymous callers.
    #[serde(default)]
    pub trusted: bool,
    /// Header fields of the caller that are passed on with bridged calls over the trunk.
    #[serde(default = "header_pattern::usual")]
    pub pass_headers: Vec<HeaderPattern>,
    /// The header that reports a forwarded call to the trunk.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Whether calls from the trunk can reach the account's phones by user name. This applies to a called name that is
    /// not a number.
    #[serde(default)]
    pub phones: bool,
    /// The final responses after which the server tries the next trunk for the call.
    #[serde(default = "failures")]
    pub failover_on: Vec<u16>,
}

impl TrunkConfig {
    /// Returns the TLS settings for connections of the trunk.
    pub fn tls(&self) -> tandem_sip::TrunkTls {
        let own = self.certificate.clone().zip(self.key.clone());
        // Without a check of the name, every certificate of a public authority would be accepted.
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

    /// Returns the source networks that identify a call of the trunk without further proof.
    pub fn networks(&self) -> Vec<IpNet> {
        if self.mutual_tls { Vec::new() } else { self.inbound_from.clone() }
    }
}

/// Returns the host in `sip:HOST:PORT;...`. Returns `None` if the host is an IP address.
fn host_name(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once(':')?;
    let authority = rest.split(';').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).split(':').next()?;
    (!host.starts_with('[') && host.parse::<std::net::IpAddr>().is_err()).then(|| host.to_owned())
}

/// The proof that an inbound call needs if the trunk has `inbound_username`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InboundAuth {
    /// Either the right source or the password. The right source is a network of `inbound_from`, or the trunk's
    /// certificate.
    #[default]
    Either,
    /// Both the right source and the password.
    Both,
}

/// The SHA-256 fingerprint of a certificate: 64 hex digits with or without colons, as printed by `openssl x509
/// -fingerprint -sha256`.
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

/// The setting `trunks.dtmf`: how DTMF digits are sent over a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtmfMode {
    /// The digits are sent as telephone-events. If the far end does not support telephone-events, the digits are sent
    /// as tones.
    #[default]
    Rfc4733,
    /// The digits are sent with SIP INFO (`application/dtmf-relay`). Telephone-events are neither offered nor accepted.
    Info,
    /// The digits are sent as tones. Telephone-events are neither offered nor accepted.
    Inband,
}

/// The header that carries the calling number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerId {
    /// The From header only.
    #[default]
    From,
    /// P-Asserted-Identity in addition to From. An untrusted trunk receives P-Preferred-Identity instead.
    Pai,
    /// Remote-Party-ID in addition to From.
    Rpid,
}

/// The header that reports a forwarded call to a trunk.
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
    /// Numbers are not changed in either direction.
    #[default]
    AsIs,
    /// E.164: `+493012345678`.
    E164,
    /// E.164 digits without the plus sign: `493012345678`.
    Digits,
    /// National format within `country_code`, for example `03012345678`. A number in another country has the
    /// international prefix, for example `0015551230001`.
    National,
}
