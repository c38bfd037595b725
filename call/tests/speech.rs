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
use tandem_call::id::LegId;
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::{Gather, GatherSpeech, Instruction, Record};
use tandem_call::recognition::{RecognisedText, RecognitionEvent};
use tandem_call::recording::{RecordingEnd, Track};
use tandem_call::testing::*;
use tandem_call::transcription::{TranscriptionOrder, TranscriptionSpec, TranscriptionStatus};
use tandem_call::{Callback, StatusEvent};

fn speech(change: impl FnOnce(&mut GatherSpeech)) -> Gather {
    let mut gather = spoken_gather();
    change(gather.speech.as_mut().unwrap());
    gather
}

fn gathers(gather: Gather) -> CallScript {
    CallScript::runs(vec![Instruction::Gather(gather), Instruction::Play(file("next"))])
}

fn callback(path: &str) -> Callback {
    Callback {
        target: target(path),
        failover: None,
        moments: vec![StatusEvent::Completed],
        elsewhere: Vec::new(),
        timeout: None,
    }
}

fn partial(stable: &str, unstable: &str) -> RecognitionEvent {
    RecognitionEvent::Partial(RecognisedText {
        stable: stable.to_owned(),
        unstable: unstable.to_owned(),
        ..RecognisedText::default()
    })
}

fn heard(script: &CallScript) -> Option<&RecognisedText> {
    script.asked().find_map(|fetch| if let FetchReason::Heard(words) = &fetch.reason { Some(words) } else { None })
}

fn pressed(script: &CallScript) -> Option<&str> {
    script.asked().find_map(|fetch| match &fetch.reason {
        FetchReason::Gathered { digits, .. } => Some(digits.as_str()),
        _ => None,
    })
}

fn plays_next(script: &CallScript) -> bool {
    script.ordered(script.leg(), |command| matches!(command, LegCommand::Play { play, .. } if *play == file("next")))
}

fn finishes(script: &CallScript) -> bool {
    script.ordered(script.leg(), |command| matches!(command, LegCommand::FinishRecognition { .. }))
}

#[test]
fn words_are_over_when_the_pause_behind_them_is_long_enough() {
    let mut script = gathers(speech(|_| {}));
    script.hears(RecognitionEvent::Began);
    script.hears_words("I want");
    script.hears(RecognitionEvent::Paused);
    script.passes(Duration::from_millis(900));
    script.hears(RecognitionEvent::Began);
    script.passes(Duration::from_secs(10));
    assert!(!finishes(&script), "somebody still speaks");
    script.hears(RecognitionEvent::Paused);
    script.passes(Duration::from_millis(1_000));
    assert!(finishes(&script));
    script.hears_words("to pay.");
    assert!(heard(&script).is_none(), "more may come");
    script.hears_no_more(None);
    let words = heard(&script).unwrap();
    assert_eq!((words.stable.as_str(), words.confidence), ("I want to pay.", Some(0.9)));
    script.hangs_up(script.leg());
    script.assert_settled();
}

#[test]
fn the_recogniser_may_say_where_an_utterance_ends() {
    let mut script = gathers(speech(|speech| speech.pause = None));
    script.hears(RecognitionEvent::Began);
    script.hears_words("billing,");
    assert!(heard(&script).is_none(), "the speaker has not stopped");
    script.hears(RecognitionEvent::Paused);
    script.hears_words("please");
    assert_eq!(heard(&script).unwrap().stable, "billing, please");
    assert!(script.ears.is_empty());
}

#[test]
fn a_voice_stops_the_prompt_and_no_silence_is_counted_while_it_lasts() {
    let mut script = gathers(Gather { prompts: vec![file("ask")], ..speech(|_| {}) });
    assert_eq!((script.plays.len(), script.ears.len()), (1, 1));
    script.hears(RecognitionEvent::Began);
    script.assert_silent();
    script.passes(Duration::from_secs(30));
    assert!(!plays_next(&script) && !finishes(&script));
    script.passes(Duration::from_secs(30));
    assert!(finishes(&script), "a minute is the longest");
}

#[test]
fn without_barge_in_nobody_listens_before_the_prompt_is_over() {
    let mut script = gathers(Gather { prompts: vec![file("ask")], barge_in: false, ..speech(|_| {}) });
    assert!(script.ears.is_empty());
    script.play_ends(script.leg());
    assert_eq!(script.ears.len(), 1);
}

#[test]
fn silence_goes_on_with_the_next_instruction() {
    let mut script = gathers(speech(|_| {}));
    script.passes(Duration::from_secs(5));
    assert!(plays_next(&script) && script.ears.is_empty());
    assert!(script.asked().next().is_none());
}

#[test]
fn a_noise_is_no_word_and_silence_is_counted_anew() {
    let mut script = gathers(speech(|_| {}));
    script.passes(Duration::from_secs(4));
    script.hears(RecognitionEvent::Began);
    script.hears(RecognitionEvent::Paused);
    script.hears_words("");
    script.passes(Duration::from_secs(4));
    assert!(!plays_next(&script));
    script.passes(Duration::from_secs(1));
    assert!(plays_next(&script));
    // The same happens if the recogniser reports no result for the noise.
    let mut script = gathers(speech(|_| {}));
    script.hears(RecognitionEvent::Began);
    script.hears(RecognitionEvent::Paused);
    script.passes(Duration::from_secs(1));
    script.hears_no_more(None);
    assert_eq!(script.ears.len(), 1, "it listens again");
    script.passes(Duration::from_secs(5));
    assert!(plays_next(&script));
}

#[test]
fn whichever_of_keys_and_words_comes_first_wins() {
    let mut script = gathers(speech(|_| {}));
    script.hears(RecognitionEvent::Began);
    script.presses("4");
    assert!(script.ears.is_empty(), "a key was first");
    script.presses("2#");
    assert_eq!(pressed(&script), Some("42"));

    let mut script = gathers(speech(|_| {}));
    script.hears(RecognitionEvent::Began);
    script.hears(partial("", "for"));
    script.presses("42#");
    assert_eq!(pressed(&script), None, "words were first");
    script.hears_words("forty-two");
    script.hears(RecognitionEvent::Paused);
    script.passes(Duration::from_secs(1));
    script.hears_no_more(None);
    assert_eq!(heard(&script).unwrap().stable, "forty-two");

    let mut script = gathers(speech(|speech| speech.keys = false));
    script.presses("1#");
    assert_eq!((pressed(&script), script.ears.len()), (None, 1), "keys do not count at all");
}

#[test]
fn partial_words_are_told_in_order_with_all_that_was_said_before() {
    let mut script = gathers(speech(|speech| speech.partials = Some(callback("partial"))));
    script.hears(RecognitionEvent::Began);
    script.hears(partial("", "I"));
    script.hears(partial("I want", "two"));
    script.hears_words("I want to");
    script.hears(partial("", "pay"));
    let told: Vec<(u32, String, String)> = script
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
    assert_eq!(told, expected.map(|(at, stable, unstable)| (at, stable.to_owned(), unstable.to_owned())));
}

#[test]
fn ears_that_cannot_hear_say_so_and_keys_still_count() {
    let mut script = gathers(speech(|_| {}));
    script.hears_no_more(Some("off"));
    assert!(script.told(|kind| matches!(kind, EventKind::RecognitionFailed { why } if why == "off")));
    script.presses("7#");
    assert_eq!(pressed(&script), Some("7"));
    let mut script = gathers(speech(|speech| speech.keys = false));
    script.hears_no_more(Some("off"));
    script.passes(Duration::from_secs(5));
    assert!(plays_next(&script));
}

#[test]
fn nothing_said_is_told_to_who_wants_to_know_it() {
    let mut script = gathers(Gather { action_on_empty: true, ..speech(|speech| speech.keys = false) });
    script.passes(Duration::from_secs(5));
    assert_eq!(heard(&script), Some(&RecognisedText::default()));
}

#[test]
fn a_transcription_runs_beside_all_else_and_tells_its_last_words_after_the_call() {
    let spec = Box::new(transcription("t"));
    let mut script = CallScript::runs(vec![Instruction::StartTranscription(spec), Instruction::Play(file("next"))]);
    script.transcription_is(TranscriptionStatus::Started);
    let said = |text: &str| TranscriptionStatus::Said {
        track: Track::Inbound,
        words: RecognisedText { stable: text.to_owned(), ..RecognisedText::default() },
        is_final: true,
    };
    script.transcription_is(said("hello"));
    script.hangs_up(script.leg());
    assert!(script.ordered(script.leg(), |command| matches!(command, LegCommand::StopTranscription { .. })));
    assert!(script.released.is_empty(), "its last words are awaited");
    script.transcription_is(said("bye"));
    script.transcription_is(TranscriptionStatus::Stopped);
    let told: Vec<u32> = script
        .events()
        .filter_map(|event| if let EventKind::Transcription(facts) = &event.kind { Some(facts.sequence) } else { None })
        .collect();
    assert_eq!(told, [0, 1, 2, 3]);
    script.assert_settled();
}

#[test]
fn a_transcription_that_never_ends_is_given_up_with_its_leg() {
    let mut script =
        CallScript::runs(vec![Instruction::StartTranscription(Box::new(transcription("t"))), Instruction::Echo]);
    script.hangs_up(script.leg());
    script.passes(Duration::from_secs(10));
    assert!(script.told(|kind| {
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
fn a_message_is_written_down_once_it_is_whole_even_if_its_speaker_has_hung_up() {
    let order = TranscriptionOrder { callback: Some(callback("transcribed")) };
    let record = Record {
        spec: recording(),
        finish_on: "#".to_owned(),
        beep: false,
        action: None,
        transcribe: Some(order.clone()),
    };
    let transcribed = |script: &CallScript| {
        script.ordered(
            script.leg(),
            |command| matches!(command, LegCommand::Transcribe { of, order: told, .. } if of.id == LegId(1) && *told == order),
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
    assert!(!transcribed(&script), "nothing was said");
}

#[test]
fn a_transcription_told_at_its_end_is_told_once_with_all_that_was_said() {
    let spec = Box::new(TranscriptionSpec { at_end: true, alone: true, ..transcription("whole") });
    let mut script = CallScript::runs(vec![Instruction::StartTranscription(spec.clone()), Instruction::Echo]);
    let again = Command::StartTranscription(spec);
    assert_eq!(script.request(again), Err(Refused::AlreadyRunning));
    script.transcription_is(TranscriptionStatus::Started);
    for (text, is_final) in [("he", false), ("hello", true), ("bye", true)] {
        let words = RecognisedText { stable: text.to_owned(), ..RecognisedText::default() };
        script.transcription_is(TranscriptionStatus::Said { track: Track::Inbound, words, is_final });
    }
    script.hangs_up(script.leg());
    script.transcription_is(TranscriptionStatus::Stopped);
    let told: Vec<_> = script
        .events()
        .filter_map(|event| if let EventKind::Transcription(facts) = &event.kind { Some(&facts.status) } else { None })
        .collect();
    assert_eq!(told, [&TranscriptionStatus::Whole("hello\nbye".to_owned())]);
    script.assert_settled();
}
