//! Reads messages as they ordinarily are, by hand: the parser crate allocates for every part of every field, which costs
//! more than all that is done with the message.
//!
//! Whatever is not of the plainest form (folded lines, tabs, escapes, quoted parameters, several hops in one Via line, ...) is not
//! read here but by the crate, and so is everything that is wrong. What both can read they read alike: `fuzz_message`.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;

use super::head::{Field, Head};
use super::{Content, Host, MAX_MESSAGE, Message, Method, NameAddr, Request, Response, TopVia, Uri};
use crate::header;

/// Most header fields and longest line, octets.
const MAX_FIELDS: usize = 64;
const MAX_LINE: usize = 4_096;

/// A request or response that is plain and right, else `None`.
pub(super) fn read(data: &Bytes) -> Option<Message> {
    if data.len() > MAX_MESSAGE {
        return None;
    }
    let (start, head, end) = lines(data)?;
    let body = body(data, &head, end)?;
    let mut words = start.splitn(3, |&byte| byte == b' ');
    let (first, second, third) = (words.next()?, words.next()?, words.next()?);
    let (from, to) = (name_addr(data, single(&head, "From")?)?, name_addr(data, single(&head, "To")?)?);
    let call_id = Some(single(&head, "Call-ID")?).filter(|call_id| !call_id.is_empty())?;
    let call_id = data.slice_ref(call_id);
    let (cseq, method) = cut(single(&head, "CSeq")?, b' ')?;
    let cseq = number(cseq, i32::MAX.unsigned_abs())?;
    if method.is_empty() || !all(method, TOKEN) {
        return None;
    }
    let hop = hop(head.value("Via")?)?;
    if first == b"SIP/2.0" {
        let status = number(second, 699).filter(|&status| status >= 100 && second.len() == 3)?;
        return Some(Message::Response(Response {
            status: status as u16,
            reason: data.slice_ref(third),
            branch: data.slice_ref(hop.branch),
            via_count: head.list("Via").count(),
            from,
            to,
            call_id,
            cseq,
            method: Method::named(method),
            content: Content { head, body },
        }));
    }
    let max_forwards = match head.value("Max-Forwards") {
        Some(_) => Some(number(single(&head, "Max-Forwards")?, 255)? as u8),
        None => None,
    };
    if first != method || third != b"SIP/2.0" {
        return None;
    }
    let method = Method::named(method);
    if let (Method::Invite, Some(contact)) = (&method, head.value("Contact"))
        && address(contact).is_none()
        && !super::is_contact(contact)
    {
        return None;
    }
    uri(second)?;
    Some(Message::Request(Request {
        method,
        uri: Uri { text: data.slice_ref(second) },
        via: hop.top_via(data),
        from,
        to,
        call_id,
        cseq,
        max_forwards,
        content: Content { head, body },
    }))
}

/// The first line, the header fields, and where the body begins.
fn lines(data: &Bytes) -> Option<(&[u8], Head, usize)> {
    let mut fields = Vec::with_capacity(16);
    let mut start: Option<&[u8]> = None;
    let mut at = 0;
    loop {
        let rest = data.get(at..)?;
        let (line, end) = rest.split_at_checked(header::first_control(rest)?)?;
        if !end.starts_with(b"\r\n") || line.len() > MAX_LINE || fields.len() > MAX_FIELDS {
            return None;
        }
        match start {
            _ if line.is_empty() => break,
            None => start = Some(line),
            Some(_) => fields.push(field(data, at, line)?),
        }
        at += line.len() + 2;
    }
    Some((start?, Head::within(data.clone(), fields), at + 2))
}

/// The field of the line that begins at `at`.
fn field(data: &[u8], at: usize, line: &[u8]) -> Option<Field> {
    let (name, rest) = leading(line, TOKEN);
    let value = rest.strip_prefix(b":").filter(|_| !name.is_empty())?;
    let trimmed = value.trim_ascii_start();
    let start = at + line.len() - trimmed.len();
    let length = trimmed.trim_ascii_end().len();
    Some(Field::new(data, at as u32..(at + name.len()) as u32, start as u32..(start + length) as u32))
}

/// Its declared length of what follows the head; all of it if there is none (RFC 3261 §18.3).
fn body(data: &Bytes, head: &Head, start: usize) -> Option<Bytes> {
    let rest = data.len().checked_sub(start)?;
    let length = match head.value("Content-Length") {
        Some(_) => number(single(head, "Content-Length")?, MAX_MESSAGE as u32)? as usize,
        None => rest,
    };
    (length <= rest).then(|| data.slice(start..start + length))
}

/// The value of a field that is there once.
fn single<'a>(head: &'a Head, name: &str) -> Option<&'a [u8]> {
    let mut values = head.values(name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// A number up to `most`, without zeros before it.
fn number(digits: &[u8], most: u32) -> Option<u32> {
    let is_odd = digits.is_empty() || digits.len() > 10 || digits.len() > 1 && digits.starts_with(b"0");
    if is_odd || !all(digits, DIGIT) {
        return None;
    }
    let number = digits.iter().fold(0, |number: u64, &digit| number * 10 + u64::from(digit - b'0'));
    u32::try_from(number).ok().filter(|&number| number <= most)
}

/// What is read of a name-addr: `"Display" <uri>;tag=x`.
struct Address<'a> {
    display: &'a [u8],
    uri: &'a [u8],
    tag: Option<&'a [u8]>,
}

fn address(value: &[u8]) -> Option<Address<'_>> {
    let (display, rest) = match value.strip_prefix(b"\"") {
        Some(quoted) => {
            let (display, rest) = cut(quoted, b'"').filter(|(display, _)| !display.contains(&b'\\'))?;
            (display, rest.trim_ascii_start().strip_prefix(b"<")?)
        }
        None => {
            let (display, rest) = cut(value, b'<')?;
            let display = display.trim_ascii();
            if !display.iter().all(|&byte| is(byte, TOKEN) || matches!(byte, b' ' | b'\t')) {
                return None;
            }
            (display, rest)
        }
    };
    let (inner, parameters) = cut(rest, b'>')?;
    uri(inner)?;
    Some(Address { display, uri: inner, tag: value_of(parameters, "tag")? })
}

/// The URI of a name-addr.
pub(super) fn uri_of_address(value: &[u8]) -> Option<&[u8]> {
    address(value).map(|address| address.uri)
}

fn name_addr(data: &Bytes, value: &[u8]) -> Option<NameAddr> {
    let address = address(value)?;
    Some(NameAddr {
        text: data.slice_ref(value),
        display: data.slice_ref(address.display),
        uri: Uri { text: data.slice_ref(address.uri) },
        tag: address.tag.map(|tag| data.slice_ref(tag)),
    })
}

/// What is read of a Via line of one hop.
struct Hop<'a> {
    sent_by: &'a [u8],
    host: &'a [u8],
    port: Option<u16>,
    /// Empty if there is none.
    branch: &'a [u8],
    rport: bool,
    alias: bool,
}

fn hop(value: &[u8]) -> Option<Hop<'_>> {
    let (transport, rest) = leading(value.strip_prefix(b"SIP/2.0/")?, TOKEN);
    let rest = rest.strip_prefix(b" ").filter(|_| !transport.is_empty())?;
    let (host, port, mut parameters) = host_and_port(rest)?;
    let (sent_by, _) = rest.split_at_checked(rest.len() - parameters.len())?;
    let (mut branch, mut rport, mut alias) = (None, false, false);
    while !parameters.is_empty() {
        let (name, value) = next_parameter(&mut parameters)?;
        if name.eq_ignore_ascii_case(b"branch") {
            if branch.replace(value?).is_some() {
                return None;
            }
        } else {
            rport |= name.eq_ignore_ascii_case(b"rport");
            alias |= name.eq_ignore_ascii_case(b"alias");
        }
    }
    Some(Hop { sent_by, host, port, branch: branch.unwrap_or_default(), rport, alias })
}

impl Hop<'_> {
    fn top_via(&self, data: &Bytes) -> TopVia {
        let is_lower = !self.sent_by.iter().any(u8::is_ascii_uppercase);
        let lower = || Bytes::from(self.sent_by.to_ascii_lowercase());
        TopVia {
            branch: TopVia::is_magic(self.branch).then(|| data.slice_ref(self.branch)),
            sent_by: if is_lower { data.slice_ref(self.sent_by) } else { lower() },
            rport: self.rport,
            alias: self.alias.then(|| self.port.unwrap_or(5061)),
            ip: ip(self.host),
            port: self.port,
        }
    }
}

/// The parts of a SIP URI, none of them with escapes.
pub(super) struct Parts<'a> {
    pub(super) secure: bool,
    /// Empty if there is none.
    pub(super) user: &'a [u8],
    pub(super) host_text: &'a [u8],
    pub(super) port: Option<u16>,
    /// Each with its `;`.
    parameters: &'a [u8],
}

impl Parts<'_> {
    pub(super) fn host(&self) -> Host {
        ip(self.host_text).map_or_else(|| Host::Name(super::lossy(self.host_text)), Host::Ip)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&[u8]> {
        value_of(self.parameters, name)?
    }
}

pub(super) fn uri(text: &[u8]) -> Option<Parts<'_>> {
    let (secure, rest) = match text.strip_prefix(b"sip:") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix(b"sips:")?),
    };
    let (user, rest) = match leading(rest, USER) {
        (user, after) if after.starts_with(b"@") && !user.is_empty() => (user, after.get(1..)?),
        _ => (&[][..], rest),
    };
    let (host_text, port, parameters) = host_and_port(rest)?;
    let mut rest = parameters;
    while !rest.is_empty() {
        let (name, _) = next_parameter(&mut rest)?;
        // No name comes twice (RFC 3261 §19.1.1).
        let mut others = rest;
        while let Some((other, _)) = next_parameter(&mut others) {
            if name.eq_ignore_ascii_case(other) {
                return None;
            }
        }
    }
    Some(Parts { secure, user, host_text, port, parameters })
}

/// The host and port at the beginning, and the rest: nothing, or what begins with `;`.
fn host_and_port(text: &[u8]) -> Option<(&[u8], Option<u16>, &[u8])> {
    let (host, rest) = leading(text, HOST);
    let (port, rest) = match rest.strip_prefix(b":") {
        Some(rest) => {
            let (port, rest) = leading(rest, DIGIT);
            (Some(number(port, u16::MAX.into())? as u16), rest)
        }
        None => (None, rest),
    };
    (!host.is_empty() && (rest.is_empty() || rest.starts_with(b";"))).then_some((host, port, rest))
}

fn ip(host: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(host).ok()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// The value of the parameter among `;name=value;name...`, if it is there. `None` if the parameters are not plain, or that one
/// has no value.
#[expect(clippy::option_option, reason = "that there is none is not that it could not be read")]
fn value_of<'a>(mut parameters: &'a [u8], wanted: &str) -> Option<Option<&'a [u8]>> {
    let mut found = None;
    while !parameters.is_empty() {
        let (name, value) = next_parameter(&mut parameters)?;
        if name.eq_ignore_ascii_case(wanted.as_bytes()) && found.replace(value?).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Takes the first of `;name=value;name...`.
fn next_parameter<'a>(parameters: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let (name, rest) = leading(parameters.strip_prefix(b";")?, TOKEN);
    let (value, rest) = match rest.strip_prefix(b"=") {
        Some(rest) => {
            let (value, rest) = leading(rest, VALUE);
            (Some(value), rest)
        }
        None => (None, rest),
    };
    *parameters = rest;
    (!name.is_empty() && value.is_none_or(|value| !value.is_empty())).then_some((name, value))
}

/// What is before and after the first such byte.
fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(text.iter().position(|&byte| byte == at)?)?;
    Some((before, after.get(1..)?))
}

/// The characters of that kind at the beginning, and the rest.
fn leading(text: &[u8], kind: u8) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| !is(byte, kind)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or_default()
}

/// Kinds of characters, a bit each.
const TOKEN: u8 = 1;
const HOST: u8 = 2;
const USER: u8 = 4;
const VALUE: u8 = 8;
const DIGIT: u8 = 16;

#[expect(clippy::indexing_slicing, reason = "the compiler does it, and would say so")]
static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        let is_name = c.is_ascii_alphanumeric();
        if is_name || matches!(c, b'-' | b'.' | b'!' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~') {
            kinds[byte] |= TOKEN | VALUE;
        }
        if is_name || matches!(c, b'-' | b'.' | b'_') {
            kinds[byte] |= HOST;
        }
        if is_name || matches!(c, b'-' | b'.' | b'_' | b'+' | b'*' | b'~' | b'!' | b'\'') {
            kinds[byte] |= USER;
        }
        if matches!(c, b'[' | b']' | b':' | b'/') {
            kinds[byte] |= VALUE;
        }
        if c.is_ascii_digit() {
            kinds[byte] |= DIGIT;
        }
        byte += 1;
    }
    kinds
};

fn is(byte: u8, kind: u8) -> bool {
    KINDS.get(usize::from(byte)).is_some_and(|kinds| kinds & kind != 0)
}

fn all(text: &[u8], kind: u8) -> bool {
    text.iter().all(|&byte| is(byte, kind))
}
