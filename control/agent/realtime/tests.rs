use tandem_call::conversation::{AgentMessage, ConversationRequest, MessageRole};
use tandem_call::engine::Engine;
use tandem_call::program::instruction::Instruction;

use super::*;

pub(super) fn agent(more: Value) -> Arc<AgentConfig> {
    let mut table = json!({
        "name": "a", "prompt": "Be kind.", "first_message": "Hello.", "tools": ["hang_up"],
        "model": { "url": "ws://127.0.0.1:1/v1/realtime", "timeout_seconds": 2 },
    });
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(table).unwrap())
}

/// Returns a conversation whose session is ready and whose greeting was requested.
pub(super) fn ready(more: Value) -> (Dialogue, Instant) {
    let started = tandem_host::clock::now();
    let now = started.instant;
    let mut one = Dialogue::new(agent(more), AgentSpec::default(), None, started);
    one.begin(now);
    one.event(now, Duration::ZERO, Event::Updated);
    (one, now)
}

pub(super) fn outputs(one: &mut Dialogue) -> Vec<RealtimeOutput> {
    std::iter::from_fn(|| one.poll_output()).collect()
}

/// Returns the types of the sent messages.
pub(super) fn sent(outputs: &[RealtimeOutput]) -> Vec<&str> {
    outputs
        .iter()
        .filter_map(|act| if let RealtimeOutput::Send(one) = act { one["type"].as_str() } else { None })
        .collect()
}

fn log_lines(outputs: &[RealtimeOutput]) -> Vec<&str> {
    outputs
        .iter()
        .filter_map(|act| if let RealtimeOutput::Utterance(line) = act { Some(&*line.text) } else { None })
        .collect()
}

pub(super) const MS: Duration = Duration::from_millis(1);

/// Simulates a response of the model with this duration of audio. The caller has not heard this audio yet.
pub(super) fn answers(one: &mut Dialogue, now: Instant, item: &str, words: &str, milliseconds: u32) {
    one.event(now, Duration::ZERO, Event::Began);
    let words = Event::Words { item: item.to_owned(), text: words.to_owned(), is_whole: true };
    one.event(now, Duration::ZERO, words);
    let octets = vec![0; milliseconds as usize * 8];
    one.event(now, Duration::ZERO, Event::Audio { item: item.to_owned(), octets });
    one.event(now, MS * milliseconds, Event::Ended(None));
}

#[test]
fn an_interruption_truncates_the_answer_at_the_played_position() {
    let (mut one, now) = ready(json!({}));
    answers(&mut one, now, "i", "one two three four.", 1_000);
    outputs(&mut one);
    one.event(now, MS * 500, Event::Speech(true));
    let outputs = outputs(&mut one);
    assert_eq!(outputs[0], RealtimeOutput::Send(wire::truncate("i", 500)));
    assert_eq!(log_lines(&outputs), ["one two t — (interrupted by the caller)"]);
    assert!(outputs.contains(&RealtimeOutput::Clear));
    // Audio of the interrupted item that arrives later is not played.
    one.event(now, Duration::ZERO, Event::Audio { item: "i".to_owned(), octets: vec![0; 160] });
    assert!(one.poll_output().is_none());
}

#[test]
fn a_completely_played_answer_is_logged_and_starts_the_silence_timer() {
    let (mut one, now) = ready(json!({ "silence_seconds": 3, "silence_prompts": 0 }));
    answers(&mut one, now, "i", "Hello.", 1_000);
    outputs(&mut one);
    assert_eq!(one.poll_timeout(), Some(now + MS * 1_000));
    let later = now + MS * 1_000;
    one.handle_timeout(later, Duration::ZERO);
    assert_eq!(log_lines(&outputs(&mut one)), ["Hello."]);
    assert_eq!(one.poll_timeout(), Some(later + MS * 3_000));
    one.handle_timeout(later + MS * 3_000, Duration::ZERO);
    assert_eq!(sent(&outputs(&mut one)), ["response.create"]);
    answers(&mut one, later + MS * 3_100, "j", "Goodbye.", 500);
    one.handle_timeout(later + MS * 3_600, Duration::ZERO);
    assert!(outputs(&mut one).contains(&RealtimeOutput::End(ConversationEnd::Hangup)));
}

#[test]
fn a_model_beyond_its_limits_ends_the_conversation() {
    let words =
        |item: &str, length: usize| Event::Words { item: item.to_owned(), text: "x".repeat(length), is_whole: false };
    let call =
        |arguments: usize| Event::Call(ToolCall { id: "c".into(), name: "f".into(), arguments: "x".repeat(arguments) });
    let error = || Event::Error { code: "c".into(), why: "w".into(), of: String::new() };
    let floods: [(&str, &dyn Fn(u32) -> Event); 8] = [
        ("words", &|_| words("i", 1_000)),
        ("large words", &|_| words("i", 1_000_000)),
        ("items", &|count| words(&count.to_string(), 10)),
        ("a long id", &|_| words(&"i".repeat(1_000), 10)),
        ("transcripts", &|_| Event::Heard("x".repeat(2_000))),
        ("tool calls", &|_| call(10)),
        ("a large tool call", &|_| call(1_000_000)),
        ("errors", &|_| error()),
    ];
    for (name, flood) in floods {
        let (mut one, now) = ready(json!({}));
        outputs(&mut one);
        one.event(now, Duration::ZERO, Event::Began);
        let mut made = Vec::new();
        for count in 0..10_000 {
            one.event(now, Duration::ZERO, flood(count));
            made.extend(outputs(&mut one));
        }
        let ends = made.iter().filter(|output| matches!(output, RealtimeOutput::End(_))).count();
        let failed = |output: &&RealtimeOutput| matches!(output, RealtimeOutput::EngineFailed(_));
        assert_eq!((ends, made.iter().filter(failed).count()), (1, 1), "{name}");
        let octets: usize = log_lines(&made).iter().map(|line| line.len()).sum();
        assert!(made.len() < 1_000 && octets <= LONGEST_DIALOGUE, "{name}: {} {octets}", made.len());
    }
}

#[test]
fn a_model_that_only_calls_tools_ends_the_conversation() {
    let (mut one, now) = ready(json!({}));
    outputs(&mut one);
    for round in 0..=MAX_ROUNDS {
        one.event(now, Duration::ZERO, Event::Began);
        let call = ToolCall { id: round.to_string(), name: "no_such_tool".into(), arguments: "{}".into() };
        one.event(now, Duration::ZERO, Event::Call(call));
        one.event(now, Duration::ZERO, Event::Ended(None));
    }
    assert!(outputs(&mut one).iter().any(|output| matches!(output, RealtimeOutput::End(_))));
}

#[test]
fn a_sound_that_is_no_speech_only_pauses_the_agent() {
    let (mut one, now) = ready(json!({}));
    answers(&mut one, now, "i", "Hello.", 5_000);
    outputs(&mut one);
    one.handle_sound(now, MS * 4_000);
    assert_eq!(outputs(&mut one), [RealtimeOutput::Pause(true)]);
    one.handle_timeout(now + SOUND_TIMEOUT, MS * 4_000);
    assert_eq!(outputs(&mut one), [RealtimeOutput::Pause(false)]);
    let (mut deaf, now) = ready(json!({ "interruptions": "none" }));
    answers(&mut deaf, now, "i", "Hello.", 5_000);
    outputs(&mut deaf);
    deaf.handle_sound(now, MS * 4_000);
    deaf.event(now, MS * 4_000, Event::Speech(true));
    assert!(outputs(&mut deaf).is_empty());
}

#[test]
fn an_answer_requested_during_another_answer_starts_after_that_answer() {
    let (mut one, now) = ready(json!({}));
    outputs(&mut one);
    let code = "conversation_already_has_active_response".to_owned();
    let busy = Event::Error { code, why: String::new(), of: wire::RESPOND.to_owned() };
    one.event(now, Duration::ZERO, busy);
    assert!(sent(&outputs(&mut one)).is_empty());
    one.event(now, Duration::ZERO, Event::Ended(None));
    assert_eq!(sent(&outputs(&mut one)), ["response.create"]);
}

#[test]
fn a_server_without_narrowband_audio_gets_wideband() {
    let now = tandem_host::clock::now().instant;
    let mut one = Dialogue::new(agent(json!({})), AgentSpec::default(), None, tandem_host::clock::now());
    one.begin(now);
    let (code, why) = ("invalid_value".to_owned(), "no such format".to_owned());
    one.event(now, Duration::ZERO, Event::Error { code, why, of: String::new() });
    assert_eq!(sent(&outputs(&mut one)), ["session.update", "session.update"]);
    assert_eq!(one.format(), Format::Pcm24);
    one.event(now, Duration::ZERO, Event::Updated);
    assert!(one.is_ready());
}

#[test]
fn a_request_without_an_answer_is_repeated_once_and_then_fails() {
    let (mut one, now) = ready(json!({ "fallback": "+15551230099" }));
    outputs(&mut one);
    one.handle_timeout(now + MS * 2_000, Duration::ZERO);
    assert_eq!(sent(&outputs(&mut one)), ["response.create"]);
    one.handle_timeout(now + MS * 4_000, Duration::ZERO);
    let outputs = outputs(&mut one);
    let Some(RealtimeOutput::End(ConversationEnd::Run(program))) = outputs.last() else { panic!("{outputs:?}") };
    let [.., Instruction::Dial(_), Instruction::GiveUp(why)] = &program.instructions[..] else { panic!("{program:?}") };
    assert_eq!((program.instructions.len(), why.engine), (4, Engine::Model), "two phrases come before");
    // Without a fallback, the caller hears a goodbye.
    let (mut one, now) = ready(json!({}));
    one.failed("gone");
    assert!(one.poll_timeout().is_none_or(|at| at > now));
    let last = self::outputs(&mut one).pop();
    let Some(RealtimeOutput::End(ConversationEnd::Run(program))) = last else { panic!("{last:?}") };
    let [Instruction::Play(_), Instruction::Play(_), Instruction::GiveUp(why)] = &program.instructions[..] else {
        panic!("{program:?}")
    };
    assert_eq!(why.to_string(), "the model failed: gone");
}

#[test]
fn a_session_after_a_lost_session_gets_the_history() {
    let (mut one, now) = ready(json!({}));
    answers(&mut one, now, "i", "Hello.", 100);
    one.event(now, Duration::ZERO, Event::Heard("Are you open?".to_owned()));
    outputs(&mut one);
    one.begin(now);
    one.event(now, Duration::ZERO, Event::Updated);
    // The last request answers the question of the caller.
    let types = ["session.update", "conversation.item.create", "conversation.item.create", "response.create"];
    assert_eq!(sent(&outputs(&mut one)), types);
}

#[test]
fn messages_of_an_application_go_to_the_model_and_a_hold_is_a_problem() {
    let (mut one, now) = ready(json!({}));
    outputs(&mut one);
    one.event(now, Duration::ZERO, Event::Began);
    one.event(now, Duration::ZERO, Event::Ended(None));
    outputs(&mut one);
    let messages = vec![AgentMessage { role: MessageRole::User, text: "Say hello.".into() }];
    one.handle_request(now, ConversationRequest::AddMessages { messages, answer: true });
    let outputs_of_messages = outputs(&mut one);
    assert_eq!(sent(&outputs_of_messages), ["conversation.item.create", "response.create"]);
    one.handle_request(now, ConversationRequest::Hold(None));
    let notes = outputs(&mut one);
    assert!(matches!(&notes[..], [RealtimeOutput::Note(text, _)] if text.contains("use a chat model")), "{notes:?}");
}

#[test]
fn a_tool_of_a_realtime_agent_asks_its_web_server_and_the_model_answers_the_result() {
    let tools = json!({ "tools": [{ "name": "order", "url": "http://127.0.0.1/order" }] });
    let (mut one, now) = ready(tools);
    outputs(&mut one);
    one.event(now, Duration::ZERO, Event::Began);
    let call = ToolCall { id: "c1".into(), name: "order".into(), arguments: "{}".into() };
    one.event(now, Duration::ZERO, Event::Call(call));
    one.event(now, Duration::ZERO, Event::Ended(None));
    assert!(outputs(&mut one).iter().any(|output| matches!(output, RealtimeOutput::SendRequest(_))));
    one.handle_response(now, "c1", Err("no route".to_owned()));
    let after = outputs(&mut one);
    assert_eq!(sent(&after), ["conversation.item.create", "response.create"]);
    let failed =
        |output: &RealtimeOutput| matches!(output, RealtimeOutput::EngineFailed(why) if why.engine == Engine::Tool);
    assert!(after.iter().any(failed), "{after:?}");
}
