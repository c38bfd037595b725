//! Transfers (REFER): transfers that a far end requests, and transfers that this server requests from a far end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation ends the test")]

use tandem_call::address::Address;
use tandem_call::command::{Command, Refused};
use tandem_call::event::{EventKind, ReferState};
use tandem_call::fetch::FetchReason;
use tandem_call::header_fields::HeaderFields;
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::*;
use tandem_call::refer::{ReferTarget, Referred};
use tandem_call::route::Decision;
use tandem_call::testing::*;
use tandem_id::LegId;

/// Creates a caller that is bridged with the leg that it dialled. Returns the script, the caller and the dialled leg.
fn joined() -> (CallScript, LegId, LegId) {
    joined_by(dial(&["+15550003"]))
}

fn joined_by(dial: Dial) -> (CallScript, LegId, LegId) {
    let mut script = CallScript::runs(vec![Instruction::Dial(dial), Instruction::Play(file("after"))]);
    let (caller, called) = (script.leg(), script.newest());
    script.answers(called);
    (script, caller, called)
}

fn refers(script: &mut CallScript, leg: LegId, target: ReferTarget) {
    let referred = Referred { target, uri: "sip:cy@h".to_owned(), by: None };
    script.feed_to(leg, LegEvent::Referred(Box::new(referred)));
}

fn to_cy() -> ReferTarget {
    let (to, headers, via) = (Address::from("sip:cy@h"), HeaderFields::new(), Vec::new());
    ReferTarget::Call { to, headers, replaces: None, credentials: None, via }
}

fn answered(script: &CallScript, leg: LegId) -> Option<u16> {
    script.commands(leg).rev().find_map(|command| match command {
        LegCommand::AnswerRefer { status } => Some(*status),
        _ => None,
    })
}

fn notified(script: &CallScript, leg: LegId) -> Vec<u16> {
    let reported = |command: &LegCommand| match command {
        LegCommand::NotifyRefer { status } => Some(*status),
        _ => None,
    };
    script.commands(leg).filter_map(reported).collect()
}

fn joins(script: &CallScript, one: LegId, other: LegId) -> bool {
    script.has_command(one, |command| *command == LegCommand::Bridge { with: other })
        || script.has_command(other, |command| *command == LegCommand::Bridge { with: one })
}

fn is_over(script: &CallScript, leg: LegId) -> bool {
    script.ended.contains_key(&leg)
}

#[test]
fn either_leg_may_transfer_the_other_and_ends_when_the_target_answers() {
    for callee_refers in [true, false] {
        let (mut script, caller, called) = joined();
        let (referrer, transferee) = if callee_refers { (called, caller) } else { (caller, called) };
        refers(&mut script, referrer, to_cy());
        assert_eq!(answered(&script, referrer), Some(202));
        let cy = script.newest();
        script.progresses(cy, RINGING);
        assert!(!is_over(&script, referrer) && !joins(&script, transferee, cy));
        script.answers(cy);
        assert_eq!(notified(&script, referrer), [180, 200]);
        assert!(joins(&script, transferee, cy) && is_over(&script, referrer) && !is_over(&script, transferee));
        script.hangs_up(cy);
        if callee_refers {
            assert!(
                script.commands(caller).any(|command| matches!(command, LegCommand::Play { .. })),
                "its program goes on"
            );
            script.play_ends(caller);
        }
        assert!(is_over(&script, transferee));
        script.assert_settled();
    }
}

#[test]
fn a_failed_transfer_changes_nothing() {
    let (mut script, caller, called) = joined();
    refers(&mut script, called, to_cy());
    let cy = script.newest();
    refers(&mut script, called, to_cy());
    assert_eq!(answered(&script, called), Some(491), "one at a time");
    script.refuses(cy, 486);
    assert_eq!(notified(&script, called), [486]);
    assert!(!is_over(&script, caller) && !is_over(&script, called));
    script.hangs_up(caller);
    assert!(is_over(&script, called));
    script.assert_settled();
}

#[test]
fn a_referrer_may_leave_at_once_and_the_transferee_waits_for_the_target() {
    for (callee_refers, answers) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut script, caller, called) = joined();
        let (referrer, transferee) = if callee_refers { (called, caller) } else { (caller, called) };
        refers(&mut script, referrer, to_cy());
        let cy = script.newest();
        script.hangs_up(referrer);
        assert!(!is_over(&script, transferee) && !is_over(&script, cy));
        assert!(script.has_command(transferee, is_ringback));
        if answers {
            script.answers(cy);
            assert!(joins(&script, transferee, cy));
            script.hangs_up(transferee);
            assert!(is_over(&script, cy));
        } else {
            script.refuses(cy, 404);
            if callee_refers {
                script.play_ends(caller);
            }
            assert!(is_over(&script, transferee));
        }
        script.assert_settled();
    }
}

#[test]
fn the_target_is_cancelled_when_the_transferee_leaves() {
    let (mut script, caller, called) = joined();
    refers(&mut script, called, to_cy());
    let cy = script.newest();
    script.hangs_up(caller);
    assert_eq!(notified(&script, called), [487]);
    assert!(is_over(&script, cy) && is_over(&script, called));
    script.assert_settled();
}

#[test]
fn an_attended_transfer_bridges_the_two_legs_of_the_referrer() {
    let (mut script, caller, called) = joined();
    // The other call of the referrer, which has been merged into this call.
    let (other, target) = (LegId(901), LegId(902));
    let program = Program { instructions: vec![Instruction::Dial(dial(&["+15550009"]))], warnings: Vec::new() };
    script.incoming(other, Decision::Program(program));
    let answerer = script.newest();
    assert_ne!(answerer, target);
    script.answers(answerer);
    refers(&mut script, called, ReferTarget::BridgedWith(other));
    assert_eq!((answered(&script, called), notified(&script, called)), (Some(202), vec![200]));
    assert!(joins(&script, caller, answerer));
    assert!(is_over(&script, called) && is_over(&script, other));
    assert!(!is_over(&script, caller) && !is_over(&script, answerer));
    script.hangs_up(answerer);
    script.play_ends(caller);
    assert!(is_over(&script, caller));
    script.assert_settled();
}

#[test]
fn a_leg_may_replace_another_leg() {
    let (mut script, caller, called) = joined();
    let newcomer = LegId(900);
    script.incoming(newcomer, Decision::Commands);
    assert!(script.request_to(newcomer, Command::ReplaceLeg { of: called }).is_ok());
    assert!(joins(&script, caller, newcomer) && is_over(&script, called));
    let late = LegId(901);
    script.incoming(late, Decision::Commands);
    let refused = script.request_to(late, Command::ReplaceLeg { of: called });
    assert!(matches!(refused, Err(Refused::NotJoined)));
    script.hangs_up(newcomer);
    script.play_ends(caller);
    script.assert_settled();
}

#[test]
fn a_transfer_requests_the_document_of_the_dial_and_a_leg_without_a_bridge_is_not_transferred() {
    let (mut script, caller, called) = joined_by(Dial { refer: Some(target("refer")), ..dial(&["+15550003"]) });
    refers(&mut script, called, to_cy());
    assert_eq!((answered(&script, called), notified(&script, called)), (Some(202), vec![200]));
    assert!(
        matches!(&script.document_requests().next_back().unwrap().reason, FetchReason::Referred { uri, .. } if uri == "sip:cy@h")
    );
    assert!(is_over(&script, called) && !is_over(&script, caller));
    script.fetched(vec![Instruction::Hangup]);
    script.assert_settled();
    let mut script = CallScript::commanded();
    let leg = script.leg();
    refers(&mut script, leg, to_cy());
    assert_eq!(answered(&script, leg), Some(603));
}

#[test]
fn a_transfer_to_a_number_of_this_server_runs_the_route_of_the_number() {
    let (mut script, caller, called) = joined();
    let program = Program { instructions: vec![Instruction::Echo], warnings: Vec::new() };
    refers(&mut script, called, ReferTarget::Number(Box::new(Decision::Program(program))));
    assert!(is_over(&script, called) && !is_over(&script, caller));
    assert!(script.has_command(caller, |command| *command == LegCommand::Echo(true)));
    script.hangs_up(caller);
    script.assert_settled();
}

#[test]
fn a_refer_instruction_waits_for_the_last_report_of_the_far_end() {
    let refer = || {
        Instruction::Refer(Refer {
            to: "sip:cy@h".into(),
            headers: HeaderFields::new(),
            action: Some(target("referred")),
        })
    };
    let state = |script: &CallScript| {
        let reported = |event: &tandem_call::event::CallEvent| match &event.kind {
            EventKind::Refer(facts) => Some((facts.state, facts.answer, facts.progress)),
            _ => None,
        };
        script.events().rev().find_map(reported).unwrap()
    };
    let mut script = CallScript::runs(vec![refer()]);
    let leg = script.leg();
    assert!(script.has_command(leg, |command| matches!(command, LegCommand::Refer { to, .. } if to == "sip:cy@h")));
    assert_eq!(state(&script).0, ReferState::Started);
    script.feed(LegEvent::ReferAnswered { status: 202 });
    script.feed(LegEvent::ReferProgress { status: 180, done: false });
    script.feed(LegEvent::ReferProgress { status: 200, done: true });
    assert_eq!(state(&script), (ReferState::Completed, Some(202), Some(200)));
    assert!(matches!(script.document_requests().next_back().unwrap().reason, FetchReason::Refer(_)));

    let mut script = CallScript::runs(vec![refer()]);
    script.feed(LegEvent::ReferAnswered { status: 603 });
    assert_eq!(state(&script), (ReferState::Failed, Some(603), None));

    let mut script = CallScript::runs(vec![refer()]);
    let leg = script.leg();
    script.feed(LegEvent::ReferAnswered { status: 202 });
    script.hangs_up(leg);
    assert_eq!(state(&script).0, ReferState::Completed, "the far end has called the target");
    script.assert_settled();
}
