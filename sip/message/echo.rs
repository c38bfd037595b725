//! The header lines that a response repeats from its request. The response needs these lines even if the rest of the
//! request is malformed.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::address::Address;
use super::head::Head;
use super::via::Hop;
use super::{Request, lines};
use crate::header;

/// The header lines that every response repeats from its request (RFC 3261 §8.2.6.2). The lines are composed only once.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    /// The lines Via, From, Call-ID and CSeq. In the Via line, `received` and `rport` are filled in.
    pub(crate) lines: Vec<u8>,
    /// The value of To, without CRLF.
    pub(crate) to: Bytes,
    /// Whether `to` already has a tag.
    pub(crate) tagged: bool,
    /// Destination of the response if the transport is unreliable (RFC 3261 §18.2.2, RFC 3581 §4).
    pub(crate) destination: SocketAddr,
    /// Destination of the response if the stream of the request is closed.
    pub(crate) reconnect: SocketAddr,
}

impl Request {
    /// Returns the header lines that every response to this request repeats.
    pub(crate) fn echo(&self, source: SocketAddr) -> Option<Echo> {
        let via = (self.via.ip, self.via.port, self.via.rport);
        write(&self.content.head, source, Some(via), self.to.tag.is_some())
    }
}

/// Returns the header lines that the response to a refused request repeats. Returns `None` for a response and for an
/// ACK, because neither gets a response. Also returns `None` if no Via is found.
pub(super) fn of_refused(data: &[u8], source: SocketAddr) -> Option<Echo> {
    let end = data.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(data.len());
    let head = data.get(..end)?;
    let is_response = head.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"));
    if is_response || head.starts_with(b"ACK ") {
        return None;
    }
    let (_, fields) = head.split_at_checked(head.iter().position(|&byte| byte == b'\n')? + 1)?;
    let head = lines::salvage(fields);
    // The response repeats a malformed Via unchanged, and goes to the source of the request.
    let via = cleaned(head.value("Via")?);
    let via = Hop::first(&via).map(|hop| (hop.ip(), hop.port, hop.rport));
    let to = cleaned(head.value("To").unwrap_or_default());
    let tag = Address::read(&to).and_then(|address| address.parameter("tag").map(|tag| !tag.is_empty()));
    write(&head, source, via, tag.unwrap_or(false))
}

/// Composes the header lines. `via` has the address, the port and the presence of `rport` in the topmost Via. `via` is
/// `None` if the topmost Via is malformed.
fn write(
    head: &Head,
    source: SocketAddr,
    via: Option<(Option<IpAddr>, Option<u16>, bool)>,
    tagged: bool,
) -> Option<Echo> {
    let mut vias = head.values("Via");
    let first = vias.next()?;
    let (top, others) = first.split_at_checked(header::first_value_end(first))?;
    let rport = via.is_some_and(|(_, _, rport)| rport);
    let same_host = via.is_none_or(|(ip, _, _)| ip.is_some_and(|ip| ip.to_canonical() == source.ip().to_canonical()));
    let mut lines = Vec::with_capacity(512);
    lines.extend_from_slice(b"Via: ");
    if rport || !same_host {
        header::push_received(&mut lines, top.trim_ascii(), source, rport);
    } else {
        lines.extend_from_slice(top.trim_ascii());
    }
    lines.extend_from_slice(others);
    lines.iter_mut().for_each(|byte| *byte = clean(*byte));
    lines.extend_from_slice(b"\r\n");
    for via in vias {
        push_line(&mut lines, b"Via: ", via);
    }
    for (field, name) in [("From", b"From: ".as_slice()), ("Call-ID", b"Call-ID: "), ("CSeq", b"CSeq: ")] {
        if let Some(value) = head.value(field) {
            push_line(&mut lines, name, value);
        }
    }
    let to = cleaned(head.value("To").unwrap_or_default());
    let reconnect = match via {
        Some((_, port, _)) => SocketAddr::new(source.ip(), port.unwrap_or(5060)),
        None => source,
    };
    let destination = if rport { source } else { reconnect };
    Some(Echo { lines, to: Bytes::from(to), tagged, destination, reconnect })
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend(value.iter().map(|&byte| clean(byte)));
    out.extend_from_slice(b"\r\n");
}

fn cleaned(value: &[u8]) -> Vec<u8> {
    value.iter().map(|&byte| clean(byte)).collect()
}

/// Replaces a control character by a space. Otherwise a CR or LF in a value could begin a new line of the response.
fn clean(byte: u8) -> u8 {
    byte.max(b' ')
}
