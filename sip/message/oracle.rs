//! The oracle of the tests and the fuzzer: an independent parser crate reads the same messages. Both parsers must
//! refuse the same messages, and must read the same values from all other messages. The [`DIFFERENCES`] are the only
//! exceptions.

use std::borrow::Cow;

use bytes::Bytes;
use sipx_sip::headers::{CallId, ContactValue, MaxForwards};
use sipx_sip::{Address, CSeq, HeaderName, Headers, Limits, TypedHeader as _, Via};

use super::grammar::trim;
use super::{Content, Fault, Head, Message, Method, NameAddr, Request, Response, TopVia, Uri, lines, lossy, read};

/// A message for which this parser and the crate have different results.
struct Case<'a> {
    data: &'a Bytes,
    ours: &'a Result<Message, Fault>,
    crates: &'a Option<Message>,
}

/// A known difference. The tuple contains the RFC section that decides which parser is right, a description, and a
/// function that recognises a case of this difference.
type Difference = (&'static str, &'static str, fn(&Case<'_>) -> bool);

/// The known differences. In each case, this parser is right or is strict enough.
const DIFFERENCES: &[Difference] = &[
    (
        "RFC 3261 §7.2",
        "a status line may not be folded; the crate takes the fold for a part of the reason phrase",
        |case| matches!(case.ours, Err(Fault::FoldedStartLine)),
    ),
    ("RFC 3261 §21.4.12", "a start line has a length limit, as header fields have", |case| {
        matches!(case.ours, Err(Fault::StartLineTooLong))
    }),
    (
        "RFC 3261 §20.42",
        "there may be spaces around the colon before the port of Via, as in the RFC's own example",
        |case| {
            case.crates.is_none()
                && top_via(case.data).is_some_and(|via| Via::decode(&without_port_spaces(&via)).is_ok())
        },
    ),
    ("RFC 3261 §20.42", "protocol, version and transport of Via are tokens", |case| {
        let is_token = |part: &Vec<u8>| super::all(part, super::TOKEN);
        let via = top_via(case.data).and_then(|via| Via::decode(&via).ok());
        let are_tokens = |via: Via| [via.protocol, via.version, via.transport].iter().all(is_token);
        matches!(case.ours, Err(Fault::Malformed("Via"))) && !via.is_none_or(are_tokens)
    }),
    ("RFC 3261 §20.10", "Contact has no comments: a comma between parentheses separates its values", |case| {
        contact(case.data).is_some_and(|contact| contact.contains(&b'('))
    }),
    ("RFC 3261 §25.1", "a user may contain `#` without an escape, because phones dial `*21#` so", |case| {
        case.crates.is_none() && case.data.contains(&b'#')
    }),
];

fn head_of(data: &Bytes) -> Option<Head> {
    Some(lines::divide(data).ok()?.1.head)
}

fn top_via(data: &Bytes) -> Option<Vec<u8>> {
    head_of(data)?.value("Via").map(<[u8]>::to_vec)
}

fn contact(data: &Bytes) -> Option<Vec<u8>> {
    head_of(data)?.value("Contact").map(<[u8]>::to_vec)
}

/// Rewrites `host : 5060` as `host:5060`.
fn without_port_spaces(via: &[u8]) -> Vec<u8> {
    let mut parts = via.split(|&byte| byte == b':');
    let mut text = parts.next().map(<[u8]>::trim_ascii_end).unwrap_or_default().to_vec();
    for part in parts {
        text.push(b':');
        text.extend_from_slice(trim(part));
    }
    text
}

/// Reads a message, and each of its URIs, with both parsers.
///
/// # Panics
/// Panics if the results of the parsers differ and the difference is not a known difference.
pub(super) fn compare(data: &Bytes) {
    let (ours, crates) = (read(data), read_by_crate(data));
    let alike = match (&ours, &crates) {
        (Ok(ours), Some(crates)) => format!("{ours:?}") == format!("{crates:?}"),
        (Err(_), None) => true,
        _ => false,
    };
    let case = Case { data, ours: &ours, crates: &crates };
    let reason = DIFFERENCES.iter().find(|(_, _, is_one)| !alike && is_one(&case));
    assert!(alike || reason.is_some(), "{}\nours: {ours:?}\nthe crate's: {crates:?}", lossy(data));
    match &ours {
        Ok(Message::Request(request)) => {
            for uri in [&request.uri, &request.from.uri, &request.to.uri] {
                compare_uri(uri.text());
                compare_equivalence(uri, &request.uri);
            }
        }
        Ok(Message::Response(response)) => {
            compare_uri(response.from.uri.text());
            compare_equivalence(&response.from.uri, &response.to.uri);
        }
        Err(_) => {}
    }
}

/// Reads a URI with both parsers.
///
/// # Panics
/// Panics if the results differ.
pub(super) fn compare_uri(text: &[u8]) {
    let (ours, crates) = (Uri::parse(text), sipx_sip::Uri::parse(Bytes::copy_from_slice(text)).ok());
    let kind = ours.is_some() && text.contains(&b'#');
    assert!(ours.is_some() == crates.is_some() || kind, "{}", lossy(text));
    let (Some(ours), Some(crates)) = (ours, crates) else { return };
    let host = crates.host().map(|host| lossy(&host.to_bytes())).unwrap_or_default();
    assert_eq!((ours.host_text(), ours.port()), (host, crates.port()), "{}", lossy(text));
    for name in ["transport", "user", "gr", "line", "lr", "x"] {
        let value = crates.params().and_then(|parameters| parameters.value(name)).map(lossy);
        assert_eq!(ours.parameter(name), value, "{name} of {}", lossy(text));
    }
    assert_eq!(ours.is_loose_router(), crates.params().is_some_and(|parameters| parameters.contains("lr")));
    let user = crates.decoded_user().map(|user| lossy(&user)).unwrap_or_default();
    if user.chars().all(|c| c.is_ascii_alphabetic()) && crates.tel_parts().is_none() {
        assert_eq!(ours.user(), user, "{}", lossy(text));
    }
}

/// Compares two URIs with both parsers. URIs with `%25` are not compared, because the crate treats `%2540` as `%40`.
/// Escapes may be decoded only once (RFC 3261 §19.1.4).
///
/// # Panics
/// Panics if the results differ.
pub(super) fn compare_equivalence(one: &Uri, other: &Uri) {
    let parsed = |uri: &Uri| sipx_sip::Uri::parse(uri.text().clone());
    let (Ok(crate_one), Ok(crate_other)) = (parsed(one), parsed(other)) else { return };
    if [one, other].iter().all(|uri| !uri.text().windows(3).any(|three| three == b"%25")) {
        assert_eq!(one.is_equivalent(other), crate_one.equivalent(&crate_other), "{one:?} {other:?}");
    }
}

/// Returns the full name of a header field, in the spelling of the other parser crate.
#[cfg(test)]
pub(super) fn full_name(name: &[u8]) -> Option<Vec<u8>> {
    let name = HeaderName::parse(&Bytes::copy_from_slice(name));
    (!matches!(name, HeaderName::Other(_))).then(|| name.canonical().to_vec())
}

/// Reads a message with the crate and converts the result to the types of this module. Returns `None` if the crate
/// refuses the message.
fn read_by_crate(data: &Bytes) -> Option<Message> {
    match sipx_sip::parse_datagram(data.clone(), &Limits::datagram()).ok()? {
        sipx_sip::Message::Request(request) => self::request(&request).map(Message::Request),
        sipx_sip::Message::Response(response) => self::response(&response).map(Message::Response),
    }
}

fn request(request: &sipx_sip::Request) -> Option<Request> {
    let headers = &request.headers;
    let (required, via) = required(headers)?;
    let max_forwards = match headers.typed::<MaxForwards>() {
        Some(hops) => Some(hops.ok()?.0),
        None => None,
    };
    let is_known = request.uri.scheme().is_sip() || matches!(request.uri.scheme(), sipx_sip::Scheme::Tel);
    let method = Method::named(request.method.as_bytes());
    let contact = headers.value(&HeaderName::Contact).filter(|_| matches!(method, Method::Invite));
    let is_sound = request.version.is_supported()
        && !request.uri.has_headers()
        && headers.count(&HeaderName::MaxForwards) <= 1
        && required.cseq.method == request.method
        && contact.is_none_or(|contact| ContactValue::decode(&contact).is_ok())
        && is_known;
    is_sound.then(|| Request {
        method,
        uri: Uri::copied(&request.uri.to_bytes()),
        via: via_of(&via),
        from: required.from,
        to: required.to,
        call_id: required.call_id,
        cseq: required.cseq.sequence,
        max_forwards,
        content: Content { body: request.body().clone(), head: head(headers) },
    })
}

fn response(response: &sipx_sip::Response) -> Option<Response> {
    let (required, via) = required(&response.headers)?;
    let head = head(&response.headers);
    response.version.is_supported().then(|| Response {
        status: response.status.code(),
        reason: response.reason.clone(),
        branch: via.branch().map(Bytes::copy_from_slice).unwrap_or_default(),
        via_count: head.list("Via").count(),
        from: required.from,
        to: required.to,
        call_id: required.call_id,
        cseq: required.cseq.sequence,
        method: Method::named(required.cseq.method.as_bytes()),
        content: Content { body: response.body().clone(), head },
    })
}

struct Required {
    from: NameAddr,
    to: NameAddr,
    call_id: Bytes,
    cseq: CSeq,
}

fn required(headers: &Headers) -> Option<(Required, Via)> {
    let singles = [HeaderName::To, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
    if singles.iter().any(|name| headers.count(name) != 1) {
        return None;
    }
    let required = Required {
        from: name_addr(headers, &HeaderName::From)?,
        to: name_addr(headers, &HeaderName::To)?,
        call_id: Bytes::from(headers.typed::<CallId>()?.ok()?.0),
        cseq: headers.typed::<CSeq>()?.ok()?,
    };
    Some((required, headers.typed::<Via>()?.ok()?))
}

fn head(headers: &Headers) -> Head {
    Head::of(headers.iter().map(|header| (Cow::Borrowed(header.name().canonical()), header.value())))
}

fn name_addr(headers: &Headers, name: &HeaderName) -> Option<NameAddr> {
    let text = Bytes::from(headers.value(name)?.into_owned());
    let address = Address::parse(&text, "From").ok()?;
    Some(NameAddr {
        tag: address.tag().filter(|tag| !tag.is_empty()).map(Bytes::copy_from_slice),
        uri: Uri::copied(&address.uri.to_bytes()),
        display: address.display_name.map(Bytes::from).unwrap_or_default(),
        text,
    })
}

fn via_of(via: &Via) -> TopVia {
    let host = via.host.to_string().to_ascii_lowercase();
    let branch = via.branch().filter(|branch| branch.len() > 7 && branch.starts_with(b"z9hG4bK"));
    TopVia {
        branch: branch.map(Bytes::copy_from_slice),
        sent_by: Bytes::from(via.port.map_or(host.clone(), |port| format!("{host}:{port}"))),
        rport: via.rport().is_some(),
        alias: via.params.iter().any(|param| param.is("alias")).then(|| via.port.unwrap_or(5061)),
        ip: match &via.host {
            sipx_sip::Host::Ip(ip) => Some(*ip),
            sipx_sip::Host::Name(_) => None,
        },
        port: via.port,
        transport: crate::flow::Transport::named(&lossy(&via.transport)),
    }
}

#[cfg(test)]
mod tests;
