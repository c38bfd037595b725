//! Tests of dialogs that are stored, restored, and continued in a new endpoint.

use super::callee::{invite, request};
use super::*;
use crate::ResumeError;
use crate::dialog_state::DialogState;
use crate::testing::wall_clock;

impl Bench {
    fn state(&self, leg: LegId) -> String {
        self.endpoint.dialog_state(wall_clock(self.start, self.now), leg).expect("the leg is live").to_string()
    }

    fn resume(&mut self, leg: LegId, state: &str) -> Result<(), ResumeError> {
        let state = state.parse().unwrap();
        let outcome = self.endpoint.resume(wall_clock(self.start, self.now), leg, state, None);
        self.collect();
        outcome
    }

    /// Replaces the endpoint by a new one, which continues the legs of the old one.
    fn restart(&mut self) {
        let states: Vec<_> = self.endpoint.leg_keys().map(|leg| (leg, self.state(leg))).collect();
        self.endpoint = testing::endpoint("127.0.0.1:5060", 8, |_| {});
        for (leg, state) in states {
            self.resume(leg, &state).unwrap();
        }
    }
}

#[test]
fn a_resumed_dialog_continues_its_target_routes_and_both_sequences_of_requests() {
    let (mut bench, leg, tag) = Bench::talking();
    let moved = "Contact: <sip:moved@127.0.0.2:5062>\r\nContent-Type: application/sdp\r\n\r\nv=1";
    bench.receive(request("INVITE", "r", 2, &tag, moved));
    bench.expect("SIP/2.0 100 ");
    bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) });
    bench.expect("SIP/2.0 200 ");
    bench.receive(request("ACK", "ra", 2, &tag, ""));
    bench.command(Command::Offer { leg, sdp: Bytes::from_static(SDP) });
    let before = bench.expect("INVITE sip:moved@127.0.0.2:5062 ");
    bench.receive(response_to(&before, 200, "", WITH_SDP));
    bench.expect("ACK ");
    bench.events.clear();
    bench.restart();
    bench.silent();
    assert_eq!(bench.status_of(request("INFO", "old", 2, &tag, "")), 500, "an old CSeq");
    assert_eq!(bench.status_of(request("OPTIONS", "o", 3, &tag, "")), 200);
    bench.receive(response_to(&before, 200, "", WITH_SDP));
    assert_eq!(
        field(&bench.expect("ACK "), "CSeq"),
        field(&before, "CSeq").replace("INVITE", "ACK"),
        "its ACK was lost"
    );
    bench.command(hangup(leg));
    let bye = bench.expect("BYE sip:peer@127.0.0.2:5060 ");
    let number = |message: &str| field(message, "CSeq").split(' ').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(number(&bye), number(&before) + 1);
    bench.receive(response_to(&bye, 200, "", ""));
    assert_eq!(bench.ended().0, EndCause::LocalHangup);
    bench.empty();
}

#[test]
fn an_open_re_invite_of_the_far_end_is_answered_after_a_restart() {
    let (mut bench, leg, tag) = Bench::talking();
    let offer = request("INVITE", "r", 2, &tag, WITH_SDP);
    bench.receive(offer.clone());
    bench.expect("SIP/2.0 100 ");
    assert!(matches!(bench.event(), Event::Offered { .. }));
    bench.restart();
    bench.receive(offer.clone());
    bench.expect("SIP/2.0 100 ");
    assert!(bench.events.is_empty(), "the offer is not reported again");
    bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) });
    let ok = bench.expect("SIP/2.0 200 ");
    assert_eq!((field(&ok, "Via"), field(&ok, "CSeq")), (field(&offer, "Via"), "2 INVITE"));
    bench.restart();
    bench.receive(offer);
    bench.silent();
    bench.wait(500);
    assert_eq!(bench.sent(), ok, "the 200 is repeated until its ACK");
    bench.receive(request("ACK", "ra", 2, &tag, ""));
    assert!(matches!(bench.event(), Event::Acknowledged { .. }));
    bench.wait(1_000);
    bench.silent();
}

#[test]
fn an_open_re_invite_of_this_server_is_sent_again_unchanged() {
    let (mut bench, leg, _) = Bench::talking();
    bench.command(Command::Offer { leg, sdp: Bytes::from_static(SDP) });
    let offer = bench.expect("INVITE ");
    bench.restart();
    assert_eq!(bench.sent(), offer);
    bench.receive(response_to(&offer, 200, "", WITH_SDP));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::OfferAnswered { sdp, .. } if &sdp[..] == b"v=0\r\n"));
}

#[test]
fn a_delayed_offer_is_sent_at_its_time_after_a_restart() {
    let (mut bench, leg, _) = Bench::talking();
    bench.command(Command::Offer { leg, sdp: Bytes::from_static(SDP) });
    let offer = bench.expect("INVITE ");
    bench.receive(response_to(&offer, 500, "", "Retry-After: 4\r\n"));
    bench.expect("ACK ");
    bench.wait(1_000);
    bench.restart();
    bench.wait(2_900);
    bench.silent();
    bench.wait(200);
    assert_ne!(field(&bench.expect("INVITE "), "CSeq"), field(&offer, "CSeq"));
}

#[test]
fn a_session_timer_keeps_its_times_and_its_refresher() {
    for (refresher, ours) in [("uas", true), ("uac", false)] {
        let mut bench = Bench::new();
        let lines =
            format!("Supported: timer\r\nAllow: INVITE, UPDATE\r\nSession-Expires: 600;refresher={refresher}\r\n");
        bench.receive(invite("i", &lines));
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        bench.command(answer(leg));
        let ok = bench.expect("SIP/2.0 200 ");
        let tag = parameter(field(&ok, "To"), "tag").to_owned();
        bench.receive(request("ACK", "a", 1, &tag, ""));
        bench.events.clear();
        bench.wait(200_000);
        bench.restart();
        bench.wait(99_000);
        bench.silent();
        bench.wait(2_000);
        if ours {
            assert_eq!(field(&bench.expect("UPDATE "), "Session-Expires"), "600;refresher=uac");
            continue;
        }
        bench.silent();
        bench.wait(268_000);
        let bye = bench.expect("BYE ");
        assert!(bye.contains("Session timer expired"), "{bye}");
    }
}

#[test]
fn a_transfer_continues_after_a_restart() {
    let (mut bench, leg, tag) = Bench::talking();
    bench.receive(request("REFER", "r", 2, &tag, "Refer-To: <sip:cy@127.0.0.3>"));
    assert!(matches!(bench.event(), Event::Referred { .. }));
    bench.restart();
    bench.command(Command::AnswerRefer { leg, status: 202 });
    assert_eq!(field(&bench.expect("SIP/2.0 202 "), "CSeq"), "2 REFER");
    let trying = bench.expect("NOTIFY ");
    bench.command(Command::NotifyRefer { leg, status: 200 });
    bench.restart();
    assert_eq!(bench.sent(), trying, "its response may be lost");
    bench.receive(response_to(&trying, 200, "", ""));
    assert_eq!(field(&bench.expect("NOTIFY "), "Event"), "refer;id=2");
}

#[test]
fn a_ringing_call_is_answered_or_cancelled_after_a_restart() {
    for cancelled in [false, true] {
        let mut bench = Bench::new();
        bench.receive(invite("i", ""));
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        bench.command(Command::Provisional { leg, status: 180, sdp: None, headers: Vec::new() });
        let ringing = bench.expect("SIP/2.0 180 ");
        bench.restart();
        bench.receive(invite("i", ""));
        assert_eq!(bench.sent(), ringing, "a repeated INVITE gets its response again");
        assert!(bench.events.is_empty(), "and makes no second call");
        if cancelled {
            bench.receive(request("CANCEL", "i", 1, "", ""));
            bench.expect("SIP/2.0 200 ");
            bench.expect("SIP/2.0 487 ");
            assert_eq!(bench.ended().0, EndCause::Cancelled);
        } else {
            bench.command(answer(leg));
            let ok = bench.expect("SIP/2.0 200 ");
            bench.receive(request("ACK", "a", 1, parameter(field(&ok, "To"), "tag"), ""));
            assert!(matches!(bench.event(), Event::Acknowledged { .. }));
        }
    }
}

#[test]
fn a_call_that_rings_at_the_far_end_is_answered_after_a_restart() {
    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LegId(1), invite: outgoing("sip:+15551230002@127.0.0.2") });
    let invite = bench.expect("INVITE ");
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.events.clear();
    bench.restart();
    assert_eq!(bench.sent(), invite, "for the far end this is a repetition");
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::Answered { leg: LegId(1), sdp: Some(_), .. }));
}

#[test]
fn a_leg_whose_invite_has_a_malformed_branch_is_not_continued() {
    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LegId(1), invite: outgoing("sip:+15551230002@127.0.0.2") });
    bench.expect("INVITE ");
    let state = bench.state(LegId(1)).replace("\"branch\":\"", "\"branch\":\"x");
    bench.endpoint = testing::endpoint("127.0.0.1:5060", 8, |_| {});
    assert_eq!(bench.resume(LegId(1), &state), Err(ResumeError::Malformed("branch")));
    bench.empty();
}

#[test]
fn a_dialog_without_further_state_is_continued_as_an_answered_leg() {
    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LegId(1), invite: outgoing("sip:+15551230002@127.0.0.2") });
    let invite = bench.expect("INVITE ");
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    let Event::Answered { dialog: Some(dialog), .. } = bench.event() else { panic!("no answer") };
    bench.endpoint = testing::endpoint("127.0.0.1:5060", 8, |_| {});
    bench.resume(LegId(7), &dialog.to_string()).unwrap();
    let ours = parameter(field(&invite, "From"), "tag");
    let info = request("OPTIONS", "o", 1, ours, "")
        .replace("Call-ID: call-1", &format!("Call-ID: {}", field(&invite, "Call-ID")));
    assert_eq!(bench.status_of(info), 200);
    bench.command(hangup(LegId(7)));
    bench.expect("BYE sip:peer@127.0.0.2:5060 ");
}

#[test]
fn a_state_that_cannot_be_continued_is_refused_with_its_reason() {
    let (mut bench, leg, _) = Bench::talking();
    let state = bench.state(leg);
    assert_eq!(bench.resume(LegId(7), &state), Err(ResumeError::Live), "its tag is in use");
    let other = state.replace("\"transport\":\"udp\"", "\"transport\":\"tls\"");
    assert_eq!(bench.resume(LegId(7), &other), Err(ResumeError::NoSocket));
    let target = field(&state.replace("\"target\":\"", "\r\ntarget: "), "target").split('"').next().unwrap().to_owned();
    let other = state.replace(&format!("\"target\":\"{target}\""), "\"target\":\"nobody\"");
    assert_eq!(bench.resume(LegId(7), &other), Err(ResumeError::Malformed("target")));
    bench.endpoint = testing::endpoint("127.0.0.1:5060", 8, |config| config.max_legs = 0);
    assert_eq!(bench.resume(leg, &state), Err(ResumeError::Overload));
    assert!(state.parse::<DialogState>().is_ok_and(|read| read.to_string() == state));
}
