//! A PASSporT (RFC 8225) with the claims of `shaken` (RFC 8588 §4).

use serde::Deserialize;

use super::Attestation;
use super::certificate::Certificate;
use super::diversion::Diversion;
use super::fault::Fault;
use super::identity::Identity;
use super::token::{Number, Numbers, Token, age, decode};

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
struct Payload {
    attest: Attestation,
    orig: Number,
    dest: Numbers,
    iat: u64,
    origid: String,
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
        let token: Token<Payload> = Token::read(identity, "shaken")?;
        let orig = token.payload.orig.canonical("orig")?;
        let signature = token.signature()?;
        let Token { payload, x5u, signed, .. } = token;
        let Payload { attest, dest, iat, origid, .. } = payload;
        Ok(Self { attestation: attest, orig, dest: dest.canonical(), iat, origid, x5u, signed, signature })
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
        self.check_along(now, expected, &[]).map(drop)
    }

    /// Like [`Passport::check`], of a call that may have been sent on since. The diversions that lead from the number that was
    /// called first to the one that is called now (RFC 8946 §6), in their order; each has to be verified too.
    ///
    /// # Errors
    /// Those of [`Passport::check`].
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

    /// Whether the certificate's key signed it, and may vouch for the number.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for another's signature, [`Fault::Certificate`] for a number that is not the signer's.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), Fault> {
        if !certificate.may_vouch_for(&self.orig) {
            return Err(Fault::Certificate(format!("the certificate is not valid for {}", self.orig)));
        }
        certificate.verify_signature(self.signed.as_bytes(), &self.signature)
    }
}
