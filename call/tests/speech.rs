//! Speech of a leg: gathers with speech recognition, and transcriptions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::time::Duration;

use tandem_call::command::{Command, Refused};
use tandem_call::event::EventKind;
use tandem_call::fetch::FetchReason;
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::{Gather, GatherSpeech, Instruction, Record};
use tandem_call::recognition::{RecognisedText, RecognitionEvent};
use tandem_call::recording::{RecordingEnd, Track};
use tandem_call::testing::*;
use tandem_call::transcription::{TranscriptionOrder, TranscriptionSpec, TranscriptionStatus};
use tandem_call::{Callback, StatusEvent};
use tandem_id::LegId;

fn speech(change: impl FnOnce(&mut GatherSpeech)) -> Gather {
    let mut gather = spoken_gather();
    change(gather.speech.as_mut().unwrap());
    gather
}

fn gathers(gather: Gather) -> CallScript {
    CallScript::runs(vec![Instruction::Gather(gather), Instruction::Play(file("next"))])
}

fn callback(path: &str) -> Callback {
    Callback::new(target(path), vec![StatusEvent::Completed])
}

fn partial(stable: &str, unstable: &str) -> RecognitionEvent {
    RecognitionEvent::Partial(RecognisedText {
        stable: stable.to_owned(),
        unstable: unstable.to_owned(),
        ..RecognisedText::default()
    })
}

fn recognised(script: &CallScript) -> Option<&RecognisedText> {
    script
        .document_requests()
        .find_map(|fetch| if let FetchReason::GatheredSpeech(words) = &fetch.reason { Some(words) } else { None })
}

fn pressed(script: &CallScript) -> Option<&str> {
    script.document_requests().find_map(|fetch| match &fetch.reason {
        FetchReason::Gathered { digits, .. } => Some(digits.as_str()),
        _ => None,
    })
}

fn plays_next(script: &CallScript) -> bool {
    script
        .has_command(script.leg(), |command| matches!(command, LegCommand::Play { play, .. } if *play == file("next")))
}

fn finishes(script: &CallScript) -> bool {
    script.has_command(script.leg(), |command| matches!(command, LegCommand::FinishRecognition { .. }))
}

#[test]
fn speech_ends_when_the_pause_after_it_is_long_enough() {
    let mut script = gathers(speech(|_| {}));
    script.recognises(RecognitionEvent::Began);
    script.recognises_words("I want");
    script.recognises(RecognitionEvent::Paused);
    script.advance(Duration::from_millis(900));
    script.recognises(RecognitionEvent::Began);
    script.advance(Duration::from_secs(10));
    assert!(!finishes(&script), "somebody still speaks");
    script.recognises(RecognitionEvent::Paused);
    script.advance(Duration::from_millis(1_000));
    assert!(finishes(&script));
    script.recognises_words("to pay.");
    assert!(recognised(&script).is_none(), "more may come");
    script.recognition_ends(None);
    let words = recognised(&script).unwrap();
    assert_eq!((words.stable.as_str(), words.confidence), ("I want to pay.", Some(0.9)));
    script.hangs_up(script.leg());
    script.assert_settled();
}

#[test]
fn the_recogniser_can_decide_where_an_utterance_ends() {
    let mut script = gathers(speech(|speech| speech.pause = None));
    script.recognises(RecognitionEvent::Began);
    script.recognises_words("billing,");
    assert!(recognised(&script).is_none(), "the speaker has not stopped");
    script.recognises(RecognitionEvent::Paused);
    script.recognises_words("please");
    assert_eq!(recognised(&script).unwrap().stable, "billing, please");
    assert!(script.recognitions.is_empty());
}

#[test]
fn speech_stops_the_prompt_and_the_timer_for_silence() {
    let mut script = gathers(Gather { prompts: vec![file("ask")], ..speech(|_| {}) });
    assert_eq!((script.plays.len(), script.recognitions.len()), (1, 1));
    script.recognises(RecognitionEvent::Began);
    script.assert_silent();
    script.advance(Duration::from_secs(30));
    assert!(!plays_next(&script) && !finishes(&script));
    script.advance(Duration::from_secs(30));
    assert!(finishes(&script), "a minute is the longest");
}

#[test]
fn without_barge_in_recognition_starts_after_the_prompt() {
    let mut script = gathers(Gather { prompts: vec![file("ask")], barge_in: false, ..speech(|_| {}) });
    assert!(script.recognitions.is_empty());
    script.play_ends(script.leg());
    assert_eq!(script.recognitions.len(), 1);
}

#[test]
fn a_gather_without_speech_continues_with_the_next_instruction() {
    let mut script = gathers(speech(|_| {}));
    script.advance(Duration::from_secs(5));
    assert!(plays_next(&script) && script.recognitions.is_empty());
    assert!(script.document_requests().next().is_none());
}

#[test]
fn a_noise_without_words_does_not_restart_the_timer_for_silence() {
    let mut script = gathers(speech(|_| {}));
    script.advance(Duration::from_secs(4));
    script.recognises(RecognitionEvent::Began);
    script.recognises(RecognitionEvent::Paused);
    script.recognises_words("");
    script.advance(Duration::from_millis(900));
    assert!(!plays_next(&script));
    script.advance(Duration::from_millis(100));
    assert!(plays_next(&script));
    // The recogniser may report no result for the noise. The noise may also last longer than the permitted silence.
    let mut script = gathers(speech(|_| {}));
    script.advance(Duration::from_secs(1));
    script.recognises(RecognitionEvent::Began);
    script.advance(Duration::from_secs(7));
    script.recognises(RecognitionEvent::Paused);
    script.advance(Duration::from_secs(1));
    assert!(!plays_next(&script), "the recogniser may still find words");
    script.recognition_ends(None);
    assert!(plays_next(&script));
    // A noise stops the prompt. The whole silence follows.
    let mut script = gathers(Gather { prompts: vec![file("ask")], ..speech(|_| {}) });
    script.recognises(RecognitionEvent::Began);
    script.recognises(RecognitionEvent::Paused);
    script.advance(Duration::from_secs(1));
    script.recognition_ends(None);
    assert_eq!(script.recognitions.len(), 1, "it listens again");
    script.advance(Duration::from_millis(4_900));
    assert!(!plays_next(&script));
    script.advance(Duration::from_millis(100));
    assert!(plays_next(&script));
}

#[test]
fn words_count_even_if_no_speech_was_detected() {
    // The detector takes a whistle for no speech, and the recogniser finds words in it.
    let whistled = || {
        let mut gather = Gather { max_digits: Some(1), ..speech(|speech| speech.pause = Some(Duration::from_secs(5))) };
        gather.action_on_empty = true;
        gathers(gather)
    };
    let mut script = whistled();
    script.recognises_words("one two");
    script.advance(Duration::from_secs(5));
    script.recognition_ends(None);
    assert_eq!(recognised(&script).unwrap().stable, "one two");
    // The recogniser never completes its words.
    let mut script = whistled();
    script.recognises(partial("one", "two"));
    script.advance(Duration::from_secs(5));
    script.advance(Duration::from_secs(15));
    assert_eq!(recognised(&script).unwrap().stable, "one two");
    // The recogniser withdraws its words, so a key counts.
    let mut script = whistled();
    script.recognises(partial("", "one"));
    script.recognises_words("");
    script.sends_digits("7");
    assert_eq!(pressed(&script), Some("7"));
}

#[test]
fn later_attempts_recognise_speech_too() {
    let mut script = gathers(Gather { tries: 2, ..speech(|_| {}) });
    script.advance(Duration::from_secs(5));
    script.recognises(RecognitionEvent::Began);
    script.recognises_words("billing");
    script.recognises(RecognitionEvent::Paused);
    script.advance(Duration::from_secs(1));
    script.recognition_ends(None);
    assert_eq!(recognised(&script).unwrap().stable, "billing");
}

#[test]
fn the_first_input_decides_between_digits_and_words() {
    let mut script = gathers(speech(|_| {}));
    script.recognises(RecognitionEvent::Began);
    script.sends_digits("4");
    assert!(script.recognitions.is_empty(), "a key was first");
    script.sends_digits("2#");
    assert_eq!(pressed(&script), Some("42"));

    let mut script = gathers(speech(|_| {}));
    script.recognises(RecognitionEvent::Began);
    script.recognises(partial("", "for"));
    script.sends_digits("42#");
    assert_eq!(pressed(&script), None, "words were first");
    script.recognises_words("forty-two");
    script.recognises(RecognitionEvent::Paused);
    script.advance(Duration::from_secs(1));
    script.recognition_ends(None);
    assert_eq!(recognised(&script).unwrap().stable, "forty-two");

    let mut script = gathers(speech(|speech| speech.digits = false));
    script.sends_digits("1#");
    assert_eq!((pressed(&script), script.recognitions.len()), (None, 1), "digits do not count");
}

#[test]
fn partial_results_are_reported_in_order_with_the_words_before() {
    let mut script = gathers(speech(|speech| speech.partials = Some(callback("partial"))));
    script.recognises(RecognitionEvent::Began);
    script.recognises(partial("", "I"));
    script.recognises(partial("I want", "two"));
    script.recognises_words("I want to");
    script.recognises(partial("", "pay"));
    let reported: Vec<(u32, String, String)> = script
        .events()
        .filter_map(|event| match &event.kind {
            EventKind::GatherPartial { words, sequence, callback } => {
                assert_eq!(&*callback.target.url, "http://app.test/partial");
                Some((*sequence, words.stable.clone(), words.unstable.clone()))
            }
            _ => None,
        })
        .collect();
    let expected = [(0, "", "I"), (1, "I want", "two"), (2, "I want to", ""), (3, "I want to", "pay")];
    assert_eq!(reported, expected.map(|(at, stable, unstable)| (at, stable.to_owned(), unstable.to_owned())));
}

#[test]
fn a_failed_recognition_is_reported_and_digits_still_count() {
    let mut script = gathers(speech(|_| {}));
    script.recognition_ends(Some("off"));
    assert!(script.has_event(|kind| matches!(kind, EventKind::EngineFailed(why) if why.detail == "off")));
    script.sends_digits("7#");
    assert_eq!(pressed(&script), Some("7"));
    let mut script = gathers(speech(|speech| speech.digits = false));
    script.recognition_ends(Some("off"));
    script.advance(Duration::from_secs(5));
    assert!(plays_next(&script));
}

#[test]
fn an_empty_result_is_reported_to_an_action_that_requests_it() {
    let mut script = gathers(Gather { action_on_empty: true, ..speech(|speech| speech.digits = false) });
    script.advance(Duration::from_secs(5));
    assert_eq!(recognised(&script), Some(&RecognisedText::default()));
}

#[test]
fn a_transcription_reports_its_last_words_after_the_end_of_the_call() {
    let spec = Box::new(transcription("t"));
    let mut script = CallScript::runs(vec![Instruction::StartTranscription(spec), Instruction::Play(file("next"))]);
    script.transcription_is(TranscriptionStatus::Started);
    let utterance = |text: &str| TranscriptionStatus::Recognised {
        track: Track::Inbound,
        words: RecognisedText { stable: text.to_owned(), ..RecognisedText::default() },
        is_final: true,
    };
    script.transcription_is(utterance("hello"));
    script.hangs_up(script.leg());
    assert!(script.has_command(script.leg(), |command| matches!(command, LegCommand::StopTranscription { .. })));
    assert!(script.released.is_empty(), "its last words are awaited");
    script.transcription_is(utterance("bye"));
    script.transcription_is(TranscriptionStatus::Stopped);
    let reported: Vec<u32> = script
        .events()
        .filter_map(|event| if let EventKind::Transcription(facts) = &event.kind { Some(facts.sequence) } else { None })
        .collect();
    assert_eq!(reported, [0, 1, 2, 3]);
    script.assert_settled();
}

#[test]
fn a_transcription_that_never_ends_is_released_with_its_leg() {
    let mut script =
        CallScript::runs(vec![Instruction::StartTranscription(Box::new(transcription("t"))), Instruction::Echo]);
    script.hangs_up(script.leg());
    script.advance(Duration::from_secs(10));
    assert!(script.has_event(|kind| {
        matches!(kind, EventKind::Transcription(facts) if facts.status == TranscriptionStatus::Stopped)
    }));
    assert!(script.call.is_finished());
}

#[test]
fn transcriptions_are_started_and_stopped_by_request_and_by_name() {
    let mut script = CallScript::commanded();
    let start = |name: &str| Command::StartTranscription(Box::new(transcription(name)));
    let first = script.request(start("a")).unwrap().transcription.unwrap();
    let second = script.request(start("b")).unwrap().transcription.unwrap();
    assert_eq!(script.request(Command::StopNamedTranscription("b".into())).unwrap().transcription, Some(second));
    assert_eq!(script.request(Command::StopNamedTranscription("b".into())), Err(Refused::NotRunning), "it is ending");
    script.request(Command::StopTranscription(first)).unwrap();
    assert_eq!(script.request(Command::StopTranscription(first)), Err(Refused::NotRunning));
    script.request(start("c")).unwrap();
    script.request(start("d")).unwrap();
    assert_eq!(script.request(start("e")), Err(Refused::TooMany));
}

#[test]
fn a_complete_message_is_transcribed_even_if_the_caller_has_hung_up() {
    let order = TranscriptionOrder { callback: Some(callback("transcribed")) };
    let record = Record {
        spec: recording(),
        finish_on: "#".to_owned(),
        beep: false,
        action: None,
        transcribe: Some(order.clone()),
    };
    let transcribed = |script: &CallScript| {
        script.has_command(
            script.leg(),
            |command| matches!(command, LegCommand::Transcribe { of, order: transcription, .. } if of.id == LegId(1) && *transcription == order),
        )
    };
    let mut script = CallScript::runs(vec![Instruction::Record(record.clone())]);
    assert!(!transcribed(&script));
    script.recording_ends(script.leg(), RecordingEnd::Silence);
    assert!(transcribed(&script));

    let mut script = CallScript::runs(vec![Instruction::Record(record.clone())]);
    let (leg, op) = *script.recordings.first().unwrap();
    script.hangs_up(leg);
    let (end, second) = (RecordingEnd::Stopped, Duration::from_secs(1));
    script.feed(LegEvent::RecordingFinished { op, end, duration: second, recorded: second });
    assert!(transcribed(&script));
    script.assert_settled();

    let mut script = CallScript::runs(vec![Instruction::Record(record)]);
    let op = script.recordings.first().unwrap().1;
    let (end, nothing) = (RecordingEnd::Stopped, Duration::ZERO);
    script.feed(LegEvent::RecordingFinished { op, end, duration: nothing, recorded: nothing });
    assert!(!transcribed(&script), "there was no speech");
}

#[test]
fn a_transcription_of_a_message_starts_after_the_response_to_the_action() {
    let record = Record {
        spec: recording(),
        finish_on: "#".to_owned(),
        beep: false,
        action: Some(target("recorded")),
        transcribe: Some(TranscriptionOrder { callback: Some(callback("transcribed")) }),
    };
    let transcribed = |script: &CallScript| {
        script.has_command(script.leg(), |command| matches!(command, LegCommand::Transcribe { .. }))
    };
    for (hangs_up, fails) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut script = CallScript::runs(vec![Instruction::Record(record.clone())]);
        if hangs_up {
            script.hangs_up(script.leg());
            script.close_recordings();
        } else {
            script.recording_ends(script.leg(), RecordingEnd::Silence);
        }
        assert_eq!(script.last_url(), Some("http://app.test/recorded"));
        assert!(!transcribed(&script), "the action is not answered");
        if fails {
            script.fetch_fails();
        } else {
            script.fetched(vec![Instruction::Hangup]);
        }
        assert!(transcribed(&script));
    }
    // An application that never answers delays the transcription only for a short time.
    let mut script = CallScript::runs(vec![Instruction::Record(record)]);
    script.hangs_up(script.leg());
    script.close_recordings();
    script.advance(Duration::from_secs(10));
    assert!(transcribed(&script));
    script.assert_settled();
}

#[test]
fn a_transcription_that_reports_at_the_end_reports_the_whole_text_once() {
    let spec = Box::new(TranscriptionSpec { at_end: true, if_none_runs: true, ..transcription("whole") });
    let mut script = CallScript::runs(vec![Instruction::StartTranscription(spec.clone()), Instruction::Echo]);
    let again = Command::StartTranscription(spec);
    assert_eq!(script.request(again), Err(Refused::AlreadyRunning));
    script.transcription_is(TranscriptionStatus::Started);
    for (text, is_final) in [("he", false), ("hello", true), ("bye", true)] {
        let words = RecognisedText { stable: text.to_owned(), ..RecognisedText::default() };
        script.transcription_is(TranscriptionStatus::Recognised { track: Track::Inbound, words, is_final });
    }
    script.hangs_up(script.leg());
    script.transcription_is(TranscriptionStatus::Stopped);
    let reported: Vec<_> = script
        .events()
        .filter_map(|event| if let EventKind::Transcription(facts) = &event.kind { Some(&facts.status) } else { None })
        .collect();
    assert_eq!(reported, [&TranscriptionStatus::FullText("hello\nbye".to_owned())]);
    script.assert_settled();
}
