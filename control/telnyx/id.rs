//! Telnyx's spelling of ids. A call control id is `v3:` and base64url. All other ids are UUIDs.
//!
//! The server needs no table of ids, because it computes an id from the text. This server detects a call control id
//! that it did not write.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tandem_host::hash;
use tandem_id::{AccountName, LegId};
pub use tandem_id::{parse_uuid, uuid};

/// Number of bytes that follow `v3:` in base64url. These bytes are the leg's id and a digest of the leg's id. Because
/// of the digest, the base64url text has the length that clients expect (54 characters).
const CONTROL_ID_BYTES: usize = 40;
const LEG_BYTES: usize = 16;

/// The leg's `call_control_id`: `v3:` and 54 characters of `A-Za-z0-9_-`.
pub fn call_control_id(leg: LegId) -> String {
    let mut bytes = Vec::with_capacity(CONTROL_ID_BYTES);
    bytes.extend_from_slice(&leg.0.to_be_bytes());
    bytes.extend_from_slice(filler(leg).get(..CONTROL_ID_BYTES - LEG_BYTES).unwrap_or_default());
    let mut text = String::from("v3:");
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text
}

/// Parses a `call_control_id`. `None` for a text that [`call_control_id`] never writes.
pub fn parse_call_control_id(text: &str) -> Option<LegId> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix("v3:")?).ok()?;
    let (leg, digest) = bytes.split_first_chunk::<LEG_BYTES>()?;
    let leg = LegId(u128::from_be_bytes(*leg));
    (filler(leg).get(..CONTROL_ID_BYTES - LEG_BYTES) == Some(digest)).then_some(leg)
}

/// The range of the decimal ids of resources. Every id in this range has 19 digits.
pub const DECIMALS: std::ops::Range<u64> = 1_000_000_000_000_000_000..9_000_000_000_000_000_000;

/// The decimal id of a resource, with 19 digits. If `id` is within [`DECIMALS`], the result is `id`. Otherwise `id` is
/// reduced to this range.
pub fn decimal(id: u128) -> u64 {
    let max = u128::from(DECIMALS.end - DECIMALS.start);
    match u64::try_from(id) {
        Ok(number) if DECIMALS.contains(&number) => number,
        _ => DECIMALS.start + u64::try_from(id % max).unwrap_or_default(),
    }
}

/// Writes an id in the form of a random UUID (version 4). Ids in this form are only shown and never parsed.
pub fn uuid_v4(id: u128) -> String {
    uuid((id & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62))
}

/// The `user_id` of an account. This value is computed from the account's name, so the value never changes.
pub fn user_id(account: &AccountName) -> String {
    uuid_v4(hash::id([&b"telnyx user "[..], account.as_str().as_bytes()]))
}

fn filler(leg: LegId) -> [u8; 32] {
    hash::sha256([&b"telnyx call control id "[..], &leg.0.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt, SeedableRng};

    #[test]
    fn a_call_control_id_has_telnyxs_form_and_parses_back() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        for _ in 0..1_000 {
            let leg = LegId::new(jiff::Timestamp::UNIX_EPOCH, &mut rng);
            let text = call_control_id(leg);
            assert_eq!(text.len(), 3 + 54);
            assert!(text.bytes().skip(3).all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
            assert_eq!(parse_call_control_id(&text), Some(leg));
        }
    }

    #[test]
    fn a_modified_call_control_id_is_refused() {
        let text = call_control_id(LegId(7));
        for at in 3..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(parse_call_control_id(std::str::from_utf8(&other).unwrap()), None);
        }
        assert_eq!(parse_call_control_id(text.trim_start_matches("v3:")), None);
        assert_eq!(parse_call_control_id(&format!("{text}=")), None);
    }

    #[test]
    fn a_uuid_is_formatted_and_parsed_back() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(2);
        for _ in 0..1_000 {
            let id = LegId::new(jiff::Timestamp::UNIX_EPOCH, &mut rng).0;
            assert_eq!(parse_uuid(&uuid(id)), Some(id));
            assert_eq!(parse_uuid(&uuid(id).to_uppercase()), Some(id));
            let shown = uuid_v4(id);
            assert_eq!(&shown[14..15], "4");
            assert!("89ab".contains(&shown[19..20]));
        }
        assert_eq!(uuid(0x1af5_aabe_a9b8_11f0_bb0d_0242_0a1f_0a69), "1af5aabe-a9b8-11f0-bb0d-02420a1f0a69");
        assert_eq!(user_id(&AccountName::new("acme")), user_id(&AccountName::new("acme")));
    }

    #[test]
    fn arbitrary_text_is_refused_without_panic() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(3);
        for _ in 0..20_000 {
            let mut bytes = vec![0; rng.random_range(0..80)];
            rng.fill_bytes(&mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(parse_call_control_id(&text), None);
            assert_eq!(parse_call_control_id(&format!("v3:{text}")), None);
            parse_uuid(&text);
            parse_uuid(&text.chars().take(36).collect::<String>());
        }
    }
}
