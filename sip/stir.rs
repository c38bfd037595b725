//! STIR/SHAKEN: signatures of the calling number (RFC 8224; PASSporT, RFC 8225; the `shaken` extension, RFC 8588 and
//! ATIS-1000074; `div`, RFC 8946).
//!
//! ```text
//!   Identity: HEADER.PAYLOAD.SIGNATURE;info=<URL>;alg=ES256;ppt=shaken
//!     Identity::parse ──> Passport::read ──> Passport::check (time, numbers)        no certificate needed so far
//!                                              │ URL: fetched by the shell
//!     Certificate::read ──> Certificate::check (authority, validity, TNAuthList) ──> Passport::verify (signature)
//!
//!   Claims ──> Signer::identity ──> the value of Identity
//! ```
//!
//! The inputs are octets and the time. This module fetches nothing from the network. It does not support TN
//! authorization lists by reference, and it does not support revocation lists.

mod certificate;
pub(crate) mod der;
mod diversion;
mod fault;
mod identity;
mod passport;
mod sign;
mod token;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use certificate::{Anchors, Certificate};
pub use diversion::Diversion;
pub use fault::Fault;
pub use identity::Identity;
pub use passport::{Expected, Passport};
pub use sign::{Claims, Diverted, Signer, UnusableKey};

/// Attestation level: the knowledge that the signer of a call has about the caller (ATIS-1000074 §4.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Attestation {
    /// Full: the caller is a customer of the signer and may use the number.
    A,
    /// Partial: the caller is a customer of the signer, but the signer does not know whether the caller may use the
    /// number.
    B,
    /// Gateway: the call came from another network.
    C,
}

impl Attestation {
    /// Returns the value of the `attest` claim: `A`, `B` or `C`.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.letter())
    }
}

/// Maximum number of characters of a telephone number. The characters `#` and `*` count too.
const LONGEST_NUMBER: usize = 32;

/// Returns a telephone number in canonical form (RFC 8224 §8.3), which contains only digits, `#` and `*`. Returns
/// `None` if the text is not a telephone number. The user part of most SIP URIs is not a telephone number.
#[must_use]
pub fn canonical_number(text: &str) -> Option<String> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let mut number = String::with_capacity(text.len().min(LONGEST_NUMBER));
    for character in text.chars() {
        match character {
            '0'..='9' | '#' | '*' if number.len() < LONGEST_NUMBER => number.push(character),
            // These are visual separators (RFC 3966 §5.1.1).
            '-' | '.' | '(' | ')' | ' ' => {}
            _ => return None,
        }
    }
    number.contains(|character: char| character.is_ascii_digit()).then_some(number)
}

/// Entry point for fuzzing. Reads arbitrary octets as the value of an Identity header and as a certificate file. The
/// function must not panic.
pub fn fuzz_identity(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(identity) = Identity::parse(text)
    {
        let diversions: Vec<_> = Diversion::read(&identity).into_iter().collect();
        if let Ok(passport) = Passport::read(&identity) {
            let expected = Expected { orig: vec!["12155550100".into()], dest: vec!["12155550101".into()], max_age: 60 };
            let _ = passport.check_along(passport.iat, &expected, &diversions);
        }
    }
    if let Ok(certificate) = Certificate::read(data) {
        let _ = certificate.check(&Anchors::default(), 1_700_000_000);
        let _ = certificate.may_vouch_for("12155550100");
    }
}

#[cfg(test)]
mod tests;
