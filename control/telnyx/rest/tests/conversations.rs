//! Conversations with assistants and with applications: from JSON to the conversation.

use tandem_agent::Agents;
use tandem_call::conversation::{
    AgentMessage, AgentSpec, ConversationRequest, ConversationSpec, ConversationTarget, Inputs, MessageRole,
};
use tandem_call::program::instruction::Instruction;
use tandem_routing::inventory::Inventory;

use super::*;

fn spec(command: Command) -> ConversationSpec {
    let Command::Enqueue(instruction) = command else { panic!("{command:?}") };
    let Instruction::Converse(converse) = *instruction else { panic!("{instruction:?}") };
    *converse.spec
}

fn assistant(spec: ConversationSpec) -> AgentSpec {
    let ConversationTarget::Agent(agent) = spec.with else { panic!("{spec:?}") };
    *agent
}

#[test]
fn conversation_relay_start_has_the_published_defaults() {
    let spec = spec(command("conversation_relay_start", json!({ "url": "wss://app.example/relay" })));
    assert_eq!(spec.with, ConversationTarget::Application("wss://app.example/relay".into()));
    assert_eq!((spec.speech_language.as_str(), spec.recognition_language.as_str()), ("en", "en"));
    assert_eq!((spec.interrupted_by, spec.greeting_interrupted_by), (Inputs::ANY, Inputs::ANY));
    // Telnyx reports words before they are final.
    assert_eq!((spec.digits, spec.partials, spec.greeting, spec.no_profanity), (false, true, None, false));
}

#[test]
fn top_level_parameters_of_a_conversation_relay_take_precedence_over_nested_ones() {
    let body = json!({
        "conversation_relay_url": "wss://second/",
        "conversation_relay_settings": {
            "url": "wss://third/", "dtmf_detection": true, "interruptible": "speech", "interruptible_greeting": "dtmf",
            "languages": [{
                "language": "en-US", "voice": "joe", "transcription_engine": "Deepgram",
                "transcription_engine_config": { "transcription_model": "deepgram/nova-3", "keywords_boosting": { "telnyx": 2.0 } },
            }],
        },
        "assistant": { "dynamic_variables": { "tier": "gold", "customer_id": "1" } },
        "custom_parameters": { "customer_id": 12345 },
        "greeting": "Hi!", "language": "de-DE",
    });
    let nested = spec(command("conversation_relay_start", body.clone()));
    assert_eq!(nested.with, ConversationTarget::Application("wss://second/".into()));
    assert!(nested.digits);
    assert_eq!(nested.interrupted_by, Inputs { digits: false, speech: true });
    assert_eq!(nested.greeting_interrupted_by, Inputs { digits: true, speech: false });
    let [(language, settings)] = &nested.languages[..] else { panic!() };
    assert_eq!(
        (language.as_str(), settings.voice.as_deref(), settings.model.as_deref()),
        ("en-US", Some("joe"), Some("nova-3"))
    );
    assert_eq!(settings.hints, ["telnyx"]);
    let parameters = [("tier".to_owned(), "gold".to_owned()), ("customer_id".to_owned(), "12345".to_owned())];
    assert_eq!(nested.parameters, parameters);
    assert_eq!((nested.greeting.as_deref(), nested.speech_language.as_str()), (Some("Hi!"), "de-DE"));

    let mut top = body;
    let more = json!({ "url": "wss://first/", "dtmf_detection": false, "interruptible": "none", "languages": [] });
    top.as_object_mut().unwrap().extend(members(more));
    let top = spec(command("conversation_relay_start", top));
    assert_eq!(top.with, ConversationTarget::Application("wss://first/".into()));
    assert_eq!((top.digits, top.interrupted_by, top.languages.len()), (false, Inputs::NONE, 0));
}

#[test]
fn invalid_conversation_relays_are_refused() {
    let url = |more: Value| {
        let mut body = members(json!({ "url": "wss://app/" }));
        body.extend(members(more));
        planned("conversation_relay_start", Value::Object(body)).map_err(|error| error.code).err()
    };
    assert_eq!(planned("conversation_relay_start", json!({})).unwrap_err().code, 10004);
    assert_eq!(url(json!({ "url": "https://app/" })), Some(10003));
    assert_eq!(url(json!({ "interruptible": "maybe" })), Some(10032));
    assert_eq!(url(json!({ "provider": "elevenlabs", "structured_provider": { "voice_id": "x" } })), None);
    assert_eq!(url(json!({ "transcription": { "language": "en" } })), Some(10038));
    assert_eq!(url(json!({ "languages": [{ "voice": "x" }] })), Some(10004));
    assert_eq!(url(json!({ "interruption_settings": { "enable": false } })), None);
}

#[test]
fn an_answer_starts_the_conversation_that_it_names() {
    let mut plan =
        planned("answer", json!({ "conversation_relay_config": { "url": "wss://app/", "greeting": "Hi" } })).unwrap();
    assert_eq!(spec(plan.commands.pop().unwrap()).greeting.as_deref(), Some("Hi"));
    assert!(matches!(plan.commands.pop(), Some(Command::Answer { .. })));
    let mut plan = planned(
        "answer",
        json!({ "assistant": { "id": "reception", "greeting": "Hello {{a}}", "dynamic_variables": { "a": 1 } } }),
    )
    .unwrap();
    let agent = assistant(spec(plan.commands.pop().unwrap()));
    assert_eq!((&*agent.name, agent.first_message.as_deref()), ("reception", Some("Hello 1")));
    let both = json!({ "assistant": { "id": "a" }, "conversation_relay_config": { "url": "wss://app/" } });
    assert_eq!(planned("answer", both).unwrap_err().code, 10015);
    assert_eq!(planned("answer", json!({ "assistant": {} })).unwrap_err().code, 10004);
    let error = planned("answer", json!({ "conversation_relay_config": {} })).unwrap_err();
    assert_eq!(Value::from(&error)["errors"][0]["source"]["pointer"], "/conversation_relay_config/url");
}

#[test]
fn a_dial_starts_the_conversation_after_the_answer() {
    let call = new_call(json!({ "assistant": { "id": "reception" } })).unwrap();
    let OnAnswer::Converse(spec) = call.plan.then else { panic!() };
    assert_eq!(&*assistant(*spec).name, "reception");
    let call = new_call(json!({ "conversation_relay_config": { "url": "wss://app/" } })).unwrap();
    assert!(matches!(call.plan.then, OnAnswer::Converse(_)));
    let both = json!({ "assistant": { "id": "reception" }, "audio_url": "http://h/a.wav" });
    assert_eq!(new_call(both).unwrap_err().code, 10015);
}

#[test]
fn messages_are_added_and_the_callers_last_message_is_answered() {
    let add = |messages: Value| match command("ai_assistant_add_messages", json!({ "messages": messages })) {
        Command::AskConversation(ConversationRequest::AddMessages { messages, answer }) => (messages, answer),
        other => panic!("{other:?}"),
    };
    let message = |role, text: &str| AgentMessage { role, text: text.into() };
    let (messages, answer) = add(json!([
        { "role": "developer", "content": "Be brief." }, { "role": "system", "content": "It is late." },
        { "role": "assistant", "tool_calls": [{ "id": "1" }] }, { "role": "tool", "tool_call_id": "1", "content": "open" },
        { "role": "user", "content": "Are you open?" },
    ]));
    let expected = [
        message(MessageRole::System, "Be brief."),
        message(MessageRole::System, "It is late."),
        message(MessageRole::System, "open"),
        message(MessageRole::User, "Are you open?"),
    ];
    assert_eq!((&messages[..], answer), (&expected[..], true));
    assert!(!add(json!([{ "role": "system", "content": "x" }])).1);
    for (body, code) in [
        (json!({}), 10004),
        (json!({ "messages": [] }), 10015),
        (json!({ "messages": [{ "role": "cook", "content": "x" }] }), 10032),
        (json!({ "messages": [{ "role": "user" }] }), 10004),
        (json!({ "messages": "x" }), 10026),
    ] {
        assert_eq!(planned("ai_assistant_add_messages", body).unwrap_err().code, code);
    }
}

fn settled(command: Command, model: Option<&str>) -> Result<AgentSpec, ApiError> {
    let agent = |name: &str| {
        serde_json::from_value(
            json!({ "name": name, "prompt": "Be kind.", "model": { "url": "http://127.0.0.1:1/v1" } }),
        )
    };
    let agents = Agents::new([agent("reception").unwrap(), agent("night").unwrap()]).unwrap();
    let account = AccountName::new("acme");
    let own = agent::Own { account: &account, agents: &agents, inventory: &Inventory::default(), model };
    let mut command = command;
    agent::settle(&mut command, &own, 7)?;
    Ok(assistant(spec(command)))
}

#[test]
fn the_agent_of_a_request_is_the_named_one_or_the_one_with_the_name_of_the_model_or_the_first() {
    let start = |assistant: Value| command("ai_assistant_start", json!({ "assistant": assistant }));
    assert_eq!(&*settled(start(json!({ "id": "night" })), None).unwrap().name, "night");
    assert_eq!(&*settled(start(json!({ "model": "night" })), Some("night")).unwrap().name, "night");
    assert_eq!(&*settled(start(json!({ "model": "gpt-4o" })), Some("gpt-4o")).unwrap().name, "reception");
    let plain = settled(start(json!({})), None).unwrap();
    assert_eq!((&*plain.name, plain.script, plain.conversation), ("reception", None, Some(7)));
    assert_eq!(settled(start(json!({ "id": "unknown" })), None).unwrap_err().code, 10015);
}

#[test]
fn tools_of_a_request_become_a_script_with_the_prompt_of_the_configured_agent() {
    let tools = json!([{ "type": "hangup", "hangup": {} }]);
    let start = command(
        "ai_assistant_start",
        json!({ "assistant": { "id": "night", "tools": tools, "dynamic_variables": { "a": "b" } } }),
    );
    let script: Value = serde_json::from_str(&settled(start, None).unwrap().script.unwrap()).unwrap();
    let expected = json!({ "assistant": { "instructions": "Be kind.", "tools": tools }, "variables": { "a": "b" } });
    assert_eq!(script, expected);
    let schema = json!({ "type": "object", "properties": {} });
    let gather = json!({ "parameters": schema, "send_partial_results": true, "assistant": { "instructions": "Ask.", "tools": tools } });
    let agent = settled(command("gather_using_ai", gather), None).unwrap();
    assert!(agent.reports_partial_results);
    let script: Value = serde_json::from_str(&agent.script.unwrap()).unwrap();
    let expected =
        json!({ "assistant": { "instructions": "Ask.", "tools": tools }, "collect": schema, "partial_results": true });
    assert_eq!(script, expected);
    let hosted = json!({ "assistant": { "tools": [{ "type": "retrieval", "retrieval": {} }] } });
    assert_eq!(planned("ai_assistant_start", hosted).unwrap_err().code, 10015);
}

#[test]
fn a_script_says_the_greeting_itself() {
    let tools = json!([{ "type": "hangup", "hangup": {} }]);
    let start = json!({ "greeting": "Hello {{name}}.", "assistant": { "id": "night", "tools": tools } });
    let agent = settled(command("ai_assistant_start", start), None).unwrap();
    assert_eq!((agent.first_message.as_deref(), agent.prompt.as_deref()), (None, None));
    let script: Value = serde_json::from_str(&agent.script.unwrap()).unwrap();
    assert_eq!(script["assistant"]["greeting"], "Hello {{name}}.");
    // The greeting of a gather is not part of its script.
    let gather = json!({ "parameters": { "properties": {} }, "greeting": "Hi.", "assistant": { "tools": tools } });
    let agent = settled(command("gather_using_ai", gather), None).unwrap();
    assert_eq!((agent.first_message.as_deref(), agent.script.is_some()), (Some("Hi."), true));
}

#[test]
fn an_assistant_reports_its_messages_to_an_application_that_wants_them() {
    let start = |updates: bool| command("ai_assistant_start", json!({ "send_message_history_updates": updates }));
    assert!(settled(start(true), None).unwrap().reports_utterances);
    assert!(!settled(start(false), None).unwrap().reports_utterances);
}

#[test]
fn a_word_for_several_languages_leaves_the_language_of_the_agent() {
    for (word, language) in [("auto", None), ("multi", None), ("de", Some("de"))] {
        let transcription = json!({ "language": word });
        let start = command("ai_assistant_start", json!({ "transcription": transcription }));
        assert_eq!(assistant(spec(start)).language.as_deref(), language);
        let gather = json!({ "parameters": { "properties": {} }, "transcription": transcription });
        assert_eq!(assistant(spec(command("gather_using_ai", gather))).language.as_deref(), language);
    }
}
