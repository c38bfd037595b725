//! The PASSporT itself (RFC 8225) with the claims of `shaken` (RFC 8588 §4).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::certificate::Certificate;
use super::fault::Fault;
use super::identity::Identity;
use super::{Attestation, canonical_number};

/// Most called numbers that are looked at.
const MOST_DESTINATIONS: usize = 64;

/// A SHAKEN PASSporT, read and not yet verified.
#[derive(Debug, Clone)]
pub struct Passport {
    /// What the signer attests.
    pub attestation: Attestation,
    /// The calling number, canonical.
    pub orig: String,
    /// The called numbers, canonical.
    pub dest: Vec<String>,
    /// When it was signed, seconds since 1970.
    pub iat: u64,
    /// Where the call came from, as the signer names it.
    pub origid: String,
    /// Where the certificate is.
    pub x5u: String,
    /// What the signature is over.
    signed: String,
    signature: [u8; 64],
}

/// The call that it should be about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The calling number, canonical; any of these.
    pub orig: Vec<String>,
    /// The called number, canonical; any of these.
    pub dest: Vec<String>,
    /// Seconds that it may be old, or ahead of our clock.
    pub max_age: u32,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    ppt: Option<String>,
    x5u: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    attest: Attestation,
    orig: Orig,
    dest: Dest,
    iat: u64,
    origid: String,
}

#[derive(Deserialize)]
struct Orig {
    tn: Option<String>,
}

#[derive(Deserialize)]
struct Dest {
    #[serde(default)]
    tn: Vec<String>,
}

/// What even a PASSporT says that is refused later.
#[derive(Deserialize)]
struct Attested {
    attest: Attestation,
}

impl Passport {
    /// Reads it, by the header field around it.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] for other algorithms and extensions and for the compact form, which cannot say what is
    /// attested; [`Fault::Unreachable`] when `info` and `x5u` disagree; [`Fault::Invalid`] for what makes no sense.
    pub fn read(identity: &Identity) -> Result<Self, Fault> {
        let invalid = |what: &str| Fault::Invalid(what.to_owned());
        if identity.is_compact() {
            return Err(Fault::Unsupported("compact form, which has no attestation".to_owned()));
        }
        if let Some(alg) = identity.alg.as_deref().filter(|alg| *alg != "ES256") {
            return Err(Fault::Unsupported(format!("signed by {alg:?}")));
        }
        let mut parts = identity.token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("a PASSporT has three parts"));
        };
        let signed = format!("{header}.{payload}");
        let header = decode(header).ok_or_else(|| invalid("its header is no base64url"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|error| Fault::Invalid(format!("its header: {error}")))?;
        if !header.typ.eq_ignore_ascii_case("passport") {
            return Err(Fault::Invalid(format!("its typ is {:?}", header.typ)));
        }
        if header.alg != "ES256" {
            return Err(Fault::Unsupported(format!("signed by {:?}", header.alg)));
        }
        match header.ppt.as_deref() {
            Some(ppt) if ppt.eq_ignore_ascii_case("shaken") => {}
            Some(ppt) => return Err(Fault::Unsupported(format!("its ppt is {ppt:?}"))),
            None => return Err(Fault::Unsupported("it has no ppt, so no attestation".to_owned())),
        }
        let payload = decode(payload).ok_or_else(|| invalid("its payload is no base64url"))?;
        let payload: Payload =
            serde_json::from_slice(&payload).map_err(|error| Fault::Invalid(format!("its payload: {error}")))?;
        let signature = decode(signature).and_then(|signature| <[u8; 64]>::try_from(signature).ok());
        let orig = payload.orig.tn.as_deref().and_then(canonical_number);
        let dest: Vec<_> =
            payload.dest.tn.iter().take(MOST_DESTINATIONS).filter_map(|number| canonical_number(number)).collect();
        let x5u = header.x5u.or_else(|| identity.info.clone()).ok_or_else(|| invalid("it names no certificate"))?;
        if identity.info.as_ref().is_some_and(|info| *info != x5u) {
            return Err(Fault::Unreachable("info and x5u name two certificates".to_owned()));
        }
        Ok(Self {
            attestation: payload.attest,
            orig: orig.ok_or_else(|| invalid("its orig is no number"))?,
            dest,
            iat: payload.iat,
            origid: payload.origid,
            x5u,
            signed,
            signature: signature.ok_or_else(|| invalid("its signature does not have 64 octets"))?,
        })
    }

    /// What is attested by a PASSporT that is otherwise of no use.
    #[must_use]
    pub fn claimed(identity: &Identity) -> Option<Attestation> {
        let payload = decode(identity.token.split('.').nth(1)?)?;
        serde_json::from_slice::<Attested>(&payload).ok().map(|attested| attested.attest)
    }

    /// Whether it is about this call, at this time (RFC 8224 §6.2, ATIS-1000074 §5.3). `now`: seconds since 1970.
    ///
    /// # Errors
    /// [`Fault::Stale`] or [`Fault::Invalid`], which says what differs.
    pub fn check(&self, now: u64, expected: &Expected) -> Result<(), Fault> {
        let age = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(i64::try_from(self.iat).unwrap_or(i64::MAX));
        if age.unsigned_abs() > u64::from(expected.max_age) {
            return Err(Fault::Stale { age });
        }
        if !expected.orig.contains(&self.orig) {
            let caller = expected.orig.first().map_or("no number", |number| number);
            return Err(Fault::Invalid(format!("it vouches for {}, the caller is {caller}", self.orig)));
        }
        if !expected.dest.iter().any(|number| self.dest.contains(number)) {
            let (signed, called) = (self.dest.join(", "), expected.dest.join(", "));
            return Err(Fault::Invalid(format!("it is about a call to {signed}, this one is to {called}")));
        }
        Ok(())
    }

    /// Whether the certificate's key signed it, and may vouch for the number.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for another's signature, [`Fault::Certificate`] for a number that is not the signer's.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), Fault> {
        if !certificate.may_vouch_for(&self.orig) {
            return Err(Fault::Certificate(format!("its certificate is not for {}", self.orig)));
        }
        certificate.verify_signature(self.signed.as_bytes(), &self.signature)
    }
}

/// Base64url with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}
