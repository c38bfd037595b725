//! Divides a message into its start line, header fields and body (RFC 3261 §7).

use std::borrow::Cow;

use bytes::Bytes;

use super::grammar::{TOKEN, cut, leading, long_number, skip_space, trim};
use super::head::{Field, Head};
use super::{Content, Fault, MAX_MESSAGE};
use crate::header;

/// Maximum number of header fields of a message.
const MAX_FIELDS: usize = 256;
/// Maximum length, in octets, of a start line or a header field after unfolding.
const MAX_LINE: usize = 8 * 1024;
/// Maximum number of continuation lines of a header field.
const MAX_FOLDS: usize = 16;

/// Divides a message into the start line and the rest. The message is a datagram or a framed message of a stream.
pub(super) fn divide(data: &Bytes) -> Result<(Bytes, Content), Fault> {
    if data.len() > MAX_MESSAGE {
        return Err(Fault::TooLarge);
    }
    let lines = match split(data)? {
        Some(lines) => lines,
        None => {
            let (unfolded, body) = unfold(data)?;
            let lines = split(&Bytes::from(unfolded))?.ok_or(Fault::NoEndOfHead)?;
            Lines { body, ..lines }
        }
    };
    let body = body(data, &lines)?;
    Ok((lines.start, Content { head: lines.head, body }))
}

struct Lines {
    start: Bytes,
    head: Head,
    /// The position of the first octet of the body.
    body: usize,
}

/// Returns the lines of a head that has no folded lines. Returns `None` if a line is folded.
fn split(data: &Bytes) -> Result<Option<Lines>, Fault> {
    let mut fields = Vec::with_capacity(16);
    let mut start = None;
    let mut at = 0;
    loop {
        let rest = data.get(at..).unwrap_or_default();
        let length = line_length(rest)?;
        let (line, after) = rest.split_at_checked(length).unwrap_or_default();
        let next = at + length + 2;
        match (&start, line) {
            (None, b"") => return Err(Fault::NoStartLine),
            (Some(_), b"") => break,
            _ if matches!(after.get(2), Some(b' ' | b'\t')) => return Ok(None),
            (None, line) if line.len() > MAX_LINE => return Err(Fault::StartLineTooLong),
            (None, line) => start = Some(data.slice_ref(line)),
            (Some(_), line) if line.len() > MAX_LINE => return Err(Fault::FieldTooLong),
            (Some(_), _) if fields.len() == MAX_FIELDS => return Err(Fault::TooManyFields),
            (Some(_), line) => fields.push(field(data, at, line)?),
        }
        at = next;
    }
    let start = start.ok_or(Fault::NoStartLine)?;
    Ok(Some(Lines { start, head: Head::within(data.clone(), fields), body: at + 2 }))
}

/// Counts the octets of the first line, without the CRLF at its end.
fn line_length(text: &[u8]) -> Result<usize, Fault> {
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        at += header::first_control(rest).ok_or(Fault::NoEndOfHead)?;
        match text.get(at..) {
            Some([b'\r', b'\n', ..]) => return Ok(at),
            Some([b'\r' | b'\n', ..]) => return Err(Fault::BareLineBreak),
            _ => at += 1,
        }
    }
}

/// Unfolds a head: joins each continuation line to the line before it, with one space between the two lines (RFC 3261
/// §7.3.1). Also returns the position of the body in `data`.
fn unfold(data: &[u8]) -> Result<(Vec<u8>, usize), Fault> {
    let end = data.windows(4).position(|four| four == b"\r\n\r\n").ok_or(Fault::NoEndOfHead)? + 4;
    let mut rest = data.get(..end).unwrap_or_default();
    let mut head = Vec::with_capacity(end);
    let (mut lines, mut folds) = (0, 0);
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(line_length(rest)?).unwrap_or_default();
        head.extend_from_slice(line);
        let after = after.get(2..).unwrap_or_default();
        rest = skip_space(after);
        if rest.len() == after.len() {
            head.extend_from_slice(b"\r\n");
            (lines, folds) = (lines + 1, 0);
        } else if lines == 0 {
            return Err(Fault::FoldedStartLine);
        } else if folds == MAX_FOLDS {
            return Err(Fault::TooManyFolds);
        } else {
            head.push(b' ');
            folds += 1;
        }
    }
    Ok((head, end))
}

/// Reads the field in the line that begins at `at`. Spaces before the colon are allowed.
fn field(data: &[u8], at: usize, line: &[u8]) -> Result<Field, Fault> {
    let (name, rest) = leading(line, TOKEN);
    let value = skip_space(rest).strip_prefix(b":").filter(|_| !name.is_empty()).ok_or(Fault::FieldName)?;
    let value = skip_space(value);
    let value_at = at + line.len() - value.len();
    let value = trim(value);
    let range = |start: usize, part: &[u8]| start as u32..(start + part.len()) as u32;
    Ok(Field::new(data, range(at, name), range(value_at, value)))
}

/// Returns the body: the number of octets that Content-Length declares, or all octets if there is no Content-Length
/// (RFC 3261 §18.3).
fn body(data: &Bytes, lines: &Lines) -> Result<Bytes, Fault> {
    let rest = data.slice(lines.body.min(data.len())..);
    let Some(length) = lines.head.optional("Content-Length")? else { return Ok(rest) };
    let length = long_number(length).ok_or(Fault::Malformed("Content-Length"))?;
    let length = usize::try_from(length).ok().filter(|&length| length <= MAX_MESSAGE).ok_or(Fault::TooLarge)?;
    if length > rest.len() { Err(Fault::BodyTooShort) } else { Ok(rest.slice(..length)) }
}

/// Returns the header fields that can be found in a malformed message. The response to a refused request needs these
/// fields. In this function a line may also end with LF alone.
pub(super) fn salvage(lines: &[u8]) -> Head {
    let mut fields: Vec<(&[u8], Vec<u8>)> = Vec::new();
    // A line without a colon is not a field, and its continuation lines are ignored too.
    let mut is_field = false;
    for line in lines.split(|&byte| byte == b'\n').take(MAX_FIELDS) {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if let Some((_, value)) = fields.last_mut().filter(|_| is_field) {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let parts = cut(line, b':');
        is_field = parts.is_some();
        fields.extend(parts.map(|(name, value)| (name.trim_ascii(), value.trim_ascii().to_vec())));
    }
    Head::of(fields.into_iter().map(|(name, value)| (Cow::Borrowed(name), Cow::Owned(value))))
}
