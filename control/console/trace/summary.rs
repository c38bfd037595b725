//! Short summaries of SIP messages. The parser is lenient, so that malformed messages have a summary too.

use tandem_settings::printable::printable;

/// Maximum length of a summary, in characters.
const LONGEST: usize = 120;

/// Returns the start line in short form, for example `INVITE sip:600@192.0.2.1`, `BYE` or `200 OK (INVITE)`. For a
/// request within a dialog, the result does not contain the URI.
pub(super) fn line(message: &[u8]) -> String {
    let first = text(message.split(|&byte| byte == b'\n').next().unwrap_or_default());
    if let Some(status) = first.strip_prefix("SIP/2.0 ") {
        let method = field(message, "CSeq", "").and_then(|cseq| Some(cseq.split_whitespace().nth(1)?.to_owned()));
        return clip(&method.map_or_else(|| status.to_owned(), |method| format!("{status} ({method})")));
    }
    let mut words = first.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(method), Some(uri), Some("SIP/2.0")) => {
            let in_dialog = field(message, "To", "t").is_some_and(|to| to.to_ascii_lowercase().contains(";tag="));
            let again = in_dialog && method == "INVITE";
            match () {
                () if again => "INVITE (within the call)".to_owned(),
                () if in_dialog || method == "ACK" || method == "CANCEL" => method.to_owned(),
                () => clip(&format!("{method} {uri}")),
            }
        }
        _ => clip(&format!("not SIP: {first}")),
    }
}

/// Returns a summary of the SDP, for example `PCMU PCMA telephone-event, 127.0.0.1:20000, sendonly, encrypted`. Returns
/// `None` if there is no SDP.
pub(super) fn sdp(message: &[u8]) -> Option<String> {
    let message = String::from_utf8_lossy(message);
    let (_, body) = message.split_once("\r\n\r\n").or_else(|| message.split_once("\n\n"))?;
    let start = if body.starts_with("v=0") { 0 } else { body.find("\nv=0")? + 1 };
    let lines: Vec<&str> = body.get(start..)?.lines().collect();
    let mut media = Vec::new();
    let session_address = lines.iter().take_while(|line| !line.starts_with("m=")).find_map(|line| address(line));
    let mut rest = lines.as_slice();
    while let Some(at) = rest.iter().position(|line| line.starts_with("m=")) {
        let (_, from) = rest.split_at(at);
        let end = from.iter().skip(1).position(|line| line.starts_with("m=")).map_or(from.len(), |end| end + 1);
        let (section, after) = from.split_at(end);
        media.push(stream(section, session_address));
        rest = after;
    }
    Some(if media.is_empty() { "SDP without media".to_owned() } else { clip(&media.join("; ")) })
}

fn stream(section: &[&str], session_address: Option<&str>) -> String {
    let mut words = section.first().and_then(|line| line.strip_prefix("m=")).unwrap_or_default().split_whitespace();
    let (kind, port, protocol) =
        (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut text = if kind == "audio" { String::new() } else { format!("{kind} ") };
    let names: Vec<String> = words.map(|payload_type| codec(section, payload_type)).collect();
    text.push_str(&names.join(" "));
    if port == "0" {
        text.push_str(", refused");
        return text;
    }
    let address = section.iter().find_map(|line| address(line)).or(session_address).unwrap_or("?");
    let bracketed = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    text.push_str(&format!(", {bracketed}:{port}"));
    if let Some(direction) = ["sendonly", "recvonly", "inactive"]
        .iter()
        .find(|direction| section.iter().any(|line| line.strip_prefix("a=") == Some(**direction)))
    {
        text.push_str(&format!(", {direction}"));
    }
    if protocol.contains("SAVP") || section.iter().any(|line| line.starts_with("a=crypto:")) {
        text.push_str(", encrypted");
    }
    text
}

/// Returns the address in a `c=` line.
fn address(line: &str) -> Option<&str> {
    line.strip_prefix("c=IN IP4 ").or_else(|| line.strip_prefix("c=IN IP6 ")).map(str::trim)
}

fn codec(section: &[&str], payload_type: &str) -> String {
    let named = section.iter().find_map(|line| {
        let (number, name) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
        (number == payload_type).then(|| name.split('/').next().unwrap_or(name).trim())
    });
    // The static payload types are in RFC 3551 §6, table 4.
    match (named, payload_type) {
        (Some("telephone-event"), _) => "keys",
        (Some(name), _) => name,
        (None, "0") => "PCMU",
        (None, "8") => "PCMA",
        (None, "9") => "G722",
        (None, "18") => "G729",
        (None, other) => other,
    }
    .to_owned()
}

/// Returns the first value of a header field. The function searches for the long and the short name of the field.
fn field(message: &[u8], name: &str, short: &str) -> Option<String> {
    let head = message.split(|&byte| byte == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    for line in head.skip(1) {
        let line = text(line);
        if let Some((found, value)) = line.split_once(':')
            && (found.trim().eq_ignore_ascii_case(name) || found.trim().eq_ignore_ascii_case(short))
        {
            return Some(value.trim().to_owned());
        }
    }
    None
}

/// Returns text that is safe to print on a terminal.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    printable(text.trim_end()).into_owned()
}

fn clip(text: &str) -> String {
    let text = &*printable(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
