//! Rules about header fields that need no parser: which are SIP's own, where a list value ends, what a server adds to a
//! Via.

use std::net::SocketAddr;

/// Fields that are SIP's own bookkeeping, or secrets: the application never sees them, nor may it set them.
pub(crate) fn is_core(name: &str) -> bool {
    const CORE: &[&str] = &[
        "Via",
        "v",
        "From",
        "f",
        "To",
        "t",
        "Call-ID",
        "i",
        "CSeq",
        "Contact",
        "m",
        "Max-Forwards",
        "Route",
        "Record-Route",
        "Content-Length",
        "l",
        "Content-Type",
        "c",
        "Content-Encoding",
        "e",
        "Content-Disposition",
        "MIME-Version",
        "Allow",
        "Supported",
        "k",
        "Require",
        "Proxy-Require",
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Allow-Events",
        "u",
        "Authorization",
        "Proxy-Authorization",
        "WWW-Authenticate",
        "Proxy-Authenticate",
        "Authentication-Info",
        "Session-Expires",
        "x",
        "Min-SE",
        "RSeq",
        "RAck",
        "Timestamp",
        "Unsupported",
        "Replaces",
        "Refer-To",
        "r",
        "Refer-Sub",
        "Event",
        "o",
        "Subscription-State",
    ];
    CORE.iter().any(|core| core.eq_ignore_ascii_case(name))
}

/// Length of the first comma-separated value; commas in quotes and angle brackets do not count.
pub(crate) fn first_value_end(value: &[u8]) -> usize {
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

/// Writes the Via hop with `received` and, if asked for, `rport` (RFC 3261 §18.2.1, RFC 3581 §4) in place of its own.
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
    out.extend_from_slice(format!(";received={}", source.ip().to_canonical()).as_bytes());
    if rport {
        out.extend_from_slice(format!(";rport={}", source.port()).as_bytes());
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
    fn names_are_core_in_any_case_and_in_their_compact_form() {
        assert!(is_core("VIA") && is_core("l") && is_core("proxy-authorization"));
        assert!(!is_core("X-Via") && !is_core("Diversion"));
    }
}
