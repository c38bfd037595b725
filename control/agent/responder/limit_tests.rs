//! The limits of a conversation: its longest time, holds, the inputs after its end, and the length of results.

use tandem_call::conversation::ConversationRequest;
use tandem_dialect::agent::{ScriptCall, ScriptResult, ScriptStep};
use tandem_dialect::conversation::ConversationEnd;

use super::super::chat::Piece;
use super::script_tests::{TestScript, looks, web_request};
use super::tests::{Stage, call, failures, prompt, text};
use super::*;

fn longest(seconds: u64) -> AgentTimes {
    AgentTimes { longest: Some(Duration::from_secs(seconds)), ..AgentTimes::default() }
}

#[test]
fn a_conversation_shorter_than_the_announcement_ends_in_time_without_it() {
    let mut stage = Stage::new(r#","max_seconds":10,"silence_seconds":600"#);
    stage.passes(9_999);
    assert_eq!((stage.speech().as_str(), stage.parting()), ("", None));
    stage.passes(1);
    assert_eq!((stage.speech().as_str(), stage.parting()), ("Goodbye.", Some(&ConversationEnd::Hangup)));
}

#[test]
fn a_longer_time_after_the_announcement_is_announced_again() {
    let script = TestScript::with(AgentSettings { times: longest(60), ..AgentSettings::default() });
    let mut stage = script.stage();
    script.acts([AgentAction::SetTimes(longest(600))]);
    stage.passes(29_000);
    stage.says("Look!");
    stage.passes(1_100);
    assert!(stage.speech().ends_with("[We have half a minute left.]"), "{}", stage.speech());
    stage.take();
    stage.answers(call("look", "{}"));
    stage.answers(text("Good."));
    stage.answers(Piece::End(vec![]));
    stage.event(ConversationEvent::AgentSpeaking(true));
    stage.passes(530_000);
    assert_eq!(stage.parting(), None);
    stage.passes(10_000);
    assert!(stage.speech().ends_with("[We have half a minute left.]"), "{}", stage.speech());
    stage.passes(30_000);
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
}

#[test]
fn a_script_that_keeps_the_call_ends_without_a_goodbye_when_its_time_is_over() {
    let silent = AgentTimes {
        silence: Some(Duration::from_secs(5)),
        silence_prompts: Some(0),
        longest: Some(Duration::from_secs(20)),
        ..AgentTimes::default()
    };
    for (times, after, why) in [(silent, 5, "silence"), (longest(8), 8, "longest time")] {
        let settings = AgentSettings { times, keeps_call: true, ..AgentSettings::default() };
        let mut stage = TestScript::with(settings).stage();
        stage.passes(after * 1_000 - 1);
        assert_eq!(stage.parting(), None, "{why}");
        stage.take();
        stage.passes(1);
        assert_eq!((stage.speech().as_str(), stage.parting()), ("", Some(&ConversationEnd::Handoff(None))), "{why}");
        let now = stage.now;
        assert_eq!(stage.responder.finish(now, None).why, EndReason::TimedOut, "{why}");
    }
}

#[test]
fn a_request_with_its_own_time_of_silence_asks_no_question_before_it_ends() {
    let spec = AgentSpec { silence: Some(Duration::from_secs(4)), ..AgentSpec::default() };
    let mut stage = TestScript::default().stage_with(spec);
    stage.passes(4_000);
    assert!(stage.parting().is_some() && !stage.speech().contains("still there"), "{}", stage.speech());
}

#[test]
fn text_that_waits_at_the_end_of_the_longest_time_is_not_spoken() {
    let mut stage = Stage::new(r#","max_seconds":10,"silence_seconds":600"#);
    stage.says("Tell me all.");
    stage.passes(60);
    stage.answers(text("It begins here. It goes on for hours."));
    stage.answers(Piece::End(vec![]));
    stage.event(ConversationEvent::AgentSpeaking(true));
    stage.take();
    stage.passes(10_000);
    let order: Vec<_> = stage
        .outputs
        .iter()
        .filter_map(|output| match output {
            ResponderOutput::Command(command @ (ConversationCommand::Withdraw | ConversationCommand::Phrase(_))) => {
                Some(command.clone())
            }
            _ => None,
        })
        .collect();
    assert_eq!(order, [ConversationCommand::Withdraw, ConversationCommand::Phrase("Goodbye.".to_owned())]);
}

#[test]
fn the_words_of_an_answer_in_which_an_application_ends_the_call_stay_in_the_dialogue() {
    let script = TestScript::default();
    script.0.lock().unwrap().requests = vec![AgentAction::HangUp];
    let mut stage = script.stage();
    stage.says("Tell me all.");
    stage.passes(60);
    stage.answers(text("It begins here. It"));
    stage.request_of_application(ConversationRequest::ToScript("{}".into()));
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
    stage.hears(&["It begins here.", "It"]);
    let now = stage.now;
    let ending = stage.responder.finish(now, None);
    assert_eq!(ending.dialogue.last().unwrap().text, "It begins here. It");
}

#[test]
fn empty_phrases_are_not_spoken() {
    let mut stage = Stage::new(r#","max_seconds":60,"silence_seconds":600,"phrases":{"ending":"","wait":""}"#);
    stage.event(ConversationEvent::CallerSpeaking(true));
    stage.event(ConversationEvent::CallerSpeaking(false));
    stage.passes(3_100);
    stage.event(prompt(""));
    stage.passes(27_000);
    assert!(!stage.has(&ConversationCommand::Filler(String::new())), "{:?}", stage.outputs);
}

#[test]
fn inputs_after_the_decision_to_end_change_nothing() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.step(ScriptStep::Request(web_request("any")));
    script.acts([AgentAction::HangUp]);
    stage.says("Look!");
    stage.passes(60);
    let look = |id: &str| ScriptCall { id: id.into(), name: "look".into(), arguments: "{}".into() };
    stage.answers(Piece::End(vec![look("c1"), look("c2")]));
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
    stage.event(ConversationEvent::AgentSpeaking(true));
    stage.event(ConversationEvent::Interrupted { heard: String::new(), after: Duration::ZERO });
    stage.event(ConversationEvent::AgentSpeaking(false));
    stage.take();
    for _ in 0..4 {
        stage.event(ConversationEvent::RecognitionFailed("gone".to_owned()));
    }
    stage.event(prompt(""));
    script.acts([AgentAction::Say("Wait!".to_owned()), AgentAction::SendDigits("1".to_owned())]);
    stage.web_answers("c1", 200, "late");
    stage.request_of_application(ConversationRequest::Unhold);
    assert_eq!((stage.speech().as_str(), failures(&stage)), ("", vec![]));
    assert!(!stage.outputs.iter().any(|output| matches!(output, ResponderOutput::Command(_))), "{:?}", stage.outputs);
    assert_eq!(stage.responder.poll_timeout(), None);
}

#[test]
fn a_hold_withdraws_a_complete_answer_that_still_plays() {
    let mut stage = TestScript::default().stage();
    stage.says("Talk!");
    stage.passes(60);
    stage.answers(text("It begins here. It goes on. It ends there."));
    stage.answers(Piece::End(vec![]));
    stage.event(ConversationEvent::AgentSpeaking(true));
    stage.event(ConversationEvent::Played("It begins here.".to_owned()));
    stage.request_of_application(ConversationRequest::Hold(None));
    assert!(stage.has(&ConversationCommand::Withdraw));
    // The phrase that played at the hold is spoken to its end.
    stage.event(ConversationEvent::Played("It goes on.".to_owned()));
    stage.event(ConversationEvent::AgentSpeaking(false));
    stage.request_of_application(ConversationRequest::Unhold);
    assert_eq!(stage.request().unwrap()[2], "assistant: It begins here. It goes on.");
}

#[test]
fn the_words_before_a_hold_do_not_separate_a_tool_call_from_its_result() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.step(ScriptStep::Request(web_request("any")));
    looks(&mut stage);
    stage.says("Hurry up.");
    stage.request_of_application(ConversationRequest::Hold(None));
    stage.web_answers("c1", 200, "");
    stage.request_of_application(ConversationRequest::Unhold);
    let request = stage.request().unwrap();
    assert_eq!(request[2..5], ["assistant: ", "tool: found", "user: Hurry up."], "{request:?}");
}

#[test]
fn the_result_of_a_script_has_a_limit() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.step(ScriptStep::text("x".repeat(200_000)));
    looks(&mut stage);
    let request = stage.request().unwrap();
    assert_eq!(request[1], "user: Look!", "the dialogue is not dropped");
    assert_eq!(request.last().unwrap().len(), "tool: ".len() + 8 * 1024);
}

#[test]
fn a_tool_call_that_its_script_replaces_is_in_the_next_request_only() {
    let script = TestScript::default();
    let mut stage = script.stage();
    let actions = vec![AgentAction::ReplaceCall(Some("I have saved it.".to_owned()))];
    script.step(ScriptStep::Result(ScriptResult { text: Ok("stored".to_owned()), actions, after_reply: true }));
    looks(&mut stage);
    assert_eq!(stage.request().unwrap().last().unwrap(), "tool: stored");
    stage.answers(text("Anything else?"));
    stage.answers(Piece::End(vec![]));
    stage.hears(&["Anything else?"]);
    stage.says("No.");
    let expected = ["user: Look!", "assistant: I have saved it.", "assistant: Anything else?", "user: No."];
    assert_eq!(stage.request().unwrap()[1..], expected);
}
