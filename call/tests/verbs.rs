//! The normal course of each verb.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::time::Duration;

use tandem_call::command::{Command, Refused};
use tandem_call::conference::Participation;
use tandem_call::conversation::{
    AgentSpec, ConversationRequest, ConversationSpec, ConversationStatus, ConversationTarget,
};
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::event::{EventKind, GatherEnd, PlaybackEnd};
use tandem_call::fetch::{FailureKind, FetchReason};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{EndCause, EndFailure, EndedBy, Status};
use tandem_call::new_leg::OnAnswer;
use tandem_call::output::{EndReason, LegCommand, LegEvent, Output};
use tandem_call::program::instruction::*;
use tandem_call::recording::NewRecording;
use tandem_call::recording::{RecordingEnd, RecordingStatus};
use tandem_call::route::Decision;
use tandem_call::stream::{StreamFailure, StreamFault, StreamStatus};
use tandem_call::testing::*;
use tandem_call::{Method, Target};
use tandem_id::{ConversationId, RecordingId};

const SECOND: Duration = Duration::from_secs(1);

fn gathered(script: &CallScript) -> Option<(String, GatherEnd, Option<char>)> {
    script.events().rev().find_map(|event| match &event.kind {
        EventKind::GatherEnded { digits, end, terminator, .. } => Some((digits.clone(), *end, *terminator)),
        _ => None,
    })
}

fn is_over(script: &CallScript) -> bool {
    script.ended.contains_key(&script.leg())
}

#[test]
fn a_document_answers_when_it_first_needs_audio_and_hangs_up_at_its_end() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    let leg = script.leg();
    assert!(script.has_command(leg, |command| *command == LegCommand::Ring { progress: RINGING }));
    assert!(!script.has_command(leg, |command| *command == LegCommand::Answer));
    script.fetched(vec![Instruction::Play(file("a")), Instruction::Play(file("b"))]);
    assert!(script.has_command(leg, |command| *command == LegCommand::Answer));
    script.play_ends(leg);
    assert!(!is_over(&script));
    script.play_ends(leg);
    script.assert_settled();
}

#[test]
fn an_empty_document_answers_and_hangs_up() {
    let script = CallScript::runs(vec![]);
    assert!(script.has_command(script.leg(), |command| *command == LegCommand::Answer));
    script.assert_settled();
}

#[test]
fn audio_that_is_missing_is_skipped() {
    let mut script = CallScript::runs(vec![Instruction::Play(file("a")), Instruction::Play(file("b"))]);
    let (leg, op) = *script.plays.first().unwrap();
    script.feed_to(leg, LegEvent::PlayFinished { op, end: PlaybackEnd::Failed("404".to_owned()) });
    assert_eq!(script.plays.len(), 1);
}

#[test]
fn the_next_instruction_runs_after_the_digits_were_sent() {
    let digits = SendDigits { digits: "12".to_owned(), tone: Duration::from_millis(100) };
    let mut script = CallScript::runs(vec![Instruction::SendDigits(digits), Instruction::Hangup]);
    assert!(!is_over(&script));
    script.play_ends(script.leg());
    script.assert_settled();
}

#[test]
fn a_pause_at_the_start_of_a_document_delays_the_answer() {
    let mut script = CallScript::runs(vec![Instruction::Pause(3 * SECOND), Instruction::Reject(RejectReason::Busy)]);
    let leg = script.leg();
    script.advance(2 * SECOND);
    assert!(script.has_command(leg, |command| *command == LegCommand::Ring { progress: RINGING }));
    assert!(!script.has_command(leg, |command| *command == LegCommand::Answer));
    script.advance(SECOND);
    assert!(script.has_command(leg, |command| *command == LegCommand::Answer));
    assert_eq!(script.events().next_back().unwrap().leg.status, Status::Completed);
    script.assert_settled();
}

#[test]
fn a_reject_refuses_an_unanswered_call_and_hangs_up_an_answered_call() {
    let script = CallScript::runs(vec![Instruction::Reject(RejectReason::Rejected), Instruction::Play(file("a"))]);
    assert!(!script.has_command(script.leg(), |command| *command == LegCommand::Answer));
    assert_eq!(script.events().next_back().unwrap().leg.status, Status::NoAnswer);
    let mut script = CallScript::runs(vec![Instruction::Play(file("a")), Instruction::Reject(RejectReason::Rejected)]);
    script.play_ends(script.leg());
    assert!(script.has_command(script.leg(), |command| matches!(command, LegCommand::Hangup(_))));
}

#[test]
fn a_gather_requests_its_action_when_the_digits_are_complete() {
    let mut script = CallScript::runs(vec![Instruction::Gather(gather())]);
    script.sends_digits("1234");
    assert_eq!(gathered(&script), Some(("1234".to_owned(), GatherEnd::Valid, None)));
    let digits = "1234".to_owned();
    assert_eq!(
        script.document_requests().next_back().unwrap().reason,
        FetchReason::Gathered { digits, terminator: None }
    );
}

#[test]
fn the_terminator_ends_a_gather_and_is_not_a_digit() {
    let mut script = CallScript::runs(vec![Instruction::Gather(gather())]);
    script.sends_digits("12#");
    assert_eq!(gathered(&script), Some(("12".to_owned(), GatherEnd::Valid, Some('#'))));
}

#[test]
fn the_terminator_alone_is_no_input() {
    let mut script = CallScript::runs(vec![Instruction::Gather(gather()), Instruction::Play(file("sorry"))]);
    script.sends_digits("#");
    assert_eq!(script.last_url(), None);
    assert_eq!(script.plays.len(), 1);
}

#[test]
fn a_gather_waits_for_the_first_digit_only_after_its_prompts() {
    let prompts = vec![file("a"), file("b")];
    let mut script = CallScript::runs(vec![Instruction::Gather(Gather { prompts, ..gather() })]);
    let leg = script.leg();
    script.advance(20 * SECOND);
    script.play_ends(leg);
    script.advance(20 * SECOND);
    script.play_ends(leg);
    script.advance(Duration::from_millis(4999));
    assert_eq!(gathered(&script), None);
    script.advance(Duration::from_millis(1));
    assert_eq!(gathered(&script), Some((String::new(), GatherEnd::Timeout, None)));
    assert_eq!(script.last_url(), None, "nothing was pressed: the next instruction runs");
    script.assert_settled();
}

#[test]
fn a_digit_stops_the_prompt_and_restarts_the_silence() {
    let mut script = CallScript::runs(vec![Instruction::Gather(Gather { prompts: vec![file("a")], ..gather() })]);
    script.sends_digits("1");
    script.assert_silent();
    script.advance(4 * SECOND);
    script.sends_digits("2");
    script.advance(4 * SECOND);
    assert_eq!(gathered(&script), None);
    script.advance(SECOND);
    assert_eq!(gathered(&script), Some(("12".to_owned(), GatherEnd::Valid, None)));
}

#[test]
fn without_barge_in_the_prompt_plays_to_its_end() {
    let spec = Gather { prompts: vec![file("a")], barge_in: false, ..gather() };
    let mut script = CallScript::runs(vec![Instruction::Gather(spec)]);
    script.sends_digits("1");
    assert_eq!(script.plays.len(), 1);
    script.play_ends(script.leg());
    script.sends_digits("2#");
    assert_eq!(gathered(&script), Some(("2".to_owned(), GatherEnd::Valid, Some('#'))));
}

#[test]
fn too_few_or_invalid_digits_start_another_attempt_with_the_retry_prompt() {
    let spec = Gather {
        prompts: vec![file("a")],
        retry_prompts: vec![file("again")],
        tries: 3,
        min_digits: 3,
        valid_digits: Some("123".to_owned()),
        ..gather()
    };
    let mut script = CallScript::runs(vec![Instruction::Gather(spec)]);
    let leg = script.leg();
    let again = |command: &LegCommand| matches!(command, LegCommand::Play { play, .. } if *play == file("again"));
    script.sends_digits("12#");
    assert!(script.has_command(leg, again));
    script.play_ends(leg);
    script.sends_digits("9");
    assert_eq!(gathered(&script), None);
    script.sends_digits("19");
    assert_eq!(gathered(&script), Some(("19".to_owned(), GatherEnd::Invalid, None)));
}

#[test]
fn the_total_timeout_of_a_gather_ends_it_while_digits_arrive() {
    let spec = Gather { total_timeout: Some(6 * SECOND), max_digits: None, ..gather() };
    let mut script = CallScript::runs(vec![Instruction::Gather(spec)]);
    for _ in 0..3 {
        script.sends_digits("1");
        script.advance(2 * SECOND);
    }
    assert_eq!(gathered(&script), Some(("111".to_owned(), GatherEnd::Valid, None)));
}

#[test]
fn the_action_is_requested_without_digits_if_the_gather_has_this_setting() {
    let mut script = CallScript::runs(vec![Instruction::Gather(Gather { action_on_empty: true, ..gather() })]);
    script.advance(5 * SECOND);
    assert_eq!(script.last_url(), Some("http://app.test/gathered"));
}

#[test]
fn a_gather_without_a_limit_ends_at_a_thousand_digits() {
    let mut script = CallScript::runs(vec![Instruction::Gather(Gather { max_digits: None, ..gather() })]);
    script.sends_digits(&"5".repeat(1000));
    assert_eq!(gathered(&script).unwrap().0.len(), 1000);
}

fn record() -> Record {
    Record {
        spec: recording(),
        finish_on: "1#".to_owned(),
        beep: true,
        action: Some(target("recorded")),
        transcribe: None,
    }
}

#[test]
fn a_recording_starts_after_the_beep_and_ends_on_a_digit() {
    let mut script = CallScript::runs(vec![Instruction::Record(record())]);
    let leg = script.leg();
    script.sends_digits("1");
    assert!(script.recordings.is_empty(), "a key during the beep ends nothing");
    script.play_ends(leg);
    script.sends_digits("5");
    assert!(script.stopping.is_empty());
    script.sends_digits("##");
    script.close_recordings();
    let fetch = script.document_requests().next_back().unwrap();
    assert!(matches!(&fetch.reason, FetchReason::Recorded { key: Some('#'), hangup: false, .. }));
}

#[test]
fn a_recording_ends_at_its_maximum_length_or_on_silence() {
    for end in [RecordingEnd::MaxLength, RecordingEnd::Silence] {
        let mut script = CallScript::runs(vec![Instruction::Record(Record { beep: false, ..record() })]);
        script.recording_ends(script.leg(), end);
        let fetch = script.document_requests().next_back().unwrap();
        assert!(matches!(&fetch.reason, FetchReason::Recorded { key: None, hangup: false, .. }));
    }
}

#[test]
fn a_message_is_complete_when_the_caller_hangs_up() {
    let mut script = CallScript::runs(vec![Instruction::Record(Record { beep: false, ..record() })]);
    script.hangs_up(script.leg());
    assert_eq!(script.last_url(), None, "not before the file is whole");
    script.close_recordings();
    let fetch = script.document_requests().next_back().unwrap();
    assert!(matches!(&fetch.reason, FetchReason::Recorded { key: None, hangup: true, .. }));
    assert_eq!(fetch.leg.status, Status::Completed);
    script.fetched(vec![Instruction::Play(file("ignored"))]);
    script.assert_settled();
}

#[test]
fn a_hangup_during_the_beep_reports_an_empty_recording() {
    let mut script = CallScript::runs(vec![Instruction::Record(record())]);
    script.hangs_up(script.leg());
    assert!(
        script
            .has_event(|event| matches!(event, EventKind::Recording(facts) if facts.status == RecordingStatus::Absent))
    );
    let fetch = script.document_requests().next_back().unwrap();
    let FetchReason::Recorded { recorded, hangup: true, .. } = &fetch.reason else { panic!("{:?}", fetch.reason) };
    assert_eq!((*recorded, fetch.leg.status), (Duration::ZERO, Status::Completed));
    script.fetched(vec![Instruction::Play(file("ignored"))]);
    script.assert_settled();
    script.assert_silent();
}

#[test]
fn the_action_of_a_recording_receives_its_length_before_the_silence_was_trimmed() {
    let mut script = CallScript::runs(vec![Instruction::Record(Record { beep: false, ..record() })]);
    script.recording_ends(script.leg(), RecordingEnd::Silence);
    let fetch = script.document_requests().next_back().unwrap();
    let FetchReason::Recorded { recording, recorded, .. } = &fetch.reason else { panic!("{:?}", fetch.reason) };
    assert_eq!((recording.duration, *recorded), (Some(3 * SECOND), 4 * SECOND));
}

fn connect() -> Instruction {
    Instruction::Connect(Connect { stream: stream("a"), action: Some(target("connected")), outlives_failure: false })
}

#[test]
fn a_connect_requests_its_action_when_its_stream_ends_or_fails() {
    for status in [StreamStatus::Stopped, StreamStatus::Failed(StreamFault::Refused.because("refused"))] {
        let mut script = CallScript::runs(vec![connect()]);
        let leg = script.leg();
        script.stream_is(leg, StreamStatus::Started);
        assert_eq!(script.last_url(), None);
        script.stream_is(leg, status);
        assert_eq!(script.last_url(), Some("http://app.test/connected"));
    }
}

#[test]
fn a_started_stream_runs_until_it_is_stopped_by_its_name() {
    let (one, two) = (Instruction::StartStream(stream("a")), Instruction::StartStream(stream("b")));
    let pause = Instruction::Pause(SECOND);
    let mut script =
        CallScript::runs(vec![one, two, pause.clone(), Instruction::StopStream(Some("a".to_owned())), pause]);
    assert_eq!(script.streams.len(), 2);
    script.advance(SECOND);
    assert_eq!(script.streams.len(), 1);
    script.advance(SECOND);
    script.assert_settled();
}

#[test]
fn a_leg_has_four_streams_and_eight_recordings_at_most() {
    let mut all = vec![Instruction::StartStream(stream("a")); 6];
    all.extend(vec![Instruction::StartRecording(recording()); 10]);
    all.push(Instruction::Echo);
    let script = CallScript::runs(all);
    assert_eq!((script.streams.len(), script.recordings.len()), (4, 8));
}

#[test]
fn an_echo_continues_until_the_caller_hangs_up() {
    let mut script = CallScript::runs(vec![Instruction::Echo]);
    let leg = script.leg();
    script.sends_digits("1");
    script.advance(100 * SECOND);
    assert!(script.has_command(leg, |command| *command == LegCommand::Echo(true)) && !is_over(&script));
    script.hangs_up(leg);
    script.assert_settled();
}

#[test]
fn a_redirect_runs_the_other_document_and_does_not_answer() {
    let mut script = CallScript::runs(vec![Instruction::Redirect(target("next")), Instruction::Play(file("never"))]);
    assert_eq!(script.document_requests().next_back().unwrap().reason, FetchReason::Redirect);
    assert!(!script.has_command(script.leg(), |command| *command == LegCommand::Answer));
    script.fetched(vec![Instruction::Hangup]);
    script.assert_silent();
    script.assert_settled();
}

#[test]
fn a_failed_document_leads_to_the_fallback_and_then_to_an_apology() {
    let decision = Decision::Document { target: target("start"), fallback: Some(target("fallback")) };
    let mut script = CallScript::inbound(decision);
    script.fetch_fails();
    let fetch = script.document_requests().next_back().unwrap();
    assert_eq!(&*fetch.target.url, "http://app.test/fallback");
    assert!(matches!(&fetch.reason, FetchReason::Fallback { url: Some(url), .. } if &**url == "http://app.test/start"));
    script.fetch_fails();
    assert_eq!(script.document_requests().count(), 2);
    assert!(script.has_command(script.leg(), |command| *command == LegCommand::Answer));
    script.play_ends(script.leg());
    script.assert_settled();
}

#[test]
fn the_end_of_a_leg_after_an_apology_names_the_failed_document() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    script.fetch_fails();
    assert!(script.has_event(|kind| matches!(kind, EventKind::Apologised)));
    script.play_ends(script.leg());
    let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
    assert_eq!(end.by, EndedBy::Server);
    assert_eq!(end.to_string(), "apologised and hung up: the document failed (500)");
    assert!(matches!(end.failure.as_deref(), Some(EndFailure::Document(why)) if why.detail == "500"), "{end:?}");
    script.assert_settled();
}

#[test]
fn the_end_of_a_leg_whose_agent_hangs_up_names_the_agent_and_the_failed_engine() {
    let converse = || Instruction::Converse(Converse { spec: Box::new(conversation()), action: None });
    let mut script = CallScript::runs(vec![converse()]);
    script.feed(LegEvent::AgentHungUp);
    let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
    assert_eq!((end.by, end.to_string().as_str()), (EndedBy::Application, "hung up (the voice agent)"));
    let mut script = CallScript::runs(vec![converse()]);
    let failure = EngineFailure::new(Engine::Model, "connection refused").with_effect(EngineEffect::Fatal);
    script.feed(LegEvent::EngineFailed(failure.clone()));
    assert!(script.has_event(|kind| *kind == EventKind::EngineFailed(failure.clone())));
    script.feed(LegEvent::AgentHungUp);
    let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
    assert_eq!(end.by, EndedBy::Server);
    assert_eq!(end.to_string(), "apologised and hung up: the model failed: connection refused");
    assert_eq!(end.failure.map(|failure| *failure), Some(EndFailure::Engine(failure)));
}

#[test]
fn a_call_that_is_refused_for_a_reason_ends_with_the_reason() {
    let script = CallScript::inbound(Decision::Refuse(488, "no codec in common".to_owned()));
    let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
    assert_eq!((end.sip_status, end.to_string().as_str()), (Some(488), "refused with 488: no codec in common"));
    let is_refused = |command: &LegCommand| matches!(command, LegCommand::Reject(RejectReason::Status(488)));
    assert!(script.has_command(script.leg(), is_refused));
}

#[test]
fn every_document_request_has_the_method_of_the_first_request() {
    let first = Target { method: Method::Get, ..target("start") };
    let mut script = CallScript::inbound(Decision::Document { target: first, fallback: None });
    script.fetched(vec![Instruction::Redirect(Target { method: Method::Post, ..target("next") })]);
    let methods: Vec<_> = script.document_requests().map(|fetch| (fetch.target.method, fetch.first_method)).collect();
    assert_eq!(methods, [(Method::Get, Method::Get), (Method::Post, Method::Get)]);
}

#[test]
fn the_end_of_a_leg_whose_agent_apologised_names_the_failed_engine() {
    let failure = EngineFailure::new(Engine::Model, "connection refused").with_effect(EngineEffect::Fatal);
    let give_up = || Instruction::GiveUp(Box::new(failure.clone()));
    let end_of = |script: &mut CallScript| {
        let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
        assert_eq!(end.failure.map(|failure| *failure), Some(EndFailure::Engine(failure.clone())));
        (end.by, end.detail.unwrap())
    };
    let text = "apologised and hung up: the model failed: connection refused".to_owned();
    let mut script = CallScript::runs(vec![Instruction::Play(file("sorry")), give_up()]);
    script.play_ends(script.leg());
    assert_eq!(end_of(&mut script), (EndedBy::Server, text.clone()));
    // The fallback is not reached.
    let fallback = Dial { after: AfterBridge::Hangup, ..dial(&["+15550003"]) };
    let mut script = CallScript::runs(vec![Instruction::Dial(fallback.clone()), give_up()]);
    script.refuses(script.newest(), 404);
    assert_eq!(end_of(&mut script), (EndedBy::Server, text));
    // The fallback has talked with the caller.
    let mut script = CallScript::runs(vec![Instruction::Dial(fallback), give_up()]);
    let callee = script.newest();
    script.answers(callee);
    script.hangs_up(callee);
    let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
    assert_eq!(end.failure, None);
}

#[test]
fn the_end_of_a_leg_names_the_end_of_the_document_an_instruction_or_a_request() {
    let ended = |instructions: Vec<Instruction>, then: &dyn Fn(&mut CallScript)| {
        let mut script = CallScript::runs(instructions);
        then(&mut script);
        let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
        assert_eq!((end.by, end.cause), (EndedBy::Application, EndCause::NormalClearing));
        (end.to_string(), end.failure.map(|failure| *failure))
    };
    let refused = || StreamFault::Refused.because("refused");
    let fatal = || StreamFailure { is_fatal: true, ..refused() };
    let pause = Instruction::Pause(SECOND);
    let connect = || Instruction::Connect(Connect { stream: stream("a"), action: None, outlives_failure: false });
    let converse = Instruction::Converse(Converse { spec: Box::new(conversation()), action: None });
    let fails = |script: &mut CallScript| script.stream_is(script.leg(), StreamStatus::Failed(refused()));

    assert_eq!(ended(vec![pause.clone()], &|script| script.advance(SECOND)), ("the document ended".to_owned(), None));
    let (hung_up, failure) = ended(vec![pause.clone(), Instruction::Hangup], &|script| script.advance(SECOND));
    assert_eq!((hung_up.as_str(), failure), ("hung up (an instruction of the document)", None));
    let (hung_up, failure) = ended(vec![Instruction::Play(file("a"))], &|script| {
        script.request(Command::Hangup { headers: HeaderFields::new() }).unwrap();
    });
    assert_eq!((hung_up.as_str(), failure), ("hung up (a request of the application)", None));

    let (end, failure) = ended(vec![connect()], &fails);
    assert_eq!(end, "the document ended (its stream had failed)");
    assert_eq!(failure, Some(EndFailure::Stream(fatal())));
    let (end, failure) = ended(vec![converse], &|script| {
        let why = refused();
        script.conversation_is(script.leg(), ConversationStatus::Failed { after_start: false, why });
    });
    assert_eq!(end, "the document ended (its conversation had failed)");
    assert_eq!(failure, Some(EndFailure::Conversation(fatal())));
    // If the document has further instructions, a failed stream does not end the leg.
    let (end, failure) = ended(vec![connect(), pause], &|script| {
        fails(script);
        script.advance(SECOND);
    });
    assert_eq!((end.as_str(), failure), ("the document ended", None));
}

#[test]
fn a_connect_may_outlive_a_failed_stream_but_not_a_closed_stream() {
    let connect = || Instruction::Connect(Connect { stream: stream("a"), action: None, outlives_failure: true });
    let mut script = CallScript::runs(vec![connect()]);
    script.stream_is(script.leg(), StreamStatus::Failed(StreamFault::Refused.because("refused")));
    script.advance(SECOND * 60);
    assert_eq!(script.events().next_back().unwrap().leg.end, None, "it stays");
    script.request(Command::Hangup { headers: HeaderFields::new() }).unwrap();
    script.assert_settled();

    let mut script = CallScript::runs(vec![connect()]);
    script.stream_is(script.leg(), StreamStatus::Stopped);
    let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
    assert_eq!(end.to_string(), "the document ended");
    script.assert_settled();
}

#[test]
fn the_end_of_a_leg_names_the_shutdown_of_the_server() {
    let mut script = CallScript::runs(vec![Instruction::Play(file("a"))]);
    script.shuts_down();
    let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
    assert_eq!((end.by, end.cause), (EndedBy::Server, EndCause::NormalClearing));
    assert_eq!(end.to_string(), "ended by shutdown of the server");
    script.assert_settled();
}

fn gave_up(script: &CallScript) -> bool {
    script.has_event(|kind| matches!(kind, EventKind::FetchFailed { failure } if failure.kind == FailureKind::Loop))
}

#[test]
fn documents_that_form_a_fast_loop_are_ended_even_if_they_play_audio() {
    let round = || vec![Instruction::Play(file("missing")), Instruction::Redirect(target("start"))];
    for (lasts, rounds) in [(Duration::ZERO, 50), (Duration::from_millis(50), 50)] {
        let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
        for _ in 0..rounds {
            assert!(!gave_up(&script), "{lasts:?}");
            script.fetched(round());
            script.advance(lasts);
            script.play_ends(script.leg());
        }
        assert!(gave_up(&script), "{lasts:?}");
        script.play_ends(script.leg());
        script.assert_settled();
    }
    for lasts in [Duration::from_millis(150), SECOND] {
        let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
        for _ in 0..300 {
            script.fetched(round());
            script.advance(lasts);
            script.play_ends(script.leg());
        }
        assert!(!gave_up(&script), "{lasts:?}");
    }
}

#[test]
fn a_document_that_runs_for_a_second_resets_the_count_of_documents() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    for _ in 0..5 {
        for _ in 0..40 {
            script.fetched(vec![Instruction::Redirect(target("start"))]);
        }
        script.fetched(vec![Instruction::Play(file("prompt")), Instruction::Redirect(target("start"))]);
        script.advance(SECOND);
        script.play_ends(script.leg());
    }
    assert!(!gave_up(&script));
}

#[test]
fn documents_that_only_redirect_are_ended_after_fifty() {
    for idle in [vec![], vec![Instruction::StopStream(None)], vec![Instruction::Dial(dial(&[]))]] {
        let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
        for _ in 0..50 {
            assert!(!gave_up(&script));
            script.fetched([idle.clone(), vec![Instruction::Redirect(target("start"))]].concat());
        }
        assert!(gave_up(&script));
        script.play_ends(script.leg());
        script.assert_settled();
    }
}

#[test]
fn a_dial_without_targets_that_requests_itself_is_ended() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    for _ in 0..50 {
        script.fetched(vec![Instruction::Dial(Dial { action: Some(target("start")), ..dial(&[]) })]);
    }
    assert!(gave_up(&script));
}

#[test]
fn documents_that_take_time_may_follow_one_another_without_limit() {
    let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
    for _ in 0..200 {
        script.fetched(vec![Instruction::Pause(SECOND), Instruction::Redirect(target("start"))]);
        script.advance(SECOND);
    }
    assert!(!gave_up(&script));
}

#[test]
fn an_outbound_leg_without_an_answer_is_cancelled_at_its_timeout() {
    let mut script = CallScript::outbound(OnAnswer::Document(target("start")));
    let leg = script.leg();
    script.feed(LegEvent::Ringing { progress: RINGING });
    script.advance(30 * SECOND);
    assert!(script.has_command(leg, |command| matches!(command, LegCommand::Hangup(_))));
    let last = script.events().next_back().unwrap();
    assert_eq!((last.leg.status, last.leg.end.as_ref().unwrap().cause), (Status::NoAnswer, EndCause::Timeout));
    assert_eq!(script.last_url(), None);
    script.assert_settled();
}

#[test]
fn the_end_of_a_refused_outbound_leg_has_the_status_of_the_refusal() {
    for (code, status) in [(486, Status::Busy), (480, Status::NoAnswer), (603, Status::Failed), (404, Status::Failed)] {
        let mut script = CallScript::outbound(OnAnswer::Wait);
        script.refuses(script.leg(), code);
        assert_eq!(script.events().next_back().unwrap().leg.status, status, "{code}");
        script.assert_settled();
    }
    // The far end was not reached, because there was no route, no connection or no response.
    for reason in [EndReason::Unreachable, EndReason::Timeout] {
        let mut script = CallScript::outbound(OnAnswer::Wait);
        script.feed(LegEvent::Ended { reason, sip_status: None, detail: None });
        assert_eq!(script.events().next_back().unwrap().leg.status, Status::Failed, "{reason:?}");
    }
}

#[test]
fn an_answered_outbound_leg_records_streams_sends_digits_and_requests_its_document() {
    let mut script = CallScript::new(1);
    script.dial_out(tandem_id::LegId(1), |leg| {
        leg.plan.then = OnAnswer::Document(target("start"));
        leg.record = Some(NewRecording { id: RecordingId(9), spec: recording() });
        leg.plan.stream = Some(stream("s"));
        leg.plan.send_digits = Some(SendDigits { digits: "1".to_owned(), tone: SECOND });
        leg.plan.time_limit = Some(60 * SECOND);
    });
    let leg = script.leg();
    script.answers(leg);
    assert_eq!((script.recordings.len(), script.streams.len(), script.plays.len()), (1, 1, 1));
    assert!(script.has_command(leg, |command| matches!(command, LegCommand::Record { id: RecordingId(9), .. })));
    assert_eq!(script.document_requests().count(), 0, "the document waits for the digits");
    script.play_ends(leg);
    assert_eq!(script.document_requests().next_back().unwrap().reason, FetchReason::Start);
    script.fetched(vec![Instruction::Echo]);
    script.advance(60 * SECOND);
    assert_eq!(
        script.events().rev().find(|e| e.kind == EventKind::Ended).unwrap().leg.end.as_ref().unwrap().cause,
        EndCause::TimeLimit
    );
    script.close_recordings();
    script.assert_settled();
}

fn converse() -> Instruction {
    Instruction::Converse(Converse { spec: Box::new(conversation()), action: Some(target("conversed")) })
}

fn conversed(script: &CallScript) -> (ConversationStatus, Status) {
    let fetch = script.document_requests().next_back().unwrap();
    let FetchReason::Conversed(facts) = &fetch.reason else { panic!("{:?}", fetch.reason) };
    (facts.status.clone(), fetch.leg.status)
}

#[test]
fn a_conversation_requests_its_action_when_its_application_ends_or_fails() {
    let failed = || ConversationStatus::Failed { after_start: true, why: StreamFault::Closed.because("gone") };
    for status in [ConversationStatus::Ended(Some("{}".to_owned())), failed()] {
        let mut script = CallScript::runs(vec![converse()]);
        let leg = script.leg();
        script.conversation_is(leg, ConversationStatus::Started);
        assert_eq!(script.last_url(), None);
        script.conversation_is(leg, status.clone());
        assert_eq!(conversed(&script), (status, Status::InProgress));
        script.fetched(vec![converse()]);
        script.conversation_is(leg, failed());
        script.fetched(vec![Instruction::Hangup]);
        script.assert_settled();
    }
}

#[test]
fn a_hangup_ends_a_conversation_and_its_action_is_still_requested() {
    let mut script = CallScript::runs(vec![converse()]);
    let leg = script.leg();
    script.conversation_is(leg, ConversationStatus::Started);
    script.hangs_up(leg);
    assert_eq!(conversed(&script), (ConversationStatus::Completed, Status::Completed));
    script.fetched(vec![Instruction::Play(file("ignored"))]);
    script.assert_settled();
}

#[test]
fn a_redirect_ends_a_conversation_without_its_action() {
    let mut script = CallScript::runs(vec![converse()]);
    script.conversation_is(script.leg(), ConversationStatus::Started);
    script.request(Command::Run(program(vec![Instruction::Pause(SECOND)]))).unwrap();
    assert!(script.conversations.is_empty());
    assert_eq!(script.last_url(), None);
}

#[test]
fn a_request_to_a_conversation_reaches_the_conversation_that_runs() {
    let ask = || Command::AskConversation(ConversationRequest::Unhold);
    let mut script = CallScript::runs(vec![converse()]);
    let leg = script.leg();
    let running = script.conversations.first().unwrap().1;
    script.request(ask()).unwrap();
    let asked = |command: &LegCommand| matches!(command, LegCommand::AskConversation { id, request: ConversationRequest::Unhold } if *id == running);
    assert!(script.has_command(leg, asked));
    script.request(Command::Run(program(vec![Instruction::Echo]))).unwrap();
    assert_eq!(script.request(ask()), Err(Refused::NotRunning));
}

#[test]
fn a_request_for_a_second_conversation_is_refused_until_the_first_one_has_ended() {
    let start = || Command::Enqueue(Box::new(converse()));
    let mut script = CallScript::commanded();
    script.request(Command::Enqueue(Box::new(Instruction::Play(file("a"))))).unwrap();
    // The first conversation waits for the end of the file, then runs.
    script.request(start()).unwrap();
    assert_eq!(script.request(start()), Err(Refused::AlreadyRunning));
    script.play_ends(script.leg());
    assert_eq!(script.conversations.len(), 1);
    assert_eq!(script.request(start()), Err(Refused::AlreadyRunning));
    script.request(Command::StopConversation).unwrap();
    script.request(start()).unwrap();
    assert_eq!(script.conversations.len(), 1);
}

#[test]
fn a_conversation_that_waits_does_not_begin_after_it_was_stopped() {
    let mut script = CallScript::commanded();
    script.request(Command::Enqueue(Box::new(Instruction::Play(file("a"))))).unwrap();
    script.request(Command::Enqueue(Box::new(converse()))).unwrap();
    script.request(Command::StopConversation).unwrap();
    assert_eq!(script.request(Command::StopConversation), Err(Refused::NotRunning));
    script.play_ends(script.leg());
    assert!(script.conversations.is_empty());
}

#[test]
fn partial_results_of_a_conversation_are_reported_and_it_goes_on() {
    let mut script = CallScript::runs(vec![converse()]);
    let leg = script.leg();
    let id = script.conversations.first().unwrap().1;
    for status in [ConversationStatus::Started, ConversationStatus::PartialResult("{}".to_owned())] {
        script.call.handle_leg(script.now, leg, LegEvent::Conversation { id, status });
        script.drain();
    }
    let partial = |kind: &EventKind| match kind {
        EventKind::Conversation(facts) => facts.status == ConversationStatus::PartialResult("{}".to_owned()),
        _ => false,
    };
    assert!(script.has_event(partial));
    assert_eq!(script.last_url(), None);
    script.conversation_is(leg, ConversationStatus::Ended(None));
    assert_eq!(script.last_url(), Some("http://app.test/conversed"));
}

#[test]
fn an_interrupted_conversation_runs_the_program_then_the_agent_then_the_rest_of_the_document() {
    let mut script = CallScript::runs(vec![converse(), Instruction::Echo]);
    let leg = script.leg();
    script.conversation_is(leg, ConversationStatus::Started);
    let first = script.conversations.first().unwrap().1;
    let agent = Box::new(AgentSpec { name: "back".into(), ..AgentSpec::default() });
    let program = program(vec![Instruction::Play(file("notice")), Instruction::Pause(SECOND)]);
    script.request(Command::InterruptConversation { program: program.clone(), agent: agent.clone() }).unwrap();
    assert!(script.conversations.is_empty());
    script.play_ends(leg);
    script.advance(SECOND);
    let again = script.conversations.first().unwrap().1;
    assert_ne!(again, first);
    let spec = script.commands(leg).rev().find_map(|command| match command {
        LegCommand::Converse { id, spec, .. } if *id == again => Some(&spec.with),
        _ => None,
    });
    assert_eq!(spec, Some(&ConversationTarget::Agent(agent.clone())));
    // The agent has the action of the first conversation, and the document after it still waits.
    script.conversation_is(leg, ConversationStatus::Ended(None));
    assert_eq!(script.last_url(), Some("http://app.test/conversed"));
    let interrupt = Command::InterruptConversation { program, agent };
    assert_eq!(script.request(interrupt), Err(Refused::NotRunning));
}

#[test]
fn only_the_conversation_that_answers_a_call_reports_the_status_ringing() {
    let reported = |script: &CallScript| {
        script.outputs.iter().rev().find_map(|output| match output {
            Output::Leg { command, .. } => match &**command {
                LegCommand::Converse { status, .. } => Some(*status),
                _ => None,
            },
            _ => None,
        })
    };
    let script = CallScript::runs(vec![converse()]);
    assert_eq!(reported(&script), Some(Status::Ringing));
    let mut script = CallScript::runs(vec![Instruction::Echo]);
    script.advance(SECOND);
    script.request(Command::Run(program(vec![converse()]))).unwrap();
    assert_eq!(reported(&script), Some(Status::InProgress));
}

#[test]
fn a_document_that_ends_with_an_unsupported_part_ends_with_an_apology() {
    let refused = || Instruction::Refused("<ConversationRelay> is not available on this server".into());
    let apologises = |script: &CallScript| script.has_event(|kind| matches!(kind, EventKind::Apologised));
    for rest in [vec![], vec![Instruction::Hangup]] {
        let mut script = CallScript::runs([vec![refused()], rest].concat());
        assert!(apologises(&script));
        let named = |kind: &EventKind| matches!(kind, EventKind::FetchFailed { failure } if failure.kind == FailureKind::NotServed);
        assert!(script.has_event(named));
        script.play_ends(script.leg());
        let end = script.events().next_back().unwrap().leg.end.clone().unwrap();
        assert!(end.to_string().contains("<ConversationRelay> is not available on this server"), "{end}");
        script.assert_settled();
    }
    // If the document continues, the caller hears what follows.
    let mut script = CallScript::runs(vec![refused(), Instruction::Play(file("a"))]);
    assert!(!apologises(&script));
    script.play_ends(script.leg());
    assert!(!apologises(&script));
    script.assert_settled();
}

#[test]
fn a_document_that_ends_with_an_unsupported_part_leads_to_the_fallback_once() {
    let refused = || Instruction::Refused("<ConversationRelay> is not available on this server".into());
    let mut script =
        CallScript::inbound(Decision::Document { target: target("start"), fallback: Some(target("fallback")) });
    script.fetched(vec![refused()]);
    let fetch = script.document_requests().next_back().unwrap();
    assert_eq!(&*fetch.target.url, "http://app.test/fallback");
    let FetchReason::Fallback { failure, url } = &fetch.reason else { panic!("{:?}", fetch.reason) };
    assert_eq!((failure.kind, url.as_deref()), (FailureKind::NotServed, Some("http://app.test/start")));
    assert!(!script.has_event(|kind| matches!(kind, EventKind::Apologised)));
    // The fallback document asks for the same.
    script.fetched(vec![refused()]);
    assert_eq!(script.document_requests().count(), 2);
    assert!(script.has_event(|kind| matches!(kind, EventKind::Apologised)));
    script.play_ends(script.leg());
    script.assert_settled();
    // A document of a request has no URL. A later document of the call has its own.
    let mut script = CallScript::runs(vec![Instruction::Echo]);
    script.request(Command::SetFallback(Some(target("fallback")))).unwrap();
    script.request(Command::Run(program(vec![refused()]))).unwrap();
    let last = script.document_requests().next_back().unwrap();
    assert!(matches!(&last.reason, FetchReason::Fallback { url: None, .. }), "{:?}", last.reason);
    script.fetched(vec![Instruction::Redirect(target("next"))]);
    script.fetched(vec![refused()]);
    let last = script.document_requests().next_back().unwrap();
    assert!(matches!(&last.reason, FetchReason::Fallback { url: Some(url), .. } if url.ends_with("/next")));
}

#[test]
fn a_redirect_reports_the_results_of_the_verbs_that_it_aborts() {
    let participation = Participation::new("room");
    let conference =
        Conference { participation, time_limit: None, hangup_on_star: false, action: Some(target("done")) };
    let owed = [
        Instruction::Dial(Dial { action: Some(target("done")), ..dial(&["+15550003"]) }),
        Instruction::Conference(conference),
        Instruction::Refer(Refer { to: "sip:cy@h".into(), headers: HeaderFields::new(), action: Some(target("done")) }),
    ];
    let waiting = [
        Instruction::Gather(Gather { action: Some(target("done")), ..gather() }),
        Instruction::Record(Record { action: Some(target("done")), beep: false, ..record() }),
        Instruction::Converse(Converse { spec: Box::new(conversation()), action: Some(target("done")) }),
        Instruction::Play(file("a")),
    ];
    let all = owed.into_iter().map(|verb| (verb, true)).chain(waiting.into_iter().map(|verb| (verb, false)));
    for (verb, is_owed) in all {
        for by_script in [false, true] {
            let mut verb = verb.clone();
            if by_script && let Instruction::Dial(dial) = &mut verb {
                dial.action = Some(tandem_call::Target { url: "script:next".into(), ..target("") });
            } else if by_script {
                continue;
            }
            let mut script = CallScript::runs(vec![verb.clone()]);
            script.request(Command::Redirect(target("elsewhere"))).unwrap();
            let urls: Vec<_> = script.document_requests().map(|fetch| fetch.target.url.to_string()).collect();
            let mut expected = vec!["http://app.test/done", "http://app.test/elsewhere"];
            if !is_owed || by_script {
                expected.remove(0);
            }
            assert_eq!(urls, expected, "{verb:?}");
            if expected.len() == 2 {
                script.fetched(vec![Instruction::Play(file("ignored"))]);
                script.assert_silent();
            }
            script.fetched(vec![Instruction::Hangup]);
            script.close_recordings();
            assert!(script.ended.contains_key(&script.leg()), "{verb:?}");
        }
    }
}

#[test]
fn a_recording_names_the_limit_that_ended_it() {
    use tandem_call::recording::{RecordingEnd, RecordingLimit};
    for (end, limit) in [
        (RecordingEnd::Silence, Some(RecordingLimit::Silence)),
        (RecordingEnd::MaxLength, Some(RecordingLimit::Length)),
        (RecordingEnd::Stopped, None),
    ] {
        let mut script = CallScript::runs(vec![Instruction::Record(Record { beep: false, ..record() })]);
        script.recording_ends(script.leg(), end);
        assert!(script.has_event(
            |event| matches!(event, EventKind::Recording(facts) if facts.ended_at.is_some() && facts.limit == limit)
        ));
    }
}

#[test]
fn an_outbound_leg_starts_its_conversation_with_the_answer() {
    let spec = ConversationSpec { id: Some(ConversationId(77)), ..conversation() };
    let mut script = CallScript::outbound(OnAnswer::Converse(Box::new(spec)));
    let began = |script: &CallScript| {
        let mut commands = script.commands(script.leg());
        commands.any(|command| matches!(command, LegCommand::Converse { id: ConversationId(77), .. }))
    };
    assert!(!began(&script));
    script.answers(script.leg());
    // The id of the request is the id of the conversation.
    assert!(began(&script));
    script.conversation_is(script.leg(), ConversationStatus::Ended(None));
    assert!(!is_over(&script), "the leg waits for commands");
}
