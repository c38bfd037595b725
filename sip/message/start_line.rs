//! The first line of a message (RFC 3261 §7.1, §7.2).

use super::Fault;
use super::grammar::{DIGIT, TOKEN, all, cut, number};

/// The first line of a message.
pub(super) enum StartLine<'a> {
    Request(RequestLine<'a>),
    Status(StatusLine<'a>),
}

/// A request line, for example `INVITE sip:bob@example.com SIP/2.0`.
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) uri: &'a [u8],
    pub(super) version: &'a [u8],
}

/// A status line, for example `SIP/2.0 200 OK`.
pub(super) struct StatusLine<'a> {
    pub(super) version: &'a [u8],
    pub(super) status: u16,
    pub(super) reason: &'a [u8],
}

impl<'a> StartLine<'a> {
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Fault> {
        // A method cannot begin with these characters, because a token has no slash.
        if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
            StatusLine::read(line).map(Self::Status)
        } else {
            RequestLine::read(line).map(Self::Request)
        }
    }
}

impl<'a> RequestLine<'a> {
    fn read(line: &'a [u8]) -> Result<Self, Fault> {
        let (method, rest) = cut(line, b' ').ok_or(Fault::RequestLine)?;
        let (uri, version) = cut(rest, b' ').ok_or(Fault::RequestLine)?;
        if method.is_empty() || uri.is_empty() || version.is_empty() || version.contains(&b' ') {
            return Err(Fault::RequestLine);
        }
        if all(method, TOKEN) { Ok(Self { method, uri, version }) } else { Err(Fault::Method) }
    }
}

impl<'a> StatusLine<'a> {
    /// Reads a status line. The reason phrase may be empty (RFC 4475 §3.1.1.13). In this case the space before the
    /// reason phrase may be missing too.
    fn read(line: &'a [u8]) -> Result<Self, Fault> {
        let (version, rest) = cut(line, b' ').ok_or(Fault::StatusCode)?;
        let (code, reason) = cut(rest, b' ').unwrap_or((rest, b""));
        let status = Some(code).filter(|code| code.len() == 3 && all(code, DIGIT)).and_then(|code| number(code, 699));
        let status = status.filter(|&status| status >= 100).ok_or(Fault::StatusCode)?;
        Ok(Self { version, status: status as u16, reason })
    }
}

/// Returns whether a version is SIP/2.0. Case is ignored (RFC 3261 §7.1).
pub(super) fn is_sip_2(version: &[u8]) -> bool {
    version.eq_ignore_ascii_case(b"SIP/2.0")
}
