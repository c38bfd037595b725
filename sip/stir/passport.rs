//! A PASSporT (RFC 8225) with the claims of `shaken` (RFC 8588 §4).

use serde::Deserialize;

use super::Attestation;
use super::certificate::Certificate;
use super::diversion::Diversion;
use super::fault::Fault;
use super::identity::Identity;
use super::token::{Number, Numbers, Token, age, decode};

/// A SHAKEN PASSporT that was read but not verified yet.
#[derive(Debug, Clone)]
pub struct Passport {
    /// The attestation level.
    pub attestation: Attestation,
    /// The calling number in canonical form.
    pub orig: String,
    /// The called numbers in canonical form.
    pub dest: Vec<String>,
    /// Time of the signature in seconds since 1970.
    pub iat: u64,
    /// The identifier that the signer uses for the origin of the call.
    pub origid: String,
    /// URL of the certificate.
    pub x5u: String,
    /// The signed text.
    signed: String,
    signature: [u8; 64],
}

/// The call that a PASSporT must describe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Possible calling numbers in canonical form. One of these numbers must match.
    pub orig: Vec<String>,
    /// Possible called numbers in canonical form. One of these numbers must match.
    pub dest: Vec<String>,
    /// Maximum difference, in seconds, between the time of the signature and this server's clock. The signature may be
    /// earlier or later than the clock.
    pub max_age: u32,
}

#[derive(Deserialize)]
struct Payload {
    attest: Attestation,
    orig: Number,
    dest: Numbers,
    iat: u64,
    origid: String,
}

/// The attestation claim, which can be read even if the PASSporT is refused later.
#[derive(Deserialize)]
struct Attested {
    attest: Attestation,
}

impl Passport {
    /// Reads the PASSporT of an Identity header.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] if the algorithm or the extension is not supported, or if the PASSporT has the compact
    /// form, which has no attestation. [`Fault::Unreachable`] if `info` and `x5u` differ. [`Fault::Invalid`] if the
    /// PASSporT is malformed.
    pub fn read(identity: &Identity) -> Result<Self, Fault> {
        let token: Token<Payload> = Token::read(identity, "shaken")?;
        let orig = token.payload.orig.canonical("orig")?;
        let signature = token.signature()?;
        let Token { payload, x5u, signed, .. } = token;
        let Payload { attest, dest, iat, origid, .. } = payload;
        Ok(Self { attestation: attest, orig, dest: dest.canonical(), iat, origid, x5u, signed, signature })
    }

    /// Returns the attestation that a PASSporT claims, even if the other claims cannot be used.
    #[must_use]
    pub fn claimed(identity: &Identity) -> Option<Attestation> {
        let payload = decode(identity.token.split('.').nth(1)?)?;
        serde_json::from_slice::<Attested>(&payload).ok().map(|attested| attested.attest)
    }

    /// Checks that the PASSporT describes this call at this time (RFC 8224 §6.2, ATIS-1000074 §5.3). `now` is in
    /// seconds since 1970.
    ///
    /// # Errors
    /// [`Fault::Stale`] if the time differs too much. [`Fault::Invalid`] with the difference if the numbers differ.
    pub fn check(&self, now: u64, expected: &Expected) -> Result<(), Fault> {
        self.check_along(now, expected, &[]).map(drop)
    }

    /// Checks the PASSporT of a call that may have been diverted. The checks are those of [`Passport::check`]. Returns
    /// the diversions in order, from the number that was called first to the number that is called now (RFC 8946 §6).
    /// The caller of this function must also verify each diversion.
    ///
    /// # Errors
    /// The errors are the errors of [`Passport::check`].
    pub fn check_along<'a>(
        &self,
        now: u64,
        expected: &Expected,
        diversions: &'a [Diversion],
    ) -> Result<Vec<&'a Diversion>, Fault> {
        age(self.iat, now, expected.max_age)?;
        if !expected.orig.contains(&self.orig) {
            let caller = expected.orig.first().map_or("no number", |number| number);
            return Err(Fault::Invalid(format!("it is signed for {}, the caller is {caller}", self.orig)));
        }
        let (mut reached, mut along): (_, Vec<&Diversion>) = (&self.dest, Vec::new());
        while !expected.dest.iter().any(|number| reached.contains(number)) {
            let leads_on = |one: &&Diversion| {
                reached.contains(&one.div)
                    && one.orig == self.orig
                    && age(one.iat, now, expected.max_age).is_ok()
                    && !along.iter().any(|known| std::ptr::eq(*known, *one))
            };
            let Some(next) = diversions.iter().find(leads_on) else {
                let (signed, called) = (reached.join(", "), expected.dest.join(", "));
                return Err(Fault::Invalid(format!("it is signed for a call to {signed}, this call is to {called}")));
            };
            along.push(next);
            reached = &next.dest;
        }
        Ok(along)
    }

    /// Checks that the key of the certificate made the signature, and that the certificate is valid for the calling
    /// number.
    ///
    /// # Errors
    /// [`Fault::Invalid`] if another key made the signature. [`Fault::Certificate`] if the certificate is not valid for
    /// the number.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), Fault> {
        if !certificate.may_vouch_for(&self.orig) {
            return Err(Fault::Certificate(format!("the certificate is not valid for {}", self.orig)));
        }
        certificate.verify_signature(self.signed.as_bytes(), &self.signature)
    }
}
