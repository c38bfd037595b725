//! Addresses in header fields: From, To, Contact, Route, Record-Route, Refer-To (RFC 3261 §20.10).

use std::borrow::Cow;

use bytes::Bytes;

use super::grammar::{Parameters, TOKEN, all, cut, quoted, skip_space, trim, unescape};
use super::uri::{Parts, Uri};
use super::within;

/// The address in From or To. The parts refer to the datagram and keep the datagram in memory. So copy a part that is
/// stored for a long time.
#[derive(Debug)]
pub(crate) struct NameAddr {
    /// The unfolded value as received.
    pub(crate) text: Bytes,
    /// The display name without quotes and escapes. The value is empty if there is no display name.
    pub(crate) display: Bytes,
    pub(crate) uri: Uri,
    pub(crate) tag: Option<Bytes>,
}

/// A `name-addr` or `addr-spec` with the parameters of its header field.
pub(super) struct Address<'a> {
    /// The display name without quotes and escapes. The value is empty if there is no display name.
    pub(super) display: Cow<'a, [u8]>,
    /// The URI, which is already checked.
    pub(super) uri: &'a [u8],
    /// The parameters of the header field: the text after the URI.
    pub(super) parameters: &'a [u8],
}

impl<'a> Address<'a> {
    /// Reads one address. The address must be the whole value.
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let value = trim(value);
        let (display, rest) = if value.starts_with(b"\"") {
            let (display, rest) = quoted(value)?;
            (unescape(display), skip_space(rest))
        } else {
            match angle(value) {
                Some((display, rest)) => (Cow::Borrowed(words(display)?), rest),
                None => (Cow::Borrowed(&[][..]), value),
            }
        };
        let (uri, parameters) = match rest.strip_prefix(b"<") {
            Some(rest) => cut(rest, b'>')?,
            None if value.starts_with(b"\"") => return None,
            None => bare(rest)?,
        };
        Parts::read(uri).ok()?;
        Parameters::of(parameters).are_sound().then_some(Self { display, uri, parameters })
    }

    /// Returns the value of a parameter outside the angle brackets, without quotes and escapes.
    pub(super) fn parameter(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        Parameters::of(self.parameters).value(name)
    }
}

/// Splits the value before the first `<` that is outside quotes.
fn angle(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        let rest = value.get(at..)?;
        let next = rest.iter().position(|byte| matches!(byte, b'<' | b'"'))?;
        let rest = rest.get(next..)?;
        if rest.starts_with(b"<") {
            return Some((value.get(..at + next)?, rest));
        }
        at = value.len() - quoted(rest)?.1.len();
    }
}

/// Reads a display name without quotes: tokens with spaces between them (RFC 4475 §3.1.2.15).
fn words(display: &[u8]) -> Option<&[u8]> {
    let display = trim(display);
    display.split(|byte| matches!(byte, b' ' | b'\t')).all(|word| all(word, TOKEN)).then_some(display)
}

/// Splits a URI without angle brackets from the parameters after the URI. These parameters belong to the header field.
/// A URI with a question mark needs angle brackets (RFC 3261 §20).
fn bare(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    let (uri, parameters) = value.split_at_checked(end)?;
    (!uri.contains(&b'?')).then_some((trim(uri), parameters))
}

impl NameAddr {
    /// Returns the tag in a value of From or To.
    pub(crate) fn tag_of(value: &[u8]) -> Option<Bytes> {
        let tag = Address::read(value)?.parameter("tag")?;
        Some(Bytes::copy_from_slice(&tag)).filter(|tag| !tag.is_empty())
    }

    /// Reads the address in `value`, which is a part of `text`.
    pub(super) fn read(text: &Bytes, value: &[u8]) -> Option<Self> {
        let address = Address::read(value)?;
        let tag = address.parameter("tag").filter(|tag| !tag.is_empty());
        Some(Self {
            tag: tag.map(|tag| within(text, tag)),
            display: within(text, address.display),
            uri: Uri::within(text, address.uri),
            text: text.slice_ref(value),
        })
    }
}
