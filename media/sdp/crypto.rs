//! SDES: `a=crypto` (RFC 4568), and which of them suit the leg.
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

/// Most attributes that are looked at.
const MOST: usize = 32;
/// Octets of the longest master key identifier (RFC 4568 §6.1).
const LONGEST_MKI: u8 = 128;
/// What we offer, best known first. AES_CM_128_HMAC_SHA1_32 is taken when offered, but who has it has the longer tag too
/// (RFC 3711 §8.2), and each line takes its part of a datagram.
const OFFERED: [Suite; 3] = [Suite::Aes128Sha1_80, Suite::Aes256Gcm, Suite::Aes128Gcm];

/// Some leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a leg's media is encrypted (RFC 3711, keys by RFC 4568).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Never: keys are neither offered nor taken.
    #[default]
    Off,
    /// When the peer can: keys are offered beside plain RTP (RFC 8643), and taken however they are offered.
    Optional,
    /// Always: offers and answers without keys are refused.
    Required,
}

/// Octets that our keys are made of.
pub(crate) const RANDOM: usize = LONGEST_MASTER * Suite::ALL.len();

/// A leg's own side: what is wanted, and a key for each suite, which lasts as long as the leg does.
#[derive(Debug)]
pub(super) struct Crypto {
    wanted: Srtp,
    own: Vec<Master>,
    /// What was agreed last; first in a re-offer.
    suite: Option<Suite>,
}

impl Crypto {
    pub(super) fn off() -> Crypto {
        Crypto { wanted: Srtp::Off, own: Vec::new(), suite: None }
    }

    /// `random`: octets that nobody can guess; without them there are no keys, and what needs some is refused.
    pub(super) fn new(wanted: Srtp, random: Option<&[u8; RANDOM]>) -> Crypto {
        let chunks = random.into_iter().flat_map(|random| random.chunks(LONGEST_MASTER));
        let own = Suite::ALL.into_iter().zip(chunks);
        let own = own.filter_map(|(suite, octets)| Master::new(suite, octets.get(..suite.master_length())?));
        Crypto { wanted, own: own.collect(), suite: None }
    }

    pub(super) fn wanted(&self) -> Srtp {
        self.wanted
    }

    /// What an offered line comes to: protected with one of its keys, plain, or of no use (`None`).
    pub(super) fn choose<'a>(&self, offered: &'a Offered) -> Option<Option<&'a Line>> {
        let usable = |line: &&Line| self.wanted != Srtp::Off && self.own(line.master.suite()).is_some();
        let known = offered.lines.iter().find(usable);
        match (known, self.wanted) {
            (Some(line), _) => Some(Some(line)),
            (None, Srtp::Required) => None,
            (None, Srtp::Off | Srtp::Optional) => (!offered.secure).then_some(None),
        }
    }

    /// Why no line was of use.
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

    /// The keys of an offered line and ours of its suite.
    pub(super) fn take(&mut self, line: Option<&Line>) -> Protection {
        let keys = line.and_then(|line| Some((self.own(line.master.suite())?.clone(), line)));
        let Some((send, line)) = keys else { return Protection::Plain };
        self.suite = Some(send.suite());
        Protection::Keyed(Box::new(Keys { send, receive: line.master.clone(), mki: line.mki }))
    }

    /// What an answer's line comes to: the key of one of our attributes, or plain RTP, if that will do.
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

    /// The attributes of our offer.
    pub(super) fn offer(&self, out: &mut String) {
        for (tag, suite) in self.offered().collect::<Vec<_>>() {
            self.write(tag, suite, out);
        }
    }

    /// The attribute of our answer to an offered one (RFC 4568 §5.1.2): its tag, its suite, our key.
    pub(super) fn answer(&self, line: &Line, out: &mut String) {
        self.write(line.tag, line.master.suite(), out);
    }

    fn write(&self, tag: u32, suite: Suite, out: &mut String) {
        let Some(own) = self.own(suite) else { return };
        let key = BASE64.encode(own.octets());
        // Writing to a String cannot fail.
        let _ = write!(out, "a=crypto:{tag} {} inline:{key}\r\n", suite.name());
    }

    /// Tags and suites that our offers have, each suite always under its tag.
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

/// What an m-line says of its keys.
#[derive(Debug)]
pub(super) struct Offered {
    /// Its profile is RTP/SAVP or RTP/SAVPF: plain RTP will not do.
    pub(super) secure: bool,
    /// Its `a=crypto`, of use or not.
    attributes: usize,
    /// Those that we can use, in its order.
    lines: Vec<Line>,
}

impl Offered {
    /// `None` for a profile that is neither plain RTP nor SRTP with keys in the SDP.
    /// `attributes`: what its `a=` say.
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

/// One `a=crypto` that we can use.
#[derive(Debug)]
pub(super) struct Line {
    tag: u32,
    master: Master,
    mki: u8,
}

impl Line {
    /// `None` when it is malformed, or has what we have not: another suite, several keys, session parameters.
    fn read(value: &str) -> Option<Line> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|tag| tag.len() <= 9)?.parse().ok()?;
        let suite = words.next()?;
        let suite = Suite::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(suite))?;
        let (method, info) = words.next()?.split_once(':')?;
        if !method.eq_ignore_ascii_case("inline") || info.contains(';') {
            return None;
        }
        // A window size is a wish (RFC 4568 §6.3.6), a word with a hyphen may be left alone (§6.3.7); the others change what
        // the packets are.
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
                // A lifetime: how long it lasts is its owner's to watch, who sends with it.
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
