//! Fingerprints of certificates in the signalling (RFC 8122 §5).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// A hash function for fingerprints. SHA-1 and MD5 are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hash {
    /// `sha-256`
    Sha256,
    /// `sha-384`
    Sha384,
    /// `sha-512`
    Sha512,
}

impl Hash {
    const ALL: [Hash; 3] = [Hash::Sha256, Hash::Sha384, Hash::Sha512];

    /// The name in `a=fingerprint`.
    pub fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha-256",
            Hash::Sha384 => "sha-384",
            Hash::Sha512 => "sha-512",
        }
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        }
    }
}

/// The hash of a certificate. The text form is that of `a=fingerprint`: `sha-256 4A:AD:B9:...`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    hash: Hash,
    octets: Vec<u8>,
}

/// The text is not a fingerprint, or its hash function is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint with sha-256, sha-384 or sha-512")]
pub struct NotAFingerprint;

impl Fingerprint {
    /// Returns the fingerprint of a certificate in DER form.
    pub fn of(hash: Hash, certificate: &[u8]) -> Fingerprint {
        Fingerprint { hash, octets: digest::digest(hash.algorithm(), certificate).as_ref().to_vec() }
    }

    /// Whether this is the fingerprint of a certificate in DER form.
    pub fn matches(&self, certificate: &[u8]) -> bool {
        *self == Fingerprint::of(self.hash, certificate)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.hash.name())?;
        for (place, octet) in self.octets.iter().enumerate() {
            write!(formatter, "{}{octet:02X}", if place == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, NotAFingerprint> {
        let (name, value) = text.trim().split_once([' ', '\t']).ok_or(NotAFingerprint)?;
        let hash = Hash::ALL.into_iter().find(|hash| hash.name().eq_ignore_ascii_case(name)).ok_or(NotAFingerprint)?;
        let octet = |part: &str| match part.len() {
            1 | 2 if part.bytes().all(|digit| digit.is_ascii_hexdigit()) => u8::from_str_radix(part, 16).ok(),
            _ => None,
        };
        let length = hash.algorithm().output_len();
        let octets: Option<Vec<u8>> = value.trim().split(':').take(length + 1).map(octet).collect();
        let octets = octets.filter(|octets| octets.len() == length).ok_or(NotAFingerprint)?;
        Ok(Fingerprint { hash, octets })
    }
}
