//! Composes messages as bytes. Each message is composed once, and the same bytes are stored for retransmissions.

use bytes::Bytes;

use crate::flow::Transport;
use crate::header::{self, Header, push_number};
use crate::message::Echo;

/// Methods that this server accepts (RFC 3261 §20.5). [`ALLOW_REFER`] also has REFER, for a far end that may transfer
/// its calls.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY";
pub(crate) const ALLOW_REFER: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY, REFER";
/// Option tags that this server supports (RFC 3262, 4028, 3891, 4488). The server uses `100rel` only if the
/// configuration allows this tag.
pub(crate) const SUPPORTED: &[&str] = &["100rel", "timer", "replaces", "norefersub"];

/// Returns the value of Supported. The tag `100rel` is included only if `reliable` is true.
pub(crate) fn supported(reliable: bool) -> &'static str {
    if reliable { "100rel, timer, replaces, norefersub" } else { "timer, replaces, norefersub" }
}

/// The parts from which a response is composed.
#[derive(Default)]
pub(crate) struct ResponseParts<'a> {
    pub(crate) status: u16,
    pub(crate) reason: Option<&'a str>,
    /// The local To tag. The tag is not used if the response is a 100, or if the request already had a To tag.
    pub(crate) tag: Option<u64>,
    pub(crate) record_routes: &'a [Bytes],
    /// The Contact URI without angle brackets.
    pub(crate) contact: Option<&'a str>,
    /// The parameters of the Contact, each with a leading `;`.
    pub(crate) features: &'a str,
    /// Complete header lines. Each line ends with CRLF.
    pub(crate) lines: &'a str,
    pub(crate) headers: &'a [Header],
    pub(crate) body: Option<(&'a str, &'a [u8])>,
    pub(crate) server: &'a str,
    /// Whether the far end may transfer its calls. If so, Allow contains REFER.
    pub(crate) refer: bool,
}

/// The parts from which a request is composed.
#[derive(Default)]
pub(crate) struct RequestParts<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: &'a [u8],
    pub(crate) via_transport: Option<Transport>,
    pub(crate) sent_by: &'a str,
    pub(crate) branch: u128,
    /// The value of Max-Forwards. `None` means 70 (RFC 3261 §8.1.1.6).
    pub(crate) max_forwards: Option<u8>,
    pub(crate) routes: &'a [Bytes],
    pub(crate) from: &'a [u8],
    pub(crate) to: &'a [u8],
    pub(crate) call_id: &'a [u8],
    pub(crate) cseq: u32,
    pub(crate) contact: Option<&'a str>,
    /// The parameters of the Contact, each with a leading `;`.
    pub(crate) features: &'a str,
    pub(crate) lines: &'a str,
    pub(crate) headers: &'a [Header],
    pub(crate) body: Option<(&'a str, &'a [u8])>,
    pub(crate) user_agent: &'a str,
    /// Whether the far end may transfer its calls. If so, Allow contains REFER.
    pub(crate) refer: bool,
}

/// Composes a response. `echo` has the header lines that the response repeats from the request.
pub(crate) fn response(echo: &Echo, parts: &ResponseParts<'_>) -> Bytes {
    let body_length = parts.body.map_or(0, |(_, body)| body.len());
    let mut out = Vec::with_capacity(echo.lines.len() + echo.to.len() + parts.lines.len() + body_length + 320);
    let reason = parts.reason.unwrap_or_else(|| reason_phrase(parts.status));
    out.extend_from_slice(b"SIP/2.0 ");
    push_number(&mut out, u64::from(parts.status));
    out.push(b' ');
    push_clean(&mut out, reason);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&echo.lines);
    if !echo.to.is_empty() {
        out.extend_from_slice(b"To: ");
        out.extend_from_slice(&echo.to);
        if let (false, Some(tag)) = (echo.tagged || parts.status == 100, parts.tag) {
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(&hex(tag));
        }
        out.extend_from_slice(b"\r\n");
    }
    for route in parts.record_routes {
        push_field(&mut out, b"Record-Route: ", route);
    }
    if let Some(contact) = parts.contact {
        out.extend_from_slice(b"Contact: <");
        out.extend_from_slice(contact.as_bytes());
        out.push(b'>');
        out.extend_from_slice(parts.features.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if parts.status == 405 || (200..300).contains(&parts.status) {
        push_field(&mut out, b"Allow: ", if parts.refer { ALLOW_REFER.as_bytes() } else { ALLOW.as_bytes() });
    }
    push_name(&mut out, b"Server: ", parts.server);
    out.extend_from_slice(parts.lines.as_bytes());
    push_headers(&mut out, parts.headers, (300..400).contains(&parts.status));
    push_body(&mut out, parts.body);
    kept(out)
}

pub(crate) fn request(parts: &RequestParts<'_>) -> Bytes {
    let body_length = parts.body.map_or(0, |(_, body)| body.len());
    let mut out = Vec::with_capacity(768 + parts.lines.len() + body_length);
    out.extend_from_slice(parts.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.uri);
    out.extend_from_slice(b" SIP/2.0\r\nVia: SIP/2.0/");
    out.extend_from_slice(parts.via_transport.unwrap_or(Transport::Udp).token().as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.sent_by.as_bytes());
    out.extend_from_slice(b";rport;branch=z9hG4bK");
    out.extend_from_slice(&hex((parts.branch >> 64) as u64));
    out.extend_from_slice(&hex(parts.branch as u64));
    out.extend_from_slice(b"\r\nMax-Forwards: ");
    push_number(&mut out, u64::from(parts.max_forwards.unwrap_or(70)));
    out.extend_from_slice(b"\r\n");
    for route in parts.routes {
        push_field(&mut out, b"Route: ", route);
    }
    push_field(&mut out, b"From: ", parts.from);
    push_field(&mut out, b"To: ", parts.to);
    push_field(&mut out, b"Call-ID: ", parts.call_id);
    out.extend_from_slice(b"CSeq: ");
    push_number(&mut out, u64::from(parts.cseq));
    out.push(b' ');
    out.extend_from_slice(parts.method.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(contact) = parts.contact {
        out.extend_from_slice(b"Contact: <");
        out.extend_from_slice(contact.as_bytes());
        out.push(b'>');
        out.extend_from_slice(parts.features.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if matches!(parts.method, "INVITE" | "UPDATE") {
        push_field(&mut out, b"Allow: ", if parts.refer { ALLOW_REFER.as_bytes() } else { ALLOW.as_bytes() });
    }
    push_name(&mut out, b"User-Agent: ", parts.user_agent);
    out.extend_from_slice(parts.lines.as_bytes());
    push_headers(&mut out, parts.headers, false);
    push_body(&mut out, parts.body);
    kept(out)
}

/// Removes the spare capacity of the buffer, because a sent message may be stored for 32 s.
fn kept(mut out: Vec<u8>) -> Bytes {
    out.shrink_to_fit();
    Bytes::from(out)
}

/// Returns a copy of a sent request for another path (RFC 3261 §18.1.1, RFC 3263 §4.3). The topmost Via gets the new
/// transport, sent-by and branch. If the request has the first Contact of `contacts`, the copy has the second Contact
/// instead. All other parts stay the same.
pub(crate) fn rerouted(
    request: &[u8],
    transport: Transport,
    sent_by: &str,
    branch: u128,
    contacts: &(String, String),
) -> Bytes {
    let head = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(request.len());
    let (head, rest) = request.split_at(head);
    let old_contact = format!("Contact: <{}>", contacts.0);
    let mut via_is_old = true;
    let mut out = Vec::with_capacity(request.len() + 64);
    for (number, line) in head.split(|&byte| byte == b'\n').enumerate() {
        if number > 0 {
            out.push(b'\n');
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if via_is_old && line.starts_with(b"Via: ") {
            via_is_old = false;
            let via = format!("Via: SIP/2.0/{} {sent_by};rport;branch=z9hG4bK{branch:032x}", transport.token());
            out.extend_from_slice(via.as_bytes());
        } else if let Some(features) = line.strip_prefix(old_contact.as_bytes()) {
            out.extend_from_slice(format!("Contact: <{}>", contacts.1).as_bytes());
            out.extend_from_slice(features);
        } else {
            out.extend_from_slice(line);
        }
        out.push(b'\r');
    }
    // This removes the CR after the last line of the head, because `rest` begins with this CR.
    out.pop();
    out.extend_from_slice(rest);
    Bytes::from(out)
}

/// Length, in octets, of a Via branch that [`request`] composed.
pub(crate) const BRANCH_LENGTH: usize = 39;

/// Returns the number in a Via branch that [`request`] composed.
pub(crate) fn branch_number(branch: &[u8]) -> Option<u128> {
    let (high, low) = branch.strip_prefix(b"z9hG4bK")?.split_at_checked(16)?;
    Some(u128::from(from_hex(high)?) << 64 | u128::from(from_hex(low)?))
}

/// Returns a number as 16 lower-case hexadecimal digits. Branches and tags have this form.
pub(crate) fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|at| {
        let digit = (number >> (60 - 4 * at)) as u8 & 0xf;
        digit + if digit < 10 { b'0' } else { b'a' - 10 }
    })
}

/// Returns the number in a text that [`hex`] created. Returns `None` if the text does not consist of 16 hexadecimal
/// digits.
pub(crate) fn from_hex(digits: &[u8]) -> Option<u64> {
    let append = |number: u64, &digit: &u8| Some(number << 4 | u64::from(char::from(digit).to_digit(16)?));
    digits.iter().try_fold(0, append).filter(|_| digits.len() == 16)
}

/// Returns a From or To value with the display name and the URI, but without a tag.
pub(crate) fn name_addr(display: Option<&str>, uri: &str) -> String {
    match display.filter(|display| !display.is_empty()) {
        None => ["<", uri, ">"].concat(),
        Some(display) => {
            let quoted: String = display
                .chars()
                .filter(|c| !c.is_control())
                .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
                .collect();
            format!("\"{quoted}\" <{uri}>")
        }
    }
}

/// Returns a user part in which every octet that the grammar forbids is percent-escaped (RFC 3261 §25.1 `user`).
pub fn escape_user(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Returns the reason phrase that the RFCs give to a status. For an unknown status, returns a phrase for the class of
/// the status.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        other => match other / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Client Error",
            5 => "Server Error",
            _ => "Global Failure",
        },
    }
}

/// Writes the Server or User-Agent field. Writes nothing if the name is empty.
fn push_name(out: &mut Vec<u8>, field: &[u8], name: &str) {
    if !name.is_empty() {
        push_field(out, field, name.as_bytes());
    }
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a text in which spaces replace control characters. So the text cannot end the header line.
fn push_clean(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|byte| if byte < b' ' && byte != b'\t' { b' ' } else { byte }));
}

fn push_headers(out: &mut Vec<u8>, headers: &[Header], contact_too: bool) {
    for header in headers {
        let is_token = !header.name.is_empty()
            && header.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte));
        let is_ours =
            header::is_core(header.name.as_bytes()) && !(contact_too && header.name.eq_ignore_ascii_case("Contact"));
        if !is_token || is_ours {
            continue;
        }
        out.extend_from_slice(header.name.as_bytes());
        out.extend_from_slice(b": ");
        push_clean(out, &header.value);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_body(out: &mut Vec<u8>, body: Option<(&str, &[u8])>) {
    if let Some((content_type, body)) = body.filter(|(_, body)| !body.is_empty()) {
        out.extend_from_slice(b"Content-Type: ");
        push_clean(out, content_type);
        out.extend_from_slice(b"\r\nContent-Length: ");
        push_number(out, body.len() as u64);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    } else {
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_in_an_application_header_cannot_start_a_header() {
        let headers = [
            Header { name: "X-A".into(), value: "1\r\nVia: evil".into() },
            Header { name: "X B".into(), value: "not a token".into() },
            Header { name: "Via".into(), value: "ours".into() },
        ];
        let bytes = request(&RequestParts { method: "INFO", headers: &headers, ..RequestParts::default() });
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains("X-A: 1  Via: evil\r\n"), "{text}");
        assert!(!text.contains("X B") && !text.contains("ours"));
    }

    #[test]
    fn users_and_display_names_are_escaped() {
        assert_eq!(escape_user("+1 5<>%"), "+1%205%3C%3E%25");
        assert_eq!(name_addr(Some("a\"b\r\n"), "sip:x@y"), "\"a\\\"b\" <sip:x@y>");
    }

    #[test]
    fn a_generated_branch_is_parsed() {
        assert_eq!(branch_number(format!("z9hG4bK{:032x}", 7_u128).as_bytes()), Some(7));
        assert_eq!(branch_number(b"z9hG4bK7"), None);
    }
}
