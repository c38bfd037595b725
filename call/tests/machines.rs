//! Answering-machine detection: which actions wait for a result, and which actions follow a result.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken expectation ends the test")]

use std::time::Duration;

use tandem_call::command::Command;
use tandem_call::event::EventKind;
use tandem_call::leg::Status;
use tandem_call::machine_detection::{DetectionResult, GreetingEnd, MachineDetection, Until};
use tandem_call::new_leg::OnAnswer;
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::{DialTarget, Instruction};
use tandem_call::testing::*;
use tandem_id::{LegId, OpId};

const SECOND: Duration = Duration::from_secs(1);

fn detection(until: Until, holds: bool) -> Option<Box<MachineDetection>> {
    let spec = MachineDetection::new(until, 30 * SECOND, 2 * SECOND, SECOND, 5 * SECOND);
    Some(Box::new(MachineDetection { holds, ..spec }))
}

/// Creates an outbound leg that was answered. A detection runs on the leg.
fn answered(until: Until, holds: bool) -> CallScript {
    let mut script = CallScript::new(7);
    script.dial_out(LegId(1), |leg| {
        leg.plan.then = OnAnswer::Document(target("voice"));
        leg.plan.detect = detection(until, holds);
    });
    script.answers(LegId(1));
    script
}

fn op(script: &CallScript, leg: LegId) -> OpId {
    let op = |command: &LegCommand| match command {
        LegCommand::DetectMachine { op, .. } => Some(*op),
        _ => None,
    };
    script.commands(leg).find_map(op).unwrap()
}

fn find(script: &mut CallScript, leg: LegId, verdict: DetectionResult) {
    let op = op(script, leg);
    script.feed_to(leg, LegEvent::MachineDetected { op, result: verdict, after: SECOND });
}

fn verdicts(script: &CallScript) -> Vec<DetectionResult> {
    let verdict = |event: &tandem_call::event::CallEvent| match &event.kind {
        EventKind::MachineDetected(facts) => Some(facts.result),
        _ => None,
    };
    script.events().filter_map(verdict).collect()
}

#[test]
fn a_document_that_detects_a_machine_waits_for_the_last_result_and_receives_it() {
    let mut script = answered(Until::GreetingEnd, true);
    assert!(script.fetches.is_empty(), "requested before the result");
    find(&mut script, LegId(1), DetectionResult::Machine);
    assert!(script.fetches.is_empty(), "requested during the greeting of the machine");
    let end = DetectionResult::GreetingEnded(GreetingEnd::Beep);
    find(&mut script, LegId(1), end);
    let fetch = script.document_requests().next().unwrap();
    assert_eq!(fetch.leg.answered_by.unwrap().verdict, end);
    assert_eq!(verdicts(&script), [DetectionResult::Machine, end]);
    find(&mut script, LegId(1), DetectionResult::Human);
    assert_eq!(verdicts(&script).len(), 2, "it was over");
}

#[test]
fn a_detection_that_does_not_hold_the_document_runs_in_the_background() {
    let mut script = answered(Until::FirstResult, false);
    assert_eq!(script.last_url(), Some("http://app.test/voice"));
    script.fetched(vec![Instruction::Pause(60 * SECOND)]);
    find(&mut script, LegId(1), DetectionResult::Human);
    assert_eq!(verdicts(&script), [DetectionResult::Human]);
    assert_eq!(script.fetches.len(), 0);
}

#[test]
fn a_detection_result_does_not_replace_a_document_that_was_requested_meanwhile() {
    let mut script = answered(Until::FirstResult, true);
    script.request(Command::Redirect(target("other"))).unwrap();
    find(&mut script, LegId(1), DetectionResult::Human);
    assert_eq!(script.document_requests().count(), 1);
    assert_eq!(script.last_url(), Some("http://app.test/other"));
}

#[test]
fn a_leg_that_ends_during_a_detection_requests_no_document() {
    let mut script = answered(Until::FirstResult, true);
    script.hangs_up(LegId(1));
    assert_eq!(script.document_requests().count(), 0);
    let end = script.events().find(|event| event.kind == EventKind::Ended).unwrap();
    assert_eq!((end.leg.status, end.leg.answered_by), (Status::Completed, None));
    script.assert_settled();
}

#[test]
fn a_dialled_leg_is_bridged_during_its_detection() {
    let mut dial = dial(&[]);
    let mut target = DialTarget::new("+15550003".into());
    target.detect = detection(Until::FirstResult, false);
    dial.targets = vec![target];
    let mut script = CallScript::runs(vec![Instruction::Dial(dial)]);
    let child = script.newest();
    script.answers(child);
    assert!(script.has_event(|kind| matches!(kind, EventKind::Bridged { .. })));
    find(&mut script, child, DetectionResult::Machine);
    assert_eq!(verdicts(&script), [DetectionResult::Machine]);
}
