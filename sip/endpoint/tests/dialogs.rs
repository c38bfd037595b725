//! Tests of the extensions of a call: reliable provisional responses, UPDATE, session timers, REFER, Replaces and loop
//! detection.

use super::callee::{invite, request};
use super::*;
use crate::leg::Refer;
use crate::prack::Prack;
use crate::testing::{Link, Side, SipPair};

const LEG: LegId = LegId(1);

impl Bench {
    fn ringing_call(change: impl FnOnce(&mut Config), more: &str) -> (Self, LegId) {
        let mut bench = Self::with(change);
        bench.receive(invite("i", more));
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        (bench, leg)
    }

    fn progress(&mut self, leg: LegId, status: u16, sdp: bool) {
        let sdp = sdp.then(|| Bytes::from_static(SDP));
        self.command(Command::Provisional { leg, status, sdp, headers: Vec::new() });
    }

    /// Creates an outgoing call. `more` contains header lines for the 200 of the far end. Returns the INVITE of the
    /// call.
    fn answered_call(change: impl FnOnce(&mut Config), more: &str) -> (Self, String) {
        let mut bench = Self::with(change);
        bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:+15551230002@127.0.0.2") });
        let invite = bench.expect("INVITE ");
        bench.receive(response_to(&invite, 200, "them", &format!("{more}{WITH_SDP}")));
        bench.expect("ACK ");
        assert!(matches!(bench.event(), Event::Answered { .. }));
        (bench, invite)
    }
}

fn prack(cseq: u32, tag: &str, rseq: u32) -> String {
    request("PRACK", &format!("p{cseq}"), cseq, tag, &format!("RAck: {rseq} 1 INVITE"))
}

fn rseq(message: &str) -> u32 {
    field(message, "RSeq").parse().unwrap()
}

// ----- RFC 3262 ---------------------------------------------------------------------------------------------------

#[test]
fn a_required_provisional_response_is_repeated_until_its_prack_and_the_next_one_waits_for_it() {
    let (mut bench, leg) = Bench::ringing_call(|_| {}, "Require: 100rel\r\n");
    bench.progress(leg, 183, true);
    let first = bench.expect("SIP/2.0 183 ");
    assert_eq!(field(&first, "Require"), "100rel");
    bench.progress(leg, 180, false);
    bench.silent();
    bench.wait(1_500);
    assert_eq!([bench.sent(), bench.sent()], [first.clone(), first.clone()], "after T1 and 2*T1 more");
    let tag = parameter(field(&first, "To"), "tag").to_owned();
    bench.receive(prack(2, &tag, rseq(&first)));
    bench.expect("SIP/2.0 200 ");
    let second = bench.expect("SIP/2.0 180 ");
    assert_eq!(rseq(&second), rseq(&first) + 1);
    assert_eq!(bench.status_of(prack(3, &tag, rseq(&first))), 481, "acknowledged already");
    bench.receive(prack(4, &tag, rseq(&second)));
    bench.expect("SIP/2.0 200 ");
    bench.command(answer(leg));
    bench.expect("SIP/2.0 200 ");
}

#[test]
fn the_answer_waits_for_the_prack_of_a_provisional_response_with_sdp_only() {
    let (mut bench, leg) = Bench::ringing_call(|_| {}, "Require: 100rel\r\n");
    bench.progress(leg, 183, true);
    let progress = bench.expect("SIP/2.0 183 ");
    bench.command(answer(leg));
    bench.silent();
    bench.receive(prack(2, parameter(field(&progress, "To"), "tag"), rseq(&progress)));
    assert!(bench.sent().contains("PRACK"));
    bench.expect("SIP/2.0 200 OK");

    let (mut bench, leg) = Bench::ringing_call(|_| {}, "Require: 100rel\r\n");
    bench.progress(leg, 180, false);
    let ringing = bench.expect("SIP/2.0 180 ");
    bench.command(answer(leg));
    bench.expect("SIP/2.0 200 ");
    let tag = parameter(field(&ringing, "To"), "tag").to_owned();
    assert_eq!(bench.status_of(prack(2, &tag, rseq(&ringing))), 200, "late, and no repetition any more");
    bench.receive(request("ACK", "a", 1, &tag, ""));
    bench.wait(3_000);
    bench.silent();
}

#[test]
fn a_reliable_provisional_response_without_prack_ends_the_call_with_504() {
    let (mut bench, leg) = Bench::ringing_call(|_| {}, "Require: 100rel\r\n");
    bench.progress(leg, 180, false);
    bench.wait(31_999);
    assert!(bench.events.is_empty());
    bench.wait(1);
    assert!(bench.sent.back().is_some_and(|last| last.starts_with("SIP/2.0 504 ")));
    assert_eq!(bench.ended(), (EndCause::AckTimeout, Some(504), None));
}

#[test]
fn the_setting_prack_decides_about_reliable_responses() {
    let reliable = |prack, line: &str| {
        let mut bench = Bench::with(|config| config.prack = prack);
        bench.receive(invite("i", line));
        if bench.sent().starts_with("SIP/2.0 420 ") {
            return None;
        }
        let leg = bench.incoming();
        bench.progress(leg, 180, false);
        Some(bench.sent().contains("\r\nRSeq: "))
    };
    let (supported, required) = ("Supported: timer, 100rel\r\n", "Require: 100rel\r\n");
    assert_eq!([reliable(Prack::Off, supported), reliable(Prack::Off, required)], [Some(false), None]);
    assert_eq!(
        [reliable(Prack::Supported, supported), reliable(Prack::Supported, required)],
        [Some(false), Some(true)]
    );
    assert_eq!([reliable(Prack::Required, supported), reliable(Prack::Required, "")], [Some(true), Some(false)]);
    let invite_of = |prack| {
        let mut bench = Bench::with(|config| config.prack = prack);
        bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@127.0.0.2") });
        bench.expect("INVITE ")
    };
    assert!(!invite_of(Prack::Off).contains("100rel"));
    assert_eq!(field(&invite_of(Prack::Supported), "Supported"), "100rel, timer, replaces, norefersub");
    assert_eq!(field(&invite_of(Prack::Required), "Require"), "100rel");
}

#[test]
fn reliable_responses_are_acknowledged_in_order_and_reported_once() {
    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@127.0.0.2") });
    let invite = bench.expect("INVITE ");
    let cseq: u32 = field(&invite, "CSeq").split(' ').next().unwrap().parse().unwrap();
    let reliable = |status, rseq: u32, more: &str| {
        response_to(&invite, status, "them", &format!("Require: 100rel\r\nRSeq: {rseq}\r\n{more}"))
    };
    bench.receive(reliable(183, 7, WITH_SDP));
    let first = bench.expect("PRACK sip:peer@127.0.0.2:5060 ");
    assert_eq!(field(&first, "RAck"), format!("7 {cseq} INVITE"));
    assert_eq!(field(&first, "CSeq"), format!("{} PRACK", cseq + 1));
    assert!(matches!(bench.event(), Event::Provisional { status: 183, sdp: Some(_), .. }));
    bench.receive(response_to(&first, 200, "", ""));
    bench.receive(reliable(183, 7, WITH_SDP));
    bench.receive(reliable(180, 9, ""));
    bench.silent();
    assert!(bench.events.is_empty(), "a repetition, and one before which one is missing");
    bench.receive(reliable(180, 8, ""));
    let second = bench.expect("PRACK ");
    assert_eq!(field(&second, "RAck"), format!("8 {cseq} INVITE"));
    assert!(matches!(bench.event(), Event::Provisional { status: 180, .. }));
    bench.receive(response_to(&second, 200, "", ""));
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    let ack = bench.expect("ACK ");
    assert_eq!(field(&ack, "CSeq"), format!("{cseq} ACK"));
    bench.event();
    bench.command(hangup(LEG));
    assert_eq!(field(&bench.expect("BYE "), "CSeq"), format!("{} BYE", cseq + 3));
}

#[test]
fn of_several_reliable_answers_the_answer_of_the_answering_phone_is_reported() {
    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@127.0.0.2") });
    let invite = bench.expect("INVITE ");
    for tag in ["one", "two"] {
        let sdp = format!("Require: 100rel\r\nRSeq: 1\r\n{}", WITH_SDP.replace("v=0", &format!("v=0\r\ns={tag}")));
        bench.receive(response_to(&invite, 183, tag, &sdp));
        let prack = bench.expect("PRACK ");
        bench.receive(response_to(&prack, 200, "", ""));
        bench.event();
    }
    bench.receive(response_to(&invite, 200, "one", "Contact: <sip:peer@127.0.0.2:5060>\r\n"));
    bench.expect("ACK ");
    let event = bench.event();
    assert!(matches!(&event, Event::Answered { sdp: Some(sdp), .. } if sdp.ends_with(b"s=one\r\n")), "{event:?}");
}

// ----- RFC 3311 ---------------------------------------------------------------------------------------------------

#[test]
fn offers_in_an_early_dialog_wait_for_the_first_answer_and_are_sent_one_at_a_time() {
    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@127.0.0.2") });
    let invite = bench.expect("INVITE ");
    let reliable = |rseq: u32, more: &str| {
        response_to(&invite, 183, "them", &format!("Require: 100rel\r\nRSeq: {rseq}\r\n{more}"))
    };
    let update = |cseq| Bench::far_end_request(&invite, "UPDATE", cseq, WITH_SDP);
    assert_eq!(bench.status_of(update(1)), 481, "no early dialog yet");
    bench.receive(reliable(1, ""));
    bench.expect("PRACK ");
    bench.event();
    assert_eq!(bench.status_of(update(2)), 491, "our own offer has no answer");
    bench.receive(reliable(2, WITH_SDP));
    bench.expect("PRACK ");
    bench.event();
    bench.receive(update(3));
    assert!(matches!(bench.event(), Event::Offered { sdp: Some(_), .. }));
    assert_eq!(bench.status_of(update(4)), 500, "one at a time");
    bench.command(Command::AnswerOffer { leg: LEG, sdp: Bytes::from_static(SDP) });
    bench.expect("SIP/2.0 200 ");
    bench.command(Command::Offer { leg: LEG, sdp: Bytes::from_static(SDP) });
    let ours = bench.expect("UPDATE sip:peer@127.0.0.2:5060 ");
    assert_eq!(bench.status_of(update(5)), 491, "ours is out");
    bench.receive(response_to(&ours, 200, "", WITH_SDP));
    assert!(matches!(bench.event(), Event::OfferAnswered { .. }));
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    bench.event();
    let late = Bench::far_end_request(&invite, "UPDATE", 5, "").replace("z9hG4bKUPDATE5", "z9hG4bKlate");
    assert_eq!(bench.status_of(late), 500, "their numbers go on");
    assert_eq!(bench.status_of(Bench::far_end_request(&invite, "UPDATE", 6, "")), 200);
}

#[test]
fn a_caller_may_send_an_update_with_an_offer_after_the_prack_of_the_answer() {
    let (mut bench, leg) = Bench::ringing_call(|_| {}, "Require: 100rel\r\n");
    bench.progress(leg, 183, true);
    let progress = bench.expect("SIP/2.0 183 ");
    let tag = parameter(field(&progress, "To"), "tag").to_owned();
    assert_eq!(bench.status_of(request("UPDATE", "u", 2, &tag, WITH_SDP)), 500);
    bench.receive(prack(3, &tag, rseq(&progress)));
    bench.expect("SIP/2.0 200 ");
    bench.receive(request("UPDATE", "v", 4, &tag, WITH_SDP));
    assert!(matches!(bench.event(), Event::Offered { .. }));
    bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) });
    assert!(bench.expect("SIP/2.0 200 ").contains("CSeq: 4 UPDATE"));
    bench.command(Command::Offer { leg, sdp: Bytes::from_static(SDP) });
    bench.expect("UPDATE ");
}

// ----- RFC 4028 ---------------------------------------------------------------------------------------------------

#[test]
fn a_too_small_session_interval_gets_422_and_a_422_raises_the_sent_interval() {
    let mut bench = Bench::with(|config| config.min_se = 120);
    bench.receive(invite("i", "Supported: timer\r\nSession-Expires: 90\r\n"));
    assert_eq!(field(&bench.expect("SIP/2.0 422 "), "Min-SE"), "120");

    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@127.0.0.2") });
    let first = bench.expect("INVITE ");
    assert_eq!(field(&first, "Session-Expires"), "1800");
    bench.receive(response_to(&first, 422, "x", "Min-SE: 3600\r\n"));
    bench.expect("ACK ");
    let second = bench.expect("INVITE ");
    assert_eq!((field(&second, "Session-Expires"), field(&second, "Min-SE")), ("3600", "3600"));
    bench.receive(response_to(&second, 422, "y", "Min-SE: 3600\r\n"));
    bench.expect("ACK ");
    assert_eq!(bench.ended().1, Some(422), "it was told so");
}

#[test]
fn a_session_that_its_refresher_does_not_refresh_ends_with_bye() {
    let (mut bench, leg) = Bench::ringing_call(|_| {}, "Supported: timer\r\nSession-Expires: 600\r\n");
    bench.command(answer(leg));
    let ok = bench.expect("SIP/2.0 200 ");
    assert_eq!((field(&ok, "Session-Expires"), field(&ok, "Require")), ("600;refresher=uac", "timer"));
    let tag = parameter(field(&ok, "To"), "tag").to_owned();
    bench.receive(request("ACK", "a", 1, &tag, ""));
    bench.event();
    bench.wait(300_000);
    let refresh = "Supported: timer\r\nSession-Expires: 600;refresher=uac";
    bench.receive(request("UPDATE", "u", 2, &tag, refresh));
    assert_eq!(field(&bench.expect("SIP/2.0 200 "), "Session-Expires"), "600;refresher=uac");
    bench.wait(567_999);
    bench.silent();
    bench.wait(1);
    let bye = bench.expect("BYE ");
    assert_eq!(field(&bye, "Reason"), "SIP;cause=408;text=\"Session timer expired\"");
    bench.receive(response_to(&bye, 200, "", ""));
    assert_eq!(bench.ended().0, EndCause::SessionExpired);
}

#[test]
fn a_refresh_is_an_update_if_allowed_and_otherwise_a_re_invite() {
    let (mut bench, _) = Bench::answered_call(|_| {}, "Allow: INVITE, UPDATE\r\nSession-Expires: 90;refresher=uac\r\n");
    bench.wait(45_000);
    let update = bench.expect("UPDATE ");
    assert_eq!(field(&update, "Session-Expires"), "90;refresher=uac");
    bench.receive(response_to(&update, 200, "", "Session-Expires: 90;refresher=uac\r\n"));
    bench.wait(45_000);
    let update = bench.expect("UPDATE ");
    bench.receive(response_to(&update, 405, "", ""));
    assert!(matches!(bench.event(), Event::RefreshDue { .. }));
    bench.command(Command::Offer { leg: LEG, sdp: Bytes::from_static(SDP) });
    let again = bench.expect("INVITE ");
    assert_eq!(field(&again, "Session-Expires"), "90;refresher=uac");
    bench.receive(response_to(&again, 200, "", &format!("Session-Expires: 90;refresher=uac\r\n{WITH_SDP}")));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::OfferAnswered { .. }));
    bench.wait(45_000);
    assert!(matches!(bench.event(), Event::RefreshDue { .. }), "it takes no UPDATE, as we know by now");
    bench.wait(45_000);
    bench.expect("BYE ");
}

#[test]
fn crossing_refreshes_do_not_end_the_call() {
    let (mut bench, invite) = Bench::answered_call(|_| {}, "Allow: UPDATE\r\nSession-Expires: 90;refresher=uac\r\n");
    bench.wait(45_000);
    let ours = bench.expect("UPDATE ");
    let theirs = Bench::far_end_request(&invite, "UPDATE", 1, "Supported: timer\r\nSession-Expires: 90;refresher=uac");
    assert_eq!(bench.status_of(theirs), 200);
    bench.receive(response_to(&ours, 491, "", ""));
    bench.wait(30_000);
    while let Some(message) = bench.sent.pop_front() {
        assert!(message.starts_with("UPDATE "), "{message}");
        bench.receive(response_to(&message, 200, "", "Session-Expires: 90;refresher=uac\r\n"));
    }
    assert_eq!(bench.endpoint.legs(), 1);
    assert!(bench.events.is_empty());
}

#[test]
fn a_refresh_that_gets_481_ends_the_call() {
    let (mut bench, _) = Bench::answered_call(|_| {}, "Allow: UPDATE\r\nSession-Expires: 90;refresher=uac\r\n");
    bench.wait(45_000);
    let update = bench.expect("UPDATE ");
    bench.receive(response_to(&update, 481, "", ""));
    let bye = bench.expect("BYE ");
    bench.receive(response_to(&bye, 481, "", ""));
    assert_eq!(bench.ended().0, EndCause::SessionExpired);
    bench.empty();
}

// ----- RFC 3515, 3891, 4488 ---------------------------------------------------------------------------------------

fn refer(branch: &str, cseq: u32, tag: &str, to: &str) -> String {
    request("REFER", branch, cseq, tag, &format!("Refer-To: {to}\r\nReferred-By: <sip:ann@example.org>"))
}

#[test]
fn a_refer_is_reported_accepted_and_followed_by_notify_requests_in_order() {
    let (mut bench, leg, tag) = Bench::talking();
    bench.receive(refer("r", 2, &tag, "<sip:cy@127.0.0.3?X-Why=a%20b&Replaces=c1%3Bto-tag%3D1%3Bfrom-tag%3D2>"));
    let Event::Referred { referred, .. } = bench.event() else { panic!() };
    assert_eq!(
        (referred.uri.as_str(), referred.replaces.as_deref()),
        ("sip:cy@127.0.0.3", Some("c1;to-tag=1;from-tag=2"))
    );
    assert_eq!((referred.headers[0].value.as_str(), referred.replaced), ("a b", None));
    bench.silent();
    assert_eq!(bench.status_of(refer("r2", 3, &tag, "<sip:dee@127.0.0.3>")), 491, "one at a time");
    bench.command(Command::AnswerRefer { leg, status: 202 });
    bench.expect("SIP/2.0 202 ");
    let trying = bench.expect("NOTIFY ");
    assert_eq!((field(&trying, "Event"), field(&trying, "Subscription-State")), ("refer;id=2", "active;expires=180"));
    assert_eq!(field(&trying, "Content-Type"), "message/sipfrag;version=2.0");
    bench.command(Command::NotifyRefer { leg, status: 180 });
    bench.command(Command::NotifyRefer { leg, status: 200 });
    bench.silent();
    bench.receive(response_to(&trying, 200, "", ""));
    let last = bench.expect("NOTIFY ");
    assert!(last.ends_with("SIP/2.0 200 OK\r\n"), "the newest");
    assert_eq!(field(&last, "Subscription-State"), "terminated;reason=noresource");
    bench.receive(response_to(&last, 200, "", ""));
    bench.receive(refer("r3", 4, &tag, "<sip:dee@127.0.0.3>"));
    assert!(matches!(bench.event(), Event::Referred { .. }), "another one");
    bench.command(Command::AnswerRefer { leg, status: 603 });
    bench.expect("SIP/2.0 603 ");
}

#[test]
fn the_last_status_of_a_transfer_is_sent_before_the_bye() {
    let (mut bench, leg, tag) = Bench::talking();
    bench.receive(refer("r", 2, &tag, "<sip:cy@127.0.0.3>"));
    bench.event();
    bench.command(Command::AnswerRefer { leg, status: 202 });
    bench.command(Command::NotifyRefer { leg, status: 200 });
    bench.command(hangup(leg));
    let starts: Vec<_> = bench.sent.iter().map(|message| message.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["SIP/2.0", "NOTIFY", "NOTIFY", "BYE"]);
}

#[test]
fn refer_sub_false_suppresses_notify() {
    let (mut bench, leg, tag) = Bench::talking();
    bench.receive(request("REFER", "r", 2, &tag, "Refer-To: <sip:cy@127.0.0.3>\r\nRefer-Sub: false"));
    bench.event();
    bench.command(Command::AnswerRefer { leg, status: 202 });
    assert_eq!(field(&bench.expect("SIP/2.0 202 "), "Refer-Sub"), "false");
    bench.command(Command::NotifyRefer { leg, status: 200 });
    bench.silent();
}

#[test]
fn malformed_transfers_and_subscriptions_are_refused() {
    let (mut bench, _, tag) = Bench::talking();
    assert_eq!(bench.status_of(request("REFER", "a", 2, &tag, "")), 400);
    assert_eq!(bench.status_of(refer("b", 3, &tag, "<sip:a@h>, <sip:b@h>")), 400);
    assert_eq!(bench.status_of(refer("c", 4, &tag, "<http://example.org>")), 416);
    assert_eq!(bench.status_of(request("NOTIFY", "d", 5, &tag, "Event: refer\r\nSubscription-State: active")), 481);
    assert_eq!(bench.status_of(request("NOTIFY", "e", 6, &tag, "Event: presence\r\nSubscription-State: active")), 489);
    assert_eq!(bench.status_of(request("SUBSCRIBE", "f", 7, &tag, "Event: dialog")), 489);
    assert_eq!(bench.status_of(request("SUBSCRIBE", "g", 8, &tag, "Event: refer")), 481);
    assert!(bench.events.is_empty());
    let (mut bench, _) = Bench::ringing_call(|config| config.refer = false, "");
    bench.receive(request("SUBSCRIBE", "s", 1, "", "Event: presence").replace("call-1", "call-2"));
    assert_eq!(field(&bench.expect("SIP/2.0 489 "), "Allow-Events"), "refer");
    let elsewhere = |method: &str| request(method, "z", 1, "", "Event: refer").replace("call-1", "call-2");
    assert_eq!(bench.status_of(elsewhere("NOTIFY")), 481);
    assert_eq!(bench.status_of(elsewhere("REFER")), 403);
    assert_eq!(bench.status_of(elsewhere("MESSAGE")), 405);
    assert_eq!(bench.status_of(elsewhere("PUBLISH")), 405);
}

#[test]
fn allow_has_refer_if_transfers_are_allowed_and_otherwise_refer_gets_403() {
    for (general, own, may) in
        [(false, None, false), (true, None, true), (false, Some(true), true), (true, Some(false), false)]
    {
        let change = |config: &mut Config| {
            config.refer = general;
            config.refer_by_trunk = own.map(|own| ("anyone".into(), own)).into_iter().collect();
        };
        let (mut bench, leg) = Bench::ringing_call(change, "");
        bench.command(answer(leg));
        let ok = bench.expect("SIP/2.0 200 ");
        let tag = parameter(field(&ok, "To"), "tag").to_owned();
        bench.receive(request("ACK", "a", 1, &tag, ""));
        bench.event();
        assert_eq!(field(&ok, "Allow").contains("REFER"), may);
        bench.receive(refer("r", 2, &tag, "<sip:+19005550000@127.0.0.1>"));
        if may {
            assert!(matches!(bench.event(), Event::Referred { .. }));
        } else {
            let refusal = bench.expect("SIP/2.0 403 ");
            assert!(field(&refusal, "Reason").starts_with("SIP;cause=403;"), "{refusal}");
            assert!(bench.events.is_empty());
        }
        let mut bench = Bench::with(change);
        bench.command(Command::Invite {
            leg: LEG,
            invite: Box::new(crate::Outgoing { trunk: Some("anyone".into()), ..*outgoing("sip:x@127.0.0.2") }),
        });
        let invite = bench.expect("INVITE ");
        assert_eq!(field(&invite, "Allow").contains("REFER"), may);
        bench.receive(response_to(&invite, 200, "them", WITH_SDP));
        bench.expect("ACK ");
        bench.event();
        bench.receive(Bench::far_end_request(&invite, "REFER", 1, "Refer-To: <sip:+19005550000@127.0.0.1>\r\n"));
        assert_eq!(matches!(bench.events.front(), Some(Event::Referred { .. })), may);
    }
}

#[test]
fn a_sent_refer_reports_its_response_and_its_progress() {
    let (mut bench, invite) = Bench::answered_call(|_| {}, "");
    let refer = || {
        let refer_to = "sip:cy@127.0.0.3?Replaces=a".to_owned();
        Box::new(Refer { refer_to, referred_by: Some("sip:me@127.0.0.1".into()), headers: Vec::new() })
    };
    bench.command(Command::Refer { leg: LEG, refer: refer() });
    let ours = bench.expect("REFER sip:peer@127.0.0.2:5060 ");
    assert_eq!(field(&ours, "Refer-To"), "<sip:cy@127.0.0.3?Replaces=a>");
    assert_eq!(field(&ours, "Referred-By"), "<sip:me@127.0.0.1>");
    bench.command(Command::Refer { leg: LEG, refer: refer() });
    assert!(matches!(bench.event(), Event::ReferAnswered { status: 491, .. }));
    let news = |cseq, state: &str, line: &str| {
        let lines =
            format!("Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n\r\n{line}");
        Bench::far_end_request(&invite, "NOTIFY", cseq, &lines)
    };
    bench.receive(news(1, "active;expires=60", "SIP/2.0 100 Trying"));
    bench.expect("SIP/2.0 200 ");
    assert!(matches!(bench.event(), Event::ReferAnswered { status: 202, .. }), "the NOTIFY was faster than the 202");
    assert!(matches!(bench.event(), Event::ReferProgress { status: 100, done: false, .. }));
    bench.receive(response_to(&ours, 202, "", ""));
    assert!(matches!(bench.event(), Event::ReferAnswered { status: 202, .. }));
    bench.receive(news(2, "terminated;reason=noresource", "SIP/2.0 486 Busy Here"));
    bench.expect("SIP/2.0 200 ");
    assert!(matches!(bench.event(), Event::ReferProgress { status: 486, done: true, .. }));
    assert_eq!(bench.status_of(news(3, "active", "SIP/2.0 200 OK")), 481);
    bench.command(Command::Refer { leg: LEG, refer: refer() });
    let ours = bench.expect("REFER ");
    bench.receive(response_to(&ours, 405, "", ""));
    assert!(matches!(bench.event(), Event::ReferAnswered { status: 405, .. }));
    bench.command(Command::Refer { leg: LEG, refer: refer() });
    let ours = bench.expect("REFER ");
    bench.receive(response_to(&ours, 202, "", "Refer-Sub: false\r\n"));
    assert!(matches!(bench.event(), Event::ReferAnswered { status: 202, .. }));
    assert!(matches!(bench.event(), Event::ReferProgress { status: 200, done: true, .. }));
    bench.command(Command::Refer { leg: LEG, refer: refer() });
    let ours = bench.expect("REFER ");
    bench.receive(response_to(&ours, 202, "", ""));
    bench.event();
    bench.wait(180_000);
    assert!(matches!(bench.event(), Event::ReferProgress { status: 408, done: true, .. }), "silence");
}

#[test]
fn an_invite_with_replaces_replaces_only_the_call_that_it_names() {
    let (mut bench, leg, tag) = Bench::talking();
    let replacing = |branch: &str, replaces: String| {
        invite(branch, &format!("Require: replaces\r\nReplaces: {replaces}\r\n"))
            .replace("Call-ID: call-1", &format!("Call-ID: call-{branch}"))
    };
    assert_eq!(bench.status_of(replacing("x", format!("call-1;to-tag={tag};from-tag=other"))), 481);
    assert_eq!(bench.status_of(replacing("y", format!("call-2;to-tag={tag};from-tag=them"))), 481);
    assert_eq!(bench.status_of(replacing("z", format!("call-1;to-tag={tag};from-tag=them;early-only"))), 486);
    bench.receive(replacing("w", format!("call-1;from-tag=them;to-tag={tag}")));
    bench.expect("SIP/2.0 100 ");
    let Event::Incoming { incoming, .. } = bench.event() else { panic!() };
    assert_eq!(incoming.replaces, Some(leg));
    bench.receive(refer(
        "r",
        2,
        &tag,
        &format!("<sip:x@127.0.0.1?Replaces=call-1%3Bto-tag%3D{tag}%3Bfrom-tag%3Dthem>"),
    ));
    assert!(matches!(bench.event(), Event::Referred { referred, .. } if referred.replaced == Some(leg)));
}

// ----- loops ------------------------------------------------------------------------------------------------------

/// Returns this server's INVITE in the form in which a proxy would send it back to this server.
fn sent_back(invite: &str, uri: &str, hops: u8) -> String {
    let (line, rest) = invite.split_once("\r\n").unwrap();
    assert!(line.starts_with("INVITE "));
    let rest =
        rest.replacen(&format!("Max-Forwards: {}", field(invite, "Max-Forwards")), &format!("Max-Forwards: {hops}"), 1);
    let branch = format!("z9hG4bKp{}", parameter(field(invite, "Via"), "branch"));
    format!("INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2:5060;branch={branch}\r\n{rest}")
}

#[test]
fn an_outbound_leg_has_one_hop_less_than_its_inbound_leg_and_a_returning_call_is_a_loop() {
    let mut bench = Bench::new();
    bench.receive(invite("i", "").replace("Max-Forwards: 70", "Max-Forwards: 20"));
    bench.expect("SIP/2.0 100 ");
    let leg = bench.incoming();
    let call = |key: u128, uri: &str, cause| {
        let mut invite = outgoing(uri);
        invite.on_behalf_of = Some(cause);
        Command::Invite { leg: LegId(key), invite }
    };
    bench.command(call(1, "sip:two@127.0.0.2", leg));
    let first = bench.expect("INVITE ");
    assert_eq!(field(&first, "Max-Forwards"), "19");
    bench.receive(sent_back(&first, "sip:two@127.0.0.1", 18));
    bench.expect("SIP/2.0 100 ");
    let spiral = bench.incoming();
    bench.command(call(2, "sip:+15551230001@127.0.0.2", spiral));
    let second = bench.expect("INVITE ");
    assert_eq!(field(&second, "Max-Forwards"), "17");
    assert_eq!(bench.status_of(sent_back(&second, "sip:two@127.0.0.1", 16)), 482, "the spiral's own");
    let around = sent_back(&second, "sip:+15551230001@127.0.0.1", 16);
    assert_eq!(bench.status_of(around.replace("z9hG4bKp", "z9hG4bKq")), 482, "the first caller's");
    bench.receive(sent_back(&second, "sip:three@127.0.0.1", 16).replace("z9hG4bKp", "z9hG4bKr"));
    bench.expect("SIP/2.0 100 ");
}

// ----- over a lossy link ------------------------------------------------------------------------------------------

/// Makes 60 calls on a link that loses a fifth of all messages. Each call has reliable early media, an offer from each
/// side, and a REFER with its reports.
#[test]
fn extensions_survive_loss_duplication_and_reordering() {
    for seed in 0..4 {
        let link = Link { loss: 20, duplication: 20, delay: 200 };
        let mut pair = SipPair::with(link, seed, |config| {
            config.prack = Prack::Required;
            config.session_expires = 90;
        });
        for call in 0..60_u128 {
            let invite = outgoing(&format!("sip:{call}@127.0.0.2"));
            pair.command(Side::A, Command::Invite { leg: LegId(call), invite });
        }
        let sdp = || Bytes::from_static(SDP);
        pair.drive(Duration::from_secs(400), |side, event| {
            let Some(leg) = event.leg() else { return vec![] };
            match (side, event) {
                (Side::B, Event::Incoming { .. }) => {
                    let early = Command::Provisional { leg, status: 183, sdp: Some(sdp()), headers: Vec::new() };
                    vec![early, Command::Provisional { leg, status: 180, sdp: None, headers: Vec::new() }, answer(leg)]
                }
                (Side::B, Event::Acknowledged { .. }) => vec![Command::Offer { leg, sdp: sdp() }],
                (_, Event::Offered { .. }) => vec![Command::AnswerOffer { leg, sdp: sdp() }],
                (_, Event::RefreshDue { .. }) => vec![Command::Offer { leg, sdp: sdp() }],
                (Side::B, Event::OfferAnswered { .. }) => {
                    let refer = Refer { refer_to: "sip:c@h".into(), referred_by: None, headers: Vec::new() };
                    vec![Command::Refer { leg, refer: Box::new(refer) }]
                }
                (_, Event::Referred { .. }) => {
                    let news = |status| Command::NotifyRefer { leg, status };
                    vec![Command::AnswerRefer { leg, status: 202 }, news(180), news(200)]
                }
                _ => vec![],
            }
        });
        let count = |what: fn(&Event) -> bool| pair.events.iter().filter(|(_, event)| what(event)).count();
        let answered = count(|event| matches!(event, Event::Answered { .. }));
        let referred = count(|event| matches!(event, Event::ReferProgress { status: 200, done: true, .. }));
        assert!(answered >= 50, "{answered} of 60 were answered");
        assert!(referred >= 40, "{referred} of {answered} transfers were heard to the end");
        let alive = pair.a.legs();
        assert!(alive >= 40, "{alive} of {answered} live after four refreshes");
        for leg in 0..60 {
            pair.command(Side::A, hangup(LegId(leg)));
        }
        pair.drive(Duration::from_secs(200), |_, _| vec![]);
        for endpoint in [&pair.a, &pair.b] {
            assert_eq!((endpoint.legs(), endpoint.transactions()), (0, 0), "nothing is left behind");
        }
    }
}

// ----- after a killed process -------------------------------------------------------------------------------------

#[test]
fn a_dialog_of_a_lost_process_is_ended_along_its_route_with_its_tags_and_a_later_cseq() {
    let mut lost = Bench::new();
    lost.command(Command::Invite { leg: LEG, invite: outgoing("sip:+15551230002@127.0.0.2") });
    let invite = lost.expect("INVITE ");
    let route = "Record-Route: <sip:127.0.0.9:5070;lr>\r\n";
    lost.receive(response_to(&invite, 200, "them", &format!("{route}{WITH_SDP}")));
    let ack = lost.expect("ACK ");
    let Event::Answered { dialog: Some(dialog), .. } = lost.event() else { panic!("not answered") };

    let mut next = Bench::new();
    next.command(Command::End(Box::new(dialog.to_string().parse().unwrap())));
    let bye = next.expect("BYE ");
    assert_eq!(bye.split_whitespace().nth(1), ack.split_whitespace().nth(1));
    for name in ["Route", "From", "To", "Call-ID"] {
        assert_eq!(field(&bye, name), field(&ack, name));
    }
    let cseq = |message: &str| field(message, "CSeq").split(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(cseq(&bye) > cseq(&ack));
    next.receive(response_to(&bye, 481, "them", ""));
    next.silent();
}

#[test]
fn each_200_to_an_invite_of_a_killed_process_gets_an_ack_and_only_the_first_a_bye() {
    let mut before = Bench::new();
    let mut call = outgoing("sip:x@127.0.0.2");
    call.call_id = Some("call-of-the-killed-process".into());
    before.command(Command::Invite { leg: LegId(1), invite: call });
    let invite = before.expect("INVITE ");
    before.receive(response_to(&invite, 180, "them", ""));
    let answer = response_to(&invite, 200, "them", WITH_SDP);

    let mut next = Bench::with(|_| {});
    next.receive(answer.clone());
    next.silent();
    next.command(Command::EndUnanswered(vec!["another".into(), "call-of-the-killed-process".into()]));
    next.receive(response_to(&invite, 180, "them", ""));
    next.receive(response_to(&invite, 486, "them", ""));
    next.silent();
    next.receive(answer.clone());
    let ack = next.expect("ACK sip:peer@127.0.0.2:5060 ");
    let bye = next.expect("BYE sip:peer@127.0.0.2:5060 ");
    assert_eq!(field(&ack, "To"), field(&bye, "To"));
    assert!(field(&bye, "To").contains("tag=them"));
    assert_eq!(field(&ack, "CSeq").split(' ').next(), field(&invite, "CSeq").split(' ').next());
    next.receive(answer.clone());
    assert_eq!(next.expect("ACK "), ack);
    next.silent();
    next.receive(response_to(&invite, 200, "fork", WITH_SDP));
    next.expect("ACK ");
    next.expect("BYE ");
    next.sent.clear();
    next.wait(310_000);
    next.sent.clear();
    next.receive(response_to(&invite, 200, "late", WITH_SDP));
    next.silent();
    assert!(next.events.is_empty());
}
