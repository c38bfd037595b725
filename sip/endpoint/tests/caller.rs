//! Tests of outgoing calls.

use std::io::ErrorKind;

use tandem_id::AccountName;

use super::*;
use crate::digest::Credentials;

const LEG: LegId = LegId(1);

impl Bench {
    fn calling() -> (Self, String) {
        Self::calling_with(|_| {})
    }

    /// Creates an outgoing call. Returns the INVITE that the endpoint sent.
    fn calling_with(change: impl FnOnce(&mut crate::Outgoing)) -> (Self, String) {
        let mut bench = Self::new();
        let mut call = outgoing("sip:+15551230002@127.0.0.2");
        change(&mut call);
        bench.command(Command::Invite { leg: LEG, invite: call });
        let invite = bench.expect("INVITE sip:+15551230002@127.0.0.2 SIP/2.0\r\n");
        (bench, invite)
    }

    /// Creates an established call and returns its INVITE.
    fn called() -> (Self, String) {
        let (mut bench, invite) = Self::calling();
        bench.receive(response_to(&invite, 200, "them", WITH_SDP));
        bench.expect("ACK sip:peer@127.0.0.2:5060 ");
        assert!(matches!(bench.event(), Event::Answered { sdp: Some(_), .. }));
        (bench, invite)
    }

    /// Returns a request of the far end in the dialog of `invite`.
    pub(super) fn far_end_request(invite: &str, method: &str, cseq: u32, more: &str) -> String {
        let (lines, body) = more.split_once("\r\n\r\n").unwrap_or((more, ""));
        let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
        format!(
            "{method} sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bK{method}{cseq}\r\nFrom: {};tag=them\r\n\
             To: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            field(invite, "To"),
            field(invite, "From"),
            field(invite, "Call-ID"),
            body.len()
        )
    }
}

#[test]
fn an_outbound_call_rings_is_answered_and_is_hung_up() {
    let (mut bench, invite) = Bench::calling_with(|call| {
        call.from_display = Some("Ann \"A\"".into());
        call.headers.push(Header { name: "Via".into(), value: "not yours".into() });
    });
    assert!(field(&invite, "Via").starts_with("SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bK"));
    assert!(field(&invite, "From").starts_with("\"Ann \\\"A\\\"\" <sip:+15550001@127.0.0.1>;tag="));
    assert_eq!(field(&invite, "To"), "<sip:+15551230002@127.0.0.2>");
    assert_eq!(field(&invite, "Contact"), "<sip:127.0.0.1:5060>");
    assert_eq!(field(&invite, "X-Test"), "1");
    bench.receive(response_to(&invite, 100, "", ""));
    assert!(bench.events.is_empty());
    bench.receive(response_to(&invite, 183, "them", &format!("X-Early: 1\r\n{WITH_SDP}")));
    assert!(
        matches!(bench.event(), Event::Provisional { status: 183, sdp: Some(_), headers, .. } if headers.len() == 1)
    );
    bench.receive(response_to(
        &invite,
        200,
        "them",
        &format!("Record-Route: <sip:p2;lr>,<sip:127.0.0.7;lr>\r\n{WITH_SDP}"),
    ));
    let ack = bench.expect("ACK sip:peer@127.0.0.2:5060 SIP/2.0\r\n");
    assert_eq!(field(&ack, "Route"), "<sip:127.0.0.7;lr>", "the set is reversed for the caller");
    assert_eq!(field(&ack, "CSeq").split(' ').next(), field(&invite, "CSeq").split(' ').next());
    assert_ne!(parameter(field(&ack, "Via"), "branch"), parameter(field(&invite, "Via"), "branch"));
    assert!(matches!(bench.event(), Event::Answered { sdp: Some(_), .. }));
    bench.command(hangup(LEG));
    let bye = bench.expect("BYE sip:peer@127.0.0.2:5060 ");
    bench.receive(response_to(&bye, 200, "", ""));
    assert_eq!(bench.ended(), (EndCause::LocalHangup, None, None));
    bench.empty();
}

#[test]
fn a_repeated_200_gets_the_same_ack_and_the_200_of_another_fork_gets_ack_and_bye() {
    let (mut bench, invite) = Bench::calling();
    let ok = response_to(&invite, 200, "them", WITH_SDP);
    bench.receive(ok.clone());
    let ack = bench.expect("ACK ");
    bench.receive(ok);
    assert_eq!(bench.sent(), ack);
    let fork = response_to(&invite, 200, "other", WITH_SDP);
    bench.receive(fork.clone());
    assert!(field(&bench.expect("ACK "), "To").ends_with(";tag=other"));
    assert!(field(&bench.expect("BYE "), "To").ends_with(";tag=other"));
    bench.receive(fork);
    bench.expect("ACK ");
    bench.silent();
    assert!(matches!(bench.event(), Event::Answered { .. }));
    assert!(bench.events.is_empty());
    assert_eq!(bench.endpoint.legs(), 1);
    bench.command(hangup(LEG));
    bench.empty();
}

#[test]
fn a_hangup_sends_cancel_after_the_first_provisional_response() {
    let (mut bench, invite) = Bench::calling();
    bench.command(hangup(LEG));
    bench.silent();
    bench.receive(response_to(&invite, 100, "", ""));
    let cancel = bench.expect("CANCEL sip:+15551230002@127.0.0.2 ");
    assert_eq!(field(&cancel, "Via"), field(&invite, "Via"));
    assert_eq!(field(&cancel, "CSeq"), field(&invite, "CSeq").replace("INVITE", "CANCEL"));
    assert_eq!(field(&cancel, "Reason"), "Q.850;cause=16");
    bench.receive(response_to(&cancel, 200, "them", ""));
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.silent();
    bench.receive(response_to(&invite, 487, "them", ""));
    let ack = bench.expect("ACK ");
    assert_eq!(field(&ack, "Via"), field(&invite, "Via"));
    assert_eq!(bench.ended(), (EndCause::LocalHangup, Some(487), None));
    bench.receive(response_to(&invite, 487, "them", ""));
    assert_eq!(bench.sent(), ack);
    bench.empty();
}

#[test]
fn a_hangup_without_any_response_ends_with_timer_b() {
    let (mut bench, _) = Bench::calling();
    bench.command(hangup(LEG));
    bench.wait(2_000);
    assert_eq!(bench.ended().0, EndCause::LocalHangup, "reported after 4*T1");
    bench.wait(29_999);
    assert_eq!(bench.endpoint.legs(), 1);
    bench.wait(1);
    assert_eq!(bench.endpoint.legs(), 0);
    assert!(bench.sent.iter().all(|message| message.starts_with("INVITE ")));
    bench.empty();
}

#[test]
fn a_cancelled_invite_without_final_response_ends_after_64_t1() {
    let (mut bench, invite) = Bench::calling();
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.event();
    bench.command(hangup(LEG));
    let cancel = bench.expect("CANCEL ");
    bench.receive(response_to(&cancel, 200, "them", ""));
    bench.wait(32_000);
    assert_eq!(bench.ended().0, EndCause::LocalHangup);
    assert_eq!(bench.endpoint.legs(), 0);
    bench.empty();
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let (mut bench, invite) = Bench::calling();
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.event();
    bench.command(hangup(LEG));
    bench.expect("CANCEL ");
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    let bye = bench.expect("BYE ");
    bench.receive(response_to(&bye, 200, "", ""));
    assert_eq!(bench.ended().0, EndCause::LocalHangup);
    bench.empty();
}

#[test]
fn a_refusal_is_acknowledged_and_reported_with_its_reason_and_contact() {
    let (mut bench, invite) = Bench::calling();
    bench.receive(response_to(&invite, 302, "them", "Contact: <sip:elsewhere@127.0.0.9>\r\nReason: Q.850;cause=23"));
    bench.expect("ACK sip:+15551230002@127.0.0.2 ");
    let Event::Ended { cause, status, reason, headers, .. } = bench.event() else { panic!() };
    assert_eq!((cause, status, reason.as_deref()), (EndCause::Rejected, Some(302), Some("Q.850;cause=23")));
    assert!(headers.iter().any(|header| header.name == "Contact" && header.value == "<sip:elsewhere@127.0.0.9>"));
    bench.empty();
}

fn challenge(realm: &str, nonce: &str, more: &str) -> String {
    format!("Digest realm=\"{realm}\",nonce=\"{nonce}\",qop=\"auth\"{more}")
}

fn with_credentials(call: &mut crate::Outgoing) {
    call.credentials = Some(Credentials { username: "u".into(), password: "p".into() });
}

#[test]
fn both_kinds_of_challenge_are_answered_with_new_cseq_and_branch_and_the_same_call_id() {
    let (mut bench, first) = Bench::calling_with(with_credentials);
    bench.receive(response_to(&first, 407, "x", &format!("Proxy-Authenticate: {}", challenge("proxy", "1", ""))));
    bench.expect("ACK ");
    let second = bench.expect("INVITE ");
    assert!(field(&second, "Proxy-Authorization").contains("realm=\"proxy\""));
    assert_eq!(field(&second, "Call-ID"), field(&first, "Call-ID"));
    assert_eq!(field(&second, "From"), field(&first, "From"));
    assert!(!field(&second, "To").contains("tag"));
    assert_ne!(field(&second, "Via"), field(&first, "Via"));
    let number = |message: &str| field(message, "CSeq").split(' ').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(number(&second), number(&first) + 1);
    let sha = format!("WWW-Authenticate: {}", challenge("server", "2", ",algorithm=SHA-256"));
    bench.receive(response_to(&second, 401, "x", &sha));
    bench.expect("ACK ");
    let third = bench.expect("INVITE ");
    assert!(field(&third, "Authorization").contains("algorithm=SHA-256"));
    assert!(field(&third, "Proxy-Authorization").contains("nc=00000002"));
    bench.receive(response_to(&third, 200, "x", WITH_SDP));
    let ack = bench.expect("ACK ");
    assert_eq!(field(&ack, "Authorization"), field(&third, "Authorization"), "RFC 3261 §22.1");
    bench.event();
    bench.command(hangup(LEG));
    let bye = bench.expect("BYE ");
    assert!(field(&bye, "Authorization").contains("nc=00000002"));
    bench.receive(response_to(&bye, 401, "", &format!("WWW-Authenticate: {}", challenge("server", "3", ""))));
    let bye = bench.expect("BYE ");
    assert!(field(&bye, "Authorization").contains("nonce=\"3\""));
    bench.receive(response_to(&bye, 200, "", ""));
    bench.ended();
    bench.empty();
}

#[test]
fn a_realm_that_refuses_twice_is_not_tried_again_unless_the_nonce_was_stale() {
    let (mut bench, first) = Bench::calling_with(with_credentials);
    let line = |nonce, more| format!("WWW-Authenticate: {}", challenge("r", nonce, more));
    bench.receive(response_to(&first, 401, "x", &line("1", "")));
    bench.expect("ACK ");
    let second = bench.expect("INVITE ");
    bench.receive(response_to(&second, 401, "x", &line("2", ",stale=true")));
    bench.expect("ACK ");
    let third = bench.expect("INVITE ");
    assert!(field(&third, "Authorization").contains("nonce=\"2\""));
    bench.receive(response_to(&third, 401, "x", &line("3", "")));
    bench.expect("ACK ");
    bench.silent();
    assert_eq!(bench.ended().1, Some(401));
    let (mut bench, first) = Bench::calling();
    bench.receive(response_to(&first, 401, "x", &line("1", "")));
    assert_eq!(bench.ended().1, Some(401), "no credentials");
    bench.empty();
}

#[test]
fn a_sent_re_invite_is_answered_refused_or_sent_again_after_glare() {
    let (mut bench, _) = Bench::called();
    let offer = || Command::Offer { leg: LEG, sdp: Bytes::from_static(SDP) };
    bench.command(offer());
    let again = bench.expect("INVITE sip:peer@127.0.0.2:5060 ");
    assert!(field(&again, "To").ends_with(";tag=them"));
    bench.command(offer());
    assert!(matches!(bench.event(), Event::OfferRejected { status: 491, .. }));
    bench.receive(response_to(&again, 491, "", ""));
    bench.expect("ACK ");
    let mut waited = 0;
    while bench.sent.is_empty() {
        bench.wait(10);
        waited += 10;
    }
    assert!((2_100..=4_000).contains(&waited), "{waited} ms");
    let again = bench.expect("INVITE ");
    bench.receive(response_to(&again, 200, "", WITH_SDP));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::OfferAnswered { .. }));
    bench.command(offer());
    let again = bench.expect("INVITE ");
    bench.receive(response_to(&again, 488, "", ""));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::OfferRejected { status: 488, .. }));
    bench.command(offer());
    let again = bench.expect("INVITE ");
    bench.receive(response_to(&again, 481, "", ""));
    bench.expect("ACK ");
    let bye = bench.expect("BYE ");
    bench.receive(response_to(&bye, 481, "", ""));
    assert_eq!(bench.ended().0, EndCause::Rejected);
    bench.empty();
}

#[test]
fn an_offer_that_crosses_an_offer_of_this_server_gets_491() {
    let (mut bench, invite) = Bench::called();
    bench.command(Command::Offer { leg: LEG, sdp: Bytes::from_static(SDP) });
    bench.expect("INVITE ");
    bench.receive(Bench::far_end_request(&invite, "INVITE", 1, WITH_SDP));
    bench.expect("SIP/2.0 491 ");
    assert!(bench.events.is_empty());
}

#[test]
fn info_is_sent_in_the_dialog() {
    let (mut bench, _) = Bench::called();
    let body = Bytes::from_static(b"Signal=1");
    bench.command(Command::Info { leg: LEG, content_type: "application/dtmf-relay".into(), body });
    let info = bench.expect("INFO sip:peer@127.0.0.2:5060 ");
    assert!(info.ends_with("Content-Type: application/dtmf-relay\r\nContent-Length: 8\r\n\r\nSignal=1"));
    bench.receive(response_to(&info, 415, "", ""));
    assert!(bench.events.is_empty());
}

#[test]
fn a_broken_stream_fails_the_calls_without_a_response() {
    let (mut bench, _) = {
        let mut bench = Bench::new();
        bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@127.0.0.2;transport=tcp") });
        let invite = bench.expect("INVITE ");
        (bench, invite)
    };
    bench.endpoint.handle_transport_error(
        bench.now,
        Transport::Tcp,
        "127.0.0.2:5060".parse().unwrap(),
        ErrorKind::TimedOut,
    );
    bench.collect();
    assert_eq!(bench.ended().0, EndCause::Unconnected(ErrorKind::TimedOut));
    bench.empty();
}

#[test]
fn calls_that_cannot_be_sent_end_at_once() {
    for (uri, cause) in [
        ("not a uri", EndCause::Invalid),
        ("tel:+1", EndCause::Invalid),
        ("sips:x@127.0.0.2;transport=udp", EndCause::Invalid),
        ("sip:x@[::1]", EndCause::NoSocket),
    ] {
        let mut bench = Bench::new();
        bench.command(Command::Invite { leg: LEG, invite: outgoing(uri) });
        assert_eq!(bench.ended().0, cause, "{uri}");
        bench.empty();
    }
    let mut bench = Bench::with(|config| config.max_legs = 0);
    bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@127.0.0.2") });
    assert_eq!(bench.ended().0, EndCause::Overload);
}

#[test]
fn responses_without_a_transaction_are_dropped() {
    let (mut bench, invite) = Bench::calling();
    let ok = response_to(&invite, 200, "them", WITH_SDP);
    bench.receive(ok.replace("branch=z9hG4bK", "branch=z9hG4bK0"));
    bench.receive(ok.replace("\r\nFrom", "\r\nVia: SIP/2.0/UDP other;branch=z9hG4bKx\r\nFrom"));
    bench.receive(ok.replace(" INVITE", " BYE"));
    bench.silent();
    assert!(bench.events.is_empty());
}

#[test]
fn an_icmp_error_fails_the_request_that_it_quotes_and_no_other() {
    let (mut bench, invite) = Bench::calling();
    let (far_end, why) = ("127.0.0.2:5060".parse().unwrap(), std::io::ErrorKind::ConnectionRefused);
    let forged = invite.replace("branch=z9hG4bK", "branch=z9hG4bK0");
    for (from, quoted) in [(far_end, "INVITE "), (far_end, &*forged), ("127.0.0.2:5061".parse().unwrap(), &*invite)] {
        bench.endpoint.handle_icmp_error(bench.now, from, quoted.as_bytes(), why);
        bench.silent();
        assert!(bench.events.is_empty(), "{quoted}");
    }
    bench.endpoint.handle_icmp_error(bench.now, far_end, &invite.as_bytes()[..400], why);
    bench.collect();
    assert!(matches!(bench.event(), Event::Ended { cause: EndCause::Unconnected(kind), .. } if kind == why));
    bench.empty();
}

#[test]
fn an_icmp_error_does_not_fail_an_invite_with_a_response() {
    let (mut bench, invite) = Bench::calling();
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.event();
    let far_end = "127.0.0.2:5060".parse().unwrap();
    bench.endpoint.handle_icmp_error(bench.now, far_end, invite.as_bytes(), std::io::ErrorKind::ConnectionRefused);
    bench.silent();
    assert!(bench.events.is_empty());
}

#[test]
fn advertise_replaces_the_bound_host_and_ipv6_is_bracketed() {
    for (advertise, address, contact) in [
        (None, "[::1]:5060", "<sip:[::1]:5060>"),
        (Some("203.0.113.7"), "127.0.0.1:5060", "<sip:203.0.113.7:5060>"),
        (Some("sip.example.org:5080"), "127.0.0.1:5060", "<sip:sip.example.org:5080>"),
        (Some("203.0.113.7"), "[::1]:5060", "<sip:[::1]:5060>"),
        (Some("203.0.113.7:5080"), "[::1]:5060", "<sip:[::1]:5060>"),
    ] {
        let mut endpoint = testing::endpoint(address, 1, |config| {
            config.advertise = advertise.map(|text| text.parse().unwrap()).unwrap_or_default();
        });
        let uri = if address.starts_with('[') { "sip:x@[::1]:5070" } else { "sip:x@127.0.0.2" };
        endpoint.handle_command(instant(), Command::Invite { leg: LEG, invite: outgoing(uri) });
        let Some(Output::Transmit { data, .. }) = endpoint.poll_output() else { panic!() };
        let invite = String::from_utf8(data.to_vec()).unwrap();
        assert_eq!(field(&invite, "Contact"), contact);
    }
}

#[test]
fn the_end_of_a_call_waits_a_limited_time_for_the_final_response_to_a_re_invite() {
    for far_end_hangs_up in [false, true] {
        let (mut bench, invite) = Bench::called();
        bench.command(Command::Offer { leg: LEG, sdp: Bytes::from_static(SDP) });
        let again = bench.expect("INVITE ");
        bench.receive(response_to(&again, 100, "", ""));
        if far_end_hangs_up {
            bench.receive(Bench::far_end_request(&invite, "BYE", 1, ""));
            bench.expect("SIP/2.0 200 ");
        } else {
            bench.command(hangup(LEG));
            bench.expect("BYE ");
        }
        bench.receive(response_to(&again, 180, "", ""));
        bench.empty();
    }
}

#[test]
fn a_bye_without_a_tag_before_the_answer_does_not_end_the_call() {
    let (mut bench, invite) = Bench::calling();
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.event();
    bench.receive(Bench::far_end_request(&invite, "BYE", 1, "").replace(";tag=them", ""));
    bench.expect("SIP/2.0 481 ");
    assert_eq!(bench.endpoint.legs(), 1);
}

#[test]
fn credentials_are_not_sent_to_the_target_of_a_re_invite() {
    let (mut bench, invite) = Bench::calling_with(|call| {
        call.credentials = Some(Credentials { username: "u".into(), password: "p".into() });
    });
    let challenge = "WWW-Authenticate: Digest realm=\"r\",nonce=\"1\"";
    bench.receive(response_to(&invite, 401, "them", challenge));
    bench.expect("ACK ");
    let invite = bench.expect("INVITE ");
    field(&invite, "Authorization");
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    let moved = "Contact: <sip:peer@127.0.0.66>\r\nContent-Type: application/sdp\r\nWWW-Authenticate: Digest realm=\"r\",nonce=\"2\"\r\n\r\nv=0\r\n";
    bench.receive(Bench::far_end_request(&invite, "INVITE", 5, moved));
    bench.expect("SIP/2.0 100 ");
    bench.command(Command::AnswerOffer { leg: LEG, sdp: SDP.into() });
    bench.expect("SIP/2.0 200 ");
    bench.receive(Bench::far_end_request(&invite, "ACK", 5, ""));
    bench.command(hangup(LEG));
    let bye = bench.expect("BYE sip:peer@127.0.0.66 ");
    assert!(!bye.contains("Authorization"), "{bye}");
    bench.receive(response_to(&bye, 401, "them", "WWW-Authenticate: Digest realm=\"r\",nonce=\"3\""));
    bench.silent();
}

#[test]
fn a_refused_offer_is_followed_by_the_second_offer_once() {
    for status in [488, 606] {
        let second = Bytes::from_static(b"v=0\r\ns=second\r\n");
        let (mut bench, invite) = Bench::calling_with(|call| call.second_offer = second.clone());
        bench.receive(response_to(&invite, status, "them", ""));
        bench.expect("ACK ");
        let again = bench.expect("INVITE ");
        assert!(again.ends_with("s=second\r\n"), "{again}");
        assert_eq!(field(&again, "Call-ID"), field(&invite, "Call-ID"));
        assert_eq!(field(&again, "From"), field(&invite, "From"));
        assert!(!field(&again, "To").contains("tag="), "no dialog was made");
        assert_ne!(field(&again, "CSeq"), field(&invite, "CSeq"));
        assert!(bench.events.is_empty());
        bench.receive(response_to(&again, status, "them", ""));
        bench.expect("ACK ");
        assert_eq!(bench.ended().1, Some(status), "there is no third one");
        bench.silent();
    }
    let (mut bench, invite) = Bench::calling();
    bench.receive(response_to(&invite, 488, "them", ""));
    bench.expect("ACK ");
    assert_eq!(bench.ended().1, Some(488));
    bench.silent();
}

#[test]
fn a_call_that_was_hung_up_sends_no_second_offer() {
    let (mut bench, invite) = Bench::calling_with(|call| call.second_offer = Bytes::from_static(b"v=0\r\n"));
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.event();
    bench.command(hangup(LEG));
    bench.expect("CANCEL ");
    bench.receive(response_to(&invite, 488, "them", ""));
    bench.expect("ACK ");
    bench.silent();
}

#[test]
fn requests_in_an_early_dialog_are_answered() {
    let (mut bench, invite) = Bench::calling();
    let ask = |bench: &mut Bench, method: &str, cseq: u32, more: &str| {
        bench.receive(Bench::far_end_request(&invite, method, cseq, more));
        bench.sent()
    };
    let early = ask(&mut bench, "INFO", 1, "");
    assert!(early.starts_with("SIP/2.0 481 "), "nobody has rung: {early}");
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.event();
    let requests = [
        ("UPDATE", "", 200),
        // The offer of this server has no answer yet (RFC 3311 §5.2).
        ("UPDATE", WITH_SDP, 491),
        ("INVITE", WITH_SDP, 491),
        ("OPTIONS", "", 200),
        ("INFO", "Content-Type: application/dtmf-relay\r\n\r\nSignal=1\r\n", 200),
        ("PRACK", "RAck: 1 1 INVITE", 481),
        ("BYE", "", 481),
        ("MESSAGE", "", 405),
    ];
    for (cseq, (method, more, status)) in (2..).zip(requests) {
        let answer = ask(&mut bench, method, cseq, more);
        assert!(answer.starts_with(&format!("SIP/2.0 {status} ")), "{method}: {answer}");
    }
    assert!(matches!(bench.event(), Event::Info { .. }));
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::Answered { .. }));
}

/// The addresses of our ACK and BYE to a far end that answers from `host` with these headers.
fn requests_in_dialog(host: &str, headers: &str, change: impl FnOnce(&mut Config)) -> (String, String) {
    let mut bench = Bench::with(|config| {
        config.listen = vec!["udp://192.0.2.50:5060".into(), "tcp://192.0.2.50:5060".into()];
        let trunk = |name: &str, account: &str, uri: &str| crate::Trunk {
            account: Some(AccountName::new(account)),
            uri: Some(uri.to_owned()),
            ..crate::Trunk::new(name.into())
        };
        config.trunk_settings = vec![
            trunk("inner", "acme", "sip:10.1.0.5"),
            trunk("theirs", "other", "sip:9.9.9.1"),
            trunk("outer", "acme", "sip:8.8.4.1"),
        ];
        change(config);
    });
    bench.endpoint.start_trunks(bench.now);
    bench.collect();
    bench.command(Command::Invite { leg: LEG, invite: outgoing(&format!("sip:x@{host}")) });
    let invite = bench.expect("INVITE ");
    bench.ways.clear();
    let answer = response_to(&invite, 200, "them", &format!("{headers}\r\n{WITH_SDP}"));
    let answer = answer.replacen("Contact: <sip:peer@127.0.0.2:5060>\r\n", "", 1);
    bench.receive(answer);
    bench.expect("ACK ");
    let ack = bench.ways.pop_front().unwrap();
    bench.command(hangup(LEG));
    bench.expect("BYE ");
    (ack, bench.ways.pop_front().unwrap())
}

#[test]
fn a_far_end_cannot_direct_requests_to_internal_hosts_or_trunks_of_other_accounts() {
    let stays = |host: &str| format!("udp://{host}:5060");
    for (host, headers, goes) in [
        ("5.5.5.5", "Contact: <sip:x@5.5.5.5:5066>", "udp://5.5.5.5:5066".to_owned()),
        ("5.5.5.5", "Contact: <sip:x@6.6.6.6>", stays("6.6.6.6")),
        ("5.5.5.5", "Contact: <sip:x@10.0.0.7;transport=tcp>", stays("5.5.5.5")),
        ("5.5.5.5", "Contact: <sip:x@127.0.0.1:6379;transport=tcp>", stays("5.5.5.5")),
        ("5.5.5.5", "Contact: <sip:x@169.254.169.254:80>", stays("5.5.5.5")),
        ("5.5.5.5", "Contact: <sip:x@[::ffff:10.0.0.7]>", stays("5.5.5.5")),
        ("5.5.5.5", "Contact: <sip:x@0.0.0.0>", stays("5.5.5.5")),
        ("5.5.5.5", "Contact: <sip:x@9.9.9.1>", stays("5.5.5.5")),
        ("5.5.5.5", "Contact: <sip:x@10.1.0.5>", stays("5.5.5.5")),
        ("5.5.5.5", "Record-Route: <sip:10.0.0.7;lr>\r\nContact: <sip:x@6.6.6.6>", stays("5.5.5.5")),
        ("5.5.5.5", "Record-Route: <sip:7.7.7.7;lr>\r\nContact: <sip:x@10.0.0.7>", stays("7.7.7.7")),
        // A trunk of the operator may name its neighbours, but nothing of another kind.
        ("10.1.0.5", "Contact: <sip:x@10.1.0.6>", stays("10.1.0.6")),
        ("10.1.0.5", "Contact: <sip:x@127.0.0.1>", stays("10.1.0.5")),
        ("10.1.0.5", "Contact: <sip:x@0.0.0.0:5060>", stays("10.1.0.5")),
        ("10.1.0.5", "Contact: <sip:x@9.9.9.1>", stays("10.1.0.5")),
        ("10.1.0.5", "Contact: <sip:x@[::ffff:10.1.0.6]:5062>", "udp://10.1.0.6:5062".to_owned()),
        ("10.1.0.5", "Contact: <sip:x@[fd00::6]>", stays("10.1.0.5")),
        ("5.5.5.5", "Contact: <sip:x@[2001:4860::6]>", stays("5.5.5.5")),
        // A trunk may name another trunk of its account, as the URI of that trunk does. It may name all its own sockets.
        ("8.8.4.1", "Contact: <sip:x@10.1.0.5>", stays("10.1.0.5")),
        ("8.8.4.1", "Contact: <sip:x@10.1.0.5:6379>", stays("8.8.4.1")),
        ("8.8.4.1", "Contact: <sip:x@10.1.0.5:6379;transport=tcp>", stays("8.8.4.1")),
        ("8.8.4.1", "Contact: <sip:x@8.8.4.1:5099>", "udp://8.8.4.1:5099".to_owned()),
        // Without a trunk, a private far end may name only the networks that the operator allows.
        ("10.2.0.5", "Contact: <sip:x@10.2.0.6>", stays("10.2.0.5")),
    ] {
        let (ack, bye) = requests_in_dialog(host, headers, |_| {});
        assert_eq!((&*ack, &*bye), (&*goes, &*goes), "{host} {headers}");
    }
    let allows = |config: &mut Config| config.allow_networks = Some(vec!["10.2.0.0/16".parse().unwrap()]);
    let (ack, _) = requests_in_dialog("10.2.0.5", "Contact: <sip:x@10.2.0.6>", allows);
    assert_eq!(ack, stays("10.2.0.6"));
    let (ack, _) = requests_in_dialog("10.2.0.5", "Contact: <sip:x@10.3.0.6>", allows);
    assert_eq!(ack, stays("10.2.0.5"));
}

#[test]
fn a_number_sign_in_an_applications_uri_is_escaped() {
    for (uri, wanted) in [
        ("sip:*21#@127.0.0.2", "sip:*21%23@127.0.0.2"),
        ("sip:+1800%231@127.0.0.2", "sip:+1800%231@127.0.0.2"),
        ("sip:+1800%2523@127.0.0.2", "sip:+1800%2523@127.0.0.2"),
    ] {
        let mut bench = Bench::new();
        bench.command(Command::Invite { leg: LegId(1), invite: outgoing(uri) });
        let invite = bench.expect(&format!("INVITE {wanted} "));
        assert_eq!(field(&invite, "To"), format!("<{wanted}>"));
    }
}
