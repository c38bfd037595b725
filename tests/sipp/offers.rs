//! Offer and answer. Calls without an offer in both directions, and the later messages that contain the answers.

use crate::sipp::{Sipp, is_missing};
use crate::straight::straight_through;

#[tokio::test(flavor = "multi_thread")]
async fn a_late_offer_stays_late_on_a_trunk_with_late_offer() {
    if is_missing() {
        return;
    }
    for callee in ["late_answer", "late_early"] {
        let (caller, callee) = (Sipp::new("late_offer"), Sipp::new(callee));
        straight_through((caller, ""), (callee, "late_offer = true")).await;
    }
    // The server passes on an offer of the caller, even if the trunk has `late_offer`.
    let [_, callee] = straight_through((Sipp::new("call"), ""), (Sipp::new("answer"), "late_offer = true")).await;
    assert!(callee.split("SIP/2.0 180").next().is_some_and(|invite| invite.contains("m=audio")), "{callee}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_late_offer_is_declined_in_the_ack() {
    if is_missing() {
        return;
    }
    let (caller, callee) = (Sipp::new("late_refused"), Sipp::new("late_unusable"));
    straight_through((caller, ""), (callee, "late_offer = true")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_answer_in_the_ack_causes_a_bye_with_a_reason() {
    if is_missing() {
        return;
    }
    straight_through((Sipp::new("late_ack_unusable"), ""), (Sipp::new("answer"), "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_offer_caller_with_100rel_gets_the_offer_in_the_first_reliable_response() {
    if is_missing() {
        return;
    }
    straight_through((Sipp::new("late_prack_call"), ""), (Sipp::new("answer"), "")).await;
}
