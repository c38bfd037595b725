//! Hashes and message authentication codes, by the library that TLS also uses (AWS-LC). Each function takes the parts of
//! one text, so that a caller need not join them.

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hmac;

/// Returns the SHA-256 hash (FIPS 180-4) of the joined parts.
pub fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.into_iter().for_each(|part| context.update(part));
    sized(context.finish().as_ref())
}

/// Returns the HMAC-SHA1 (RFC 2104) of the joined parts. The key may have any length. Only protocols that name SHA-1
/// use this function.
pub fn hmac_sha1<'a>(key: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 20] {
    sized(sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, parts).as_ref())
}

/// Returns the HMAC-SHA256 (RFC 2104) of the joined parts. The key may have any length.
pub fn hmac_sha256<'a>(key: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    sized(sign(hmac::HMAC_SHA256, key, parts).as_ref())
}

/// A hash function of an HMAC (RFC 7518 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacAlgorithm {
    /// HMAC-SHA256.
    Sha256,
    /// HMAC-SHA384.
    Sha384,
    /// HMAC-SHA512.
    Sha512,
}

/// Whether `code` is the HMAC of the text under this key. The comparison takes constant time.
pub fn verifies(algorithm: MacAlgorithm, key: &[u8], text: &[u8], code: &[u8]) -> bool {
    let algorithm = match algorithm {
        MacAlgorithm::Sha256 => hmac::HMAC_SHA256,
        MacAlgorithm::Sha384 => hmac::HMAC_SHA384,
        MacAlgorithm::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::verify(&hmac::Key::new(algorithm, key), text, code).is_ok()
}

/// Returns the octets in lower-case hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    let digit = |octet: u8| char::from_digit(octet.into(), 16).unwrap_or_default();
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 0xf)]).collect()
}

/// Returns the first 128 bits of the SHA-256 hash of the joined parts, for an id that is computed from other data.
pub fn id<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    u128::from_be_bytes(sized(sha256(parts).split_at(16).0))
}

fn sign<'a>(algorithm: hmac::Algorithm, key: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    parts.into_iter().for_each(|part| context.update(part));
    context.sign()
}

/// Copies the octets of a hash, whose length the algorithm determines.
fn sized<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut sized = [0; N];
    sized.copy_from_slice(octets);
    sized
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the examples of one block and of two blocks.
    #[test]
    fn sha256_has_the_published_values_for_any_parts() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&sha256([&b"abc"[..]])), abc);
        assert_eq!(hex(&sha256([&b"a"[..], b"", b"bc"])), abc);
        assert_eq!(
            hex(&sha256([&b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"[..]])),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
        assert_eq!(id([&b"abc"[..]]), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
    }

    /// RFC 2202 §3 and RFC 4231 §4, test cases 2 and 6: a short key, and a key that is longer than a block.
    #[test]
    fn codes_have_the_values_of_the_rfcs() {
        let (key, parts) = (b"Jefe", [&b"what do ya want "[..], b"for nothing?"]);
        assert_eq!(hex(&hmac_sha1(key, parts)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(hex(&hmac_sha256(key, parts)), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = [&b"Test Using Larger Than Block-Size Key - Hash Key First"[..]];
        assert_eq!(hex(&hmac_sha1(&[0xaa; 80], long)), "aa4ae5e15272d00e95705637ce8a3b55ed402112");
        assert_eq!(
            hex(&hmac_sha256(&[0xaa; 131], long)),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
