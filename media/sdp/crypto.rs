//! SDES: `a=crypto` lines (RFC 4568), and the choice of one that suits the leg.
//!
//! ```text
//!  a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:BASE64|2^31|1:4 session-parameters
//!           tag suite                        key     lifetime MKI:length
//! ```

use std::fmt::Write as _;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::{Protection, SdpError};
use crate::rtp::srtp::{Keys, LONGEST_MASTER, Master, Suite};

/// The highest number of `a=crypto` lines of an m-line that are read.
const MOST: usize = 32;
/// The longest master key identifier in octets (RFC 4568 §6.1).
const LONGEST_MKI: u8 = 128;
/// The suites in our offers; the most common one is first. AES_CM_128_HMAC_SHA1_32 is accepted, but not offered: an
/// implementation that supports it also supports the longer tag (RFC 3711 §8.2), and each line makes the SIP message
/// longer.
const OFFERED: [Suite; 3] = [Suite::Aes128Sha1_80, Suite::Aes256Gcm, Suite::Aes128Gcm];

/// Standard base64. Some devices leave out the padding, so it is optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a leg's media is encrypted (RFC 3711, with keys by RFC 4568).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Never: keys are neither offered nor accepted.
    #[default]
    Off,
    /// If the far end supports it: keys are offered in the plain RTP profile (RFC 8643), and accepted in any profile.
    Optional,
    /// Always: offers and answers without keys are refused.
    Required,
}

/// The number of random octets that our keys are made of.
pub(crate) const RANDOM: usize = LONGEST_MASTER * Suite::ALL.len();

/// A leg's own SRTP settings: the mode, and one master key for each suite. The keys do not change during the leg's
/// life.
#[derive(Debug)]
pub(super) struct Crypto {
    wanted: Srtp,
    own: Vec<Master>,
    /// The suite that was agreed last; a re-offer lists it first.
    suite: Option<Suite>,
}

impl Crypto {
    pub(super) fn off() -> Crypto {
        Crypto { wanted: Srtp::Off, own: Vec::new(), suite: None }
    }

    /// `random`: octets from a secure random generator. Without them there are no keys, and a negotiation that needs
    /// keys is refused.
    pub(super) fn new(wanted: Srtp, random: Option<&[u8; RANDOM]>) -> Crypto {
        let chunks = random.into_iter().flat_map(|random| random.chunks(LONGEST_MASTER));
        let own = Suite::ALL.into_iter().zip(chunks);
        let own = own.filter_map(|(suite, octets)| Master::new(suite, octets.get(..suite.master_length())?));
        Crypto { wanted, own: own.collect(), suite: None }
    }

    pub(super) fn wanted(&self) -> Srtp {
        self.wanted
    }

    /// The outcome for an offered m-line: SRTP with one of its keys (`Some(Some)`), plain RTP (`Some(None)`), or not
    /// usable (`None`).
    pub(super) fn choose<'a>(&self, offered: &'a Offered) -> Option<Option<&'a Line>> {
        let usable = |line: &&Line| self.wanted != Srtp::Off && self.own(line.master.suite()).is_some();
        let known = offered.lines.iter().find(usable);
        match (known, self.wanted) {
            (Some(line), _) => Some(Some(line)),
            (None, Srtp::Required) => None,
            (None, Srtp::Off | Srtp::Optional) => (!offered.secure).then_some(None),
        }
    }

    /// The error that says why none of the m-lines was usable.
    pub(super) fn refusal(&self, lines: &mut dyn Iterator<Item = &Offered>) -> SdpError {
        let lines: Vec<&Offered> = lines.collect();
        SdpError::Incompatible(match self.wanted {
            _ if lines.is_empty() => "no audio stream with a reachable address and a supported codec",
            Srtp::Off => "the offer demands SRTP, which is off here (srtp = \"off\")",
            Srtp::Optional => "the offer demands SRTP, but has no key with a supported suite",
            Srtp::Required if lines.iter().any(|line| line.attributes > 0) => {
                "SRTP is required here (srtp = \"required\"), but no offered key has a supported suite"
            }
            Srtp::Required => "SRTP is required here (srtp = \"required\"), but the offer has no key",
        })
    }

    /// The protection with the key of an offered line and our own key of the same suite; plain without a line.
    pub(super) fn take(&mut self, line: Option<&Line>) -> Protection {
        let keys = line.and_then(|line| Some((self.own(line.master.suite())?.clone(), line)));
        let Some((send, line)) = keys else { return Protection::Plain };
        self.suite = Some(send.suite());
        Protection::Keyed(Box::new(Keys { send, receive: line.master.clone(), mki: line.mki }))
    }

    /// The protection that an answer's line selects: SRTP with the key for one of our attributes, or plain RTP if this
    /// is allowed.
    pub(super) fn accept(&mut self, answered: &Offered) -> Result<Protection, SdpError> {
        let ours = |line: &&Line| self.offered().any(|(tag, suite)| (tag, suite) == (line.tag, line.master.suite()));
        match (answered.lines.iter().find(ours), self.wanted) {
            (line @ Some(_), Srtp::Optional | Srtp::Required) => Ok(self.take(line)),
            (_, Srtp::Required) if answered.attributes == 0 => {
                Err(SdpError::Incompatible("SRTP is required here (srtp = \"required\"), but the answer has no key"))
            }
            (_, Srtp::Optional | Srtp::Required) if answered.attributes > 0 => {
                Err(SdpError::Incompatible("the answer's key does not match any offered key"))
            }
            _ if answered.secure => Err(SdpError::Incompatible("the answer demands SRTP but has no key")),
            _ => Ok(Protection::Plain),
        }
    }

    /// Writes the `a=crypto` lines of our offer.
    pub(super) fn offer(&self, out: &mut String) {
        for (tag, suite) in self.offered().collect::<Vec<_>>() {
            self.write(tag, suite, out);
        }
    }

    /// Writes our answer to an offered `a=crypto` line (RFC 4568 §5.1.2): its tag, its suite and our key.
    pub(super) fn answer(&self, line: &Line, out: &mut String) {
        self.write(line.tag, line.master.suite(), out);
    }

    fn write(&self, tag: u32, suite: Suite, out: &mut String) {
        let Some(own) = self.own(suite) else { return };
        let key = BASE64.encode(own.octets());
        // Writing to a String cannot fail.
        let _ = write!(out, "a=crypto:{tag} {} inline:{key}\r\n", suite.name());
    }

    /// The tags and suites of our offers. Each suite always has the same tag.
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

/// The keys of an m-line.
#[derive(Debug)]
pub(super) struct Offered {
    /// Whether its profile is RTP/SAVP or RTP/SAVPF, which excludes plain RTP.
    pub(super) secure: bool,
    /// The number of its `a=crypto` lines, usable or not.
    attributes: usize,
    /// The lines that we can use, in the m-line's order.
    lines: Vec<Line>,
}

impl Offered {
    /// Reads the keys of an m-line. `attributes`: the values of its `a=` lines. `None` for a profile that is neither
    /// plain RTP nor SRTP with keys in the SDP.
    pub(super) fn read<'a>(proto: &str, attributes: impl Iterator<Item = &'a str>) -> Option<Offered> {
        let is = |names: [&str; 2]| names.iter().any(|name| proto.eq_ignore_ascii_case(name));
        let secure = is(["RTP/SAVP", "RTP/SAVPF"]);
        if !secure && !is(["RTP/AVP", "RTP/AVPF"]) {
            return None;
        }
        let mut offered = Offered { secure, attributes: 0, lines: Vec::new() };
        for attribute in attributes.filter(|attribute| is_crypto(attribute)).take(MOST) {
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
    /// Reads the value of an `a=crypto` line. `None` if it is malformed, or uses something that we do not support:
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
        // A window size is only a hint (RFC 4568 §6.3.6), and a parameter with a leading hyphen may be ignored
        // (§6.3.7). All others change the packets.
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
                // A key lifetime. The sender that uses the key must observe it.
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
