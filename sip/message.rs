//! Our view of a SIP message over the parser crate; only this file and those below it name that. Ordinary messages are read
//! by hand (`plain`), which costs a third; what is not plain, and all that is wrong, is the crate's.
//!
//! A [`Request`] has passed every check that needs no state (RFC 3261 §8.1.1, §8.2): what remains of it is trusted to be
//! present. Anything less becomes [`Malformed`], which still knows how to be answered when the request's own Via, From,
//! To, Call-ID and CSeq lines can be found in the bytes.

mod contact;
mod content;
mod echo;
mod head;
mod method;
mod multipart;
mod plain;
mod uri;
mod via;

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::Bytes;
use sipx_sip::error::ParseError;
use sipx_sip::headers::{CallId, ContactValue, MaxForwards};
use sipx_sip::{Address, CSeq, Finding, HeaderName, Headers, Limits, TypedHeader as _, Via};

pub(crate) use self::contact::{Contact, Contacts};
pub(crate) use self::content::Content;
pub(crate) use self::echo::Echo;
use self::echo::{echo_of_head, echo_of_raw};
use self::head::Head;
pub(crate) use self::method::Method;
pub(crate) use self::uri::{Host, Uri};
pub(crate) use self::via::TopVia;

/// Largest message taken from a stream, headers and body, octets. Datagrams are bounded by UDP itself.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// Either kind of message.
#[derive(Debug)]
pub(crate) enum Message {
    Request(Request),
    Response(Response),
}

/// A request that can be acted on.
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

/// A response with the fields a client transaction needs.
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

/// From or To: its text as received (unfolded) and what we need of it. Parts of the datagram: what is kept for long is copied.
#[derive(Debug)]
pub(crate) struct NameAddr {
    pub(crate) text: Bytes,
    /// Empty if there is none.
    pub(crate) display: Bytes,
    pub(crate) uri: Uri,
    pub(crate) tag: Option<Bytes>,
}

/// Bytes that are not an acceptable message.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// 400, 413, 416, 505, ...
    pub(crate) status: u16,
    /// What is wrong, fit for a reason phrase.
    pub(crate) reason: String,
    /// `None` for responses, ACKs, and requests whose Via cannot be used: those are dropped.
    pub(crate) echo: Option<Echo>,
}

/// Parses one framed message from `source` and checks everything that needs no state.
///
/// # Errors
/// [`Malformed`] with the response the sender deserves.
pub(crate) fn parse(data: &Bytes, source: SocketAddr) -> Result<Message, Box<Malformed>> {
    plain::read(data).map_or_else(|| parse_any(data, source), Ok)
}

/// The same by the parser crate, whatever they look like.
fn parse_any(data: &Bytes, source: SocketAddr) -> Result<Message, Box<Malformed>> {
    match sipx_sip::parse_datagram(data.clone(), &Limits::datagram()) {
        Ok(sipx_sip::Message::Request(request)) => Request::check(request, source).map(Message::Request),
        Ok(sipx_sip::Message::Response(response)) => Response::check(response).map(Message::Response),
        Err(error) => {
            let status = match &error {
                ParseError::Limit { limit: sipx_sip::error::LimitKind::BodyBytes, .. } => 413,
                _ => 400,
            };
            Err(Box::new(Malformed { status, reason: error.to_string(), echo: echo_of_raw(data, source) }))
        }
    }
}

/// Runs the parse facade over arbitrary bytes: the fuzz target for SIP.
///
/// # Panics
/// If a message that is read by hand is another to the parser crate.
pub fn fuzz_message(data: &[u8]) {
    let source = SocketAddr::from(([192, 0, 2, 1], 5060));
    let data = Bytes::copy_from_slice(data);
    if let Some(plain) = plain::read(&data) {
        let any = parse_any(&data, source).map_err(|malformed| malformed.reason);
        assert_eq!(format!("{:?}", Ok::<_, String>(plain)), format!("{any:?}"), "read alike");
    }
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

impl Request {
    fn check(request: sipx_sip::Request, source: SocketAddr) -> Result<Self, Box<Malformed>> {
        let headers = &request.headers;
        let head = head(headers);
        let refuse = |status: u16, reason: String| {
            Box::new(Malformed {
                status,
                reason,
                echo: if request.method == sipx_sip::Method::Ack { None } else { echo_of_head(&head, source) },
            })
        };
        // What the checks of the crate parse is parsed below once more: they are asked only when something is wrong.
        let singles = [HeaderName::To, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
        let (via, cseq, hops) = (headers.typed::<Via>(), headers.typed::<CSeq>(), headers.typed::<MaxForwards>());
        let (from, to) = (name_addr(headers, &HeaderName::From), name_addr(headers, &HeaderName::To));
        let sound = request.version.is_supported()
            && !request.uri.has_headers()
            && singles.iter().all(|name| headers.count(name) == 1)
            && headers.count(&HeaderName::MaxForwards) <= 1
            && !matches!(hops, Some(Err(_)))
            && matches!(headers.typed::<CallId>(), Some(Ok(_)))
            && matches!(&cseq, Some(Ok(cseq)) if cseq.method == request.method)
            && matches!((&via, &from, &to), (Some(Ok(_)), Some(_), Some(_)));
        let findings = if sound { Vec::new() } else { sipx_sip::validate_request(&request) };
        for finding in findings {
            let reason = match &finding {
                Finding::MissingRequiredHeader("Max-Forwards") => continue,
                Finding::MissingRequiredHeader(name) => format!("Missing {name}"),
                Finding::MalformedRequiredHeader(name) => format!("Malformed {name}"),
                Finding::RepeatedSingleValueHeader(name) => format!("Repeated {name}"),
                Finding::CSeqMethodMismatch => "CSeq method does not match".to_owned(),
                Finding::UnsupportedVersion => "Version Not Supported".to_owned(),
                Finding::RequestUriHasHeaders => "Request-URI has headers".to_owned(),
                _ => "Bad Request".to_owned(),
            };
            return Err(refuse(finding.status(), reason));
        }
        let (Some(Ok(via)), Some(from), Some(to), Some(Ok(cseq)), Some(call_id)) =
            (via, from, to, cseq, text(headers, &HeaderName::CallId))
        else {
            return Err(refuse(400, "Bad Request".to_owned()));
        };
        if call_id.is_empty() {
            return Err(refuse(400, "Malformed Call-ID".to_owned()));
        }
        if cseq.sequence > i32::MAX.unsigned_abs() {
            return Err(refuse(400, "CSeq out of range".to_owned()));
        }
        let uri = Uri::of(&request.uri);
        if !uri.is_sip() && !matches!(request.uri.scheme(), sipx_sip::Scheme::Tel) {
            return Err(refuse(416, "Unsupported URI Scheme".to_owned()));
        }
        let sip_method = Method::named(request.method.as_bytes());
        if matches!(sip_method, Method::Invite) && head.value("Contact").is_some_and(|contact| !is_contact(contact)) {
            return Err(refuse(400, "Malformed Contact".to_owned()));
        }
        let max_forwards = match hops {
            Some(Ok(MaxForwards(hops))) => Some(hops),
            _ => None,
        };
        Ok(Self {
            method: sip_method,
            uri,
            via: TopVia::of(&via),
            from,
            to,
            call_id,
            cseq: cseq.sequence,
            max_forwards,
            content: Content { body: request.body().clone(), head },
        })
    }
}

impl Response {
    fn check(response: sipx_sip::Response) -> Result<Self, Box<Malformed>> {
        let drop = |reason: &str| Box::new(Malformed { status: 0, reason: reason.to_owned(), echo: None });
        let headers = &response.headers;
        // The crate's own checks, without parsing everything twice for them.
        let singles = [HeaderName::To, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
        if !response.version.is_supported()
            || singles.iter().any(|name| headers.count(name) != 1)
            || !matches!(headers.typed::<CallId>(), Some(Ok(_)))
        {
            return Err(drop("invalid response"));
        }
        let (Some(Ok(via)), Some(from), Some(to), Some(Ok(cseq)), Some(call_id)) = (
            headers.typed::<Via>(),
            name_addr(headers, &HeaderName::From),
            name_addr(headers, &HeaderName::To),
            headers.typed::<CSeq>(),
            text(headers, &HeaderName::CallId),
        ) else {
            return Err(drop("invalid response"));
        };
        let branch = via.branch().map(Bytes::copy_from_slice).unwrap_or_default();
        let head = head(headers);
        Ok(Self {
            status: response.status.code(),
            reason: response.reason.clone(),
            branch,
            via_count: head.list("Via").count(),
            from,
            to,
            call_id,
            cseq: cseq.sequence,
            method: Method::named(cseq.method.as_bytes()),
            content: Content { body: response.body().clone(), head },
        })
    }

    pub(crate) fn reason(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.reason)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn head(headers: &Headers) -> Head {
    Head::of(headers.iter().map(|header| (Cow::Borrowed(header.name().canonical()), header.value())))
}

/// Whether it is what Contact may be: addresses, or `*`.
fn is_contact(value: &[u8]) -> bool {
    ContactValue::decode(value).is_ok()
}

fn text(headers: &Headers, name: &HeaderName) -> Option<Bytes> {
    headers.value(name).map(|value| match value {
        Cow::Borrowed(value) => Bytes::copy_from_slice(value),
        Cow::Owned(value) => Bytes::from(value),
    })
}

fn name_addr(headers: &Headers, name: &HeaderName) -> Option<NameAddr> {
    let text = text(headers, name)?;
    let address = Address::parse(&text, "From").ok()?;
    let tag = address.tag().filter(|tag| !tag.is_empty()).map(Bytes::copy_from_slice);
    Some(NameAddr {
        display: address.display_name.map(Bytes::from).unwrap_or_default(),
        uri: Uri::of(&address.uri),
        tag,
        text,
    })
}

#[cfg(test)]
mod tests;
