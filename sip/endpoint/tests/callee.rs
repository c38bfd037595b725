//! Tests of incoming calls.

use super::*;
use crate::compose;

/// Returns a request of the far end. `more` contains further header lines, then an empty line, then the body if the
/// request has a body.
pub(super) fn request(method: &str, branch: &str, cseq: u32, to_tag: &str, more: &str) -> String {
    let (lines, body) = more.split_once("\r\n\r\n").unwrap_or((more, ""));
    let lines = if lines.is_empty() { String::new() } else { format!("{}\r\n", lines.trim_end()) };
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} sip:+15551230001@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2:5060;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: \"Ann\" <sip:ann@example.org>;tag=them\r\nTo: <sip:+15551230001@127.0.0.1>{to_tag}\r\n\
         Call-ID: call-1\r\nCSeq: {cseq} {method}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) fn invite(branch: &str, more: &str) -> String {
    request("INVITE", branch, 1, "", &format!("{more}{WITH_SDP}"))
}

impl Bench {
    #[track_caller]
    pub(super) fn incoming(&mut self) -> LegId {
        match self.event() {
            Event::Incoming { leg, .. } => leg,
            other => panic!("not a call: {other:?}"),
        }
    }

    /// Creates a ringing call and returns its leg.
    fn ringing() -> (Self, LegId) {
        let mut bench = Self::new();
        bench.receive(invite("i", ""));
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        (bench, leg)
    }

    /// Creates an established call and returns its leg and the local tag.
    pub(super) fn talking() -> (Self, LegId, String) {
        let (mut bench, leg) = Self::ringing();
        bench.command(answer(leg));
        let ok = bench.expect("SIP/2.0 200 ");
        let tag = parameter(field(&ok, "To"), "tag").to_owned();
        bench.receive(request("ACK", "a", 1, &tag, ""));
        assert!(matches!(bench.event(), Event::Acknowledged { sdp: None, .. }));
        (bench, leg, tag)
    }

    /// Sends the request, which must get exactly one response. Returns the status of this response.
    #[track_caller]
    pub(super) fn status_of(&mut self, message: impl Into<Bytes>) -> u16 {
        self.receive(message);
        let response = self.sent();
        self.silent();
        response.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn the_leg_key_of_an_inbound_call_has_the_form_of_a_version_1_uuid() {
    for _ in 0..50 {
        let LegId(key) = Bench::ringing().1;
        assert_eq!(((key >> 76) & 0xf, (key >> 62) & 0x3), (1, 2), "{key:032x}");
    }
}

#[test]
fn the_leg_keys_of_inbound_calls_begin_with_the_time_in_ms() {
    let mut bench = Bench::new();
    bench.endpoint.set_wall_clock(bench.now, Duration::from_millis(1_800_000_000_123));
    let mut keys = Vec::new();
    for (call, later) in [("a", 0), ("b", 5), ("c", 1_000)] {
        bench.wait(later);
        bench.receive(invite(call, "").replace("call-1", &format!("call-{call}")));
        bench.expect("SIP/2.0 100 Trying");
        let Event::Incoming { leg, .. } = bench.event() else { panic!() };
        keys.push(leg.0);
    }
    let milliseconds: Vec<u128> = keys.iter().map(|key| key >> 80).collect();
    assert_eq!(milliseconds, [1_800_000_000_123, 1_800_000_000_128, 1_800_000_001_128]);
}

#[test]
fn an_invite_gets_100_and_is_reported_answered_and_hung_up_by_the_far_end() {
    let mut bench = Bench::new();
    bench.receive(invite("i", "X-Account: 42\r\nP-Asserted-Identity: <sip:ann@example.org>\r\n"));
    let trying = bench.expect("SIP/2.0 100 Trying");
    assert!(!field(&trying, "To").contains("tag"));
    let Event::Incoming { leg, incoming } = bench.event() else { panic!() };
    assert_eq!(incoming.to_user, "+15551230001");
    assert_eq!(incoming.from_user, "ann");
    assert_eq!(incoming.from_display.as_deref(), Some("Ann"));
    assert_eq!(incoming.sip_call_id, "call-1");
    assert_eq!(incoming.trunk.as_deref(), Some("anyone"));
    assert_eq!(incoming.offer.as_deref(), Some(&b"v=0\r\n"[..]));
    let names: Vec<_> = incoming.headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(names, ["X-Account", "P-Asserted-Identity"]);

    bench.command(Command::Provisional { leg, status: 183, sdp: Some(Bytes::from_static(SDP)), headers: Vec::new() });
    let progress = bench.expect("SIP/2.0 183 ");
    assert!(progress.ends_with(std::str::from_utf8(SDP).unwrap()));
    let headers = vec![Header { name: "X-Answer".into(), value: "yes".into() }];
    bench.command(Command::Answer { leg, sdp: Bytes::from_static(SDP), headers });
    let ok = bench.expect("SIP/2.0 200 OK");
    assert_eq!(field(&ok, "To"), field(&progress, "To"));
    assert_eq!(field(&ok, "Contact"), "<sip:127.0.0.1:5060>");
    assert_eq!(field(&ok, "X-Answer"), "yes");
    let tag = parameter(field(&ok, "To"), "tag");
    bench.receive(request("ACK", "a", 1, tag, ""));
    assert!(matches!(bench.event(), Event::Acknowledged { .. }));
    bench.receive(request("BYE", "b", 2, tag, "Reason: Q.850;cause=16"));
    bench.expect("SIP/2.0 200 ");
    assert_eq!(bench.ended(), (EndCause::Bye, None, Some("Q.850;cause=16".to_owned())));
    bench.receive(request("BYE", "b", 2, tag, "Reason: Q.850;cause=16"));
    bench.expect("SIP/2.0 200 ");
    bench.silent();
    bench.empty();
}

#[test]
fn a_retransmitted_invite_gets_the_same_answer() {
    let (mut bench, leg) = Bench::ringing();
    bench.receive(invite("i", ""));
    bench.expect("SIP/2.0 100 ");
    bench.command(Command::Reject { leg, status: 486, reason: Some("No".into()), headers: Vec::new() });
    let busy = bench.expect("SIP/2.0 486 No");
    assert_eq!(bench.ended(), (EndCause::LocalHangup, Some(486), None));
    bench.receive(invite("i", ""));
    assert_eq!(bench.sent(), busy);
    bench.wait(500);
    assert_eq!(bench.sent(), busy);
    bench.receive(request("ACK", "i", 1, parameter(field(&busy, "To"), "tag"), ""));
    bench.wait(60_000);
    bench.silent();
    assert!(bench.events.is_empty());
    bench.empty();
}

#[test]
fn a_200_is_repeated_until_its_ack_and_without_ack_the_leg_ends_with_bye() {
    let (mut bench, leg) = Bench::ringing();
    bench.command(answer(leg));
    let ok = bench.expect("SIP/2.0 200 ");
    let mut times = Vec::new();
    while bench.sent.is_empty() || bench.sent.iter().all(|message| *message == ok) {
        let before = bench.sent.len();
        bench.wait(100);
        if bench.sent.len() > before {
            times.push((bench.now - bench.start).as_millis());
        }
    }
    assert_eq!(times, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500, 32000]);
    assert!(bench.sent.back().unwrap().starts_with("BYE sip:peer@127.0.0.2:5060 "));
    bench.receive(response_to(&bench.sent.back().unwrap().clone(), 200, "", ""));
    assert_eq!(bench.ended(), (EndCause::AckTimeout, None, None));
    bench.empty();
}

#[test]
fn a_cancel_is_answered_and_ends_the_invite_with_487() {
    let (mut bench, _) = Bench::ringing();
    let cancel = request("CANCEL", "i", 1, "", "Reason: SIP;cause=200");
    bench.receive(cancel.clone());
    bench.expect("SIP/2.0 200 ");
    bench.expect("SIP/2.0 487 ");
    assert_eq!(bench.ended(), (EndCause::Cancelled, Some(487), Some("SIP;cause=200".to_owned())));
    assert_eq!(bench.status_of(cancel), 200, "again");
    let mut bench = Bench::new();
    assert_eq!(bench.status_of(request("CANCEL", "other", 1, "", "")), 481);
}

#[test]
fn a_cancel_after_our_200_changes_nothing() {
    let (mut bench, leg) = Bench::ringing();
    bench.command(answer(leg));
    bench.expect("SIP/2.0 200 ");
    assert_eq!(bench.status_of(request("CANCEL", "i", 1, "", "")), 200);
    assert!(bench.events.is_empty());
}

#[test]
fn hanging_up_an_unacknowledged_answer_waits_for_the_ack() {
    let (mut bench, leg) = Bench::ringing();
    bench.command(answer(leg));
    let ok = bench.expect("SIP/2.0 200 ");
    bench.command(hangup(leg));
    bench.silent();
    bench.receive(request("ACK", "a", 1, parameter(field(&ok, "To"), "tag"), ""));
    let bye = bench.expect("BYE ");
    assert_eq!(field(&bye, "Reason"), "Q.850;cause=16");
    bench.receive(response_to(&bye, 200, "", ""));
    assert_eq!(bench.ended(), (EndCause::LocalHangup, None, None));
    bench.empty();
}

#[test]
fn hanging_up_a_ringing_call_refuses_it() {
    let (mut bench, leg) = Bench::ringing();
    bench.command(hangup(leg));
    let refusal = bench.expect("SIP/2.0 480 ");
    assert_eq!(field(&refusal, "Reason"), "Q.850;cause=16");
    assert_eq!(bench.ended().1, Some(480));
    bench.empty();
}

#[test]
fn an_unanswered_bye_is_reported_after_four_t1_and_removed_after_timer_f() {
    let (mut bench, leg, _) = Bench::talking();
    bench.command(hangup(leg));
    bench.wait(1_999);
    assert!(bench.events.is_empty());
    bench.wait(1);
    assert_eq!(bench.ended().0, EndCause::LocalHangup);
    assert_eq!(bench.endpoint.legs(), 1);
    bench.wait(30_000);
    assert_eq!(bench.endpoint.legs(), 0);
    bench.empty();
}

#[test]
fn byes_that_cross_are_both_answered_and_end_the_leg_once() {
    let (mut bench, leg, tag) = Bench::talking();
    bench.command(hangup(leg));
    bench.expect("BYE ");
    bench.receive(request("BYE", "b", 2, &tag, ""));
    bench.expect("SIP/2.0 200 ");
    assert_eq!(bench.ended().0, EndCause::LocalHangup);
    bench.empty();
}

#[test]
fn the_offer_may_be_one_of_several_parts() {
    let parts = "Content-Type: multipart/mixed;boundary=x\r\n\r\n\
                 --x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--x--";
    let mut bench = Bench::new();
    bench.receive(request("INVITE", "i", 1, "", parts));
    bench.expect("SIP/2.0 100 ");
    match bench.event() {
        Event::Incoming { incoming, .. } => assert_eq!(incoming.offer.as_deref(), Some(b"v=0\r\n".as_slice())),
        other => panic!("not a call: {other:?}"),
    }
    let without = parts.replace("application/sdp", "application/xyz");
    assert_eq!(Bench::new().status_of(request("INVITE", "i", 1, "", &without)), 415);
}

#[test]
fn malformed_messages_are_counted() {
    let mut bench = Bench::new();
    assert_eq!(bench.status_of(invite("i", "").replace("INVITE sip:", "INVITE  sip:")), 400);
    bench.receive("rubbish".to_owned());
    assert_eq!(bench.endpoint.malformed(), 2);
}

#[test]
fn refusals_of_invite_have_the_status_of_the_rfc() {
    let refused = |message: String| Bench::new().status_of(message);
    assert_eq!(refused(invite("i", "").replace("Max-Forwards: 70", "Max-Forwards: 0")), 483);
    assert_eq!(refused(invite("i", "Require: precondition\r\n")), 420);
    assert_eq!(refused(invite("i", "Accept: text/plain\r\n")), 406);
    assert_eq!(refused(invite("i", "Content-Encoding: gzip\r\n")), 415);
    assert_eq!(refused(invite("i", "").replace("application/sdp", "text/plain")), 415);
    assert_eq!(refused(invite("i", "").replace("INVITE sip:", "INVITE mailto:")), 416);
    assert_eq!(refused(invite("i", "").replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia")), 505);
    assert_eq!(refused(invite("i", "").replace("INVITE sip:+1", &format!("INVITE sip:{}", "1".repeat(3000)))), 414);
    assert_eq!(refused(invite("i", "").replace("From: \"Ann\" <sip:ann@example.org>;tag=them\r\n", "")), 400);
    assert_eq!(refused(invite("i", "").replace("Content-Length: 5", "Content-Length: 70000")), 413);
    assert_eq!(refused(request("BYE", "b", 2, "0123456789abcdef", "")), 481);
    assert_eq!(refused(request("BYE", "b", 2, "", "")), 481);
    assert_eq!(refused(invite("i", "").replace("127.0.0.1>", "127.0.0.1>;tag=gone")), 481);
    for method in ["REGISTER", "MESSAGE", "PUBLISH", "NEWMETHOD"] {
        let mut bench = Bench::new();
        bench.receive(request(method, "x", 1, "", ""));
        let refusal = bench.expect("SIP/2.0 405 ");
        assert_eq!(field(&refusal, "Allow"), compose::ALLOW_REFER);
        bench.empty();
    }
    let mut bench = Bench::new();
    bench.receive(invite("i", "Require: 100rel, gin, timer, sec-agree\r\n"));
    assert_eq!(field(&bench.sent(), "Unsupported"), "gin, sec-agree");
    bench.receive(request("ACK", "i", 1, "x", ""));
    bench.silent();
    bench.empty();
}

#[test]
fn a_merged_request_is_a_loop_and_a_repetition_is_not() {
    let (mut bench, _) = Bench::ringing();
    assert_eq!(bench.status_of(invite("other-path", "")), 482);
    assert_eq!(bench.status_of(invite("i", "")), 100);
    assert!(bench.events.is_empty());
}

#[test]
fn options_get_503_while_the_application_takes_no_calls() {
    let mut bench = Bench::new();
    assert_eq!(bench.status_of(request("OPTIONS", "o", 1, "", "")), 200);
    bench.command(Command::TakeCalls(false));
    assert_eq!(bench.status_of(request("OPTIONS", "o", 2, "", "")), 503);
    bench.command(Command::TakeCalls(true));
    assert_eq!(bench.status_of(request("OPTIONS", "o", 3, "", "")), 200);
}

#[test]
fn options_gets_the_capabilities_of_this_server() {
    let mut bench = Bench::new();
    bench.receive(request("OPTIONS", "o", 1, "", ""));
    let ok = bench.expect("SIP/2.0 200 ");
    assert_eq!(field(&ok, "Allow"), compose::ALLOW_REFER);
    assert_eq!(field(&ok, "Accept"), "application/sdp, multipart/mixed");
    assert_eq!(field(&ok, "Supported"), "100rel, timer, replaces, norefersub");
    assert_eq!(field(&ok, "Allow-Events"), "refer");
    let tag = parameter(field(&ok, "To"), "tag").to_owned();
    bench.receive(request("OPTIONS", "o", 1, "", ""));
    assert_eq!(parameter(field(&bench.sent(), "To"), "tag"), tag, "stateless, yet the same");
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn unknown_sources_get_403_or_no_response_but_may_end_their_calls() {
    let from_unknown_sources = |silent| {
        Bench::with(|config| {
            config.trunks.clear();
            if silent {
                config.unknown_sources = crate::UnknownSources::Silent;
            }
        })
    };
    assert_eq!(from_unknown_sources(false).status_of(invite("i", "")), 403);
    assert_eq!(from_unknown_sources(false).status_of(request("OPTIONS", "i", 1, "", "")), 403);
    for message in [invite("i", ""), request("OPTIONS", "i", 1, "", ""), "INVITE garbage\r\nVia: x\r\n\r\n".to_owned()]
    {
        let message_is_whole = !message.contains("garbage");
        let mut bench = from_unknown_sources(true);
        bench.receive(message);
        bench.silent();
        bench.empty();
        assert_eq!(bench.endpoint.unknown_source_requests(), u64::from(message_is_whole));
    }
    let mut bench = from_unknown_sources(true);
    bench.command(Command::Invite { leg: LegId(1), invite: outgoing("sip:x@127.0.0.2") });
    let invite = bench.expect("INVITE ");
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::Answered { .. }));
    let (from, to) = (field(&invite, "From"), field(&invite, "To"));
    bench.receive(format!(
        "BYE sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKx\r\nFrom: {to};tag=them\r\nTo: {from}\r\n\
         Call-ID: {}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
        field(&invite, "Call-ID")
    ));
    bench.expect("SIP/2.0 200 ");
    assert_eq!(bench.ended().0, EndCause::Bye);
}

#[test]
fn an_invite_above_max_legs_gets_503_with_retry_after() {
    let mut bench = Bench::with(|config| config.max_legs = 1);
    bench.receive(invite("i", ""));
    bench.expect("SIP/2.0 100 ");
    bench.receive(invite("j", "").replace("call-1", "call-2"));
    assert!((10..=30).contains(&retry_after(&bench.expect("SIP/2.0 503 "))), "some of many calls have to end");
    bench.endpoint.set_overloaded(true);
    let waits: std::collections::HashSet<u32> = (0..40)
        .map(|call| {
            bench.receive(invite(&format!("k{call}"), "").replace("call-1", &format!("late-{call}")));
            retry_after(&bench.expect("SIP/2.0 503 "))
        })
        .collect();
    assert!(waits.len() > 4 && waits.iter().all(|wait| (2..=8).contains(wait)), "not all at once: {waits:?}");
    assert_eq!(bench.endpoint.shed(), 41);
}

#[test]
fn a_bye_follows_the_route_set_of_the_invite() {
    for (route, uri, rest) in [
        ("<sip:p1;lr>,<sip:127.0.0.3;lr>", "sip:peer@127.0.0.2:5060", "<sip:p1;lr>"),
        ("<sip:127.0.0.9>, <sip:p2;lr>", "sip:127.0.0.9", "<sip:p2;lr>"),
    ] {
        let mut bench = Bench::new();
        bench.receive(invite("i", &format!("Record-Route: {route}\r\n")));
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        bench.command(answer(leg));
        let ok = bench.expect("SIP/2.0 200 ");
        assert!(ok.contains("Record-Route: <sip:"), "copied into the 2xx");
        bench.receive(request("ACK", "a", 1, parameter(field(&ok, "To"), "tag"), ""));
        bench.command(hangup(leg));
        let bye = bench.expect(&format!("BYE {uri} SIP/2.0"));
        assert_eq!(field(&bye, "Route"), rest);
    }
}

#[test]
fn a_re_invite_is_offered_answered_and_acknowledged() {
    let (mut bench, leg, tag) = Bench::talking();
    bench.receive(request(
        "INVITE",
        "r",
        2,
        &tag,
        "Contact: <sip:moved@127.0.0.2:5062>\r\nContent-Type: application/sdp\r\n\r\nv=1",
    ));
    bench.expect("SIP/2.0 100 ");
    assert!(matches!(bench.event(), Event::Offered { sdp: Some(sdp), .. } if &sdp[..] == b"v=1"));
    assert_eq!(bench.status_of(request("INVITE", "r2", 3, &tag, WITH_SDP)), 500, "one at a time");
    bench.receive(request("ACK", "r2", 3, &tag, ""));
    bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) });
    bench.expect("SIP/2.0 200 ");
    bench.wait(500);
    bench.expect("SIP/2.0 200 ");
    bench.receive(request("ACK", "ra", 2, &tag, ""));
    assert!(matches!(bench.event(), Event::Acknowledged { .. }));
    bench.command(hangup(leg));
    bench.expect("BYE sip:moved@127.0.0.2:5062 ");
}

#[test]
fn a_re_invite_without_sdp_gets_an_offer_and_its_ack_has_the_answer() {
    let (mut bench, leg, tag) = Bench::talking();
    bench.receive(request("INVITE", "r", 2, &tag, ""));
    bench.expect("SIP/2.0 100 ");
    assert!(matches!(bench.event(), Event::Offered { sdp: None, .. }));
    bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) });
    bench.expect("SIP/2.0 200 ");
    bench.receive(request("ACK", "ra", 2, &tag, WITH_SDP));
    assert!(matches!(bench.event(), Event::Acknowledged { sdp: Some(_), .. }));
}

#[test]
fn a_refused_re_invite_does_not_change_the_call() {
    let (mut bench, leg, tag) = Bench::talking();
    bench.receive(request("INVITE", "r", 2, &tag, WITH_SDP));
    bench.expect("SIP/2.0 100 ");
    bench.event();
    let warning = Header { name: "Warning".into(), value: "305 here \"why\"".into() };
    bench.command(Command::RejectOffer { leg, status: 488, reason: Some("Not This".into()), headers: vec![warning] });
    let refusal = bench.expect("SIP/2.0 488 Not This\r\n");
    assert_eq!(field(&refusal, "Warning"), "305 here \"why\"");
    bench.receive(request("ACK", "r", 2, &tag, ""));
    assert!(bench.events.is_empty());
    assert_eq!(bench.endpoint.legs(), 1);
}

#[test]
fn an_update_refreshes_or_offers() {
    let (mut bench, leg, tag) = Bench::talking();
    assert_eq!(bench.status_of(request("UPDATE", "u", 2, &tag, "Contact: <sip:peer@127.0.0.2:5060>")), 200);
    assert!(bench.events.is_empty());
    bench.receive(request("UPDATE", "v", 3, &tag, WITH_SDP));
    assert!(matches!(bench.event(), Event::Offered { sdp: Some(_), .. }));
    bench.silent();
    bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) });
    bench.expect("SIP/2.0 200 ");
    bench.wait(10_000);
    bench.silent();
}

#[test]
fn info_is_answered_and_reported_and_out_of_order_requests_are_refused() {
    let (mut bench, _, tag) = Bench::talking();
    bench.receive(request("INFO", "n", 5, &tag, "Content-Type: application/dtmf-relay\r\n\r\nSignal=5"));
    bench.expect("SIP/2.0 200 ");
    assert!(matches!(bench.event(), Event::Info { digit: '5', .. }));
    assert_eq!(bench.status_of(request("INFO", "o", 4, &tag, "")), 500);
    bench.receive(request("INFO", "r", 6, &tag, "Content-Type: application/media_control+xml\r\n\r\n<x/>"));
    let types = "application/dtmf-relay, application/dtmf, audio/telephone-event";
    assert_eq!(field(&bench.expect("SIP/2.0 415 "), "Accept"), types);
    assert!(bench.events.is_empty());
    bench.receive(request("INFO", "s", 7, &tag, "Content-Type: Application/DTMF;charset=utf-8\r\n\r\n5"));
    bench.expect("SIP/2.0 200 ");
    assert!(matches!(bench.event(), Event::Info { .. }));
    bench.receive(request("INFO", "t", 8, &tag, "Info-Package: dtmf\r\nContent-Type: application/dtmf\r\n\r\n5"));
    assert!(bench.expect("SIP/2.0 469 ").contains("\r\nRecv-Info:\r\n"), "we have asked for no package");
    assert!(bench.events.is_empty());
    for (cseq, body, status) in [(9, "Signal=", 400), (10, "Signal=five", 400), (11, "Signal=hf", 200)] {
        let more = format!("Content-Type: application/dtmf-relay\r\n\r\n{body}");
        assert_eq!(bench.status_of(request("INFO", &format!("i{cseq}"), cseq, &tag, &more)), status, "{body}");
        assert!(bench.events.is_empty(), "{body}");
    }
    for (cseq, body) in [(12, "Signal=7\r\nDuration=160"), (13, "d=7")] {
        let more = format!("Content-Type: audio/telephone-event\r\n\r\n{body}");
        assert_eq!(bench.status_of(request("INFO", &format!("i{cseq}"), cseq, &tag, &more)), 200, "{body}");
        assert!(matches!(bench.event(), Event::Info { digit: '7', .. }), "{body}");
    }
    assert_eq!(bench.status_of(request("OPTIONS", "p", 14, &tag, "")), 200);
    assert_eq!(bench.status_of(request("MESSAGE", "q", 15, &tag, "")), 405);
}

#[test]
fn a_bye_during_a_re_invite_ends_the_re_invite_and_the_call() {
    let (mut bench, _, tag) = Bench::talking();
    bench.receive(request("INVITE", "r", 2, &tag, WITH_SDP));
    bench.expect("SIP/2.0 100 ");
    bench.event();
    bench.receive(request("BYE", "b", 3, &tag, ""));
    bench.expect("SIP/2.0 200 ");
    bench.expect("SIP/2.0 487 ");
    assert_eq!(bench.ended().0, EndCause::Bye);
    bench.empty();
}

#[test]
fn a_long_ringing_call_repeats_its_provisional_every_minute() {
    let (mut bench, leg) = Bench::ringing();
    bench.command(Command::Provisional { leg, status: 180, sdp: None, headers: Vec::new() });
    let ringing = bench.expect("SIP/2.0 180 ");
    bench.wait(120_000);
    assert_eq!([bench.sent(), bench.sent()], [ringing.clone(), ringing]);
    bench.silent();
}

#[test]
fn an_rfc_2543_call_without_magic_cookie_is_matched_by_its_fields() {
    let plain = |message: String| message.replace("branch=z9hG4bKi", "branch=1").replace("branch=z9hG4bKa", "branch=1");
    let mut bench = Bench::new();
    bench.receive(plain(invite("i", "")));
    bench.expect("SIP/2.0 100 ");
    let leg = bench.incoming();
    assert_eq!(bench.status_of(plain(invite("i", ""))), 100);
    bench.command(answer(leg));
    let ok = bench.expect("SIP/2.0 200 ");
    bench.receive(plain(request("ACK", "a", 1, parameter(field(&ok, "To"), "tag"), "")));
    assert!(matches!(bench.event(), Event::Acknowledged { .. }));
}

#[test]
fn every_message_of_a_leg_after_its_invite_is_traced_and_repetitions_are_flagged() {
    let mut bench = Bench::with(|config| config.trace = true);
    bench.receive(invite("i", ""));
    bench.receive(invite("i", ""));
    assert!(matches!(bench.events.front(), Some(Event::Incoming { .. })));
    let lines: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Trace { sent, line, .. } => Some((*sent, line.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(
        lines,
        [
            (true, "100 Trying (INVITE)"),
            (false, "INVITE sip:+15551230001@127.0.0.1 (retransmission)"),
            (true, "100 Trying (INVITE) (retransmission)"),
        ]
    );
}

#[test]
fn keep_alives_and_invalid_datagrams_get_no_response() {
    let mut bench = Bench::new();
    for noise in [&b""[..], b"\r\n\r\n", b"\0\0\0\0", b"\xff\xfe", b"SIP/2.0 200 OK\r\n\r\n"] {
        bench.receive(noise.to_vec());
    }
    bench.silent();
}

#[test]
fn an_optional_body_and_empty_lines_before_a_message_are_ignored() {
    let isup = |disposition: &str| {
        format!("Content-Type: application/ISUP;version=itu-t92+\r\nContent-Disposition: {disposition}\r\n\r\nxx")
    };
    for (disposition, status) in
        [("signal ; Handling = optional", 100), ("signal;handling=required", 415), ("signal", 415)]
    {
        let mut bench = Bench::new();
        let invite = request("INVITE", "i", 1, "", &isup(disposition));
        bench.receive(format!("\r\n\r\n{invite}"));
        bench.expect(&format!("SIP/2.0 {status} "));
        if status == 100 {
            assert!(matches!(bench.event(), Event::Incoming { incoming, .. } if incoming.offer.is_none()));
        }
    }
}

#[test]
fn a_web_page_in_a_browser_at_the_address_of_a_trunk_is_not_the_trunk() {
    for from_page in [false, true] {
        let mut bench = Bench::with(|config| {
            config.listen = vec!["udp://127.0.0.1:5060".into(), "ws://127.0.0.1:80".into()];
            config.trunks =
                vec![crate::TrunkAcl { name: "pbx".into(), networks: vec!["127.0.0.0/8".parse().unwrap()] }];
        });
        let arrival = Arrival {
            source: "127.0.0.2:5060".parse().unwrap(),
            local: "127.0.0.1:80".parse().unwrap(),
            transport: Transport::Ws,
            connection: Some(ConnectionId(1)),
            certified_trunk: None,
            from_page,
            data: invite("i", "").into(),
        };
        bench.endpoint.handle_datagram(bench.now, arrival);
        bench.collect();
        let placed = bench.events.iter().any(|event| matches!(event, Event::Incoming { .. }));
        assert_eq!(placed, !from_page);
    }
}

#[test]
fn an_invite_that_expires_gets_487_and_its_call_ends() {
    for answered in [false, true] {
        let mut bench = Bench::new();
        bench.receive(invite("i", "Expires: 20\r\n"));
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        bench.wait(19_999);
        bench.silent();
        if answered {
            bench.command(answer(leg));
            let ok = bench.expect("SIP/2.0 200 ");
            bench.receive(request("ACK", "a", 1, parameter(field(&ok, "To"), "tag"), ""));
            assert!(matches!(bench.event(), Event::Acknowledged { .. }));
            bench.wait(60_000);
            bench.silent();
            assert!(bench.events.is_empty());
            continue;
        }
        bench.wait(1);
        bench.expect("SIP/2.0 487 ");
        assert_eq!(bench.ended(), (EndCause::Cancelled, Some(487), None));
        bench.receive(request("ACK", "i", 1, "x", ""));
        bench.empty();
    }
}

#[test]
fn a_re_invite_that_arrives_before_the_ack_is_accepted_if_the_first_offer_is_answered() {
    let (mut bench, leg) = Bench::ringing();
    bench.command(answer(leg));
    let ok = bench.expect("SIP/2.0 200 ");
    let tag = parameter(field(&ok, "To"), "tag").to_owned();
    bench.receive(request("INVITE", "r", 2, &tag, WITH_SDP));
    bench.expect("SIP/2.0 100 ");
    assert!(matches!(bench.event(), Event::Acknowledged { sdp: None, .. }));
    assert!(matches!(bench.event(), Event::Offered { sdp: Some(_), .. }));
    bench.receive(request("ACK", "a", 1, &tag, ""));
    bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) });
    bench.expect("SIP/2.0 200 ");
    bench.receive(request("ACK", "ra", 2, &tag, ""));
    assert!(matches!(bench.event(), Event::Acknowledged { sdp: None, .. }));
    bench.wait(40_000);
    bench.silent();

    // The 200 has our offer, so the ACK with the answer must come first.
    let mut bench = Bench::new();
    bench.receive(request("INVITE", "i", 1, "", "Contact: <sip:peer@127.0.0.2:5060>\r\n"));
    bench.expect("SIP/2.0 100 ");
    let leg = bench.incoming();
    bench.command(answer(leg));
    let ok = bench.expect("SIP/2.0 200 ");
    let tag = parameter(field(&ok, "To"), "tag").to_owned();
    assert_eq!(bench.status_of(request("INVITE", "r", 2, &tag, WITH_SDP)), 500);
}

#[test]
fn a_dialog_with_a_sips_request_uri_has_sips_contacts() {
    let locals = [(Transport::Udp, "127.0.0.1:5060"), (Transport::Tls, "127.0.0.1:5061")];
    let contacted = |invite: String| {
        let mut bench = Bench::new();
        bench.endpoint.set_locals(&locals.map(|(transport, at)| (transport, at.parse().unwrap())));
        bench.receive_over(Transport::Tls, invite);
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        bench.command(answer(leg));
        let ok = bench.expect("SIP/2.0 200 ");
        field(&ok, "Contact").to_owned()
    };
    let secure = "<sips:127.0.0.1:5061>";
    assert_eq!(contacted(invite("i", "").replace("INVITE sip:", "INVITE sips:")), secure);
    assert_eq!(contacted(invite("i", "Record-Route: <sips:127.0.0.2;lr>\r\n")), secure);
    assert_eq!(contacted(invite("i", "").replace("Contact: <sip:", "Contact: <sips:")), secure);
    assert_eq!(contacted(invite("i", "")), "<sip:127.0.0.1:5061;transport=tls>");

    let mut bench = Bench::new();
    bench.endpoint.set_locals(&locals.map(|(transport, at)| (transport, at.parse().unwrap())));
    for (uri, wanted) in [("sips:x@127.0.0.2", secure), ("sip:x@127.0.0.2", "<sip:127.0.0.1:5060>")] {
        let sdp = Bytes::from_static(SDP);
        let outgoing = crate::Outgoing { request_uri: uri.into(), sdp, ..crate::Outgoing::default() };
        let leg = LegId(uri.len() as u128);
        bench.endpoint.handle_command(bench.now, Command::Invite { leg, invite: Box::new(outgoing) });
        bench.collect();
        if let Some((lookup, ..)) = bench.asked.pop_front() {
            let address = "127.0.0.2:5061".parse().unwrap();
            let target = Target { transport: Transport::Tls, address, identity: None };
            bench.endpoint.handle_resolved(bench.now, lookup, Ok(vec![target]));
            bench.collect();
        }
        assert_eq!(field(&bench.expect("INVITE "), "Contact"), wanted, "{uri}");
    }
}

#[test]
fn a_trunk_behind_a_nat_gets_responses_and_bye_at_the_address_of_its_router() {
    for nat in [false, true] {
        let mut bench = Bench::with(|config| {
            config.trunk_settings = vec![crate::Trunk { nat, ..crate::Trunk::new("anyone".into()) }];
        });
        bench.endpoint.start_trunks(bench.now);
        let private = |message: String| {
            message
                .replace("UDP 127.0.0.2:5060", "UDP 10.9.9.9:5070")
                .replace("peer@127.0.0.2:5060", "peer@127.0.0.2:5999")
        };
        bench.receive(private(invite("i", "")));
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        bench.command(answer(leg));
        let ok = bench.expect("SIP/2.0 200 ");
        let tag = parameter(field(&ok, "To"), "tag").to_owned();
        bench.receive(private(request("ACK", "a", 1, &tag, "")));
        bench.event();
        bench.command(hangup(leg));
        bench.expect("BYE sip:peer@127.0.0.2:5999 ");
        let ways: Vec<_> = bench.ways.drain(..).collect();
        let (response, bye) = match nat {
            true => ("udp://127.0.0.2:5060", "udp://127.0.0.2:5060"),
            false => ("udp://127.0.0.2:5070", "udp://127.0.0.2:5999"),
        };
        assert_eq!(ways, [response, response, bye], "nat: {nat}");
    }
}

#[test]
fn a_number_sign_in_a_user_needs_no_escape() {
    let mut bench = Bench::new();
    bench.receive(invite("i", "").replace("INVITE sip:+15551230001@", "INVITE sip:*21#@"));
    bench.expect("SIP/2.0 100 ");
    let Event::Incoming { incoming, .. } = bench.event() else { panic!() };
    assert_eq!(incoming.to_user, "*21#");
}
