//! The part of DER (ITU-T X.690) that is needed for ECDSA signatures and for the TNAuthList of a certificate.
//!
//! Before this module reads the TNAuthList, rustls-webpki has parsed and checked the certificate. So this module
//! decides nothing about trust. The `der` crate would add dependencies, and would still need a description of the whole
//! certificate.

/// Tag of SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// Tag of INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// Tag of OBJECT IDENTIFIER.
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
/// Tag of OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// Tag of IA5String.
pub(super) const IA5_STRING: u8 = 0x16;
/// Returns the tag of a constructed, context-specific element.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Removes the first element from the input. Returns the tag and the contents of the element. Returns `None` at the
/// end, or if the element is incomplete.
pub(super) fn take<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], mut rest) = input.split_first_chunk::<2>()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        // The length is below 16 MiB. The server reads no longer file.
        0x81..=0x83 => {
            let (octets, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet))
        }
        _ => return None,
    };
    let (contents, after) = rest.split_at_checked(length)?;
    *input = after;
    Some((tag, contents))
}

/// Removes and returns the first element if it has this tag. Otherwise the input does not change.
pub(crate) fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let mut after = *input;
    let (found, contents) = take(&mut after)?;
    (found == tag).then(|| {
        *input = after;
        contents
    })
}

/// Returns the elements of a sequence in order.
pub(crate) fn elements(mut contents: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || take(&mut contents))
}

/// Converts an ECDSA signature from the form of JWS (r and s with 32 octets each, RFC 7518 §3.4) to the form of X.509
/// and TLS.
pub(super) fn signature(fixed: &[u8; 64]) -> Vec<u8> {
    let (r, s) = fixed.split_at(32);
    let mut integers = Vec::with_capacity(70);
    for half in [r, s] {
        let digits = half.iter().position(|octet| *octet != 0).and_then(|at| half.get(at..)).unwrap_or(&[0]);
        // A number whose first bit is set would be negative. So a zero octet is put before the number.
        let sign = digits.first().is_some_and(|first| *first >= 0x80);
        integers.extend([INTEGER, (digits.len() + usize::from(sign)) as u8]);
        integers.extend(sign.then_some(0));
        integers.extend_from_slice(digits);
    }
    let mut signature = vec![SEQUENCE, integers.len() as u8];
    signature.append(&mut integers);
    signature
}

/// Converts an ECDSA signature from the form of X.509 and TLS to the form of JWS.
pub(super) fn fixed_signature(mut signature: &[u8]) -> Option<[u8; 64]> {
    let mut integers = expect(&mut signature, SEQUENCE)?;
    let mut fixed = [0; 64];
    for half in fixed.chunks_exact_mut(32) {
        let integer = expect(&mut integers, INTEGER)?;
        let digits = integer.strip_prefix(&[0]).unwrap_or(integer);
        let start = half.len().checked_sub(digits.len())?;
        half.get_mut(start..)?.copy_from_slice(digits);
    }
    Some(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_lengths_are_short_or_long_and_never_beyond_the_input() {
        let long = [&[OCTET_STRING, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        assert_eq!(take(&mut &long[..]), Some((OCTET_STRING, &[7; 256][..])));
        assert_eq!(take(&mut &long[..200]), None);
        for bad in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x84, 0, 0, 0, 1, 0], &[0x30, 0x81]] {
            assert_eq!(take(&mut &bad[..]), None, "{bad:?}");
        }
    }

    #[test]
    fn ecdsa_numbers_convert_to_der_and_back_with_any_leading_octets() {
        for first in [[0x00, 0x00, 0x05], [0x00, 0x80, 0x01], [0x7f, 0xff, 0xff], [0xff, 0x00, 0x00]] {
            let mut fixed = [0x11; 64];
            fixed[..3].copy_from_slice(&first);
            fixed[32..35].copy_from_slice(&first);
            assert_eq!(fixed_signature(&signature(&fixed)), Some(fixed));
        }
        assert_eq!(signature(&[0; 64]), [SEQUENCE, 6, INTEGER, 1, 0, INTEGER, 1, 0]);
    }
}
