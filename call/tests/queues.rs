//! Legs that wait in a queue, and legs that take waiting legs out of a queue.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::time::Duration;

use tandem_call::command::{Command, Refused};
use tandem_call::event::{DialStatus, EventKind};
use tandem_call::fetch::{FailureKind, FetchReason, Scope};
use tandem_call::header_fields::HeaderFields;
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::*;
use tandem_call::queue::{NotQueued, QueueResult};
use tandem_call::route::Decision;
use tandem_call::testing::*;
use tandem_id::{LegId, QueueId};

const SECOND: Duration = Duration::from_secs(1);
const QUEUE: QueueId = QueueId(5);
const CALLER: LegId = LegId(1);
const AGENT: LegId = LegId(2);

/// Creates a caller that runs this instruction and then `Echo`. The queue has admitted the caller.
fn waiting(enqueue: Enqueue) -> CallScript {
    let mut script = CallScript::runs(vec![Instruction::Enqueue(enqueue), Instruction::Echo]);
    script.is_enqueued(Ok(QUEUE));
    script
}

fn with_document() -> CallScript {
    waiting(Enqueue { wait: Wait::Document(target("wait")), ..enqueue("support") })
}

/// Creates a waiting caller and an agent in the same call. The agent dials the queue and takes the caller.
fn called(dial: Dial) -> CallScript {
    let mut script = waiting(enqueue("support"));
    script.incoming(AGENT, Decision::Program(program(vec![Instruction::Dial(dial), Instruction::Pause(SECOND)])));
    script.feed_to(CALLER, LegEvent::Called { queue: QUEUE, by: AGENT });
    script
}

fn whispering() -> Dial {
    Dial { queue: Some(Dequeue { queue: "support".into(), whisper: Some(target("whisper")) }), ..dequeue("support") }
}

fn result(script: &CallScript) -> Option<QueueResult> {
    script.events().rev().find_map(|event| match &event.kind {
        EventKind::Dequeued(outcome) => Some(outcome.result),
        _ => None,
    })
}

fn dial_status(script: &CallScript) -> Option<DialStatus> {
    script.events().rev().find_map(|event| match &event.kind {
        EventKind::Dialed(result) => Some(result.status),
        _ => None,
    })
}

fn hears_music(script: &CallScript, leg: LegId) -> bool {
    let op = script.commands(leg).rev().find_map(|command| match command {
        LegCommand::Play {
            op,
            play: Play { source: AudioSource::Music, loops: None, callback: None, early: false, max_duration: None },
            elapsed: None,
        } => Some(*op),
        _ => None,
    });
    op.is_some_and(|op| script.plays.contains(&(leg, op)))
}

fn joined(script: &CallScript) -> bool {
    script.has_command(AGENT, |command| *command == LegCommand::Bridge { with: CALLER })
}

fn left(script: &CallScript) -> usize {
    script.commands(CALLER).filter(|command| **command == LegCommand::LeaveQueue).count()
}

fn ends(mut script: CallScript) {
    for leg in script.legs.clone() {
        script.hangs_up(leg);
    }
    script.close_recordings();
    script.assert_settled();
    script.assert_silent();
}

#[test]
fn a_caller_waits_in_a_queue_and_hears_music() {
    let mut script = CallScript::runs(vec![Instruction::Enqueue(Enqueue { max_size: Some(3), ..enqueue("support") })]);
    let enters = |command: &LegCommand| matches!(command, LegCommand::EnterQueue { queue, max_size: Some(3), .. } if **queue == *"support");
    assert!(script.has_command(CALLER, enters));
    assert!(!hears_music(&script, CALLER), "not in line yet");
    script.is_enqueued(Ok(QUEUE));
    assert!(hears_music(&script, CALLER));
    assert!(script.has_event(|event| matches!(event, EventKind::Enqueued { id: QUEUE, .. })));
    ends(script);
}

#[test]
fn a_wait_in_silence_plays_no_audio() {
    let script = waiting(Enqueue { wait: Wait::Silence, ..enqueue("support") });
    assert!(script.plays.is_empty() && script.fetches.is_empty());
    ends(script);
}

#[test]
fn a_full_queue_is_reported_at_once_and_the_document_of_the_action_runs() {
    for (why, expected) in [(NotQueued::Full, QueueResult::Full), (NotQueued::TooManyQueues, QueueResult::Failed)] {
        let mut script = CallScript::runs(vec![Instruction::Enqueue(enqueue("support"))]);
        script.is_enqueued(Err(why));
        let FetchReason::Queued(outcome) = &script.document_requests().next_back().unwrap().reason else {
            panic!("the result is not reported")
        };
        assert_eq!((outcome.result, outcome.waited), (expected, None));
        script.fetched(vec![Instruction::Play(file("sorry"))]);
        assert_eq!(script.plays.len(), 1);
        ends(script);
    }
}

#[test]
fn the_wait_document_is_requested_again_at_most_once_a_second() {
    let mut script = with_document();
    for round in 1..4 {
        let fetch = script.document_requests().next_back().unwrap();
        assert_eq!((&fetch.reason, fetch.scope), (&FetchReason::Wait, Scope::Queue));
        assert_eq!(script.document_requests().count(), round);
        script.fetched(vec![Instruction::Play(file("tune"))]);
        script.advance(3 * SECOND);
        script.play_ends(CALLER);
    }
    // The wait document is empty. The call requests the document again after one second, without limit.
    for _ in 0..200 {
        script.fetched(Vec::new());
        assert!(script.fetches.is_empty());
        script.advance(SECOND);
    }
    assert_eq!(script.fetches.len(), 1);
    ends(script);
}

#[test]
fn a_caller_whose_wait_document_fails_waits_on_with_music() {
    let mut script = with_document();
    script.fetch_fails();
    assert!(hears_music(&script, CALLER));
    ends(script);
    let mut script = with_document();
    for _ in 0..50 {
        script.fetched(vec![Instruction::Redirect(target("further"))]);
    }
    assert!(script.fetches.is_empty());
    assert!(hears_music(&script, CALLER));
    ends(script);
}

fn gave_up(script: &CallScript) -> bool {
    script.has_event(|kind| matches!(kind, EventKind::FetchFailed { failure } if failure.kind == FailureKind::Loop))
}

/// Answers every document request until there is none, and counts the requests. The queue always admits the caller.
fn rounds(script: &mut CallScript, document: impl Fn(&FetchReason) -> Vec<Instruction>) -> usize {
    let mut count = 0;
    while let Some((_, id)) = script.fetches.first().copied() {
        let fetch = script.document_requests().find(|fetch| fetch.id == id).unwrap();
        let program = document(&fetch.reason);
        script.fetched(program);
        script.is_enqueued(Ok(QUEUE));
        count += 1;
        assert!(count < 1_000, "the documents go round for ever");
    }
    count
}

#[test]
fn documents_that_form_a_loop_through_a_queue_are_ended() {
    let enqueues = || Enqueue { wait: Wait::Document(target("wait")), ..enqueue("support") };
    // The wait document leaves the queue at once, and the action enters the queue again.
    let mut script = waiting(Enqueue { action: Some(target("start")), ..enqueues() });
    let count = rounds(&mut script, |reason| match reason {
        FetchReason::Wait => vec![Instruction::Leave],
        _ => vec![Instruction::Enqueue(enqueues())],
    });
    assert!(gave_up(&script));
    assert!(count < 60, "{count}");
    // The wait document enters the queue again.
    let mut script = waiting(enqueues());
    let count = rounds(&mut script, |reason| match reason {
        FetchReason::Wait => vec![Instruction::Enqueue(enqueues())],
        _ => Vec::new(),
    });
    assert!(gave_up(&script));
    assert!(count < 120, "{count}");
}

#[test]
fn an_application_that_answers_slowly_is_not_ended_as_a_loop() {
    let mut script = with_document();
    for _ in 0..100 {
        script.advance(SECOND * 95 / 100);
        script.fetched(Vec::new());
        script.advance(SECOND);
    }
    assert!(!gave_up(&script));
    assert_eq!(script.fetches.len(), 1);
    ends(script);
}

#[test]
fn digits_lead_to_another_wait_document_and_out_of_the_queue() {
    let mut script = with_document();
    script.fetched(vec![Instruction::Gather(gather())]);
    script.sends_digits("1#");
    assert_eq!(script.document_requests().next_back().unwrap().scope, Scope::Queue);
    script.advance(4 * SECOND);
    script.fetched(vec![Instruction::Leave, Instruction::Play(file("never"))]);
    let fetch = script.document_requests().next_back().unwrap();
    let FetchReason::Queued(outcome) = &fetch.reason else { panic!("{fetch:?}") };
    assert_eq!((outcome.result, outcome.waited), (QueueResult::Left, Some((QUEUE, 4 * SECOND))));
    assert_eq!((fetch.scope, left(&script)), (Scope::Leg, 1));
    assert!(script.plays.is_empty());
    ends(script);
}

#[test]
fn a_wait_without_an_action_continues_with_the_next_instruction() {
    let mut script = waiting(Enqueue { wait: Wait::Document(target("wait")), action: None, ..enqueue("support") });
    script.fetched(vec![Instruction::Leave]);
    assert!(script.has_command(CALLER, |command| *command == LegCommand::Echo(true)));
    ends(script);
}

#[test]
fn a_leave_instruction_outside_a_queue_does_nothing() {
    let script = CallScript::runs(vec![Instruction::Leave, Instruction::Play(file("a"))]);
    assert_eq!(script.plays.len(), 1);
    ends(script);
}

#[test]
fn a_caller_that_hangs_up_or_is_redirected_leaves_the_queue_and_the_result_is_reported() {
    let mut script = waiting(enqueue("support"));
    script.hangs_up(CALLER);
    assert_eq!((result(&script), left(&script)), (Some(QueueResult::Hangup), 1));
    assert_eq!(script.last_url(), Some("http://app.test/queued"));
    script.assert_settled();
    for command in [Command::Redirect(target("elsewhere")), Command::Dequeue(target("elsewhere"))] {
        let mut script = waiting(enqueue("support"));
        script.request(command).unwrap();
        assert_eq!((result(&script), left(&script)), (Some(QueueResult::Redirected), 1));
        assert_eq!(script.last_url(), Some("http://app.test/elsewhere"));
        let fetch = script.document_requests().next_back().unwrap();
        assert_eq!(fetch.scope, Scope::Leg);
        ends(script);
    }
    let mut script = CallScript::runs(vec![Instruction::Echo]);
    assert_eq!(script.request(Command::Dequeue(target("elsewhere"))), Err(Refused::NotRunning));
}

#[test]
fn an_agent_takes_the_first_leg_of_a_queue_and_both_continue_after_the_bridge() {
    let mut script = called(dequeue("support"));
    assert!(joined(&script));
    assert!(!hears_music(&script, CALLER));
    assert_eq!(left(&script), 1);
    script.advance(7 * SECOND);
    script.hangs_up(AGENT);
    assert_eq!(dial_status(&script), Some(DialStatus::Completed));
    let reported = script.document_requests().find_map(|fetch| match &fetch.reason {
        FetchReason::Queued(outcome) => Some((outcome.result, outcome.waited)),
        _ => None,
    });
    assert_eq!(reported, Some((QueueResult::Bridged, Some((QUEUE, Duration::ZERO)))));
    assert!(!script.ended.contains_key(&CALLER));
    ends(script);

    let mut script = called(dequeue("support"));
    script.advance(7 * SECOND);
    script.hangs_up(CALLER);
    assert_eq!(result(&script), Some(QueueResult::Bridged));
    let reported = script.events().find_map(|event| match &event.kind {
        EventKind::Dialed(result) => Some((result.child, result.duration, result.bridged)),
        _ => None,
    });
    assert_eq!(reported, Some((Some(CALLER), 7 * SECOND, true)));
    assert_eq!(script.last_url(), Some("http://app.test/dialed"));
    ends(script);
}

#[test]
fn a_star_or_the_time_limit_of_the_agent_lets_the_caller_continue() {
    let mut script = called(Dial { hangup_on_star: true, ..dequeue("support") });
    script.feed_to(AGENT, LegEvent::Dtmf('*'));
    assert_eq!(result(&script), Some(QueueResult::Bridged));
    assert!(script.ended.is_empty());
    ends(script);
    let mut script = called(Dial { time_limit: Some(60 * SECOND), ..dequeue("support") });
    script.advance(60 * SECOND);
    assert_eq!((result(&script), dial_status(&script)), (Some(QueueResult::Bridged), Some(DialStatus::Completed)));
    assert!(script.ended.is_empty());
    ends(script);
}

#[test]
fn only_the_caller_hears_the_whisper_document_before_the_bridge() {
    let mut script = called(whispering());
    assert!(!joined(&script));
    let fetch = script.document_requests().next_back().unwrap();
    assert_eq!((fetch.leg.id, fetch.scope), (CALLER, Scope::Whisper));
    assert_eq!(fetch.reason, FetchReason::Called { queue: QUEUE, waited: Duration::ZERO, by: AGENT });
    script.fetched(vec![Instruction::Play(file("soon"))]);
    assert!(!joined(&script));
    script.play_ends(CALLER);
    assert!(joined(&script));
    script.hangs_up(AGENT);
    assert_eq!(result(&script), Some(QueueResult::Bridged));
    ends(script);
}

#[test]
fn a_whisper_document_that_cannot_be_fetched_is_skipped() {
    let mut script = called(whispering());
    script.fetch_fails();
    assert!(joined(&script));
    ends(script);
}

#[test]
fn a_caller_returns_to_its_position_if_the_agent_leaves_before_the_bridge() {
    for has_started in [false, true] {
        let mut script = called(whispering());
        if has_started {
            script.fetched(vec![Instruction::Play(file("soon"))]);
        }
        script.hangs_up(AGENT);
        assert!(script.has_command(CALLER, |command| *command == LegCommand::ReturnToQueue));
        assert_eq!((left(&script), result(&script)), (0, None));
        assert!(hears_music(&script, CALLER));
        // Another agent takes the caller later.
        script.fetches.clear();
        script.incoming(LegId(3), Decision::Program(program(vec![Instruction::Dial(dequeue("support"))])));
        script.feed_to(CALLER, LegEvent::Called { queue: QUEUE, by: LegId(3) });
        assert!(script.has_command(LegId(3), |command| *command == LegCommand::Bridge { with: CALLER }));
        ends(script);
    }
}

#[test]
fn a_caller_that_leaves_before_the_bridge_is_followed_by_the_next_caller() {
    let mut script = called(whispering());
    script.hangs_up(CALLER);
    assert_eq!(result(&script), Some(QueueResult::Bridging));
    assert_eq!(dial_status(&script), None);
    let requests = |script: &CallScript| {
        script.commands(AGENT).filter(|command| matches!(command, LegCommand::DequeueFirst { .. })).count()
    };
    assert_eq!(requests(&script), 2);
    // The same happens if the caller has already left the queue when the agent takes the caller.
    script.feed_to(CALLER, LegEvent::Called { queue: QUEUE, by: AGENT });
    assert_eq!(requests(&script), 3);
    ends(script);
}

#[test]
fn a_leg_that_runs_no_dial_receives_no_caller() {
    let mut script = waiting(enqueue("support"));
    script.incoming(AGENT, Decision::Program(program(vec![Instruction::Echo])));
    script.feed_to(CALLER, LegEvent::Called { queue: QUEUE, by: AGENT });
    script.feed_to(CALLER, LegEvent::Called { queue: QUEUE, by: LegId(77) });
    assert_eq!(script.commands(CALLER).filter(|command| **command == LegCommand::ReturnToQueue).count(), 2);
    assert!(hears_music(&script, CALLER));
    ends(script);
}

#[test]
fn an_agent_waits_at_an_empty_queue_until_its_timeout() {
    let mut script = CallScript::runs(vec![Instruction::Dial(Dial { ring_tone: Some("us".into()), ..dequeue("q") })]);
    assert!(script.has_command(CALLER, is_ringback));
    script.advance(19 * SECOND);
    assert_eq!(dial_status(&script), None);
    script.advance(SECOND);
    assert_eq!(dial_status(&script), Some(DialStatus::NoAnswer));
    assert!(script.has_command(CALLER, |command| *command == LegCommand::StopDequeue));
    script.assert_silent();
    ends(script);
}

#[test]
fn a_caller_that_cannot_be_moved_into_the_call_fails_the_dial() {
    let mut script = CallScript::runs(vec![Instruction::Dial(dequeue("q"))]);
    script.feed(LegEvent::DequeueFailed);
    assert_eq!(dial_status(&script), Some(DialStatus::Failed));
    ends(script);
}

#[test]
fn a_caller_that_is_bridged_with_an_agent_can_be_redirected() {
    let mut script = called(dequeue("support"));
    script.request_to(CALLER, Command::Redirect(target("elsewhere"))).unwrap();
    assert_eq!(result(&script), Some(QueueResult::RedirectedFromBridge));
    assert_eq!(dial_status(&script), Some(DialStatus::Completed));
    ends(script);
}

#[test]
fn a_dial_from_a_queue_records_on_the_leg_of_the_agent() {
    let record = Some(DialRecord { from_ringing: false, spec: recording() });
    let mut script = called(Dial { record, ..dequeue("support") });
    assert_eq!(script.recordings.iter().next().unwrap().0, AGENT);
    script.hangs_up(CALLER);
    script.close_recordings();
    assert_eq!(script.last_url(), Some("http://app.test/dialed"));
    ends(script);
}

#[test]
fn a_leg_in_another_queue_ignores_late_events_of_the_first_queue() {
    let mut script = waiting(enqueue("support"));
    script.request(Command::Run(program(vec![Instruction::Enqueue(enqueue("sales"))]))).unwrap();
    // A late event of the first queue does not affect the wait in the second queue.
    let ops: Vec<_> = script
        .commands(CALLER)
        .filter_map(|command| match command {
            LegCommand::EnterQueue { op, .. } => Some(*op),
            _ => None,
        })
        .collect();
    script.feed(LegEvent::Enqueued { op: ops[0], result: Ok(QUEUE) });
    script.feed(LegEvent::Enqueued { op: ops[1], result: Ok(QueueId(6)) });
    script.incoming(AGENT, Decision::Program(program(vec![Instruction::Dial(dequeue("support"))])));
    script.feed_to(CALLER, LegEvent::Called { queue: QUEUE, by: AGENT });
    assert!(!joined(&script) && hears_music(&script, CALLER));
    script.feed_to(CALLER, LegEvent::Called { queue: QueueId(6), by: AGENT });
    assert!(joined(&script));
    let names: Vec<_> = script
        .commands(CALLER)
        .filter_map(|command| match command {
            LegCommand::EnterQueue { queue, .. } => Some(&**queue),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["support", "sales"]);
    ends(script);
}

/// Creates a leg that commands control. A request has put this leg into a queue.
fn in_line(enqueue: Enqueue) -> CallScript {
    let mut script = CallScript::inbound(Decision::Commands);
    script.request(Command::Answer { record: None, stream: None, headers: HeaderFields::new() }).unwrap();
    script.request(Command::EnterQueue(Box::new(enqueue))).unwrap();
    script.is_enqueued(Ok(QUEUE));
    script
}

#[test]
fn a_leg_that_a_request_puts_into_a_queue_continues_its_program() {
    let mut script = in_line(Enqueue { wait: Wait::Silence, ..enqueue("support") });
    assert!(script.has_event(|event| matches!(event, EventKind::Enqueued { id: QUEUE, .. })));
    let (interrupt, to) = (tandem_call::command::Interrupt::None, tandem_call::leg::TargetLegs::Own);
    script.request(Command::Play { play: file("hold"), interrupt, to }).unwrap();
    assert_eq!(script.plays.len(), 1, "it plays in the queue");
    assert_eq!(script.request(Command::EnterQueue(Box::new(enqueue("other")))), Err(Refused::AlreadyRunning));
    script.request(Command::LeaveQueue).unwrap();
    assert_eq!((result(&script), left(&script)), (Some(QueueResult::Left), 1));
    assert_eq!(script.plays.len(), 1, "and afterwards");
    assert_eq!(script.request(Command::LeaveQueue), Err(Refused::NotRunning));
    ends(script);
}

#[test]
fn a_leg_that_a_request_puts_into_a_queue_waits_at_most_its_maximum_duration() {
    let mut script = in_line(Enqueue { max_duration: Some(SECOND), ..enqueue("support") });
    script.advance(SECOND);
    assert_eq!((result(&script), left(&script)), (Some(QueueResult::TimedOut), 1));
    ends(script);
}

#[test]
fn a_waiting_leg_that_a_request_bridges_reports_the_result_bridged() {
    let mut script = in_line(enqueue("support"));
    script.incoming(AGENT, Decision::Commands);
    let bridge = Command::Bridge { with: CALLER, after: AfterBridge::Continue, if_free: false };
    script.request_to(AGENT, Command::Answer { record: None, stream: None, headers: HeaderFields::new() }).unwrap();
    script.request_to(AGENT, bridge).unwrap();
    assert_eq!((result(&script), left(&script)), (Some(QueueResult::Bridged), 1));
    assert!(joined(&script));
    ends(script);
}
