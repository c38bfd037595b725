//! The elements of which all header fields consist (RFC 3261 §25.1): classes of characters, white space, numbers,
//! quoted strings, parameters, and the first value of a comma-separated list.
//!
//! Each function reads bytes from the beginning of a slice and returns the rest of the slice. No function keeps a
//! position. A function allocates only if it removes escapes.

use std::borrow::Cow;

use crate::header::first_value_end;

/// The characters of a `token`, including `%`.
pub(super) const TOKEN: u8 = 1;
/// The characters of `hostname` and `IPv4address`, and `_`. The RFC does not allow `_`, but some names in use contain
/// it.
pub(super) const HOST: u8 = 2;
/// The characters of the `user` part of a SIP URI, including the `%` of escapes. Also `#`: the RFC wants an escape, but
/// phones dial `*21#` without it.
pub(super) const USER: u8 = 4;
/// The characters of a `gen-value` without quotes: a token, or a host with a port.
pub(super) const VALUE: u8 = 8;
pub(super) const DIGIT: u8 = 16;
/// All characters that a URI may contain: the printable characters except `<`, `>` and `"`.
pub(super) const URI: u8 = 32;
pub(super) const SCHEME: u8 = 64;
/// The characters of `phonedigit-hex`, including the visual separators (RFC 3966 §3).
pub(super) const PHONE: u8 = 128;

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses an index out of range")]
static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        let word = c.is_ascii_alphanumeric();
        if word || matches!(c, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~') {
            kinds[byte] |= TOKEN | VALUE;
        }
        if matches!(c, b'[' | b']' | b':' | b'/') {
            kinds[byte] |= VALUE;
        }
        if word || matches!(c, b'-' | b'.' | b'_') {
            kinds[byte] |= HOST;
        }
        let mark = matches!(c, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')');
        if word || mark || matches!(c, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/' | b'%' | b'#') {
            kinds[byte] |= USER;
        }
        if c.is_ascii_digit() {
            kinds[byte] |= DIGIT;
        }
        if c.is_ascii_graphic() && !matches!(c, b'<' | b'>' | b'"') {
            kinds[byte] |= URI;
        }
        if word || matches!(c, b'+' | b'-' | b'.') {
            kinds[byte] |= SCHEME;
        }
        if c.is_ascii_hexdigit() || matches!(c, b'*' | b'#' | b'-' | b'.' | b'(' | b')') {
            kinds[byte] |= PHONE;
        }
        byte += 1;
    }
    kinds
};

pub(super) fn is(byte: u8, kind: u8) -> bool {
    KINDS.get(usize::from(byte)).is_some_and(|kinds| kinds & kind != 0)
}

/// Returns whether all characters are of this kind. The result is also true for an empty text.
pub(super) fn all(text: &[u8], kind: u8) -> bool {
    text.iter().all(|&byte| is(byte, kind))
}

/// Splits the text after the leading characters of this kind. If the text does not begin with such a character, the
/// first part is empty.
pub(super) fn leading(text: &[u8], kind: u8) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| !is(byte, kind)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or_default()
}

/// Splits the text around the first byte with the value `at`.
pub(super) fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(text.iter().position(|&byte| byte == at)?)?;
    Some((before, after.get(1..)?))
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Removes spaces and tabs at the beginning of the text.
pub(super) fn skip_space(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    text
}

/// Removes spaces and tabs at both ends of the text.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let mut text = skip_space(text);
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// Splits the text before the first space or tab.
pub(super) fn cut_at_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    text.split_at_checked(text.iter().position(|&byte| is_space(byte))?)
}

/// Parses a decimal number that is not greater than `max`. Leading zeros are allowed (RFC 4475 §3.1.1.1). A sign is
/// not allowed.
pub(super) fn number(digits: &[u8], max: u32) -> Option<u32> {
    u32::try_from(long_number(digits)?).ok().filter(|&number| number <= max)
}

/// Parses a decimal number.
pub(super) fn long_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !all(digits, DIGIT) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Reads a quoted string. Returns the text between the quotes, which still contains the escapes, and the rest after the
/// closing quote. Returns `None` if the closing quote is missing (RFC 4475 §3.1.2.6).
pub(super) fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += inner.get(at..)?.iter().position(|&byte| matches!(byte, b'"' | b'\\'))?;
        if inner.get(at) == Some(&b'"') {
            return Some((inner.get(..at)?, inner.get(at + 1..)?));
        }
        at += 2;
    }
}

/// Removes the escapes from the text of a quoted string.
pub(super) fn unescape(inner: &[u8]) -> Cow<'_, [u8]> {
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        text.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    Cow::Owned(text)
}

/// A parameter of a header field: `;name`, `;name=value` or `;name="value"`.
pub(super) struct Parameter<'a> {
    pub(super) name: &'a [u8],
    /// The value without quotes and escapes. `None` if the parameter has no value.
    pub(super) value: Option<Cow<'a, [u8]>>,
}

impl<'a> Parameter<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Reads the first parameter of `text`. Returns the parameter and the rest.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (name, rest) = leading(skip_space(text.strip_prefix(b";")?), TOKEN);
        if name.is_empty() {
            return None;
        }
        let rest = skip_space(rest);
        let Some(value) = rest.strip_prefix(b"=").map(skip_space) else {
            return Some((Self { name, value: None }, rest));
        };
        let (value, rest) = if value.starts_with(b"\"") {
            let (inner, rest) = quoted(value)?;
            (unescape(inner), rest)
        } else {
            let (value, rest) = leading(value, VALUE);
            if value.is_empty() {
                return None;
            }
            (Cow::Borrowed(value), rest)
        };
        Some((Self { name, value: Some(value) }, rest))
    }
}

/// The parameters of a header field in order. The iterator ends after an error.
pub(super) struct Parameters<'a> {
    rest: &'a [u8],
}

/// The error if the text between two semicolons is not a parameter.
#[derive(Debug)]
pub(super) struct NotAParameter;

impl<'a> Parameters<'a> {
    /// Reads the parameters of `text`. The text is empty or begins with the semicolon of the first parameter.
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// Returns whether all parameters are well-formed.
    pub(super) fn are_sound(mut self) -> bool {
        self.all(|parameter| parameter.is_ok())
    }

    /// Returns the value of the first parameter with this name, if the parameter has a value.
    pub(super) fn value(self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.flatten().find(|parameter| parameter.is(name))?.value
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<Parameter<'a>, NotAParameter>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = skip_space(self.rest);
        if text.is_empty() {
            return None;
        }
        let taken = Parameter::take(text);
        self.rest = taken.as_ref().map_or(&[], |(_, rest)| rest);
        Some(taken.map(|(parameter, _)| parameter).ok_or(NotAParameter))
    }
}

/// Returns the first value of a comma-separated list, as [`first_value_end`] finds it. Returns `None` if a quoted string
/// of the list does not end.
pub(super) fn first_value(list: &[u8]) -> Option<&[u8]> {
    let mut rest = list;
    while let Some(start) = rest.iter().position(|&byte| byte == b'"') {
        rest = quoted(rest.get(start..)?)?.1;
    }
    list.get(..first_value_end(list)).map(trim)
}
