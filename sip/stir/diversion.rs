//! The PASSporT of a party that diverted a call (`div`, RFC 8946). The PASSporT names the number that diverted the call
//! and the new destination.
//!
//! ```text
//!   shaken: A calls B      div: B diverts to C      div: C diverts to D      the call is to D
//! ```

use serde::Deserialize;

use super::certificate::Certificate;
use super::fault::Fault;
use super::identity::Identity;
use super::token::{Number, Numbers, Token};

/// One diversion that was read but not verified yet. A nested PASSporT (`opt`, RFC 8946 §7) and a history (`hi`) are
/// ignored.
#[derive(Debug, Clone)]
pub struct Diversion {
    /// The calling number in canonical form.
    pub orig: String,
    /// The number that diverted the call, in canonical form.
    pub div: String,
    /// The numbers to which the call was diverted, in canonical form.
    pub dest: Vec<String>,
    /// Time of the signature in seconds since 1970.
    pub iat: u64,
    /// URL of the certificate.
    pub x5u: String,
    /// The signed text.
    signed: String,
    signature: [u8; 64],
}

#[derive(Deserialize)]
struct Payload {
    orig: Number,
    div: Number,
    dest: Numbers,
    iat: u64,
}

impl Diversion {
    /// Reads the PASSporT of an Identity header.
    ///
    /// # Errors
    /// The errors are the errors of [`Passport::read`](super::Passport::read).
    pub fn read(identity: &Identity) -> Result<Self, Fault> {
        let token: Token<Payload> = Token::read(identity, "div")?;
        let (orig, div) = (token.payload.orig.canonical("orig")?, token.payload.div.canonical("div")?);
        let signature = token.signature()?;
        let Token { payload, x5u, signed, .. } = token;
        Ok(Self { orig, div, dest: payload.dest.canonical(), iat: payload.iat, x5u, signed, signature })
    }

    /// Checks that the key of the certificate made the signature, and that the certificate is valid for the number that
    /// diverted the call.
    ///
    /// # Errors
    /// [`Fault::Invalid`] if another key made the signature. [`Fault::Certificate`] if the certificate is not valid for
    /// the number.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), Fault> {
        if !certificate.may_vouch_for(&self.div) {
            return Err(Fault::Certificate(format!("the certificate of the diversion is not valid for {}", self.div)));
        }
        certificate.verify_signature(self.signed.as_bytes(), &self.signature)
    }
}
