use tandem_call::program::instruction::Instruction;
use tandem_dialect::agent::AfterRun;

use super::*;
use crate::fixture;

fn assistant(definition: Value) -> Assistant {
    Assistant::new(&fixture::account(), &fixture::leg(), &definition.to_string()).unwrap()
}

fn now() -> Timestamp {
    "2026-11-27T12:00:00Z".parse().unwrap()
}

fn call(name: &str, arguments: Value) -> ScriptCall {
    ScriptCall { id: "1".into(), name: name.into(), arguments: arguments.to_string() }
}

/// The text and the actions of a completed call.
fn result(step: ScriptStep) -> (Result<String, ToolFault>, Vec<AgentAction>) {
    match step {
        ScriptStep::Result(result) => (result.text, result.actions),
        ScriptStep::Request(request) => panic!("{request:?}"),
    }
}

fn request(step: ScriptStep) -> Request {
    match step {
        ScriptStep::Request(request) => request.request,
        ScriptStep::Result(result) => panic!("{result:?}"),
    }
}

fn answer(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: axum::http::HeaderMap::new(),
        body: body.to_owned().into(),
        final_url: String::new(),
        redirects: Vec::new(),
        elapsed: Duration::ZERO,
    }
}

fn weather() -> Value {
    json!({ "type": "webhook", "timeout_ms": 2000, "webhook": {
        "name": "weather", "description": "The weather for {{name}}.", "url": "https://app.example/v1/{city}?key=1",
        "method": "POST", "headers": [{ "name": "X-Name", "value": "{{name}}" }],
        "path_parameters": { "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] },
        "query_parameters": { "type": "object", "properties": { "unit": { "type": "string" } } },
        "body_parameters": { "type": "object", "properties": { "day": { "type": "integer" } }, "required": ["day"] },
        "preset_body_fields": { "caller": "{{telnyx_end_user_target}}" },
        "preset_query_params": { "who": "{{telnyx_end_user_target}}" },
        "store_fields_as_variables": [{ "name": "sky", "value_path": "now.sky" }],
        "messages": [
            { "type": "request_response_delayed", "content": "Still there?", "timing_ms": 5000 },
            { "type": "request_start", "content": "One moment, {{name}}." },
        ],
    }})
}

#[test]
fn variables_of_the_call_of_the_request_and_of_the_assistant_fill_the_prompt() {
    let mut one = assistant(json!({
        "assistant": {
            "instructions": "You talk with {{name}} of {{town}} at {{telnyx_end_user_target}} on {{ unknown }}.",
            "greeting": "Hello {{name}}.", "dynamic_variables": { "name": "nobody", "town": "Rome" },
        },
        "variables": { "name": "Ann" },
    }));
    let turn = one.turn(now());
    assert_eq!(turn.prompt, "You talk with Ann of Rome at +15551230001 on {{ unknown }}.");
    assert_eq!(one.settings().opening, Opening::Say { text: "Hello Ann.".into(), interruptible: true });
    // A request cannot change the facts about the call.
    let mut one = assistant(
        json!({ "assistant": { "instructions": "{{telnyx_call_to}}" }, "variables": { "telnyx_call_to": "x" } }),
    );
    assert_eq!(one.turn(now()).prompt, "+15551230002");
}

#[test]
fn the_published_facts_of_the_call_are_variables() {
    let text =
        "{{telnyx_call_caller_id_name}} {{ticket}} {{telnyx_shaken_stir_attestation}} {{telnyx_current_weekday}}";
    let mut one = assistant(json!({ "instructions": text }));
    assert_eq!(one.turn(now()).prompt, "Alice 42 {{telnyx_shaken_stir_attestation}} Friday");
}

#[test]
fn settings_of_interruptions_and_recognition_have_an_effect() {
    let settings = assistant(json!({
        "greeting": "Hello.", "interruption_settings": { "enable": true, "disable_greeting_interruption": true },
        "transcription": { "settings": { "keyterm": "Telnyx, {{telnyx_call_caller_id_name}},,VoIP" } },
    }))
    .settings();
    assert_eq!(settings.opening, Opening::Say { text: "Hello.".into(), interruptible: false });
    assert_eq!(settings.hints, ["Telnyx", "Alice", "VoIP"]);
}

#[test]
fn the_greeting_decides_who_speaks_first() {
    let opening = |greeting: Value| assistant(json!({ "greeting": greeting })).settings().opening;
    assert_eq!(opening(Value::Null), Opening::Configured);
    assert_eq!(opening(json!("")), Opening::WaitForCaller);
    assert_eq!(opening(json!(MODEL_GREETING)), Opening::Model);
}

#[test]
fn a_webhook_tool_sends_a_signed_request_with_its_arguments_in_their_places() {
    let mut one = assistant(json!({ "assistant": { "tools": [weather()] }, "variables": { "name": "Ann" } }));
    let tools = one.turn(now()).tools;
    assert_eq!((tools[0].name.as_str(), tools[0].description.as_str()), ("weather", "The weather for Ann."));
    assert_eq!(tools[0].parameters["required"], json!(["city", "day"]));
    assert_eq!(tools[0].fillers.of("en"), ["One moment, Ann."]);

    let sent =
        request(one.call(&call("weather", json!({ "city": "San José", "unit": "C", "day": 2, "admin": true })), now()));
    assert_eq!(sent.method, Method::POST);
    assert_eq!(sent.url, "https://app.example/v1/San%20Jos%C3%A9?key=1&unit=C&who=%2B15551230001");
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body, json!({ "day": 2, "caller": "+15551230001" }));
    let header = |name: &str| sent.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    assert_eq!(header("X-Name"), Some("Ann"));
    assert!(header("telnyx-signature-ed25519").is_some() && header("telnyx-timestamp") == Some("1795780800"));
    assert_eq!(sent.timeouts.total, Duration::from_secs(2));

    let (text, actions) = result(one.answered("1", Ok(&answer(200, r#"{"now":{"sky":"blue"}}"#)), now()));
    assert_eq!((text, actions), (Ok(r#"{"now":{"sky":"blue"}}"#.to_owned()), Vec::new()));
    assert_eq!(one.variables.values()["sky"], "blue");
    let (text, _) = result(one.answered("1", Ok(&answer(500, "no")), now()));
    assert_eq!(text, Err(ToolFault::Failed("the web server answered 500: no".to_owned())));
    let (text, _) = result(one.answered("1", Err("timeout".to_owned()), now()));
    assert_eq!(text, Err(ToolFault::Failed("timeout".to_owned())));
}

#[test]
fn an_argument_does_not_lead_to_another_path() {
    let mut one = assistant(json!({ "tools": [weather()] }));
    let (text, _) = result(one.call(&call("weather", json!({ "city": "..", "day": 2 })), now()));
    assert_eq!(text, Err(ToolFault::Refused("city cannot be \"..\"".into())));
    let sent = request(one.call(&call("weather", json!({ "city": "../admin", "day": 2 })), now()));
    assert!(sent.url.starts_with("https://app.example/v1/..%2Fadmin?"), "{}", sent.url);
}

#[test]
fn a_webhook_tool_says_only_a_message_for_the_start_of_its_request() {
    let said = |messages: Value| {
        let mut tool = weather();
        tool["webhook"].as_object_mut().unwrap().remove("messages");
        tool["webhook"]["filler_messages"] = messages;
        let tools = assistant(json!({ "tools": [tool] })).turn(now()).tools;
        tools[0].fillers.of("en").to_vec()
    };
    let late = json!({ "type": "request_response_delayed", "content": "Still there?", "timing_ms": 5000 });
    assert_eq!(said(json!([late, { "type": "request_start", "content": "One moment." }])), ["One moment."]);
    assert!(said(json!([late])).is_empty());
}

#[test]
fn the_other_tools_become_actions() {
    let mut one = assistant(json!({ "tools": [
        { "type": "hangup", "hangup": {} },
        { "type": "send_dtmf", "send_dtmf": {} },
        { "type": "skip_turn", "skip_turn": {} },
        { "type": "transfer", "transfer": { "from": "+15551230002", "targets": [
            { "name": "sales", "to": "+15551230009" }, { "name": "desk", "to": "sip:desk@example.com" }] } },
        { "type": "update_dynamic_variables", "update_dynamic_variables": {
            "name": "remember", "description": "x", "updatable_variables": [{ "name": "color" }] } },
    ]}));
    assert_eq!(result(one.call(&call("hangup", json!({})), now())).1, [AgentAction::HangUp]);
    assert_eq!(
        result(one.call(&call("send_dtmf", json!({ "digits": "1W#" })), now())).1,
        [AgentAction::SendDigits("1ww#".into())]
    );
    assert_eq!(result(one.call(&call("skip_turn", json!({})), now())).1, [AgentAction::WaitForCaller(true)]);
    let (_, actions) = result(one.call(&call("transfer", json!({ "target": "desk" })), now()));
    let [AgentAction::Run { program, then: AfterRun::Return { event: Some(event) } }] = &actions[..] else { panic!() };
    assert_eq!(event, "[The transfer to desk was not answered.]");
    assert_eq!(program.instructions.len(), 1);
    assert!(result(one.call(&call("transfer", json!({ "target": "+1900" })), now())).0.is_err());
    let remembered = result(one.call(&call("remember", json!({ "color": "red", "call_control_id": "x" })), now())).0;
    assert!(remembered.is_ok());
    assert_eq!(one.variables.values()["color"], "red");
    assert_ne!(one.variables.values()["call_control_id"], "x");
    for bad in [call("rm", json!({})), ScriptCall { arguments: "{".into(), ..call("hangup", json!({})) }] {
        assert!(result(one.call(&bad, now())).0.is_err());
    }
}

#[test]
fn a_transfer_has_the_header_fields_of_its_tool() {
    let tools = json!([{ "type": "transfer", "transfer": {
        "from": "+15551230002", "targets": [{ "name": "sales", "to": "+15551230009" }],
        "custom_headers": [{ "name": "X-Customer", "value": "{{name}}" }] } }]);
    let mut one = assistant(json!({ "assistant": { "tools": tools }, "variables": { "name": "Ann\r\nVia: evil" } }));
    let (_, actions) = result(one.call(&call("transfer", json!({ "target": "sales" })), now()));
    let [AgentAction::Run { program, .. }] = &actions[..] else { panic!("{actions:?}") };
    let [Instruction::Dial(dial)] = &program.instructions[..] else { panic!("{program:?}") };
    assert_eq!(dial.targets[0].headers.named("X-Customer").collect::<Vec<_>>(), ["AnnVia: evil"]);
}

#[test]
fn tools_that_this_server_does_not_have_are_refused_with_a_reason() {
    for (tool, why) in [
        (json!({ "type": "retrieval", "retrieval": {} }), "the retrieval tool is not available on this server"),
        (json!({ "type": "handoff", "handoff": {} }), "the handoff tool is not available on this server"),
        (json!({ "type": "dance" }), "there is no tool of type \"dance\""),
        (json!({ "type": "webhook", "webhook": { "name": "a b", "url": "http://x" } }), "the name \"a b\" of a tool"),
        (json!({ "type": "webhook", "webhook": { "name": "a", "url": "file:///x" } }), "neither http nor https"),
        (json!({ "type": "transfer", "transfer": { "targets": "{{ targets }}" } }), "a variable is not supported"),
        (
            json!({ "type": "transfer", "transfer": { "targets": [{ "to": "nowhere" }] } }),
            "neither E.164 nor a SIP URI",
        ),
        (
            json!({ "type": "transfer", "transfer": { "targets": [{ "to": "+15551230009" }],
                "custom_headers": [{ "name": "Via", "value": "x" }] } }),
            "\"Via\" of a transfer cannot be set",
        ),
        (
            json!({ "type": "webhook", "webhook": { "name": "a", "url": "http://x", "headers": [
                { "name": "A", "value": "{{#integration_secret}}s{{/integration_secret}}" }] } }),
            "integration secret",
        ),
    ] {
        let error = Tool::parse(&tool).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn the_greeting_waits_for_the_variables_of_a_web_server() {
    let definition = json!({
        "id": "assistant-1", "greeting": "Hello {{name}}.", "dynamic_variables": { "name": "caller" },
        "dynamic_variables_webhook_url": "https://app.example/variables",
    });
    let mut one = assistant(definition.clone());
    assert_eq!(one.settings().opening, Opening::WaitForCaller);
    let mut requests = one.begin(now());
    let sent = requests.remove(0);
    let body: Value = serde_json::from_slice(&sent.request.body).unwrap();
    assert_eq!(body["data"]["event_type"], "assistant.initialization");
    assert_eq!(body["data"]["payload"]["telnyx_end_user_target"], "+15551230001");
    assert_eq!(body["data"]["payload"]["assistant_id"], "assistant-1");
    assert_eq!(sent.request.timeouts.total, Duration::from_millis(1_500));
    let said = answer(200, r#"{"dynamic_variables":{"name":"Ann"}}"#);
    assert_eq!(result(one.answered(&sent.id, Ok(&said), now())).1, [AgentAction::Say("Hello Ann.".into())]);
    assert_eq!((&body["data"]["record_type"], body["data"]["id"].is_string()), (&json!("event"), true));
    assert_eq!(body["data"]["payload"]["telnyx_end_user_target_verified"], false);
    // Without an answer, the values of the assistant apply.
    let mut one = assistant(definition);
    let answered = one.answered(VARIABLES, Err("refused".into()), now());
    assert_eq!(result(answered).1, [AgentAction::Say("Hello caller.".into())]);
    // An assistant that comes back neither greets again nor requests variables.
    let mut again = Assistant::new(&fixture::account(), &fixture::leg(), &one.write().unwrap()).unwrap();
    assert!(again.begin(now()).is_empty());
    assert_eq!(again.settings().opening, Opening::WaitForCaller);
}

#[test]
fn the_request_and_the_header_fields_take_precedence_over_the_web_server() {
    let mut one = assistant(json!({
        "assistant": {
            "instructions": "{{name}} {{ticket}} {{tier}}", "dynamic_variables_webhook_url": "https://app.example/variables",
        },
        "variables": { "name": "Ann" },
    }));
    let said = answer(200, r#"{"dynamic_variables":{"name":"Bob","ticket":"7","tier":"gold"}}"#);
    one.answered(VARIABLES, Ok(&said), now());
    assert_eq!(one.turn(now()).prompt, "Ann 42 gold");
}

#[test]
fn the_model_writes_the_first_words_after_the_answer_of_the_web_server() {
    let definition =
        json!({ "greeting": MODEL_GREETING, "dynamic_variables_webhook_url": "https://app.example/variables" });
    let mut one = assistant(definition);
    assert_eq!(one.settings().opening, Opening::WaitForCaller);
    let actions = result(one.answered(VARIABLES, Err("refused".into()), now())).1;
    assert_eq!(actions, [AgentAction::UserInput(CALL_BEGINS.into())]);
}

#[test]
fn values_to_collect_end_the_conversation_when_all_are_known() {
    let schema = json!({ "type": "object", "properties": { "age": {}, "city": {} }, "required": ["age", "city"] });
    let hangup = json!([{ "type": "hangup", "hangup": {} }]);
    let mut one = assistant(json!({ "assistant": { "tools": hangup }, "collect": schema, "partial_results": true }));
    let names: Vec<String> = one.turn(now()).tools.into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["hangup", "collected", "collected_so_far"]);
    let (text, _) = result(one.call(&call("collected", json!({ "age": 7 })), now()));
    assert_eq!(text, Err(ToolFault::Refused("these values are missing: city".into())));
    let so_far = result(one.call(&call("collected_so_far", json!({ "age": 7 })), now())).1;
    assert_eq!(so_far, [AgentAction::ReportPartialResult(r#"{"age":7}"#.into())]);
    let all = result(one.call(&call("collected", json!({ "age": 7, "city": "Rome" })), now())).1;
    assert_eq!(all, [AgentAction::Stop(Some(r#"{"age":7,"city":"Rome"}"#.into()))]);
}

#[test]
fn the_times_of_an_assistant_come_from_its_telephony_settings() {
    let settings = json!({ "time_limit_secs": 60, "user_idle_timeout_secs": 30, "user_idle_reply_secs": 10 });
    let times = assistant(json!({ "telephony_settings": settings })).settings().times;
    assert_eq!(times.longest, Some(Duration::from_secs(60)));
    assert_eq!((times.silence, times.silence_prompts), (Some(Duration::from_secs(10)), Some(2)));
}
