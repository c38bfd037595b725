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

const INVITE: &str = "INVITE sip:+15551230001@192.0.2.1:5060;user=phone SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:6000;branch=z9hG4bK-1-0;rport\r\n\
    From: \"A. Caller\" <sip:+15557654321@192.0.2.9:6000>;tag=1-a\r\nTo: <sip:+15551230001@192.0.2.1:5060>\r\nCall-ID: 1-77@192.0.2.9\r\n\
    CSeq: 1 INVITE\r\nContact: <sip:+15557654321@192.0.2.9:6000>\r\nMax-Forwards: 70\r\nAllow: INVITE, ACK, BYE\r\nk: timer\r\n\
    Subject: Call, with a comma\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";
const OK: &str = "SIP/2.0 200 OK, good\r\nVia: SIP/2.0/UDP h.example.COM;branch=z9hG4bK2;received=192.0.2.1\r\n\
    v: SIP/2.0/TCP other\r\nFrom: <sip:a@h;transport=tcp;lr>;tag=a\r\nTo: Bob B <sips:b@[2001:db8::1]>;tag=b\r\nCall-ID:1\r\n\
    CSeq: 2147483647 BYE\r\nContent-Length: 0\r\n\r\n";

#[test]
fn what_is_read_by_hand_is_what_the_parser_reads() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let ok = OK.replace("[2001:db8::1]", "example.net:5061");
    for message in [INVITE, &ok] {
        assert!(plain::read(&Bytes::copy_from_slice(message.as_bytes())).is_some(), "{message}");
    }
    assert!(plain::read(&Bytes::from_static(OK.as_bytes())).is_none(), "an IPv6 reference is left to the parser");
    let mut rng = StdRng::from_seed([5; 32]);
    let mut plain = 0;
    for round in 0..20_000 {
        let mut data = if round % 2 == 0 { INVITE.as_bytes().to_vec() } else { ok.as_bytes().to_vec() };
        for _ in 0..=rng.next_u32() % 3 {
            let at = rng.next_u32() as usize % data.len();
            let byte = b"\r\n\0 \t\";,<>:=@%?/[]0aZ\\\xff"[rng.next_u32() as usize % 23];
            match rng.next_u32() % 3 {
                0 => data[at] = byte,
                1 => drop(data.remove(at)),
                _ => data.insert(at, byte),
            }
        }
        fuzz_message(&data);
        plain += usize::from(plain::read(&Bytes::from(data)).is_some());
    }
    assert!(plain > 2_000, "{plain}");
}

#[test]
fn compact_names_are_those_that_the_parser_knows() {
    for letter in 0..=u8::MAX {
        let name = HeaderName::parse(&Bytes::copy_from_slice(&[letter]));
        let known = !matches!(name, HeaderName::Other(_));
        assert_eq!(crate::header::in_full(letter).map(str::as_bytes), known.then(|| name.canonical()), "{letter}");
    }
}
