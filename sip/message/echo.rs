//! What every response to a request repeats of it, even where nothing else of the request can be read.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use sipx_sip::headers::first_hop_end;
use sipx_sip::{Address, Via};

use super::Request;
use super::head::Head;
use super::via::ip_of;
use crate::header;

/// The lines of a request that every response to it repeats (RFC 3261 §8.2.6.2), written once.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    /// Via (with `received` and `rport` filled in), From, Call-ID and CSeq lines.
    pub(crate) lines: Vec<u8>,
    /// To value without CRLF.
    pub(crate) to: Bytes,
    /// Whether `to` has a tag already.
    pub(crate) tagged: bool,
    /// Where the response goes over an unreliable transport (RFC 3261 §18.2.2, RFC 3581 §4).
    pub(crate) destination: SocketAddr,
    /// Where it goes should the stream that brought the request be gone.
    pub(crate) reconnect: SocketAddr,
}

impl Request {
    /// The lines for responses to it.
    pub(crate) fn echo(&self, source: SocketAddr) -> Option<Echo> {
        let via = (self.via.ip, self.via.port, self.via.rport);
        write(&self.content.head, source, Some(via), self.to.tag.is_some())
    }
}

/// Of a request that is not one: what it says has yet to be read.
pub(super) fn echo_of_head(head: &Head, source: SocketAddr) -> Option<Echo> {
    let first = &cleaned(head.value("Via")?)[..];
    // A Via nobody can read is repeated as it is; the source is all there is to go by.
    let via = Via::parse_one(first.get(..first_hop_end(first)).unwrap_or(first).trim_ascii()).ok();
    let via = via.map(|via| (ip_of(&via), via.port, via.rport().is_some()));
    let to = cleaned(head.value("To").unwrap_or_default());
    let tagged = Address::parse(&to, "To").is_ok_and(|address| address.tag().is_some_and(|tag| !tag.is_empty()));
    write(head, source, via, tagged)
}

/// The same for bytes that do not parse: the lines are found by eye, as it were.
pub(super) fn echo_of_raw(data: &[u8], source: SocketAddr) -> Option<Echo> {
    let head_end = data.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(data.len());
    let head = data.get(..head_end)?;
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.next()?;
    let is_response = start.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/"));
    if is_response || start.starts_with(b"ACK ") {
        return None;
    }
    let mut fields: Vec<(&[u8], Vec<u8>)> = Vec::new();
    // Nothing continues a line that was none.
    let mut continues = false;
    for line in lines.take(256) {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            if let Some((_, value)) = fields.last_mut().filter(|_| continues) {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':');
        continues = colon.is_some();
        let Some((name, rest)) = colon.map(|colon| line.split_at(colon)) else { continue };
        fields.push((name.trim_ascii(), rest.get(1..).unwrap_or_default().trim_ascii().to_vec()));
    }
    let head = Head::of(fields.into_iter().map(|(name, value)| (Cow::Borrowed(name), Cow::Owned(value))));
    echo_of_head(&head, source)
}

/// `via`: address, port and whether `rport` is there, of the topmost.
fn write(
    head: &Head,
    source: SocketAddr,
    via: Option<(Option<IpAddr>, Option<u16>, bool)>,
    tagged: bool,
) -> Option<Echo> {
    let mut vias = head.values("Via");
    let first = vias.next()?;
    let (top, others) = first.split_at(first_hop_end(first).min(first.len()));
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

/// A CR or LF that survived unfolding must not start a line of ours.
fn clean(byte: u8) -> u8 {
    byte.max(b' ')
}
