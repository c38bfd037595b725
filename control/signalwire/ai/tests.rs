//! Tests of the script of an agent, without an engine.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tandem_call::conversation::MessageRole;
use tandem_dialect::agent::{
    AgentAction, AgentScript, ConversationSummary, DialogueLine, EndReason, LineKind, Opening, Response, ScriptCall,
    ScriptRequest, ScriptResult, ScriptStep,
};

use super::definition::Definition;
use super::payload::Facts;
use super::script::AiScript;
use super::{Continuation, Outcome, Seed};

fn now() -> Timestamp {
    "2026-02-03T15:04:05Z".parse().unwrap()
}

fn seeded(seed: Seed) -> AiScript {
    let facts = Facts {
        project_id: "project".to_owned(),
        space_id: "space".to_owned(),
        signing_key: "PSK".to_owned(),
        call_id: "call".to_owned(),
        caller_name: "Ann".to_owned(),
        caller_number: "+15551230009".to_owned(),
        direction: "inbound",
        created_at: now(),
        answered_at: Some(now()),
    };
    let definition = Definition::read(&seed.ai, &seed.contexts).unwrap();
    AiScript::of(definition, seed, facts, "session".to_owned())
}

fn script(ai: Json) -> AiScript {
    seeded(Seed { ai, vars: json!({"plan": "gold"}), call: json!({"from": "+15551230009"}), ..Seed::default() })
}

/// An agent with a function `look` at a web server.
fn looking(more: Json) -> AiScript {
    let mut ai = json!({
        "prompt": "You help ${caller_id_name}.",
        "global_data": {"shop": "bikes"},
        "SWAIG": {"functions": [
            {"function": "look", "description": "Looks something up.", "web_hook_url": "http://u:p%20w@h/swaig?__token=t",
                "parameters": {"type": "object", "properties": {"what": {"type": "string"}}}, "meta_data": {"m": 1}},
            {"function": "other", "description": "Another.", "web_hook_url": "http://u:p%20w@h/swaig"},
        ]},
    });
    ai.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    script(ai)
}

fn call(name: &str, arguments: &Json) -> ScriptCall {
    ScriptCall { id: "call_1".to_owned(), name: name.to_owned(), arguments: arguments.to_string() }
}

fn request_of(step: ScriptStep) -> ScriptRequest {
    match step {
        ScriptStep::Request(request) => request,
        ScriptStep::Result(result) => panic!("{result:?}"),
    }
}

fn result_of(step: ScriptStep) -> ScriptResult {
    match step {
        ScriptStep::Result(result) => result,
        ScriptStep::Request(request) => panic!("{request:?}"),
    }
}

fn body_of(request: &ScriptRequest) -> Json {
    serde_json::from_slice(&request.request.body).unwrap()
}

fn response(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: http::HeaderMap::new(),
        body: body.to_owned().into(),
        final_url: String::new(),
        redirects: Vec::new(),
        elapsed: Duration::ZERO,
    }
}

/// Lets the model call `look`, and lets the web server answer.
fn look(script: &mut AiScript, answer: &Json) -> ScriptResult {
    request_of(script.call(&call("look", &json!({"what": "x"})), now()));
    result_of(script.answered("call_1", Ok(&response(200, &answer.to_string())), now()))
}

fn actions(script: &mut AiScript, action: Json) -> Vec<AgentAction> {
    look(script, &json!({"response": "done", "action": action})).actions
}

fn outcome(actions: &[AgentAction]) -> Outcome {
    match actions {
        [.., AgentAction::Stop(Some(text))] => serde_json::from_str(text).unwrap(),
        _ => panic!("{actions:?}"),
    }
}

fn offered(script: &mut AiScript) -> Vec<String> {
    script.turn(now()).tools.into_iter().map(|tool| tool.name).collect()
}

#[test]
fn the_prompt_reads_the_call_the_time_and_the_global_data() {
    let mut script = script(json!({
        "prompt": {"text": "Good ${time_of_day}, ${caller_id_name}. ${shop} %{global_data.shop} ${plan} ${none}.", "temperature": 0.2},
        "global_data": {"shop": "bikes"},
        "params": {"local_tz": "UTC", "conscience": "Stay calm."},
    }));
    let turn = script.turn(now());
    assert_eq!(turn.prompt, "Good afternoon, Ann. bikes bikes gold .\n\nStay calm.");
    assert_eq!(turn.model["temperature"], 0.2);
    assert_eq!(turn.tools.len(), 1, "only the tool that hangs up");
}

#[test]
fn a_function_call_is_a_signed_request_with_the_published_payload() {
    let mut script = looking(json!({"params": {"app_name": "shop", "conversation_id": "c1"}}));
    let request = request_of(script.call(&call("look", &json!({"what": "bell"})), now()));
    assert_eq!((request.id.as_str(), request.request.url.as_str()), ("call_1", "http://h/swaig?__token=t"));
    let header = |name: &str| {
        let found = request.request.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("authorization"), Some("Basic dTpwIHc="));
    assert_eq!(header("content-type"), Some("application/json"));
    assert!(header("x-signalwire-signature").is_some() && header("x-signalwire-sha256-signature").is_some());
    let body = body_of(&request);
    let expected = json!({
        "app_name": "shop", "function": "look", "call_id": "call", "ai_session_id": "session", "conversation_id": "c1",
        "caller_id_name": "Ann", "caller_id_num": "+15551230009", "project_id": "project", "space_id": "space",
        "conversation_type": "voice", "channel_active": true, "channel_offhook": true, "channel_ready": true,
        "argument": {"parsed": [{"what": "bell"}], "raw": "{\"what\":\"bell\"}", "substituted": ""},
        "argument_desc": {"type": "object", "properties": {"what": {"type": "string"}}},
        "description": "Looks something up.", "purpose": "Looks something up.",
        "content_type": "text/swaig", "content_disposition": "SWAIG Function", "version": "2.0",
        "global_data": {"shop": "bikes", "caller_id_name": "Ann", "caller_id_number": "+15551230009"},
        "meta_data": {"m": 1}, "meta_data_token": body["meta_data_token"],
    });
    assert_eq!(body, expected);
}

#[test]
fn the_variables_of_the_document_are_posted_on_request() {
    let mut script = looking(json!({"params": {"swaig_post_swml_vars": ["plan", "none"]}}));
    let body = body_of(&request_of(script.call(&call("look", &json!({})), now())));
    assert_eq!((&body["SWMLVars"], &body["SWMLCall"]["from"]), (&json!({"plan": "gold"}), &json!("+15551230009")));
}

#[test]
fn wrong_calls_of_the_model_are_refused_and_do_no_harm() {
    let mut script = looking(json!({}));
    let arguments = [
        ("look", "[]"),
        ("look", "{"),
        ("none", "{}"),
        ("startup_hook", "{}"),
        ("next_step", "{}"),
        ("gather_submit", "{}"),
    ];
    for (name, arguments) in arguments {
        let call = ScriptCall { id: "1".to_owned(), name: name.to_owned(), arguments: arguments.to_owned() };
        assert!(result_of(script.call(&call, now())).text.is_err(), "{name} {arguments}");
    }
    let long = ScriptCall { id: "1".to_owned(), name: "look".to_owned(), arguments: "x".repeat(100_000) };
    assert!(result_of(script.call(&long, now())).text.is_err());
    assert_eq!(result_of(script.answered("unknown", Err("late".to_owned()), now())).text.unwrap(), "");
}

#[test]
fn the_model_gets_the_response_or_the_reason_of_a_failure() {
    let mut script = looking(json!({}));
    assert_eq!(look(&mut script, &json!({"response": "It is ${plan}."})).text.unwrap(), "It is gold.");
    assert_eq!(look(&mut script, &json!({"response": {"tool_result": "a", "tool_prompt": "b"}})).text.unwrap(), "a\nb");
    for answer in [
        Ok(response(500, "{}")),
        Ok(response(200, "<html>")),
        Ok(response(200, "[1]")),
        Err("no connection".to_owned()),
    ] {
        request_of(script.call(&call("look", &json!({})), now()));
        let step = script.answered("call_1", answer.as_ref().map_err(Clone::clone), now());
        assert!(result_of(step).text.is_err(), "{answer:?}");
    }
}

#[test]
fn post_process_runs_the_actions_after_the_next_words_of_the_model() {
    let mut script = looking(json!({}));
    let result =
        look(&mut script, &json!({"response": "Say bye.", "action": [{"hangup": true}], "post_process": true}));
    assert!(result.after_reply);
    assert_eq!(result.actions, [AgentAction::HangUp]);
    assert!(!look(&mut script, &json!({"response": "x", "post_process": true})).after_reply);
}

#[test]
fn plain_actions_reach_the_engine() {
    let mut script = looking(json!({}));
    let done = actions(
        &mut script,
        json!([
            {"say": "One moment."}, {"user_input": "Yes."}, {"wait_for_user": true}, {"stop_playback_bg": true},
            {"playback_bg": {"file": "http://h/a.wav", "wait": true}}, {"hold": {"timeout": 60}}, {"hold": "1:30"}, {"hold": 5_000},
            {"end_of_speech_timeout": 2_000}, {"add_dynamic_hints": ["a", {"hint": "b", "pattern": "x"}]},
            {"hangup": false}, {"stop": "false"}, {"wait_for_user": "answer_first"}, {"back_to_back_functions": true},
            {"replace_in_history": "I looked."}, {"replace_in_history": true}, {"replace_in_history": false},
        ]),
    );
    assert_eq!(done.len(), 12, "{done:?}");
    assert_eq!(done[10..], [AgentAction::ReplaceCall(Some("I looked.".to_owned())), AgentAction::ReplaceCall(None)]);
    assert_eq!(done[0], AgentAction::Say("One moment.".to_owned()));
    assert_eq!(done[1], AgentAction::UserInput("Yes.".to_owned()));
    assert_eq!(done[2], AgentAction::WaitForCaller(true));
    assert!(matches!(&done[4], AgentAction::PlayBackground(audio) if audio.waits && audio.url == "http://h/a.wav"));
    let holds: Vec<_> = done[5..8]
        .iter()
        .map(|action| match action {
            AgentAction::Hold(length) => length.unwrap().as_secs(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(holds, [60, 90, 300], "a hold of more than 15 minutes has the default length");
    assert_eq!(done[9], AgentAction::SetHints(vec!["a".to_owned(), "b".to_owned()]));
    let unknown = warning(&actions(&mut script, json!({"dance": true})));
    assert!(unknown.contains("the action dance is not served"), "{unknown}");
    assert_eq!(script.saved.log.last().unwrap()["warnings"].as_array().unwrap().len(), 1);
    assert!(warning(&actions(&mut script, json!("x"))).contains("`action` is not a list"));
}

/// The only action, which is a warning.
fn warning(actions: &[AgentAction]) -> String {
    match actions {
        [AgentAction::Warn(text)] => text.clone(),
        _ => panic!("{actions:?}"),
    }
}

#[test]
fn audio_in_the_background_is_one_warning_of_the_call() {
    let mut script = looking(json!({}));
    let play = json!([{"playback_bg": "http://h/a.wav"}, {"playback_bg": {"file": "http://h/b.wav"}}]);
    assert!(warning(&actions(&mut script, play.clone())).contains("does not mix audio"));
    assert!(actions(&mut script, play).is_empty());
    let params =
        json!({"background_file": "http://h/b.wav", "background_file_volume": -20, "background_file_loops": 3});
    let script = looking(json!({ "params": params }));
    let warnings = &script.definition.warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("params.background_file"), "{warnings:?}");
}

/// The global data of a call of Ann.
fn with_caller(mut data: Json) -> Json {
    data["caller_id_name"] = "Ann".into();
    data["caller_id_number"] = "+15551230009".into();
    data
}

#[test]
fn data_is_set_and_unset_and_later_prompts_and_payloads_have_it() {
    let mut script = looking(json!({}));
    actions(
        &mut script,
        json!([{"set_global_data": {"name": "Bo", "shop": "cars"}}, {"set_meta_data": {"seen": true}}]),
    );
    let body = body_of(&request_of(script.call(&call("other", &json!({})), now())));
    assert_eq!(body["global_data"], with_caller(json!({"name": "Bo", "shop": "cars"})));
    assert_eq!(body["meta_data"], json!({"seen": true}), "both functions have the same URL");
    actions(&mut script, json!([{"unset_global_data": ["name"]}, {"unset_meta_data": "seen"}]));
    let body = body_of(&request_of(script.call(&call("other", &json!({})), now())));
    assert_eq!((&body["global_data"], &body["meta_data"]), (&with_caller(json!({"shop": "cars"})), &json!({})));
    actions(&mut script, json!([{"set_global_data": {"big": "x".repeat(300_000)}}]));
    assert!(!script.saved.global_data.contains_key("big"), "the data has a limit");
}

#[test]
fn a_document_can_forbid_what_answers_change() {
    let params = json!({"swaig_set_global_data": false, "swaig_allow_swml": false, "swaig_allow_settings": "false"});
    let mut script = looking(json!({ "params": params }));
    let done = actions(
        &mut script,
        json!([{"set_global_data": {"a": 1}}, {"SWML": {"sections": {"main": []}}}, {"settings": {"temperature": 1.0}}]),
    );
    assert!(done.len() == 3 && done.iter().all(|action| matches!(action, AgentAction::Warn(_))), "{done:?}");
    assert_eq!(Json::from(script.saved.global_data.clone()), with_caller(json!({"shop": "bikes"})));
    assert!(script.turn(now()).model.is_empty());
}

#[test]
fn settings_and_toggles_count_from_the_next_request_on() {
    let mut script = looking(json!({}));
    assert_eq!(offered(&mut script), ["look", "other", "hangup"]);
    actions(
        &mut script,
        json!([{"settings": {"temperature": 0.1, "max-tokens": 20}}, {"toggle_functions": [{"function": ["other"], "active": "false"}]}]),
    );
    assert_eq!(Json::from(script.turn(now()).model), json!({"temperature": 0.1, "max_tokens": 20}));
    assert_eq!(offered(&mut script), ["look", "hangup"]);
    assert!(result_of(script.call(&call("other", &json!({})), now())).text.is_err());
    actions(&mut script, json!([{"toggle_functions": [{"function": "other", "active": 1}]}]));
    request_of(script.call(&call("other", &json!({})), now()));
    assert_eq!(offered(&mut script), ["look", "hangup"], "the function could be called once");
}

#[test]
fn a_document_that_takes_the_call_over_ends_the_agent() {
    let mut script = looking(json!({}));
    let document = json!({"version": "1.0.0", "sections": {"main": [{"connect": {"to": "+15551230001"}}]}});
    let done = actions(&mut script, json!([{"set_global_data": {"a": 1}}, {"SWML": document, "transfer": "true"}]));
    let outcome = outcome(&done);
    assert_eq!(outcome.then, Some(Continuation::Transfer(document)));
    assert_eq!(outcome.global_data["a"], 1);
    assert!(!script.returns);
}

#[test]
fn after_another_document_the_agent_comes_back_with_its_data_and_its_words() {
    let mut script = looking(json!({"params": {"static_greeting": "Hello."}}));
    script.begin(now());
    assert_eq!(script.settings().opening, Opening::Say { text: "Hello.".to_owned(), interruptible: true });
    let source = "version: 1.0.0\nsections:\n  main:\n    - play: say:Listen";
    let done = actions(&mut script, json!([{"set_global_data": {"a": 1}}, {"SWML": source}]));
    let Outcome { documents, then: Some(Continuation::Return(saved)), .. } = outcome(&done) else { panic!("{done:?}") };
    assert_eq!(documents[0]["sections"]["main"][0]["play"], "say:Listen");
    let end = ConversationSummary { why: EndReason::Stopped, began: now(), ended: now(), dialogue: &[], answer: None };
    assert!(script.end_question(EndReason::Stopped, now()).is_none() && script.end_report(&end, now()).is_empty());
    let seed = Seed { saved: Some(saved), vars: json!({"ai_response": "I am back."}), ..script.seed.clone() };
    let mut back = seeded(seed);
    assert_eq!(back.settings().opening, Opening::Say { text: "I am back.".to_owned(), interruptible: true });
    assert_eq!(back.saved.global_data["a"], 1);
    assert!(back.begin(now()).is_empty(), "the start is not reported twice");
    assert!(back.turn(now()).prompt.ends_with("result: done"), "the model gets the result of the function");
    assert!(back.turn(now()).prompt.contains("result: done"), "a request that is repeated has it too");
    request_of(back.call(&call("look", &json!({})), now()));
    assert!(!back.turn(now()).prompt.contains("result: done"));
}

fn say(text: &str) -> Json {
    json!({"sections": {"main": [{"play": format!("say:{text}")}]}})
}

#[test]
fn the_actions_behind_a_document_are_not_lost() {
    let mut script = looking(json!({}));
    let list =
        json!([{"SWML": say("a")}, {"set_global_data": {"a": 1}}, {"SWML": say("b")}, {"say": "Done."}, {"dance": 1}]);
    let done = actions(&mut script, list);
    assert!(matches!(&done[..], [AgentAction::Say(_), AgentAction::Warn(_), AgentAction::Stop(_)]), "{done:?}");
    let outcome = outcome(&done);
    assert_eq!(outcome.documents, [say("a"), say("b")]);
    let Some(Continuation::Return(saved)) = outcome.then else { panic!("{done:?}") };
    assert_eq!(saved.global_data["a"], 1);
}

#[test]
fn the_first_end_behind_documents_counts_instead_of_the_return() {
    let end = |action: Json| {
        let mut script = looking(json!({}));
        let outcome = outcome(&actions(
            &mut script,
            json!([{"SWML": say("a")}, action, {"transfer": "late"}, {"SWML": say("late")}]),
        ));
        assert!(!script.returns);
        (outcome.documents, outcome.then)
    };
    assert_eq!(end(json!({"stop": true})), (vec![say("a")], None));
    let hangup = json!({"sections": {"main": [{"hangup": {}}]}});
    assert_eq!(end(json!({"hangup": true})), (vec![say("a"), hangup], None));
    let transfer = Continuation::Transfer(say("b"));
    assert_eq!(end(json!({"SWML": say("b"), "transfer": true})), (vec![say("a")], Some(transfer)));
    let to = Continuation::Destination("there".to_owned());
    assert_eq!(end(json!({"transfer": {"dest": "there"}})), (vec![say("a")], Some(to)));
    let done = actions(&mut looking(json!({})), json!([{"SWML": say("b"), "transfer": true}, {"hangup": true}]));
    assert!(matches!(&done[..], [AgentAction::Stop(_)]), "a transfer is no end of the call: {done:?}");
}

#[test]
fn events_for_the_clients_of_the_service_do_not_interrupt_the_conversation() {
    let mut script = looking(json!({}));
    let event = json!({"sections": {"main": [{"user_event": {"event": {"type": "cards_dealt"}}}]}, "version": "1.0.0"});
    let done = actions(&mut script, json!([{"SWML": event}, {"SWML": event}, {"say": "Your cards."}]));
    assert_eq!(done, [AgentAction::Say("Your cards.".to_owned())]);
    assert!(!script.returns);
}

#[test]
fn a_transfer_has_a_destination() {
    let mut script = looking(json!({}));
    for action in
        [json!({"transfer": "+15551230001"}), json!({"transfer": {"dest": "+15551230001", "summarize": true}})]
    {
        let done = actions(&mut script, json!([action]));
        assert_eq!(outcome(&done).then, Some(Continuation::Destination("+15551230001".to_owned())));
    }
    let done = actions(&mut script, json!([{"stop": true}]));
    assert_eq!(outcome(&done).then, None);
}

#[test]
fn a_context_switch_replaces_the_prompt_and_may_forget_the_dialogue() {
    let mut script = looking(json!({}));
    let done = actions(
        &mut script,
        json!([{"context_switch": {"system_prompt": "You are support for ${caller_id_name}.", "user_prompt": "My bike broke."}}]),
    );
    assert_eq!(done, [AgentAction::UserInput("My bike broke.".to_owned())]);
    assert_eq!(script.turn(now()).prompt, "You are support for Ann.");
    let done = actions(
        &mut script,
        json!([{"context_switch": {"system_pom": [{"body": "Pay."}], "user_prompt": "Hi", "full_reset": true}}]),
    );
    let [AgentAction::ReplaceHistory(messages)] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!((messages[0].role, &*messages[0].text), (MessageRole::User, "Hi"));
    assert_eq!(script.turn(now()).prompt, "Pay.");
}

#[test]
fn steps_change_the_prompt_and_the_functions() {
    let contexts = json!({"default": {"steps": [
        {"name": "one", "text": "Ask the name.", "functions": ["look"]},
        {"name": "two", "text": "Offer ${shop}.", "functions": ["other"]},
        {"name": "three", "text": "End.", "functions": []}]}});
    let mut script = looking(json!({"prompt": {"text": "Base.", "contexts": contexts},
        "SWAIG": {"functions": [{"function": "look", "web_hook_url": "http://h/"}, {"function": "other", "web_hook_url": "http://h/"}],
            "internal_fillers": {"next_step": {"en-US": ["Right."]}}}}));
    assert_eq!(offered(&mut script), ["look", "next_step", "hangup"]);
    let moved = result_of(script.call(&call("next_step", &json!({"step": "two"})), now()));
    assert_eq!(moved.actions, [AgentAction::SayUnlessSaid("Right.".to_owned())]);
    assert_eq!(offered(&mut script), ["other", "next_step", "hangup"]);
    let prompt = script.turn(now()).prompt;
    assert!(prompt.starts_with("Base.\n\n") && prompt.contains("Offer bikes."), "{prompt}");
    actions_of_other(&mut script, json!([{"change_step": "three"}]));
    assert_eq!(offered(&mut script), ["hangup"]);
    assert!(script.turn(now()).prompt.contains("End."));
}

fn actions_of_other(script: &mut AiScript, action: Json) {
    request_of(script.call(&call("other", &json!({})), now()));
    let body = json!({"response": "x", "action": action}).to_string();
    result_of(script.answered("call_1", Ok(&response(200, &body)), now()));
}

#[test]
fn a_hold_ends_in_the_step_that_belongs_to_its_end() {
    let contexts = json!({"default": {"steps": [{"name": "one", "text": "1"}, {"name": "back", "text": "2"}, {"name": "late", "text": "3"}]}});
    for (seconds, step) in [(10, "back"), (100, "late")] {
        let mut script = looking(json!({"prompt": {"text": "x", "contexts": contexts}}));
        actions(&mut script, json!([{"hold": {"timeout": 60, "step": "back", "timeout_step": "late"}}]));
        script.turn(now() + Duration::from_secs(seconds));
        let place = script.definition.contexts.place(script.saved.position.as_ref().unwrap());
        assert_eq!(place.1, Some(step));
    }
}

#[test]
fn the_step_after_a_hold_waits_for_the_reply_before_the_hold() {
    let contexts = json!({"default": {"steps": [{"name": "one", "text": "1"}, {"name": "back", "text": "2"}]}});
    let mut script = looking(json!({"prompt": {"text": "x", "contexts": contexts}}));
    let step = |script: &AiScript| {
        let position = script.saved.position.as_ref().unwrap();
        script.definition.contexts.place(position).1.map(str::to_owned)
    };
    let hold = json!([{"hold": {"timeout": 60, "step": "back"}}]);
    look(&mut script, &json!({"response": "Say so.", "action": hold, "post_process": true}));
    script.turn(now());
    assert_eq!(step(&script).as_deref(), Some("one"), "the model says that the caller is on hold");
    script.turn(now() + Duration::from_secs(59));
    assert_eq!(step(&script).as_deref(), Some("back"));
}

#[test]
fn gathered_answers_are_in_the_global_data() {
    let contexts = json!({"default": {"steps": [{"name": "ask", "text": "Use ${profile.name}.", "gather_info": {"output_key": "profile",
        "questions": [{"key": "name", "question": "Your name?"}, {"key": "age", "question": "Your age?", "type": "integer"}]}}]}});
    let mut script = looking(json!({"prompt": {"text": "Base.", "contexts": contexts}}));
    assert_eq!(offered(&mut script), ["gather_submit"]);
    result_of(script.call(&call("gather_submit", &json!({"answer": "Bo"})), now()));
    result_of(script.call(&call("gather_submit", &json!({"answer": 7})), now()));
    assert_eq!(script.saved.global_data["profile"], json!({"name": "Bo", "age": 7}));
    assert!(script.turn(now()).prompt.contains("Use Bo."));
    assert_eq!(offered(&mut script), ["look", "other", "hangup"]);
}

#[test]
fn native_functions_need_no_web_server() {
    let mut script = script(json!({"prompt": "x", "params": {"local_tz": "UTC"},
        "SWAIG": {"native_functions": ["check_time", "wait_seconds", "wait_for_user", "adjust_response_latency"],
            "internal_fillers": {"hangup": {"en-US": ["Bye."]}}}}));
    let mut run = |name: &str, arguments: Json| result_of(script.call(&call(name, &arguments), now()));
    assert!(run("check_time", json!({})).text.unwrap().contains("February 03, 2026, 15:04:05"));
    assert_eq!(run("wait_seconds", json!({"seconds": 5})).actions, [AgentAction::Hold(Some(Duration::from_secs(5)))]);
    assert_eq!(run("wait_for_user", json!({})).actions, [AgentAction::WaitForCaller(true)]);
    assert!(matches!(
        run("adjust_response_latency", json!({"milliseconds": 900})).actions[0],
        AgentAction::SetTimes(_)
    ));
    let bye = AgentAction::SayUnlessSaid("Bye.".to_owned());
    assert_eq!(run("hangup", json!({})).actions, [bye, AgentAction::HangUp]);
}

#[test]
fn a_function_with_a_data_map_asks_the_other_web_server_itself() {
    let map = json!({"webhooks": [{"url": "https://api.test/${args.city}?k=${meta_data.key}", "method": "GET",
        "output": {"response": "${temp} degrees for ${input.caller_id_num}", "action": [{"set_global_data": {"city": "${input.args.city}"}}]}}],
        "output": {"response": "No weather."}});
    let mut script = script(json!({"prompt": "x", "SWAIG": {"functions": [
        {"function": "weather", "description": "d", "meta_data": {"key": "7"}, "data_map": map}]}}));
    let request = request_of(script.call(&call("weather", &json!({"city": "Rome"})), now()));
    assert_eq!((request.request.method.as_str(), &*request.request.url), ("GET", "https://api.test/Rome?k=7"));
    assert!(!request.request.headers.iter().any(|(name, _)| name.to_lowercase().contains("signature")));
    let result = result_of(script.answered("call_1", Ok(&response(200, "{\"temp\":21}")), now()));
    assert_eq!(result.text.unwrap(), "21 degrees for +15551230009");
    assert_eq!(script.saved.global_data["city"], "Rome");
    request_of(script.call(&call("weather", &json!({"city": "Rome"})), now()));
    let failed = result_of(script.answered("call_1", Err("no connection".to_owned()), now()));
    assert_eq!(failed.text.unwrap(), "No weather.");
}

#[test]
fn functions_of_other_web_servers_are_asked_for_at_the_start() {
    let mut script = script(json!({"prompt": "x", "SWAIG": {
        "includes": [{"url": "http://u:p@far/swaig", "functions": ["far"], "meta_data": {"k": 1}}],
        "functions": [{"function": "startup_hook", "description": "d", "web_hook_url": "http://h/"}]}}));
    let requests = script.begin(now());
    assert_eq!(requests.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["startup_hook", "include-0"]);
    assert_eq!(body_of(&requests[0])["function"], "startup_hook");
    assert_eq!(body_of(&requests[1])["action"], "get_signature");
    let answer = response(
        200,
        r#"[{"function":"far","description":"d"},{"function":"more","description":"d"},{"function":"?"}]"#,
    );
    let result = result_of(script.answered("include-0", Ok(&answer), now()));
    assert!(warning(&result.actions).contains("SWAIG.includes: http://far/swaig: function \"?\""), "{result:?}");
    let started = json!({"action": [{"set_global_data": {"known": true}}]}).to_string();
    result_of(script.answered("startup_hook", Ok(&response(200, &started)), now()));
    assert_eq!(script.saved.global_data["known"], true);
    assert_eq!(offered(&mut script), ["far", "more", "hangup"]);
    let request = request_of(script.call(&call("far", &json!({})), now()));
    assert_eq!((request.request.url.as_str(), &body_of(&request)["meta_data"]), ("http://far/swaig", &json!({"k": 1})));
}

#[test]
fn the_report_after_the_conversation_has_the_summary_the_lines_and_the_calls() {
    let mut script = looking(
        json!({"post_prompt": {"text": "Summarise as JSON.", "temperature": 0.1}, "post_prompt_url": "http://u:p@h/post"}),
    );
    script.begin(now());
    look(&mut script, &json!({"response": "found"}));
    let question = script.end_question(EndReason::Caller, now()).unwrap();
    assert_eq!((question.prompt.as_str(), &question.model["temperature"]), ("Summarise as JSON.", &json!(0.1)));
    let line = |kind: LineKind, text: &str| DialogueLine { at: now(), kind, text: text.to_owned() };
    let agent =
        LineKind::Agent { latency: Some(Duration::from_millis(500)), calls: vec![call("look", &json!({"what": "x"}))] };
    let dialogue = [
        line(LineKind::Caller, "Hi"),
        line(agent, "Hello there"),
        line(LineKind::Tool { id: "call_1".to_owned() }, "found"),
    ];
    let end = ConversationSummary {
        why: EndReason::Caller,
        began: now(),
        ended: now() + Duration::from_secs(90),
        dialogue: &dialogue,
        answer: Some(Ok("{\"topic\":\"bikes\"}".to_owned())),
    };
    let requests = script.end_report(&end, now());
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(request.request.url, "http://h/post");
    let body = body_of(request);
    assert_eq!(body["post_prompt_data"]["parsed"], json!([{"topic": "bikes"}]));
    assert_eq!(body["call_id"], "call");
    assert_eq!(body["call_ended_by"], "user");
    let roles: Vec<_> =
        body["call_log"].as_array().unwrap().iter().map(|entry| entry["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool"]);
    assert_eq!(body["call_log"][0]["content"], "You help Ann.");
    assert_eq!(body["call_log"][2]["tool_calls"][0]["function"]["name"], "look");
    assert_eq!(body["call_log"][3]["function_name"], "look");
    let logged = &body["swaig_log"][0];
    assert_eq!((&logged["command_name"], &logged["post_response"]["response"]), (&json!("look"), &json!("found")));
    let absent = ["version", "hard_timeout", "conversation_id", "previous_contexts"];
    assert!(absent.iter().all(|name| body.get(name).is_none()), "{body}");
    assert!(["native", "active_count"].iter().all(|name| logged.get(name).is_none()), "{logged}");
    assert_eq!(body["times"][0]["response_word_count"], 2);
    assert_eq!(body["total_minutes"], 1.5);
    assert_eq!(body["SWMLVars"]["plan"], "gold");
}

#[test]
fn each_answer_is_logged_at_its_own_call_also_when_a_function_runs_twice_at_once() {
    let mut script = looking(json!({}));
    for id in ["1", "2"] {
        let call = ScriptCall { id: id.to_owned(), name: "look".to_owned(), arguments: format!("{{\"what\":{id}}}") };
        request_of(script.call(&call, now()));
    }
    for id in ["2", "1"] {
        result_of(script.answered(id, Ok(&response(200, &json!({"response": id}).to_string())), now()));
    }
    let of = |place: usize| {
        (script.saved.log[place]["command_arg"].clone(), script.saved.log[place]["post_response"]["response"].clone())
    };
    assert_eq!((of(0), of(1)), ((json!("{\"what\":1}"), json!("1")), (json!("{\"what\":2}"), json!("2"))));
}

#[test]
fn the_log_of_functions_keeps_the_newest_calls_with_their_answers_and_their_counts() {
    let mut script = looking(json!({}));
    actions(&mut script, json!([{"toggle_functions": [{"function": "look", "active": 200}]}]));
    for place in 0..150 {
        look(&mut script, &json!({"response": place}));
    }
    assert_eq!(script.saved.log.len(), 100);
    let last = script.saved.log.last().unwrap();
    assert_eq!((&last["post_response"]["response"], &last["active_count"]), (&json!(149), &json!(50)));
    result_of(script.call(&call("hangup", &json!({})), now()));
    assert_eq!(script.saved.log.last().unwrap()["native"], true);
}

#[test]
fn the_report_says_that_the_time_was_over_and_names_nobody_while_the_call_goes_on() {
    let mut script = looking(json!({"params": {"hard_stop_time": "60s"}, "post_prompt_url": "http://h/"}));
    let mut report = |why: EndReason, seconds: u64| {
        let ended = now() + Duration::from_secs(seconds);
        let end = ConversationSummary { why, began: now(), ended, dialogue: &[], answer: None };
        body_of(&script.end_report(&end, ended)[0])
    };
    let late = report(EndReason::TimedOut, 61);
    assert_eq!((&late["hard_timeout"], late.get("call_ended_by")), (&json!(true), None));
    assert!(report(EndReason::TimedOut, 20).get("hard_timeout").is_none());
    assert_eq!(report(EndReason::HungUp, 61)["call_ended_by"], "assistant");
    assert!(report(EndReason::Stopped, 20).get("call_ended_by").is_none());
}

#[test]
fn hooks_at_the_end_are_functions_of_the_document() {
    let hook = |name: &str| json!({"function": name, "description": "d", "web_hook_url": "http://h/"});
    let mut script =
        script(json!({"prompt": "x", "SWAIG": {"functions": [hook("hangup_hook"), hook("summarize_conversation")]}}));
    assert_eq!(offered(&mut script), ["hangup"]);
    assert!(script.end_question(EndReason::HungUp, now()).is_some());
    let end = ConversationSummary {
        why: EndReason::HungUp,
        began: now(),
        ended: now(),
        dialogue: &[],
        answer: Some(Ok("short".to_owned())),
    };
    let requests = script.end_report(&end, now());
    assert_eq!(
        requests.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["summarize_conversation", "hangup_hook"]
    );
    assert_eq!(body_of(&requests[0])["argument"]["parsed"], json!([{"summary": "short"}]));
}

#[test]
fn the_settings_follow_the_parameters() {
    let params = json!({"wait_for_user": true, "attention_timeout": 10_000, "inactivity_timeout": 40_000, "hard_stop_time": "5m",
        "end_of_speech_timeout": 800, "enable_barge": false});
    let settings = looking(json!({ "params": params })).settings();
    assert_eq!(settings.opening, Opening::WaitForCaller);
    assert_eq!(settings.times.silence, Some(Duration::from_secs(10)));
    assert_eq!(settings.times.silence_prompts, Some(3));
    assert_eq!(settings.times.longest, Some(Duration::from_secs(300)));
    assert_eq!(settings.times.end_of_speech, Some(Duration::from_millis(800)));
    assert_eq!(settings.interrupted_by, Some(tandem_call::conversation::Inputs::NONE));
    assert_eq!(looking(json!({})).settings().opening, Opening::Model);
}

#[test]
fn another_agent_of_the_call_gets_the_global_data() {
    let seed = Seed {
        ai: json!({"prompt": "x", "global_data": {"a": 1, "b": 1}}),
        global_data: json!({"b": 2}).as_object().unwrap().clone(),
        ..Seed::default()
    };
    assert_eq!(Json::Object(seeded(seed).saved.global_data), with_caller(json!({"a": 1, "b": 2})));
}

#[test]
fn an_application_sets_global_data_of_a_running_agent() {
    let mut script = looking(json!({}));
    assert!(script.request(r#"{"global_data":{"x":1}}"#, now()).is_empty());
    script.request("{", now());
    assert_eq!(script.saved.global_data["x"], 1);
    let reset = script.request(r#"{"reset":{"system_prompt":"New.","user_prompt":"Hi","full_reset":true}}"#, now());
    assert!(matches!(reset.as_slice(), [AgentAction::ReplaceHistory(_)]), "{reset:?}");
    assert_eq!(script.turn(now()).prompt, "New.");
}
