//! Rules for header fields that do not need a parser. The rules decide which fields belong to SIP itself, find the end
//! of a value in a list, and add the parameters of a server to a Via.

use std::net::{IpAddr, SocketAddr};

/// One header field that was received or will be sent. When the field is sent, each CR or LF in the value becomes a
/// space.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Header {
    /// The name of the field as written, for example `X-Account`.
    pub name: String,
    /// The value of the field, without line folding.
    pub value: String,
}

/// Additional headers of a CANCEL or BYE.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ByeHeaders {
    /// Whole header lines, each with its CRLF.
    pub(crate) lines: String,
    /// Headers that are still to be composed.
    pub(crate) headers: Vec<Header>,
}

/// Returns whether the application may not see or set the field. This is so if SIP itself uses the field, or if the
/// field contains secrets.
pub(crate) fn is_core(name: &[u8]) -> bool {
    // Only names of the same length are compared. This saves time, because every field of every message is checked.
    let core: &[&str] = match name.len() {
        1 => &["v", "f", "t", "i", "m", "l", "c", "e", "k", "u", "x", "r", "o"],
        2 => &["To"],
        3 => &["Via"],
        4 => &["From", "CSeq", "RSeq", "RAck"],
        5 => &["Route", "Allow", "Event"],
        6 => &["Accept", "Min-SE"],
        7 => &["Call-ID", "Contact", "Require"],
        8 => &["Replaces", "Refer-To"],
        9 => &["Supported", "Timestamp", "Refer-Sub"],
        11 => &["Unsupported"],
        12 => &["Max-Forwards", "Record-Route", "Content-Type", "MIME-Version", "Allow-Events"],
        13 => &["Proxy-Require", "Authorization"],
        14 => &["Content-Length"],
        15 => &["Accept-Encoding", "Accept-Language", "Session-Expires"],
        16 => &["Content-Encoding", "WWW-Authenticate"],
        18 => &["Proxy-Authenticate", "Subscription-State"],
        19 => &["Content-Disposition", "Proxy-Authorization", "Authentication-Info"],
        _ => &[],
    };
    core.iter().any(|core| core.as_bytes().eq_ignore_ascii_case(name))
}

/// Returns whether an application may not set a header field of this name. SIP itself sets these fields (From, Via,
/// Route, Contact ...), or they contain secrets. If an application sets such a field, the field is not sent.
pub fn is_own_header(name: &str) -> bool {
    is_core(name.as_bytes())
}

/// Returns whether a field name is already in its canonical form: each word begins with a capital letter, and all other
/// letters are lower case, as in `User-Agent` and `P-Asserted-Identity`. Names that begin with `Sip-` are excluded,
/// because RFC 3903 writes them differently (`SIP-ETag`).
pub(crate) fn is_titled(name: &[u8]) -> bool {
    let is_titled = |word: &[u8]| {
        word.split_first().is_some_and(|(first, rest)| {
            first.is_ascii_uppercase() && rest.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
    };
    !name.starts_with(b"Sip-") && name.split(|&byte| byte == b'-').all(is_titled)
}

/// Returns the position of the first control character.
pub(crate) fn first_control(text: &[u8]) -> Option<usize> {
    text.iter().position(|&byte| byte < b' ')
}

/// Returns the length of the first value in a comma-separated list. Commas in quotes and in angle brackets are not
/// separators.
pub(crate) fn first_value_end(value: &[u8]) -> usize {
    if !value.contains(&b',') {
        return value.len();
    }
    let (mut quoted, mut angle, mut escaped) = (false, false, false);
    for (at, &byte) in value.iter().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'<' if !quoted => angle = true,
            b'>' if !quoted => angle = false,
            b',' if !quoted && !angle => return at,
            _ => {}
        }
    }
    value.len()
}

/// Returns the values of a comma-separated list, without empty values.
pub(crate) fn split_list(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (item, tail) = rest.split_at(first_value_end(rest).min(rest.len()));
            rest = tail.get(1..).unwrap_or_default();
            let item = item.trim_ascii();
            if !item.is_empty() {
                return Some(item);
            }
        }
        None
    })
}

/// Returns the full name of a header field. `letter` is the compact form of the name (RFC 3261 §7.3.3 and later RFCs).
pub(crate) fn in_full(letter: u8) -> Option<&'static str> {
    Some(match letter.to_ascii_lowercase() {
        b'a' => "Accept-Contact",
        b'b' => "Referred-By",
        b'c' => "Content-Type",
        b'd' => "Request-Disposition",
        b'e' => "Content-Encoding",
        b'f' => "From",
        b'i' => "Call-ID",
        b'j' => "Reject-Contact",
        b'k' => "Supported",
        b'l' => "Content-Length",
        b'm' => "Contact",
        b'n' => "Identity-Info",
        b'o' => "Event",
        b'r' => "Refer-To",
        b's' => "Subject",
        b't' => "To",
        b'u' => "Allow-Events",
        b'v' => "Via",
        b'x' => "Session-Expires",
        b'y' => "Identity",
        _ => return None,
    })
}

/// Writes the Via hop with a new `received` parameter, and with a new `rport` parameter if `rport` is true (RFC 3261
/// §18.2.1, RFC 3581 §4). If the hop already has one of these parameters, the old value is left out.
pub(crate) fn push_received(out: &mut Vec<u8>, hop: &[u8], source: SocketAddr, rport: bool) {
    let mut quoted = false;
    let parts = hop.split(|&byte| {
        quoted ^= byte == b'"';
        byte == b';' && !quoted
    });
    for (at, part) in parts.enumerate() {
        let name = part.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
        if at > 0 && (name.eq_ignore_ascii_case(b"received") || name.eq_ignore_ascii_case(b"rport")) {
            continue;
        }
        if at > 0 {
            out.push(b';');
        }
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b";received=");
    push_ip(out, source.ip().to_canonical());
    if rport {
        out.extend_from_slice(b";rport=");
        push_number(out, source.port().into());
    }
}

/// Writes a decimal number. Does not use `fmt`, which is slower.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// Writes an IP address in text form.
pub(crate) fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                push_number(out, octet.into());
            }
        }
        IpAddr::V6(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_outside_quotes_and_brackets_only() {
        assert_eq!(first_value_end(b"\"a, b\" <sip:x,y@h;lr>, <sip:z;lr>"), 21);
    }

    #[test]
    fn header_names_with_capital_initials_are_recognised() {
        assert!(is_titled(b"User-Agent") && is_titled(b"P-Asserted-Identity") && is_titled(b"X-Cid2"));
        assert!(!is_titled(b"user-agent") && !is_titled(b"X-CID") && !is_titled(b"X-") && !is_titled(b"Sip-Etag"));
    }

    #[test]
    fn core_header_names_are_recognised_in_any_case_and_in_their_compact_form() {
        assert!(is_core(b"VIA") && is_core(b"l") && is_core(b"proxy-authorization"));
        assert!(!is_core(b"X-Via") && !is_core(b"Diversion"));
    }
}
