//! What an operator sets for control: the HTTP listener, the database, speech, and the resources that the file names.
//!
//! These types only say the shape; crate `tandem-config` reads them and checks that they make sense together.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer};
use tandem_call::address::PhoneNumber;
use tandem_media::{RecordingKey, WavCoding};

use crate::keys::Dtmf;
use crate::recordings::RecordingFiles;
use crate::stir::TrunkStir;
use crate::trunk::identity::{CallerId, Forwarding};
use crate::trunk::numbering::NumberFormat;
use crate::trunk::passing;

/// Providers as `provider = "..."` spells them.
pub const PROVIDERS: [&str; 4] = ["twilio", "telnyx", "texml", "signalwire"];

/// `[http]`: the one listener of every provider surface, gateway, console and health check.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port to bind. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `http://` or `https://` base that callers are told and that signatures sign; the bound address when `None`.
    pub public_url: Option<Arc<str>>,
    /// Connections at a time, half of them from one source at most; more wait, or are closed.
    pub max_connections: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)), public_url: None, max_connections: 1024 }
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

/// `[recordings]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordingsConfig {
    /// `file:DIRECTORY`.
    pub url: Arc<str>,
    /// What the samples of new ones are.
    pub format: WavCoding,
    /// Encrypts new ones and opens those that are encrypted: base64 of 32 octets, or `file:PATH` of a file with that, or with
    /// the 32 octets themselves.
    pub encryption_key: Option<Secret>,
}

impl Default for RecordingsConfig {
    fn default() -> Self {
        Self { url: "file:data/recordings".into(), format: WavCoding::Pcm, encryption_key: None }
    }
}

impl RecordingsConfig {
    /// The key, read; what is wrong with it, in words without it.
    pub fn key(&self) -> Result<Option<RecordingKey>, String> {
        let Some(secret) = &self.encryption_key else { return Ok(None) };
        let octets = match secret.expose().split_once(':') {
            Some(("file", path)) => std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?,
            _ => secret.expose().as_bytes().to_vec(),
        };
        let decoded = BASE64_STANDARD.decode(octets.trim_ascii()).ok();
        let key = decoded.and_then(|key| <[u8; 32]>::try_from(key).ok()).or_else(|| {
            // As they are only in a file: text of 32 characters is no base64 of 32 octets.
            secret.expose().starts_with("file:").then(|| octets.try_into().ok())?
        });
        let help =
            "is neither base64 of 32 octets (`head -c 32 /dev/urandom | base64`) nor \"file:PATH\" of such a file";
        key.map(|key| Some(RecordingKey::new(key))).ok_or_else(|| help.to_owned())
    }

    /// The folder, and what is put there.
    pub fn files(&self) -> Result<RecordingFiles, String> {
        let folder = self.url.strip_prefix("file:").unwrap_or(&self.url).into();
        Ok(RecordingFiles { folder, coding: self.format, key: self.key()? })
    }
}

/// `[webhooks]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Networks that are not public and may all the same be the target of webhooks, media files and streams.
    #[serde(deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// Whether Twilio's webhooks to `https` URLs with a port are signed as if they had none.
    pub sign_strip_https_port: bool,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        let allow_networks = network("127.0.0.0/8").into_iter().collect();
        Self { allow_networks, sign_strip_https_port: false }
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
    #[serde(default = "passing::usual")]
    pub pass_headers: Vec<passing::HeaderPattern>,
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

/// `[[numbers]]`: who decides about the calls to one number, or to all that begin with the same digits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberConfig {
    /// What the request URI's user must be.
    pub number: NumberPattern,
    /// Whose it is.
    pub account: Arc<str>,
    /// Whose words its web application speaks, one of [`PROVIDERS`]; taken from `application` when that is set.
    #[serde(default)]
    pub provider: Option<Arc<str>>,
    /// Document of an incoming call.
    #[serde(default)]
    pub voice_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub voice_method: HttpMethod,
    /// Document when `voice_url` fails.
    #[serde(default)]
    pub fallback_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub fallback_method: HttpMethod,
    /// Told when a call has ended.
    #[serde(default)]
    pub status_callback: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub status_callback_method: HttpMethod,
    /// Instead of `voice_url`: the id of an application.
    #[serde(default)]
    pub application: Option<Arc<str>>,
    /// Instead of `voice_url`: the document itself.
    #[serde(default)]
    pub twiml: Option<Arc<str>>,
    /// Instead of `voice_url`: straight through to another peer.
    #[serde(default)]
    pub bridge: Option<Bridge>,
    /// With `bridge`: what is recorded.
    #[serde(default)]
    pub record: RecordBridge,
}

/// HTTP methods as the file spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Parameters in the query.
    Get,
    /// Parameters in the body.
    #[default]
    Post,
}

impl From<HttpMethod> for tandem_call::Method {
    fn from(method: HttpMethod) -> Self {
        match method {
            HttpMethod::Get => Self::Get,
            HttpMethod::Post => Self::Post,
        }
    }
}

/// What is recorded of a bridged call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordBridge {
    /// Nothing.
    #[default]
    Off,
    /// Both parties mixed into one channel.
    Mono,
    /// The caller left, the called party right.
    Dual,
}

/// Where a number without a web application goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Bridges")]
pub enum Bridge {
    /// A SIP URI in which `{number}` stands for the dialled number.
    Uri(Arc<str>),
    /// The dialled number over these trunks, by name: the next when one is down, full, or fails. Never none.
    Trunks(Vec<Arc<str>>),
    /// The dialled number over the trunks of its account whose prefixes fit.
    Prefixes,
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "is neither text nor a list of text")]
enum Bridges {
    One(String),
    Several(Vec<String>),
}

impl Bridge {
    /// The SIP URI to call for `number`; `None` when a trunk's own URI decides.
    pub fn uri(&self, number: &str) -> Option<String> {
        match self {
            Self::Uri(uri) => Some(uri.replace("{number}", number)),
            Self::Trunks(_) | Self::Prefixes => None,
        }
    }

    /// The trunks that it names.
    pub fn trunks(&self) -> &[Arc<str>] {
        match self {
            Self::Trunks(names) => names,
            Self::Uri(_) | Self::Prefixes => &[],
        }
    }
}

impl TryFrom<Bridges> for Bridge {
    type Error = String;

    fn try_from(bridges: Bridges) -> Result<Self, String> {
        let list = match bridges {
            Bridges::One(text) => return text.try_into(),
            Bridges::Several(list) => list,
        };
        let name = |text: &String| match text.strip_prefix("trunk:") {
            Some(name) if !matches!(name, "" | "*") => Ok(name.into()),
            _ => Err(format!("{text:?} is not \"trunk:NAME\": a list is of trunks")),
        };
        let names: Vec<Arc<str>> = list.iter().map(name).collect::<Result<_, _>>()?;
        match names.is_empty() {
            true => Err("is empty; name a trunk".to_owned()),
            false => Ok(Self::Trunks(names)),
        }
    }
}

impl TryFrom<String> for Bridge {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("trunk:").filter(|name| !name.is_empty()) {
            Some("*") => return Ok(Self::Prefixes),
            Some(name) => return Ok(Self::Trunks(vec![name.into()])),
            None => {}
        }
        let host = text.strip_prefix("sip:").map(|rest| rest.rsplit_once('@').map_or(rest, |(_, host)| host));
        match host {
            Some(host) if !host.is_empty() && !text.contains(char::is_whitespace) => Ok(Self::Uri(text.into())),
            _ => Err(format!(
                "{text:?} is neither \"sip:{{number}}@HOST:PORT\" nor \"trunk:NAME\", \"trunk:*\" or a list of trunks"
            )),
        }
    }
}

/// A dialled number, or with a `*` at its end every number that begins so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct NumberPattern {
    text: Arc<str>,
    prefix: bool,
}

impl NumberPattern {
    /// How well `user` fits: the count of octets that had to match, one more for the whole number; `None` if it does not.
    /// Of several patterns the highest wins.
    pub fn fits(&self, user: &str) -> Option<usize> {
        match self.prefix {
            true => user.starts_with(&*self.text).then_some(self.text.len()),
            false => (*self.text == *user).then_some(self.text.len() + 1),
        }
    }

    /// The digits that its numbers begin with; `None` for one number.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.then(|| self.text.trim_start_matches('+'))
    }

    /// The number; `None` for a prefix.
    pub fn exact(&self) -> Option<&str> {
        (!self.prefix).then_some(&self.text)
    }
}

impl fmt::Display for NumberPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

impl FromStr for NumberPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (start, prefix) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
        let shortest = if prefix { 0 } else { 2 };
        let fits = match start.strip_prefix('+') {
            Some(digits) => {
                (shortest..=15).contains(&digits.len())
                    && digits.bytes().all(|octet| octet.is_ascii_digit())
                    && !digits.starts_with('0')
            }
            None => {
                (prefix || !start.is_empty())
                    && start.len() <= 64
                    && start.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"*#._-".contains(&octet))
            }
        };
        if fits {
            return Ok(Self { text: start.into(), prefix });
        }
        Err(format!(
            "{text:?} is not a number: \"+\" and 2 to 15 digits (E.164), or an extension such as \"100\", or either's \
             beginning and a \"*\""
        ))
    }
}

impl TryFrom<String> for NumberPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `[[endpoints]]`: a SIP phone or browser that registers with us.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Whose it is.
    pub account: Arc<str>,
    /// Its user name, for digest and to be called by.
    pub username: Arc<str>,
    /// Its digest password.
    pub password: Secret,
    /// Whose words its web application speaks, one of [`PROVIDERS`]; taken from `application` when that is set.
    #[serde(default)]
    pub provider: Option<Arc<str>>,
    /// Document of each call that it makes.
    #[serde(default)]
    pub voice_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub voice_method: HttpMethod,
    /// Instead of `voice_url`: the id of an application.
    #[serde(default)]
    pub application: Option<Arc<str>>,
    /// Without either: whether it may call by the account's trunks, beside phones and numbers of the account.
    #[serde(default)]
    pub outbound: bool,
    /// The number that such calls are said to come from; its user name when `None`.
    #[serde(default)]
    pub caller_id: Option<PhoneNumber>,
    /// Encrypted media (RFC 3711, keys by RFC 4568), both ways; what `media.endpoint_srtp` says when `None`.
    #[serde(default)]
    pub srtp: Option<tandem_media::Srtp>,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps it.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A network in CIDR notation, or one address.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

pub(crate) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| {
            network(text).ok_or_else(|| {
                serde::de::Error::custom(format!("{text:?} is not a network such as \"10.0.0.0/8\" or \"2001:db8::1\""))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> NumberPattern {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_pattern_fits_best_and_the_whole_number_beats_its_prefix() {
        let patterns = ["*", "+1*", "+1555*", "+15551230001", "+15551230001*", "100"].map(pattern);
        let best = |user: &str| {
            patterns.iter().filter_map(|p| Some((p.fits(user)?, p.to_string()))).max().map(|(_, text)| text).unwrap()
        };
        assert_eq!(best("+15551230001"), "+15551230001");
        assert_eq!(best("+155512300012"), "+15551230001*");
        assert_eq!(best("+15559"), "+1555*");
        assert_eq!(best("+14"), "+1*");
        assert_eq!(best("100"), "100");
        assert_eq!(best("1000"), "*");
    }

    #[test]
    fn numbers_that_nobody_can_dial_are_refused() {
        for text in ["", "+", "+0123", "+1234567890123456", "+1 555", "a b", "+15x"] {
            assert!(text.parse::<NumberPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bridge_is_a_sip_uri_or_a_trunk() {
        let bridge = |text: &str| Bridge::try_from(text.to_owned());
        assert_eq!(
            bridge("sip:{number}@127.0.0.3:5080").unwrap().uri("+1555").as_deref(),
            Some("sip:+1555@127.0.0.3:5080")
        );
        assert_eq!(bridge("trunk:carrier").unwrap(), Bridge::Trunks(vec!["carrier".into()]));
        assert_eq!(bridge("trunk:*").unwrap(), Bridge::Prefixes);
        let several =
            |names: &[&str]| Bridge::try_from(Bridges::Several(names.iter().map(|&name| name.into()).collect()));
        assert_eq!(several(&["trunk:a", "trunk:b"]).unwrap().trunks(), ["a".into(), "b".into()]);
        for list in [&[][..], &["trunk:a", "b"], &["trunk:*"], &["sip:1@h", "trunk:a"]] {
            assert!(several(list).is_err(), "{list:?}");
        }
        for text in ["", "trunk:", "carrier", "sip:", "sip:a@", "http://x", "sip:a b@c"] {
            assert!(bridge(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_may_be_one_address() {
        assert_eq!(network("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert!(network("10.0.0.0/33").is_none());
    }

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

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
