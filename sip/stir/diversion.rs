//! A PASSporT of whoever sent a call on (`div`, RFC 8946): from which number, to which.
//!
//! ```text
//!   shaken: A calls B      div: B sent it to C      div: C sent it to D      the call is to D
//! ```

use serde::Deserialize;

use super::certificate::Certificate;
use super::fault::Fault;
use super::identity::Identity;
use super::token::{Number, Numbers, Token};

/// One diversion, read and not yet verified. A PASSporT nested in it (`opt`, RFC 8946 §7) and its history (`hi`) are not
/// looked at.
#[derive(Debug, Clone)]
pub struct Diversion {
    /// The calling number, canonical.
    pub orig: String,
    /// The number that sent the call on, canonical.
    pub div: String,
    /// Where to, canonical.
    pub dest: Vec<String>,
    /// When it was signed, seconds since 1970.
    pub iat: u64,
    /// Where the certificate is.
    pub x5u: String,
    /// What the signature is over.
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
    /// Reads it, by the header field around it.
    ///
    /// # Errors
    /// Those of [`Passport::read`](super::Passport::read).
    pub fn read(identity: &Identity) -> Result<Self, Fault> {
        let token: Token<Payload> = Token::read(identity, "div")?;
        let (orig, div) = (token.payload.orig.canonical("orig")?, token.payload.div.canonical("div")?);
        let signature = token.signature()?;
        let Token { payload, x5u, signed, .. } = token;
        Ok(Self { orig, div, dest: payload.dest.canonical(), iat: payload.iat, x5u, signed, signature })
    }

    /// Whether the certificate's key signed it, and may speak for the number that sent the call on.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for another's signature, [`Fault::Certificate`] for a number that is not the signer's.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), Fault> {
        if !certificate.may_vouch_for(&self.div) {
            return Err(Fault::Certificate(format!("the certificate of the diversion is not valid for {}", self.div)));
        }
        certificate.verify_signature(self.signed.as_bytes(), &self.signature)
    }
}
