//! The text of a description and its lines.

use std::borrow::Cow;

use super::SdpError;

/// The longest accepted body, in octets.
const LONGEST: usize = 64 * 1024;
/// Converts a body to text. A body that is not ASCII is read as Latin-1. NULs at the end of the body, which some
/// devices send, are removed.
pub(super) fn text(body: &[u8]) -> Result<Cow<'_, str>, SdpError> {
    if body.len() > LONGEST {
        return Err(malformed("longer than 64 KiB", ""));
    }
    Ok(match std::str::from_utf8(body) {
        Ok(text) if text.is_ascii() && !body.contains(&0) => Cow::Borrowed(text),
        _ => body.iter().filter(|octet| **octet != 0).map(|octet| char::from(*octet)).collect(),
    })
}

/// Splits the text at CRs and LFs.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|octet| matches!(octet, b'\r' | b'\n'));
        rest = end.and_then(|end| text.get(end + 1..));
        text.get(..end.unwrap_or(text.len()))
    })
}

/// A group of lines. The group contains the lines before the first m-line, or the lines of one m-line.
#[derive(Clone, Copy)]
pub(super) struct Section<'a>(pub(super) &'a [&'a str]);

impl<'a> Section<'a> {
    /// Returns the text after `beginning` for each line that starts with `beginning`.
    pub(super) fn values(self, beginning: &'static str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |line| line.strip_prefix(beginning))
    }
}

pub(super) fn malformed(fault: &str, line: &str) -> SdpError {
    let separator = if line.is_empty() { "" } else { ": " };
    SdpError::Malformed(format!("{fault}{separator}{line}").chars().take(200).collect())
}
