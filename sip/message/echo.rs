//! What every response to a request repeats of it, even where nothing else of the request can be read.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use sipx_sip::headers::first_hop_end;
use sipx_sip::{Address, HeaderName, Headers, Via};

use super::Request;
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
        let mut fields = EchoFields::default();
        for header in self.content.headers.iter() {
            fields.take(header.name(), &header.value());
        }
        fields.write(source, Some((self.via.ip, self.via.port, self.via.rport)), self.to.tag.is_some())
    }
}

pub(super) fn echo_of_headers(headers: &Headers, source: SocketAddr) -> Option<Echo> {
    let mut fields = EchoFields::default();
    for header in headers.iter() {
        fields.take(header.name(), &header.value());
    }
    fields.finish(source)
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
    let mut fields = EchoFields::default();
    let mut pending: Option<(HeaderName, Vec<u8>)> = None;
    for line in lines.take(256) {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            if let Some((_, value)) = &mut pending {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        if let Some((name, value)) = pending.take() {
            fields.take(&name, &value);
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, rest) = line.split_at(colon);
        let name = HeaderName::parse(&Bytes::copy_from_slice(name.trim_ascii()));
        pending = Some((name, rest.get(1..).unwrap_or_default().trim_ascii().to_vec()));
    }
    if let Some((name, value)) = pending {
        fields.take(&name, &value);
    }
    fields.finish(source)
}

#[derive(Default)]
struct EchoFields {
    vias: Vec<Vec<u8>>,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    call_id: Option<Vec<u8>>,
    cseq: Option<Vec<u8>>,
}

impl EchoFields {
    fn take(&mut self, name: &HeaderName, value: &[u8]) {
        // A CR or LF that survived unfolding must not start a line of ours.
        let clean = |value: &[u8]| value.iter().map(|&byte| if byte < b' ' { b' ' } else { byte }).collect::<Vec<u8>>();
        match name {
            HeaderName::Via => self.vias.push(clean(value)),
            HeaderName::From if self.from.is_none() => self.from = Some(clean(value)),
            HeaderName::To if self.to.is_none() => self.to = Some(clean(value)),
            HeaderName::CallId if self.call_id.is_none() => self.call_id = Some(clean(value)),
            HeaderName::CSeq if self.cseq.is_none() => self.cseq = Some(clean(value)),
            _ => {}
        }
    }

    /// Of a request that is not one: what it says has yet to be read.
    fn finish(self, source: SocketAddr) -> Option<Echo> {
        let first = self.vias.first()?;
        // A Via nobody can read is repeated as it is; the source is all there is to go by.
        let via = Via::parse_one(first.get(..first_hop_end(first)).unwrap_or(first).trim_ascii()).ok();
        let via = via.map(|via| (ip_of(&via), via.port, via.rport().is_some()));
        let to = self.to.as_deref().unwrap_or_default();
        let tagged = Address::parse(to, "To").is_ok_and(|address| address.tag().is_some_and(|tag| !tag.is_empty()));
        self.write(source, via, tagged)
    }

    /// `via`: address, port and whether `rport` is there, of the topmost.
    fn write(self, source: SocketAddr, via: Option<(Option<IpAddr>, Option<u16>, bool)>, tagged: bool) -> Option<Echo> {
        let mut vias = self.vias.iter();
        let first = vias.next()?;
        let end = first_hop_end(first);
        let (top, others) = first.split_at(end.min(first.len()));
        let rport = via.is_some_and(|(_, _, rport)| rport);
        let same_host =
            via.is_none_or(|(ip, _, _)| ip.is_some_and(|ip| ip.to_canonical() == source.ip().to_canonical()));
        let mut lines = Vec::with_capacity(512);
        lines.extend_from_slice(b"Via: ");
        if rport || !same_host {
            header::push_received(&mut lines, top.trim_ascii(), source, rport);
        } else {
            lines.extend_from_slice(top.trim_ascii());
        }
        lines.extend_from_slice(others);
        lines.extend_from_slice(b"\r\n");
        for via in vias {
            push_line(&mut lines, b"Via: ", via);
        }
        if let Some(from) = &self.from {
            push_line(&mut lines, b"From: ", from);
        }
        if let Some(call_id) = &self.call_id {
            push_line(&mut lines, b"Call-ID: ", call_id);
        }
        if let Some(cseq) = &self.cseq {
            push_line(&mut lines, b"CSeq: ", cseq);
        }
        let to = self.to.map(Bytes::from).unwrap_or_default();
        let reconnect = match via {
            Some((_, port, _)) => SocketAddr::new(source.ip(), port.unwrap_or(5060)),
            None => source,
        };
        let destination = if rport { source } else { reconnect };
        Some(Echo { lines, to, tagged, destination, reconnect })
    }
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
