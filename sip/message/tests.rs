//! Tests of parsing messages, and of the header lines that responses repeat.

use super::*;

fn source() -> SocketAddr {
    "192.0.2.9:6000".parse().unwrap()
}

fn echo(via: &str) -> Echo {
    let message = format!(
        "OPTIONS sip:a@b SIP/2.0\r\nv: {via}\r\nf: <sip:x@y>;tag=1\r\nt: <sip:a@b>\r\ni: 1\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n"
    );
    let Ok(Message::Request(request)) = parse(&Bytes::from(message), source()) else { panic!("must parse") };
    request.echo(source()).unwrap()
}

#[test]
fn received_and_rport_are_filled_in_on_the_top_hop_only() {
    let echo = echo("SIP/2.0/UDP host.invalid:5070;branch=z9hG4bKa;rport;x=\"a;b\", SIP/2.0/TCP other;rport");
    let lines = String::from_utf8(echo.lines).unwrap();
    assert!(
        lines.starts_with(
            "Via: SIP/2.0/UDP host.invalid:5070;branch=z9hG4bKa;x=\"a;b\";received=192.0.2.9;rport=6000, SIP/2.0/TCP other;rport\r\n"
        ),
        "{lines}"
    );
    assert_eq!(echo.destination, source());
}

#[test]
fn without_rport_the_response_goes_to_the_sent_by_port() {
    assert_eq!(echo("SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKa").destination, "192.0.2.9:5070".parse().unwrap());
    assert_eq!(echo("SIP/2.0/UDP h;branch=z9hG4bKa").destination, "192.0.2.9:5060".parse().unwrap());
}

#[test]
fn an_unparsable_request_can_still_be_answered_and_an_unparsable_ack_is_not() {
    let text =
        "INVITE  sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nTo: <sip:a@b>\r\nCSeq: 1 INVITE\r\n\r\n";
    let Err(malformed) = parse(&Bytes::from(text), source()) else { panic!("two spaces are malformed") };
    assert_eq!(malformed.status, 400);
    assert!(malformed.echo.is_some());
    let Err(malformed) = parse(&Bytes::from(text.replace("INVITE  ", "ACK  ")), source()) else { panic!() };
    assert!(malformed.echo.is_none());
}

#[test]
fn the_user_of_a_uri_is_decoded_and_a_number_loses_its_parameters() {
    for (uri, user) in [
        ("sip:+15550001;npdi;rn=+1555@h", "+15550001"),
        ("sip:user;par=u%40example.net@h", "user;par=u@example.net"),
        ("tel:+1-555-0001;phone-context=x", "+15550001"),
        ("sip:h", ""),
    ] {
        assert_eq!(Uri::parse(uri.as_bytes()).unwrap().user(), user, "{uri}");
    }
}

#[test]
fn visual_separators_are_removed_from_numbers_only() {
    for (uri, user) in [
        ("tel:+1-555-123-4567", "+15551234567"),
        ("tel:(030).12-34;phone-context=+49", "0301234"),
        ("sip:+1(555)123-4567@h", "+15551234567"),
        ("sip:%2B1%20555%20123@h", "+1555123"),
        ("sip:555-1234;isub=1@h;user=phone", "5551234"),
        ("sip:555-1234@h", "555-1234"),
        ("sip:+a-b@h", "+a-b"),
        ("sip:+@h;user=phone", "+"),
        ("sip:al-ice@h;user=phone", "al-ice"),
    ] {
        assert_eq!(Uri::parse(uri.as_bytes()).unwrap().user(), user, "{uri}");
    }
}

/// Returns an OPTIONS request. The text `line` in the request is replaced by `by`.
fn options(line: &str, by: &str) -> Bytes {
    const GOOD: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:x@y>;tag=1\r\n\
        To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    assert!(GOOD.contains(line), "{line}");
    Bytes::from(GOOD.replacen(line, by, 1))
}

fn accepted(data: &Bytes) -> Request {
    match read(data) {
        Ok(Message::Request(request)) => request,
        other => panic!("{}: {other:?}", lossy(data)),
    }
}

#[test]
fn each_fault_is_named() {
    use super::uri::UriFault;
    let many = "X: y\r\n".repeat(250);
    let folds = "Call-ID: 1".to_owned() + &"\r\n x".repeat(17);
    let long = "x".repeat(8_192);
    let (long_uri, long_field) = (format!("sip:{long}@b"), format!("Call-ID: {long}"));
    let parameters: String = (0..65).map(|number| format!(";{number}")).collect();
    let parameters = format!("sip:a@b{parameters} ");
    let uri = |fault| Fault::Uri(fault);
    for (line, by, fault) in [
        ("OPTIONS sip", "\r\nOPTIONS sip", Fault::NoStartLine),
        ("a@b SIP", "a@b\r\n SIP", Fault::FoldedStartLine),
        ("sip:a@b", &long_uri, Fault::StartLineTooLong),
        ("OPTIONS sip", "OPTIONS  sip", Fault::RequestLine),
        ("2.0\r\nVia", "2.0 \r\nVia", Fault::RequestLine),
        ("OPTIONS sip", "OPT/IONS sip", Fault::Method),
        ("sip:a@b ", "a ", uri(UriFault::Scheme)),
        ("sip:a@b ", ":a ", uri(UriFault::Scheme)),
        ("sip:a@b ", "<sip:a@b> ", uri(UriFault::Scheme)),
        ("sip:a@b ", "urn:\u{e9} ", uri(UriFault::Character)),
        ("sip:a@b ", "sip:%4@b ", uri(UriFault::Escape)),
        ("sip:a@b ", "sip:@b ", uri(UriFault::User)),
        ("sip:a@b ", "sip:a:\"@b ", uri(UriFault::User)),
        ("sip:a@b ", "sip:a@b@c ", uri(UriFault::Host)),
        ("sip:a@b ", "sip:2001:db8::1 ", uri(UriFault::Port)),
        ("sip:a@b ", "sip:[2001:db8::1 ", uri(UriFault::Host)),
        ("sip:a@b ", "sip:[2001:db8:::1] ", uri(UriFault::Host)),
        ("sip:a@b ", "sip:a@b:65536 ", uri(UriFault::Port)),
        ("sip:a@b ", "sip:a@b:005060 ", uri(UriFault::Port)),
        ("sip:a@b ", "sip:a@b;;lr ", uri(UriFault::Parameter)),
        ("sip:a@b ", &parameters, uri(UriFault::Parameter)),
        ("sip:a@b ", "sip:a@b;lr;%4cr=x ", uri(UriFault::RepeatedParameter)),
        ("sip:a@b ", "tel:+1-2a ", uri(UriFault::Number)),
        ("sip:a@b ", "tel:-() ", uri(UriFault::Number)),
        ("sip:a@b ", "sip:a@b?x=y ", Fault::UriHeaders),
        ("sip:a@b ", "mailto:a@b ", Fault::Scheme),
        ("SIP/2.0", "SIP/3.0", Fault::Version),
        ("0\r\n\r\n", "0\r\n", Fault::NoEndOfHead),
        ("Call-ID: 1", "Call-ID: 1\n", Fault::BareLineBreak),
        ("Call-ID: 1", "Call-ID: 1\r", Fault::BareLineBreak),
        ("Max", &(many + "Max"), Fault::TooManyFields),
        ("Call-ID: 1", &long_field, Fault::FieldTooLong),
        ("Call-ID: 1", &folds, Fault::TooManyFolds),
        ("Call-ID: 1", "Call-ID 1", Fault::FieldName),
        ("Call-ID: 1", "Call ID: 1", Fault::FieldName),
        ("Call-ID: 1\r\n", "", Fault::Missing("Call-ID")),
        ("Call-ID: 1", "Call-ID: ", Fault::Malformed("Call-ID")),
        ("Call-ID: 1", "Call-ID: 1\r\ni: 1", Fault::Repeated("Call-ID")),
        ("Via: ", "X-Via: ", Fault::Missing("Via")),
        ("SIP/2.0/UDP h", "SIP/2.0 h", Fault::Malformed("Via")),
        ("SIP/2.0/UDP h", "SIP/2.0/UDP ;x", Fault::Malformed("Via")),
        ("K1", "K1;;x", Fault::Malformed("Via")),
        ("K1", "K1, SIP/2.0/UDP h;x=\"", Fault::Malformed("Via")),
        ("<sip:x@y>", "\"x <sip:x@y>", Fault::Malformed("From")),
        ("<sip:x@y>", "x, y <sip:x@y>", Fault::Malformed("From")),
        ("<sip:x@y>", "< sip:x@y >", Fault::Malformed("From")),
        ("<sip:x@y>", "sip:x@y?a=b", Fault::Malformed("From")),
        ("tag=1", "tag=\"1", Fault::Malformed("From")),
        ("<sip:a@b>\r", "<sip:a@b\r", Fault::Malformed("To")),
        ("1 OPTIONS", "2147483648 OPTIONS", Fault::Malformed("CSeq")),
        ("1 OPTIONS", "-1 OPTIONS", Fault::Malformed("CSeq")),
        ("1 OPTIONS", "1OPTIONS", Fault::Malformed("CSeq")),
        ("1 OPTIONS", "1 options", Fault::CSeqMethod),
        ("70", "256", Fault::Malformed("Max-Forwards")),
        ("70", "70\r\nMax-Forwards: 70", Fault::Repeated("Max-Forwards")),
        ("Length: 0", "Length: 1", Fault::BodyTooShort),
        ("Length: 0", "Length: 65537", Fault::TooLarge),
        ("Length: 0", "Length: +0", Fault::Malformed("Content-Length")),
        ("Length: 0", "Length: 0\r\nl: 0", Fault::Repeated("Content-Length")),
    ] {
        let data = options(line, by);
        assert_eq!(read(&data).map(|_| ()), Err(fault), "{by}");
    }
    assert_eq!(
        [Fault::TooLarge, Fault::Scheme, Fault::Version, Fault::Method].map(Fault::status),
        [413, 416, 505, 400]
    );
}

#[test]
fn a_folded_field_is_one_line_and_the_body_stays_where_it_is() {
    let data =
        options("Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n", "Max-Forwards:\r\n\t 70 \r\nl: 4\r\n\r\n\r\n x, y");
    let request = accepted(&data);
    assert_eq!((request.max_forwards, &request.content.body[..]), (Some(70), &b"\r\n x"[..]));
    let data = options("From: <sip:x@y>;tag=1", "From:\r\n \"a \\\" b\"  \r\n <sip:x@y>\r\n\t; tag\r\n = 1");
    let request = accepted(&data);
    assert_eq!(request.from.text, "\"a \\\" b\"   <sip:x@y> ; tag = 1");
    assert_eq!((&request.from.display[..], request.from.tag.as_deref()), (&b"a \" b"[..], Some(&b"1"[..])));
}

#[test]
fn spaces_in_a_via_are_ignored_and_its_host_has_one_spelling() {
    for (via, sent_by, port) in [
        ("SIP / 2.0 / UDP first.example.com: 4000;ttl=16 ;branch=z9hG4bKa", "first.example.com:4000", Some(4000)),
        ("SIP/2.0/TLS Example.COM;branch=z9hG4bKa", "example.com", None),
        ("SIP/2.0/WSS [2001:DB8:0::1]:05061;branch=z9hG4bKa", "[2001:db8::1]:5061", Some(5061)),
        ("SIP/2.0/X-Y 192.0.2.1 ; branch = \"z9hG4bKa\", SIP/2.0/UDP b", "192.0.2.1", None),
    ] {
        let via = accepted(&options("SIP/2.0/UDP h;branch=z9hG4bK1", via)).via;
        assert_eq!((&via.sent_by[..], via.port), (sent_by.as_bytes(), port));
        assert_eq!(via.branch.as_deref(), Some(&b"z9hG4bKa"[..]));
    }
}

#[test]
fn the_application_gets_header_names_in_their_usual_spelling() {
    let data = options("Max-Forwards: 70", "USER-AGENT: a\r\ns: b\r\nX-cId: c\r\nsip-etag: d\r\nMax-Forwards: 70");
    let headers = accepted(&data).content.application_headers();
    let names: Vec<&str> = headers.iter().map(|header| &*header.name).collect();
    assert_eq!(names, ["User-Agent", "Subject", "X-cId", "SIP-ETag"]);
}

#[test]
fn the_type_of_sdp_may_have_any_case_and_parameters() {
    for (kind, is_sdp) in [
        ("application/sdp", true),
        ("Application / SDP ; charset=\"utf-8\"", true),
        ("application/sdp;;", false),
        ("application/sdpx", false),
        ("application", false),
    ] {
        let data = options("Content-Length: 0\r\n\r\n", &format!("c: {kind}\r\n\r\nv=0\r\n"));
        assert_eq!(accepted(&data).content.has_sdp(), is_sdp, "{kind}");
    }
}

#[test]
fn uris_are_equivalent_by_the_rules_of_the_rfc() {
    for (one, other, are) in [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false),
        ("sip:b@h?to=x&priority=urgent", "sip:b@h?Priority=urgent&to=x", true),
        ("sip:b@h?a=x&a=x&a=y", "sip:b@h?a=x&a=y&a=y", false),
        ("SIP:ALICE@h", "sip:alice@h", false),
        ("sip:bob@h", "sip:bob@h:5060", false),
        ("sip:bob@h", "sip:bob@h;transport=udp", false),
        ("sip:a%40b@h", "sip:a%2540b@h", false),
        ("sip:a@h", "sips:a@h", false),
        ("tel:+1-201-555-0123", "TEL:+12015550123", true),
        ("tel:7042;ext=1-2;phone-context=+1-2", "tel:7042;phone-context=+12;EXT=12", true),
        ("tel:7042;phone-context=a-b", "tel:7042;phone-context=ab", false),
        ("urn:service:sos", "URN:service:sos", true),
    ] {
        let [one_uri, other_uri] = [one, other].map(|uri| Uri::parse(uri.as_bytes()).unwrap());
        assert_eq!(one_uri.is_equivalent(&other_uri), are, "{one} {other}");
        assert_eq!(other_uri.is_equivalent(&one_uri), are, "{other} {one}");
    }
}
