use tandem_call::program::instruction::Instruction;

use jiff::Timestamp;
use tandem_call::engine::{Engine, EngineEffect, SPEECH_TO_TEXT_OFF};
use tandem_dialect::conversation::ConversationEnd;

use super::super::chat::{Piece, ToolCall};
use super::super::config::TransferDestination;
use super::super::tools::ConfiguredScript;
use super::*;

/// A responder on a virtual clock.
pub(super) struct Stage {
    pub(super) responder: Responder,
    pub(super) now: Instant,
    pub(super) outputs: Vec<ResponderOutput>,
    pub(super) thought: u64,
}

pub(super) fn config(more: &str) -> Arc<AgentConfig> {
    let text = format!(r#"{{"name":"a","prompt":"You are.","model":{{"url":"http://127.0.0.1/v1"}}{more}}}"#);
    Arc::new(serde_json::from_str(&text).unwrap())
}

impl Stage {
    pub(super) fn new(more: &str) -> Self {
        Self::with(config(more), AgentSpec::default())
    }

    pub(super) fn with(config: Arc<AgentConfig>, spec: AgentSpec) -> Self {
        let script = ConfiguredScript::new(&config, &spec);
        Self::with_script(config, spec, Box::new(script))
    }

    pub(super) fn with_script(config: Arc<AgentConfig>, spec: AgentSpec, script: Box<dyn AgentScript>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any Instant will do as the start of a virtual clock")]
        let now = Instant::now();
        let responder = Responder::new(config, spec, script, Now { instant: now, time: Timestamp::UNIX_EPOCH });
        let mut stage = Self { responder, now, outputs: Vec::new(), thought: 0 };
        stage.responder.begin(now);
        stage.obey();
        stage
    }

    pub(super) fn obey(&mut self) {
        while let Some(act) = self.responder.poll_output() {
            if let ResponderOutput::AskModel { id, .. } = &act {
                self.thought = *id;
            }
            self.outputs.push(act);
        }
    }

    pub(super) fn event(&mut self, event: ConversationEvent) {
        self.responder.handle_event(self.now, event);
        self.obey();
    }

    /// Advances the clock and handles every timeout that becomes due.
    pub(super) fn passes(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some(due) = self.responder.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.responder.handle_timeout(self.now);
            self.obey();
        }
        self.now = end;
    }

    pub(super) fn says(&mut self, text: &str) {
        self.event(ConversationEvent::CallerSpeaking(true));
        self.event(ConversationEvent::CallerSpeaking(false));
        self.event(prompt(text));
    }

    pub(super) fn answers(&mut self, piece: Piece) {
        self.responder.handle_piece(self.now, self.thought, piece);
        self.obey();
    }

    pub(super) fn web_answers(&mut self, id: &str, status: u16, body: &str) {
        self.responder.handle_response(self.now, id, Ok(&response(status, body)));
        self.obey();
    }

    pub(super) fn has(&self, wanted: &ConversationCommand) -> bool {
        self.outputs.iter().any(|output| matches!(output, ResponderOutput::Command(command) if command == wanted))
    }

    /// The caller hears the agent say these phrases, from the first to the last of the queue.
    pub(super) fn hears(&mut self, phrases: &[&str]) {
        self.event(ConversationEvent::AgentSpeaking(true));
        phrases.iter().for_each(|phrase| self.event(ConversationEvent::Played((*phrase).to_owned())));
        self.event(ConversationEvent::AgentSpeaking(false));
    }

    pub(super) fn take(&mut self) -> Vec<ResponderOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// Returns the messages of the last request to the model.
    pub(super) fn request(&self) -> Option<Vec<String>> {
        self.outputs.iter().rev().find_map(|act| match act {
            ResponderOutput::AskModel { question, .. } => Some(
                question
                    .messages
                    .iter()
                    .map(|one| {
                        format!("{}: {}", one["role"].as_str().unwrap(), one["content"].as_str().unwrap_or_default())
                    })
                    .collect(),
            ),
            _ => None,
        })
    }

    /// Returns the texts that the agent says. Filler phrases are in brackets.
    pub(super) fn speech(&self) -> String {
        let texts = self.outputs.iter().filter_map(|act| match act {
            ResponderOutput::Command(ConversationCommand::Say { token, .. }) => Some(token.clone()),
            ResponderOutput::Command(ConversationCommand::Phrase(text)) => Some(text.clone()),
            ResponderOutput::Command(ConversationCommand::Filler(text)) => Some(format!("[{text}]")),
            _ => None,
        });
        texts.collect()
    }

    pub(super) fn parting(&self) -> Option<&ConversationEnd> {
        self.outputs.iter().find_map(|act| match act {
            ResponderOutput::Command(ConversationCommand::EndAfter(parting)) => Some(parting),
            _ => None,
        })
    }

    pub(super) fn request_of_application(&mut self, request: tandem_call::conversation::ConversationRequest) {
        self.responder.handle_request(self.now, request);
        self.obey();
    }
}

pub(super) fn prompt(text: &str) -> ConversationEvent {
    ConversationEvent::Prompt { text: text.to_owned(), language: "en".to_owned(), last: true, end_of_turn: None }
}

fn response(status: u16, body: &str) -> tandem_http::Response {
    tandem_http::Response {
        status,
        headers: http::HeaderMap::new(),
        body: body.to_owned().into(),
        final_url: String::new(),
        redirects: Vec::new(),
        elapsed: Duration::ZERO,
    }
}

pub(super) fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

pub(super) fn call(name: &str, arguments: &str) -> Piece {
    Piece::End(vec![ToolCall { id: "c1".into(), name: name.into(), arguments: arguments.into() }])
}

#[test]
fn the_model_gets_a_request_at_the_pause_and_its_answer_plays_after_the_turn() {
    let mut stage = Stage::new(r#","first_message":"Hello.""#);
    assert_eq!(stage.speech(), "Hello.");
    stage.take();
    stage.says("What are your hours?");
    assert_eq!(stage.request().unwrap(), ["system: You are.", "assistant: Hello.", "user: What are your hours?"]);
    assert!(stage.outputs.contains(&ResponderOutput::Command(ConversationCommand::HoldBack(true))));
    stage.answers(text("Nine to five."));
    stage.answers(Piece::End(vec![]));
    assert!(!stage.outputs.contains(&ResponderOutput::Command(ConversationCommand::HoldBack(false))));
    stage.passes(50);
    assert!(
        stage.outputs.contains(&ResponderOutput::Command(ConversationCommand::HoldBack(false))),
        "a question is whole"
    );
    assert_eq!(stage.speech(), "Nine to five.");
    stage.take();
    stage.says("Thank you");
    assert_eq!(stage.request().unwrap()[3..], ["assistant: Nine to five.", "user: Thank you"]);
}

#[test]
fn a_caller_who_continues_gets_one_answer_to_the_whole_text() {
    let mut stage = Stage::new("");
    stage.says("I would like to");
    stage.passes(500);
    stage.take();
    stage.says("change my order.");
    assert!(
        stage.outputs.contains(&ResponderOutput::CancelAnswer)
            && stage.outputs.contains(&ResponderOutput::Command(ConversationCommand::Withdraw))
    );
    assert_eq!(stage.request().unwrap()[1..], ["user: I would like to change my order."]);
    stage.passes(60);
    stage.take();
    // The turn has ended, but the caller has not heard any of the response yet.
    stage.says("Number five.");
    assert_eq!(stage.request().unwrap()[1..], ["user: I would like to change my order. Number five."]);
}

#[test]
fn a_noise_without_words_keeps_the_prepared_answer() {
    let mut stage = Stage::new("");
    stage.says("What time is it?");
    stage.event(ConversationEvent::CallerSpeaking(true));
    stage.passes(300);
    stage.take();
    stage.event(ConversationEvent::CallerSpeaking(false));
    stage.event(prompt(""));
    stage.passes(100);
    assert_eq!(stage.take(), [ResponderOutput::Command(ConversationCommand::HoldBack(false))]);
}

#[test]
fn an_interruption_keeps_only_the_heard_text_in_the_history() {
    let mut stage = Stage::new("");
    stage.says("Tell me all.");
    stage.passes(50);
    stage.answers(text("It begins here. It goes on and on."));
    stage.event(ConversationEvent::AgentSpeaking(true));
    stage.event(ConversationEvent::Played("It begins here.".to_owned()));
    stage.event(ConversationEvent::Played("It goes".to_owned()));
    stage.event(ConversationEvent::Interrupted { heard: "It begins here. It goes".to_owned(), after: Duration::ZERO });
    stage.event(ConversationEvent::AgentSpeaking(false));
    stage.take();
    stage.says("Stop it.");
    let request = stage.request().unwrap();
    assert_eq!(request[2..], ["assistant: It begins here. It goes — (interrupted by the caller)", "user: Stop it."]);
}

#[test]
fn a_slow_model_causes_a_filler_and_a_second_request() {
    let mut stage = Stage::new("");
    stage.says("Are you there?");
    stage.take();
    stage.passes(749);
    assert_eq!(stage.speech(), "");
    stage.passes(1);
    assert_eq!(stage.speech(), "[One moment.]");
    let first = stage.thought;
    stage.passes(5_300);
    assert_eq!(stage.thought, first + 1, "asked again after six seconds");
    stage.passes(1_000);
    assert_eq!(stage.speech(), "[One moment.][I am still working on it.]");
    stage.answers(text("Yes."));
    stage.answers(Piece::End(vec![]));
    assert!(stage.speech().ends_with("Yes."));
}

#[test]
fn a_second_failure_of_the_model_causes_an_apology_and_the_fallback_call() {
    let failed = || Piece::Failed { why: "500".to_owned(), for_good: false };
    let mut stage = Stage::new(r#","fallback":"+15551230099""#);
    stage.says("Hello?");
    stage.passes(60);
    stage.answers(failed());
    assert_eq!(stage.speech(), "");
    stage.answers(failed());
    assert!(stage.speech().starts_with("I am sorry"), "{}", stage.speech());
    let Some(ConversationEnd::Run(program)) = stage.parting() else { panic!("{:?}", stage.outputs) };
    let [Instruction::Dial(_), Instruction::GiveUp(why)] = &program.instructions[..] else { panic!("{program:?}") };
    assert_eq!((why.engine, why.effect), (Engine::Model, EngineEffect::Fatal), "if the fallback does not answer");

    let mut stage = Stage::new("");
    for _ in 0..2 {
        assert_eq!(stage.parting(), None);
        stage.says("Hello?");
        stage.passes(60);
        stage.answers(failed());
        stage.answers(failed());
    }
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
    assert!(stage.speech().ends_with("Goodbye."));
}

#[test]
fn tools_run_after_the_turn_and_their_results_go_to_the_model() {
    let tools = r#","tools":["hang_up",{"name":"order","url":"http://127.0.0.1/o","parameters":{"number":{"type":"integer"}}}]"#;
    let mut stage = Stage::new(tools);
    stage.says("Where is my order?");
    stage.answers(call("order", r#"{"number":7}"#));
    assert!(!stage.outputs.iter().any(|act| matches!(act, ResponderOutput::Send(_))), "he may go on");
    stage.passes(60);
    assert!(stage.outputs.iter().any(|act| matches!(act, ResponderOutput::Send(_))));
    stage.take();
    stage.web_answers("c1", 500, "oops");
    let request = stage.request().unwrap();
    assert_eq!(request.last().unwrap(), r#"tool: {"error":"status 500: oops"}"#);
    stage.answers(call("hang_up", "{}"));
    assert_eq!(stage.speech(), "Goodbye.");
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
}

#[test]
fn the_number_of_consecutive_tool_rounds_is_limited() {
    let mut stage = Stage::new("");
    stage.says("Go!");
    stage.passes(60);
    for _ in 0..MAX_ROUNDS + 3 {
        stage.answers(call("nothing", "{}"));
    }
    let rounds = stage.outputs.iter().filter(|act| matches!(act, ResponderOutput::AskModel { .. })).count();
    assert!(rounds <= MAX_ROUNDS as usize + 3, "{rounds}");
}

#[test]
fn two_silence_prompts_precede_the_end_of_a_silent_call() {
    let mut stage = Stage::new(r#","first_message":"Hello.""#);
    let spoken = |stage: &mut Stage| {
        stage.event(ConversationEvent::AgentSpeaking(true));
        stage.event(ConversationEvent::AgentSpeaking(false));
    };
    spoken(&mut stage);
    for _ in 0..2 {
        stage.take();
        stage.passes(10_000);
        assert_eq!(stage.speech(), "Are you still there?");
        spoken(&mut stage);
    }
    stage.passes(10_000);
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
}

#[test]
fn digits_form_one_message() {
    let mut stage = Stage::new("");
    for key in "123#".chars() {
        stage.event(ConversationEvent::Digit(key));
    }
    assert_eq!(stage.request().unwrap()[1..], ["user: (pressed the keys 1 2 3)"]);
}

#[test]
fn speech_without_a_transcript_causes_a_request_to_repeat() {
    let mut stage = Stage::new("");
    stage.event(ConversationEvent::CallerSpeaking(true));
    stage.event(ConversationEvent::CallerSpeaking(false));
    stage.passes(3_000);
    assert_eq!(stage.speech(), "[One moment.]");
    stage.passes(9_000);
    assert!(
        stage.outputs.contains(&ResponderOutput::RestartRecognition)
            && stage.speech().contains("Could you say it again?")
    );
    for _ in 0..2 {
        stage.event(ConversationEvent::RecognitionFailed("gone".to_owned()));
    }
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
}

#[test]
fn a_call_ends_at_max_seconds_after_a_warning() {
    let mut stage = Stage::new(r#","max_seconds":60,"silence_seconds":600"#);
    stage.passes(30_000);
    assert_eq!(stage.speech(), "[We have half a minute left.]");
    stage.passes(30_000);
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
}

#[test]
fn an_unanswered_transfer_returns_the_caller_to_the_agent() {
    let tools = r#","tools":[{"name":"transfer","to":{"sales":"+15551230001"}}]"#;
    let mut stage = Stage::new(tools);
    stage.says("Sales please.");
    stage.passes(60);
    stage.answers(text("I connect you."));
    stage.answers(call("transfer", r#"{"to":"sales"}"#));
    let Some(ConversationEnd::RunThenReturn { program, agent }) = stage.parting() else {
        panic!("{:?}", stage.outputs)
    };
    assert!(matches!(program.instructions[..], [Instruction::Dial(_)]), "{program:?}");
    assert_eq!(agent.history.len(), 2);
    let mut again = Stage::with(config(tools), (**agent).clone());
    let request = again.request().unwrap();
    assert!(request.last().unwrap().contains("nobody answered"), "{request:?}");
    again.answers(text("Nobody is there."));
    assert_eq!(TransferDestination(tandem_call::address::Address::from("+15551230001")).0.to_string(), "+15551230001");
}

/// Returns the failures that the agent has reported, with their consequences.
pub(super) fn failures(stage: &Stage) -> Vec<(Engine, EngineEffect)> {
    let failures = stage.outputs.iter().filter_map(|act| match act {
        ResponderOutput::EngineFailed(failure) => Some((failure.engine, failure.effect)),
        _ => None,
    });
    failures.collect()
}

#[test]
fn a_failed_model_is_reported_to_the_call_and_the_apology_is_no_reply() {
    let mut stage = Stage::new("");
    let fails =
        |stage: &mut Stage| stage.answers(Piece::Failed { why: "connection refused".to_owned(), for_good: false });
    stage.says("Are you open?");
    stage.passes(60);
    fails(&mut stage);
    assert_eq!(failures(&stage), [(Engine::Model, EngineEffect::Recovered)], "the request is repeated");
    fails(&mut stage);
    assert_eq!(failures(&stage)[1..], [(Engine::Model, EngineEffect::Noticed)], "the caller hears the apology");
    let phrase = |act: &ResponderOutput| matches!(act, ResponderOutput::Command(ConversationCommand::Phrase(_)));
    assert!(stage.outputs.iter().any(phrase), "{:?}", stage.outputs);
    stage.says("Hello?");
    stage.passes(60);
    fails(&mut stage);
    fails(&mut stage);
    assert_eq!(failures(&stage).last(), Some(&(Engine::Model, EngineEffect::Fatal)), "the call ends because of it");
}

#[test]
fn a_failed_recogniser_causes_no_request_to_repeat_before_the_caller_spoke() {
    let fails = |stage: &mut Stage| stage.event(ConversationEvent::RecognitionFailed("gone".to_owned()));
    let asks_to_repeat = |stage: &Stage| stage.speech().contains("Could you say it again?");
    let mut stage = Stage::new("");
    for _ in 0..2 {
        fails(&mut stage);
    }
    assert!(
        !asks_to_repeat(&stage) && stage.outputs.contains(&ResponderOutput::RestartRecognition),
        "{}",
        stage.speech()
    );
    // Words have come, and then the caller waits.
    let mut stage = Stage::new("");
    stage.event(ConversationEvent::CallerSpeaking(true));
    stage.event(ConversationEvent::CallerSpeaking(false));
    stage.says("Where is my order?");
    stage.passes(60);
    stage.answers(text("On its way."));
    fails(&mut stage);
    fails(&mut stage);
    assert!(!asks_to_repeat(&stage), "{}", stage.speech());
    // The caller has spoken, and the words are lost.
    let mut stage = Stage::new("");
    stage.event(ConversationEvent::CallerSpeaking(true));
    stage.event(ConversationEvent::CallerSpeaking(false));
    fails(&mut stage);
    assert!(asks_to_repeat(&stage), "{}", stage.speech());
    // The caller speaks while the recogniser fails for the second time.
    let mut stage = Stage::new("");
    stage.event(ConversationEvent::CallerSpeaking(true));
    fails(&mut stage);
    assert!(!asks_to_repeat(&stage));
    fails(&mut stage);
    assert!(asks_to_repeat(&stage), "{}", stage.speech());
}

#[test]
fn a_disabled_recogniser_is_reported_once_and_ends_the_call() {
    let mut stage = Stage::new("");
    stage.event(ConversationEvent::RecognitionFailed(SPEECH_TO_TEXT_OFF.to_owned()));
    assert_eq!(failures(&stage), [(Engine::Recogniser, EngineEffect::Fatal)]);
    assert!(!stage.outputs.contains(&ResponderOutput::RestartRecognition));
    assert_eq!(stage.parting(), Some(&ConversationEnd::Hangup));
}

#[test]
fn a_failed_tool_is_reported_to_the_call() {
    let mut stage = Stage::new(r#","tools":[{"name":"order","url":"http://127.0.0.1/"}]"#);
    stage.says("Where is my order?");
    stage.passes(60);
    stage.answers(call("order", "{}"));
    stage.web_answers("c1", 500, "no");
    assert_eq!(failures(&stage), [(Engine::Tool, EngineEffect::Recovered)]);
}
