//! Commands in documents. A document can give the same commands as a request. The action of the document receives the
//! result.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken expectation ends the test")]

use std::sync::Arc;
use std::time::Duration;

use tandem_call::command::{Accepted, Command, Refused};
use tandem_call::event::EventKind;
use tandem_call::fetch::FetchReason;
use tandem_call::header_fields::HeaderFields;
use tandem_call::machine_detection::{DetectionResult, MachineDetection, Until};
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::*;
use tandem_call::queue::QueueResult;
use tandem_call::recording::RecordingEnd;
use tandem_call::route::Decision;
use tandem_call::testing::*;
use tandem_call::{Callback, StatusEvent};
use tandem_id::QueueId;

const SECOND: Duration = Duration::from_secs(1);

fn execute(command: Command) -> Instruction {
    Instruction::ExecuteCommand(Box::new(ExecuteCommand { command, action: Some(target("next")) }))
}

fn outcome(script: &CallScript) -> FetchReason {
    script.document_requests().next_back().expect("a document is requested").reason.clone()
}

fn answer() -> Command {
    Command::Answer { record: None, stream: None, headers: HeaderFields::new() }
}

#[test]
fn a_command_of_an_instruction_is_executed_and_its_result_is_reported() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    let leg = script.leg();
    script.fetched(vec![execute(answer())]);
    assert!(script.has_command(leg, |command| *command == LegCommand::Answer));
    assert_eq!(outcome(&script), FetchReason::CommandExecuted(Ok(Accepted::default())));
    script.fetched(vec![execute(Command::StartRecording(recording()))]);
    let FetchReason::CommandExecuted(Ok(Accepted { recording: Some(id), .. })) = outcome(&script) else { panic!() };
    script.fetched(vec![execute(Command::StopRecording(Some(id)))]);
    assert_eq!(outcome(&script), FetchReason::CommandExecuted(Ok(Accepted::default())));
    script.recording_ends(leg, RecordingEnd::Stopped);
    script.fetched(vec![execute(Command::StopRecording(Some(id)))]);
    assert_eq!(outcome(&script), FetchReason::CommandExecuted(Err(Refused::NotRunning)));
    script.fetched(vec![Instruction::Hangup]);
    script.assert_settled();
}

#[test]
fn a_command_that_needs_an_answer_answers_the_leg_first() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    let leg = script.leg();
    script.fetched(vec![execute(Command::TimeLimit(SECOND))]);
    assert!(!script.has_command(leg, |command| *command == LegCommand::Answer));
    script.fetched(vec![execute(Command::StartStream { spec: stream("a"), if_none_runs: false })]);
    assert!(script.has_command(leg, |command| *command == LegCommand::Answer));
    script.hangs_up(leg);
    script.assert_settled();
}

#[test]
fn a_command_that_hangs_up_ends_its_document() {
    let script = CallScript::runs(vec![
        Instruction::Play(Play { early: true, ..file("a") }),
        execute(Command::Hangup { headers: HeaderFields::new() }),
        Instruction::Play(file("never")),
    ]);
    let mut script = script;
    script.play_ends(script.leg());
    script.assert_settled();
    assert_eq!(script.document_requests().count(), 0);
}

#[test]
fn early_audio_plays_before_the_answer_and_does_not_answer_the_leg() {
    let mut script = CallScript::runs(vec![
        Instruction::Play(Play { early: true, ..file("a") }),
        Instruction::Reject(RejectReason::Busy),
    ]);
    let leg = script.leg();
    assert!(script.has_command(leg, |command| *command == LegCommand::Ring { progress: EARLY_MEDIA }));
    assert!(script.has_command(leg, |command| matches!(command, LegCommand::Play { .. })));
    script.play_ends(leg);
    assert!(!script.has_command(leg, |command| *command == LegCommand::Answer));
    assert!(script.has_command(leg, |command| *command == LegCommand::Reject(RejectReason::Busy)));
    script.assert_settled();
}

#[test]
fn audio_with_a_maximum_duration_is_stopped_after_this_time() {
    let play = Play { max_duration: Some(2 * SECOND), ..file("a") };
    let mut script = CallScript::runs(vec![Instruction::Play(play), Instruction::Hangup]);
    let leg = script.leg();
    script.advance(SECOND);
    assert!(!script.has_command(leg, |command| matches!(command, LegCommand::Stop { .. })));
    script.advance(SECOND);
    assert!(script.has_command(leg, |command| matches!(command, LegCommand::Stop { .. })));
    script.assert_settled();
}

#[test]
fn a_caller_may_cancel_during_early_audio() {
    let mut script = CallScript::runs(vec![Instruction::Play(Play { early: true, ..file("a") })]);
    script.hangs_up(script.leg());
    script.assert_settled();
}

#[test]
fn machine_detection_can_start_in_the_middle_of_a_call() {
    let milliseconds = Duration::from_millis;
    let spec = MachineDetection::new(Until::FirstResult, 30 * SECOND, SECOND, milliseconds(800), 4 * SECOND);
    let detect = DetectMachine { spec, action: Some(target("next")) };
    let mut script = CallScript::runs(vec![Instruction::DetectMachine(Box::new(detect))]);
    let leg = script.leg();
    let op = script
        .commands(leg)
        .find_map(|command| match command {
            LegCommand::DetectMachine { op, .. } => Some(*op),
            _ => None,
        })
        .unwrap();
    script.feed(LegEvent::MachineDetected { op, result: DetectionResult::Human, after: SECOND });
    let FetchReason::Detected(facts) = outcome(&script) else { panic!("{:?}", outcome(&script)) };
    assert_eq!((facts.result, facts.after), (DetectionResult::Human, SECOND));
    script.hangs_up(leg);
    script.assert_settled();
}

#[test]
fn a_caller_may_hang_up_during_machine_detection() {
    let spec = MachineDetection::new(Until::FirstResult, 30 * SECOND, SECOND, SECOND, 4 * SECOND);
    let detect = DetectMachine { spec, action: Some(target("next")) };
    let mut script = CallScript::runs(vec![Instruction::DetectMachine(Box::new(detect))]);
    script.hangs_up(script.leg());
    script.assert_settled();
}

#[test]
fn a_wait_in_a_queue_ends_at_its_maximum_duration() {
    let enqueue = Enqueue { max_duration: Some(60 * SECOND), ..enqueue("support") };
    let mut script = CallScript::runs(vec![Instruction::Enqueue(enqueue)]);
    script.is_enqueued(Ok(QueueId(1)));
    script.advance(59 * SECOND);
    assert_eq!(script.document_requests().count(), 0);
    script.advance(SECOND);
    let FetchReason::Queued(outcome) = outcome(&script) else { panic!() };
    assert_eq!(outcome.result, QueueResult::TimedOut);
    script.fetched(vec![Instruction::Hangup]);
    script.assert_settled();
}

#[test]
fn callbacks_of_a_playback_and_of_a_gather_are_part_of_their_events() {
    let callback = |path: &str| {
        let events = vec![StatusEvent::Completed];
        let (failover, elsewhere, timeout) = (None, Vec::new(), None);
        Some(Arc::new(Callback { target: target(path), failover, events, elsewhere, timeout }))
    };
    let mut script = CallScript::runs(vec![
        Instruction::Play(Play { callback: callback("played"), ..file("a") }),
        Instruction::Gather(Gather { callback: callback("gathered"), action: None, ..gather() }),
    ]);
    script.play_ends(script.leg());
    script.sends_digits("1#");
    assert!(script.has_event(|event| match event {
        EventKind::PlaybackEnded(playback, _) => playback.callback == callback("played"),
        _ => false,
    }));
    assert!(script.has_event(|event| match event {
        EventKind::GatherEnded { callback: reported, .. } => *reported == callback("gathered"),
        _ => false,
    }));
    script.assert_settled();
}

#[test]
fn an_overlay_plays_while_the_document_runs() {
    let minute = Instruction::Pause(60 * SECOND);
    let mut script = CallScript::runs(vec![execute(answer()), minute.clone()]);
    let leg = script.leg();
    script.fetched(vec![minute]);
    assert_eq!(script.request(Command::StopOverlay), Err(Refused::NotRunning));
    script.request(Command::PlayOverlay(vec![file("a"), file("b")])).unwrap();
    script.request(Command::PlayOverlay(vec![file("c")])).unwrap();
    for _ in 0..2 {
        script.play_ends(leg);
    }
    let played = script.events().filter(|event| matches!(event.kind, EventKind::PlaybackStarted(_))).count();
    assert_eq!((played, script.plays.len()), (3, 1));
    script.request(Command::StopOverlay).unwrap();
    assert!(script.plays.is_empty());
    assert_eq!(script.request(Command::PlayOverlay(vec![file("d"); 101])), Err(Refused::TooMany));
    script.request(Command::PlayOverlay(vec![file("e")])).unwrap();
    script.hangs_up(leg);
    script.assert_settled();
}

#[test]
fn a_stopped_detection_reports_no_result() {
    let mut script = CallScript::commanded();
    let spec = MachineDetection::new(Until::FirstResult, 30 * SECOND, SECOND, SECOND, 4 * SECOND);
    script.request(Command::DetectMachine(Box::new(spec))).unwrap();
    script.request(Command::StopDetecting).unwrap();
    assert_eq!(script.request(Command::StopDetecting), Err(Refused::NotRunning));
    script.hangs_up(script.leg());
    script.assert_settled();
}
