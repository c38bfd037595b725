//! SDES (RFC 4568). This module reads and writes `a=crypto` lines, and chooses a line that the leg can use.
//!
//! ```text
//!  a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:BASE64|2^31|1:4 session-parameters
//!           tag suite                        key     lifetime MKI:length
//! ```

use std::fmt::Write as _;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use super::SdpError;
use crate::rtp::srtp::{Keys, LONGEST_MASTER, Master, Suite};

/// The highest number of `a=crypto` lines that are read in an m-line.
const MAX_CRYPTO_LINES: usize = 32;
/// The longest master key identifier in octets (RFC 4568 §6.1).
const LONGEST_MKI: u8 = 128;
/// The suites in our offers, most common first. AES_CM_128_HMAC_SHA1_32 is accepted, but not offered. There are two
/// reasons. An implementation that supports this suite also supports the suite with the longer tag (RFC 3711 §8.2).
/// Each offered line makes the SIP message longer.
const OFFERED: [Suite; 3] = [Suite::Aes128Sha1_80, Suite::Aes256Gcm, Suite::Aes128Gcm];

/// Standard base64. The padding is optional, because some devices omit it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a leg's media is encrypted (RFC 3711, with keys from RFC 4568).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// The media is never encrypted. Keys are neither offered nor accepted.
    #[default]
    Off,
    /// The media is encrypted if the far end supports SRTP. Keys are offered in the plain RTP profile (RFC 8643), and
    /// accepted in any profile.
    Optional,
    /// The media is always encrypted. Offers and answers without keys are refused.
    Required,
}

/// The protection of a leg's packets in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Protection {
    /// Plain RTP.
    Plain,
    /// We have offered keys, and the far end has not answered yet. Packets from the far end cannot be decrypted yet.
    Open,
    Keyed(Box<Keys>),
    /// SRTP with keys from DTLS. The transport gets the keys by itself.
    Dtls,
}

/// The number of random octets that are enough for all our keys of a leg: the first keys, and the secret from which the
/// later keys are derived.
pub(crate) const RANDOM: usize = LONGEST_MASTER * Suite::ALL.len() + SECRET;
/// The number of octets of the secret from which later keys are derived.
const SECRET: usize = 32;

/// The SRTP settings of a leg: the mode, and our master key for each suite. The keys change only if the far end's media
/// moves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Crypto {
    wanted: Srtp,
    own: Vec<Master>,
    /// The secret from which the next keys are derived.
    next: Option<Secret>,
    /// The suite that was agreed last. A re-offer lists this suite first.
    suite: Option<Suite>,
    /// Whether the keys of our last offer had not been used before this offer.
    pub(super) offered_new_keys: bool,
    /// Whether the far end's media has moved in an answer to an offer with used keys. Our next description has new keys.
    pub(super) owes_new_keys: bool,
}

impl Crypto {
    pub(super) fn off() -> Crypto {
        Crypto::new(Srtp::Off, None)
    }

    /// Creates the settings. `random` comes from a secure random generator. Without `random` there are no keys, and a
    /// negotiation that needs keys is refused.
    pub(super) fn new(wanted: Srtp, random: Option<&[u8; RANDOM]>) -> Crypto {
        let (keys, secret) = random.map_or((&[][..], &[][..]), |random| random.split_at(RANDOM - SECRET));
        let next = secret.try_into().ok().map(Secret);
        Crypto { wanted, own: masters(keys), next, suite: None, offered_new_keys: false, owes_new_keys: false }
    }

    /// Replaces our keys. The new keys are derived from the secret, so that the old keys do not reveal the
    /// new keys.
    pub(super) fn renew(&mut self) {
        self.owes_new_keys = false;
        let Some(Secret(secret)) = &self.next else { return };
        let next = Prk::new_less_safe(HKDF_SHA256, secret);
        let mut octets = [0; RANDOM];
        let filled = next.expand(&[b"tandem srtp keys"], Length(RANDOM)).and_then(|okm| okm.fill(&mut octets));
        if filled.is_ok() {
            let (suite, offered_new_keys) = (self.suite, self.offered_new_keys);
            *self = Crypto { suite, offered_new_keys, ..Crypto::new(self.wanted, Some(&octets)) };
        }
    }

    pub(super) fn wanted(&self) -> Srtp {
        self.wanted
    }

    /// Decides about an offered m-line. `Some(Some)` means SRTP with a key of the line, `Some(None)` means plain RTP,
    /// and `None` means that the m-line cannot be used.
    pub(super) fn choose<'a>(&self, offered: &'a Offered) -> Option<Option<&'a Line>> {
        let usable = |line: &&Line| self.wanted != Srtp::Off && self.own(line.master.suite()).is_some();
        let known = offered.lines.iter().find(usable);
        match (known, self.wanted) {
            (Some(line), _) => Some(Some(line)),
            (None, Srtp::Required) => None,
            (None, Srtp::Off | Srtp::Optional) => (!offered.secure).then_some(None),
        }
    }

    /// Returns the error that says why no m-line was usable. `lines` are the m-lines whose codec and address we can use.
    pub(super) fn refusal(&self, lines: &mut dyn Iterator<Item = &Offered>) -> SdpError {
        let lines: Vec<&Offered> = lines.collect();
        if lines.is_empty() {
            return SdpError::Incompatible("no audio stream with a supported codec".into());
        }
        let why = match self.wanted {
            Srtp::Off => "the offer demands SRTP, which is off here (srtp = \"off\")",
            Srtp::Optional => "the offer demands SRTP, but has no key with a supported suite",
            Srtp::Required if lines.iter().any(|line| line.attributes > 0) => {
                "SRTP is required here (srtp = \"required\"), but no offered key has a supported suite"
            }
            Srtp::Required => "SRTP is required here (srtp = \"required\"), but the offer has no key",
        };
        SdpError::Srtp(why)
    }

    /// Returns the protection for an offered `a=crypto` line. The protection uses the key of this line and our key of
    /// the same suite. Without a line the media is plain RTP.
    pub(super) fn take(&mut self, line: Option<&Line>) -> Protection {
        let keys = line.and_then(|line| Some((self.own(line.master.suite())?.clone(), line)));
        let Some((send, line)) = keys else { return Protection::Plain };
        self.suite = Some(send.suite());
        Protection::Keyed(Box::new(Keys { send, receive: line.master.clone(), mki: line.mki }))
    }

    /// Returns the protection that an answer selects. If a line of the answer matches one of our lines, the protection
    /// is SRTP with the key of this line. Otherwise the protection is plain RTP, if the mode allows plain RTP.
    pub(super) fn accept(&mut self, answered: &Offered) -> Result<Protection, SdpError> {
        let ours = |line: &&Line| self.offered().any(|(tag, suite)| (tag, suite) == (line.tag, line.master.suite()));
        match (answered.lines.iter().find(ours), self.wanted) {
            (line @ Some(_), Srtp::Optional | Srtp::Required) => Ok(self.take(line)),
            (_, Srtp::Required) if answered.attributes == 0 => {
                Err(SdpError::Srtp("SRTP is required here (srtp = \"required\"), but the answer has no key"))
            }
            (_, Srtp::Optional | Srtp::Required) if answered.attributes > 0 => {
                Err(SdpError::Srtp("the SRTP key in the answer does not match any offered key"))
            }
            _ if answered.secure => Err(SdpError::Srtp("the answer demands SRTP but has no key")),
            _ => Ok(Protection::Plain),
        }
    }

    /// Writes the `a=crypto` lines of our offer.
    pub(super) fn offer(&self, out: &mut String) {
        for (tag, suite) in self.offered().collect::<Vec<_>>() {
            self.write(tag, suite, out);
        }
    }

    /// Writes our answer to an offered `a=crypto` line (RFC 4568 §5.1.2). The answer has the tag and the suite of the
    /// line, and our key.
    pub(super) fn answer(&self, line: &Line, out: &mut String) {
        self.write(line.tag, line.master.suite(), out);
    }

    fn write(&self, tag: u32, suite: Suite, out: &mut String) {
        let Some(own) = self.own(suite) else { return };
        let key = BASE64.encode(own.octets());
        // Writing to a String cannot fail.
        let _ = write!(out, "a=crypto:{tag} {} inline:{key}\r\n", suite.name());
    }

    /// Returns the tag and the suite of each line in our offers. A suite always has the same tag.
    fn offered(&self) -> impl Iterator<Item = (u32, Suite)> {
        let agreed = self.suite;
        let suites = agreed.into_iter().chain(OFFERED.into_iter().filter(move |suite| Some(*suite) != agreed));
        let tag = |suite| Suite::ALL.into_iter().position(|other| other == suite).unwrap_or_default() as u32 + 1;
        suites
            .filter(|suite| self.wanted != Srtp::Off && self.own(*suite).is_some())
            .map(move |suite| (tag(suite), suite))
    }

    fn own(&self, suite: Suite) -> Option<&Master> {
        self.own.iter().find(|master| master.suite() == suite)
    }
}

/// Returns a master key for each suite.
fn masters(random: &[u8]) -> Vec<Master> {
    let own = Suite::ALL.into_iter().zip(random.chunks(LONGEST_MASTER));
    own.filter_map(|(suite, octets)| Master::new(suite, octets.get(..suite.master_length())?)).collect()
}

/// Secret octets. `Debug` hides them.
#[derive(Clone, Serialize, Deserialize)]
struct Secret([u8; SECRET]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// The number of octets to derive.
pub(super) struct Length(pub(super) usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The keys of an m-line.
#[derive(Debug)]
pub(super) struct Offered {
    /// Whether the profile of the m-line is RTP/SAVP or RTP/SAVPF. These profiles exclude plain RTP.
    pub(super) secure: bool,
    /// The number of `a=crypto` lines, including lines that we cannot use.
    attributes: usize,
    /// The `a=crypto` lines that we can use, in the order of the m-line.
    lines: Vec<Line>,
}

impl Offered {
    /// Reads the keys of an m-line. `attributes` contains the values of the `a=` lines. Returns `None` for a profile
    /// that is neither plain RTP nor SRTP with keys in the SDP.
    pub(super) fn read<'a>(proto: &str, attributes: impl Iterator<Item = &'a str>) -> Option<Offered> {
        let is = |names: [&str; 2]| names.iter().any(|name| proto.eq_ignore_ascii_case(name));
        let secure = is(["RTP/SAVP", "RTP/SAVPF"]);
        if !secure && !is(["RTP/AVP", "RTP/AVPF"]) {
            return None;
        }
        let mut offered = Offered { secure, attributes: 0, lines: Vec::new() };
        for attribute in attributes.filter(|attribute| is_crypto(attribute)).take(MAX_CRYPTO_LINES) {
            offered.attributes += 1;
            offered.lines.extend(attribute.get("crypto:".len()..).and_then(Line::read));
        }
        Some(offered)
    }
}

fn is_crypto(attribute: &str) -> bool {
    let (name, rest) = attribute.split_at_checked("crypto".len()).unwrap_or_default();
    name.eq_ignore_ascii_case("crypto") && (rest.is_empty() || rest.starts_with(':'))
}

/// An `a=crypto` line that we can use.
#[derive(Debug)]
pub(super) struct Line {
    tag: u32,
    master: Master,
    mki: u8,
}

impl Line {
    /// Reads the value of an `a=crypto` line. Returns `None` if the value is malformed or uses an unsupported feature:
    /// another suite, several keys, or session parameters.
    fn read(value: &str) -> Option<Line> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|tag| tag.len() <= 9)?.parse().ok()?;
        let suite = words.next()?;
        let suite = Suite::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(suite))?;
        let (method, info) = words.next()?.split_once(':')?;
        if !method.eq_ignore_ascii_case("inline") || info.contains(';') {
            return None;
        }
        // Two kinds of parameters may be ignored: the window size, which is only a hint (RFC 4568 §6.3.6), and
        // parameters with a leading hyphen (§6.3.7). All other parameters change the packets.
        let harmless = |word: &str| {
            word.starts_with('-')
                || word.len() > 4 && word.is_char_boundary(4) && word.split_at(4).0.eq_ignore_ascii_case("WSH=")
        };
        if !words.all(harmless) {
            return None;
        }
        let mut parts = info.split('|');
        let octets = BASE64.decode(parts.next()?).ok()?;
        let master = Master::new(suite, &octets)?;
        let mut mki = 0;
        for part in parts {
            match part.split_once(':') {
                Some((identifier, length)) if mki == 0 => {
                    identifier.bytes().all(|octet| octet.is_ascii_digit()).then_some(())?;
                    mki = length.parse().ok().filter(|length| (1..=LONGEST_MKI).contains(length))?;
                }
                Some(_) => return None,
                // This is a key lifetime. The sender that uses the key must observe it.
                None => {
                    let number = part.strip_prefix("2^").unwrap_or(part);
                    (!number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit())).then_some(())?;
                }
            }
        }
        Some(Line { tag, master, mki })
    }
}

#[cfg(test)]
mod tests;
