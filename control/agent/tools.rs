//! The script of an agent that the configuration defines: its prompt and its tools. An agent that a document defines has a script of
//! a dialect instead.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_call::address::Address;
use tandem_call::conversation::AgentSpec;
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::program::instruction::{AfterBridge, Dial, DialTarget, Instruction, Program};
use tandem_dialect::agent::{
    AfterRun, AgentAction, AgentScript, Fillers, Response, ScriptCall, ScriptRequest, ScriptResult, ScriptStep,
    ScriptTool, ToolFault, TurnSettings,
};
use tandem_http::{Request, Timeouts};
use url::Url;

use super::config::{AgentConfig, HttpTool, PhraseConfig, ToolConfig};
use super::schema::{drop_undeclared, fault};

/// Maximum length of a tool's result for the model, in octets.
const LONGEST_RESULT: usize = 8 * 1024;
/// Maximum length of a web server's response, in octets.
pub(super) const LARGEST: usize = 256 * 1024;
/// Maximum ringing time of the destination of a transfer.
const RINGING: Duration = Duration::from_secs(30);
/// Name of the tool that ends a conversation whose purpose is to collect values.
pub(super) const COLLECTED: &str = "collected";
/// Name of the tool that reports the values so far.
pub(super) const COLLECTED_SO_FAR: &str = "collected_so_far";

/// The script of an agent of the configuration.
#[derive(Debug)]
pub(super) struct ConfiguredScript {
    prompt: Arc<str>,
    tools: Vec<ToolConfig>,
    /// The schema of the values that the conversation collects.
    collects: Option<Value>,
    /// The schema of the values that are known so far, if these are reported.
    collects_so_far: Option<Value>,
    closing_message: Option<Arc<str>>,
    phrases: PhraseConfig,
}

impl ConfiguredScript {
    /// Creates the script. The settings in `spec` take precedence over the configuration.
    pub(super) fn new(config: &AgentConfig, spec: &AgentSpec) -> Self {
        let collects: Option<Value> = spec.collect_schema.as_ref().and_then(|text| serde_json::from_str(text).ok());
        let collects_so_far = collects.as_ref().filter(|_| spec.reports_partial_results).map(without_required);
        Self {
            prompt: spec.prompt.clone().or_else(|| config.prompt.clone()).unwrap_or_default(),
            tools: config.tools.clone(),
            collects,
            collects_so_far,
            closing_message: spec.closing_message.clone(),
            phrases: config.phrases.clone(),
        }
    }

    fn described(&self) -> Vec<ScriptTool> {
        let own = |name: &str, about: &str, schema: &Value| ScriptTool {
            name: name.to_owned(),
            description: about.to_owned(),
            parameters: schema.clone(),
            ..ScriptTool::default()
        };
        let collected = self.collects.iter().map(|schema| {
            let about = "Call this as soon as you know all of these values. The conversation ends then.";
            own(COLLECTED, about, schema)
        });
        let so_far = self.collects_so_far.iter().map(|schema| {
            let about = "Call this each time the caller has given or corrected a value, with all values that you know so far. Ask for the next value in the same answer.";
            own(COLLECTED_SO_FAR, about, schema)
        });
        self.tools.iter().map(described).chain(collected).chain(so_far).collect()
    }

    /// Returns the step of a call of the tool that collects values.
    fn collect(&self, name: &str, arguments: &mut Value) -> Option<ScriptStep> {
        let (schema, is_final) = match name {
            COLLECTED => (self.collects.as_ref()?, true),
            COLLECTED_SO_FAR => (self.collects_so_far.as_ref()?, false),
            _ => return None,
        };
        drop_undeclared(schema, arguments);
        if let Some(fault) = fault(schema, arguments) {
            return Some(ScriptStep::refused(fault));
        }
        let values = arguments.to_string();
        Some(match is_final {
            true => {
                let closing = self.closing_message.iter().map(|text| AgentAction::Say(text.to_string()));
                done("thank you", closing.chain([AgentAction::Stop(Some(values))]))
            }
            false => done("noted", [AgentAction::ReportPartialResult(values)]),
        })
    }
}

impl AgentScript for ConfiguredScript {
    fn turn(&mut self, _: Timestamp) -> TurnSettings {
        TurnSettings { prompt: self.prompt.to_string(), tools: self.described(), model: Map::new() }
    }

    fn call(&mut self, call: &ScriptCall, _: Timestamp) -> ScriptStep {
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let arguments: Map<String, Value> = match serde_json::from_str(text) {
            Ok(arguments) => arguments,
            Err(error) => return ScriptStep::refused(format!("the arguments are no JSON object: {error}")),
        };
        let mut arguments = Value::Object(arguments);
        if let Some(step) = self.collect(&call.name, &mut arguments) {
            return step;
        }
        let Some(tool) = self.tools.iter().find(|tool| tool.name() == call.name) else {
            return ScriptStep::refused(format!("there is no tool {:?}", call.name));
        };
        let schema = schema(tool);
        drop_undeclared(&schema, &mut arguments);
        if let Some(fault) = fault(&schema, &arguments) {
            return ScriptStep::refused(fault);
        }
        let Value::Object(arguments) = arguments else { return ScriptStep::refused("not an object") };
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match tool {
            ToolConfig::HangUp => {
                let goodbye = AgentAction::SayUnlessSaid(self.phrases.goodbye.to_string());
                done("the call ends", [goodbye, AgentAction::HangUp])
            }
            ToolConfig::SendDigits => {
                let digits = text("digits");
                let fits =
                    (1..=64).contains(&digits.len()) && digits.chars().all(|one| "0123456789*#ABCDw".contains(one));
                match fits {
                    true => done("pressed", [AgentAction::SendDigits(digits)]),
                    false => ScriptStep::refused("digits are 0-9, *, #, and w for a pause"),
                }
            }
            ToolConfig::Record => {
                let on = arguments.get("on").and_then(Value::as_bool).unwrap_or(true);
                done("done", [AgentAction::Record(on)])
            }
            ToolConfig::Transfer(to) => match to.get_key_value(&text("to")) {
                Some((name, place)) => {
                    let phrase = AgentAction::SayUnlessSaid(self.phrases.transfer.to_string());
                    let event = format!(
                        "The caller was to be connected with {name}, but nobody answered. Tell the caller, and go on."
                    );
                    let then = AfterRun::Return { event: Some(event) };
                    let program = Box::new(transfer(place.0.clone()));
                    done("the caller is being connected", [phrase, AgentAction::Run { program, then }])
                }
                None => ScriptStep::refused("there is no such destination"),
            },
            ToolConfig::Http(tool) => {
                ScriptStep::Request(ScriptRequest { id: call.id.clone(), request: tool_request(tool, arguments) })
            }
        }
    }

    fn answered(&mut self, _: &str, answer: Result<&Response, String>, _: Timestamp) -> ScriptStep {
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => return ScriptStep::failed(why),
        };
        let text = limited(String::from_utf8_lossy(&answer.body).into_owned());
        match answer.status {
            200..300 => ScriptStep::text(text),
            status => ScriptStep::failed(format!("status {status}: {text}")),
        }
    }
}

/// Limits the result of a tool to the length that a model gets.
fn limited(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_RESULT));
    text
}

/// The result of a tool in the form that a model gets.
pub(super) fn for_model(result: Result<String, String>) -> String {
    match result {
        Ok(text) => limited(text),
        Err(why) => json!({ "error": limited(why) }).to_string(),
    }
}

/// The failure of a tool, if its result is one that the call's problems show.
pub(super) fn failure(text: &Result<String, ToolFault>) -> Option<EngineFailure> {
    match text {
        Err(ToolFault::Failed(why)) => Some(EngineFailure::new(Engine::Tool, why)),
        _ => None,
    }
}

/// A successful result with actions.
fn done(text: &str, actions: impl IntoIterator<Item = AgentAction>) -> ScriptStep {
    let actions = actions.into_iter().collect();
    ScriptStep::Result(ScriptResult { text: Ok(text.to_owned()), actions, ..ScriptResult::default() })
}

/// Returns the JSON schema of a tool's arguments.
fn schema(tool: &ToolConfig) -> Value {
    let object = |properties: Value| {
        let required: Vec<String> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
    };
    match tool {
        ToolConfig::HangUp => object(json!({})),
        ToolConfig::SendDigits => object(json!({ "digits": { "type": "string" } })),
        ToolConfig::Record => object(json!({ "on": { "type": "boolean" } })),
        ToolConfig::Transfer(to) => {
            let names: Vec<&String> = to.keys().collect();
            object(json!({ "to": { "type": "string", "enum": names } }))
        }
        ToolConfig::Http(tool) => tool.parameters.clone(),
    }
}

fn described(tool: &ToolConfig) -> ScriptTool {
    let about = match tool {
        ToolConfig::HangUp => {
            "End the call. Only when the caller has said goodbye or has nothing more to ask. Say goodbye in the same answer."
        }
        ToolConfig::SendDigits => "Press keys of the telephone.",
        ToolConfig::Record => "Begin (on: true) or end (on: false) a recording of the call.",
        ToolConfig::Transfer(_) => "Connect the caller with somebody else. You leave the call.",
        ToolConfig::Http(tool) => &tool.description,
    };
    let fillers = match tool {
        ToolConfig::Http(tool) => Fillers::of_each_language(tool.say.iter().map(ToString::to_string)),
        _ => Fillers::default(),
    };
    ScriptTool {
        name: tool.name().to_owned(),
        description: about.to_owned(),
        parameters: schema(tool),
        fillers,
        ..ScriptTool::default()
    }
}

/// Returns the description of a tool in the JSON format of the model's API.
pub(super) fn function(tool: &ScriptTool) -> Value {
    let ScriptTool { name, description, parameters, .. } = tool;
    json!({ "type": "function", "function": { "name": name, "description": description, "parameters": parameters } })
}

/// Returns the schema of an object whose members may all be missing.
fn without_required(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema {
        members.remove("required");
    }
    schema
}

/// Returns the request of a tool.
fn tool_request(tool: &HttpTool, arguments: Map<String, Value>) -> Request {
    let (url, body) = request_of(tool, arguments);
    let mut headers: Vec<(String, String)> =
        tool.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    if body.is_some() {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    Request {
        method: tool.method.clone(),
        url: url.into(),
        headers,
        body: body.unwrap_or_default().into(),
        timeouts: Timeouts { connect: None, total: tool.timeout },
        max_body: LARGEST,
    }
}

/// Returns the URL and the body of a tool's request. A GET or DELETE request has no body, and its arguments are in the
/// query. The operator's query in the URL of the tool wins: an argument with a name of this query is left out.
fn request_of(tool: &HttpTool, mut arguments: Map<String, Value>) -> (Url, Option<String>) {
    let mut url = tool.url.clone();
    for (name, _) in tool.url.query_pairs() {
        arguments.remove(&*name);
    }
    if !matches!(tool.method, Method::GET | Method::DELETE) {
        return (url, Some(Value::Object(arguments).to_string()));
    }
    for (name, value) in &arguments {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        url.query_pairs_mut().append_pair(name, &text);
    }
    (url, None)
}

/// Creates a program that transfers the caller.
pub(super) fn transfer(to: Address) -> Program {
    let dial = Dial {
        ring_tone: Some("us".to_owned()),
        after: AfterBridge::Hangup,
        ..Dial::new(vec![DialTarget::new(to)], RINGING)
    };
    Program { instructions: vec![Instruction::Dial(dial)], warnings: Vec::new() }
}

/// The program that connects the caller with the fallback `to` after the failure of an engine. If the fallback does not
/// answer, the call ends because of the failure.
pub(super) fn fall_back(to: Address, failure: EngineFailure) -> Program {
    let mut program = transfer(to);
    program.instructions.push(give_up(failure));
    program
}

/// The instruction that ends the call because of the failure of an engine.
pub(super) fn give_up(failure: EngineFailure) -> Instruction {
    Instruction::GiveUp(Box::new(failure.with_effect(EngineEffect::Fatal)))
}

#[cfg(test)]
mod tests {
    use tandem_dialect::agent::ToolFault;

    use super::super::chat::ToolCall;
    use super::*;

    fn tools(text: &str, collects: Option<&str>) -> ConfiguredScript {
        let config = format!(r#"{{"name":"a","model":{{"url":"http://127.0.0.1/v1"}},"tools":{text}}}"#);
        let config: AgentConfig = serde_json::from_str(&config).unwrap();
        let spec = AgentSpec {
            collect_schema: collects.map(Into::into),
            reports_partial_results: true,
            ..AgentSpec::default()
        };
        ConfiguredScript::new(&config, &spec)
    }

    fn step(script: &mut ConfiguredScript, call: &ToolCall) -> ScriptStep {
        script.call(call, Timestamp::UNIX_EPOCH)
    }

    /// Returns the reason why a call was refused.
    fn refusal(step: ScriptStep) -> Option<String> {
        match step {
            ScriptStep::Result(ScriptResult { text: Err(ToolFault::Refused(why)), .. }) => Some(why),
            _ => None,
        }
    }

    fn actions(step: ScriptStep) -> Vec<AgentAction> {
        match step {
            ScriptStep::Result(result) => result.actions,
            ScriptStep::Request(_) => panic!("a request"),
        }
    }

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: "1".into(), name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn a_transfer_goes_to_configured_destinations_only() {
        let mut tools = tools(r#"["hang_up", { "name": "transfer", "to": { "sales": "+15551230001" } }]"#, None);
        assert_eq!(tools.described()[1].parameters["properties"]["to"]["enum"], json!(["sales"]));
        let mut transfer = |arguments: &str| step(&mut tools, &call("transfer", arguments));
        match &actions(transfer(r#"{"to":"sales"}"#))[..] {
            [
                AgentAction::SayUnlessSaid(_),
                AgentAction::Run { program, then: AfterRun::Return { event: Some(event) } },
            ] => {
                assert_eq!(**program, super::transfer(Address::from("+15551230001")));
                assert!(event.contains("sales"), "{event}");
            }
            actions => panic!("{actions:?}"),
        }
        assert!(refusal(transfer(r#"{"to":"+4479"}"#)).is_some());
        assert!(refusal(transfer("{")).is_some());
        assert_eq!(actions(step(&mut tools, &call("hang_up", ""))).last(), Some(&AgentAction::HangUp));
        assert!(refusal(step(&mut tools, &call("rm", "{}"))).is_some());
    }

    #[test]
    fn arguments_of_a_tool_call_are_checked_against_their_schema() {
        let mut tools = tools(
            r#"[{ "name": "order", "url": "http://127.0.0.1/", "parameters": { "number": { "type": "integer" }, "kind": { "enum": ["a", "b"] } } }]"#,
            None,
        );
        let mut why = |arguments: &str| refusal(step(&mut tools, &call("order", arguments))).unwrap_or_default();
        assert_eq!(why(r#"{"kind":"a"}"#), "\"number\" is missing");
        assert_eq!(why(r#"{"kind":"a","number":"7"}"#), "number: \"7\" is not of type integer");
        assert_eq!(why(r#"{"kind":"c","number":7}"#), "kind: \"c\" is none of [\"a\",\"b\"]");
        assert_eq!(why(r#"{"kind":"a","number":7}"#), "");
    }

    #[test]
    fn undeclared_arguments_of_a_tool_call_are_dropped() {
        let ask = |table: Value, arguments: Value| {
            let mut tools = tools(&json!([table]).to_string(), None);
            match step(&mut tools, &call("t", &arguments.to_string())) {
                ScriptStep::Request(ScriptRequest { request, .. }) => {
                    (request.url, String::from_utf8(request.body.to_vec()).unwrap())
                }
                step => panic!("{step:?}"),
            }
        };
        let id = json!({ "id": { "type": "string" } });
        for method in ["GET", "DELETE", "POST", "PUT"] {
            let table = json!({ "name": "t", "url": "http://h/?tenant=acme", "method": method, "parameters": id });
            let (url, body) = ask(table, json!({ "id": "7", "tenant": "evil", "admin": true }));
            let in_query = matches!(method, "GET" | "DELETE");
            assert_eq!(url, if in_query { "http://h/?tenant=acme&id=7" } else { "http://h/?tenant=acme" });
            assert_eq!(body, if in_query { "" } else { r#"{"id":"7"}"# });
        }
        // The URL decides also if the operator declares the name a second time.
        let tenant = json!({ "tenant": { "type": "string" }, "id": { "type": "string" } });
        let table = json!({ "name": "t", "url": "http://h/?%74enant=acme", "method": "GET", "parameters": tenant });
        let (url, _) = ask(table, json!({ "id": "7", "tenant": "evil" }));
        assert_eq!(url, "http://h/?%74enant=acme&id=7");
        // Members are dropped at every depth.
        let schema = json!({ "type": "object", "properties": {
            "who": { "type": "object", "properties": { "name": { "type": "string" } } },
            "all": { "type": "array", "items": { "type": "object", "properties": { "n": { "type": "integer" } } } },
            "free": { "type": "object" },
            "map": { "type": "object", "additionalProperties": { "type": "object", "properties": { "a": {} } } },
        } });
        let given = json!({
            "who": { "name": "x", "role": "admin" }, "all": [{ "n": 1, "m": 2 }], "free": { "any": 1 },
            "map": { "k": { "a": 1, "b": 2 } }, "more": 1,
        });
        let table = json!({ "name": "t", "url": "http://h/", "parameters": schema });
        let kept =
            json!({ "who": { "name": "x" }, "all": [{ "n": 1 }], "free": { "any": 1 }, "map": { "k": { "a": 1 } } });
        assert_eq!(serde_json::from_str::<Value>(&ask(table, given).1).unwrap(), kept);
        // A tool without parameters gets none.
        assert_eq!(ask(json!({ "name": "t", "url": "http://h/" }), json!({ "x": 1 })).1, "{}");
        assert_eq!(
            ask(json!({ "name": "t", "url": "http://h/", "parameters": { "type": "object" } }), json!({ "x": 1 })).1,
            "{}"
        );
    }

    #[test]
    fn incomplete_collected_values_are_refused() {
        let schema = r#"{"type":"object","required":["age"],"properties":{"age":{"type":"integer"}}}"#;
        let mut tools = tools("[]", Some(schema));
        assert!(refusal(step(&mut tools, &call(COLLECTED, "{}"))).is_some());
        let collected = actions(step(&mut tools, &call(COLLECTED, r#"{"age":3}"#)));
        assert_eq!(collected, [AgentAction::Stop(Some(r#"{"age":3}"#.to_owned()))]);
        assert_eq!(tools.described()[0].name, COLLECTED);
        // A value may still be missing in a report of the values so far, but its type is checked.
        let so_far = |arguments: &str| call(COLLECTED_SO_FAR, arguments);
        assert_eq!(actions(step(&mut tools, &so_far("{}"))), [AgentAction::ReportPartialResult("{}".to_owned())]);
        assert!(refusal(step(&mut tools, &so_far(r#"{"age":"old"}"#))).is_some());
    }

    #[test]
    fn an_invalid_tool_is_refused_with_advice() {
        let why = |text: &str| serde_json::from_str::<Vec<ToolConfig>>(text).unwrap_err().to_string();
        assert!(why(r#"["hangup"]"#).contains("is not a built-in tool (hang_up, transfer, send_digits, record)"));
        assert!(why(r#"["transfer"]"#).contains("destinations"));
        assert!(why(r#"[{ "name": "a b", "url": "http://x/" }]"#).contains("a-z"));
    }
}
