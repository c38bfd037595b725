//! The form that PASSporTs of all extensions have in common (RFC 8225): three parts, an ES256 signature, and the URL of
//! a certificate.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::canonical_number;
use super::fault::Fault;
use super::identity::Identity;

/// Maximum number of called numbers that are read.
const MAX_DESTINATIONS: usize = 64;

/// A PASSporT that was parsed but not verified yet.
#[derive(Debug)]
pub(super) struct Token<P> {
    pub(super) payload: P,
    /// URL of the certificate.
    pub(super) x5u: String,
    /// The signed text.
    pub(super) signed: String,
    signature: Option<[u8; 64]>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    ppt: Option<String>,
    x5u: Option<String>,
}

/// A claim with one number.
#[derive(Debug, Deserialize)]
pub(super) struct Number {
    tn: Option<String>,
}

/// A claim with several numbers.
#[derive(Debug, Deserialize)]
pub(super) struct Numbers {
    #[serde(default)]
    tn: Vec<String>,
}

impl<P: DeserializeOwned> Token<P> {
    /// Reads a PASSporT of the extension `ppt` from an Identity header.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] if the algorithm or the extension is not supported, or if the PASSporT has the compact
    /// form, which has no claims. [`Fault::Unreachable`] if `info` and `x5u` differ. [`Fault::Invalid`] if the PASSporT
    /// is malformed.
    pub(super) fn read(identity: &Identity, ppt: &str) -> Result<Self, Fault> {
        let invalid = |what: &str| Fault::Invalid(what.to_owned());
        if identity.is_compact() {
            return Err(Fault::Unsupported("the PASSporT has the compact form, which has no claims".to_owned()));
        }
        if let Some(alg) = identity.alg.as_deref().filter(|alg| *alg != "ES256") {
            return Err(Fault::Unsupported(format!("unsupported algorithm {alg:?}")));
        }
        let mut parts = identity.token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("the PASSporT does not have three parts"));
        };
        let signed = format!("{header}.{payload}");
        let header = decode(header).ok_or_else(|| invalid("the header is not base64url"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|error| Fault::Invalid(format!("the header: {error}")))?;
        if !header.typ.eq_ignore_ascii_case("passport") {
            return Err(Fault::Invalid(format!("unexpected typ {:?}", header.typ)));
        }
        if header.alg != "ES256" {
            return Err(Fault::Unsupported(format!("signed by {:?}", header.alg)));
        }
        match header.ppt.as_deref() {
            Some(other) if other.eq_ignore_ascii_case(ppt) => {}
            Some(other) => return Err(Fault::Unsupported(format!("unsupported ppt {other:?}"))),
            None => return Err(Fault::Unsupported("it has no ppt and thus no attestation".to_owned())),
        }
        let payload = decode(payload).ok_or_else(|| invalid("the payload is not base64url"))?;
        let payload =
            serde_json::from_slice(&payload).map_err(|error| Fault::Invalid(format!("the payload: {error}")))?;
        let signature = decode(signature).and_then(|signature| <[u8; 64]>::try_from(signature).ok());
        let x5u = header.x5u.or_else(|| identity.info.clone()).ok_or_else(|| invalid("it names no certificate URL"))?;
        if identity.info.as_ref().is_some_and(|info| *info != x5u) {
            return Err(Fault::Unreachable("info and x5u name different certificates".to_owned()));
        }
        Ok(Self { payload, x5u, signed, signature })
    }
}

impl<P> Token<P> {
    /// Returns the signature: r and s with 32 octets each.
    ///
    /// # Errors
    /// [`Fault::Invalid`] if the signature does not have 64 octets, which ES256 requires.
    pub(super) fn signature(&self) -> Result<[u8; 64], Fault> {
        self.signature.ok_or_else(|| Fault::Invalid("the signature is not 64 octets long".to_owned()))
    }
}

impl Number {
    /// Returns the number in canonical form.
    ///
    /// # Errors
    /// [`Fault::Invalid`] with the name of the claim, if the claim contains no number.
    pub(super) fn canonical(&self, claim: &str) -> Result<String, Fault> {
        let number = self.tn.as_deref().and_then(canonical_number);
        number.ok_or_else(|| Fault::Invalid(format!("{claim} is not a telephone number")))
    }
}

impl Numbers {
    /// Returns the numbers in canonical form. At most 64 numbers are returned.
    pub(super) fn canonical(&self) -> Vec<String> {
        self.tn.iter().take(MAX_DESTINATIONS).filter_map(|number| canonical_number(number)).collect()
    }
}

/// Checks the age of a signature: `iat` may differ from `now` by at most `max_age` seconds. Otherwise returns
/// [`Fault::Stale`].
pub(super) fn age(iat: u64, now: u64, max_age: u32) -> Result<(), Fault> {
    let age = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(i64::try_from(iat).unwrap_or(i64::MAX));
    if age.unsigned_abs() > u64::from(max_age) { Err(Fault::Stale { age }) } else { Ok(()) }
}

/// Decodes base64url, with or without padding.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}
