//! Dials: which parties are called, which party is bridged, and which result is reported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::command::{Command, Refused};
use tandem_call::event::{DialResult, DialStatus, EventKind};
use tandem_call::fetch::{FailureKind, FetchReason};
use tandem_call::header_fields::HeaderFields;
use tandem_call::internal_call::InternalCall;
use tandem_call::leg::Status;
use tandem_call::output::{EndReason, LegCommand, LegEvent, Progress};
use tandem_call::program::instruction::*;
use tandem_call::route::Decision;
use tandem_call::testing::*;
use tandem_id::LegId;

const SECOND: Duration = Duration::from_secs(1);

fn run(dial: Dial) -> CallScript {
    CallScript::runs(vec![Instruction::Dial(dial), Instruction::Play(file("after"))])
}

fn one() -> Dial {
    Dial { action: Some(target("dialed")), ..dial(&["+15550003"]) }
}

fn two() -> Dial {
    Dial { action: Some(target("dialed")), ..dial(&["+15550003", "+15550004"]) }
}

fn result(script: &CallScript) -> Option<DialResult> {
    script.events().rev().find_map(|event| match &event.kind {
        EventKind::Dialed(result) => Some(result.clone()),
        _ => None,
    })
}

fn status(script: &CallScript) -> Option<DialStatus> {
    result(script).map(|result| result.status)
}

fn bridged(script: &CallScript) -> usize {
    script.events().filter(|event| matches!(event.kind, EventKind::Bridged { .. })).count()
}

fn status_of(script: &CallScript, leg: LegId) -> Status {
    script.events().rev().find(|event| event.leg.id == leg).unwrap().leg.status
}

#[test]
fn an_answered_dial_bridges_the_legs_and_continues_when_the_called_party_hangs_up() {
    let mut script = run(one());
    let (leg, child) = (script.leg(), script.newest());
    script.progresses(child, RINGING);
    script.answers(child);
    assert_eq!(bridged(&script), 2);
    assert!(script.has_command(leg, |command| *command == LegCommand::Bridge { with: child }));
    script.advance(7 * SECOND);
    script.hangs_up(child);
    let result = result(&script).unwrap();
    assert_eq!((result.status, result.child, result.bridged), (DialStatus::Completed, Some(child), true));
    assert_eq!((result.sip_status, result.duration), (Some(200), 7 * SECOND));
    assert!(matches!(script.document_requests().next_back().unwrap().reason, FetchReason::Dialed(_)));
    assert!(!script.ended.contains_key(&leg));
}

#[test]
fn a_called_party_receives_its_digits_and_then_its_whisper_document_before_the_bridge() {
    for whisper in [None, Some(target("whisper"))] {
        let reached = DialTarget {
            send_digits: Some("1w2".to_owned()),
            whisper: whisper.clone(),
            ..DialTarget::new(Address::from("+15550003"))
        };
        let other = DialTarget::new(Address::from("+15550004"));
        let mut script = run(Dial { targets: vec![reached, other], ..one() });
        let (child, slower) = (script.legs[1], script.legs[2]);
        script.answers(child);
        assert_eq!(status_of(&script, slower), Status::Canceled, "the first who answers is chosen");
        assert_eq!((bridged(&script), script.document_requests().count()), (0, 0));
        script.play_ends(child);
        if whisper.is_some() {
            assert_eq!(bridged(&script), 0);
            script.fetched(Vec::new());
        }
        assert_eq!(bridged(&script), 2);
    }
}

#[test]
fn a_dial_without_an_action_runs_the_next_instruction_or_hangs_up() {
    for after in [AfterBridge::Continue, AfterBridge::Hangup] {
        let mut script = run(Dial { after, ..dial(&["+15550003"]) });
        let child = script.newest();
        script.answers(child);
        script.hangs_up(child);
        assert_eq!(script.ended.contains_key(&script.leg()), after == AfterBridge::Hangup);
        assert_eq!(script.plays.len(), usize::from(after == AfterBridge::Continue));
    }
}

#[test]
fn a_refused_dial_reports_the_status_of_the_refusal() {
    for (code, expected) in
        [(486, DialStatus::Busy), (480, DialStatus::NoAnswer), (404, DialStatus::Failed), (503, DialStatus::Failed)]
    {
        let mut script = run(one());
        script.refuses(script.newest(), code);
        let result = result(&script).unwrap();
        assert_eq!((result.status, result.sip_status, result.bridged), (expected, Some(code), false), "{code}");
        assert_eq!(script.last_url(), Some("http://app.test/dialed"));
    }
}

#[test]
fn a_target_that_rings_too_long_is_cancelled_and_reported_as_no_answer() {
    let mut script = run(one());
    let child = script.newest();
    script.advance(20 * SECOND);
    assert!(script.has_command(child, |command| matches!(command, LegCommand::Hangup(_))));
    assert_eq!(status(&script), Some(DialStatus::NoAnswer));
}

#[test]
fn a_party_whose_whisper_document_hangs_up_is_followed_by_the_next_target() {
    let mut dial = Dial { sequential: true, ring_tone: Some("us".into()), ..two() };
    dial.targets.iter_mut().for_each(|to| to.whisper = Some(target("screen")));
    let mut script = run(dial);
    let first = script.newest();
    script.answers(first);
    script.fetched(vec![Instruction::Hangup]);
    let second = script.newest();
    assert_ne!(first, second);
    script.answers(second);
    script.fetched(Vec::new());
    assert_eq!(bridged(&script), 2);
    script.hangs_up(second);
    assert_eq!(result(&script).unwrap().child, Some(second));
    assert_eq!(script.legs.len(), 3);
}

#[test]
fn a_dial_whose_parties_all_decline_reports_no_bridge() {
    for sequential in [false, true] {
        let mut dial = Dial { sequential, ..two() };
        dial.targets.iter_mut().for_each(|to| to.whisper = Some(target("screen")));
        let mut script = run(dial);
        for answering in [1, 2] {
            if let Some(child) = script.legs.get(answering).copied().filter(|leg| !script.ended.contains_key(leg)) {
                script.answers(child);
                script.fetched(vec![Instruction::Hangup]);
            }
        }
        let result = result(&script).unwrap();
        assert_eq!((result.status, result.bridged), (DialStatus::Completed, false), "sequential {sequential}");
    }
}

#[test]
fn sequential_targets_are_called_one_after_the_other() {
    let mut script = run(Dial { sequential: true, ..two() });
    let first = script.newest();
    assert_eq!(script.legs.len(), 2);
    script.refuses(first, 486);
    assert_eq!(status(&script), None);
    let second = script.newest();
    assert_ne!(first, second);
    script.answers(second);
    script.hangs_up(second);
    assert_eq!(result(&script).unwrap().child, Some(second));
}

#[test]
fn the_first_target_to_answer_is_bridged_and_the_other_targets_are_cancelled() {
    let mut script = run(two());
    let (loser, winner) = (script.legs[1], script.legs[2]);
    script.answers(winner);
    assert_eq!(status_of(&script, loser), Status::Canceled);
    assert!(script.has_command(winner, |_| true) && !script.ended.contains_key(&winner));
    script.answers(loser);
    assert_eq!(bridged(&script), 2);
    script.hangs_up(winner);
    assert_eq!(status(&script), Some(DialStatus::Completed));
}

#[test]
fn a_simultaneous_dial_fails_when_its_last_target_has_failed() {
    let mut script = run(two());
    script.refuses(script.legs[1], 486);
    assert_eq!(status(&script), None);
    script.refuses(script.legs[2], 404);
    assert_eq!(status(&script), Some(DialStatus::Failed));
}

#[test]
fn with_answer_on_bridge_the_caller_rings_until_the_target_answers() {
    let mut script = run(Dial { answer_on_bridge: true, ..one() });
    let (leg, child) = (script.leg(), script.newest());
    let answered = |script: &CallScript| script.has_command(script.leg(), |command| *command == LegCommand::Answer);
    script.progresses(child, RINGING);
    assert!(
        script.has_command(leg, |command| *command == LegCommand::Ring { progress: RINGING }) && !answered(&script)
    );
    script.answers(child);
    assert!(answered(&script));
}

#[test]
fn early_media_connects_the_legs_and_is_not_reported_as_a_bridge() {
    let mut script = run(Dial { answer_on_bridge: true, ring_tone: Some("us".to_owned()), ..one() });
    let (leg, child) = (script.leg(), script.newest());
    for _ in 0..2 {
        script.progresses(child, EARLY_MEDIA);
    }
    assert!(script.has_command(leg, |command| *command == LegCommand::Ring { progress: EARLY_MEDIA }));
    assert_eq!(bridged(&script), 0);
    script.answers(child);
    assert_eq!(bridged(&script), 2);
    assert_eq!(script.commands(leg).filter(|command| matches!(command, LegCommand::Bridge { .. })).count(), 1);
    assert!(!script.has_command(leg, is_ringback));
}

/// The provisional responses that an unanswered caller got.
fn passed_on(script: &CallScript) -> Vec<Progress> {
    script
        .commands(script.leg())
        .filter_map(|command| match command {
            LegCommand::Ring { progress } => Some(*progress),
            _ => None,
        })
        .collect()
}

#[test]
fn an_unanswered_caller_gets_the_provisional_responses_of_the_target_in_their_order() {
    let dial = Dial { answer_on_bridge: true, ring_tone: Some("us".to_owned()), ..one() };
    for order in [
        vec![EARLY_MEDIA, RINGING],
        vec![RINGING, EARLY_MEDIA, RINGING],
        vec![PROGRESS, RINGING, EARLY_MEDIA],
        vec![PROGRESS, EARLY_MEDIA, RINGING_WITH_SDP],
        vec![RINGING_WITH_SDP, EARLY_MEDIA],
    ] {
        let mut script = run(dial.clone());
        let (leg, child) = (script.leg(), script.newest());
        for progress in &order {
            // The far end repeats its last response each minute.
            script.progresses(child, *progress);
            script.progresses(child, *progress);
            script.feed_to(child, LegEvent::PacketArrived);
        }
        assert_eq!(passed_on(&script), order);
        assert!(!script.has_command(leg, is_ringback));
        script.answers(child);
        assert_eq!(script.commands(leg).filter(|command| matches!(command, LegCommand::Bridge { .. })).count(), 1);
    }
}

fn rings_back(script: &CallScript) -> bool {
    script.plays.iter().any(|(leg, _)| *leg == script.leg())
}

#[test]
fn an_answered_caller_hears_ringback_until_the_first_packet_of_early_media() {
    for order in [[RINGING, EARLY_MEDIA], [EARLY_MEDIA, RINGING], [PROGRESS, EARLY_MEDIA], [RINGING_WITH_SDP; 2]] {
        let mut script = run(Dial { ring_tone: Some("us".to_owned()), ..one() });
        let child = script.newest();
        order.into_iter().for_each(|progress| script.progresses(child, progress));
        assert!(rings_back(&script), "{order:?}");
        script.advance(5 * SECOND);
        assert!(rings_back(&script), "{order:?}");
        script.feed_to(child, LegEvent::PacketArrived);
        script.assert_silent();
        script.answers(child);
        assert_eq!(bridged(&script), 2);
        script.assert_silent();
    }
}

#[test]
fn early_media_without_ringing_starts_no_ringback() {
    let mut script = run(Dial { ring_tone: Some("us".to_owned()), ..one() });
    script.progresses(script.newest(), EARLY_MEDIA);
    script.advance(SECOND);
    script.assert_silent();
}

#[test]
fn ringback_begins_again_if_early_media_has_stopped_when_the_target_rings() {
    for packets_flow in [true, false] {
        let mut script = run(Dial { ring_tone: Some("us".to_owned()), ..one() });
        let child = script.newest();
        script.progresses(child, EARLY_MEDIA);
        script.feed_to(child, LegEvent::PacketArrived);
        script.progresses(child, RINGING);
        assert!(script.has_command(child, |command| *command == LegCommand::ReportNextPacket));
        assert!(!rings_back(&script), "packets may still come");
        if packets_flow {
            script.feed_to(child, LegEvent::PacketArrived);
        }
        script.advance(SECOND);
        assert_eq!(rings_back(&script), !packets_flow);
        script.feed_to(child, LegEvent::PacketArrived);
        script.assert_silent();
        script.hangs_up(script.leg());
        script.fetched(Vec::new());
        script.assert_settled();
    }
}

#[test]
fn early_media_of_the_last_target_is_connected_after_the_other_targets_have_refused() {
    let mut script = run(Dial { ring_tone: Some("us".to_owned()), ..two() });
    let (leg, first, second) = (script.leg(), script.legs[1], script.legs[2]);
    script.progresses(first, RINGING);
    script.progresses(second, EARLY_MEDIA);
    script.feed_to(second, LegEvent::PacketArrived);
    assert!(rings_back(&script) && !script.has_command(leg, |it| matches!(it, LegCommand::Bridge { .. })));
    script.refuses(first, 486);
    assert!(script.has_command(leg, |command| *command == LegCommand::Bridge { with: second }));
    script.assert_silent();
}

#[test]
fn ringback_of_the_next_target_follows_the_early_media_of_the_previous_target() {
    let mut script = run(Dial { sequential: true, ring_tone: Some("us".to_owned()), ..two() });
    let first = script.newest();
    script.progresses(first, EARLY_MEDIA);
    script.feed_to(first, LegEvent::PacketArrived);
    script.refuses(first, 486);
    script.progresses(script.newest(), RINGING);
    assert!(rings_back(&script));
}

#[test]
fn an_answered_caller_hears_ringback_until_the_bridge() {
    let mut script = run(Dial { ring_tone: Some("us".to_owned()), ..one() });
    let (leg, child) = (script.leg(), script.newest());
    script.progresses(child, RINGING);
    assert!(script.has_command(leg, is_ringback));
    script.answers(child);
    script.assert_silent();
}

#[test]
fn a_route_from_trunk_to_trunk_passes_the_refusal_on() {
    for (code, expected) in [(486, 486), (404, 404), (302, 503), (407, 503)] {
        let mut script = run(Dial { answer_on_bridge: true, pass_failure: true, action: None, ..one() });
        script.refuses(script.newest(), code);
        assert!(
            script.has_command(script.leg(), |command| *command == LegCommand::Reject(RejectReason::Status(expected)))
        );
        script.assert_settled();
    }
    let mut script = run(Dial { answer_on_bridge: true, pass_failure: true, action: None, ..one() });
    script.advance(20 * SECOND);
    assert!(script.has_command(script.leg(), |command| *command == LegCommand::Reject(RejectReason::Status(480))));
}

#[test]
fn a_recorded_dial_reports_its_result_when_the_file_is_complete() {
    for from_ringing in [false, true] {
        let mut script = run(Dial { record: Some(DialRecord { from_ringing, spec: recording() }), ..one() });
        let child = script.newest();
        script.progresses(child, RINGING);
        assert_eq!(script.recordings.len(), usize::from(from_ringing));
        script.answers(child);
        assert_eq!(script.recordings.len(), 1);
        script.hangs_up(child);
        assert_eq!(status(&script), None);
        script.close_recordings();
        assert_eq!(result(&script).unwrap().recording.unwrap().duration, Some(SECOND));
        assert_eq!(script.last_url(), Some("http://app.test/dialed"));
    }
}

#[test]
fn a_dial_reports_its_result_if_the_caller_hangs_up_while_the_file_is_closed() {
    let mut script = run(Dial { record: Some(DialRecord { from_ringing: false, spec: recording() }), ..one() });
    let child = script.newest();
    script.answers(child);
    script.hangs_up(child);
    script.hangs_up(script.leg());
    script.close_recordings();
    assert_eq!(status(&script), Some(DialStatus::Completed));
    assert_eq!(script.last_url(), Some("http://app.test/dialed"));
    script.assert_settled();
}

#[test]
fn the_result_of_a_recorded_dial_that_is_aborted_names_its_recording() {
    for cut in ["the caller hangs up", "a redirection", "the end by request"] {
        let mut script = run(Dial { record: Some(DialRecord { from_ringing: false, spec: recording() }), ..one() });
        let child = script.newest();
        script.answers(child);
        match cut {
            "the caller hangs up" => script.hangs_up(script.leg()),
            "a redirection" => _ = script.request(Command::Redirect(target("elsewhere"))).unwrap(),
            _ => _ = script.request(Command::Hangup { headers: HeaderFields::new() }).unwrap(),
        }
        let reported = |script: &CallScript| {
            script.document_requests().find_map(|fetch| match &fetch.reason {
                FetchReason::Dialed(result) => Some(result.clone()),
                _ => None,
            })
        };
        assert_eq!(reported(&script), None, "{cut}");
        script.close_recordings();
        let result = reported(&script).unwrap();
        assert_eq!(result.status, DialStatus::Completed, "{cut}");
        assert_eq!(result.recording.unwrap().duration, Some(SECOND), "{cut}");
    }
}

#[test]
fn the_time_limit_of_a_dial_ends_the_called_leg_and_is_its_duration() {
    let mut script = run(Dial { time_limit: Some(60 * SECOND), ..one() });
    let child = script.newest();
    script.advance(5 * SECOND);
    script.answers(child);
    script.advance(60 * SECOND);
    assert!(script.ended.contains_key(&child) && !script.ended.contains_key(&script.leg()));
    let result = result(&script).unwrap();
    assert_eq!((result.status, result.child, result.duration), (DialStatus::Completed, Some(child), 60 * SECOND));
}

#[test]
fn a_star_ends_the_called_leg_if_the_dial_has_this_setting() {
    for hangup_on_star in [false, true] {
        let mut script = run(Dial { hangup_on_star, ..one() });
        let child = script.newest();
        script.answers(child);
        script.advance(3 * SECOND);
        script.sends_digits("1*");
        assert_eq!(script.ended.contains_key(&child), hangup_on_star);
        let reported = result(&script).map(|result| (result.child, result.duration));
        assert_eq!(reported, hangup_on_star.then_some((Some(child), 3 * SECOND)));
        assert!(!script.ended.contains_key(&script.leg()));
    }
}

fn whispered() -> CallScript {
    let mut dial = one();
    dial.targets[0].whisper = Some(target("whisper"));
    let mut script = run(dial);
    script.progresses(script.newest(), EARLY_MEDIA);
    script.answers(script.newest());
    script
}

#[test]
fn a_called_party_runs_its_whisper_document_before_the_bridge() {
    let mut script = whispered();
    let child = script.newest();
    assert!(
        script.has_command(script.leg(), |command| *command == LegCommand::Unbridge),
        "the caller must not hear it"
    );
    let fetch = script.document_requests().next_back().unwrap();
    assert_eq!((fetch.leg.id, &fetch.reason), (child, &FetchReason::Whisper));
    script.fetched(vec![Instruction::Play(file("whisper"))]);
    assert_eq!(bridged(&script), 0);
    script.play_ends(child);
    assert_eq!(bridged(&script), 2);
}

#[test]
fn a_called_party_that_hangs_up_during_the_whisper_is_not_bridged() {
    let mut script = whispered();
    script.fetched(vec![Instruction::Hangup]);
    assert_eq!(bridged(&script), 0);
    assert!(!result(&script).unwrap().bridged);
    assert!(!script.ended.contains_key(&script.leg()));
}

#[test]
fn a_hangup_of_the_caller_ends_the_called_party_and_the_action_is_still_requested() {
    for answered in [false, true] {
        let mut script = run(two());
        if answered {
            script.answers(script.newest());
        }
        script.hangs_up(script.leg());
        let expected = if answered { DialStatus::Completed } else { DialStatus::Canceled };
        assert_eq!(status(&script), Some(expected));
        assert_eq!(script.last_url(), Some("http://app.test/dialed"));
        script.fetched(vec![Instruction::Play(file("ignored"))]);
        script.assert_settled();
    }
}

#[test]
fn a_called_party_that_is_redirected_leaves_the_dial_and_continues() {
    let mut script = run(one());
    let child = script.newest();
    script.answers(child);
    script.request_to(child, Command::Redirect(target("elsewhere"))).unwrap();
    assert_eq!(status(&script), Some(DialStatus::Completed));
    script.hangs_up(script.leg());
    assert!(!script.ended.contains_key(&child));
    assert_eq!(script.fetches.remove(0).0, script.leg(), "the dial's action");
    assert_eq!(script.fetches[0].0, child);
    script.fetched(vec![Instruction::Play(file("alone"))]);
    script.play_ends(child);
    script.assert_settled();
}

#[test]
fn a_redirect_of_the_caller_hangs_up_the_called_party() {
    let mut script = run(Dial { record: Some(DialRecord { from_ringing: false, spec: recording() }), ..one() });
    let child = script.newest();
    script.answers(child);
    script.request(Command::Redirect(target("elsewhere"))).unwrap();
    assert!(script.ended.contains_key(&child));
    assert_eq!(script.stopping.len(), 1, "the dial's recording ends with the dial");
    script.close_recordings();
    let reasons: Vec<_> = script.document_requests().map(|fetch| fetch.reason.clone()).collect();
    assert!(matches!(&reasons[..], [FetchReason::Redirect, FetchReason::Dialed(_)]), "{reasons:?}");
    assert_eq!(status(&script), Some(DialStatus::Completed));
    let redirection = script.fetches.remove(0);
    script.fetched(vec![Instruction::Play(file("ignored"))]);
    script.assert_silent();
    script.fetches.push(redirection);
    script.fetched(vec![Instruction::Hangup]);
    script.assert_settled();
}

#[test]
fn a_called_party_that_is_bridged_with_another_leg_leaves_the_dial() {
    let mut script = run(one());
    let child = script.newest();
    script.answers(child);
    script.dial_out(LegId(5), |_| {});
    script.answers(LegId(5));
    script.request_to(child, Command::Bridge { with: LegId(5), after: AfterBridge::Hangup, if_free: false }).unwrap();
    assert_eq!(status(&script), Some(DialStatus::Completed));
    script.hangs_up(LegId(5));
    assert!(script.ended.contains_key(&child) && !script.ended.contains_key(&script.leg()));
}

#[test]
fn a_dial_of_a_hundred_targets_calls_as_many_legs_as_a_call_can_have() {
    let mut big = one();
    big.targets = vec![DialTarget::new(Address::from("+15550003")); 100];
    let mut script = run(big);
    assert_eq!(script.legs.len(), 64);
    let leg = script.leg();
    assert_eq!(script.request(Command::Transfer(Box::new(one()))), Err(Refused::TooMany));
    script.hangs_up(leg);
    script.assert_settled();
}

#[test]
fn a_called_application_has_its_depth_and_returns_values_to_the_dial() {
    let handover = InternalCall { parameters: vec![("cart".to_owned(), "7".to_owned())], ..InternalCall::default() };
    let target = DialTarget { handover: Some(Box::new(handover)), ..DialTarget::new(Address::from("app:shop")) };
    let mut script = run(Dial { targets: vec![target], ..one() });
    let child = script.newest();
    let info = script.call.leg(child).unwrap();
    assert_eq!((info.depth(), info.sip.call_id.as_deref()), (1, None));
    script.answers(child);
    let returned = vec![("outcome".to_owned(), "sold".to_owned())];
    script.call.set_returned(child, returned.clone());
    script.hangs_up(child);
    assert_eq!(result(&script).unwrap().returned, returned);
}

#[test]
fn only_a_leg_of_an_internal_call_returns_values() {
    let pairs = vec![("outcome".to_owned(), "sold".to_owned())];
    let script = CallScript::runs(vec![Instruction::ReturnValues(pairs), Instruction::Hangup]);
    assert!(!script.has_command(script.leg(), |command| matches!(command, LegCommand::ReturnValues(_))));
    assert!(script.ended.contains_key(&script.leg()));
}

/// Whether the documents of a leg were ended as a loop.
fn loops(script: &CallScript) -> usize {
    let is_loop =
        |kind: &EventKind| matches!(kind, EventKind::FetchFailed { failure } if failure.kind == FailureKind::Loop);
    script.events().filter(|event| is_loop(&event.kind)).count()
}

fn unreachable(detail: &str, reason: EndReason) -> LegEvent {
    LegEvent::Ended { reason, sip_status: None, detail: Some(detail.to_owned()) }
}

#[test]
fn dials_that_take_no_time_are_ended_as_a_loop() {
    for parties in [&["client:a"][..], &["client:a", "client:b", "client:c"]] {
        let dials = (0..1_800).map(|_| Instruction::Dial(dial(parties))).collect();
        let mut script = CallScript::new(7);
        script.rewrites = false;
        script.incoming(LegId(1), Decision::Program(program(dials)));
        let mut answered = 1;
        while script.legs.len() > answered {
            let child = script.legs[answered];
            answered += 1;
            script.feed_to(child, unreachable("nobody is there", EndReason::Rejected));
        }
        assert_eq!(loops(&script), 1);
        assert!((60..=100).contains(&(script.legs.len() - 1)), "{} parties were called", script.legs.len() - 1);
        script.play_ends(script.leg());
        script.assert_settled();
    }
}

#[test]
fn dials_with_a_pause_of_a_second_after_every_twenty_are_ended_as_a_loop() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    script.rewrites = false;
    let mut answered = 1;
    for _ in 0..50 {
        if loops(&script) > 0 {
            break;
        }
        let mut document: Vec<_> = (0..20).map(|_| Instruction::Dial(dial(&["client:a"]))).collect();
        document.extend([Instruction::Pause(SECOND), Instruction::Redirect(target("start"))]);
        script.fetched(document);
        while script.legs.len() > answered {
            answered += 1;
            script.feed_to(script.legs[answered - 1], unreachable("nobody is there", EndReason::Rejected));
        }
        script.advance(SECOND);
    }
    assert_eq!(loops(&script), 1);
    assert!(script.legs.len() < 120, "{} legs", script.legs.len());
}

#[test]
fn a_document_that_dials_a_phone_every_second_is_not_ended_as_a_loop() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    script.rewrites = false;
    for _ in 0..1_000 {
        script.fetched(vec![
            Instruction::Dial(dial(&["client:a"])),
            Instruction::Pause(SECOND),
            Instruction::Redirect(target("start")),
        ]);
        script.feed_to(script.newest(), unreachable("nobody is there", EndReason::Rejected));
        script.advance(SECOND);
    }
    assert_eq!(loops(&script), 0);
}

#[test]
fn an_internal_call_over_the_limit_ends_the_document_that_dials() {
    let detail = "+15550003 was not called: too many calls within this server have the same origin";
    // The next dial, the next party of the same dial, and the action of the dial do not begin.
    for one in [
        Dial { action: None, ..one() },
        Dial { sequential: true, action: None, ..two() },
        Dial { sequential: true, ..two() },
        one(),
    ] {
        let mut script = CallScript::runs(vec![Instruction::Dial(one.clone()), Instruction::Dial(one)]);
        script.feed_to(script.newest(), unreachable(detail, EndReason::Loop));
        assert_eq!((script.legs.len(), loops(&script), script.document_requests().count()), (2, 1, 0));
        assert!(
            script.has_event(|kind| matches!(kind, EventKind::FetchFailed { failure } if failure.detail == detail))
        );
        assert_eq!(status_of(&script, script.newest()), Status::Failed);
        script.play_ends(script.leg());
        script.assert_settled();
    }
}
