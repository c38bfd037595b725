//! Telnyx's webhook signature: Ed25519 (RFC 8032) over `timestamp|body`. The signed body is exactly the body that is
//! sent.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use jiff::Timestamp;
use tandem_accounts::TelnyxCredentials;

/// The decoder for the signing seed. It accepts base64 with and without padding. This server always writes signatures
/// and keys with padding, because current client libraries refuse a text without padding.
const SEED: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The error that the account's signing seed is not the base64 of 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("telnyx signing_seed is not the base64 of 32 bytes")]
pub struct BadSeed;

/// The key that applications use to verify webhooks (`TELNYX_PUBLIC_KEY`). The key is the standard base64 of 32 bytes
/// and has 44 characters.
pub fn public_key(credentials: &TelnyxCredentials) -> Result<String, BadSeed> {
    Ok(STANDARD.encode(key(credentials)?.public_key()))
}

/// The two signature headers for one attempt of a webhook.
pub(super) fn headers(
    credentials: &TelnyxCredentials,
    now: Timestamp,
    body: &[u8],
) -> Result<[(String, String); 2], BadSeed> {
    let timestamp = now.as_second().to_string();
    let mut signed = Vec::with_capacity(timestamp.len() + 1 + body.len());
    signed.extend_from_slice(timestamp.as_bytes());
    signed.push(b'|');
    signed.extend_from_slice(body);
    let signature = STANDARD.encode(key(credentials)?.sign(&signed));
    Ok([("telnyx-timestamp".into(), timestamp), ("telnyx-signature-ed25519".into(), signature)])
}

fn key(credentials: &TelnyxCredentials) -> Result<Ed25519KeyPair, BadSeed> {
    let seed = SEED.decode(credentials.signing_seed.trim()).map_err(|_| BadSeed)?;
    let seed = <[u8; 32]>::try_from(seed).map_err(|_| BadSeed)?;
    Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| BadSeed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    fn credentials(seed: &str) -> TelnyxCredentials {
        TelnyxCredentials { api_key: "KEY1".into(), signing_seed: seed.into() }
    }

    #[test]
    fn the_public_key_of_a_seed_matches_rfc_8032_section_7_1_test_1() {
        let seed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
        assert_eq!(public_key(&credentials(seed)).unwrap(), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        assert_eq!(public_key(&credentials(seed)), public_key(&credentials(seed.trim_end_matches('='))));
    }

    #[test]
    fn the_public_key_verifies_a_signed_webhook() {
        let credentials = credentials(&STANDARD.encode([7; 32]));
        let body = br#"{"data":{}}"#;
        let [(name, timestamp), (_, signature)] =
            headers(&credentials, Timestamp::from_second(1_700_000_000).unwrap(), body).unwrap();
        assert_eq!((name.as_str(), timestamp.as_str()), ("telnyx-timestamp", "1700000000"));
        assert_eq!(signature.len() % 4, 0, "the libraries want strict, padded base64");
        let key = UnparsedPublicKey::new(&ED25519, STANDARD.decode(public_key(&credentials).unwrap()).unwrap());
        let signature = STANDARD.decode(signature).unwrap();
        let mut signed = b"1700000000|".to_vec();
        signed.extend_from_slice(body);
        assert!(key.verify(&signed, &signature).is_ok());
        signed.push(b' ');
        assert!(key.verify(&signed, &signature).is_err());
    }

    #[test]
    fn a_seed_of_another_length_is_refused() {
        for seed in ["", "AAAA", "not base64!"] {
            assert_eq!(public_key(&credentials(seed)), Err(BadSeed));
        }
    }
}
