//! Tests of calls that start without an offer, in the roles UAC and UAS, and tests of deferred offers.

use super::callee::request;
use super::*;
use crate::prack::Prack;
use crate::testing::{Link, Side, SipPair};

const LEG: LegId = LegId(1);
const OK: &str = "Contact: <sip:peer@127.0.0.2:5060>\r\n";

fn without_offer() -> Command {
    let invite = Box::new(crate::Outgoing { sdp: Bytes::new(), ..*outgoing("sip:+15551230002@127.0.0.2") });
    Command::Invite { leg: LEG, invite }
}

fn answers() -> Command {
    Command::AnswerOffer { leg: LEG, sdp: Bytes::from_static(b"v=ours") }
}

fn refuses() -> Command {
    Command::RejectOffer { leg: LEG, status: 488, reason: None, headers: Vec::new() }
}

/// Returns a reliable provisional response of the far end. `tag` is the To tag of the response.
fn reliable(invite: &str, status: u16, tag: &str, rseq: u32, more: &str) -> String {
    response_to(invite, status, tag, &format!("Require: 100rel\r\nRSeq: {rseq}\r\n{more}"))
}

/// Returns an SDP of the far end with this session name.
fn offer(name: &str) -> String {
    WITH_SDP.replace("v=0", &format!("v=0\r\ns={name}"))
}

impl Bench {
    fn calling_without_offer() -> (Self, String) {
        let mut bench = Self::new();
        bench.command(without_offer());
        let invite = bench.expect("INVITE ");
        (bench, invite)
    }

    #[track_caller]
    fn offered(&mut self) -> (String, bool) {
        match self.event() {
            Event::Offered { sdp: Some(sdp), refusable, .. } => (String::from_utf8(sdp.to_vec()).unwrap(), refusable),
            other => panic!("no offer: {other:?}"),
        }
    }
}

fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").unwrap().1
}

// ----- as UAC -----------------------------------------------------------------------------------------------------

#[test]
fn the_offer_of_a_200_is_answered_in_its_ack() {
    let (mut bench, invite) = Bench::calling_without_offer();
    assert_eq!((body(&invite), field(&invite, "Content-Length"), invite.contains("Content-Type")), ("", "0", false));
    bench.receive(response_to(&invite, 183, "them", &offer("early")));
    let early = bench.event();
    assert!(matches!(early, Event::Provisional { sdp: None, .. }), "no offer where it may be lost: {early:?}");
    bench.receive(response_to(&invite, 200, "them", &offer("late")));
    bench.silent();
    assert_eq!(bench.offered(), ("v=0\r\ns=late\r\n".to_owned(), false));
    assert!(matches!(bench.event(), Event::Answered { sdp: None, .. }));
    bench.receive(response_to(&invite, 200, "them", &offer("late")));
    bench.silent();
    assert!(bench.events.is_empty(), "told once");
    bench.command(answers());
    let ack = bench.expect("ACK sip:peer@127.0.0.2:5060 ");
    assert_eq!((body(&ack), field(&ack, "Content-Type")), ("v=ours", "application/sdp"));
    assert_eq!(field(&ack, "CSeq").split(' ').next(), field(&invite, "CSeq").split(' ').next());
    bench.receive(response_to(&invite, 200, "them", &offer("late")));
    assert_eq!(bench.sent(), ack, "the same again");
    bench.command(answers());
    bench.silent();
    bench.command(hangup(LEG));
    bench.expect("BYE ");
}

#[test]
fn the_offer_of_a_reliable_provisional_response_is_answered_in_its_prack() {
    let (mut bench, invite) = Bench::calling_without_offer();
    bench.receive(reliable(&invite, 183, "them", 7, &offer("early")));
    bench.silent();
    assert_eq!(bench.offered(), ("v=0\r\ns=early\r\n".to_owned(), false));
    assert!(matches!(bench.event(), Event::Provisional { status: 183, sdp: None, .. }));
    bench.receive(reliable(&invite, 183, "them", 7, &offer("early")));
    assert_eq!(
        bench.status_of(Bench::far_end_request(&invite, "UPDATE", 1, WITH_SDP)),
        491,
        "theirs has no answer yet"
    );
    bench.command(answers());
    let prack = bench.expect("PRACK sip:peer@127.0.0.2:5060 ");
    assert_eq!((body(&prack), field(&prack, "RAck").split(' ').next()), ("v=ours", Some("7")));
    bench.receive(response_to(&prack, 200, "", ""));
    bench.receive(reliable(&invite, 180, "them", 8, &offer("early")));
    assert_eq!(body(&bench.expect("PRACK ")), "", "the same description again is no other offer");
    assert!(matches!(bench.event(), Event::Provisional { status: 180, .. }));
    bench.receive(Bench::far_end_request(&invite, "UPDATE", 2, WITH_SDP));
    assert!(bench.offered().1, "an offer like any other");
    bench.command(answers());
    bench.expect("SIP/2.0 200 ");
    bench.receive(response_to(&invite, 200, "them", OK));
    assert_eq!(body(&bench.expect("ACK ")), "");
    assert!(matches!(bench.event(), Event::Answered { sdp: None, .. }));
}

#[test]
fn of_several_offers_the_offer_of_the_answering_phone_is_reported_last() {
    let (mut bench, invite) = Bench::calling_without_offer();
    for tag in ["one", "two"] {
        bench.receive(reliable(&invite, 183, tag, 1, &offer(tag)));
        assert_eq!(bench.offered().0, format!("v=0\r\ns={tag}\r\n"));
        bench.event();
    }
    bench.command(answers());
    bench.command(answers());
    for tag in ["one", "two"] {
        let prack = bench.expect("PRACK ");
        assert!(field(&prack, "To").ends_with(tag), "in their order");
        bench.receive(response_to(&prack, 200, "", ""));
    }
    bench.receive(response_to(&invite, 200, "one", OK));
    bench.expect("ACK ");
    assert_eq!(bench.offered().0, "v=0\r\ns=one\r\n");
    assert!(matches!(bench.event(), Event::Answered { sdp: None, .. }));
    bench.command(answers());
    bench.silent();
    bench.receive(response_to(&invite, 200, "two", OK));
    bench.expect("ACK ");
    bench.expect("BYE ");
}

#[test]
fn an_offer_in_a_200_gets_its_ack_before_the_bye_of_a_hangup() {
    for command in [hangup(LEG), refuses()] {
        let (mut bench, invite) = Bench::calling_without_offer();
        bench.receive(response_to(&invite, 200, "them", &offer("late")));
        bench.command(command);
        assert_eq!(body(&bench.expect("ACK ")), "");
        bench.command(hangup(LEG));
        let bye = bench.expect("BYE ");
        bench.receive(response_to(&bye, 200, "", ""));
        bench.empty();
    }
    let (mut bench, invite) = Bench::calling_without_offer();
    bench.receive(response_to(&invite, 180, "them", ""));
    bench.command(hangup(LEG));
    let cancel = bench.expect("CANCEL ");
    bench.receive(response_to(&cancel, 200, "", ""));
    bench.receive(response_to(&invite, 200, "them", &offer("late")));
    bench.expect("ACK ");
    bench.expect("BYE ");
}

#[test]
fn a_200_without_an_offer_to_an_invite_without_an_offer_is_acknowledged_at_once() {
    let (mut bench, invite) = Bench::calling_without_offer();
    bench.receive(response_to(&invite, 200, "them", OK));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::Answered { sdp: None, .. }));
}

#[test]
fn a_deferred_offer_is_sent_again_a_limited_number_of_times() {
    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@127.0.0.2") });
    let invite = bench.expect("INVITE ");
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    bench.event();
    bench.command(Command::Offer { leg: LEG, sdp: Bytes::from_static(SDP) });
    for _ in 0..10 {
        let offer = bench.expect("INVITE ");
        bench.receive(response_to(&offer, 500, "", "Retry-After: 3\r\n"));
        bench.expect("ACK ");
        bench.wait(2_999);
        bench.silent();
        bench.wait(1);
    }
    let offer = bench.expect("INVITE ");
    bench.receive(response_to(&offer, 500, "", "Retry-After: 3\r\n"));
    assert!(matches!(bench.event(), Event::OfferRejected { status: 500, .. }));
    bench.expect("ACK ");
    bench.command(Command::Offer { leg: LEG, sdp: Bytes::from_static(SDP) });
    let offer = bench.expect("INVITE ");
    bench.receive(response_to(&offer, 500, "", "Retry-After: 3600\r\n"));
    assert!(matches!(bench.event(), Event::OfferRejected { status: 500, .. }), "too long to wait for");
}

// ----- as UAS -----------------------------------------------------------------------------------------------------

impl Bench {
    /// Creates an incoming call without an offer and returns its leg.
    fn called_without_offer(more: &str) -> (Self, LegId) {
        let mut bench = Self::new();
        bench.receive(request("INVITE", "i", 1, "", &format!("{more}Contact: <sip:peer@127.0.0.2:5060>\r\n")));
        bench.expect("SIP/2.0 100 ");
        let leg = bench.incoming();
        (bench, leg)
    }

    fn ring_offering(&mut self, leg: LegId) -> String {
        let sdp = Some(Bytes::from_static(SDP));
        self.command(Command::Provisional { leg, status: 180, sdp, headers: Vec::new() });
        self.expect("SIP/2.0 180 ")
    }
}

fn prack(cseq: u32, tag: &str, ringing: &str, more: &str) -> String {
    let rseq = field(ringing, "RSeq");
    request("PRACK", &format!("p{cseq}"), cseq, tag, &format!("RAck: {rseq} 1 INVITE\r\n{more}"))
}

#[test]
fn a_late_offer_is_in_the_first_reliable_response_and_its_answer_in_the_prack() {
    let (mut bench, leg) = Bench::called_without_offer("Require: 100rel\r\n");
    let ringing = bench.ring_offering(leg);
    assert_eq!(body(&ringing).as_bytes(), SDP);
    let tag = parameter(field(&ringing, "To"), "tag").to_owned();
    bench.command(answer(leg));
    bench.silent();
    assert_eq!(bench.status_of(request("UPDATE", "u", 2, &tag, WITH_SDP)), 491, "ours has no answer yet");
    bench.receive(prack(3, &tag, &ringing, WITH_SDP));
    assert!(matches!(bench.event(), Event::OfferAnswered { sdp, .. } if sdp.starts_with(b"v=0")));
    bench.expect("SIP/2.0 200 ");
    let ok = bench.expect("SIP/2.0 200 ");
    assert!(field(&ok, "CSeq").ends_with("INVITE"));
    assert_eq!(body(&ok), "", "it is through");
    bench.receive(request("ACK", "a", 1, &tag, ""));
    assert!(matches!(bench.event(), Event::Acknowledged { sdp: None, .. }));
}

#[test]
fn a_late_offer_is_in_no_unreliable_response_and_waits_for_a_prack_with_an_answer() {
    let (mut bench, leg) = Bench::called_without_offer("");
    assert_eq!(body(&bench.ring_offering(leg)), "");
    bench.command(answer(leg));
    assert_eq!(body(&bench.expect("SIP/2.0 200 ")).as_bytes(), SDP);

    let (mut bench, leg) = Bench::called_without_offer("Require: 100rel\r\n");
    let ringing = bench.ring_offering(leg);
    let tag = parameter(field(&ringing, "To"), "tag").to_owned();
    assert_eq!(bench.status_of(prack(2, &tag, &ringing, "")), 200);
    bench.command(answer(leg));
    assert_eq!(body(&bench.expect("SIP/2.0 200 ")).as_bytes(), SDP);
    bench.receive(request("ACK", "a", 1, &tag, WITH_SDP));
    assert!(matches!(bench.event(), Event::Acknowledged { sdp: Some(_), .. }));
}

#[test]
fn the_200_to_a_prack_answers_the_offer_of_the_prack_unless_two_offers_cross() {
    let (mut bench, leg) = Bench::called_without_offer("Require: 100rel\r\n");
    let ringing = bench.ring_offering(leg);
    let tag = parameter(field(&ringing, "To"), "tag").to_owned();
    assert_eq!(bench.status_of(prack(2, &tag, &ringing, WITH_SDP)), 200);
    assert!(matches!(bench.event(), Event::OfferAnswered { .. }));
    let progress = |bench: &mut Bench| {
        bench.command(Command::Provisional { leg, status: 180, sdp: None, headers: Vec::new() });
        bench.expect("SIP/2.0 180 ")
    };
    let second = progress(&mut bench);
    bench.receive(prack(3, &tag, &second, &offer("further")));
    assert_eq!(bench.offered(), ("v=0\r\ns=further\r\n".to_owned(), false));
    bench.silent();
    bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(b"v=ours") });
    let ok = bench.expect("SIP/2.0 200 ");
    assert_eq!((body(&ok), field(&ok, "CSeq")), ("v=ours", "3 PRACK"));
    let third = progress(&mut bench);
    bench.command(Command::Offer { leg, sdp: Bytes::from_static(SDP) });
    bench.expect("UPDATE ");
    assert_eq!(bench.status_of(prack(4, &tag, &third, WITH_SDP)), 491);
    bench.wait(400);
    bench.silent();
}

#[test]
fn a_second_offer_before_the_first_answer_gets_500_with_retry_after_up_to_ten_seconds() {
    let mut waits = std::collections::HashSet::new();
    for seed in 0..40 {
        let (mut bench, leg, tag) = Bench::talking();
        for _ in 0..seed {
            bench.endpoint.core.random_u128();
        }
        bench.receive(request("UPDATE", "u", 2, &tag, WITH_SDP));
        assert!(bench.offered().1);
        bench.receive(request("UPDATE", "v", 3, &tag, WITH_SDP));
        waits.insert(retry_after(&bench.expect("SIP/2.0 500 ")));
        bench.command(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) });
        bench.expect("SIP/2.0 200 ");
    }
    assert!(waits.len() > 5 && waits.iter().all(|wait| *wait <= 10), "{waits:?}");
}

// ----- over a lossy link ------------------------------------------------------------------------------------------

/// Makes 60 calls without an offer on a link that loses a fifth of all messages. Half of the calls have reliable
/// provisional responses.
#[test]
fn calls_without_an_offer_survive_loss_duplication_and_reordering() {
    for seed in 0..4 {
        let prack = if seed % 2 == 0 { Prack::Required } else { Prack::Supported };
        let change = if prack == Prack::Required {
            |config: &mut Config| config.prack = Prack::Required
        } else {
            |_: &mut Config| {}
        };
        let mut pair = SipPair::with(Link { loss: 20, duplication: 20, delay: 200 }, seed, change);
        for call in 0..60_u128 {
            let invite = crate::Outgoing { sdp: Bytes::new(), ..*outgoing(&format!("sip:{call}@127.0.0.2")) };
            pair.command(Side::A, Command::Invite { leg: LegId(call), invite: Box::new(invite) });
        }
        let sdp = || Bytes::from_static(SDP);
        let mut answers = 0;
        pair.drive(Duration::from_secs(100), |side, event| {
            let Some(leg) = event.leg() else { return vec![] };
            match (side, event) {
                (Side::B, Event::Incoming { incoming, .. }) => {
                    assert!(incoming.offer.is_none());
                    let ring = Command::Provisional { leg, status: 180, sdp: Some(sdp()), headers: Vec::new() };
                    vec![ring, answer(leg)]
                }
                (Side::B, Event::OfferAnswered { .. } | Event::Acknowledged { sdp: Some(_), .. }) => {
                    answers += 1;
                    vec![]
                }
                (_, Event::Offered { .. }) => vec![Command::AnswerOffer { leg, sdp: sdp() }],
                _ => vec![],
            }
        });
        let answered = pair.events.iter().filter(|(_, event)| matches!(event, Event::Answered { .. })).count();
        assert!(answered >= 50, "{answered} of 60 were answered");
        assert!(answers >= 50, "{answers} of {answered} offers were");
        for leg in 0..60 {
            pair.command(Side::A, hangup(LegId(leg)));
        }
        pair.drive(Duration::from_secs(200), |_, _| vec![]);
        for endpoint in [&pair.a, &pair.b] {
            assert_eq!((endpoint.legs(), endpoint.transactions()), (0, 0), "nothing is left behind");
        }
    }
}
