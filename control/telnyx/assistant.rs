//! AI assistants: an agent that an account has stored by request, or that a command or a document defines. The definition
//! is Telnyx's JSON.
//!
//! ```text
//!   definition ──► Assistant (a script): prompt with variables, tools ──► engine ──► the model
//!   tool call ──► tool.rs ──► a signed request to a web server, a transfer, a hang-up ...
//! ```
#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is null")]

pub(crate) mod tool;
pub(crate) mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_call::leg::LegInfo;
use tandem_dialect::agent::{
    AgentAction, AgentScript, AgentSettings, AgentTimes, Opening, Request, Response, ScriptCall, ScriptRequest,
    ScriptResult, ScriptStep, ScriptTool, ToolFault, TurnSettings,
};
use tandem_dialect::script::Timeouts;

use self::tool::{Called, Tool};
use self::variables::Variables;
use super::{id, sign, time};

/// Id of the request for variables at the start of the conversation.
const VARIABLES: &str = "dynamic_variables";
/// Time limit of the request for variables, if the definition has none.
const VARIABLES_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Maximum size of a web server's answer, in octets.
pub(crate) const LARGEST_ANSWER: usize = 256 * 1024;
/// Maximum number of words and phrases that the caller is likely to say.
const MAX_HINTS: usize = 100;
/// The greeting with which the model writes the first words.
const MODEL_GREETING: &str = "<assistant-speaks-first-with-model-generated-message>";
/// The input with which the model writes the first words, after the request for variables.
const CALL_BEGINS: &str = "[The call has begun.]";
/// Name of the tool that ends a conversation whose purpose is to collect values.
const COLLECTED: &str = "collected";
/// Name of the tool that reports the values so far.
const COLLECTED_SO_FAR: &str = "collected_so_far";

/// The script of one assistant in one conversation.
pub struct Assistant {
    account: Arc<Account>,
    prompt: String,
    greeting: Option<String>,
    tools: Vec<Tool>,
    variables: Variables,
    /// The values that take precedence over those of a web server: of the request, of the SIP header fields, and the facts
    /// about the call.
    precedence: [Value; 3],
    variables_url: Option<(String, Duration)>,
    /// The JSON schema of the values to collect.
    collect: Option<Value>,
    reports_partial_results: bool,
    definition: Value,
    /// The names of the webhook tools whose requests run, by the id of the tool call.
    running: BTreeMap<String, String>,
}

impl Assistant {
    /// Creates the script from its definition: an assistant, or `{"assistant": {...}, "variables": {...}, "collect":
    /// {...}, "partial_results": false}`. All members besides `assistant` are optional. `assistant` is an assistant as in
    /// `/v2/ai/assistants`. `variables` has the values of this conversation. `collect` is the JSON schema of values that
    /// the agent asks for.
    ///
    /// # Errors
    /// Returns the reason why the definition is not valid.
    pub fn new(account: &Account, leg: &LegInfo, definition: &str) -> Result<Self, String> {
        let mut definition: Value = serde_json::from_str(definition).map_err(|why| format!("it is not JSON: {why}"))?;
        if !definition["assistant"].is_object() {
            definition = json!({ "assistant": definition });
        }
        let assistant = &definition["assistant"];
        let text = |name: &str| assistant[name].as_str().unwrap_or_default().to_owned();
        let mut facts = variables::facts(leg);
        if let Some(id) = assistant["id"].as_str() {
            facts.insert("assistant_id".to_owned(), id.into());
        }
        let headers = Value::Object(variables::of_headers(leg));
        let precedence = [headers, definition["variables"].clone(), Value::Object(facts)];
        // The present time is set before each use. Only the greeting may need the time before.
        let mut variables = Variables::new(leg.answered_at.unwrap_or(leg.created_at));
        variables.add(&assistant["dynamic_variables"]);
        precedence.iter().for_each(|values| variables.add(values));
        let given = assistant["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        let tools = given.iter().map(Tool::parse).collect::<Result<Vec<_>, _>>()?;
        let url = assistant["dynamic_variables_webhook_url"].as_str().filter(|url| !url.is_empty());
        let timeout = assistant["dynamic_variables_webhook_timeout_ms"].as_u64().map(Duration::from_millis);
        Ok(Self {
            account: Arc::new(account.clone()),
            prompt: text("instructions"),
            greeting: assistant["greeting"].as_str().map(str::to_owned),
            tools,
            variables,
            precedence,
            variables_url: url.map(|url| (url.to_owned(), timeout.unwrap_or(VARIABLES_TIMEOUT))),
            collect: definition.get("collect").filter(|schema| schema.is_object()).cloned(),
            reports_partial_results: definition["partial_results"].as_bool().unwrap_or(false),
            definition,
            running: BTreeMap::new(),
        })
    }

    fn opening(&self) -> Opening {
        let interruptions = &self.definition["assistant"]["interruption_settings"];
        let interruptible = interruptions["disable_greeting_interruption"] != true;
        match self.greeting.as_deref().map(|text| self.variables.filled(text)) {
            None => Opening::Configured,
            Some(text) if text.trim().is_empty() => Opening::WaitForCaller,
            Some(text) if text.trim() == MODEL_GREETING => Opening::Model,
            Some(text) => Opening::Say { text, interruptible },
        }
    }

    /// The words and phrases that the caller is likely to say, from the settings of the recognition.
    fn hints(&self) -> Vec<String> {
        let settings = &self.definition["assistant"]["transcription"]["settings"];
        let texts = ["keyterm", "context"].iter().filter_map(|name| settings[*name].as_str());
        let filled = texts.map(|text| self.variables.filled(text)).collect::<Vec<_>>().join(",");
        let hints = filled.split(',').map(str::trim).filter(|hint| !hint.is_empty());
        hints.take(MAX_HINTS).map(str::to_owned).collect()
    }

    /// The times in `telephony_settings`.
    fn times(&self) -> AgentTimes {
        let settings = &self.definition["assistant"]["telephony_settings"];
        let seconds = |name: &str| settings[name].as_u64().filter(|seconds| (1..=86_400).contains(seconds));
        let (reply, over) = (seconds("user_idle_reply_secs"), seconds("user_idle_timeout_secs"));
        // Each question to a silent caller comes after the same time.
        let prompts = reply.zip(over).map(|(reply, over)| u32::try_from(over / reply).unwrap_or(10).saturating_sub(1));
        AgentTimes {
            silence: reply.or(over).map(Duration::from_secs),
            silence_prompts: prompts.map(|prompts| prompts.min(10)).or(over.filter(|_| reply.is_none()).map(|_| 0)),
            longest: seconds("time_limit_secs").map(Duration::from_secs),
            ..AgentTimes::default()
        }
    }

    /// A request with Telnyx's signature.
    pub(crate) fn signed(
        account: &Account,
        method: Method,
        url: String,
        mut headers: Vec<(String, String)>,
        body: Vec<u8>,
        timeout: Duration,
        now: Timestamp,
    ) -> Request {
        // A tool may give its own media type, but not the sender and the signature.
        let is_own =
            |name: &str| name.eq_ignore_ascii_case("user-agent") || name.to_ascii_lowercase().starts_with("telnyx-");
        headers.retain(|(name, _)| !is_own(name));
        let has_type = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !body.is_empty() && !has_type {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        headers.push(("User-Agent".to_owned(), "telnyx-webhooks".to_owned()));
        if let Some(Ok(signature)) = account.telnyx.as_ref().map(|own| sign::headers(own, now, &body)) {
            headers.extend(signature);
        }
        let timeouts = Timeouts { connect: None, total: timeout };
        Request { method, url, headers, body: Bytes::from(body), timeouts, max_body: LARGEST_ANSWER }
    }

    /// The answer to the request for variables. The greeting follows it, because the greeting may contain the variables.
    fn take_variables(&mut self, answer: Result<&Response, String>) -> ScriptStep {
        let body = answer.ok().filter(|answer| (200..300).contains(&answer.status));
        let body: Option<Value> = body.and_then(|answer| serde_json::from_slice(&answer.body).ok());
        if let Some(body) = body {
            self.variables.add(&body["dynamic_variables"]);
            self.precedence.iter().for_each(|values| self.variables.add(values));
        }
        let greeting = match self.opening() {
            Opening::Say { text, .. } => Some(AgentAction::Say(text)),
            // Nobody has spoken. Without an input, the model would not write the first words.
            Opening::Model => Some(AgentAction::UserInput(CALL_BEGINS.to_owned())),
            Opening::Configured | Opening::WaitForCaller => None,
        };
        ScriptStep::Result(ScriptResult { actions: greeting.into_iter().collect(), ..ScriptResult::default() })
    }

    /// A call of the tools that collect values. `None` if the call is another tool.
    fn collected(&self, call: &ScriptCall) -> Option<ScriptStep> {
        let schema = self.collect.as_ref()?;
        let ends = call.name == COLLECTED;
        let reports = self.reports_partial_results && call.name == COLLECTED_SO_FAR;
        if !(ends || reports) {
            return None;
        }
        let values: Map<String, Value> = match serde_json::from_str(&call.arguments) {
            Ok(values) => values,
            Err(why) => return Some(ScriptStep::refused(format!("the arguments are no JSON object: {why}"))),
        };
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let missing: Vec<&str> = required.filter(|name| values.get(*name).is_none_or(Value::is_null)).collect();
        if ends && !missing.is_empty() {
            return Some(ScriptStep::refused(format!("these values are missing: {}", missing.join(", "))));
        }
        let values = Value::Object(values).to_string();
        let action = if ends { AgentAction::Stop(Some(values)) } else { AgentAction::ReportPartialResult(values) };
        Some(ScriptStep::Result(ScriptResult {
            text: Ok("ok".to_owned()),
            actions: vec![action],
            ..ScriptResult::default()
        }))
    }
}

impl AgentScript for Assistant {
    fn settings(&self) -> AgentSettings {
        // The greeting waits for the variables.
        let opening = if self.variables_url.is_some() { Opening::WaitForCaller } else { self.opening() };
        AgentSettings {
            opening,
            hints: self.hints(),
            times: self.times(),
            keeps_call: true,
            ..AgentSettings::default()
        }
    }

    fn begin(&mut self, now: Timestamp) -> Vec<ScriptRequest> {
        self.variables.now = now;
        let Some((url, timeout)) = self.variables_url.clone() else { return Vec::new() };
        let [.., facts] = &self.precedence;
        let data = json!({
            "record_type": "event",
            "id": id::uuid_v4(rand::random()),
            "event_type": "assistant.initialization",
            "occurred_at": time(now),
            "payload": facts,
        });
        let body = json!({ "data": data }).to_string().into_bytes();
        let request = Self::signed(&self.account, Method::POST, url, Vec::new(), body, timeout, now);
        vec![ScriptRequest { id: VARIABLES.to_owned(), request }]
    }

    fn turn(&mut self, now: Timestamp) -> TurnSettings {
        self.variables.now = now;
        let mut tools: Vec<ScriptTool> = self.tools.iter().map(|tool| tool.described(&self.variables)).collect();
        if let Some(schema) = &self.collect {
            tools.push(ScriptTool {
                name: COLLECTED.to_owned(),
                description: "Call this as soon as you know all of these values. The conversation ends then."
                    .to_owned(),
                parameters: schema.clone(),
                ..ScriptTool::default()
            });
            if self.reports_partial_results {
                let mut optional = schema.clone();
                optional.as_object_mut().map(|schema| schema.remove("required"));
                tools.push(ScriptTool {
                    name: COLLECTED_SO_FAR.to_owned(),
                    description:
                        "Call this each time the caller has given or corrected a value, with all values that you \
                                  know so far. Ask for the next value in the same answer."
                            .to_owned(),
                    parameters: optional,
                    ..ScriptTool::default()
                });
            }
        }
        TurnSettings { prompt: self.variables.filled(&self.prompt), tools, ..TurnSettings::default() }
    }

    fn call(&mut self, call: &ScriptCall, now: Timestamp) -> ScriptStep {
        self.variables.now = now;
        if let Some(step) = self.collected(call) {
            return step;
        }
        let Some(tool) = self.tools.iter().find(|tool| tool.name() == call.name) else {
            return ScriptStep::refused(format!("there is no tool {:?}", call.name));
        };
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let arguments: Map<String, Value> = match serde_json::from_str(text) {
            Ok(arguments) => arguments,
            Err(why) => return ScriptStep::refused(format!("the arguments are no JSON object: {why}")),
        };
        match tool.call(&self.account, &arguments, &mut self.variables, now) {
            Called::Request(request) => {
                self.running.insert(call.id.clone(), call.name.clone());
                ScriptStep::Request(ScriptRequest { id: call.id.clone(), request })
            }
            Called::Actions(text, actions) => {
                ScriptStep::Result(ScriptResult { text: Ok(text), actions, ..ScriptResult::default() })
            }
            Called::Refused(why) => ScriptStep::refused(why),
        }
    }

    fn answered(&mut self, id: &str, answer: Result<&Response, String>, now: Timestamp) -> ScriptStep {
        self.variables.now = now;
        if id == VARIABLES && self.variables_url.is_some() {
            return self.take_variables(answer);
        }
        let name = self.running.remove(id).unwrap_or_default();
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => return ScriptStep::failed(why),
        };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if !(200..300).contains(&answer.status) {
            let text = Err(ToolFault::Failed(format!("the web server answered {}: {text}", answer.status)));
            return ScriptStep::Result(ScriptResult { text, ..ScriptResult::default() });
        }
        if let Some(tool) = self.tools.iter().find(|tool| tool.name() == name) {
            self.variables.add(&Value::Object(tool.stored(&answer.body)));
        }
        ScriptStep::text(text)
    }

    /// The definition, with the present values of the variables and without a greeting.
    fn write(&self) -> Option<Arc<str>> {
        let mut definition = self.definition.clone();
        definition["variables"] = json!(self.variables.values());
        if let Some(assistant) = definition["assistant"].as_object_mut() {
            assistant.insert("greeting".to_owned(), "".into());
            assistant.remove("dynamic_variables_webhook_url");
        }
        Some(definition.to_string().into())
    }
}

/// Creates the script of an assistant.
///
/// # Errors
/// Returns the reason why the definition is not valid.
pub fn script(account: &Account, leg: &LegInfo, definition: &str) -> Result<Box<dyn AgentScript>, String> {
    Ok(Box::new(Assistant::new(account, leg, definition)?))
}

#[cfg(test)]
mod tests;
