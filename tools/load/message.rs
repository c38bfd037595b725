//! The part of SIP that a load generator needs. The generator writes its own messages, and reads a few fields of
//! received messages.

use std::net::SocketAddr;

/// A received message.
pub(super) struct Message<'a> {
    text: &'a str,
    body: &'a str,
}

impl<'a> Message<'a> {
    /// Splits a message into head and body. Returns `None` if the message is not text, or if there is no empty line
    /// after the head.
    pub(super) fn parse(data: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(data).ok()?;
        let (text, body) = text.split_once("\r\n\r\n")?;
        Some(Self { text, body })
    }

    pub(super) fn body(&self) -> &'a str {
        self.body
    }

    fn start_line(&self) -> &'a str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Returns the status code of a response, or `None` for a request.
    pub(super) fn status(&self) -> Option<u16> {
        self.start_line().strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Returns the method and the Request-URI of a request, or `None` for a response.
    pub(super) fn request(&self) -> Option<(&'a str, &'a str)> {
        let (method, rest) = self.start_line().split_once(' ')?;
        Some((method, rest.split_once(' ')?.0)).filter(|_| method != "SIP/2.0")
    }

    /// Returns the values of a header field. `name` is the long name of the field, and `short` is the compact name.
    pub(super) fn values(&self, name: &'static str, short: &'static str) -> impl Iterator<Item = &'a str> {
        self.text.lines().skip(1).filter_map(move |line| {
            let (field, value) = line.split_once(':')?;
            let field = field.trim_end();
            (field.eq_ignore_ascii_case(name) || field.eq_ignore_ascii_case(short)).then_some(value.trim())
        })
    }

    /// Returns the first value of a header field, or an empty text if the message does not have the field.
    pub(super) fn value(&self, name: &'static str, short: &'static str) -> &'a str {
        self.values(name, short).next().unwrap_or_default()
    }

    pub(super) fn call_id(&self) -> &'a str {
        self.value("Call-ID", "i")
    }

    /// Returns the number and the method of the CSeq header.
    pub(super) fn cseq(&self) -> (u32, &'a str) {
        let (number, method) = self.value("CSeq", "CSeq").split_once(' ').unwrap_or_default();
        (number.parse().unwrap_or(0), method.trim())
    }

    /// Returns the URI of the Contact header.
    pub(super) fn contact(&self) -> Option<&'a str> {
        uri_of(self.value("Contact", "m"))
    }

    /// Returns the address and port at which the other end wants to receive audio, as stated in the SDP.
    pub(super) fn audio(&self) -> Option<SocketAddr> {
        let line = |start: &str| self.body.lines().find_map(|line| line.strip_prefix(start));
        let address = line("c=IN IP4 ").or_else(|| line("c=IN IP6 "))?.trim().parse().ok()?;
        let port = line("m=audio ")?.split_whitespace().next()?.parse().ok()?;
        Some(SocketAddr::new(address, port))
    }
}

fn uri_of(value: &str) -> Option<&str> {
    match value.split_once('<') {
        Some((_, rest)) => rest.split_once('>').map(|(uri, _)| uri),
        None => value.split([';', ',']).next(),
    }
}

/// Returns the serial number of a call from its Request-URI. The serial number is the last seven digits of the dialled
/// number.
pub(super) fn serial(uri: &str) -> Option<u64> {
    let user = uri.split_once(':')?.1.split(['@', ';']).next()?;
    user.get(user.len().checked_sub(7)?..)?.parse().ok()
}

/// The values that are common to all requests of one call at the calling end.
pub(super) struct Caller<'a> {
    pub(super) run: u32,
    pub(super) call: u64,
    pub(super) from: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) number: &'a str,
}

impl Caller<'_> {
    /// Returns the INVITE with this SDP.
    pub(super) fn invite(&self, sdp: &str) -> String {
        let Self { from, target, .. } = self;
        let uri = self.uri();
        let rest = format!(
            "Contact: <sip:load@{from}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.request("INVITE", &uri, 1, "i", &format!("<sip:{}{:07}@{target}>", self.number, self.call), &rest)
    }

    pub(super) fn uri(&self) -> String {
        format!("sip:{}{:07}@{}", self.number, self.call, self.target)
    }

    pub(super) fn request(&self, method: &str, uri: &str, cseq: u32, branch: &str, to: &str, rest: &str) -> String {
        let Self { run, call, from, .. } = self;
        let rest = if rest.is_empty() { "Content-Length: 0\r\n\r\n" } else { rest };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{run:x}-{call}{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:load@{from}>;tag={run:x}c{call}\r\nTo: {to}\r\nCall-ID: {run:x}-{call}\r\n\
             CSeq: {cseq} {method}\r\n{rest}"
        )
    }
}

/// Returns the serial number of the call that has this Call-ID, or `None` if the call does not belong to this run.
pub(super) fn call_of(call_id: &str, run: u32) -> Option<u64> {
    let (first, call) = call_id.split_once('-')?;
    (u32::from_str_radix(first, 16) == Ok(run)).then(|| call.parse().ok()).flatten()
}

/// Returns a response to a received request.
pub(super) fn response(
    request: &Message<'_>,
    status: &str,
    tag: &str,
    contact: Option<SocketAddr>,
    sdp: &str,
) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    let mut line = |name: &str, value: &str, tail: &str| {
        for part in [name, ": ", value, tail, "\r\n"] {
            text.push_str(part);
        }
    };
    for via in request.values("Via", "v") {
        line("Via", via, "");
    }
    for route in request.values("Record-Route", "Record-Route") {
        line("Record-Route", route, "");
    }
    line("From", request.value("From", "f"), "");
    let to = request.value("To", "t");
    let tail = if to.contains(";tag=") { String::new() } else { format!(";tag={tag}") };
    line("To", to, &tail);
    line("Call-ID", request.call_id(), "");
    line("CSeq", request.value("CSeq", "CSeq"), "");
    if let Some(contact) = contact {
        line("Contact", &format!("<sip:load@{contact}>"), "");
    }
    if !sdp.is_empty() {
        line("Content-Type", "application/sdp", "");
    }
    line("Content-Length", &sdp.len().to_string(), "\r\n");
    text.push_str(sdp);
    text
}

/// Returns an SDP offer or answer with G.711 u-law and telephone-event. Every phone supports both formats. Without
/// telephone-event, a server must search the audio for DTMF digits, and the measured cost would be higher.
pub(super) fn sdp(audio: SocketAddr) -> String {
    let family = if audio.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port) = (audio.ip(), audio.port());
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_end_are_parsed_by_the_other() {
        let (from, target) = ("127.0.0.2:5070".parse().unwrap(), "127.0.0.1:5060".parse().unwrap());
        let caller = Caller { run: 0xab, call: 42, from, target, number: "1" };
        let text = caller.invite(&sdp("127.0.0.2:7000".parse().unwrap()));
        let invite = Message::parse(text.as_bytes()).unwrap();
        let (method, uri) = invite.request().unwrap();
        assert_eq!((method, serial(uri), call_of(invite.call_id(), 0xab)), ("INVITE", Some(42), Some(42)));
        assert_eq!((invite.status(), invite.cseq(), call_of("ac-42", 0xab)), (None, (1, "INVITE"), None));
        assert_eq!(invite.audio(), Some("127.0.0.2:7000".parse().unwrap()));
        assert_eq!(invite.contact(), Some("sip:load@127.0.0.2:5070"));
        let text = response(&invite, "200 OK", "b", Some(target), &sdp(target));
        let ok = Message::parse(text.as_bytes()).unwrap();
        assert_eq!((ok.status(), ok.request(), ok.audio()), (Some(200), None, Some(target)));
        assert!(ok.value("To", "t").ends_with(";tag=b") && ok.value("Via", "v").contains("z9hG4bKab-42i"));
        assert_eq!(serial("sip:+11234567@h"), Some(1_234_567));
        assert_eq!(serial("sip:123@h"), None);
    }
}
