//! SDP in a multipart body (RFC 5621 §3.1, RFC 2046 §5.1). Such bodies come from SIP-I carriers, and from devices that
//! also send their location.

use std::borrow::Cow;

use bytes::Bytes;

/// Maximum depth of the search in multipart bodies that contain multipart bodies.
const MAX_DEPTH: usize = 3;
/// Maximum number of parts that are searched in each multipart body.
const MAX_PARTS: usize = 16;

/// Returns whether the Content-Type is a multipart type.
pub(super) fn is_multipart(content_type: &str) -> bool {
    content_type.trim_start().get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/"))
}

/// Returns the first part that contains the SDP of the session.
pub(super) fn sdp(content_type: &str, body: &Bytes) -> Option<Bytes> {
    within(content_type, body, MAX_DEPTH).map(|part| body.slice_ref(part))
}

fn within<'a>(content_type: &str, body: &'a [u8], depth: usize) -> Option<&'a [u8]> {
    let depth = depth.checked_sub(1)?;
    let boundary = parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty())?;
    parts(body, &boundary).into_iter().find_map(|part| {
        let (head, content) = split_head(part);
        let kind = field(&head, "content-type").or_else(|| field(&head, "c"))?;
        if is_multipart(kind) {
            return within(kind, content, depth);
        }
        let is_sdp = kind.split(';').next()?.trim().eq_ignore_ascii_case("application/sdp");
        let plain = field(&head, "content-transfer-encoding")
            .is_none_or(|encoding| ["7bit", "8bit", "binary"].iter().any(|plain| encoding.eq_ignore_ascii_case(plain)));
        // See RFC 3261 §20.11. The SDP of an "early-session" belongs to another session (RFC 3959), so it is ignored.
        let session = field(&head, "content-disposition").is_none_or(|disposition| {
            disposition.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("session"))
        });
        (is_sdp && plain && session && !content.is_empty()).then_some(content)
    })
}

/// Returns the parts between the delimiter lines. The last line break before a delimiter belongs to the delimiter and
/// not to the part.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let (mut parts, mut begun, mut at) = (Vec::new(), None, 0);
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        let next = at + line.len();
        let delimiter = line.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary.as_bytes()));
        let rest = delimiter.map(<[u8]>::trim_ascii_end);
        if let Some(b"" | b"--") = rest {
            if let Some(begun) = begun.replace(next) {
                let part = body.get(begun..at).unwrap_or_default();
                let part = part.strip_suffix(b"\n").unwrap_or(part);
                parts.push(part.strip_suffix(b"\r").unwrap_or(part));
            }
            if rest == Some(b"--") || parts.len() == MAX_PARTS {
                break;
            }
        }
        at = next;
    }
    parts
}

/// Splits a part at its empty line. Returns the unfolded header fields and the content.
fn split_head(part: &[u8]) -> (Cow<'_, str>, &[u8]) {
    let mut end = 0;
    for line in part.split_inclusive(|&byte| byte == b'\n') {
        let next = end + line.len();
        if line.trim_ascii().is_empty() {
            let head = part.get(..end).unwrap_or_default();
            let head = String::from_utf8_lossy(head);
            let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
            return (unfolded.into(), part.get(next..).unwrap_or_default());
        }
        end = next;
    }
    (Cow::Borrowed(""), &[])
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Returns the value of a Content-Type parameter, without quotes.
fn parameter(content_type: &str, name: &str) -> Option<String> {
    let mut rest = content_type.split_once(';')?.1;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (value, next) = after.split_once(';').unwrap_or((after, ""));
                (value.trim_end().to_owned(), next)
            }
        };
        // In `key`, a parameter without a value may come before this parameter.
        if key.rsplit(';').next().is_some_and(|key| key.trim().eq_ignore_ascii_case(name)) {
            return Some(value);
        }
        rest = next;
    }
}

/// Reads a quoted string; `quoted` begins after the opening quote. Returns the value of the string and the rest of the
/// text.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            character => value.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n";

    fn find(content_type: &str, body: &str) -> Option<String> {
        sdp(content_type, &Bytes::copy_from_slice(body.as_bytes())).map(|sdp| String::from_utf8(sdp.to_vec()).unwrap())
    }

    #[test]
    fn the_sdp_is_found_among_other_parts() {
        let body = format!(
            "preamble\r\n--b\r\nContent-Type: application/isup;version=x\r\n\r\n\u{1}\u{2}\r\n--b  \r\n\
             content-type : Application/SDP;charset=x\r\nContent-Disposition: session;\r\n handling=required\r\n\r\n{SDP}\r\n\
             --b--\r\nepilogue"
        );
        for kind in ["multipart/mixed;boundary=b", "Multipart/Related; x; start=\"<;>\"; BOUNDARY = \"b\" ;y=z"] {
            assert_eq!(find(kind, &body).as_deref(), Some(SDP), "{kind}");
        }
        // The line break before a delimiter belongs to the delimiter. A second line break belongs to the SDP.
        assert_eq!(find("multipart/mixed;boundary=c", &body), None);
        assert_eq!(find("multipart/mixed", &body), None);
    }

    #[test]
    fn bare_line_feeds_and_a_missing_first_line_break_are_accepted() {
        let body = format!("--b\nc: application/sdp\n\n{SDP}--b--");
        assert_eq!(find("multipart/mixed;boundary=b", &body).as_deref(), SDP.strip_suffix("\r\n"));
    }

    #[test]
    fn an_encoded_part_or_a_part_with_another_disposition_is_not_the_sdp() {
        for field in ["Content-Transfer-Encoding: base64", "Content-Disposition: early-session"] {
            let body = format!("--b\r\nContent-Type: application/sdp\r\n{field}\r\n\r\n{SDP}\r\n--b--");
            assert_eq!(find("multipart/mixed;boundary=b", &body), None, "{field}");
        }
    }

    #[test]
    fn the_depth_and_the_number_of_parts_are_limited() {
        let nested = |depth: usize| {
            let (mut kind, mut body) = ("application/sdp".to_owned(), SDP.to_owned());
            for level in 0..depth {
                body = format!("--{level}x\r\nContent-Type: {kind}\r\n\r\n{body}\r\n--{level}x--\r\n");
                kind = format!("multipart/mixed;boundary={level}x");
            }
            find(&kind, &body).is_some()
        };
        assert!(nested(1) && nested(MAX_DEPTH) && !nested(MAX_DEPTH + 1));
        let many = |count: usize| {
            let others = "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n".repeat(count);
            let body = format!("{others}--b\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--b--");
            find("multipart/mixed;boundary=b", &body).is_some()
        };
        assert!(many(MAX_PARTS - 1) && !many(MAX_PARTS));
    }

    #[test]
    fn a_malformed_body_has_no_sdp() {
        for kind in
            ["multipart/mixed;boundary=\"b", "multipart/mixed;boundary=", "multipart/mixed;;;=;b", "multipart/é"]
        {
            assert_eq!(find(kind, "--b\r\n\r\n--b--"), None, "{kind}");
        }
        for body in
            ["", "--b", "--b\r\n--b--", "--b\r\nContent-Type: application/sdp\r\n\r\n\r\n--b--", "--b\r\nx\r\n--b"]
        {
            assert_eq!(find("multipart/mixed;boundary=b", body), None, "{body:?}");
        }
    }
}
