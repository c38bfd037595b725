//! ICE and DTLS in a description (RFC 8839, RFC 8842, RFC 5763, RFC 8843). This module reads and writes these lines, and
//! keeps the part of a negotiation that concerns them.
//!
//! A description with these lines has one m-line with one component: RTP and RTCP share a port (RFC 5761). Our own
//! descriptions contain all our candidates, so that a far end never waits for more.

use std::fmt;
use std::fmt::Write as _;
use std::net::SocketAddr;

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use tandem_webrtc::{Connection, Credentials, FarEnd, Fingerprint, LocalAddress, Protocol, Remote, Role};

use super::crypto::Length;
use super::section::Section;

/// The number of octets of the secret from which credentials are derived.
pub(crate) const ICE_SECRET: usize = 32;
/// The octets of a user name and of a password. In base64 they have 8 and 24 characters (RFC 8839 §5.4: at least 4 and
/// 22).
const UFRAG: usize = 6;
const PASSWORD: usize = 18;
/// The highest number of candidates that are read of a description, trickled ones included.
const MAX_CANDIDATES: usize = 32;
/// The highest number of fingerprints that are read of a description.
const MAX_FINGERPRINTS: usize = 4;
/// The longest line of the far end that is stored: a candidate, a user name or a password (RFC 8839 §5.4: at most 256).
const LONGEST: usize = 256;
/// The profile of our offers (RFC 5764 §8).
pub(super) const PROFILE: &str = "UDP/TLS/RTP/SAVPF";

/// Whether `proto` is a profile with keys from DTLS.
pub(super) fn is_dtls(proto: &str) -> bool {
    [PROFILE, "UDP/TLS/RTP/SAVP"].iter().any(|known| proto.eq_ignore_ascii_case(known))
}

/// The part of a plan that says how a leg's connection is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IcePlan {
    /// Our credentials. Other credentials than before mean that ICE restarts.
    pub(crate) credentials: Credentials,
    pub(crate) addresses: Vec<LocalAddress>,
    /// Whether the UDP address is the port that all sessions share.
    #[serde(default)]
    pub(crate) shares_udp: bool,
    /// Whether this side has made the first offer.
    pub(crate) controlling: bool,
    pub(crate) lite: bool,
    /// The far end's description. The value is `None` before the answer to our offer.
    pub(crate) remote: Option<Remote>,
    /// The far end's candidates, the text after `a=`. The list only grows, until ICE restarts.
    pub(crate) candidates: Vec<String>,
}

/// The data with which the sessions of an engine negotiate ICE.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IceSetup {
    /// Random octets. The credentials of each session are derived from them.
    pub(crate) secret: [u8; ICE_SECRET],
    /// The fingerprint of our certificate.
    pub(crate) fingerprint: Fingerprint,
    /// Whether we only answer checks (RFC 8445 §2.5).
    pub(crate) lite: bool,
    /// The UDP port that all sessions share, instead of a port of their own.
    #[serde(default)]
    pub(crate) udp_port: Option<u16>,
    /// The TCP port that all sessions share.
    #[serde(default)]
    pub(crate) tcp_port: Option<u16>,
}

impl fmt::Debug for IceSetup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IceSetup(..)")
    }
}

/// The value of `a=setup` (RFC 4145 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    Active,
    Passive,
    ActPass,
}

/// The ICE and DTLS lines of an m-line.
#[derive(Debug)]
pub(super) struct IceLines {
    credentials: Credentials,
    fingerprints: Vec<Fingerprint>,
    setup: Setup,
    lite: bool,
    far_end: FarEnd,
    candidates: Vec<String>,
    /// The value of `a=mid` (RFC 5888).
    mid: Option<String>,
    is_bundled: bool,
}

impl IceLines {
    /// Reads the lines of an m-line with a profile of DTLS. `head` are the lines before the first m-line, which can
    /// contain the values for all m-lines. Returns the reason if a necessary line is missing.
    pub(super) fn read(media: Section<'_>, head: Section<'_>) -> Result<IceLines, &'static str> {
        let value = |name: &'static str| media.values(name).chain(head.values(name)).next().map(str::trim);
        let ufrag = value("a=ice-ufrag:").filter(|text| (4..=LONGEST).contains(&text.len()));
        let password = value("a=ice-pwd:").filter(|text| (22..=LONGEST).contains(&text.len()));
        let (Some(ufrag), Some(password)) = (ufrag, password) else {
            return Err("the description has DTLS-SRTP but no usable a=ice-ufrag and a=ice-pwd");
        };
        let own = media.values("a=fingerprint:").next().is_some();
        let fingerprints = if own { media } else { head }.values("a=fingerprint:");
        let fingerprints: Vec<Fingerprint> =
            fingerprints.filter_map(|text| text.parse().ok()).take(MAX_FINGERPRINTS).collect();
        if fingerprints.is_empty() {
            return Err("the description has DTLS-SRTP but no a=fingerprint with sha-256, sha-384 or sha-512");
        }
        if !media.values("a=rtcp-mux").any(|rest| rest.trim().is_empty()) {
            return Err("the description has ICE but no a=rtcp-mux: RTP and RTCP must share a port here");
        }
        let mid = media.values("a=mid:").next().map(|mid| mid.trim().to_owned()).filter(|mid| mid.len() <= LONGEST);
        let mut groups = head.values("a=group:BUNDLE").map(str::split_ascii_whitespace);
        Ok(IceLines {
            credentials: Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() },
            fingerprints,
            setup: match value("a=setup:") {
                Some(text) if text.eq_ignore_ascii_case("active") => Setup::Active,
                Some(text) if text.eq_ignore_ascii_case("passive") => Setup::Passive,
                _ => Setup::ActPass,
            },
            lite: head.values("a=ice-lite").next().is_some(),
            // A browser always has this option (RFC 8829 §5.2.1 and §5.3.1).
            far_end: match value("a=ice-options:") {
                Some(options) if options.split_ascii_whitespace().any(|option| option == "trickle") => FarEnd::Browser,
                _ => FarEnd::Phone,
            },
            candidates: candidates(media).collect(),
            is_bundled: mid.is_some() && groups.any(|mut group| group.any(|one| Some(one) == mid.as_deref())),
            mid,
        })
    }

    fn remote(&self, role: Role) -> Remote {
        let IceLines { credentials, fingerprints, lite, far_end, .. } = self;
        let (credentials, fingerprints) = (credentials.clone(), fingerprints.clone());
        Remote { credentials, fingerprints, role, lite: *lite, far_end: *far_end }
    }
}

fn candidates(media: Section<'_>) -> impl Iterator<Item = String> {
    let lines = media.values("a=candidate:").filter(|line| line.len() <= LONGEST).take(MAX_CANDIDATES);
    lines.map(|line| format!("candidate:{line}"))
}

/// Returns the address of a candidate, or `None` if the candidate is malformed or has a host name.
pub(super) fn address_of(candidate: &str) -> Option<SocketAddr> {
    let mut words = candidate.split_ascii_whitespace().skip(4);
    Some(SocketAddr::new(words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// The part of a negotiation that concerns ICE and DTLS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IceNegotiation {
    setup: IceSetup,
    /// The session id. It makes the credentials of each session different.
    id: u128,
    local: SocketAddr,
    /// The number of ICE restarts.
    generation: u32,
    /// Whether the first offer is ours.
    controlling: bool,
    /// The far end's newest description.
    remote: Option<Remote>,
    candidates: Vec<String>,
    mid: String,
    is_bundled: bool,
}

impl IceNegotiation {
    /// Begins with our offer if `controlling`, or else with an offer of the far end.
    pub(super) fn new(setup: IceSetup, id: u128, local: SocketAddr, controlling: bool) -> IceNegotiation {
        IceNegotiation {
            setup,
            id,
            local,
            generation: 0,
            controlling,
            remote: None,
            candidates: Vec::new(),
            mid: "0".to_owned(),
            is_bundled: true,
        }
    }

    /// Takes the far end's offer. New credentials of the far end restart ICE, and our answer has new credentials too
    /// (RFC 8839 §4.4.1.1.1).
    pub(super) fn answer(&mut self, lines: &IceLines) {
        if self.remote.as_ref().is_some_and(|remote| remote.credentials != lines.credentials) {
            self.generation = self.generation.wrapping_add(1);
            self.candidates.clear();
        }
        if let Some(mid) = &lines.mid {
            self.mid.clone_from(mid);
        }
        self.is_bundled = lines.is_bundled;
        self.accept(lines);
    }

    /// Takes the far end's answer. The DTLS role is decided once, and stays as long as the certificate (RFC 8842 §5.5).
    /// Other credentials than before are those of a new connection: a page was reloaded and has answered our offer.
    pub(super) fn accept(&mut self, lines: &IceLines) {
        if self.remote.as_ref().is_some_and(|remote| remote.credentials != lines.credentials) {
            self.candidates.clear();
        }
        let before = self.remote.as_ref().filter(|remote| remote.fingerprints == lines.fingerprints);
        // We are the server if the far end leaves the choice: then only its certificate decides which it can be.
        let chosen = if lines.setup == Setup::Passive { Role::Client } else { Role::Server };
        let role = before.map_or(chosen, |before| before.role);
        self.remote = Some(lines.remote(role));
        for candidate in &lines.candidates {
            self.add_candidate(candidate);
        }
    }

    /// Adds a candidate of the far end, the text after `a=`. Returns whether the candidate is new.
    pub(super) fn add_candidate(&mut self, candidate: &str) -> bool {
        let is_new = candidate.len() <= LONGEST
            && self.candidates.len() < MAX_CANDIDATES
            && !self.candidates.iter().any(|known| known == candidate);
        if is_new {
            self.candidates.push(candidate.to_owned());
        }
        is_new
    }

    /// Returns the plan. `may_send` says whether we may send to an address.
    pub(super) fn plan(&self, may_send: impl Fn(SocketAddr) -> bool) -> IcePlan {
        let allowed = |candidate: &&String| address_of(candidate).is_none_or(&may_send);
        IcePlan {
            credentials: self.credentials(),
            addresses: self.addresses(),
            shares_udp: self.setup.udp_port.is_some(),
            controlling: self.controlling,
            lite: self.setup.lite,
            remote: self.remote.clone(),
            candidates: self.candidates.iter().filter(allowed).cloned().collect(),
        }
    }

    fn addresses(&self) -> Vec<LocalAddress> {
        let IceSetup { udp_port, tcp_port, .. } = self.setup;
        let at = |port| SocketAddr::new(self.local.ip(), port);
        let udp = LocalAddress { protocol: Protocol::Udp, address: udp_port.map_or(self.local, at) };
        let tcp = tcp_port.map(|port| LocalAddress { protocol: Protocol::Tcp, address: at(port) });
        [udp].into_iter().chain(tcp).collect()
    }

    fn credentials(&self) -> Credentials {
        let mut octets = [0; UFRAG + PASSWORD];
        let info = [b"tandem ice".as_slice(), &self.id.to_be_bytes(), &self.generation.to_be_bytes()];
        let derived = Prk::new_less_safe(HKDF_SHA256, &self.setup.secret);
        // The output is far shorter than the limit of HKDF, so this cannot fail.
        let _ = derived.expand(&info, Length(octets.len())).and_then(|okm| okm.fill(&mut octets));
        let (ufrag, password) = octets.split_at(UFRAG);
        Credentials { ufrag: STANDARD_NO_PAD.encode(ufrag), password: STANDARD_NO_PAD.encode(password) }
    }

    /// Writes the lines before the first m-line.
    pub(super) fn write_head(&self, body: &mut String) {
        // Writing to a String cannot fail.
        if self.is_bundled {
            let _ = write!(body, "a=group:BUNDLE {}\r\n", self.mid);
        }
        if self.setup.lite {
            body.push_str("a=ice-lite\r\n");
        }
    }

    /// Writes the lines of our m-line. `offers` says whether the description is an offer.
    pub(super) fn write(&self, offers: bool, body: &mut String) {
        let Credentials { ufrag, password } = self.credentials();
        let setup = match self.remote.as_ref().map(|remote| remote.role) {
            _ if offers => "actpass",
            Some(Role::Client) => "active",
            Some(Role::Server) | None => "passive",
        };
        let (mid, fingerprint) = (&self.mid, &self.setup.fingerprint);
        // Writing to a String cannot fail.
        let _ = write!(
            body,
            "a=mid:{mid}\r\na=msid:tandem audio\r\na=rtcp-mux\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n\
             a=ice-options:trickle\r\na=fingerprint:{fingerprint}\r\na=setup:{setup}\r\n"
        );
        for line in Connection::local_candidates(&self.addresses()) {
            let _ = write!(body, "a={line}\r\n");
        }
        body.push_str("a=end-of-candidates\r\n");
    }
}

#[cfg(test)]
mod tests;
