//! The parts that every header field is made of (RFC 3261 §25.1): kinds of characters, white space, numbers, quoted strings,
//! parameters, and the first value of a comma-separated list.
//!
//! The readers take bytes off the beginning of a slice and return the rest. No reader keeps a position, and none allocates,
//! except to undo escapes.

use std::borrow::Cow;

/// `token`, with `%`.
pub(super) const TOKEN: u8 = 1;
/// `hostname` and `IPv4address`, and `_`, which the RFC does not allow but names in use contain.
pub(super) const HOST: u8 = 2;
/// `user` of a SIP URI, with the `%` of its escapes.
pub(super) const USER: u8 = 4;
/// `gen-value` without quotes: a token, or a host with a port.
pub(super) const VALUE: u8 = 8;
pub(super) const DIGIT: u8 = 16;
/// Any character that a URI may have: the printable ones without `<`, `>` and `"`.
pub(super) const URI: u8 = 32;
pub(super) const SCHEME: u8 = 64;
/// `phonedigit-hex` with its visual separators (RFC 3966 §3).
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
        if word || mark || matches!(c, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/' | b'%') {
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

/// Whether all characters are of the kind; also if there are none.
pub(super) fn all(text: &[u8], kind: u8) -> bool {
    text.iter().all(|&byte| is(byte, kind))
}

/// The characters of the kind at the beginning, maybe none, and the rest.
pub(super) fn leading(text: &[u8], kind: u8) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| !is(byte, kind)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or_default()
}

/// The text before and after the first such byte.
pub(super) fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(text.iter().position(|&byte| byte == at)?)?;
    Some((before, after.get(1..)?))
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The text without the spaces and tabs at its beginning.
pub(super) fn skip_space(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    text
}

/// The text without the spaces and tabs around it.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let mut text = skip_space(text);
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// The text before and after the first space or tab.
pub(super) fn cut_at_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    text.split_at_checked(text.iter().position(|&byte| is_space(byte))?)
}

/// A decimal number of at most `most`. Zeros before it do not count (RFC 4475 §3.1.1.1), and a sign is no digit.
pub(super) fn number(digits: &[u8], most: u32) -> Option<u32> {
    u32::try_from(long_number(digits)?).ok().filter(|&number| number <= most)
}

/// A decimal number.
pub(super) fn long_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !all(digits, DIGIT) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Takes a quoted string: the text between its quotes, with its escapes, and the rest. `None` if it does not end
/// (RFC 4475 §3.1.2.6).
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

/// The text of a quoted string without its escapes.
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
    /// Without quotes and escapes.
    pub(super) value: Option<Cow<'a, [u8]>>,
}

impl<'a> Parameter<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Takes the first parameter of `text`, and the rest.
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

/// The parameters of a header field, one after the other. An error is the last item.
pub(super) struct Parameters<'a> {
    rest: &'a [u8],
}

/// Something between two semicolons that is no parameter.
#[derive(Debug)]
pub(super) struct NotAParameter;

impl<'a> Parameters<'a> {
    /// `text` begins with the semicolon of the first parameter, or is empty.
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// Whether each of them can be read.
    pub(super) fn are_sound(mut self) -> bool {
        self.all(|parameter| parameter.is_ok())
    }

    /// The value of the first parameter with this name, if it has one.
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

/// The first value of a comma-separated list. Commas in quoted strings and angle brackets separate nothing. `None` if a
/// quoted string of the list does not end.
pub(super) fn first_value(list: &[u8]) -> Option<&[u8]> {
    if !list.iter().any(|byte| matches!(byte, b',' | b'"')) {
        return Some(trim(list));
    }
    let (mut rest, mut end, mut angle) = (list, None, false);
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'"' => rest = quoted(list.get(list.len() - after.len() - 1..)?)?.1,
            b'<' => angle = true,
            b'>' => angle = false,
            b',' if !angle && end.is_none() => end = Some(list.len() - after.len() - 1),
            _ => {}
        }
    }
    list.get(..end.unwrap_or(list.len())).map(trim)
}
