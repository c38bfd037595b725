//! Each row of RFC 6337 §2.2 table 1 in both roles, the refusals of §2.3, and the changes of a session of RFC 3264 §8.

use super::*;
use crate::testing::{Media, text, unusable};

struct Bench {
    negotiation: OfferAnswer,
    media: Media,
}

impl Bench {
    /// This server calls, with an offer unless `late`.
    fn calling(late: bool) -> Self {
        let mut bench = Self { negotiation: OfferAnswer::default(), media: Media::default() };
        let offer = bench.negotiation.place(late, &mut bench.media);
        assert_eq!(offer.is_none(), late);
        bench
    }

    /// The far end calls.
    fn called(offer: Option<&'static str>) -> Self {
        let mut bench = Self { negotiation: OfferAnswer::default(), media: Media::default() };
        bench.negotiation.begin(offer.map(Bytes::from), &mut bench.media).unwrap();
        bench
    }

    /// An answered call of this server.
    fn answered() -> Self {
        let mut bench = Self::calling(false);
        assert_eq!(bench.handle(Input::Accepted(Some(b"first"))), Effect::Accepted);
        bench
    }

    fn handle(&mut self, input: Input<'_>) -> Effect {
        self.negotiation.handle(input, &mut self.media)
    }

    fn ring(&mut self, early_media: bool) -> Option<String> {
        self.negotiation.ring(early_media, &mut self.media).map(|sdp| text(&sdp))
    }

    fn accept(&mut self) -> String {
        text(&self.negotiation.accept(&mut self.media))
    }

    fn agreed(&self) -> Option<&str> {
        assert_eq!(self.media.agreed.is_some(), self.negotiation.is_agreed(), "{:?}", self.negotiation);
        self.media.agreed.as_deref()
    }

    fn is_at_rest(&self) -> bool {
        matches!(self.negotiation, OfferAnswer::Agreed(_))
    }
}

fn answer(sdp: &'static str) -> Effect {
    Effect::Send(SignalCommand::Answer { sdp: sdp.into() })
}

// ---- RFC 6337 §2.2, table 1: this server calls ----

#[test]
fn outbound_pattern_1_has_the_answer_in_the_200() {
    let mut bench = Bench::calling(false);
    assert_eq!(bench.handle(Input::Ringing(None)), Effect::Nothing);
    assert_eq!(bench.agreed(), None);
    assert_eq!(bench.handle(Input::Accepted(Some(b"a"))), Effect::Accepted);
    assert_eq!((bench.agreed(), bench.is_at_rest()), (Some("a"), true));
}

#[test]
fn outbound_pattern_2_has_the_offer_in_the_200_and_the_answer_in_the_ack() {
    let mut bench = Bench::calling(true);
    assert_eq!(bench.handle(Input::Offer(b"o", false)), answer("answer to o"));
    assert_eq!(bench.handle(Input::Accepted(None)), Effect::Accepted);
    assert_eq!((bench.agreed(), bench.is_at_rest()), (Some("answer to o"), true));
}

#[test]
fn outbound_pattern_3_has_the_answer_in_a_provisional_response() {
    let mut bench = Bench::calling(false);
    assert_eq!(bench.handle(Input::Ringing(Some(b"early"))), Effect::EarlyMedia);
    assert_eq!(bench.handle(Input::Accepted(None)), Effect::Accepted);
    assert_eq!((bench.agreed(), bench.is_at_rest()), (Some("early"), true));
}

#[test]
fn outbound_pattern_4_has_the_offer_in_a_provisional_response_and_reports_early_media_once() {
    let mut bench = Bench::calling(true);
    assert_eq!(bench.handle(Input::Offer(b"o", false)), answer("answer to o"));
    assert_eq!(bench.handle(Input::Ringing(None)), Effect::EarlyMedia);
    assert_eq!(bench.handle(Input::Ringing(None)), Effect::Nothing);
    assert_eq!(bench.handle(Input::Accepted(None)), Effect::Accepted);
    assert!(bench.is_at_rest());
}

#[test]
fn outbound_patterns_5_and_6_answer_an_offer_of_the_far_end_before_the_200() {
    let mut bench = Bench::calling(false);
    assert_eq!(bench.handle(Input::Ringing(Some(b"early"))), Effect::EarlyMedia);
    assert_eq!(bench.handle(Input::Offer(b"update", true)), answer("answer to update"));
    assert_eq!(bench.handle(Input::Accepted(None)), Effect::Accepted);
    assert_eq!(bench.agreed(), Some("answer to update"));
}

// ---- RFC 6337 §2.2, table 1: the far end calls ----

#[test]
fn inbound_pattern_1_has_the_answer_in_the_200_and_media_starts_with_the_200() {
    let mut bench = Bench::called(Some("o"));
    assert_eq!(bench.ring(false), None);
    assert!(bench.negotiation.is_open() && !bench.media.settled);
    assert_eq!(bench.accept(), "answer to o");
    assert!(bench.media.settled && bench.is_at_rest());
    assert_eq!(bench.handle(Input::Acknowledged(None)), Effect::Nothing);
}

#[test]
fn inbound_pattern_2_has_the_offer_in_the_200_and_the_answer_in_the_ack() {
    let mut bench = Bench::called(None);
    assert!(bench.negotiation.wants_offer());
    assert_eq!(bench.accept(), "offer 1");
    assert_eq!(bench.handle(Input::Acknowledged(Some(b"a"))), Effect::Nothing);
    assert_eq!((bench.agreed(), bench.is_at_rest()), (Some("a"), true));
}

#[test]
fn inbound_pattern_3_repeats_the_answer_of_a_provisional_response_unchanged() {
    let mut bench = Bench::called(Some("o"));
    assert_eq!(bench.ring(true).as_deref(), Some("answer to o"));
    assert!(bench.media.settled);
    bench.negotiation.prefer(&mut bench.media);
    assert_eq!(bench.ring(true).as_deref(), Some("answer to o"));
    assert_eq!(bench.accept(), "answer to o");
}

#[test]
fn inbound_pattern_4_has_the_offer_in_the_first_provisional_response_and_the_answer_in_the_prack() {
    let mut bench = Bench::called(None);
    assert_eq!(bench.ring(false).as_deref(), Some("offer 1"));
    assert_eq!(bench.ring(false), None, "the offer is made once");
    assert!(bench.negotiation.wants_offer());
    assert_eq!(bench.handle(Input::Answer(b"prack")), Effect::Nothing);
    assert_eq!((bench.agreed(), bench.negotiation.wants_offer()), (Some("prack"), false));
}

#[test]
fn inbound_patterns_5_and_6_answer_an_offer_of_the_far_end_before_the_200() {
    for refusable in [false, true] {
        let mut bench = Bench::called(Some("o"));
        bench.ring(true);
        assert_eq!(bench.handle(Input::Offer(b"update", refusable)), answer("answer to update"));
        assert_eq!(bench.agreed(), Some("answer to update"));
    }
}

// ---- RFC 6337 §2.3: refusals ----

#[test]
fn an_unusable_first_offer_of_a_caller_is_refused_with_its_reason() {
    let (mut negotiation, mut media) = (OfferAnswer::default(), Media::default());
    assert_eq!(negotiation.begin(Some("bad".into()), &mut media), Err(unusable()));
    assert_eq!(negotiation.take_unusable(486), None, "a busy leg is refused for another reason");
    let (phrase, headers) = negotiation.take_unusable(488).unwrap().into_parts();
    assert_eq!(phrase, None);
    assert_eq!(*headers, [("Warning".to_owned(), "305 tandem \"no audio\"".to_owned())]);
    assert_eq!(negotiation.take_unusable(488), None);
}

#[test]
fn only_a_malformed_description_has_its_reason_in_the_reason_phrase() {
    let why = "malformed é\r\n\"x\"".repeat(60);
    let (phrase, headers) = Unusable { status: 400, why, warning: 399 }.into_parts();
    assert!(phrase.is_some_and(|phrase| phrase.starts_with("malformed éxmalformed")));
    assert!(headers[0].1.len() < 300 && !headers[0].1.contains('\r'));
}

#[test]
fn an_offer_that_can_be_refused_is_refused_and_changes_nothing() {
    let mut bench = Bench::answered();
    let Effect::Send(SignalCommand::RefuseOffer { status, .. }) = bench.handle(Input::Offer(b"bad", true)) else {
        panic!()
    };
    assert_eq!((status, bench.agreed(), bench.is_at_rest()), (488, Some("first"), true));
}

#[test]
fn an_offer_that_cannot_be_refused_is_answered_with_declined_streams() {
    let mut bench = Bench::answered();
    assert_eq!(bench.handle(Input::Offer(b"bad", false)), answer("declined"));
    assert_eq!((bench.agreed(), bench.is_at_rest()), (Some("first"), true));
}

#[test]
fn an_answered_call_fails_if_every_offer_of_the_called_far_end_is_unusable() {
    let mut bench = Bench::calling(true);
    assert_eq!(bench.handle(Input::Offer(b"bad", false)), answer("declined"));
    assert_eq!(bench.handle(Input::Accepted(None)), Effect::Failed("no audio".to_owned()));
    let mut bench = Bench::calling(true);
    assert_eq!(bench.handle(Input::Offer(b"bad", false)), answer("declined"));
    assert_eq!(bench.handle(Input::Offer(b"better", true)), answer("answer to better"));
    assert_eq!(bench.handle(Input::Accepted(None)), Effect::Accepted);
}

#[test]
fn an_acceptance_without_a_usable_description_fails() {
    for (late, sdp) in [(false, None), (false, Some(&b"bad"[..])), (true, None), (true, Some(b"bad"))] {
        let mut bench = Bench::calling(late);
        assert!(matches!(bench.handle(Input::Accepted(sdp)), Effect::Failed(_)), "{late} {sdp:?}");
        assert_eq!(bench.agreed(), None);
    }
}

#[test]
fn an_acknowledgement_without_a_usable_answer_fails() {
    for sdp in [None, Some(&b"bad"[..])] {
        let mut bench = Bench::called(None);
        bench.accept();
        assert!(matches!(bench.handle(Input::Acknowledged(sdp)), Effect::Failed(_)), "{sdp:?}");
    }
}

#[test]
fn an_unusable_answer_in_a_provisional_response_does_not_end_the_call() {
    let mut bench = Bench::calling(false);
    assert_eq!(bench.handle(Input::Ringing(Some(b"bad"))), Effect::Nothing);
    assert_eq!(bench.handle(Input::Accepted(Some(b"good"))), Effect::Accepted);
}

#[test]
fn the_200_of_another_phone_replaces_the_early_answer_and_an_unusable_200_fails() {
    for (sdp, works) in [(&b"other"[..], true), (b"bad", false)] {
        let mut bench = Bench::calling(false);
        assert_eq!(bench.handle(Input::Ringing(Some(b"early"))), Effect::EarlyMedia);
        assert_eq!(bench.handle(Input::Accepted(Some(sdp))) == Effect::Accepted, works);
    }
}

// ---- RFC 3264 §8: changes of an established session, glare ----

#[test]
fn each_offer_of_the_far_end_is_answered() {
    let mut bench = Bench::answered();
    assert_eq!(bench.handle(Input::Offer(b"hold", true)), answer("answer to hold"));
    assert_eq!(bench.handle(Input::Offer(b"resume", true)), answer("answer to resume"));
    assert_eq!((bench.agreed(), bench.is_at_rest()), (Some("answer to resume"), true));
}

#[test]
fn a_far_end_that_requests_an_offer_answers_this_offer_in_the_ack() {
    for (acknowledgement, agreed) in [(Some(&b"new"[..]), "new"), (Some(b"bad"), "first"), (None, "first")] {
        let mut bench = Bench::answered();
        assert_eq!(bench.handle(Input::OfferWanted), answer("offer 2"));
        assert!(!bench.is_at_rest());
        assert_eq!(bench.handle(Input::Acknowledged(acknowledgement)), Effect::Nothing, "an established call goes on");
        assert_eq!((bench.agreed(), bench.is_at_rest()), (Some(agreed), true));
    }
}

#[test]
fn an_offer_of_this_server_is_answered_refused_or_unusable() {
    for (input, agreed) in [
        (Input::Answer(b"new"), "new"),
        (Input::Answer(b"bad"), "first"),
        (Input::Answer(b""), "first"),
        (Input::Refused, "first"),
    ] {
        let mut bench = Bench::answered();
        assert_eq!(bench.handle(Input::RefreshDue), Effect::Send(SignalCommand::Offer { sdp: "refresh 2".into() }));
        assert_eq!(bench.handle(Input::RefreshDue), Effect::Nothing, "one offer at a time (RFC 3264 §4)");
        assert_eq!(bench.handle(input), Effect::Nothing);
        assert_eq!((bench.agreed(), bench.is_at_rest()), (Some(agreed), true));
    }
}

#[test]
fn an_offer_that_crosses_an_offer_of_this_server_is_answered_and_the_offer_of_this_server_stays_open() {
    let mut bench = Bench::answered();
    bench.handle(Input::RefreshDue);
    assert_eq!(bench.handle(Input::Offer(b"crossed", true)), answer("answer to crossed"));
    assert!(!bench.is_at_rest());
    assert_eq!(bench.handle(Input::Answer(b"repeated later")), Effect::Nothing);
    assert_eq!((bench.agreed(), bench.is_at_rest()), (Some("repeated later"), true));
}

#[test]
fn a_late_acknowledgement_is_no_answer_to_an_offer_of_this_server() {
    let mut bench = Bench::called(Some("o"));
    bench.accept();
    bench.handle(Input::RefreshDue);
    assert_eq!(bench.handle(Input::Acknowledged(None)), Effect::Nothing);
    assert!(!bench.is_at_rest());
}

#[test]
fn a_far_end_that_needs_a_new_srtp_key_gets_another_offer() {
    for late in [false, true] {
        let mut bench = if late { Bench::called(None) } else { Bench::answered() };
        if late {
            bench.accept();
        } else {
            bench.handle(Input::RefreshDue);
        }
        bench.media.owes_offer = true;
        let input = if late { Input::Acknowledged(Some(b"moved")) } else { Input::Answer(b"moved") };
        assert!(matches!(bench.handle(input), Effect::Send(SignalCommand::Offer { .. })));
        assert_eq!(bench.handle(Input::Answer(b"done")), Effect::Nothing);
        assert!(bench.is_at_rest());
    }
}

#[test]
fn a_second_offer_before_the_answer_to_the_first_is_refused() {
    for input in [Input::Offer(b"second", true), Input::OfferWanted] {
        let mut bench = Bench::called(Some("o"));
        let Effect::Send(SignalCommand::RefuseOffer { status: 500, .. }) = bench.handle(input) else { panic!() };
        assert_eq!(bench.accept(), "answer to o");
    }
}

// ---- signals that do not fit, and stored state ----

/// Every state that a negotiation can have.
fn states() -> Vec<Bench> {
    let mut early = Bench::calling(false);
    early.handle(Input::Ringing(Some(b"early")));
    let mut offering = Bench::called(None);
    offering.accept();
    let mut unusable = Bench::calling(true);
    unusable.handle(Input::Offer(b"bad", false));
    let mut refreshing = Bench::answered();
    refreshing.handle(Input::RefreshDue);
    let mut wanted = Bench::answered();
    wanted.handle(Input::OfferWanted);
    let idle = Bench { negotiation: OfferAnswer::Idle, media: Media::default() };
    vec![
        idle,
        Bench::calling(false),
        Bench::calling(true),
        early,
        Bench::called(Some("o")),
        Bench::called(None),
        offering,
        unusable,
        Bench::answered(),
        refreshing,
        wanted,
    ]
}

fn inputs() -> Vec<Input<'static>> {
    type WithSdp = fn(Option<&'static [u8]>) -> Input<'static>;
    let sdp = [Some(&b"x"[..]), Some(b"bad"), None];
    let with: [WithSdp; 3] = [Input::Ringing, Input::Accepted, Input::Acknowledged];
    let mut inputs: Vec<_> = with.iter().flat_map(|with| sdp.map(with)).collect();
    inputs.extend([Input::Offer(b"x", true), Input::Offer(b"bad", false), Input::OfferWanted]);
    inputs.extend([Input::Answer(b"x"), Input::Answer(b""), Input::Refused, Input::RefreshDue]);
    inputs
}

#[test]
fn no_signal_in_any_state_removes_the_negotiated_media_and_each_signal_may_arrive_twice() {
    for state in 0..states().len() {
        for input in 0..inputs().len() {
            let (mut bench, mut twice) = (states().remove(state), inputs().into_iter());
            let agreed = bench.negotiation.is_agreed();
            let input = twice.nth(input).unwrap();
            let said = format!("{input:?} in {:?}", bench.negotiation);
            bench.handle(input);
            assert!(!agreed || bench.negotiation.is_agreed(), "{said}");
        }
        let mut bench = states().remove(state);
        for input in inputs().into_iter().chain(inputs()) {
            let agreed = bench.negotiation.is_agreed();
            bench.handle(input);
            assert!(!agreed || bench.negotiation.is_agreed());
        }
    }
}

#[test]
fn a_call_accepted_in_any_state_sends_a_description() {
    for mut bench in states() {
        if !bench.media.settled {
            assert!(!bench.accept().is_empty());
        }
    }
}
