//! The tools of an assistant: the description of each tool for the model, and the action of each tool call.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_call::program::instruction::{AfterBridge, Dial, DialTarget, Instruction, Program, Refer};
use tandem_dialect::agent::{AfterRun, AgentAction, Fillers, Request, ScriptTool};
use url::Url;

use super::Assistant;
use super::variables::Variables;

/// Time limit of the request of a webhook tool, if the tool has none.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest permitted time limit of a request.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of SIP header fields of a transfer.
const MAX_HEADERS: usize = 64;
/// Maximum length of the name of a SIP header field, in octets.
const LONGEST_HEADER_NAME: usize = 128;
/// Maximum length of the value of a SIP header field, in characters.
const LONGEST_HEADER_VALUE: usize = 2_048;
/// Maximum ringing time of the destination of a transfer.
const RINGING: Duration = Duration::from_secs(30);
/// The types of tools that Telnyx hosts, or that this server does not have.
const HOSTED: &[&str] = &[
    "book_appointment",
    "check_availability",
    "client_side_tool",
    "function",
    "handoff",
    "invite",
    "mcp_server",
    "pay",
    "retrieval",
    "send_message",
    "vision",
];

/// The names and values of SIP header fields. The values may contain variables.
type Headers = Vec<(String, String)>;

/// A tool of an assistant.
#[derive(Debug)]
pub(crate) enum Tool {
    Hangup { description: String },
    Transfer { description: String, from: Option<String>, targets: Vec<(String, String)>, headers: Headers },
    Refer { targets: Vec<(String, String)>, headers: Headers },
    SendDtmf,
    SkipTurn { description: String },
    UpdateVariables { name: String, description: String, names: Vec<String> },
    Webhook(Box<Webhook>),
}

/// A tool that sends a request to a web server.
#[derive(Debug)]
pub(crate) struct Webhook {
    name: String,
    description: String,
    url: String,
    method: Method,
    headers: Vec<(String, String)>,
    /// The JSON schemas of the arguments: in the path, in the query, in the body.
    parts: [Option<Value>; 3],
    preset_query: Map<String, Value>,
    preset_body: Map<String, Value>,
    timeout: Duration,
    say: Option<String>,
    /// Names of variables, each with the path of its value in the answer.
    stored: Vec<(String, String)>,
}

/// The result of a tool call.
pub(crate) enum Called {
    Request(Request),
    /// The text for the model, and the actions.
    Actions(String, Vec<AgentAction>),
    Refused(String),
}

impl Tool {
    /// Parses a tool.
    ///
    /// # Errors
    /// Returns the reason why the tool is not valid or not supported.
    pub(crate) fn parse(tool: &Value) -> Result<Self, String> {
        let kind = tool["type"].as_str().ok_or("a tool needs a 'type'")?;
        let about = &tool[kind];
        let text = |about: &Value, name: &str| about[name].as_str().unwrap_or_default().to_owned();
        let described = |default: &str| {
            let own = text(about, "description");
            if own.is_empty() { default.to_owned() } else { own }
        };
        if tool.to_string().contains("integration_secret") {
            return Err(format!("the {kind} tool uses an integration secret, and this server has none"));
        }
        match kind {
            "hangup" => Ok(Self::Hangup {
                description: described(
                    "End the call. Only when the caller has nothing more to ask. Say goodbye in the same answer.",
                ),
            }),
            "transfer" => {
                let targets = about
                    .get("targets")
                    .unwrap_or(about)
                    .as_array()
                    .ok_or("the transfer tool needs 'targets', an array (a variable is not supported)")?;
                let targets = named(targets, "to")?;
                if let Some((name, to)) = targets.iter().find(|(_, to)| !is_dialable(to)) {
                    return Err(format!(
                        "the target {name:?} of the transfer tool, {to:?}, is neither E.164 nor a SIP URI"
                    ));
                }
                let from = about["from"].as_str().filter(|from| !from.is_empty()).map(str::to_owned);
                let description = described("Connect the caller with somebody else. You leave the call.");
                Ok(Self::Transfer { description, from, targets, headers: sip_headers(about)? })
            }
            "refer" => {
                let targets = about["targets"].as_array().ok_or("the refer tool needs 'targets', an array")?;
                Ok(Self::Refer { targets: named(targets, "sip_address")?, headers: sip_headers(about)? })
            }
            "send_dtmf" => Ok(Self::SendDtmf),
            "skip_turn" => Ok(Self::SkipTurn { description: described("Say nothing now, and wait for the caller.") }),
            "update_dynamic_variables" => {
                let name = function_name(&text(about, "name"))?;
                let names = about["updatable_variables"].as_array().into_iter().flatten();
                let names: Vec<String> = names.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect();
                if names.is_empty() {
                    return Err(format!("the tool {name:?} needs 'updatable_variables'"));
                }
                let description = described("Store values for later in the conversation.");
                Ok(Self::UpdateVariables { name, description, names })
            }
            "webhook" => Webhook::parse(about, &tool["timeout_ms"]).map(|webhook| Self::Webhook(Box::new(webhook))),
            other if HOSTED.contains(&other) => Err(format!("the {other} tool is not available on this server")),
            other => Err(format!("there is no tool of type {other:?}")),
        }
    }

    /// The name of the tool for the model.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Hangup { .. } => "hangup",
            Self::Transfer { .. } => "transfer",
            Self::Refer { .. } => "refer",
            Self::SendDtmf => "send_dtmf",
            Self::SkipTurn { .. } => "skip_turn",
            Self::UpdateVariables { name, .. } => name,
            Self::Webhook(webhook) => &webhook.name,
        }
    }

    /// The description of the tool for the model.
    pub(crate) fn described(&self, variables: &Variables) -> ScriptTool {
        let object = |properties: Value| {
            let required: Vec<String> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
            json!({ "type": "object", "properties": properties, "required": required })
        };
        let one_of = |targets: &[(String, String)]| {
            let names: Vec<&String> = targets.iter().map(|(name, _)| name).collect();
            object(json!({ "target": { "type": "string", "enum": names } }))
        };
        let (description, parameters) = match self {
            Self::Hangup { description } | Self::SkipTurn { description } => (description.as_str(), object(json!({}))),
            Self::Transfer { description, targets, .. } => (description.as_str(), one_of(targets)),
            Self::Refer { targets, .. } => {
                ("Transfer the caller to another SIP address. You leave the call.", one_of(targets))
            }
            Self::SendDtmf => ("Press keys of the telephone.", object(json!({ "digits": { "type": "string" } }))),
            Self::UpdateVariables { description, names, .. } => {
                let properties: Map<String, Value> =
                    names.iter().map(|name| (name.clone(), json!({ "type": "string" }))).collect();
                (description.as_str(), json!({ "type": "object", "properties": properties }))
            }
            Self::Webhook(webhook) => (webhook.description.as_str(), webhook.schema()),
        };
        let say = match self {
            Self::Webhook(webhook) => webhook.say.clone(),
            _ => None,
        };
        ScriptTool {
            name: self.name().to_owned(),
            description: variables.filled(description),
            parameters,
            fillers: Fillers::of_each_language(say.map(|text| variables.filled(&text))),
            wait_file: None,
        }
    }

    /// Runs a call of the model.
    pub(crate) fn call(
        &self,
        account: &Account,
        arguments: &Map<String, Value>,
        variables: &mut Variables,
        now: Timestamp,
    ) -> Called {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        let chosen = |targets: &[(String, String)]| {
            let only = (targets.len() == 1).then(|| targets.first()).flatten();
            targets.iter().find(|(name, _)| name == text("target")).or(only).cloned()
        };
        let leave = |program: Program, event: String| AgentAction::Run {
            program: Box::new(program),
            then: AfterRun::Return { event: Some(event) },
        };
        match self {
            Self::Hangup { .. } => Called::Actions("ok".to_owned(), vec![AgentAction::HangUp]),
            Self::SkipTurn { .. } => Called::Actions("ok".to_owned(), vec![AgentAction::WaitForCaller(true)]),
            Self::SendDtmf => {
                let digits = text("digits");
                let fits = (1..=64).contains(&digits.len()) && digits.chars().all(|c| "0123456789*#ABCDwW".contains(c));
                match fits {
                    true => Called::Actions("ok".to_owned(), vec![AgentAction::SendDigits(digits.replace('W', "ww"))]),
                    false => Called::Refused("digits are 0-9, *, #, A-D, and w for a pause".to_owned()),
                }
            }
            Self::Transfer { targets, from, headers, .. } => match chosen(targets) {
                Some((name, to)) => {
                    let event = format!("[The transfer to {name} was not answered.]");
                    let from = from.as_deref().map(|from| variables.filled(from));
                    let to = DialTarget {
                        headers: header_fields(headers, variables),
                        ..DialTarget::new(Address::from(&*variables.filled(&to)))
                    };
                    Called::Actions("ok".to_owned(), vec![leave(transfer(to, from.as_deref()), event)])
                }
                None => Called::Refused("there is no such target".to_owned()),
            },
            Self::Refer { targets, headers } => match chosen(targets) {
                Some((name, to)) => {
                    let headers = header_fields(headers, variables);
                    let refer = Refer { to: variables.filled(&to), headers, action: None };
                    let program = Program { instructions: vec![Instruction::Refer(refer)], warnings: Vec::new() };
                    let event = format!("[The transfer to {name} failed.]");
                    Called::Actions("ok".to_owned(), vec![leave(program, event)])
                }
                None => Called::Refused("there is no such target".to_owned()),
            },
            Self::UpdateVariables { names, .. } => {
                let mut known = arguments.clone();
                known.retain(|name, _| names.contains(name));
                variables.add(&Value::Object(known));
                Called::Actions("ok".to_owned(), Vec::new())
            }
            Self::Webhook(webhook) => webhook.request(account, arguments, variables, now),
        }
    }

    /// The variables in a web server's answer.
    pub(crate) fn stored(&self, body: &[u8]) -> Map<String, Value> {
        let Self::Webhook(webhook) = self else { return Map::new() };
        if webhook.stored.is_empty() {
            return Map::new();
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let value = |path: &str| body.pointer(&format!("/{}", path.replace('.', "/"))).cloned();
        webhook.stored.iter().filter_map(|(name, path)| Some((name.clone(), value(path)?))).collect()
    }
}

impl Webhook {
    fn parse(about: &Value, timeout_ms: &Value) -> Result<Self, String> {
        let text = |name: &str| about[name].as_str().unwrap_or_default().to_owned();
        let (name, url) = (function_name(&text("name"))?, text("url"));
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(format!("the url of the webhook tool {name:?} is neither http nor https"));
        }
        if about["async"] == true {
            return Err(format!("the webhook tool {name:?} is async, which is not available on this server"));
        }
        let method = about["method"].as_str().unwrap_or("POST");
        let method = match method {
            "GET" | "POST" | "PUT" | "PATCH" | "DELETE" => method.parse::<Method>().map_err(|why| why.to_string())?,
            other => return Err(format!("the webhook tool {name:?} has the unknown method {other:?}")),
        };
        let header = |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned()));
        let headers = about["headers"].as_array().into_iter().flatten().filter_map(header).collect();
        let part = |name: &str| about.get(name).filter(|schema| schema["properties"].is_object()).cloned();
        let members = |name: &str| about[name].as_object().cloned().unwrap_or_default();
        let timeout = timeout_ms.as_u64().map(Duration::from_millis);
        // The published name is `messages`. Telnyx's samples also write `filler_messages`.
        let messages = ["messages", "filler_messages"].iter().find_map(|name| about[*name].as_array());
        // The agent has phrases of its own for a slow answer (`request_response_delayed`).
        let at_once = |message: &&Value| message["type"].as_str().is_none_or(|kind| kind == "request_start");
        let stored = about["store_fields_as_variables"].as_array().into_iter().flatten();
        let stored =
            stored.filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["value_path"].as_str()?.to_owned())));
        Ok(Self {
            description: text("description"),
            method,
            headers,
            parts: [part("path_parameters"), part("query_parameters"), part("body_parameters")],
            preset_query: members("preset_query_params"),
            preset_body: members("preset_body_fields"),
            timeout: timeout.unwrap_or(TIMEOUT).clamp(Duration::from_millis(500), MAX_TIMEOUT),
            say: messages
                .into_iter()
                .flatten()
                .find(at_once)
                .and_then(|one| one["content"].as_str())
                .map(str::to_owned),
            stored: stored.collect(),
            name,
            url,
        })
    }

    /// The JSON schema of all arguments.
    fn schema(&self) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for part in self.parts.iter().flatten() {
            for (name, schema) in part["properties"].as_object().into_iter().flatten() {
                properties.insert(name.clone(), schema.clone());
            }
            required.extend(part["required"].as_array().into_iter().flatten().cloned());
        }
        json!({ "type": "object", "properties": properties, "required": required })
    }

    fn request(
        &self,
        account: &Account,
        arguments: &Map<String, Value>,
        variables: &Variables,
        now: Timestamp,
    ) -> Called {
        let has =
            |part: &Option<Value>, name: &str| part.as_ref().is_some_and(|part| part["properties"].get(name).is_some());
        let written = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let [path, query, body] = &self.parts;
        let mut url = self.url.clone();
        for (name, value) in arguments.iter().filter(|(name, _)| has(path, name)) {
            let text = written(value);
            if matches!(text.as_str(), "." | "..") {
                // A URL has no other form for these segments, and they would lead to another path.
                return Called::Refused(format!("{name} cannot be {text:?}"));
            }
            url = url.replace(&format!("{{{name}}}"), &url_segment(&text));
        }
        let Ok(mut url) = Url::parse(&variables.filled(&url)) else {
            return Called::Refused(format!("the URL {url:?} is not valid"));
        };
        let is_preset = |presets: &Map<String, Value>, name: &str| presets.contains_key(name);
        let has_body = !matches!(self.method, Method::GET | Method::DELETE);
        // The model may write arguments that the tool does not have. They are dropped, unless the schema of the body allows them.
        let takes_more = body.as_ref().is_some_and(|body| body["additionalProperties"] == true);
        let in_body = |name: &str| has(body, name) || (takes_more && !has(query, name) && !has(path, name));
        // A request without a body has these arguments in its query.
        let in_query = |name: &str| has(query, name) || (!has_body && in_body(name));
        let own: Vec<(String, String)> = arguments
            .iter()
            .filter(|(name, _)| in_query(name) && !is_preset(&self.preset_query, name))
            .map(|(name, value)| (name.clone(), written(value)))
            .chain(self.preset_query.iter().map(|(name, value)| (name.clone(), variables.filled(&written(value)))))
            .collect();
        if !own.is_empty() {
            url.query_pairs_mut().extend_pairs(own);
        }
        let mut fields = Map::new();
        if has_body {
            fields.extend(
                arguments.iter().filter(|(name, _)| in_body(name)).map(|(name, value)| (name.clone(), value.clone())),
            );
            for (name, value) in &self.preset_body {
                let value = value.as_str().map_or_else(|| value.clone(), |text| variables.filled(text).into());
                fields.insert(name.clone(), value);
            }
        }
        let octets = if has_body { Value::Object(fields).to_string().into_bytes() } else { Vec::new() };
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), variables.filled(value))).collect();
        let method = self.method.clone();
        Called::Request(Assistant::signed(account, method, url.into(), headers, octets, self.timeout, now))
    }
}

/// Checks the name of a tool that an application has named.
fn function_name(name: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if fits {
        Ok(name.to_owned())
    } else {
        Err(format!("the name {name:?} of a tool is not 1 to 64 characters from a-z A-Z 0-9 _ -"))
    }
}

/// The targets of a transfer, each with its name. A target without a name has its destination as the name.
fn named(targets: &[Value], key: &str) -> Result<Vec<(String, String)>, String> {
    let one = |target: &Value| {
        let to = target[key].as_str().filter(|to| !to.is_empty()).ok_or_else(|| format!("a target needs '{key}'"))?;
        Ok((target["name"].as_str().unwrap_or(to).to_owned(), to.to_owned()))
    };
    if targets.is_empty() {
        return Err("a transfer needs a target".to_owned());
    }
    targets.iter().map(one).collect()
}

/// Whether a destination is an E.164 number, a SIP URI, or a variable.
fn is_dialable(to: &str) -> bool {
    match Address::from(to) {
        Address::Phone(number) => number.is_e164(),
        Address::Sip(_) => true,
        _ => to.contains("{{"),
    }
}

/// Reads the SIP header fields of a transfer.
fn sip_headers(about: &Value) -> Result<Headers, String> {
    let given = ["custom_headers", "sip_headers"].iter().filter_map(|name| about[*name].as_array()).flatten();
    let header = |header: &Value| {
        let name = header["name"].as_str().unwrap_or_default().to_owned();
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
        let fits = (1..=LONGEST_HEADER_NAME).contains(&name.len()) && name.bytes().all(is_token);
        match header["value"].as_str() {
            Some(value) if fits && !tandem_sip::is_own_header(&name) => Ok((name, value.to_owned())),
            _ => Err(format!("the SIP header field {name:?} of a transfer cannot be set")),
        }
    };
    let headers: Headers = given.map(header).collect::<Result<_, _>>()?;
    if headers.len() > MAX_HEADERS {
        return Err(format!("a transfer has at most {MAX_HEADERS} SIP header fields"));
    }
    Ok(headers)
}

/// The header fields with the values of their variables, which may come from a web server.
fn header_fields(headers: &[(String, String)], variables: &Variables) -> HeaderFields {
    let value = |text: &str| -> String {
        let filled = variables.filled(text);
        filled.chars().filter(|c| !c.is_control()).take(LONGEST_HEADER_VALUE).collect()
    };
    headers.iter().map(|(name, text)| (name.clone(), value(text))).collect()
}

/// The program that connects the caller with a destination.
fn transfer(to: DialTarget, from: Option<&str>) -> Program {
    let dial = Dial {
        ring_tone: Some("us".to_owned()),
        after: AfterBridge::Hangup,
        caller_id: from.map(Address::from),
        ..Dial::new(vec![to], RINGING)
    };
    Program { instructions: vec![Instruction::Dial(dial)], warnings: Vec::new() }
}

/// A value as one segment of a path.
fn url_segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
