//! The inputs of the caller.

use tandem_call::conversation::{ConversationTarget, Sensitivity};
use tandem_call::recognition::{RecognisedText, RecognitionEvent};

use super::tests::{Stage, WORD, prompt, say, spec};
use super::*;

#[test]
fn speech_interrupts_and_the_event_has_the_text_that_the_caller_heard() {
    let mut stage = Stage::new(spec());
    stage.say("Sentence one is this. Sentence two follows it. ", false);
    stage.say("Sentence three comes last.", true);
    stage.is_heard();
    stage.advance_clock(WORD * 2 + WORD / 2);
    stage.recognises(RecognitionEvent::Began);
    let interrupted = ConversationEvent::Interrupted {
        heard: "Sentence one is this. Sentence two".to_owned(),
        after: WORD * 6 + WORD / 2,
    };
    assert_eq!(stage.events(), [interrupted]);
    assert!(stage.put.is_empty(), "nothing of it is said any more");
    stage.recognises(RecognitionEvent::Paused);
    stage
        .recognises(RecognitionEvent::Final(RecognisedText { stable: "stop".to_owned(), ..RecognisedText::default() }));
    assert_eq!(stage.events(), [prompt("stop")]);
    stage.say("All right.", true);
    assert_eq!(stage.put[0].1, "All right.");
}

#[test]
fn a_digit_interrupts_and_is_reported_after_the_interruption() {
    let mut stage = Stage::new(spec());
    stage.say("A long story that nobody wants to hear.", true);
    stage.advance_clock(WORD);
    stage.digit('5');
    let events = stage.events();
    assert!(
        matches!(&events[..], [ConversationEvent::Interrupted { .. }, ConversationEvent::Digit('5')]),
        "{events:?}"
    );
    let mut deaf = Stage::new(ConversationSpec { digits: false, ..spec() });
    deaf.say("A long story.", true);
    deaf.digit('5');
    assert_eq!((deaf.events(), deaf.clears), (Vec::new(), 0));
}

#[test]
fn uninterruptible_speech_plays_on_and_digits_or_speech_are_reported_on_request() {
    let keys_only = Inputs { digits: true, speech: false };
    let mut stage = Stage::new(ConversationSpec { interrupted_by: Inputs::NONE, ..spec() });
    stage.say("This is important, so listen.", true);
    stage.caller_says("no");
    stage.digit('1');
    assert_eq!((stage.events(), stage.clears), (Vec::new(), 0));
    stage.is_heard();
    stage.caller_says("yes");
    assert_eq!(stage.events(), [prompt("yes")]);
    let mut stage = Stage::new(ConversationSpec { interrupted_by: keys_only, reports: Inputs::ANY, ..spec() });
    stage.say("This is important, so listen.", true);
    stage.caller_says("no");
    assert_eq!((stage.events(), stage.clears), (vec![prompt("no")], 0));
    stage.digit('1');
    assert_eq!(stage.clears, 1);
    // A single message may have an interruption rule of its own.
    stage.command(say("Not this one.", true, InterruptPolicy { by: Some(Inputs::NONE), preemptible: None }));
    stage.digit('1');
    assert_eq!(stage.clears, 1);
}

#[test]
fn low_sensitivity_interrupts_only_after_continued_speech() {
    let mut stage = Stage::new(ConversationSpec { sensitivity: Sensitivity::Low, ..spec() });
    stage.say("A long story that nobody wants to hear.", true);
    stage.recognises(RecognitionEvent::Began);
    stage.advance_clock(Duration::from_millis(300));
    stage.recognises(RecognitionEvent::Paused);
    stage.advance_clock(Duration::from_secs(1));
    assert_eq!(stage.clears, 0, "a cough");
    stage.recognises(RecognitionEvent::Began);
    stage.advance_clock(Duration::from_millis(700));
    assert_eq!(stage.clears, 1);
}

/// Returns a conversation in which words decide about interruptions. The reply has ten words, and three of these words
/// are played.
fn half_said() -> Stage {
    let mut stage = Stage::new(ConversationSpec { words_decide_interruption: true, reports_speakers: true, ..spec() });
    stage.say("One two three four five six seven eight nine ten.", true);
    stage.advance_clock(WORD * 3 + WORD / 2);
    stage.events();
    stage
}

fn final_words(text: &str) -> RecognitionEvent {
    RecognitionEvent::Final(RecognisedText { stable: text.to_owned(), ..RecognisedText::default() })
}

#[test]
fn a_sound_pauses_playback_and_a_cough_resumes_it_at_its_position() {
    let ms = Duration::from_millis;
    let mut stage = half_said();
    stage.turn_taking.handle_sound(stage.now);
    stage.collect_outputs();
    assert!(stage.paused);
    stage.advance_clock(ms(200));
    assert!(!stage.paused, "no voice followed");
    stage.recognises(RecognitionEvent::Began);
    assert!(stage.paused);
    stage.advance_clock(ms(300));
    stage.recognises(RecognitionEvent::Paused);
    stage.advance_clock(ms(599));
    assert!(stage.paused);
    stage.advance_clock(ms(1));
    assert!(!stage.paused, "nobody knows any words");
    stage.recognises(RecognitionEvent::Began);
    stage.recognises(RecognitionEvent::Paused);
    stage.recognises(final_words(""));
    assert!(!stage.paused, "there were no words");
    assert_eq!((stage.clears, stage.put.len()), (0, 1));
    assert!(!stage.events().iter().any(|event| matches!(event, ConversationEvent::Interrupted { .. })));
}

#[test]
fn agreement_and_echo_do_not_interrupt_and_other_words_do() {
    for words in ["mhm", "Yeah, okay.", "three four five"] {
        let mut stage = half_said();
        stage.recognises(RecognitionEvent::Began);
        stage.recognises(RecognitionEvent::Paused);
        stage.recognises(final_words(words));
        assert!(!stage.paused && stage.clears == 0, "{words}");
        assert_eq!(stage.facts.last(), Some(&ConversationFact::Heard { text: words.to_owned(), sent: false }));
    }
    let mut stage = half_said();
    stage.recognises(RecognitionEvent::Began);
    stage.advance_clock(WORD * 4);
    stage.recognises(RecognitionEvent::Paused);
    stage.recognises(final_words("no, stop"));
    assert!(!stage.paused && stage.clears == 1 && stage.put.is_empty());
    let interrupted = ConversationEvent::Interrupted { heard: "One two three".to_owned(), after: WORD * 7 + WORD / 2 };
    assert!(stage.events().contains(&interrupted), "what was heard before it stopped");
}

#[test]
fn continued_speech_interrupts_before_its_transcript() {
    let mut stage = half_said();
    stage.recognises(RecognitionEvent::Began);
    stage.advance_clock(Duration::from_millis(699));
    assert_eq!(stage.clears, 0);
    stage.advance_clock(Duration::from_millis(1));
    assert_eq!((stage.clears, stage.paused), (1, false));
}

#[test]
fn a_reply_waits_for_the_end_of_the_callers_speech_when_words_decide_interruption() {
    let mut stage = Stage::new(ConversationSpec { words_decide_interruption: true, ..spec() });
    stage.recognises(RecognitionEvent::Began);
    stage.say("Listen.", true);
    assert!(stage.put.is_empty());
    stage.recognises(RecognitionEvent::Paused);
    assert_eq!(stage.put.len(), 1);
}

#[test]
fn an_agent_on_hold_hears_neither_words_nor_digits_and_its_speech_plays_to_the_end() {
    let mut stage = Stage::new(ConversationSpec { words_decide_interruption: true, ..spec() });
    stage.say("Please hold the line. ", true);
    stage.recognises(RecognitionEvent::Began);
    assert!(stage.paused, "the caller may interrupt");
    stage.command(ConversationCommand::Listen(false));
    assert!(!stage.paused && !stage.turn_taking.listens());
    stage.events();
    stage.recognises(final_words("hello there my friend"));
    stage.digit('1');
    stage.turn_taking.handle_sound(stage.now);
    stage.collect_outputs();
    assert!(!stage.paused && stage.clears == 0);
    assert_eq!(stage.events(), []);
    stage.command(ConversationCommand::Listen(true));
    stage.digit('2');
    assert!(stage.events().contains(&ConversationEvent::Digit('2')));
}

fn with_agent() -> ConversationSpec {
    ConversationSpec {
        with: ConversationTarget::Agent(Box::default()),
        words_decide_interruption: true,
        reports_speakers: true,
        ..spec()
    }
}

#[test]
fn a_voice_ends_with_the_recogniser_that_has_reported_it() {
    let mut stage = Stage::new(with_agent());
    stage.recognises(RecognitionEvent::Began);
    stage.say("Listen.", true);
    assert!(stage.put.is_empty(), "the caller speaks");
    stage.turn_taking.recogniser_ended(stage.now);
    stage.collect_outputs();
    assert_eq!(stage.put.len(), 1);
    assert!(stage.events().contains(&ConversationEvent::CallerSpeaking(false)));
    stage.recognises(RecognitionEvent::Began);
    assert!(stage.paused);
    stage.turn_taking.recogniser_ended(stage.now);
    stage.collect_outputs();
    assert!(!stage.paused);
    stage.advance_clock(Duration::from_secs(1));
    assert_eq!(stage.clears, 0);
}

#[test]
fn an_agent_learns_that_speech_has_no_words_for_it_and_an_application_gets_no_empty_words() {
    let prompts = |mut stage: Stage, words: &str| {
        stage.say("One two three four five.", true);
        stage.advance_clock(WORD * 2);
        stage.recognises(RecognitionEvent::Began);
        stage.recognises(RecognitionEvent::Paused);
        stage.recognises(final_words(words));
        stage.events.retain(|event| matches!(event, ConversationEvent::Prompt { .. }));
        stage.events()
    };
    for words in ["", "mhm", "two three"] {
        assert_eq!(prompts(Stage::new(with_agent()), words), [prompt("")], "{words}");
        let application = ConversationSpec { words_decide_interruption: true, ..spec() };
        assert_eq!(prompts(Stage::new(application), words), [], "{words}");
    }
    // Speech does not interrupt.
    let protected = |spec| ConversationSpec { interrupted_by: Inputs::NONE, ..spec };
    assert_eq!(prompts(Stage::new(protected(with_agent())), "stop"), [prompt("")]);
    assert_eq!(prompts(Stage::new(protected(spec())), "stop"), []);
}

#[test]
fn a_noise_without_end_does_not_delay_the_end_of_the_conversation() {
    let mut stage = Stage::new(with_agent());
    stage.recognises(RecognitionEvent::Began);
    stage.command(ConversationCommand::Phrase("Goodbye.".to_owned()));
    assert!(stage.put.is_empty());
    stage.command(ConversationCommand::EndAfter(ConversationEnd::Hangup));
    stage.is_heard();
    assert_eq!(stage.pending_end, Some(ConversationEnd::Hangup));
}
