//! Reading messages and preparing their answers.

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
fn what_is_in_a_number_for_the_eye_only_is_taken_out_where_it_is_a_number() {
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
