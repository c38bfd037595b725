//! An agent at a realtime model whose behaviour a script defines, and its ends.

use std::sync::Mutex;

use jiff::Timestamp;
use tandem_call::conversation::{AgentMessage, ConversationRequest, Inputs, MessageRole};
use tandem_dialect::agent::{Request, Response, ScriptCall, ScriptRequest, ScriptResult, ScriptStep};

use super::tests::{MS, agent, answers, outputs, ready, sent};
use super::*;

/// A script with these settings and hooks, whose tool calls and answers have the given steps.
#[derive(Clone, Default)]
struct TestScript(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    settings: AgentSettings,
    hooks: Vec<ScriptRequest>,
    steps: VecDeque<ScriptStep>,
    prompt: String,
}

impl AgentScript for TestScript {
    fn settings(&self) -> AgentSettings {
        self.0.lock().unwrap().settings.clone()
    }

    fn begin(&mut self, _: Timestamp) -> Vec<ScriptRequest> {
        std::mem::take(&mut self.0.lock().unwrap().hooks)
    }

    fn turn(&mut self, _: Timestamp) -> TurnSettings {
        TurnSettings { prompt: self.0.lock().unwrap().prompt.clone(), ..TurnSettings::default() }
    }

    fn call(&mut self, _: &ScriptCall, _: Timestamp) -> ScriptStep {
        self.0.lock().unwrap().steps.pop_front().unwrap_or_else(|| ScriptStep::text("nothing"))
    }

    fn answered(&mut self, _: &str, _: Result<&Response, String>, _: Timestamp) -> ScriptStep {
        self.0.lock().unwrap().steps.pop_front().unwrap_or_else(|| ScriptStep::text("found"))
    }
}

impl TestScript {
    fn with(settings: AgentSettings) -> Self {
        Self(Arc::new(Mutex::new(State { settings, ..State::default() })))
    }

    fn step(&self, step: ScriptStep) {
        self.0.lock().unwrap().steps.push_back(step);
    }

    /// Returns a conversation whose session is ready.
    fn ready(&self) -> (Dialogue, Instant) {
        let started = tandem_host::clock::now();
        let script = Some(Box::new(self.clone()) as Box<dyn AgentScript>);
        let mut one = Dialogue::new(agent(json!({})), AgentSpec::default(), script, started);
        one.start(started.instant);
        one.begin(started.instant);
        one.event(started.instant, Duration::ZERO, Event::Updated);
        (one, started.instant)
    }
}

fn web_request(id: &str) -> ScriptRequest {
    let request = Request {
        method: http::Method::POST,
        url: "http://127.0.0.1/look".to_owned(),
        headers: Vec::new(),
        body: Default::default(),
        timeouts: tandem_http::Timeouts { connect: None, total: Duration::from_secs(1) },
        max_body: 1,
    };
    ScriptRequest { id: id.to_owned(), request }
}

fn calls(one: &mut Dialogue, now: Instant, ids: &[&str]) {
    one.event(now, Duration::ZERO, Event::Began);
    for id in ids {
        let call = ToolCall { id: (*id).to_owned(), name: "look".into(), arguments: "{}".into() };
        one.event(now, Duration::ZERO, Event::Call(call));
    }
    one.event(now, Duration::ZERO, Event::Ended(None));
}

/// Returns the messages that were sent.
fn messages(outputs: &[RealtimeOutput]) -> String {
    let sent = outputs.iter().filter_map(|output| match output {
        RealtimeOutput::Send(message) => Some(message.to_string()),
        _ => None,
    });
    sent.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_opening_of_a_script_is_that_of_the_realtime_agent() {
    let opened = |opening| {
        let (mut one, _) = TestScript::with(AgentSettings { opening, ..AgentSettings::default() }).ready();
        outputs(&mut one)
    };
    let said = opened(Opening::Say { text: "This call is recorded.".to_owned(), interruptible: true });
    assert!(messages(&said).contains("This call is recorded."));
    let by_model = opened(Opening::Model);
    assert_eq!(sent(&by_model), ["session.update", "response.create"]);
    assert!(!messages(&by_model).contains("Hello."), "the greeting of the configuration is not used");
    assert_eq!(sent(&opened(Opening::WaitForCaller)), ["session.update"]);
    assert!(messages(&opened(Opening::Configured)).contains("Hello."));
}

#[test]
fn requests_of_the_start_are_sent_and_change_the_session() {
    let script = TestScript::default();
    script.0.lock().unwrap().hooks = (0..9).map(|number| web_request(&format!("hook{number}"))).collect();
    let (mut one, now) = script.ready();
    let requests = |outputs: &[RealtimeOutput]| {
        outputs.iter().filter(|output| matches!(output, RealtimeOutput::SendRequest(_))).count()
    };
    assert_eq!(requests(&outputs(&mut one)), 8, "the number is limited");
    script.step(ScriptStep::Request(web_request("any")));
    one.handle_response(now, "hook1", Err("503".to_owned()));
    assert_eq!(requests(&outputs(&mut one)), 1);
    script.0.lock().unwrap().prompt = "There is a new tool.".to_owned();
    one.handle_response(now, "hook1", Err("503".to_owned()));
    assert!(messages(&outputs(&mut one)).contains("There is a new tool."));
    one.handle_response(now, "hook1", Err("late".to_owned()));
    assert!(outputs(&mut one).is_empty());
}

#[test]
fn the_inputs_and_the_silence_prompt_of_a_script_apply() {
    let settings = AgentSettings {
        opening: Opening::WaitForCaller,
        silence_prompt: Some("Ask for him.".to_owned()),
        interrupted_by: Some(Inputs::NONE),
        hints: vec!["Tandem".to_owned()],
        ..AgentSettings::default()
    };
    let (mut one, now) = TestScript::with(settings).ready();
    let begun = outputs(&mut one);
    assert!(messages(&begun).contains(r#""interrupt_response":false"#));
    assert!(matches!(&begun[0], RealtimeOutput::Note(text, _) if text.contains("expect certain words")), "{begun:?}");
    one.handle_timeout(now + MS * 10_000, Duration::ZERO);
    assert!(messages(&outputs(&mut one)).contains("Ask for him."));
    answers(&mut one, now, "i", "Are you there?", 1_000);
    outputs(&mut one);
    one.handle_digit(now, MS * 500, '1');
    assert!(!outputs(&mut one).contains(&RealtimeOutput::Clear));
}

#[test]
fn actions_after_the_reply_wait_for_the_reply() {
    let script = TestScript::default();
    let (mut one, now) = script.ready();
    let actions = vec![AgentAction::HangUp];
    script.step(ScriptStep::Result(ScriptResult { text: Ok("sent".to_owned()), actions, after_reply: true }));
    calls(&mut one, now, &["c1"]);
    assert!(!outputs(&mut one).iter().any(|output| matches!(output, RealtimeOutput::End(_))));
    answers(&mut one, now, "i", "Goodbye.", 100);
    one.handle_timeout(now + MS * 100, Duration::ZERO);
    assert!(outputs(&mut one).contains(&RealtimeOutput::End(ConversationEnd::Hangup)));
}

#[test]
fn inputs_after_the_end_change_nothing() {
    let script = TestScript::default();
    let ended = || {
        let (mut one, now) = script.ready();
        script.step(ScriptStep::Request(web_request("any")));
        let actions = vec![AgentAction::HangUp];
        script.step(ScriptStep::Result(ScriptResult { actions, ..ScriptResult::default() }));
        one.event(now, Duration::ZERO, Event::Began);
        one.event(now, Duration::ZERO, Event::Ended(None));
        calls(&mut one, now, &["c1", "c2"]);
        assert!(outputs(&mut one).contains(&RealtimeOutput::End(ConversationEnd::Hangup)));
        (one, now)
    };
    let failed = || {
        let (mut one, now) = script.ready();
        script.step(ScriptStep::Request(web_request("any")));
        calls(&mut one, now, &["c1"]);
        one.failed("gone");
        outputs(&mut one);
        (one, now)
    };
    for (mut one, now) in [ended(), failed()] {
        let actions = vec![AgentAction::Command(Box::new(Command::StopOverlay)), AgentAction::HangUp];
        script.step(ScriptStep::Result(ScriptResult { actions, ..ScriptResult::default() }));
        one.handle_response(now, "c1", Err("late".to_owned()));
        let messages = vec![AgentMessage { role: MessageRole::User, text: "Hello?".into() }];
        one.handle_request(now, ConversationRequest::AddMessages { messages, answer: true });
        one.handle_digit(now, Duration::ZERO, '#');
        one.handle_sound(now, MS * 500);
        one.handle_timeout(now + MS * 100_000, Duration::ZERO);
        assert_eq!(outputs(&mut one), []);
        assert_eq!(one.poll_timeout(), None);
    }
}

#[test]
fn the_result_of_a_tool_call_of_a_lost_session_is_a_message_in_the_new_session() {
    let script = TestScript::default();
    let (mut one, now) = script.ready();
    script.step(ScriptStep::Request(web_request("any")));
    calls(&mut one, now, &["c1"]);
    one.lost();
    one.begin(now);
    let error = Event::Error { code: "server_error".to_owned(), why: "busy".to_owned(), of: String::new() };
    one.event(now, Duration::ZERO, error);
    assert_eq!(one.format(), Format::Pcmu, "the caller hears the format of the first session");
    one.event(now, Duration::ZERO, Event::Updated);
    outputs(&mut one);
    one.handle_response(now, "c1", Err("late".to_owned()));
    let after = outputs(&mut one);
    assert_eq!(sent(&after), ["conversation.item.create", "response.create"]);
    assert!(messages(&after).contains("found") && !messages(&after).contains("function_call_output"));
}

#[test]
fn the_tool_calls_of_a_failed_response_do_not_run() {
    let script = TestScript::default();
    let (mut one, now) = script.ready();
    one.event(now, Duration::ZERO, Event::Began);
    one.event(now, Duration::ZERO, Event::Call(ToolCall { id: "c1".into(), ..ToolCall::default() }));
    one.event(now, Duration::ZERO, Event::Ended(Some("overloaded".to_owned())));
    outputs(&mut one);
    answers(&mut one, now, "i", "Yes.", 100);
    assert!(!messages(&outputs(&mut one)).contains("function_call_output"));
}

#[test]
fn the_report_has_the_words_that_the_caller_heard_and_the_reason_of_the_agent() {
    let (mut one, now) = ready(json!({}));
    answers(&mut one, now, "i", "one two three four.", 1_000);
    let ending = one.end(now, MS * 500, Some(EndReason::Caller));
    assert_eq!(ending.why, EndReason::Caller);
    assert!(ending.dialogue.last().unwrap().text.starts_with("one two"), "{:?}", ending.dialogue);

    let script = TestScript::default();
    let (mut one, now) = script.ready();
    script.step(ScriptStep::Result(ScriptResult { actions: vec![AgentAction::HangUp], ..ScriptResult::default() }));
    one.event(now, Duration::ZERO, Event::Began);
    one.event(now, Duration::ZERO, Event::Ended(None));
    calls(&mut one, now, &["c1"]);
    assert!(outputs(&mut one).contains(&RealtimeOutput::End(ConversationEnd::Hangup)));
    let ending = one.end(now, Duration::ZERO, Some(EndReason::Caller));
    assert_eq!(ending.why, EndReason::HungUp, "the call stops the conversation because the agent hung up");
}

#[test]
fn a_conversation_shorter_than_the_announcement_ends_in_time() {
    let (mut one, now) = ready(json!({ "max_seconds": 10, "silence_seconds": 600 }));
    answers(&mut one, now, "i", "Hello.", 100);
    one.handle_timeout(now + MS * 9_000, Duration::ZERO);
    outputs(&mut one);
    one.handle_timeout(now + MS * 10_000, Duration::ZERO);
    assert!(messages(&outputs(&mut one)).contains("Goodbye."));
}
