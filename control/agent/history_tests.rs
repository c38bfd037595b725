use super::*;

fn take_shown(history: &mut History, all: bool) -> Vec<String> {
    let shown = |line: Utterance| format!("{}{}", if line.by_agent { "> " } else { "" }, line.text);
    history.take_lines(all).into_iter().map(shown).collect()
}

#[test]
fn each_utterance_is_logged_once_after_the_caller_heard_it() {
    let before = Utterance { by_agent: true, text: "Earlier.".into() };
    let mut history = History::new(&[before]);
    history.caller("Hello.".to_owned());
    history.agent("Good day to you.".to_owned(), 0, Vec::new());
    assert_eq!(take_shown(&mut history, false), ["Hello."]);
    assert!(history.heard("Good day"));
    history.interrupted();
    assert_eq!(take_shown(&mut history, false), ["> Good day — (interrupted by the caller)"]);
    history.caller("Stop.".to_owned());
    history.agent("Bye.".to_owned(), 0, Vec::new());
    assert_eq!(take_shown(&mut history, true), ["Stop.", "> Bye."]);
    assert!(take_shown(&mut history, true).is_empty());
}

#[test]
fn an_unheard_answer_is_not_logged() {
    let mut history = History::default();
    history.agent("Never heard.".to_owned(), 0, Vec::new());
    history.caller("One.".to_owned());
    assert!(take_shown(&mut history, false).is_empty());
    history.interrupted();
    assert_eq!(take_shown(&mut history, false), ["One."]);
}

fn contents(history: &History) -> Vec<String> {
    let text =
        |message: &Value| format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap());
    history.messages("").iter().map(text).collect()
}

#[test]
fn the_history_has_only_the_text_that_the_caller_heard() {
    let mut history = History::default();
    history.caller("hours?".into());
    history.agent("We open at nine. We close at five.".into(), 0, vec![]);
    history.agent("Anything else?".into(), 0, vec![]);
    history.heard("We open at nine.");
    history.heard("One moment.");
    history.heard("We close");
    history.interrupted();
    assert_eq!(
        contents(&history),
        ["user: hours?", "assistant: We open at nine. We close — (interrupted by the caller)"]
    );
    history.caller("On Sunday?".into());
    history.agent("No.".into(), 0, vec![]);
    history.heard("No.");
    history.interrupted();
    assert_eq!(contents(&history).last().unwrap(), "assistant: No.");
}

#[test]
fn a_tool_call_stays_in_the_history_with_its_result_after_an_interruption() {
    let mut history = History::default();
    let call = ToolCall { id: "1".into(), name: "order".into(), arguments: "{broken".into() };
    history.agent("One moment.".into(), 0, vec![call]);
    history.result("1".into(), "{\"ok\":true}".into());
    history.interrupted();
    let messages = history.messages("You are.");
    assert_eq!(messages[0]["role"], "system");
    assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], "{}");
    assert_eq!(messages[2], json!({ "role": "tool", "tool_call_id": "1", "content": "{\"ok\":true}" }));
}

fn a_call(id: &str) -> ToolCall {
    ToolCall { id: id.into(), name: "order".into(), arguments: "{}".into() }
}

fn message(role: MessageRole, text: &str) -> AgentMessage {
    AgentMessage { role, text: text.into() }
}

#[test]
fn the_results_of_tools_follow_their_calls_directly_whatever_is_said_in_between() {
    let mut history = History::default();
    for turn in ["first", "second"] {
        history.agent(String::new(), 0, vec![a_call("call_1"), a_call("call_2")]);
        history.result("call_1".into(), format!("{turn} one"));
        history.agent("One moment.".into(), 0, vec![]);
        history.caller("Hurry.".into());
        history.add(message(MessageRole::User, "It rains."));
        history.result("call_2".into(), format!("{turn} two"));
    }
    let messages = history.messages("");
    let shown: Vec<_> = messages.iter().map(|one| one["content"].as_str().unwrap()).collect();
    let turn = |first, second| ["", first, second, "One moment.", "Hurry.", "It rains."];
    assert_eq!(shown, [turn("first one", "first two"), turn("second one", "second two")].concat());
    assert_eq!(messages[2]["tool_call_id"], "call_2");
    // A model refuses a call without a result.
    let mut open = History::default();
    open.agent(String::new(), 0, vec![a_call("call_1")]);
    assert_eq!(open.messages("").last().unwrap()["role"], "tool");
}

#[test]
fn messages_of_an_application_have_a_limit_and_do_not_drop_the_last_words_of_the_caller() {
    let mut history = History::default();
    history.caller("hours?".into());
    assert!(history.add(message(MessageRole::System, "short")));
    assert!(!history.add(message(MessageRole::User, &"ä".repeat(200_000))), "the rest is dropped");
    assert_eq!(contents(&history)[..2], ["user: hours?", "system: short"]);
    for _ in 0..10_000 {
        history.add(message(MessageRole::User, ""));
    }
    assert!(history.entries.len() <= LONGEST / ENTRY);
    for _ in 0..20 {
        assert!(history.add(message(MessageRole::User, &"x".repeat(LONGEST_ADDED))));
    }
    assert!(!history.entries.is_empty() && history.entries.iter().map(Entry::octets).sum::<usize>() <= LONGEST);
}

#[test]
fn a_replaced_tool_call_disappears_after_the_model_has_answered_its_result() {
    for (text, expected) in [(None, None), (Some("Saved."), Some("assistant: Saved."))] {
        let mut history = History::default();
        history.caller("Save it.".into());
        history.agent(String::new(), 0, vec![a_call("1")]);
        history.result("1".into(), "stored".into());
        history.replace_call("1", text.map(str::to_owned));
        assert_eq!(contents(&history).last().unwrap(), "tool: stored");
        history.results_answered();
        let shown = contents(&history);
        assert_eq!(shown[1..], expected.map(str::to_owned).into_iter().collect::<Vec<_>>());
        assert_eq!(history.dialogue().len(), 3, "the report has the call");
    }
}

#[test]
fn replaced_entries_stay_in_the_report_up_to_the_limit() {
    let mut history = History::default();
    history.caller("Hello.".into());
    history.agent("How can I help?".into(), 15, vec![]);
    let summary = AgentMessage { role: MessageRole::User, text: "He said hello.".into() };
    history.replace(vec![summary]);
    assert_eq!(contents(&history), ["user: He said hello."]);
    let texts = |history: &History| history.dialogue().into_iter().map(|line| line.text).collect::<Vec<_>>();
    assert_eq!(texts(&history), ["Hello.", "How can I help?", "He said hello."]);
    for _ in 0..3 {
        for _ in 0..50 {
            history.caller("x".repeat(1_000));
        }
        history.replace(Vec::new());
    }
    let octets: usize = texts(&history).iter().map(String::len).sum();
    assert!(octets <= LONGEST && octets > LONGEST / 2, "{octets}");
}

#[test]
fn text_that_was_withdrawn_does_not_count_as_heard() {
    let mut history = History::default();
    history.agent("We open at nine. We close at five.".into(), 0, vec![]);
    history.heard("We open at nine.");
    history.withdraw();
    history.agent("Goodbye.".into(), 0, vec![]);
    history.heard("Goodbye.");
    history.all_heard();
    assert_eq!(contents(&history), ["assistant: We open at nine.", "assistant: Goodbye."]);
    history.agent("All of this.".into(), 0, vec![]);
    history.all_heard();
    assert_eq!(contents(&history).last().unwrap(), "assistant: All of this.");
}

#[test]
fn words_of_the_caller_that_were_taken_back_are_logged_when_they_return() {
    let mut history = History::default();
    history.caller("I would like".into());
    assert_eq!(take_shown(&mut history, false), ["I would like"]);
    let earlier = history.take_back().unwrap();
    history.caller(format!("{earlier} to go."));
    assert_eq!(take_shown(&mut history, false), ["I would like to go."]);
}

#[test]
fn a_long_history_drops_its_oldest_turns_as_a_whole() {
    let mut history = History::default();
    for turn in 0..100 {
        history.caller(format!("{turn} {}", "x".repeat(1_000)));
        history.agent("y".repeat(1_000), 0, vec![]);
    }
    let messages = history.messages("");
    assert!(messages.len() < 60 && messages[0]["role"] == "user");
    history.heard(&"y".repeat(1_000));
    history.interrupted();
}
