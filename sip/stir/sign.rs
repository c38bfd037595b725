//! Signs the calling number of outgoing calls (RFC 8224 §6.1).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::SigningKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use serde::Serialize;

use super::{Attestation, der};

/// A private key, with the public URL of its certificate.
#[derive(Clone)]
pub struct Signer {
    key: Arc<dyn SigningKey>,
    x5u: Arc<str>,
}

/// The claims about a call (`shaken`, RFC 8588).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The attestation level.
    pub attestation: Attestation,
    /// The calling number in canonical form.
    pub orig: String,
    /// The called number in canonical form.
    pub dest: String,
    /// The current time in seconds since 1970.
    pub iat: u64,
    /// An identifier of the origin of the call. The identifier has no meaning for other parties (RFC 8588 §5).
    pub origid: String,
}

/// The claims about a diverted call (`div`, RFC 8946).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diverted {
    /// The calling number in canonical form.
    pub orig: String,
    /// The number that diverts the call, in canonical form.
    pub div: String,
    /// The number to which the call is diverted, in canonical form.
    pub dest: String,
    /// The current time in seconds since 1970.
    pub iat: u64,
}

/// The reason why a key cannot be used for signing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// The file contains no private key that can be read.
    #[error("it contains no private key: {0}")]
    Unreadable(String),
    /// The key is not an ECDSA key of the curve P-256.
    #[error(
        "it is not a key of the curve P-256, which ES256 needs (`openssl ecparam -name prime256v1 -genkey -noout`)"
    )]
    OtherKind,
}

// The header of a PASSporT. The JSON keys must be in lexicographic order and without white space (RFC 8225 §9). The
// order of the fields here is the order in the message.
#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    ppt: &'a str,
    typ: &'a str,
    x5u: &'a str,
}

#[derive(Serialize)]
struct Payload<'a> {
    attest: Attestation,
    dest: Dest<'a>,
    iat: u64,
    orig: Number<'a>,
    origid: &'a str,
}

#[derive(Serialize)]
struct DivPayload<'a> {
    dest: Dest<'a>,
    div: Number<'a>,
    iat: u64,
    orig: Number<'a>,
}

#[derive(Serialize)]
struct Dest<'a> {
    tn: [&'a str; 1],
}

#[derive(Serialize)]
struct Number<'a> {
    tn: &'a str,
}

impl Signer {
    /// Creates a signer from the PEM file of a private key (PKCS #8 or SEC 1) and the URL of the certificate.
    ///
    /// # Errors
    /// Returns an error if the file contains no private key that can be read, or if the key is not of the curve P-256.
    pub fn new(pem: &[u8], x5u: Arc<str>) -> Result<Self, UnusableKey> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| UnusableKey::Unreadable(error.to_string()))?;
        let key = any_ecdsa_type(&key).map_err(|_| UnusableKey::OtherKind)?;
        let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
        if key.algorithm() != SignatureAlgorithm::ECDSA || signer.is_none() {
            return Err(UnusableKey::OtherKind);
        }
        Ok(Self { key, x5u })
    }

    /// Returns the public URL of the certificate.
    #[must_use]
    pub fn certificate_url(&self) -> &str {
        &self.x5u
    }

    /// Returns the public key that belongs to the private key.
    pub(super) fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }

    /// Returns the value of an Identity header with these claims. Returns `None` only if the signing operation fails,
    /// which should not happen.
    #[must_use]
    pub fn identity(&self, claims: &Claims) -> Option<String> {
        let payload = Payload {
            attest: claims.attestation,
            dest: Dest { tn: [&claims.dest] },
            iat: claims.iat,
            orig: Number { tn: &claims.orig },
            origid: &claims.origid,
        };
        self.sign("shaken", &payload)
    }

    /// Returns the value of an Identity header for a diverted call. This header is sent in addition to the Identity
    /// headers of the incoming call.
    #[must_use]
    pub fn diversion(&self, claims: &Diverted) -> Option<String> {
        let payload = DivPayload {
            dest: Dest { tn: [&claims.dest] },
            div: Number { tn: &claims.div },
            iat: claims.iat,
            orig: Number { tn: &claims.orig },
        };
        self.sign("div", &payload)
    }

    fn sign(&self, ppt: &str, payload: &impl Serialize) -> Option<String> {
        let header = Header { alg: "ES256", ppt, typ: "passport", x5u: &self.x5u };
        let encode = |octets: Vec<u8>| URL_SAFE_NO_PAD.encode(octets);
        let header = encode(serde_json::to_vec(&header).ok()?);
        let payload = encode(serde_json::to_vec(payload).ok()?);
        let signed = format!("{header}.{payload}");
        let signer = self.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?;
        let signature = der::fixed_signature(&signer.sign(signed.as_bytes()).ok()?)?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Some(format!("{signed}.{signature};info=<{}>;alg=ES256;ppt={ppt}", self.x5u))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("x5u", &self.x5u).finish_non_exhaustive()
    }
}
