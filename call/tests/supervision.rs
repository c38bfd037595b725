//! Supervisors: legs that hear the call of another leg.
#![allow(clippy::unwrap_used, reason = "a broken expectation ends the test")]

use tandem_call::command::{Command, Refused};
use tandem_call::conference::Participation;
use tandem_call::new_leg::OnAnswer;
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::AfterBridge;
use tandem_call::supervision::{Supervision, SupervisorRole};
use tandem_call::testing::*;
use tandem_id::LegId;

const SUPERVISOR: LegId = LegId(3);

/// Creates two bridged legs, and a supervisor that whispers to the second leg.
fn supervised() -> (CallScript, LegId, LegId) {
    let mut script = CallScript::commanded();
    let (a, b) = (script.leg(), LegId(2));
    script.dial_out(b, |new| new.plan.bridge_to = Some(a));
    script.answers(b);
    let supervision = Supervision { of: b, role: SupervisorRole::Whisper };
    script.dial_out(SUPERVISOR, |new| new.plan.then = OnAnswer::Supervise(supervision));
    script.answers(SUPERVISOR);
    (script, a, b)
}

fn last(script: &CallScript) -> &LegCommand {
    script.commands(SUPERVISOR).next_back().unwrap()
}

#[test]
fn a_supervisor_is_connected_at_its_answer_and_ends_with_the_supervised_leg() {
    let (mut script, a, b) = supervised();
    assert_eq!(*last(&script), LegCommand::Supervise(Supervision { of: b, role: SupervisorRole::Whisper }));
    script.request_to(SUPERVISOR, Command::Supervise(SupervisorRole::Barge)).unwrap();
    assert_eq!(*last(&script), LegCommand::Supervise(Supervision { of: b, role: SupervisorRole::Barge }));
    assert_eq!(script.request_to(a, Command::Supervise(SupervisorRole::Barge)), Err(Refused::NotRunning));
    script.hangs_up(b);
    assert!(script.has_command(SUPERVISOR, |command| *command == LegCommand::StopSupervising));
    script.assert_settled();
}

#[test]
fn the_end_of_a_supervisor_does_not_change_the_bridge() {
    let (mut script, a, b) = supervised();
    script.hangs_up(SUPERVISOR);
    assert!(!script.ended.contains_key(&a) && !script.ended.contains_key(&b));
    assert!(!script.has_command(b, |command| *command == LegCommand::Unbridge));
}

#[test]
fn a_supervisor_follows_its_leg_into_a_conference_and_out_of_it() {
    let (mut script, _, b) = supervised();
    script.request_to(b, Command::JoinConference(Participation::new("room"))).unwrap();
    let LegCommand::JoinConference(own) = last(&script) else { panic!("{:?}", last(&script)) };
    assert_eq!((&*own.conference, &own.coach), ("room", &SupervisorRole::Whisper.coaching(vec![b])));
    script.feed_to(b, LegEvent::ConferenceOver { clears: false });
    assert_eq!(*last(&script), LegCommand::Supervise(Supervision { of: b, role: SupervisorRole::Whisper }));
}

#[test]
fn a_supervisor_that_starts_another_activity_stops_supervising() {
    let (mut script, _, b) = supervised();
    let join = Command::Bridge { with: b, after: AfterBridge::Hangup, if_free: false };
    script.request_to(SUPERVISOR, join).unwrap();
    assert!(script.has_command(SUPERVISOR, |command| *command == LegCommand::StopSupervising));
    let again = Command::Supervise(SupervisorRole::Barge);
    assert_eq!(script.request_to(SUPERVISOR, again), Err(Refused::NotRunning));
}

#[test]
fn a_supervisor_of_a_leg_that_has_ended_is_hung_up() {
    let mut script = CallScript::new(7);
    script.dial_out(SUPERVISOR, |new| {
        new.plan.then = OnAnswer::Supervise(Supervision { of: LegId(9), role: SupervisorRole::Monitor });
    });
    script.answers(SUPERVISOR);
    assert!(script.ended.contains_key(&SUPERVISOR));
    script.assert_settled();
}
