//! Percent escapes, and comparisons of texts that contain escapes (RFC 3261 §19.1.4).

use std::borrow::Cow;

/// The reserved characters of RFC 2396 §2.2. An escaped reserved character differs from the character without an
/// escape. For any other character there is no difference.
const RESERVED: &[u8] = b";/?:@&=+$,";

/// Returns whether two hexadecimal digits follow each `%`.
pub(super) fn are_sound(text: &[u8]) -> bool {
    let mut parts = text.split(|&byte| byte == b'%');
    parts.next();
    parts.all(|part| matches!(part, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

/// Reads one octet. Returns the octet, whether it was escaped, and the rest.
fn take(text: &[u8]) -> Option<(u8, bool, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    match text {
        [b'%', high, low, rest @ ..] if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
            Some((high << 4 | low, true, rest))
        }
        [byte, rest @ ..] => Some((*byte, false, rest)),
        [] => None,
    }
}

fn octets(mut text: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    std::iter::from_fn(move || {
        let (octet, is_escaped, rest) = take(text)?;
        text = rest;
        Some((octet, is_escaped))
    })
}

/// Decodes the escapes. `%00` becomes a NUL character (RFC 4475 §3.1.1.4).
pub(super) fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(octets(text).map(|(octet, _)| octet).collect())
}

/// Returns the decoded octets for a comparison. Each octet has a flag, which says whether the octet is an escaped
/// reserved character.
fn compared(text: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    octets(text).map(|(octet, is_escaped)| (octet, is_escaped && RESERVED.contains(&octet)))
}

pub(super) fn are_same(one: &[u8], other: &[u8]) -> bool {
    compared(one).eq(compared(other))
}

/// Compares two texts. Case is ignored.
pub(super) fn are_same_in_any_case(one: &[u8], other: &[u8]) -> bool {
    let lower = |(octet, is_escaped): (u8, bool)| (octet.to_ascii_lowercase(), is_escaped);
    compared(one).map(lower).eq(compared(other).map(lower))
}

/// Compares two telephone numbers. Case and visual separators are ignored (RFC 3966 §5.1.1).
pub(super) fn are_same_numbers(one: &[u8], other: &[u8]) -> bool {
    let digits = |text| compared(text).filter(|(octet, _)| !matches!(octet, b'-' | b'.' | b'(' | b')'));
    let lower = |(octet, is_escaped): (u8, bool)| (octet.to_ascii_lowercase(), is_escaped);
    digits(one).map(lower).eq(digits(other).map(lower))
}
