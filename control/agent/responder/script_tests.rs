//! Agents whose behaviour a script defines: each action of a script, and the requests of applications.

use std::sync::Mutex;

use tandem_call::conversation::{AgentMessage, ConversationRequest, MessageRole};
use tandem_call::program::instruction::Program;
use tandem_dialect::agent::{
    AfterRun, AgentLanguage, BackgroundAudio, ConversationSummary, EndQuestion, Fillers, LineKind, Request, Response,
    ScriptCall, ScriptRequest, ScriptResult, ScriptStep, TurnSettings,
};
use tandem_dialect::conversation::ConversationEnd;

use super::super::chat::Piece;
use super::tests::{Stage, call, config, prompt, text};
use super::*;

/// A script whose tool calls have the steps that the test has given.
#[derive(Clone, Default)]
pub(super) struct TestScript(pub(super) Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    settings: AgentSettings,
    /// The steps of the next tool calls and answers.
    steps: VecDeque<ScriptStep>,
    hooks: Vec<ScriptRequest>,
    turns: usize,
    pub(super) requests: Vec<AgentAction>,
    heard: Vec<String>,
    question: Option<EndQuestion>,
    wait_file: Option<String>,
}

impl TestScript {
    pub(super) fn stage(&self) -> Stage {
        self.stage_with(AgentSpec::default())
    }

    pub(super) fn stage_with(&self, spec: AgentSpec) -> Stage {
        Stage::with_script(config(""), spec, Box::new(self.clone()))
    }

    pub(super) fn with(settings: AgentSettings) -> Self {
        Self(Arc::new(Mutex::new(State { settings, ..State::default() })))
    }

    pub(super) fn step(&self, step: ScriptStep) {
        self.0.lock().unwrap().steps.push_back(step);
    }

    /// The next tool call has this text as its result, and these actions.
    pub(super) fn acts(&self, actions: impl Into<Vec<AgentAction>>) {
        let actions = actions.into();
        self.step(ScriptStep::Result(ScriptResult { text: Ok("done".to_owned()), actions, after_reply: false }));
    }
}

impl AgentScript for TestScript {
    fn settings(&self) -> AgentSettings {
        self.0.lock().unwrap().settings.clone()
    }

    fn begin(&mut self, _: Timestamp) -> Vec<ScriptRequest> {
        std::mem::take(&mut self.0.lock().unwrap().hooks)
    }

    fn turn(&mut self, _: Timestamp) -> TurnSettings {
        let mut state = self.0.lock().unwrap();
        state.turns += 1;
        let fillers = Fillers::of_each_language(["Looking.".to_owned(), "Still looking.".to_owned()]);
        let tool = ScriptTool {
            name: "look".to_owned(),
            description: String::new(),
            parameters: json!({}),
            fillers,
            wait_file: state.wait_file.clone(),
        };
        let model = json!({ "temperature": 0.5 }).as_object().cloned().unwrap_or_default();
        TurnSettings { prompt: format!("Turn {}.", state.turns), tools: vec![tool], model }
    }

    fn call(&mut self, call: &ScriptCall, _: Timestamp) -> ScriptStep {
        let mut state = self.0.lock().unwrap();
        state.heard.push(format!("{} {}", call.name, call.arguments));
        state.steps.pop_front().unwrap_or_else(|| ScriptStep::text("nothing"))
    }

    fn answered(&mut self, id: &str, answer: Result<&Response, String>, _: Timestamp) -> ScriptStep {
        let mut state = self.0.lock().unwrap();
        let shown = answer.map_or_else(|why| why, |answer| format!("{} {:?}", answer.status, answer.body));
        state.heard.push(format!("{id}: {shown}"));
        state.steps.pop_front().unwrap_or_else(|| ScriptStep::text("found"))
    }

    fn request(&mut self, text: &str, _: Timestamp) -> Vec<AgentAction> {
        let mut state = self.0.lock().unwrap();
        state.heard.push(text.to_owned());
        std::mem::take(&mut state.requests)
    }

    fn end_question(&mut self, _: EndReason, _: Timestamp) -> Option<EndQuestion> {
        self.0.lock().unwrap().question.clone()
    }

    fn end_report(&mut self, end: &ConversationSummary<'_>, _: Timestamp) -> Vec<ScriptRequest> {
        self.0.lock().unwrap().heard.push(format!("{:?}", end.why));
        Vec::new()
    }

    fn write(&self) -> Option<Arc<str>> {
        Some("the state".into())
    }
}

pub(super) fn web_request(id: &str) -> ScriptRequest {
    let request = Request {
        method: http::Method::POST,
        url: "http://127.0.0.1/look".to_owned(),
        headers: Vec::new(),
        body: Default::default(),
        timeouts: tandem_http::Timeouts { connect: None, total: Duration::from_secs(1_000) },
        max_body: usize::MAX,
    };
    ScriptRequest { id: id.to_owned(), request }
}

/// Lets the caller say something, and the model answer with a call of the tool `look`.
pub(super) fn looks(stage: &mut Stage) {
    stage.says("Look!");
    stage.passes(60);
    stage.answers(call("look", "{}"));
}

fn sent(stage: &Stage) -> Vec<OutgoingRequest> {
    let sent = |output: &ResponderOutput| match output {
        ResponderOutput::Send(request) => Some(request.clone()),
        _ => None,
    };
    stage.outputs.iter().filter_map(sent).collect()
}

#[test]
fn each_request_to_the_model_has_the_prompt_and_the_tools_of_that_moment() {
    let script = TestScript::default();
    let mut stage = script.stage();
    looks(&mut stage);
    let asked: Vec<_> = stage
        .outputs
        .iter()
        .filter_map(|output| match output {
            ResponderOutput::AskModel { question, .. } => Some(question),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 2, "the caller's words, and the result of the tool");
    assert_eq!(asked[0].messages[0]["content"], "Turn 1.");
    assert_eq!(asked[1].messages[0]["content"], "Turn 2.");
    assert_eq!(asked[1].tools[0]["function"]["name"], "look");
    assert_eq!(asked[1].fields["temperature"], 0.5);
}

#[test]
fn a_tool_may_ask_several_web_servers_and_the_fillers_of_the_tool_take_turns() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.step(ScriptStep::Request(web_request("any")));
    looks(&mut stage);
    assert_eq!(stage.speech(), "[Looking.]");
    let limits = &sent(&stage)[0].0.request;
    assert_eq!((limits.timeouts.total, limits.max_body), (Duration::from_secs(120), 256 * 1024));
    script.step(ScriptStep::Request(web_request("any")));
    stage.web_answers("c1", 503, "");
    assert_eq!(sent(&stage).len(), 2);
    stage.take();
    stage.web_answers("c1", 200, "blue");
    assert_eq!(stage.request().unwrap().last().unwrap(), "tool: found");
    assert_eq!(script.0.lock().unwrap().heard, ["look {}", "c1: 503 b\"\"", "c1: 200 b\"blue\""]);
    script.step(ScriptStep::Request(web_request("any")));
    stage.answers(call("look", "{}"));
    assert_eq!(stage.speech(), "[Still looking.]");
}

#[test]
fn a_tool_that_asks_web_servers_without_end_fails() {
    let script = TestScript::default();
    let mut stage = script.stage();
    (0..20).for_each(|_| script.step(ScriptStep::Request(web_request("any"))));
    looks(&mut stage);
    (0..20).for_each(|_| stage.web_answers("c1", 200, ""));
    assert_eq!(sent(&stage).len(), 8);
    assert!(stage.request().unwrap().last().unwrap().contains("more than 8 requests"));
}

#[test]
fn say_and_hang_up_end_the_call_after_the_words() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([AgentAction::Say("Bye.".to_owned()), AgentAction::HangUp, AgentAction::Say("Never.".to_owned())]);
    looks(&mut stage);
    assert_eq!(stage.speech(), "Bye.");
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
}

#[test]
fn stop_continues_the_document_with_a_text() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([AgentAction::Stop(Some("sold".to_owned()))]);
    looks(&mut stage);
    assert_eq!(stage.parting(), Some(&ConversationEnd::Handoff(Some("sold".to_owned()))));
}

#[test]
fn an_agent_leaves_for_a_program_or_comes_back_with_its_dialogue_and_its_state() {
    let program = || Box::new(Program { instructions: vec![], warnings: vec![] });
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([AgentAction::Run { program: program(), then: AfterRun::Leave }]);
    looks(&mut stage);
    assert_eq!(stage.parting(), Some(&ConversationEnd::Run(program())));

    let mut stage = script.stage();
    script.acts([AgentAction::Run { program: program(), then: AfterRun::Return { event: None } }]);
    looks(&mut stage);
    let Some(ConversationEnd::RunThenReturn { agent, .. }) = stage.parting() else { panic!("{:?}", stage.outputs) };
    assert_eq!(agent.script.as_deref(), Some("the state"));
    assert_eq!(&*agent.history[0].text, "Look!");
    let again = script.stage_with((**agent).clone());
    assert_eq!((again.speech(), again.request()), (String::new(), None), "it waits for the caller");
}

#[test]
fn a_held_agent_neither_listens_nor_speaks_until_the_time_is_over() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([AgentAction::Say("Please hold.".to_owned()), AgentAction::Hold(Some(Duration::from_secs(30)))]);
    looks(&mut stage);
    assert_eq!(stage.speech(), "Please hold.");
    assert!(stage.has(&ConversationCommand::Listen(false)));
    stage.take();
    stage.says("Hello? Hello?");
    stage.event(ConversationEvent::Digit('1'));
    stage.passes(29_000);
    assert_eq!((stage.speech(), stage.request()), (String::new(), None));
    stage.passes(2_000);
    assert!(stage.has(&ConversationCommand::Listen(true)));
    let request = stage.request().unwrap();
    assert!(request.last().unwrap().contains("hold is over"), "{request:?}");
    assert!(!request.iter().any(|line| line.contains("Hello?")), "{request:?}");
}

#[test]
fn an_application_holds_the_agent_in_its_words_and_an_endless_hold_has_a_limit() {
    let mut stage = TestScript::default().stage();
    stage.says("Talk!");
    stage.passes(60);
    stage.answers(text("A long story."));
    stage.request_of_application(ConversationRequest::Hold(None));
    assert!(stage.has(&ConversationCommand::Withdraw));
    stage.take();
    stage.answers(text("More."));
    stage.passes(899_000);
    assert_eq!(stage.speech(), "");
    stage.passes(2_000);
    assert!(stage.has(&ConversationCommand::Listen(true)));
    stage.request_of_application(ConversationRequest::Hold(None));
    stage.take();
    stage.request_of_application(ConversationRequest::Unhold);
    assert!(stage.request().is_some());
}

#[test]
fn messages_of_an_application_reach_the_model_and_are_answered_on_request() {
    let message = |role, text: &str| AgentMessage { role, text: text.into() };
    let add = |messages, answer| ConversationRequest::AddMessages { messages, answer };
    let mut stage = TestScript::default().stage();
    stage.request_of_application(add(vec![message(MessageRole::System, "It rains.")], false));
    assert_eq!(stage.request(), None);
    stage.request_of_application(add(vec![message(MessageRole::User, "Say hello.")], true));
    assert_eq!(stage.request().unwrap()[1..], ["system: It rains.", "user: Say hello."]);
    // During an answer, the messages are answered after it.
    stage.take();
    stage.request_of_application(add(vec![message(MessageRole::User, "And goodbye.")], true));
    assert_eq!(stage.request(), None);
    stage.answers(text("Hello."));
    stage.answers(Piece::End(vec![]));
    assert_eq!(stage.request().unwrap().last().unwrap(), "assistant: Hello.");
    assert!(stage.request().unwrap().contains(&"user: And goodbye.".to_owned()));
}

#[test]
fn a_message_during_a_tool_call_follows_the_result_of_the_tool() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.step(ScriptStep::Request(web_request("any")));
    looks(&mut stage);
    let messages = vec![AgentMessage { role: MessageRole::User, text: "Hurry.".into() }];
    stage.request_of_application(ConversationRequest::AddMessages { messages, answer: true });
    stage.web_answers("c1", 200, "");
    let request = stage.request().unwrap();
    assert_eq!(request[request.len() - 2..], ["tool: found", "user: Hurry."]);
}

#[test]
fn a_request_in_the_form_of_the_provider_goes_to_the_script() {
    let script = TestScript::default();
    script.0.lock().unwrap().requests = vec![AgentAction::UserInput("I am back.".to_owned())];
    let mut stage = script.stage();
    stage.request_of_application(ConversationRequest::ToScript("{}".into()));
    assert_eq!(script.0.lock().unwrap().heard, ["{}"]);
    assert_eq!(stage.request().unwrap().last().unwrap(), "user: I am back.");
}

#[test]
fn texts_for_the_model_follow_the_result_and_a_new_history_replaces_all() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([AgentAction::System("Be brief.".to_owned()), AgentAction::UserInput("Go on.".to_owned())]);
    looks(&mut stage);
    let request = stage.request().unwrap();
    assert_eq!(request[request.len() - 3..], ["tool: done", "system: Be brief.", "user: Go on."]);
    let history = vec![AgentMessage { role: MessageRole::User, text: "A summary.".into() }];
    script.acts([AgentAction::ReplaceHistory(history)]);
    stage.answers(call("look", "{}"));
    assert_eq!(stage.request().unwrap()[1..], ["user: A summary."]);
}

#[test]
fn the_agent_waits_for_the_caller_if_the_script_wants_this() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([AgentAction::WaitForCaller(true)]);
    stage.says("Look!");
    stage.passes(60);
    stage.take();
    stage.answers(call("look", "{}"));
    assert_eq!(stage.request(), None);
    stage.passes(11_000);
    assert_eq!(stage.speech(), "Are you still there?");
}

#[test]
fn actions_after_the_reply_run_when_the_model_has_answered_the_result() {
    let script = TestScript::default();
    let mut stage = script.stage();
    let result = ScriptResult { text: Ok("sent".to_owned()), actions: vec![AgentAction::HangUp], after_reply: true };
    script.step(ScriptStep::Result(result));
    looks(&mut stage);
    assert_eq!(stage.parting(), None);
    stage.answers(text("It is on its way. Goodbye."));
    stage.answers(Piece::End(vec![]));
    assert_eq!(
        (stage.speech().as_str(), stage.parting()),
        ("It is on its way. Goodbye.", Some(&ConversationEnd::Hangup))
    );
}

#[test]
fn times_of_the_script_replace_those_of_the_configuration_and_may_change() {
    let times = AgentTimes {
        silence: Some(Duration::from_secs(3)),
        end_of_speech: Some(Duration::from_secs(2)),
        longest: Some(Duration::from_secs(100)),
        silence_prompts: None,
    };
    let script = TestScript::with(AgentSettings { times, ..AgentSettings::default() });
    let mut stage = script.stage();
    stage.passes(3_100);
    assert_eq!(stage.speech(), "Are you still there?");
    stage.says("Yes.");
    stage.answers(text("Good."));
    stage.answers(Piece::End(vec![]));
    stage.passes(1_900);
    assert!(!stage.has(&ConversationCommand::HoldBack(false)), "the turn has not ended");
    stage.passes(200);
    assert!(stage.has(&ConversationCommand::HoldBack(false)));
    stage.event(ConversationEvent::AgentSpeaking(true));
    script
        .acts([AgentAction::SetTimes(AgentTimes { silence: Some(Duration::from_secs(60)), ..AgentTimes::default() })]);
    looks(&mut stage);
    stage.passes(2_500);
    stage.answers(text("Fine."));
    stage.answers(Piece::End(vec![]));
    stage.event(ConversationEvent::AgentSpeaking(false));
    stage.take();
    stage.passes(20_000);
    assert_eq!(stage.speech(), "");
    stage.passes(60_000);
    assert!(stage.speech().contains("half a minute"), "the longest time is 100 s: {}", stage.speech());
}

#[test]
fn a_silent_caller_is_a_matter_of_the_model_if_the_script_has_a_prompt_for_it() {
    let settings = AgentSettings { silence_prompt: Some("Ask for him.".to_owned()), ..AgentSettings::default() };
    let mut stage = TestScript::with(settings).stage();
    stage.passes(10_100);
    assert_eq!(stage.request().unwrap().last().unwrap(), "system: Ask for him.");
}

#[test]
fn the_opening_is_a_text_that_may_be_protected_or_the_model_or_the_caller() {
    let opened = |opening| TestScript::with(AgentSettings { opening, ..AgentSettings::default() }).stage();
    let stage = opened(Opening::Say { text: "This call is recorded.".to_owned(), interruptible: false });
    assert_eq!(stage.speech(), "This call is recorded.");
    let protected = |output: &ResponderOutput| match output {
        ResponderOutput::Command(ConversationCommand::Say { interrupt_policy, .. }) => {
            interrupt_policy.by == Some(Inputs::NONE)
        }
        _ => false,
    };
    assert!(stage.outputs.iter().any(protected));
    assert!(opened(Opening::Model).request().is_some());
    let stage = opened(Opening::WaitForCaller);
    assert_eq!((stage.speech(), stage.request()), (String::new(), None));
}

#[test]
fn the_model_selects_the_language_of_its_words() {
    let language = |code: &str, filler: &str| AgentLanguage {
        code: code.to_owned(),
        fillers: vec![filler.to_owned()],
        ..AgentLanguage::default()
    };
    let languages = vec![language("en-US", "Hm."), language("es", "Eh.")];
    let mut stage = TestScript::with(AgentSettings { languages, ..AgentSettings::default() }).stage();
    stage.says("Hola.");
    assert!(stage.request().unwrap()[0].contains("[es]"));
    stage.passes(60);
    stage.answers(text("[es] Buenos "));
    stage.answers(text("días. [en-US]Hello."));
    stage.answers(Piece::End(vec![]));
    let said: Vec<_> = stage
        .outputs
        .iter()
        .filter_map(|output| match output {
            ResponderOutput::Command(ConversationCommand::Say { token, language, .. }) if !token.is_empty() => {
                Some((language.clone().unwrap_or_default(), token.clone()))
            }
            _ => None,
        })
        .collect();
    let expected = [("es", "Buenos "), ("es", "días. "), ("en-US", "Hello.")];
    assert_eq!(said, expected.map(|(language, text)| (language.to_owned(), text.to_owned())));
    stage.says("Gracias.");
    assert_eq!(stage.request().unwrap()[2], "assistant: Buenos días. Hello.", "the dialogue has no codes");
    stage.take();
    stage.passes(1_500);
    assert_eq!(stage.speech(), "[Hm.]", "the filler has the language of the last words");
}

#[test]
fn background_audio_that_holds_the_agent_plays_and_mixed_audio_is_a_problem() {
    let audio = |waits| BackgroundAudio { url: "http://127.0.0.1/a.wav".to_owned(), times: None, waits };
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([AgentAction::PlayBackground(audio(true)), AgentAction::PlayBackground(audio(false))]);
    looks(&mut stage);
    let plays =
        |output: &&ResponderOutput| matches!(output, ResponderOutput::Command(ConversationCommand::Play { .. }));
    assert_eq!(stage.outputs.iter().filter(plays).count(), 1);
    let problem = |output: &ResponderOutput| matches!(output, ResponderOutput::Note(text, _) if text.contains("mix"));
    assert!(stage.outputs.iter().any(problem));
}

#[test]
fn requests_at_the_start_are_sent_once_and_their_actions_run() {
    let script = TestScript::default();
    script.0.lock().unwrap().hooks = (0..9).map(|number| web_request(&format!("hook{number}"))).collect();
    let mut stage = script.stage();
    assert_eq!(sent(&stage).len(), 8, "the number is limited");
    script.acts([AgentAction::Say("Welcome back.".to_owned())]);
    stage.web_answers("hook1", 200, "");
    stage.web_answers("hook1", 200, "");
    assert_eq!(stage.speech(), "Welcome back.");
}

#[test]
fn words_of_an_application_do_not_come_into_the_middle_of_an_answer() {
    let script = TestScript::default();
    script.0.lock().unwrap().requests = vec![AgentAction::Say("The line is free.".to_owned())];
    let mut stage = script.stage();
    stage.says("Talk!");
    stage.passes(60);
    stage.answers(text("Good mor"));
    stage.request_of_application(ConversationRequest::ToScript("{}".into()));
    stage.answers(text("ning."));
    stage.answers(Piece::End(vec![]));
    assert_eq!(stage.speech(), "Good morning.The line is free.");
}

#[test]
fn the_file_of_a_tool_ends_when_its_result_ends_the_call() {
    let script = TestScript::default();
    script.0.lock().unwrap().wait_file = Some("http://127.0.0.1/music.wav".to_owned());
    let mut stage = script.stage();
    script.step(ScriptStep::Request(web_request("any")));
    looks(&mut stage);
    stage.take();
    script.acts([AgentAction::HangUp]);
    stage.web_answers("c1", 200, "");
    let commands: Vec<_> = stage
        .outputs
        .iter()
        .filter_map(|output| match output {
            ResponderOutput::Command(command) => Some(command.clone()),
            _ => None,
        })
        .collect();
    let end = ConversationCommand::EndAfter(ConversationEnd::Hangup);
    let expected = [ConversationCommand::Phrase(String::new()), ConversationCommand::HoldBack(false), end];
    assert_eq!(commands, expected, "a new phrase replaces the file");
}

#[test]
fn small_actions_reach_the_call() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([
        AgentAction::SendDigits("12".to_owned()),
        AgentAction::Record(true),
        AgentAction::ReportPartialResult("{}".to_owned()),
        AgentAction::SetHints(vec!["Tandem".to_owned()]),
        AgentAction::Command(Box::new(Command::StopOverlay)),
    ]);
    looks(&mut stage);
    assert!(stage.has(&ConversationCommand::SendDigits("12".to_owned())));
    assert!(stage.has(&ConversationCommand::Hints(vec!["Tandem".to_owned()])));
    assert!(stage.outputs.contains(&ResponderOutput::Record(true)));
    assert!(stage.outputs.contains(&ResponderOutput::LegCommand(Box::new(Command::StopOverlay))));
    assert!(stage.outputs.contains(&ResponderOutput::PartialResult("{}".to_owned())));
}

#[test]
fn the_report_of_a_conversation_has_its_dialogue_and_the_question_for_the_model() {
    let script = TestScript::default();
    let question = EndQuestion { prompt: "Summarise.".to_owned(), model: serde_json::Map::new() };
    script.0.lock().unwrap().question = Some(question);
    let mut stage = script.stage();
    stage.passes(5_000);
    stage.says("What time is it?");
    stage.passes(60);
    stage.passes(500);
    stage.answers(text("It is noon."));
    stage.answers(Piece::End(vec![]));
    stage.event(ConversationEvent::Played("It is".to_owned()));
    stage.event(prompt("By"));
    let now = stage.now;
    let ending = stage.responder.finish(now, Some(EndReason::Caller));
    assert_eq!(ending.why, EndReason::Caller);
    let messages = ending.question.unwrap().messages;
    assert_eq!(messages.last().unwrap()["content"], "Summarise.");
    let [heard, said, last] = &ending.dialogue[..] else { panic!("{:?}", ending.dialogue) };
    assert_eq!((&heard.kind, heard.text.as_str()), (&LineKind::Caller, "What time is it?"));
    assert!(heard.at.as_second() >= 5, "{heard:?}");
    let LineKind::Agent { latency: Some(latency), .. } = &said.kind else { panic!("{said:?}") };
    assert_eq!(*latency, Duration::from_millis(560));
    assert!(said.text.starts_with("It is —"), "only what the caller heard: {said:?}");
    assert_eq!(last.text, "By");
}

#[test]
fn the_reason_of_the_end_is_the_agents_own_if_it_has_one() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts([AgentAction::HangUp]);
    looks(&mut stage);
    let now = stage.now;
    assert_eq!(stage.responder.finish(now, None).why, EndReason::HungUp);
}

#[test]
fn a_script_cannot_fill_the_log_with_warnings() {
    let script = TestScript::default();
    let mut stage = script.stage();
    script.acts((0..200).map(|_| AgentAction::Warn("ignored".to_owned())).collect::<Vec<_>>());
    looks(&mut stage);
    let warns = |output: &&ResponderOutput| matches!(output, ResponderOutput::Warn(_));
    assert_eq!(stage.outputs.iter().filter(warns).count(), 50);
}
