//! The tools of an agent: the description of each tool for the model, and the action of each tool call.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Map, Value, json};
use tandem_call::address::Address;
use tandem_call::conversation::AgentSpec;
use tandem_call::engine::{EngineEffect, EngineFailure};
use tandem_call::program::instruction::{AfterBridge, Dial, DialTarget, Instruction, Program};
use tandem_http::{Client, Request, Timeouts};
use tandem_routing::agent_program;
use url::Url;

use super::chat::ToolCall;
use super::config::{HttpTool, ToolConfig};

/// Maximum length of a tool's result for the model, in octets.
const LONGEST_RESULT: usize = 8 * 1024;
/// Maximum length of a web server's response, in octets.
const LARGEST: usize = 256 * 1024;
/// Maximum ringing time of the destination of a transfer.
const RINGING: Duration = Duration::from_secs(30);
/// Name of the tool that ends a conversation whose purpose is to collect values.
pub(super) const COLLECTED: &str = "collected";

/// The action that a tool call requests.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ToolAction {
    /// End the call.
    HangUp,
    /// Send these DTMF digits to the caller.
    SendDigits(String),
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    /// Transfer the caller to the destination with this name.
    Transfer(String, Address),
    /// Send a request to a web server, with these arguments.
    Ask(Arc<HttpTool>, Map<String, Value>),
    /// End the conversation, because the model knows all values to collect.
    Collected(Value),
    /// No action, because the tool call is not possible. The text is the reason, for the model.
    Refused(String),
}

/// The tools of one conversation.
#[derive(Debug)]
pub(super) struct Tools {
    all: Vec<Tool>,
    collects: Option<Value>,
}

#[derive(Debug)]
enum Tool {
    Own(ToolConfig),
    Http(Arc<HttpTool>),
}

impl Tools {
    /// Creates the tools from the configuration. `collects` is the JSON schema of the values that the conversation
    /// collects.
    pub(super) fn new(all: &[ToolConfig], collects: Option<&str>) -> Self {
        let tool = |one: &ToolConfig| match one {
            ToolConfig::Http(tool) => Tool::Http(Arc::new((**tool).clone())),
            own => Tool::Own(own.clone()),
        };
        let collects = collects.and_then(|text| serde_json::from_str(text).ok());
        Self { all: all.iter().map(tool).collect(), collects }
    }

    /// Returns the descriptions of the tools, in the JSON format of the model's API.
    pub(super) fn described(&self) -> Vec<Value> {
        let collected = self.collects.iter().map(|schema| {
            function(
                COLLECTED,
                "Call this as soon as you know all of these values. The conversation ends then.",
                schema.clone(),
            )
        });
        self.all.iter().map(Tool::described).chain(collected).collect()
    }

    /// Returns the phrase that the agent says when this tool starts.
    pub(super) fn says(&self, name: &str) -> Option<Arc<str>> {
        self.all.iter().find_map(|tool| match tool {
            Tool::Http(tool) if &*tool.name == name => tool.say.clone(),
            _ => None,
        })
    }

    /// Converts a tool call to an action, and checks the arguments against the schema of the tool.
    pub(super) fn action(&self, call: &ToolCall) -> ToolAction {
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let arguments: Map<String, Value> = match serde_json::from_str(text) {
            Ok(arguments) => arguments,
            Err(error) => return ToolAction::Refused(format!("the arguments are no JSON object: {error}")),
        };
        let mut arguments = Value::Object(arguments);
        if let Some(schema) = self.collects.as_ref().filter(|_| call.name == COLLECTED) {
            drop_undeclared(schema, &mut arguments);
            return match fault(schema, &arguments) {
                None => ToolAction::Collected(arguments),
                Some(fault) => ToolAction::Refused(fault),
            };
        }
        let Some(tool) = self.all.iter().find(|tool| tool.name() == call.name) else {
            return ToolAction::Refused(format!("there is no tool {:?}", call.name));
        };
        let schema = tool.schema();
        drop_undeclared(&schema, &mut arguments);
        if let Some(fault) = fault(&schema, &arguments) {
            return ToolAction::Refused(fault);
        }
        let Value::Object(arguments) = arguments else { return ToolAction::Refused("not an object".to_owned()) };
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match tool {
            Tool::Own(ToolConfig::HangUp) => ToolAction::HangUp,
            Tool::Own(ToolConfig::SendDigits) => {
                let digits = text("digits");
                let fits =
                    (1..=64).contains(&digits.len()) && digits.chars().all(|one| "0123456789*#ABCDw".contains(one));
                if fits {
                    ToolAction::SendDigits(digits)
                } else {
                    ToolAction::Refused("digits are 0-9, *, #, and w for a pause".to_owned())
                }
            }
            Tool::Own(ToolConfig::Record) => {
                ToolAction::Record(arguments.get("on").and_then(Value::as_bool).unwrap_or(true))
            }
            Tool::Own(ToolConfig::Transfer(to)) => match to.get_key_value(&text("to")) {
                Some((name, place)) => ToolAction::Transfer(name.clone(), place.0.clone()),
                None => ToolAction::Refused("there is no such destination".to_owned()),
            },
            Tool::Http(tool) => ToolAction::Ask(Arc::clone(tool), arguments),
            // Never reached, because `Tools::new` stores such a tool as `Tool::Http`.
            Tool::Own(ToolConfig::Http(_)) => ToolAction::Refused("there is no such tool".to_owned()),
        }
    }
}

impl Tool {
    fn name(&self) -> &str {
        match self {
            Self::Own(tool) => tool.name(),
            Self::Http(tool) => &tool.name,
        }
    }

    fn schema(&self) -> Value {
        let object = |properties: Value| {
            let required: Vec<String> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
            json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
        };
        match self {
            Self::Own(ToolConfig::HangUp) => object(json!({})),
            Self::Own(ToolConfig::SendDigits) => object(json!({ "digits": { "type": "string" } })),
            Self::Own(ToolConfig::Record) => object(json!({ "on": { "type": "boolean" } })),
            Self::Own(ToolConfig::Transfer(to)) => {
                let names: Vec<&String> = to.keys().collect();
                object(json!({ "to": { "type": "string", "enum": names } }))
            }
            Self::Own(ToolConfig::Http(tool)) => tool.parameters.clone(),
            Self::Http(tool) => tool.parameters.clone(),
        }
    }

    fn described(&self) -> Value {
        let about = match self {
            Self::Own(ToolConfig::HangUp) => {
                "End the call. Only when the caller has said goodbye or has nothing more to ask. Say goodbye in the same answer."
            }
            Self::Own(ToolConfig::SendDigits) => "Press keys of the telephone.",
            Self::Own(ToolConfig::Record) => "Begin (on: true) or end (on: false) a recording of the call.",
            Self::Own(ToolConfig::Transfer(_)) => "Connect the caller with somebody else. You leave the call.",
            Self::Own(ToolConfig::Http(tool)) => &tool.description,
            Self::Http(tool) => &tool.description,
        };
        function(self.name(), about, self.schema())
    }
}

fn function(name: &str, about: &str, parameters: Value) -> Value {
    json!({ "type": "function", "function": { "name": name, "description": about, "parameters": parameters } })
}

/// Drops the members that no schema declares, at every depth: the caller may have persuaded the model to add them. The
/// members of an object without `properties` are not known, so an inner object of this kind keeps all its members. So
/// does an object whose schema allows `additionalProperties`.
fn drop_undeclared(schema: &Value, value: &mut Value) {
    drop_members(schema, value, true);
}

fn drop_members(schema: &Value, value: &mut Value, is_outer: bool) {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let others = schema.get("additionalProperties").filter(|others| **others != Value::Bool(false));
            if others.is_none() && (properties.is_some() || is_outer) {
                members.retain(|name, _| properties.is_some_and(|properties| properties.contains_key(name)));
            }
            for (name, member) in members {
                let own = properties.and_then(|properties| properties.get(name)).or(others);
                own.into_iter().for_each(|own| drop_members(own, member, false));
            }
        }
        Value::Array(items) => {
            let own = schema.get("items").into_iter();
            own.for_each(|own| items.iter_mut().for_each(|item| drop_members(own, item, false)));
        }
        _ => {}
    }
}

/// Checks a value against a schema. Returns a text about the first violation, or `None` if there is no violation. The
/// function checks types, `required` and `enum`, in objects and arrays. The web server of the tool checks the other
/// keywords of JSON Schema.
fn fault(schema: &Value, value: &Value) -> Option<String> {
    let fits = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => true,
    };
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| fits(kind)) {
        return Some(format!("{value} is not of type {}", kinds.join(" or ")));
    }
    if let Some(Value::Array(choices)) = schema.get("enum")
        && !choices.contains(value)
    {
        return Some(format!("{value} is none of {}", Value::Array(choices.clone())));
    }
    let named = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if let Value::Object(object) = value {
        if let Some(missing) = named("required").find(|name| !object.contains_key(*name)) {
            return Some(format!("{missing:?} is missing"));
        }
        let properties = schema.get("properties")?.as_object()?;
        return object.iter().find_map(|(name, value)| {
            let why = fault(properties.get(name)?, value)?;
            Some(format!("{name}: {why}"))
        });
    }
    let items = schema.get("items")?;
    value.as_array()?.iter().find_map(|item| fault(items, item))
}

/// Sends the request of a tool. Returns a text for the model that describes the response.
pub async fn call_tool(client: Client, tool: Arc<HttpTool>, arguments: Map<String, Value>) -> Result<String, String> {
    let (url, body) = request_of(&tool, arguments);
    let mut headers: Vec<(String, String)> =
        tool.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    if body.is_some() {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    let request = Request {
        method: tool.method.clone(),
        url: url.into(),
        headers,
        body: body.unwrap_or_default().into(),
        timeouts: Timeouts { connect: None, total: tool.timeout },
        max_body: LARGEST,
    };
    let answer = client.send(&request).await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&answer.body);
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= LONGEST_RESULT).unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default();
    if (200..300).contains(&answer.status) {
        Ok(text.to_owned())
    } else {
        Err(format!("status {}: {text}", answer.status))
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

/// Creates a program that transfers the caller. If the destination does not answer, the agent `then` continues. If
/// `then` is `None`, the call ends.
pub(super) fn transfer(to: Address, then: Option<AgentSpec>) -> Program {
    let dial = Dial {
        ring_tone: Some("us".to_owned()),
        after: AfterBridge::Hangup,
        ..Dial::new(vec![DialTarget::new(to)], RINGING)
    };
    let then = then.map(|agent| agent_program(agent).instructions).unwrap_or_default();
    Program { instructions: [Instruction::Dial(dial)].into_iter().chain(then).collect(), warnings: Vec::new() }
}

/// The program that connects the caller with the fallback `to` after the failure of an engine. If the fallback does not
/// answer, the call ends because of the failure.
pub(super) fn fall_back(to: Address, failure: EngineFailure) -> Program {
    let mut program = transfer(to, None);
    program.instructions.push(give_up(failure));
    program
}

/// The instruction that ends the call because of the failure of an engine.
pub(super) fn give_up(failure: EngineFailure) -> Instruction {
    Instruction::GiveUp(Box::new(failure.with_effect(EngineEffect::Fatal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(text: &str, collects: Option<&str>) -> Tools {
        let all: Vec<ToolConfig> = serde_json::from_str(text).unwrap();
        Tools::new(&all, collects)
    }

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: "1".into(), name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn a_transfer_goes_to_configured_destinations_only() {
        let tools = tools(r#"["hang_up", { "name": "transfer", "to": { "sales": "+15551230001" } }]"#, None);
        let action = |arguments: &str| tools.action(&call("transfer", arguments));
        assert_eq!(action(r#"{"to":"sales"}"#), ToolAction::Transfer("sales".into(), Address::from("+15551230001")));
        assert!(matches!(action(r#"{"to":"+4479"}"#), ToolAction::Refused(_)));
        assert!(matches!(action("{"), ToolAction::Refused(_)));
        assert_eq!(tools.action(&call("hang_up", "")), ToolAction::HangUp);
        assert!(matches!(tools.action(&call("rm", "{}")), ToolAction::Refused(_)));
        assert_eq!(tools.described()[1]["function"]["parameters"]["properties"]["to"]["enum"], json!(["sales"]));
    }

    #[test]
    fn arguments_of_a_tool_call_are_checked_against_their_schema() {
        let tools = tools(
            r#"[{ "name": "order", "url": "http://127.0.0.1/", "parameters": { "number": { "type": "integer" }, "kind": { "enum": ["a", "b"] } } }]"#,
            None,
        );
        let why = |arguments: &str| match tools.action(&call("order", arguments)) {
            ToolAction::Refused(why) => why,
            action => format!("{action:?}"),
        };
        assert_eq!(why(r#"{"kind":"a"}"#), "\"number\" is missing");
        assert_eq!(why(r#"{"kind":"a","number":"7"}"#), "number: \"7\" is not of type integer");
        assert_eq!(why(r#"{"kind":"c","number":7}"#), "kind: \"c\" is none of [\"a\",\"b\"]");
        assert!(why(r#"{"kind":"a","number":7}"#).starts_with("Ask("));
    }

    #[test]
    fn undeclared_arguments_of_a_tool_call_are_dropped() {
        let ask = |table: Value, arguments: Value| {
            let tools = tools(&json!([table]).to_string(), None);
            match tools.action(&call("t", &arguments.to_string())) {
                ToolAction::Ask(tool, arguments) => {
                    let (url, body) = request_of(&tool, arguments);
                    (url.to_string(), body.unwrap_or_default())
                }
                action => panic!("{action:?}"),
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
        let tools = tools("[]", Some(schema));
        assert!(matches!(tools.action(&call(COLLECTED, "{}")), ToolAction::Refused(_)));
        assert_eq!(tools.action(&call(COLLECTED, r#"{"age":3}"#)), ToolAction::Collected(json!({ "age": 3 })));
        assert_eq!(tools.described()[0]["function"]["name"], COLLECTED);
    }

    #[test]
    fn an_invalid_tool_is_refused_with_advice() {
        let why = |text: &str| serde_json::from_str::<Vec<ToolConfig>>(text).unwrap_err().to_string();
        assert!(why(r#"["hangup"]"#).contains("is not a built-in tool (hang_up, transfer, send_digits, record)"));
        assert!(why(r#"["transfer"]"#).contains("destinations"));
        assert!(why(r#"[{ "name": "a b", "url": "http://x/" }]"#).contains("a-z"));
    }
}
