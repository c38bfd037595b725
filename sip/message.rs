//! SIP messages: the part of the grammar of RFC 3261 §25 that a user agent and a registrar need.
//!
//! This list of modules goes from the whole message to its parts. `lines` divides the bytes. `start_line` and `head`
//! read the start line and the header fields. `address`, `via`, `uri` and `host` read values. `grammar` has the
//! elements that all values consist of. The parser does not copy values out of the datagram. To read an ordinary
//! message, it allocates only one list of header fields.
//!
//! A [`Request`] has passed every check that needs no state (RFC 3261 §8.1.1, §8.2), so its fields can be used without
//! a further check. Any other request becomes [`Malformed`]. The server can still answer a malformed request if its
//! bytes contain the Via, From, To, Call-ID and CSeq lines.

mod address;
mod contact;
mod content;
mod echo;
mod fault;
mod forward;
mod grammar;
mod head;
mod host;
mod lines;
mod method;
mod multipart;
mod name;
#[cfg(any(test, fuzzing))]
mod oracle;
mod party;
mod start_line;
mod uri;
mod via;

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::Bytes;

pub(crate) use self::address::NameAddr;
pub(crate) use self::contact::{Contact, Contacts};
pub(crate) use self::content::Content;
pub(crate) use self::echo::Echo;
use self::fault::Fault;
pub(crate) use self::forward::{Forwarding, PreviousHop};
use self::grammar::{TOKEN, all, cut_at_space, number, trim};
use self::head::Head;
pub(crate) use self::host::Host;
pub(crate) use self::method::Method;
pub use self::party::{Party, header_values};
use self::start_line::{RequestLine, StartLine, StatusLine, is_sip_2};
use self::uri::Parts;
pub(crate) use self::uri::{Destination, Uri};
use self::via::Hop;
pub(crate) use self::via::TopVia;

/// Maximum length, in octets, of a message from a stream (headers and body together). A datagram cannot be longer than
/// this.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// A request or a response.
#[derive(Debug)]
pub(crate) enum Message {
    Request(Request),
    Response(Response),
}

/// A request that has passed all stateless checks.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) via: TopVia,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) call_id: Bytes,
    pub(crate) cseq: u32,
    pub(crate) max_forwards: Option<u8>,
    pub(crate) content: Content,
}

/// A response with the fields that a client transaction needs.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) reason: Bytes,
    pub(crate) branch: Bytes,
    pub(crate) via_count: usize,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) call_id: Bytes,
    pub(crate) cseq: u32,
    pub(crate) method: Method,
    pub(crate) content: Content,
}

/// A message that cannot be accepted, with the data for the response.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// Status of the response, for example 400, 413, 416 or 505.
    pub(crate) status: u16,
    /// The error in words, used as the reason phrase.
    pub(crate) reason: String,
    /// The header lines for the response. `None` if the message is dropped without a response. This is so for
    /// responses, for ACKs, and for requests whose Via cannot be used.
    pub(crate) echo: Option<Echo>,
}

/// Parses one framed message from `source` and does all checks that need no state.
///
/// # Errors
/// Returns [`Malformed`] with the data for the response.
pub(crate) fn parse(data: &Bytes, source: SocketAddr) -> Result<Message, Box<Malformed>> {
    read(data).map_err(|fault| {
        let echo = echo::of_refused(data, source);
        Box::new(Malformed { status: fault.status(), reason: fault.to_string(), echo })
    })
}

fn read(data: &Bytes) -> Result<Message, Fault> {
    let (start, content) = lines::divide(data)?;
    match StartLine::read(&start)? {
        StartLine::Request(line) => Request::read(&start, &line, content).map(Message::Request),
        StartLine::Status(line) => Response::read(&start, &line, content).map(Message::Response),
    }
}

/// Parses arbitrary bytes as a message, then reads every value that the server reads from a message. This function is
/// the fuzz target for SIP.
///
/// # Panics
/// Panics only in tests and in the fuzzer, where another parser crate reads the same message. The function panics if
/// the other parser reads a different value, or refuses a message that this parser accepts.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz_message(data: &[u8]) {
    let source = SocketAddr::from(([192, 0, 2, 1], 5060));
    let data = Bytes::copy_from_slice(data);
    #[cfg(any(test, fuzzing))]
    oracle::compare(&data);
    match parse(&data, source) {
        Ok(Message::Request(request)) => {
            let _ = (
                request.echo(source),
                request.content.application_headers(),
                request.content.contact(),
                request.content.record_routes(),
            );
            let _ = (request.uri.destination(), request.content.unsupported(&[]), request.content.has_sdp());
        }
        Ok(Message::Response(response)) => {
            let _ =
                (response.content.application_headers(), response.content.contact(), response.content.record_routes());
            let _ = (response.content.values("WWW-Authenticate"), response.content.has_sdp());
        }
        Err(_) => {}
    }
}

/// The values that every message must have.
struct Required<'a> {
    from: NameAddr,
    to: NameAddr,
    call_id: Bytes,
    cseq: u32,
    method: &'a [u8],
    via: Hop<'a>,
}

impl<'a> Required<'a> {
    fn read(head: &'a Head) -> Result<Self, Fault> {
        let address = |name| NameAddr::read(head.text(), head.single(name)?).ok_or(Fault::Malformed(name));
        let (to, from) = (address("To")?, address("From")?);
        let call_id = head.single("Call-ID")?;
        if call_id.is_empty() {
            return Err(Fault::Malformed("Call-ID"));
        }
        let (cseq, method) = cseq(head.single("CSeq")?).ok_or(Fault::Malformed("CSeq"))?;
        let via = Hop::first(head.value("Via").ok_or(Fault::Missing("Via"))?).ok_or(Fault::Malformed("Via"))?;
        Ok(Self { from, to, call_id: head.text().slice_ref(call_id), cseq, method, via })
    }
}

/// Reads number and method of CSeq (RFC 3261 §8.1.1.5). Returns `None` if the number is so large that the server cannot
/// add 1.
fn cseq(value: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, method) = cut_at_space(value)?;
    let method = trim(method);
    let sequence = number(digits, i32::MAX.unsigned_abs())?;
    (!method.is_empty() && all(method, TOKEN)).then_some((sequence, method))
}

impl Request {
    fn read(text: &Bytes, line: &RequestLine<'_>, content: Content) -> Result<Self, Fault> {
        let parts = Parts::read(line.uri).map_err(Fault::Uri)?;
        if !is_sip_2(line.version) {
            return Err(Fault::Version);
        }
        if matches!(&parts, Parts::Sip(uri) if uri.has_headers()) {
            return Err(Fault::UriHeaders);
        }
        let head = &content.head;
        let Required { from, to, call_id, cseq, method, via } = Required::read(head)?;
        let max_forwards = match head.optional("Max-Forwards")? {
            Some(hops) => Some(number(hops, u8::MAX.into()).ok_or(Fault::Malformed("Max-Forwards"))? as u8),
            None => None,
        };
        if method != line.method {
            return Err(Fault::CSeqMethod);
        }
        if matches!(parts, Parts::Other { .. }) {
            return Err(Fault::Scheme);
        }
        let method = Method::named(method);
        if method == Method::Invite
            && let Some(contact) = head.value("Contact")
            && contact != b"*"
            && contact::first(contact).is_none()
        {
            return Err(Fault::Malformed("Contact"));
        }
        Ok(Self {
            method,
            uri: Uri::within(text, line.uri),
            via: via.top_via(head.text()),
            from,
            to,
            call_id,
            cseq,
            max_forwards,
            content,
        })
    }
}

impl Response {
    fn read(text: &Bytes, line: &StatusLine<'_>, content: Content) -> Result<Self, Fault> {
        if !is_sip_2(line.version) {
            return Err(Fault::Version);
        }
        let head = &content.head;
        let Required { from, to, call_id, cseq, method, via } = Required::read(head)?;
        Ok(Self {
            status: line.status,
            reason: text.slice_ref(line.reason),
            branch: within(head.text(), via.branch),
            via_count: head.list("Via").count(),
            from,
            to,
            call_id,
            cseq,
            method: Method::named(method),
            content,
        })
    }

    pub(crate) fn reason(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.reason)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns `part`, which is a part of `text`. The part is a copy only if escapes were removed from it.
fn within(text: &Bytes, part: Cow<'_, [u8]>) -> Bytes {
    match part {
        Cow::Borrowed(part) => text.slice_ref(part),
        Cow::Owned(part) => Bytes::from(part),
    }
}

#[cfg(test)]
mod tests;
