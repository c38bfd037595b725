//! JSON Web Tokens (RFC 7519) with an HMAC (RFC 7518 §3.2): the tokens with which web pages log in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::hash::{MacAlgorithm, hmac_sha256, verifies};

/// A token that was read. Its signature is not verified yet.
#[derive(Debug)]
pub struct Token<'a, C> {
    /// The algorithm in the header. `None` if it is not HS256, HS384 or HS512.
    pub algorithm: Option<MacAlgorithm>,
    /// The type in the header. Empty if there is none.
    pub typ: String,
    /// The claims.
    pub claims: C,
    signed: &'a str,
    signature: Vec<u8>,
}

/// The reason why a token cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The token is longer than the caller permits.
    TooLong,
    /// The text does not have the form of a token.
    Malformed,
    /// The payload lacks a necessary claim, or a claim has the wrong type.
    Claims,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    alg: String,
    #[serde(default)]
    typ: String,
}

impl<'a, C: DeserializeOwned> Token<'a, C> {
    /// Reads a token with these claims. `longest` is the maximum size of the text, in octets.
    ///
    /// # Errors
    /// The token cannot be read.
    pub fn read(text: &'a str, longest: usize) -> Result<Self, Unreadable> {
        if text.len() > longest {
            return Err(Unreadable::TooLong);
        }
        let octets = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Unreadable::Malformed);
        let (signed, signature) = text.rsplit_once('.').ok_or(Unreadable::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Unreadable::Malformed)?;
        let Header { alg, typ } = serde_json::from_slice(&octets(header)?).map_err(|_| Unreadable::Malformed)?;
        let algorithm = match alg.as_str() {
            "HS256" => Some(MacAlgorithm::Sha256),
            "HS384" => Some(MacAlgorithm::Sha384),
            "HS512" => Some(MacAlgorithm::Sha512),
            _ => None,
        };
        let signature = octets(signature)?;
        let claims = serde_json::from_slice(&octets(payload)?).map_err(|_| Unreadable::Claims)?;
        Ok(Self { algorithm, typ, claims, signed, signature })
    }
}

impl<C> Token<'_, C> {
    /// Whether the token was signed with this key and this algorithm. The algorithm is that of the verifier: a token must
    /// not choose another one. An empty key has signed nothing.
    pub fn is_signed_with(&self, algorithm: MacAlgorithm, key: &[u8]) -> bool {
        !key.is_empty() && verifies(algorithm, key, self.signed.as_bytes(), &self.signature)
    }
}

/// Returns a token with this header and these claims, signed with HS256. The header must say `HS256`.
pub fn signed(header: &impl Serialize, claims: &impl Serialize, key: &[u8]) -> serde_json::Result<String> {
    let part = |octets: Vec<u8>| URL_SAFE_NO_PAD.encode(octets);
    let signed = [part(serde_json::to_vec(header)?), part(serde_json::to_vec(claims)?)].join(".");
    let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(key, [signed.as_bytes()]));
    Ok([signed, signature].join("."))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// RFC 7515 §A.1: a token with HS256, and the key (base64url).
    #[test]
    fn the_token_of_the_rfc_is_verified() {
        let text = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                    dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = URL_SAFE_NO_PAD.decode(key).unwrap();
        let token = Token::<Value>::read(text, 512).unwrap();
        assert_eq!((token.algorithm, token.typ.as_str()), (Some(MacAlgorithm::Sha256), "JWT"));
        assert_eq!(token.claims["iss"], "joe");
        assert!(token.is_signed_with(MacAlgorithm::Sha256, &key));
        assert!(!token.is_signed_with(MacAlgorithm::Sha512, &key) && !token.is_signed_with(MacAlgorithm::Sha256, b""));
    }

    #[test]
    fn a_written_token_is_read_again_and_another_key_has_not_signed_it() {
        let text = signed(&json!({ "alg": "HS256", "typ": "X" }), &json!({ "a": 1 }), b"key").unwrap();
        let token = Token::<Value>::read(&text, 512).unwrap();
        assert_eq!((token.typ.as_str(), &token.claims), ("X", &json!({ "a": 1 })));
        assert!(token.is_signed_with(MacAlgorithm::Sha256, b"key"));
        assert!(!token.is_signed_with(MacAlgorithm::Sha256, b"other"));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let long = "x".repeat(513);
        for (text, why) in [
            ("", Unreadable::Malformed),
            ("a.b.c", Unreadable::Malformed),
            ("e30.e30", Unreadable::Malformed),
            ("IQ.e30.e30", Unreadable::Malformed),
            ("e30.IQ.e30", Unreadable::Claims),
            (&long, Unreadable::TooLong),
        ] {
            assert_eq!(Token::<Value>::read(text, 512).unwrap_err(), why, "{text:.20}");
        }
        assert_eq!(Token::<Value>::read("e30.e30.e30", 11).unwrap().algorithm, None);
    }
}
