//! Tests of the messages in RFC 4475 and RFC 5118. A listening server must answer each message as the RFC requires,
//! over UDP and over TCP.
//!
//! The messages are written for this test. Each message has the peculiarity of its section in the RFC. Some sections of
//! the RFC apply only to a registrar or a proxy. For these sections, the test covers only the part that applies to a
//! UAS.

use super::*;

/// The expected reply to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Status(u16),
    /// A final response that is not a success. The status code depends on the settings of the server.
    Refused,
    /// Any response. The message is valid, but the server may refuse the request.
    Some,
    None,
}

use Reply::{None as Silence, Refused, Some as Answered, Status};

/// One test case. The tuple contains the section of the RFC, the peculiarity, the message, the reply over UDP and the
/// reply over TCP.
struct Case(&'static str, &'static str, String, Reply, Reply);

/// Returns a request with the given lines and with all other lines that every request needs. `{T}` is replaced by the
/// transport. `{B}` is replaced by a text that makes the message unique.
fn request(method: &str, uri: &str, lines: &[&str], body: &str) -> String {
    let given = |name: &str| lines.iter().any(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    let mut text = format!("{method} {uri} SIP/2.0\r\n");
    let cseq = format!("CSeq: 7 {method}");
    for (name, line) in [
        ("via", "Via: SIP/2.0/{T} 192.0.2.7;branch=z9hG4bK{B};rport"),
        ("max-forwards", "Max-Forwards: 70"),
        ("from", "From: <sip:caller@example.net>;tag=f{B}"),
        ("to", "To: <sip:callee@example.com>"),
        ("call-id", "Call-ID: {B}"),
        ("cseq", &cseq),
        ("contact", "Contact: <sip:caller@192.0.2.7>"),
    ] {
        if !given(name) {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    for line in lines.iter().filter(|line| !line.ends_with(": absent")) {
        text.push_str(line);
        text.push_str("\r\n");
    }
    if !given("content-length") && !given("l") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}

fn response(start: &str, via: &str) -> String {
    format!(
        "{start}\r\nVia: {via}\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>;tag=2\r\n\
         Call-ID: {{B}}\r\nCSeq: 1 INVITE\r\nContact: <sip:b@192.0.2.7>\r\nContent-Length: 0\r\n\r\n"
    )
}

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 49217 RTP/AVP 0\r\n";
const SDP_6: &str =
    "v=0\r\no=- 1 1 IN IP6 2001:db8::20\r\ns=-\r\nc=IN IP6 2001:db8::20\r\nt=0 0\r\nm=audio 49217 RTP/AVP 0\r\n";
const TYPE: &str = "Content-Type: application/sdp";

fn rfc_4475() -> Vec<Case> {
    let invite = |uri: &str, lines: &[&str]| {
        let lines: Vec<&str> = lines.iter().copied().chain([TYPE]).collect();
        request("INVITE", uri, &lines, SDP)
    };
    let options = |uri: &str, lines: &[&str]| request("OPTIONS", uri, lines, "");
    let register = |lines: &[&str]| request("REGISTER", "sip:example.com", lines, "");
    let callee = "sip:callee@example.com";
    let both = |section, about, message, reply| Case(section, about, message, reply, reply);
    let long = "long".repeat(60);
    let tortuous = format!(
        "INVITE sip:callee@example.com;unknownparam SIP/2.0\r\nTO :\r\n sip:callee@example.com ;   tag    = x{{B}}\r\n\
         from   : \"J Rosenberg \\\\\\\"\"       <sip:caller@example.com>\r\n  ;\r\n  tag = 98asjd8\r\nMaX-fOrWaRdS: 0068\r\n\
         Call-ID: {{B}}\r\nCSeq: 0009\r\n  INVITE\r\nVia  : SIP  /   2.0\r\n /{{T}}\r\n    192.0.2.2;rport;branch=z9hG4bK{{B}}\r\n\
         s :\r\nNewFangledHeader:   newfangled value\r\n continued newfangled value\r\nUnknownHeaderWithUnusualValue: ;;,,;;,;\r\n\
         Content-Type: application/sdp\r\nRoute:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n\
         v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n\
         m:\"Quoted string \\\"\\\"\" <sip:caller@192.0.2.2> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n\
         l: {}\r\n\r\n{SDP}",
        SDP.len()
    )
    .replace(" ;   tag    = x{B}", "");
    vec![
        both("3.1.1.1", "folded, abbreviated and unknown headers", tortuous, Status(100)),
        both(
            "3.1.1.2",
            "every character that a token may have",
            request(
                "!interesting-Method0123456789_*+`.%indeed'~",
                "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
                &[],
                "",
            ),
            Refused,
        ),
        both(
            "3.1.1.3",
            "percent escapes that hide a scheme",
            invite("sip:sips%3Auser%40example.com@example.net", &["To: <sip:%75se%72@example.com>"]),
            Status(100),
        ),
        both(
            "3.1.1.4",
            "escaped NULs in URIs",
            register(&["To: <sip:null-%00-null@example.com>", "Contact: <sip:%00@host5.example.com>"]),
            Answered,
        ),
        both(
            "3.1.1.5",
            "a percent in a method is no escape",
            request("RE%47IST%45R", "sip:registrar.example.com", &["To: \"%Z%45\" <sip:resource@example.com>"], ""),
            Refused,
        ),
        both(
            "3.1.1.6",
            "no space before the angle bracket",
            options("sip:user@example.com", &["From: caller<sip:caller@example.com>;tag=323"]),
            Status(200),
        ),
        both(
            "3.1.1.7",
            "long values everywhere",
            invite(
                &format!("sip:callee@{long}.example.com;{long}={long}"),
                &[
                    &format!("From: \"{long}\" <sip:caller@example.com;{long}>;tag={long}"),
                    &format!("Subject: {long}{long}"),
                    &format!("X-{long}: {long}"),
                ],
            ),
            Status(100),
        ),
        both("3.1.1.8", "octets after the message", options(callee, &["Content-Length: 0"]) + "\r\n\r\n", Status(200)),
        both(
            "3.1.1.9",
            "semicolons in the user part",
            options("sip:user;par=u%40example.net@example.com", &[]),
            Status(200),
        ),
        both(
            "3.1.1.10",
            "transports that nobody speaks, further down",
            options(
                callee,
                &[
                    "Via: SIP/2.0/{T} 192.0.2.7;branch=z9hG4bK{B};rport",
                    "Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKkasjdf",
                    "Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980",
                    "Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en",
                ],
            ),
            Status(200),
        ),
        both(
            "3.1.1.11",
            "a body of several parts",
            request(
                "MESSAGE",
                callee,
                &["Content-Type: multipart/mixed;boundary=7a9cbec02ceef655"],
                "--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655--\r\n",
            ),
            Refused,
        ),
        both(
            "3.1.1.12",
            "an unusual reason phrase",
            response("SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e}", "SIP/2.0/{T} 192.0.2.198;branch=z9hG4bK1324923"),
            Silence,
        ),
        both(
            "3.1.1.13",
            "no reason phrase",
            response("SIP/2.0 100 ", "SIP/2.0/{T} 192.0.2.105;branch=z9hG4bK2398ndaoe"),
            Silence,
        ),
        both(
            "3.1.2.1",
            "separators with nothing between them",
            invite(callee, &["Via: SIP/2.0/{T} 192.0.2.15;;,;,,", "From: <sip:caller@example.net>;;tag=1"]),
            Status(400),
        ),
        Case(
            "3.1.2.2",
            "a body that is shorter than said",
            request("INVITE", callee, &[TYPE, "Content-Length: 9999"], SDP),
            Status(400),
            Silence,
        ),
        both(
            "3.1.2.3",
            "a negative Content-Length",
            request("INVITE", callee, &[TYPE, "Content-Length: -999"], SDP),
            Status(400),
        ),
        both(
            "3.1.2.4",
            "numbers too large",
            options(
                callee,
                &["CSeq: 36893488147419103232 OPTIONS", "Max-Forwards: 300", "Expires: 1000000000000000000"],
            ),
            Status(400),
        ),
        both(
            "3.1.2.5",
            "numbers too large in a response",
            response("SIP/2.0 503 Service Unavailable", "SIP/2.0/{T} 192.0.2.7;branch=z9hG4bKx")
                .replace("CSeq: 1", "CSeq: 9292394834772304023312"),
            Silence,
        ),
        both(
            "3.1.2.6",
            "a quotation that does not end",
            invite(callee, &["To: \"Mr. J. User <sip:callee@example.com>"]),
            Status(400),
        ),
        both("3.1.2.7", "angle brackets around the Request-URI", invite("<sip:user@example.com>", &[]), Status(400)),
        both("3.1.2.8", "a space in the Request-URI", invite("sip:user@example.com; lr", &[]), Status(400)),
        both("3.1.2.9", "two spaces in the request line", invite(" sip:user@example.com ", &[]), Status(400)),
        both(
            "3.1.2.10",
            "spaces at the end of the request line",
            options(callee, &[]).replacen("SIP/2.0\r\n", "SIP/2.0  \r\n", 1),
            Status(400),
        ),
        both(
            "3.1.2.11",
            "headers in the Request-URI",
            invite("sip:user@example.com?Route=%3Csip:example.com%3E", &[]),
            Status(400),
        ),
        both(
            "3.1.2.12",
            "a date in a zone that is none; it concerns nobody here",
            invite(callee, &["Date: Fri, 01 Jan 2010 16:00:00 EST"]),
            Status(100),
        ),
        both(
            "3.1.2.13",
            "a Contact with headers and no brackets",
            register(&["Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E"]),
            Refused,
        ),
        both(
            "3.1.2.14",
            "spaces within an address",
            options(callee, &["To: \"Watson, Thomas\" < sip:t.watson@example.org >"]),
            Status(400),
        ),
        both(
            "3.1.2.15",
            "a display name that is no token",
            options(callee, &["To: Bell, Alexander <sip:a.g.bell@example.com>"]),
            Status(400),
        ),
        both(
            "3.1.2.16",
            "a version of SIP to come",
            options(callee, &[]).replacen("SIP/2.0\r\n", "SIP/7.0\r\n", 1),
            Status(505),
        ),
        both("3.1.2.17", "another method in CSeq", options(callee, &["CSeq: 8 INVITE"]), Status(400)),
        both(
            "3.1.2.18",
            "an unknown method, and another in CSeq",
            request("NEWMETHOD", callee, &["CSeq: 8 INVITE"], ""),
            Refused,
        ),
        both(
            "3.1.2.19",
            "a status of ten digits",
            response("SIP/2.0 4294967301 better not break the receiver", "SIP/2.0/{T} 192.0.2.105;branch=z9hG4bKx"),
            Silence,
        ),
        both(
            "3.2.1",
            "a branch that is the cookie alone",
            options(callee, &["Via: SIP/2.0/{T} 192.0.2.7;rport;branch=z9hG4bK"]),
            Status(200),
        ),
        both(
            "3.3.1",
            "no Call-ID, From and To",
            request("INVITE", callee, &["Call-ID: absent", "From: absent", "To: absent"], ""),
            Status(400),
        ),
        both(
            "3.3.2",
            "a scheme that nobody knows",
            options("nobodyKnowsThisScheme:totallyopaquecontent", &[]),
            Status(416),
        ),
        both(
            "3.3.3",
            "a scheme that is known, for something else",
            options("soap.beep://192.0.2.103:3002", &[]),
            Status(416),
        ),
        both(
            "3.3.4",
            "schemes that nobody knows in From and To",
            options(callee, &["To: <isbn:2983792873>", "From: <http://www.example.com>;tag=3234233"]),
            Status(200),
        ),
        both(
            "3.3.5",
            "an extension that is required",
            options(
                callee,
                &["Require: nothingSupportsThis, nothingSupportsThisEither", "Proxy-Require: noProxiesSupportThis"],
            ),
            Status(420),
        ),
        both(
            "3.3.6",
            "a body that nobody knows",
            request("INVITE", callee, &["Content-Type: application/unknownformat"], "<audio>\r\n</audio>"),
            Status(415),
        ),
        both(
            "3.3.7",
            "an authorization that nobody knows",
            register(&["Authorization: NoOneKnowsThisScheme opaque-data=here"]),
            Refused,
        ),
        both(
            "3.3.8",
            "two of what there may be one of",
            options(callee, &["CSeq: 5 OPTIONS", "CSeq: 59 OPTIONS", "Call-ID: {B}", "Call-ID: {B}x"]),
            Status(400),
        ),
        both(
            "3.3.9",
            "two lengths",
            request(
                "OPTIONS",
                callee,
                &["Content-Length: 13", "Content-Length: 5"],
                "There's no way to know how many octets are supposed to be here.\r\n",
            ),
            Status(400),
        ),
        both(
            "3.3.10",
            "a response by way of a broadcast address",
            response("SIP/2.0 200 OK", "SIP/2.0/{T} 255.255.255.255;branch=z9hG4bKx"),
            Silence,
        ),
        both("3.3.11", "no hops left, and it has arrived", options(callee, &["Max-Forwards: 0"]), Status(200)),
        both(
            "3.3.12",
            "parameters of the Contact itself",
            register(&["Contact: sip:+19725552222@gw1.example.net;unknownparam"]),
            Answered,
        ),
        both(
            "3.3.13",
            "parameters of the Contact's URI",
            register(&["Contact: <sip:+19725552222@gw1.example.net;unknownparam>"]),
            Answered,
        ),
        both(
            "3.3.14",
            "escaped headers in a Contact",
            register(&["Contact: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>"]),
            Answered,
        ),
        both(
            "3.3.15",
            "nothing that we send is accepted",
            invite(callee, &["Accept: text/nobodyKnowsThis"]),
            Status(406),
        ),
        both(
            "3.4",
            "as RFC 2543 had it: no tag, no branch, no Max-Forwards",
            invite(
                callee,
                &["Via: SIP/2.0/{T} 192.0.2.7;rport", "From: sip:caller{B}@example.com", "Max-Forwards: absent"],
            ),
            Status(100),
        ),
    ]
}

fn rfc_5118() -> Vec<Case> {
    let options = |uri: &str, lines: &[&str]| request("OPTIONS", uri, lines, "");
    let both = |section, about, message, reply| Case(section, about, message, reply, reply);
    vec![
        both(
            "4.1",
            "an address in brackets",
            options("sip:[2001:db8::10]", &["Contact: <sip:[2001:db8::1]>"]),
            Status(200),
        ),
        both("4.2", "an address without them", options("sip:2001:db8::10", &[]), Status(400)),
        both(
            "4.3",
            "what looks like a port is the address's end",
            options("sip:[2001:db8::10:5070]", &[]),
            Status(200),
        ),
        both("4.4", "a port behind the brackets", options("sip:[2001:db8::10]:5070", &[]), Status(200)),
        both(
            "4.5.1",
            "received without brackets",
            options(
                "sip:[2001:db8::10]",
                &["Via: SIP/2.0/{T} [2001:db8::9:1];rport;received=2001:db8::9:255;branch=z9hG4bK{B}"],
            ),
            Status(200),
        ),
        both(
            "4.5.2",
            "received in brackets",
            options(
                "sip:[2001:db8::10]",
                &["Via: SIP/2.0/{T} [2001:db8::9:1];rport;received=[2001:db8::9:255];branch=z9hG4bK{B}"],
            ),
            Status(200),
        ),
        both(
            "4.6",
            "an address in the SDP, where it has no brackets",
            request("INVITE", "sip:user@[2001:db8::10]", &[TYPE], SDP_6),
            Status(100),
        ),
        both(
            "4.7",
            "both families in one message",
            options(
                "sip:user@host.example.com",
                &[
                    "Via: SIP/2.0/{T} [2001:db8::9:1]:6050;rport;branch=z9hG4bK{B}",
                    "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144",
                    "Route: <sip:[2001:db8::9:1];lr>, <sip:192.0.2.2;lr>",
                ],
            ),
            Status(200),
        ),
        both(
            "4.8",
            "both families in one SDP",
            request(
                "INVITE",
                "sip:user@[2001:db8::10]",
                &[TYPE],
                &format!("{SDP_6}m=video 50000 RTP/AVP 31\r\nc=IN IP4 192.0.2.1\r\n"),
            ),
            Status(100),
        ),
        both(
            "4.9",
            "IPv4 addresses mapped into IPv6",
            request("INVITE", "sip:user@example.com", &[TYPE, "Contact: <sip:[::ffff:192.0.2.10]:19823>"], SDP),
            Status(100),
        ),
        both(
            "4.10",
            "a colon too many, which RFC 3261's grammar let pass: taken, as the RFC hopes",
            options("sip:user@[2001:db8:::192.0.2.1]", &[]),
            Status(200),
        ),
    ]
}

/// Sends the message and then an OPTIONS request over UDP. Returns the status of the reply to the message, if a reply
/// came before the reply to OPTIONS. Also returns the number of replies.
async fn by_udp(server: SocketAddr, message: &str, branch: &str) -> (Option<u16>, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(message.as_bytes(), server).await.unwrap();
    socket.send_to(super::options("UDP", &format!("after{branch}")).as_bytes(), server).await.unwrap();
    let mut buffer = vec![0; 65_536];
    let (mut first, mut count) = (None, 0);
    loop {
        let (length, _) = timeout(DEADLINE, socket.recv_from(&mut buffer)).await.expect("an answer in time").unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        if text.contains(&format!("after{branch}")) {
            assert!(text.starts_with("SIP/2.0 200 "), "{text}");
            return (first, count);
        }
        first = first.or_else(|| status(&text));
        count += 1;
    }
}

async fn by_tcp(server: SocketAddr, message: &str, branch: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(message.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // The server closes the connection if octets cannot be framed. The connection is reset if unread octets are left.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("closed in time");
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(super::options("TCP", branch).as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, branch).await.starts_with("SIP/2.0 200 "));
    status(&String::from_utf8_lossy(&answer))
}

fn status(text: &str) -> Option<u16> {
    // The answer to a keep-alive may come first (RFC 5626 §3.5.1).
    text.trim_start().strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
}

fn fits(reply: Reply, status: Option<u16>) -> bool {
    match reply {
        Status(wanted) => status == Some(wanted),
        Refused => status.is_some_and(|status| status >= 300),
        Answered => status.is_some(),
        Silence => status.is_none(),
    }
}

async fn judge(rfc: &str, cases: Vec<Case>) {
    let (handle, mut events) = driver(|_| {}).await;
    let (udp, tcp) = (address(&handle, Transport::Udp), address(&handle, Transport::Tcp));
    let count = cases.len();
    let mut wrong = Vec::new();
    for (number, Case(section, about, message, over_udp, over_tcp)) in cases.into_iter().enumerate() {
        let unique = |transport: &str| format!("{transport}{number}x{}", rfc.replace(' ', ""));
        let written = |transport: &str| message.replace("{T}", transport).replace("{B}", &unique(transport));
        let (answer, replies) = by_udp(udp, &written("UDP"), &unique("u")).await;
        if !fits(over_udp, answer) || replies > 1 {
            wrong.push(format!(
                "{rfc} {section} ({about}) over UDP: {answer:?}, {replies} replies; wanted {over_udp:?}"
            ));
        }
        let answer = by_tcp(tcp, &written("TCP"), &unique("t")).await;
        if !fits(over_tcp, answer) {
            wrong.push(format!("{rfc} {section} ({about}) over TCP: {answer:?}; wanted {over_tcp:?}"));
        }
        while let Ok(event) = events.try_recv() {
            if let Event::Incoming { leg, .. } = event {
                handle.post(hangup(leg));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are not answered as they should be:\n{}", wrong.len(), wrong.join("\n"));
    handle.shutdown().await;
}

#[tokio::test]
async fn each_message_of_rfc_4475_gets_the_response_that_the_rfc_requires() {
    let cases = rfc_4475();
    assert_eq!(cases.len(), 49);
    judge("RFC 4475", cases).await;
}

#[tokio::test]
async fn each_message_of_rfc_5118_gets_the_response_that_the_rfc_requires() {
    judge("RFC 5118", rfc_5118()).await;
}
