//! Legs in conferences: how legs join a conference, what they do in it, and how they leave it.
#![allow(clippy::unwrap_used, reason = "a broken expectation ends the test")]

use std::time::Duration;

use tandem_call::command::{Command, Refused};
use tandem_call::conference::Participation;
use tandem_call::event::{CallEvent, DialStatus, EventKind};
use tandem_call::fetch::FetchReason;
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::{AfterBridge, Conference, Instruction};
use tandem_call::testing::*;
use tandem_id::LegId;

const SECOND: Duration = Duration::from_secs(1);

fn conference(change: impl FnOnce(&mut Conference)) -> Instruction {
    let participation = Participation::new("room");
    let mut conference = Conference { participation, time_limit: None, hangup_on_star: false, action: None };
    change(&mut conference);
    Instruction::Conference(conference)
}

fn joined(script: &CallScript) -> usize {
    script.events().filter(|event| matches!(event.kind, EventKind::ConferenceJoined(_))).count()
}

fn left(script: &CallScript) -> usize {
    script.events().filter(|event| matches!(event.kind, EventKind::ConferenceLeft(_))).count()
}

fn leaves(script: &CallScript, leg: LegId) -> bool {
    script.has_command(leg, |command| matches!(command, LegCommand::LeaveConference { .. }))
}

#[test]
fn a_leg_that_a_conference_refuses_reports_a_failed_participation() {
    let action = || Some(target("after"));
    for (event, status) in [
        (LegEvent::ConferenceRefused, DialStatus::Failed),
        (LegEvent::ConferenceOver { clears: false }, DialStatus::Answered),
    ] {
        let mut script = CallScript::runs(vec![conference(|conference| conference.action = action())]);
        script.feed(event);
        let fetch = script.document_requests().next_back().unwrap();
        let FetchReason::Dialed(result) = &fetch.reason else { panic!("{:?}", fetch.reason) };
        assert_eq!((result.status, result.bridged), (status, status == DialStatus::Answered));
    }
}

#[test]
fn a_document_continues_after_the_end_of_its_conference() {
    let mut script = CallScript::runs(vec![conference(|_| {}), Instruction::Play(file("after"))]);
    let leg = script.leg();
    assert!(script.has_command(leg, |command| *command == LegCommand::JoinConference(Participation::new("room"))));
    script.sends_digits("*1");
    assert_eq!((joined(&script), left(&script)), (1, 0));
    script.feed(LegEvent::ConferenceOver { clears: false });
    assert!(leaves(&script, leg));
    assert!(script.has_command(leg, |command| matches!(command, LegCommand::Play { .. })));
    script.hangs_up(leg);
    script.assert_settled();
}

#[test]
fn a_star_or_the_time_limit_ends_a_participation_and_reports_its_result() {
    let action = |conference: &mut Conference| conference.action = Some(target("after"));
    let star = conference(|conference| {
        action(conference);
        conference.hangup_on_star = true;
    });
    let limit = conference(|conference| {
        action(conference);
        conference.time_limit = Some(60 * SECOND);
    });
    for instruction in [star, limit] {
        let mut script = CallScript::runs(vec![instruction]);
        // The first leg leaves because of the digit `*`, the second leg because of its time limit.
        script.sends_digits("*");
        script.advance(61 * SECOND);
        assert!(leaves(&script, script.leg()));
        assert_eq!(script.last_url(), Some("http://app.test/after"));
    }
}

#[test]
fn a_hangup_ends_a_participation_and_its_action_is_still_requested() {
    let mut script = CallScript::runs(vec![conference(|conference| conference.action = Some(target("after")))]);
    script.hangs_up(script.leg());
    assert_eq!(left(&script), 1);
    assert_eq!(script.last_url(), Some("http://app.test/after"));
}

#[test]
fn commands_let_a_leg_join_mute_and_leave_a_conference() {
    let mut script = CallScript::commanded();
    let leg = script.leg();
    assert_eq!(script.request(Command::MuteInConference(true)), Err(Refused::NotRunning));
    assert_eq!(script.request(Command::LeaveConference), Err(Refused::NotJoined));
    script.request(Command::JoinConference(Participation::new("room"))).unwrap();
    script.request(Command::MuteInConference(true)).unwrap();
    let muted = Participation { muted: true, ..Participation::new("room") };
    assert!(script.has_command(leg, |command| *command == LegCommand::JoinConference(muted.clone())));
    assert_eq!((joined(&script), left(&script)), (1, 0), "it is in the same one");
    script.request(Command::JoinConference(Participation::new("other"))).unwrap();
    assert_eq!((joined(&script), left(&script)), (2, 1));
    script.request(Command::LeaveConference).unwrap();
    assert_eq!(left(&script), 2);
    // A late event of the engine changes nothing.
    script.feed(LegEvent::ConferenceOver { clears: false });
    assert_eq!(left(&script), 2);
}

#[test]
fn a_leg_that_ends_leaves_its_conference_first() {
    let mut script = CallScript::commanded();
    script.request(Command::JoinConference(Participation::new("room"))).unwrap();
    script.hangs_up(script.leg());
    let place = |what: fn(&EventKind) -> bool| script.events().position(|event| what(&event.kind));
    let (left, ended) =
        (place(|kind| matches!(kind, EventKind::ConferenceLeft(_))), place(|kind| *kind == EventKind::Ended));
    assert!(left.is_some() && left < ended);
    script.assert_settled();
}

#[test]
fn a_bridge_takes_a_leg_out_of_its_conference_and_a_conference_out_of_its_bridge() {
    let mut script = CallScript::commanded();
    let (a, b) = (script.leg(), LegId(2));
    script.dial_out(b, |_| {});
    script.answers(b);
    script.request(Command::JoinConference(Participation::new("room"))).unwrap();
    script.request(Command::Bridge { with: b, after: AfterBridge::Continue, if_free: false }).unwrap();
    assert!(leaves(&script, a));
    let bridged = |event: &&CallEvent| matches!(event.kind, EventKind::Bridged { .. });
    assert_eq!(script.events().filter(bridged).count(), 2);
    script.request(Command::JoinConference(Participation::new("room"))).unwrap();
    assert!(script.has_event(|kind| *kind == EventKind::Unbridged));
    assert_eq!(joined(&script), 2);
}
