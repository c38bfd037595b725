//! STIR/SHAKEN: who vouches for the calling number (RFC 8224; PASSporT, RFC 8225; the `shaken` extension, RFC 8588 and
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
//! Octets and the time go in, a verdict comes out; nothing here fetches anything. Verification against TN authorization
//! lists by reference and revocation lists are not here.

mod certificate;
mod der;
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

/// How much the signer knows of the caller (ATIS-1000074 §4.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Attestation {
    /// Full: the caller is a customer, and may use the number.
    A,
    /// Partial: the caller is a customer; whether the number is theirs is not known.
    B,
    /// Gateway: the call came from elsewhere.
    C,
}

impl Attestation {
    /// The claim's value.
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

/// Most characters of a number, `#` and `*` included.
const LONGEST_NUMBER: usize = 32;

/// A telephone number in canonical form (RFC 8224 §8.3): digits, `#` and `*` alone. `None` for what is no number, as the user
/// part of most SIP URIs is none.
#[must_use]
pub fn canonical_number(text: &str) -> Option<String> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let mut number = String::with_capacity(text.len().min(LONGEST_NUMBER));
    for character in text.chars() {
        match character {
            '0'..='9' | '#' | '*' if number.len() < LONGEST_NUMBER => number.push(character),
            // Visual separators (RFC 3966 §5.1.1).
            '-' | '.' | '(' | ')' | ' ' => {}
            _ => return None,
        }
    }
    number.contains(|character: char| character.is_ascii_digit()).then_some(number)
}

/// Arbitrary octets as the value of Identity, and as a certificate file: none of it may panic.
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
