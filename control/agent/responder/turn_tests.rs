//! Turns that overlap: the caller speaks during an answer, between its phrases, or while tools run; and answers that break off.

use tandem_call::engine::{Engine, EngineEffect};

use super::super::chat::Piece;
use super::tests::{Stage, call, failures, prompt, text};
use super::*;

const TOOL: &str = r#","tools":[{"name":"order","url":"http://127.0.0.1/o"}]"#;

fn interrupts(stage: &mut Stage, heard: &str) {
    stage.event(ConversationEvent::Interrupted { heard: heard.to_owned(), after: Duration::ZERO });
    stage.event(ConversationEvent::AgentSpeaking(false));
}

fn played(stage: &mut Stage, text: &str) {
    stage.event(ConversationEvent::Played(text.to_owned()));
}

#[test]
fn words_between_two_phrases_of_an_answer_keep_the_phrase_that_the_caller_heard() {
    let mut stage = Stage::new("");
    stage.says("Tell me all.");
    stage.passes(60);
    stage.answers(text("It begins here. It goes on"));
    // The voice is faster than the model, so the agent falls silent.
    stage.hears(&["It begins here."]);
    stage.take();
    stage.says("Stop it.");
    assert!(stage.outputs.contains(&ResponderOutput::CancelAnswer) && stage.has(&ConversationCommand::Withdraw));
    let expected = ["user: Tell me all.", "assistant: It begins here. — (interrupted by the caller)", "user: Stop it."];
    assert_eq!(stage.request().unwrap()[1..], expected);
}

#[test]
fn words_before_the_answer_to_a_tool_replace_that_answer() {
    let mut stage = Stage::new(TOOL);
    stage.says("Where is my order?");
    stage.passes(60);
    stage.answers(call("order", "{}"));
    stage.web_answers("c1", 200, "on its way");
    stage.answers(text("Your order"));
    stage.take();
    stage.says("And when will it be here?");
    assert!(stage.outputs.contains(&ResponderOutput::CancelAnswer) && stage.has(&ConversationCommand::Withdraw));
    let expected = ["tool: on its way", "user: And when will it be here?"];
    assert_eq!(stage.request().unwrap()[3..], expected, "{:?}", stage.request());
}

#[test]
fn keys_during_an_answer_that_began_after_them_get_an_answer_of_their_own() {
    let mut stage = Stage::new("");
    stage.says("Which key is it?");
    stage.passes(60);
    stage.event(ConversationEvent::Digit('1'));
    stage.answers(text("Press one. Or two."));
    stage.event(ConversationEvent::AgentSpeaking(true));
    stage.take();
    stage.passes(2_000);
    assert!(stage.request().unwrap().last().unwrap().contains("pressed the keys 1"), "{:?}", stage.outputs);
    assert!(stage.has(&ConversationCommand::Withdraw));
    stage.take();
    played(&mut stage, "Press one.");
    stage.event(ConversationEvent::AgentSpeaking(false));
    stage.answers(text("Yes."));
    stage.answers(Piece::End(vec![]));
    stage.says("Thank you.");
    assert_eq!(stage.request().unwrap()[2], "assistant: Press one.");
}

#[test]
fn an_interruption_drops_the_text_that_the_conversation_has_not_taken_yet() {
    let mut stage = Stage::new("");
    stage.says("Tell me all.");
    stage.passes(60);
    stage.take();
    let (now, id) = (stage.now, stage.thought);
    stage.responder.handle_piece(now, id, text("It begins here. "));
    let by = ConversationEvent::Interrupted { heard: String::new(), after: Duration::ZERO };
    stage.event(by);
    assert_eq!(stage.speech(), "");
}

#[test]
fn a_noise_after_an_interruption_by_a_key_causes_no_request_to_repeat() {
    let mut stage = Stage::new("");
    stage.says("Tell me all.");
    stage.passes(60);
    stage.answers(text("It begins here. It goes on."));
    stage.event(ConversationEvent::AgentSpeaking(true));
    interrupts(&mut stage, "");
    stage.event(ConversationEvent::Digit('1'));
    stage.passes(2_000);
    stage.answers(text("Good."));
    stage.answers(Piece::End(vec![]));
    stage.event(ConversationEvent::AgentSpeaking(true));
    stage.take();
    stage.event(prompt(""));
    stage.event(ConversationEvent::AgentSpeaking(false));
    stage.event(prompt(""));
    assert_eq!(stage.speech(), "");
}

#[test]
fn the_agent_says_that_it_still_works_after_its_filler_was_spoken() {
    let mut stage = Stage::new("");
    stage.says("Are you there?");
    stage.passes(750);
    assert_eq!(stage.speech(), "[One moment.]");
    stage.hears(&["One moment."]);
    stage.passes(6_000);
    assert_eq!(stage.speech(), "[One moment.][I am still working on it.]");
    // While the agent speaks, no filler is added.
    stage.event(ConversationEvent::AgentSpeaking(true));
    for _ in 0..4 {
        stage.answers(text("<think>"));
        stage.passes(5_000);
    }
    assert_eq!(stage.speech(), "[One moment.][I am still working on it.]");
}

#[test]
fn the_words_of_a_broken_answer_that_the_caller_heard_stay_in_the_dialogue() {
    let broken = || Piece::Failed { why: "reset".to_owned(), for_good: false };
    let mut stage = Stage::new("");
    stage.says("When do you open?");
    stage.passes(60);
    stage.answers(text("We open at"));
    stage.answers(broken());
    assert_eq!(failures(&stage), [(Engine::Model, EngineEffect::Noticed)], "a part was spoken, so nothing is repeated");
    stage.hears(&["We open at", "I am sorry, I have a technical problem."]);
    stage.says("Hello?");
    assert_eq!(stage.request().unwrap()[2], "assistant: We open at");

    // The caller has not heard a part of an early answer.
    let mut stage = Stage::new("");
    stage.says("When do you open?");
    stage.answers(text("We open at"));
    stage.answers(broken());
    assert!(stage.has(&ConversationCommand::Withdraw));
    stage.says("Hello?");
    assert!(!stage.request().unwrap().iter().any(|line| line.contains("We open")), "{:?}", stage.request());
}

#[test]
fn words_during_the_rounds_of_tools_begin_new_rounds() {
    let mut stage = Stage::new(TOOL);
    stage.says("Where is my order?");
    stage.passes(60);
    for _ in 0..3 * MAX_ROUNDS {
        stage.answers(call("order", "{}"));
        stage.says("And now?");
        stage.web_answers("c1", 200, "on its way");
    }
    assert_eq!(failures(&stage), []);
}

#[test]
fn a_silent_agent_after_a_failure_still_asks_a_silent_caller() {
    let mut stage = Stage::new(r#","phrases":{"apology":""}"#);
    stage.says("When do you open?");
    stage.passes(60);
    for _ in 0..2 {
        stage.answers(Piece::Failed { why: "reset".to_owned(), for_good: false });
    }
    stage.take();
    stage.passes(10_100);
    assert_eq!(stage.speech(), "Are you still there?");
}
