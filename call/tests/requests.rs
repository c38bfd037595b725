//! Requests of applications to live legs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::time::Duration;

use tandem_call::call::Call;
use tandem_call::command::{Command, Interrupt, Refused, Request};
use tandem_call::event::{EventKind, GatherEnd, PlaybackEnd};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{EndCause, LegOwner, Status, TargetLegs};
use tandem_call::new_leg::OnAnswer;
use tandem_call::output::LegCommand;
use tandem_call::program::instruction::*;
use tandem_call::recording::{PauseBehavior, RecordingStatus, Track};
use tandem_call::route::{Decision, Route};
use tandem_call::stream::StreamStatus;
use tandem_call::testing::*;
use tandem_id::{AccountName, CallId, LegId};

const SECOND: Duration = Duration::from_secs(1);

fn play(name: &str, interrupt: Interrupt) -> Command {
    Command::Play { play: file(name), interrupt, to: TargetLegs::Own }
}

/// Returns the names of the files that were played so far.
fn played(script: &CallScript) -> Vec<String> {
    let name = |url: &str| url.trim_start_matches("http://app.test/").trim_end_matches(".wav").to_owned();
    script
        .commands(script.leg())
        .filter_map(|command| match command {
            LegCommand::Play { play: Play { source: AudioSource::Url(url), .. }, .. } => Some(name(url)),
            _ => None,
        })
        .collect()
}

fn gather_end(script: &CallScript) -> Option<GatherEnd> {
    script.events().rev().find_map(|event| match event.kind {
        EventKind::GatherEnded { end, .. } => Some(end),
        _ => None,
    })
}

fn end_of(script: &CallScript, leg: LegId) -> Option<(Status, EndCause)> {
    let event = script.events().find(|event| event.leg.id == leg && event.kind == EventKind::Ended)?;
    Some((event.leg.status, event.leg.end.as_ref()?.cause))
}

/// Creates two answered legs in one call. Commands control both legs.
fn pair() -> (CallScript, LegId, LegId) {
    let mut script = CallScript::commanded();
    let (a, b) = (script.leg(), LegId(2));
    script.dial_out(b, |_| {});
    script.answers(b);
    (script, a, b)
}

#[test]
fn noise_suppression_can_be_requested_before_and_after_the_answer() {
    let mut script = CallScript::outbound(OnAnswer::Wait);
    let leg = script.leg();
    let suppress = |on| Command::SuppressNoise { track: Track::Both, on };
    script.request(suppress(true)).unwrap();
    let command = LegCommand::SuppressNoise { track: Track::Both, on: true };
    assert!(script.commands(leg).any(|one| *one == command));
    script.answers(leg);
    script.request(suppress(false)).unwrap();
    assert!(script.has_command(leg, |one| *one == LegCommand::SuppressNoise { track: Track::Both, on: false }));
}

#[test]
fn a_stream_that_is_stopped_by_its_name_returns_its_id() {
    let mut script = CallScript::commanded();
    let start = |name| Command::StartStream { spec: stream(name), if_none_runs: false };
    let first = script.request(start("first")).unwrap().stream;
    let second = script.request(start("second")).unwrap().stream;
    let stop = |name: &str| Command::StopNamedStream(name.to_owned());
    assert_eq!(script.request(stop("third")), Err(Refused::NotRunning));
    assert_eq!(script.request(stop("second")).unwrap().stream, second);
    assert_eq!(script.request(stop("second")), Err(Refused::NotRunning));
    assert_eq!(script.streams.iter().map(|(_, id)| Some(*id)).collect::<Vec<_>>(), [first]);
}

#[test]
fn a_fallback_that_a_request_sets_is_requested_when_the_next_document_fails() {
    let mut script = CallScript::outbound(OnAnswer::Wait);
    script.answers(script.leg());
    script.request(Command::SetFallback(Some(target("fallback")))).unwrap();
    script.request(Command::Redirect(target("broken"))).unwrap();
    script.fetch_fails();
    assert_eq!(script.last_url(), Some(&*target("fallback").url));
    script.request(Command::SetFallback(None)).unwrap();
    script.request(Command::Redirect(target("broken"))).unwrap();
    script.fetch_fails();
    assert_eq!(script.last_url(), Some(&*target("broken").url));
}

#[test]
fn audio_by_request_is_played_one_after_the_other() {
    let mut script = CallScript::commanded();
    for name in ["a", "b", "c"] {
        script.request(play(name, Interrupt::None)).unwrap();
    }
    assert_eq!(played(&script), ["a"]);
    script.play_ends(script.leg());
    assert_eq!(played(&script), ["a", "b"]);
}

#[test]
fn an_interruption_of_the_current_audio_keeps_the_waiting_audio() {
    let mut script = CallScript::commanded();
    script.request(play("a", Interrupt::None)).unwrap();
    script.request(play("b", Interrupt::None)).unwrap();
    script.request(play("c", Interrupt::Current)).unwrap();
    assert!(script.has_event(|kind| matches!(kind, EventKind::PlaybackEnded(_, PlaybackEnd::Stopped))));
    script.play_ends(script.leg());
    assert_eq!(played(&script), ["a", "c", "b"]);
}

#[test]
fn an_interruption_of_all_audio_drops_the_waiting_audio() {
    let mut script = CallScript::commanded();
    script.request(play("a", Interrupt::None)).unwrap();
    script.request(play("b", Interrupt::None)).unwrap();
    script.request(play("c", Interrupt::All)).unwrap();
    script.play_ends(script.leg());
    assert_eq!(played(&script), ["a", "c"]);
}

#[test]
fn a_stop_of_the_current_audio_starts_the_next_audio() {
    for (interrupt, expected) in [(Interrupt::Current, vec!["a", "b"]), (Interrupt::All, vec!["a"])] {
        let mut script = CallScript::commanded();
        script.request(play("a", Interrupt::None)).unwrap();
        script.request(play("b", Interrupt::None)).unwrap();
        script.request(Command::StopPlayback(interrupt)).unwrap();
        assert_eq!(played(&script), expected);
    }
}

#[test]
fn digits_are_collected_while_audio_plays() {
    let mut script = CallScript::commanded();
    script.request(play("a", Interrupt::None)).unwrap();
    script.request(Command::Gather(Box::new(gather()))).unwrap();
    script.sends_digits("12#");
    assert_eq!(gather_end(&script), Some(GatherEnd::Valid));
    assert_eq!(script.plays.len(), 1, "a gather without prompts does not stop what plays");
    assert_eq!(script.last_url(), None, "a gather by request is an event and requests no document");
}

#[test]
fn a_gather_with_prompts_waits_for_the_current_audio_and_a_new_gather_replaces_it() {
    let mut script = CallScript::commanded();
    let prompted = Gather { prompts: vec![file("menu")], action: None, ..gather() };
    script.request(Command::Gather(Box::new(prompted.clone()))).unwrap();
    script.request(Command::Gather(Box::new(prompted))).unwrap();
    assert_eq!(gather_end(&script), Some(GatherEnd::Stopped));
    assert_eq!(played(&script), ["menu", "menu"]);
    script.sends_digits("1#");
    script.assert_silent();
    assert_eq!(gather_end(&script), Some(GatherEnd::Valid));
}

#[test]
fn a_gather_that_a_request_or_a_hangup_ends_is_reported() {
    for prompts in [vec![], vec![file("menu")]] {
        let spec = Gather { prompts, ..gather() };
        let mut script = CallScript::commanded();
        script.request(Command::Gather(Box::new(spec.clone()))).unwrap();
        script.request(Command::StopGather).unwrap();
        assert_eq!(gather_end(&script), Some(GatherEnd::Stopped));
        script.request(Command::Gather(Box::new(spec))).unwrap();
        script.hangs_up(script.leg());
        assert_eq!(gather_end(&script), Some(GatherEnd::Hangup));
        script.assert_settled();
    }
}

#[test]
fn a_transfer_bridges_the_leg_with_the_target_that_answers() {
    let mut script = CallScript::commanded();
    script.request(Command::Transfer(Box::new(dial(&["+15550003"])))).unwrap();
    let child = script.newest();
    script.answers(child);
    assert!(script.has_command(script.leg(), |command| *command == LegCommand::Bridge { with: child }));
}

#[test]
fn audio_that_is_requested_during_a_transfer_plays_at_once() {
    let mut script = CallScript::commanded();
    let leg = script.leg();
    script.request(Command::Transfer(Box::new(dial(&["+15550003"])))).unwrap();
    script.request(play("please hold", Interrupt::None)).unwrap();
    assert_eq!(script.plays.len(), 1);
    let child = script.newest();
    script.answers(child);
    assert!(script.has_command(leg, |command| *command == LegCommand::Bridge { with: child }));
    script.request(play("two of you", Interrupt::All)).unwrap();
    script.play_ends(leg);
    script.hangs_up(leg);
    assert!(script.ended.contains_key(&child));
    script.assert_settled();
}

#[test]
fn ringback_does_not_replace_audio_during_a_transfer() {
    let mut script = CallScript::commanded();
    let leg = script.leg();
    let ringing = Dial { ring_tone: Some("us".into()), answer_on_bridge: true, ..dial(&["+15550003"]) };
    script.request(Command::Transfer(Box::new(ringing))).unwrap();
    script.request(play("please hold", Interrupt::None)).unwrap();
    script.progresses(script.newest(), RINGING);
    assert_eq!(script.plays.len(), 1);
    script.play_ends(leg);
    assert!(script.plays.is_empty());
}

#[test]
fn a_second_transfer_replaces_the_first() {
    let mut script = CallScript::commanded();
    script.request(Command::Transfer(Box::new(dial(&["+15550003"])))).unwrap();
    let first = script.newest();
    script.request(Command::Transfer(Box::new(dial(&["+15550004"])))).unwrap();
    assert_eq!(end_of(&script, first), Some((Status::Canceled, EndCause::OriginatorCancel)));
    let second = script.newest();
    script.answers(second);
    assert!(script.has_command(script.leg(), |command| *command == LegCommand::Bridge { with: second }));
}

#[test]
fn a_stop_of_all_gathers_ends_the_waiting_gathers() {
    let mut script = CallScript::commanded();
    script.request(play("news", Interrupt::None)).unwrap();
    let spec = Gather { prompts: vec![file("which?")], id: Some("g".into()), ..gather() };
    script.request(Command::Gather(Box::new(spec))).unwrap();
    script.request(Command::StopGather).unwrap();
    assert_eq!(gather_end(&script), Some(GatherEnd::Stopped));
    script.play_ends(script.leg());
    assert!(script.plays.is_empty());
}

#[test]
fn a_gather_that_holds_its_timers_starts_its_timer_with_the_command() {
    let mut script = CallScript::commanded();
    let held = || Gather { id: Some("g".into()), holds_timers: true, max_digits: Some(4), ..gather() };
    script.request(Command::Gather(Box::new(held()))).unwrap();
    script.advance(60 * SECOND);
    assert_eq!(gather_end(&script), None, "no timer runs");
    script.request(Command::StartGatherTimers).unwrap();
    script.advance(4 * SECOND);
    assert_eq!(gather_end(&script), None);
    script.advance(SECOND);
    assert_eq!(gather_end(&script), Some(GatherEnd::Timeout));
    assert_eq!(script.request(Command::StartGatherTimers).err(), Some(Refused::NotRunning));
    // The time between two digits is measured without a command.
    let mut script = CallScript::commanded();
    script.request(Command::Gather(Box::new(held()))).unwrap();
    script.sends_digits("1");
    script.request(Command::StartGatherTimers).unwrap();
    script.advance(60 * SECOND);
    assert_eq!(gather_end(&script), Some(GatherEnd::Valid));
}

#[test]
fn a_transfer_that_fails_leaves_the_leg_alive() {
    let mut script = CallScript::commanded();
    script.request(Command::Transfer(Box::new(Dial { after: AfterBridge::Hangup, ..dial(&["+15550003"]) }))).unwrap();
    script.refuses(script.newest(), 486);
    assert_eq!(script.ended.len(), 1);
    script.request(play("still here", Interrupt::None)).unwrap();
    assert_eq!(script.plays.len(), 1);
}

#[test]
fn a_bridged_leg_that_is_transferred_releases_the_other_leg() {
    let (mut script, a, b) = pair();
    script.request(Command::Bridge { with: b, after: AfterBridge::Continue, if_free: false }).unwrap();
    script.request(Command::Transfer(Box::new(dial(&["+15550003"])))).unwrap();
    let child = script.newest();
    script.answers(child);
    assert_eq!(end_of(&script, b), Some((Status::Completed, EndCause::NormalClearing)));
    assert!(script.has_command(a, |command| *command == LegCommand::Bridge { with: child }));
}

#[test]
fn bridged_legs_end_together_unless_one_leg_continues() {
    for after in [AfterBridge::Hangup, AfterBridge::Continue] {
        let (mut script, a, b) = pair();
        script.request(Command::Bridge { with: b, after, if_free: false }).unwrap();
        script.hangs_up(b);
        assert_eq!(script.ended.contains_key(&a), after == AfterBridge::Hangup);
        let unbridged = script.events().filter(|event| event.kind == EventKind::Unbridged).count();
        assert_eq!(unbridged, 2);
    }
}

#[test]
fn a_second_bridge_of_the_same_legs_changes_nothing() {
    let (mut script, a, b) = pair();
    for _ in 0..2 {
        script.request(Command::Bridge { with: b, after: AfterBridge::Hangup, if_free: false }).unwrap();
    }
    assert!(script.ended.is_empty());
    assert_eq!(script.commands(a).filter(|command| matches!(command, LegCommand::Bridge { .. })).count(), 1);
    assert_eq!(script.events().filter(|event| matches!(event.kind, EventKind::Bridged { .. })).count(), 2);
}

#[test]
fn a_leg_of_another_call_can_be_bridged_after_the_merge() {
    let mut script = CallScript::commanded();
    let mut other = Call::new(CallId(2), [2; 32], script.now);
    let route = Route {
        owner: LegOwner::new(AccountName::new("main"), "test"),
        status: None,
        record: None,
        decision: Decision::Commands,
    };
    let b = LegId(9);
    other.handle_incoming(script.now, info(b, tandem_call::leg::Direction::Inbound), route);
    let with = Command::Bridge { with: b, after: AfterBridge::Hangup, if_free: false };
    assert_eq!(script.request(with.clone()), Err(Refused::CannotBridge));
    assert!(other.legs().count() <= script.call.room());
    script.call.merge(script.now, other);
    script.drain();
    script.request(with).unwrap();
    assert!(script.has_command(b, |command| *command == LegCommand::Answer));
    script.hangs_up(b);
    script.assert_settled();
}

#[test]
fn a_bridge_that_waits_for_the_answer_keeps_its_actions_after_the_bridge() {
    let mut script = CallScript::commanded();
    let (a, b) = (script.leg(), LegId(2));
    script.dial_out(b, |_| {});
    script.request(Command::Bridge { with: b, after: AfterBridge::Continue, if_free: false }).unwrap();
    assert!(!script.has_command(b, |command| matches!(command, LegCommand::Bridge { .. })));
    script.answers(b);
    assert!(script.has_command(b, |command| *command == LegCommand::Bridge { with: a }));
    script.hangs_up(b);
    assert!(!script.ended.contains_key(&a));

    let mut script = CallScript::commanded();
    let a = script.leg();
    script.dial_out(b, |leg| leg.plan.bridge_to = Some(a));
    script.answers(b);
    script.hangs_up(a);
    assert!(script.ended.contains_key(&b));
    script.assert_settled();
}

#[test]
fn a_leg_whose_planned_bridge_has_lost_its_leg_acts_as_after_the_bridge() {
    for (after, ended) in [(AfterBridge::Hangup, true), (AfterBridge::Continue, false)] {
        let mut script = CallScript::commanded();
        let (a, b) = (script.leg(), LegId(2));
        script.dial_out(b, |_| {});
        let bridge = Request { client_state: None, command: Command::Bridge { with: a, after, if_free: false } };
        script.call.handle_request(script.now, b, bridge).unwrap();
        script.drain();
        script.hangs_up(a);
        assert!(!script.ended.contains_key(&b));
        script.answers(b);
        assert_eq!(script.ended.contains_key(&b), ended);
    }
}

#[test]
fn a_recording_is_paused_resumed_and_stopped_once() {
    let mut script = CallScript::commanded();
    let id = script.request(Command::StartRecording(recording())).unwrap().recording;
    script.request(Command::PauseRecording { which: id, pause_behavior: PauseBehavior::Silence }).unwrap();
    assert_eq!(
        script.request(Command::PauseRecording { which: id, pause_behavior: PauseBehavior::Silence }),
        Err(Refused::NotRunning)
    );
    script.request(Command::ResumeRecording(None)).unwrap();
    script.request(Command::StopRecording(None)).unwrap();
    assert_eq!(
        script.request(Command::PauseRecording { which: id, pause_behavior: PauseBehavior::Silence }),
        Err(Refused::NotRunning)
    );
    script.close_recordings();
    assert_eq!(script.request(Command::StopRecording(id)), Err(Refused::NotRunning));
    let reported: Vec<_> = script
        .events()
        .filter_map(|event| match &event.kind {
            EventKind::Recording(recording) => Some(recording.status.clone()),
            _ => None,
        })
        .collect();
    use RecordingStatus::{Completed, InProgress, Paused};
    assert_eq!(reported, [InProgress, Paused, InProgress, Completed]);
}

#[test]
fn a_leg_that_waits_for_a_stream_continues_when_a_request_stops_the_stream() {
    let connect = Instruction::Connect(Connect {
        stream: stream("a"),
        action: Some(target("connected")),
        outlives_failure: false,
    });
    let mut script = CallScript::runs(vec![connect]);
    script.stream_is(script.leg(), StreamStatus::Started);
    script.request(Command::StopStream(None)).unwrap();
    assert_eq!(script.last_url(), Some("http://app.test/connected"));
    assert_eq!(script.request(Command::StopStream(None)), Err(Refused::NotRunning));
}

#[test]
fn client_state_is_part_of_later_events_and_a_refused_request_does_not_change_it() {
    let mut script = CallScript::commanded();
    let leg = script.leg();
    let mut with_state = |command, state: &str| {
        let request = Request { client_state: Some(state.to_owned()), command };
        let outcome = script.call.handle_request(script.now, leg, request);
        script.drain();
        outcome
    };
    with_state(Command::StopRecording(None), "refused").unwrap_err();
    with_state(play("a", Interrupt::None), "first").unwrap();
    let states: Vec<_> = script.events().map(|event| event.leg.client_state.clone()).collect();
    assert_eq!(states.last().unwrap().as_deref(), Some("first"));
    assert!(!states.contains(&Some("refused".to_owned())));
}

#[test]
fn a_time_limit_counts_from_the_answer_whenever_it_was_set() {
    let mut script = CallScript::commanded();
    let leg = script.leg();
    script.request(Command::TimeLimit(100 * SECOND)).unwrap();
    script.advance(20 * SECOND);
    script.request(Command::TimeLimit(30 * SECOND)).unwrap();
    script.advance(9 * SECOND);
    assert!(!script.ended.contains_key(&leg));
    script.advance(SECOND);
    assert_eq!(end_of(&script, leg), Some((Status::Completed, EndCause::TimeLimit)));
    script.assert_settled();
}

#[test]
fn an_inbound_leg_without_an_answer_ends_after_half_an_hour() {
    let mut script = CallScript::inbound(Decision::Commands);
    let leg = script.leg();
    script.advance(1_799 * SECOND);
    assert!(script.ended.is_empty());
    script.advance(SECOND);
    assert_eq!(end_of(&script, leg), Some((Status::NoAnswer, EndCause::Timeout)));
    script.assert_settled();
}

#[test]
fn an_inbound_leg_that_is_answered_late_has_its_full_time_limit() {
    let mut script = CallScript::inbound(Decision::Commands);
    script.advance(1_799 * SECOND);
    script.request(Command::Answer { record: None, stream: None, headers: HeaderFields::new() }).unwrap();
    script.advance(14_399 * SECOND);
    assert!(script.ended.is_empty());
}

#[test]
fn an_inbound_leg_and_its_bridged_leg_end_four_hours_after_the_answer() {
    let mut script = CallScript::runs(vec![Instruction::Dial(Dial { answer_on_bridge: true, ..dial(&["100"]) })]);
    let (caller, called) = (script.leg(), script.legs[1]);
    script.advance(10 * SECOND);
    script.answers(called);
    script.advance(14_399 * SECOND);
    assert!(script.ended.is_empty());
    script.advance(SECOND);
    assert_eq!(end_of(&script, caller), Some((Status::Completed, EndCause::TimeLimit)));
    assert_eq!(end_of(&script, called).unwrap().0, Status::Completed);
    script.assert_settled();
}

#[test]
fn redirects_by_request_are_not_ended_as_a_loop() {
    let mut script = CallScript::commanded();
    for _ in 0..200 {
        script.request(Command::Redirect(target("hold"))).unwrap();
        script.fetched(vec![Instruction::Play(Play { loops: None, ..file("music") })]);
    }
    assert!(!script.has_event(|kind| matches!(kind, EventKind::FetchFailed { .. })));
    assert_eq!(script.plays.len(), 1);
}

#[test]
fn a_cancel_ends_only_unanswered_legs_and_a_hangup_ends_every_leg() {
    let mut script = CallScript::outbound(OnAnswer::Wait);
    let leg = script.leg();
    script.request(Command::Cancel).unwrap();
    assert_eq!(end_of(&script, leg), Some((Status::Canceled, EndCause::OriginatorCancel)));
    let mut script = CallScript::commanded();
    script.request(Command::Cancel).unwrap();
    assert!(script.ended.is_empty());
    script.request(Command::Hangup { headers: HeaderFields::new() }).unwrap();
    script.assert_settled();
}

#[test]
fn an_inbound_leg_that_is_hung_up_before_its_answer_is_canceled() {
    let mut script = CallScript::inbound(Decision::Commands);
    script.request(Command::Hangup { headers: HeaderFields::new() }).unwrap();
    assert_eq!(end_of(&script, LegId(1)), Some((Status::Canceled, EndCause::NormalClearing)));
    script.assert_settled();
}

#[test]
fn a_leg_has_at_most_a_hundred_instructions_eight_recordings_and_four_streams() {
    let mut script = CallScript::commanded();
    for _ in 0..101 {
        script.request(play("a", Interrupt::None)).unwrap();
    }
    assert_eq!(script.request(play("a", Interrupt::None)), Err(Refused::TooMany));
    assert_eq!(script.request(Command::Enqueue(Box::new(Instruction::Echo))), Err(Refused::TooMany));
    for _ in 0..8 {
        script.request(Command::StartRecording(recording())).unwrap();
    }
    assert_eq!(script.request(Command::StartRecording(recording())), Err(Refused::TooMany));
    for _ in 0..4 {
        script.request(Command::StartStream { spec: stream("a"), if_none_runs: false }).unwrap();
    }
    assert_eq!(script.request(Command::StartStream { spec: stream("a"), if_none_runs: false }), Err(Refused::TooMany));
    assert_eq!(
        script.request(Command::StartStream { spec: stream("a"), if_none_runs: true }),
        Err(Refused::AlreadyRunning)
    );
}

#[test]
fn each_command_is_accepted_only_in_its_states() {
    use Refused::{AlreadyAnswered, CannotBridge, Ended, NotAnswered, NotRunning};
    let answer = || Command::Answer { record: None, stream: None, headers: HeaderFields::new() };
    let digits = || SendDigits { digits: "1".to_owned(), tone: SECOND };
    let program = || program(vec![Instruction::Echo]);
    let bridge = |with| Command::Bridge { with, after: AfterBridge::Hangup, if_free: false };
    // Each row has a command and its result on three legs: a ringing inbound leg, a ringing outbound leg, and an
    // answered leg.
    let table = [
        (answer(), Ok(()), Err(NotAnswered), Err(AlreadyAnswered)),
        (Command::Reject(RejectReason::Busy), Ok(()), Err(AlreadyAnswered), Err(AlreadyAnswered)),
        (Command::Hangup { headers: HeaderFields::new() }, Ok(()), Ok(()), Ok(())),
        (Command::Cancel, Ok(()), Ok(()), Ok(())),
        (Command::Run(program()), Err(NotAnswered), Err(NotAnswered), Ok(())),
        (Command::Redirect(target("x")), Err(NotAnswered), Err(NotAnswered), Ok(())),
        (play("a", Interrupt::None), Err(NotAnswered), Err(NotAnswered), Ok(())),
        (Command::Gather(Box::new(gather())), Err(NotAnswered), Err(NotAnswered), Ok(())),
        (Command::StopGather, Err(NotAnswered), Err(NotAnswered), Ok(())),
        (Command::StartGatherTimers, Err(NotAnswered), Err(NotAnswered), Err(NotRunning)),
        (Command::SendDigits(digits()), Err(NotAnswered), Err(NotAnswered), Ok(())),
        (Command::StartRecording(recording()), Err(NotAnswered), Err(NotAnswered), Ok(())),
        (Command::StopRecording(None), Err(NotRunning), Err(NotRunning), Err(NotRunning)),
        (Command::StartStream { spec: stream("a"), if_none_runs: false }, Err(NotAnswered), Err(NotAnswered), Ok(())),
        (Command::StopStream(None), Err(NotRunning), Err(NotRunning), Err(NotRunning)),
        (bridge(LegId(1)), Err(CannotBridge), Err(CannotBridge), Err(CannotBridge)),
        (bridge(LegId(77)), Err(CannotBridge), Err(CannotBridge), Err(CannotBridge)),
        (Command::Transfer(Box::new(dial(&["+15550003"]))), Ok(()), Err(NotAnswered), Ok(())),
        (Command::SetClientState, Ok(()), Ok(()), Ok(())),
        (Command::TimeLimit(SECOND), Ok(()), Ok(()), Ok(())),
    ];
    for (command, ringing_in, ringing_out, answered) in table {
        let on = |mut script: CallScript| script.request(command.clone()).map(|_| ());
        assert_eq!(on(CallScript::inbound(Decision::Commands)), ringing_in, "{command:?} ringing in");
        assert_eq!(on(CallScript::outbound(OnAnswer::Wait)), ringing_out, "{command:?} ringing out");
        assert_eq!(on(CallScript::commanded()), answered, "{command:?} answered");
        let mut closing = CallScript::commanded();
        closing.request(Command::StartRecording(recording())).unwrap();
        closing.hangs_up(LegId(1));
        assert_eq!(on(closing), Err(Ended), "{command:?} ended");
        let mut gone = CallScript::commanded();
        gone.hangs_up(LegId(1));
        assert_eq!(on(gone), Err(Refused::NoSuchLeg), "{command:?} released");
    }
}

#[test]
fn the_first_answered_leg_of_several_targets_cancels_the_other_legs() {
    let mut script = CallScript::new(7);
    let (first, second, third, unrelated) = (LegId(1), LegId(2), LegId(3), LegId(4));
    for leg in [first, second, third] {
        script.dial_out(leg, |new| new.race = Some(first));
    }
    script.dial_out(unrelated, |_| {});
    script.refuses(third, 486);
    assert_eq!(end_of(&script, first), None);
    script.answers(second);
    assert_eq!(end_of(&script, first), Some((Status::Canceled, EndCause::OriginatorCancel)));
    assert_eq!(end_of(&script, third), Some((Status::Busy, EndCause::Busy)));
    assert_eq!((end_of(&script, second), end_of(&script, unrelated)), (None, None));
    script.answers(first);
    assert!(!script.ended.contains_key(&second), "an answer that came too late changes nothing");
    script.hangs_up(second);
    script.hangs_up(unrelated);
    script.assert_settled();
}

#[test]
fn the_creator_of_a_leg_sets_the_cause_of_an_unanswered_end() {
    for cause in [EndCause::Timeout, EndCause::NoAnswer] {
        let mut script = CallScript::new(7);
        script.dial_out(LegId(1), |new| new.plan.unanswered = cause);
        script.advance(31 * SECOND);
        assert_eq!(end_of(&script, LegId(1)), Some((Status::NoAnswer, cause)));
    }
}

#[test]
fn a_leg_can_require_that_the_leg_of_its_bridge_is_free() {
    let (mut script, a, b) = pair();
    script.request(Command::Bridge { with: b, after: AfterBridge::Hangup, if_free: true }).unwrap();
    let third = LegId(3);
    script.dial_out(third, |new| (new.plan.bridge_to, new.plan.if_free) = (Some(a), true));
    script.answers(third);
    assert_eq!(end_of(&script, third), Some((Status::Completed, EndCause::NormalClearing)));
    let fourth = LegId(4);
    script.dial_out(fourth, |_| {});
    script.answers(fourth);
    let with_a = |if_free| Command::Bridge { with: a, after: AfterBridge::Hangup, if_free };
    assert_eq!(script.request_to(fourth, with_a(true)), Err(Refused::CannotBridge));
    assert!(!script.ended.contains_key(&b));
    script.request_to(fourth, with_a(false)).unwrap();
    assert!(script.ended.contains_key(&b));
}

#[test]
fn a_hangup_by_request_refuses_an_unanswered_inbound_leg() {
    let mut script = CallScript::inbound(Decision::Commands);
    let headers = vec![("X-Why".to_owned(), "closed".to_owned())];
    script.request(Command::Hangup { headers: headers.clone().into() }).unwrap();
    let commands: Vec<_> = script.commands(script.leg()).rev().take(3).cloned().collect();
    let refusal = LegCommand::Reject(RejectReason::Status(480));
    assert_eq!(commands, [LegCommand::Release, refusal, LegCommand::Headers(headers.into())]);
    let end = script.events().last().unwrap().leg.end.clone().unwrap();
    assert_eq!((end.cause, end.sip_status), (EndCause::NormalClearing, Some(480)));
}

#[test]
fn audio_on_answer_plays_before_the_planned_bridge() {
    let mut script = CallScript::commanded();
    let (a, b) = (script.leg(), LegId(2));
    script.dial_out(b, |new| (new.plan.then, new.plan.bridge_to) = (OnAnswer::Play(file("hello")), Some(a)));
    script.answers(b);
    assert!(!script.has_command(b, |command| matches!(command, LegCommand::Bridge { .. })));
    script.play_ends(b);
    assert!(script.has_command(b, |command| *command == LegCommand::Bridge { with: a }));
    script.hangs_up(a);
    assert!(script.ended.contains_key(&b));
    script.assert_settled();
}

#[test]
fn only_the_target_of_a_transfer_hears_its_greeting() {
    let mut script = CallScript::commanded();
    let mut transfer = dial(&["+15551230003"]);
    transfer.targets[0].greeting = Some(file("hello"));
    script.request(Command::Transfer(Box::new(transfer))).unwrap();
    let (a, b) = (script.leg(), script.newest());
    script.answers(b);
    let joins = |script: &CallScript| script.has_command(a, |command| matches!(command, LegCommand::Bridge { .. }));
    assert!(!joins(&script) && script.has_command(b, |command| matches!(command, LegCommand::Play { .. })));
    script.play_ends(b);
    assert!(joins(&script));
}

#[test]
fn audio_can_play_to_the_other_leg_of_a_bridge_or_to_both_legs() {
    let (mut script, a, b) = pair();
    let play = |to| Command::Play { play: file("x"), interrupt: Interrupt::None, to };
    assert_eq!(script.request(play(TargetLegs::Bridged)), Err(Refused::NotJoined));
    script.request(Command::Bridge { with: b, after: AfterBridge::Hangup, if_free: false }).unwrap();
    let plays = |script: &CallScript| {
        [a, b].map(|leg| script.commands(leg).filter(|command| matches!(command, LegCommand::Play { .. })).count())
    };
    script.request(play(TargetLegs::Bridged)).unwrap();
    assert_eq!(plays(&script), [0, 1]);
    script.play_ends(b);
    script.request(play(TargetLegs::Both)).unwrap();
    assert_eq!(plays(&script), [1, 2]);
}

#[test]
fn an_inbound_leg_ends_when_its_first_command_does_not_come_in_time() {
    let mut script = CallScript::inbound(Decision::CommandsWithTimeout(5 * SECOND));
    let leg = script.leg();
    script.advance(Duration::from_millis(4_999));
    assert!(script.ended.is_empty());
    script.advance(Duration::from_millis(1));
    assert_eq!(end_of(&script, leg), Some((Status::NoAnswer, EndCause::Timeout)));
    script.assert_settled();

    let mut script = CallScript::inbound(Decision::CommandsWithTimeout(5 * SECOND));
    script.request(Command::SetClientState).unwrap();
    script.advance(1_799 * SECOND);
    assert!(script.ended.is_empty(), "it has been commanded");
    script.advance(SECOND);
    assert_eq!(script.ended.len(), 1, "nobody answers it");
}

#[test]
fn a_recording_of_the_route_starts_with_the_answer() {
    let mut script = CallScript::new(1);
    let leg = LegId(1);
    let route = Route {
        owner: LegOwner::new(AccountName::new("main"), "test"),
        status: None,
        record: Some(recording()),
        decision: Decision::Commands,
    };
    script.call.handle_incoming(script.now, info(leg, tandem_call::leg::Direction::Inbound), route);
    script.drain();
    let records = |command: &LegCommand| matches!(command, LegCommand::Record { .. });
    assert!(!script.has_command(leg, records));
    script.request_to(leg, Command::Answer { record: None, stream: None, headers: HeaderFields::new() }).unwrap();
    assert!(script.has_command(leg, records));
}
