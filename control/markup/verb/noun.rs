//! Who a `Dial` calls: `Number`, `Sip`, `Client`.

use tandem_call::Moment;
use tandem_call::address::{Address, PhoneNumber};
use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::{Credentials, DialTarget};

use super::sound::{SENDABLE, sendable};
use crate::markup::code;
use crate::markup::element::Element;
use crate::markup::reader::Reader;

const NUMBER_METHOD: u32 = 13221;
const NUMBER_SEND_DIGITS: u32 = 13222;
const NUMBER_FORMAT: u32 = 13223;
const SIP_METHOD: u32 = 13241;
const SIP_URI: u32 = 13243;
const TOO_MANY_URIS: u32 = 13250;
const SIP_HEADERS_TOO_LONG: u32 = 13251;
const SIP_HEADER_NAME: u32 = 13252;
const SIP_HEADER_VALUE: u32 = 13253;
/// Longest headers of one URI together, octets.
const MAX_HEADERS: usize = 1024;
/// Most `Uri` in one `Sip`.
const MAX_URIS: usize = 10;

/// What a party's callback may be told of.
pub(crate) const MOMENTS: [(&str, Moment); 4] = [
    ("initiated", Moment::Initiated),
    ("ringing", Moment::Ringing),
    ("answered", Moment::Answered),
    ("completed", Moment::Completed),
];

/// A number written directly in the `Dial`.
pub(super) fn bare(reader: &mut Reader<'_>, text: &str) -> Option<DialTarget> {
    let number = phone(text);
    if number.is_none() {
        reader.warn(NUMBER_FORMAT, format!("{}: not a telephone number; it was not called", short(text)));
    }
    number.map(DialTarget::new)
}

/// `Number`.
pub(super) fn number(reader: &mut Reader<'_>, element: &Element) -> Result<Option<DialTarget>, FetchFailure> {
    let Some(mut target) = bare(reader, &element.text()) else { return Ok(None) };
    progress(reader, element, NUMBER_METHOD, &mut target)?;
    if let Some(digits) = element.attribute("sendDigits").map(str::trim).filter(|digits| !digits.is_empty()) {
        if digits.chars().all(|digit| SENDABLE.contains(digit)) {
            target.send_digits = Some(sendable(digits));
        } else {
            reader.bad_value(element, "sendDigits", NUMBER_SEND_DIGITS);
        }
    }
    Ok(Some(target))
}

/// `Sip`: its text, or the `Uri` elements in it, best priority first.
pub(super) fn sip(reader: &mut Reader<'_>, element: &Element, out: &mut Vec<DialTarget>) -> Result<(), FetchFailure> {
    let mut headers = Vec::new();
    let mut uris: Vec<(u64, &Element)> = Vec::new();
    for child in element.elements() {
        if reader.rule(child).is_none() {
            continue;
        }
        match child.name.as_str() {
            "Uri" if uris.len() < MAX_URIS => {
                let priority = reader.number(child, "priority", 0..=65_535, code::SCHEMA).unwrap_or_default();
                uris.push((priority, child));
            }
            "Uri" => reader.warn(TOO_MANY_URIS, format!("<Sip> with more than {MAX_URIS} <Uri>; the rest was skipped")),
            "Headers" => {
                for header in child.elements().filter(|header| header.name == "Header") {
                    let (name, value) = (header.attribute("name"), header.attribute("value"));
                    push_header(reader, name.unwrap_or_default(), value.unwrap_or_default(), &mut headers);
                }
            }
            _ => reader.misplaced(child, element),
        }
    }
    uris.sort_by_key(|(priority, _)| *priority);
    let places: Vec<&Element> =
        if uris.is_empty() { vec![element] } else { uris.into_iter().map(|(_, uri)| uri).collect() };
    for place in places {
        let Some((uri, uri_headers)) = sip_uri(reader, &place.text()) else { continue };
        let mut target = DialTarget::new(Address::Sip(uri.into()));
        target.headers = headers.clone();
        target.headers.extend(uri_headers);
        target.credentials = credentials(place).or_else(|| credentials(element));
        progress(reader, element, SIP_METHOD, &mut target)?;
        out.push(target);
    }
    Ok(())
}

/// `Client`.
pub(super) fn client(reader: &mut Reader<'_>, element: &Element) -> Result<Option<DialTarget>, FetchFailure> {
    let identity =
        element.elements().find(|child| child.name == "Identity").map_or_else(|| element.text(), Element::text);
    for child in element.elements() {
        reader.rule(child);
    }
    let name = identity.strip_prefix("client:").unwrap_or(&identity);
    if name.is_empty() || name.len() > 256 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        reader.warn(code::SCHEMA, "<Client> without an identity was not called");
        return Ok(None);
    }
    let mut target = DialTarget::new(Address::Client(name.into()));
    progress(reader, element, code::SCHEMA, &mut target)?;
    Ok(Some(target))
}

/// A telephone number as people write it: `(415) 555-1212`, `+1 415.555.1212`.
pub(crate) fn phone(text: &str) -> Option<Address> {
    let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')' | '\u{a0}')).collect();
    digits.parse::<PhoneNumber>().ok().map(Address::Phone)
}

/// A SIP URI and the headers after its `?` (RFC 3261 §19.1.1); `None`, warned, if it is none.
pub(crate) fn sip_uri(reader: &mut Reader<'_>, text: &str) -> Option<(String, Vec<(String, String)>)> {
    match split_sip_uri(text) {
        Ok((uri, headers)) => {
            let mut kept = Vec::new();
            for (name, value) in headers {
                push_header(reader, &name, &value, &mut kept);
            }
            Some((uri, kept))
        }
        Err(problem) => {
            reader.warn(SIP_URI, format!("{}: {problem}; it was not called", short(text)));
            None
        }
    }
}

/// The URI without its headers, and these, percent-decoded and unchecked.
pub(crate) fn split_sip_uri(text: &str) -> Result<(String, Vec<(String, String)>), &'static str> {
    let text = text.trim();
    let scheme = text.split(':').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("sip") && !scheme.eq_ignore_ascii_case("sips") {
        return Err("not a SIP URI");
    }
    let (uri, headers) = text.split_once('?').unwrap_or((text, ""));
    let rest = uri.get(scheme.len() + 1..).unwrap_or_default();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let unfit = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '\\' | ',');
    if host.is_empty() || host.starts_with([';', ':']) || uri.len() > 512 || uri.chars().any(unfit) {
        return Err("not a SIP URI");
    }
    if headers.len() >= MAX_HEADERS {
        return Err("its headers are too long");
    }
    let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let pairs = headers.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    });
    Ok((uri.to_owned(), pairs.collect()))
}

/// Whether an application may set this header: `X-` ones and a few that carry its data end to end.
pub(crate) fn is_allowed_header(name: &str) -> bool {
    let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    token
        && (starts("X-")
            || ["User-to-User", "Remote-Party-ID", "P-Preferred-Identity", "P-Called-Party-ID"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known)))
}

fn push_header(reader: &mut Reader<'_>, name: &str, value: &str, out: &mut Vec<(String, String)>) {
    let used: usize = out.iter().map(|(name, value)| name.len() + value.len()).sum();
    if !is_allowed_header(name) {
        reader.warn(SIP_HEADER_NAME, format!("header {} may not be set; it was skipped", short(name)));
    } else if value.chars().any(char::is_control) {
        reader.warn(SIP_HEADER_VALUE, format!("the value of header {name} has control characters; it was skipped"));
    } else if used + name.len() + value.len() >= MAX_HEADERS {
        reader.warn(SIP_HEADERS_TOO_LONG, format!("headers of {MAX_HEADERS} octets or more; {name} was skipped"));
    } else {
        out.push((name.to_owned(), value.to_owned()));
    }
}

fn progress(
    reader: &mut Reader<'_>,
    element: &Element,
    method_code: u32,
    target: &mut DialTarget,
) -> Result<(), FetchFailure> {
    let method = reader.method(element, "method", method_code);
    target.whisper = reader.target(element.attribute("url"), method, code::BAD_URL)?;
    target.status = reader.callback(element, "statusCallback", &MOMENTS, &[Moment::Completed], code::SCHEMA)?;
    Ok(())
}

fn credentials(element: &Element) -> Option<Credentials> {
    let username = element.attribute("username").filter(|name| !name.is_empty())?.to_owned();
    Some(Credentials { username, password: element.attribute("password").unwrap_or_default().to_owned() })
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
