//! The script of an agent: what the engine asks about an agent that a document defines.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use tandem_accounts::Account;
use tandem_call::conversation::Inputs;
use tandem_call::leg::LegInfo;
use tandem_dialect::agent::{
    AgentAction, AgentScript, AgentSettings, AgentTimes, ConversationSummary, EndQuestion, EndReason, Opening,
    ScriptCall, ScriptRequest, ScriptResult, ScriptStep, TurnSettings,
};
use tandem_dialect::script::{Request, Response, Timeouts};
use tandem_id::ConversationId;
use tandem_webhooks::{Body, SignInput};

use super::Seed;
use super::action::AfterHold;
use super::contexts::Position;
use super::data_map::{self, MapRequest, MapStep};
use super::definition::{Definition, MAX_FUNCTIONS};
use super::function::{Active, Function, RESERVED};
use super::payload::{Facts, response_text};
use super::template;
use crate::swml;

/// The variable of a document with the words that the agent says when it comes back.
const RETURN_WORDS: &str = "ai_response";
/// Maximum time of a request to a web server. The engine may have a lower limit.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The function that the server calls at the start.
const STARTUP: &str = "startup_hook";
/// The failure of a call whose function is gone.
const NO_FUNCTION: &str = "the function does not exist any more";
/// Maximum size of the answer of a web server, in octets.
const LARGEST_ANSWER: usize = 256 * 1024;
/// Maximum length of the arguments of a function, in octets.
const LONGEST_ARGUMENTS: usize = 64 * 1024;
/// Maximum number of warnings of one conversation.
const MAX_WARNINGS: usize = 50;

/// An agent that a document defines.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct AiScript {
    pub(super) definition: Definition,
    pub(super) seed: Seed,
    pub(super) facts: Facts,
    pub(super) saved: Saved,
    /// The functions of the document, and those of other web servers.
    pub(super) functions: Vec<Function>,
    /// The tool calls whose request is on its way, by id.
    pending: Vec<(String, Pending)>,
    /// Whether the agent comes back from a document.
    comes_back: bool,
    /// Whether the agent leaves for a document and comes back afterwards.
    pub(super) returns: bool,
    /// New warnings for the log of the call. The next actions of the agent have them, or the outcome.
    pub(super) warnings: Vec<String>,
    /// Whether the log has a warning about audio in the background.
    pub(super) warned_of_background: bool,
    /// Number of calls that `Saved::log` has lost, because they were the oldest.
    pub(super) lost_calls: usize,
}

/// The state of an agent that survives a document of an action.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The id of the conversation.
    pub(super) session: String,
    /// The system prompt that has replaced that of the document.
    pub(super) prompt: Option<String>,
    /// The system prompt of the context, in addition.
    pub(super) context_prompt: Option<String>,
    pub(super) global_data: Map<String, Json>,
    /// By token.
    pub(super) meta_data: BTreeMap<String, Map<String, Json>>,
    /// How often functions may be called, if this is not what the document says.
    #[serde(with = "active")]
    pub(super) active: BTreeMap<String, Active>,
    pub(super) position: Option<Position>,
    /// Fields of the requests to the model that have replaced those of the document.
    pub(super) model: Map<String, Json>,
    /// Hints that functions have added.
    pub(super) hints: Vec<String>,
    /// The calls of functions, for the report.
    pub(super) log: Vec<Json>,
    pub(super) began: Option<Timestamp>,
    pub(super) after_hold: Option<AfterHold>,
    /// The result of the function whose document runs. The model gets it when the agent comes back, until it calls a function.
    pub(super) returned: Option<String>,
}

mod active {
    //! `Active` as a number: -1 for always.
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Active;

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<String, Active>, serializer: S) -> Result<S::Ok, S::Error> {
        let number = |active: &Active| match active {
            Active::Always => -1,
            Active::Times(times) => i64::from(*times),
        };
        let map: BTreeMap<&String, i64> = map.iter().map(|(name, active)| (name, number(active))).collect();
        map.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Active>, D::Error> {
        let map = BTreeMap::<String, i64>::deserialize(deserializer)?;
        Ok(map
            .into_iter()
            .map(|(name, number)| (name, u32::try_from(number).map_or(Active::Always, Active::Times)))
            .collect())
    }
}

/// A tool call or another request whose answer is awaited.
#[derive(Clone, PartialEq, Debug)]
enum Pending {
    /// A function at a web server. `logged` is the number of the call in the report.
    Function { name: String, logged: usize },
    /// The webhook of a DataMap.
    Map { name: String, logged: usize, arguments: Json, webhook: usize },
    /// The signatures of the functions of the include with this index.
    Signatures(usize),
}

impl AiScript {
    /// Makes the script from a definition (`AgentSpec::script`).
    ///
    /// # Errors
    /// The reason why the definition is not valid.
    pub(crate) fn new(account: &Account, leg: &LegInfo, id: ConversationId, definition: &str) -> Result<Self, String> {
        let seed: Seed = serde_json::from_str(definition).map_err(|error| error.to_string())?;
        let definition = Definition::read(&seed.ai, &seed.contexts)?;
        let text = |key: &str| seed.call.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let facts = Facts {
            project_id: text("project_id"),
            space_id: text("space_id"),
            signing_key: account.signalwire.as_ref().map(|own| own.signing_key.clone()).unwrap_or_default(),
            call_id: text("call_id"),
            caller_name: leg.caller_name.clone().unwrap_or_default(),
            caller_number: text("from"),
            direction: swml::facts::direction(leg),
            created_at: leg.created_at,
            answered_at: leg.answered_at,
        };
        let session = swml::ids().spell("", id.0);
        Ok(Self::of(definition, seed, facts, session))
    }

    /// A script with this definition. `session` is the id of the conversation, unless the agent comes back.
    pub(super) fn of(definition: Definition, mut seed: Seed, facts: Facts, session: String) -> Self {
        let comes_back = seed.saved.is_some();
        let saved = seed.saved.take().map_or_else(
            || {
                let mut global_data = Map::new();
                for (key, value) in [("caller_id_name", &facts.caller_name), ("caller_id_number", &facts.caller_number)]
                {
                    if !value.is_empty() {
                        global_data.insert(key.to_owned(), value.as_str().into());
                    }
                }
                global_data.extend(definition.global_data.clone());
                // The data of an earlier agent of the call is newer.
                global_data.extend(seed.global_data.clone());
                Saved { session, global_data, position: definition.contexts.start(), ..Saved::default() }
            },
            |saved| *saved,
        );
        let functions = definition.functions.clone();
        Self {
            definition,
            seed,
            facts,
            saved,
            functions,
            pending: Vec::new(),
            comes_back,
            returns: false,
            warnings: Vec::new(),
            warned_of_background: false,
            lost_calls: 0,
        }
    }

    pub(super) fn warn(&mut self, warning: String) {
        tracing::warn!(call = self.facts.call_id, "agent of SWML: {warning}");
        self.note_warning(&warning);
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }

    /// Takes the new warnings as actions.
    pub(super) fn take_warnings(&mut self) -> impl Iterator<Item = AgentAction> + use<> {
        std::mem::take(&mut self.warnings).into_iter().map(AgentAction::Warn)
    }

    /// All hints: those of the document, and those that functions have added.
    pub(super) fn hints(&self) -> Vec<String> {
        self.definition.hints.iter().chain(&self.saved.hints).cloned().collect()
    }

    pub(super) fn active(&self, function: &Function) -> Active {
        self.saved.active.get(&function.name).copied().unwrap_or(function.active)
    }

    /// Whether the model may call a function now.
    pub(super) fn offers(&self, function: &Function) -> bool {
        let in_step = match &self.saved.position {
            Some(position) => self.definition.contexts.allows(position, &function.name),
            None => true,
        };
        in_step && !RESERVED.contains(&&*function.name) && self.active(function) != Active::Times(0)
    }

    /// The system prompt of a request to the model.
    fn system_prompt(&self, now: Timestamp) -> String {
        let prompt = self.instructions(now);
        // The result comes from a web server, so the data of the conversation is not inserted into it.
        match &self.saved.returned {
            Some(text) => format!("{prompt}\n\nThe last function has returned this result: {text}"),
            None => prompt,
        }
    }

    /// The system prompt at the present position of the conversation.
    pub(super) fn instructions(&self, now: Timestamp) -> String {
        let mut parts = vec![self.saved.prompt.clone().unwrap_or_else(|| self.definition.prompt.clone())];
        parts.extend(self.saved.context_prompt.clone());
        parts.extend(self.definition.params.conscience.clone());
        if let Some(position) = &self.saved.position {
            parts.push(self.definition.contexts.instructions(position));
        }
        parts.retain(|part| !part.trim().is_empty());
        self.expanded(&parts.join("\n\n"), now)
    }

    /// Calls a function of the document.
    fn call_function(&mut self, call: &ScriptCall, function: &Function, arguments: Json, now: Timestamp) -> ScriptStep {
        if let Active::Times(times) = self.active(function) {
            self.saved.active.insert(function.name.clone(), Active::Times(times.saturating_sub(1)));
        }
        if let Some(map) = &function.data_map {
            let logged = self.note_call(function, &call.arguments, None, now);
            let data = data_map::with_arguments(self.call_data(function, now), &arguments);
            return match data_map::begin(map, &data, now) {
                MapStep::Output(output) => self.answer(function, logged, &output, now),
                MapStep::Request { webhook, request } => {
                    let name = function.name.clone();
                    self.await_answer(&call.id, Pending::Map { name, logged, arguments, webhook });
                    ScriptStep::Request(ScriptRequest { id: call.id.clone(), request: of_map(request) })
                }
            };
        }
        let (payload, logged) = self.payload(function, &arguments, &call.arguments, now);
        let url = function.url.clone().unwrap_or_default();
        self.await_answer(&call.id, Pending::Function { name: function.name.clone(), logged });
        ScriptStep::Request(ScriptRequest { id: call.id.clone(), request: self.post(&url, payload, now) })
    }

    /// The payload of a function call, and the number of the call in the report.
    fn payload(&mut self, function: &Function, arguments: &Json, raw: &str, now: Timestamp) -> (Json, usize) {
        let payload = self.function_payload(function, arguments, raw);
        let logged = self.note_call(function, raw, Some(&payload), now);
        (payload, logged)
    }

    fn await_answer(&mut self, id: &str, pending: Pending) {
        self.pending.retain(|(known, _)| known != id);
        self.pending.push((id.to_owned(), pending));
    }

    /// A signed POST of JSON.
    fn post(&self, url: &str, body: Json, now: Timestamp) -> Request {
        let url = self.expanded(url, now);
        let body = Body::Json(body);
        let input = SignInput { url: &url, method: tandem_call::Method::Post, body: &body, id: 1, attempt: 1, now };
        let signed = swml::sign(&self.facts.signing_key, &input);
        Request {
            method: http::Method::POST,
            url: signed.url,
            headers: signed.headers,
            body: signed.body,
            timeouts: Timeouts { connect: Some(Duration::from_secs(5)), total: REQUEST_TIMEOUT },
            max_body: LARGEST_ANSWER,
        }
    }

    /// The result of a function from its answer: an object with `response`, `action` and `post_process`.
    fn answer(&mut self, function: &Function, logged: usize, answer: &Json, now: Timestamp) -> ScriptStep {
        self.note_answer(logged, answer);
        let text = response_text(answer);
        let actions = answer.get("action").or_else(|| answer.get("actions")).unwrap_or(&Json::Null);
        self.saved.returned.clone_from(&text);
        let earlier_hold = self.saved.after_hold.clone();
        let actions = self.act(function, actions, now);
        self.saved.returned = None;
        let after_reply =
            answer.get("post_process").and_then(super::params::flag).unwrap_or(false) && !actions.is_empty();
        if let Some(hold) = self.saved.after_hold.as_mut().filter(|hold| Some(&**hold) != earlier_hold.as_ref()) {
            hold.follows_reply = after_reply;
        }
        let nothing = || if actions.is_empty() { "The function gave no response." } else { "Done." }.to_owned();
        let text = Ok(text.unwrap_or_else(nothing));
        ScriptStep::Result(ScriptResult { text, actions, after_reply })
    }

    fn function(&self, name: &str) -> Option<Function> {
        self.functions.iter().find(|function| function.name == name).cloned()
    }

    /// Takes the answer of the web server of a function.
    fn function_answered(
        &mut self,
        name: &str,
        logged: usize,
        answer: Result<&Response, String>,
        now: Timestamp,
    ) -> ScriptStep {
        let Some(function) = self.function(name) else { return ScriptStep::failed(NO_FUNCTION) };
        match answer.and_then(read_answer) {
            Ok(mut answer) => {
                // A DataMap has expanded its output already, and what it inserted is not expanded again.
                if let Some(Json::String(text)) = answer.get_mut("response") {
                    *text = self.expanded(text, now);
                }
                self.answer(&function, logged, &answer, now)
            }
            Err(why) => {
                self.note_answer(logged, &json!({ "error": why }));
                ScriptStep::failed(why)
            }
        }
    }

    /// Takes the functions that the web server of the include with this index describes.
    fn signatures(&mut self, place: usize, answer: Result<&Response, String>) -> ScriptStep {
        let include = self.definition.includes.get(place);
        let url = include.map(|include| tandem_twilio::signed_request::split_credentials(&include.url).0);
        let url = url.unwrap_or_default();
        let read = answer.and_then(|answer| match (answer.status, include) {
            (200..300, Some(include)) => include.read_answer(&answer.body),
            (status, _) => Err(format!("HTTP {status}")),
        });
        match read {
            Ok((functions, unusable)) => {
                for function in functions {
                    self.functions.retain(|known| known.name != function.name);
                    if self.functions.len() < MAX_FUNCTIONS {
                        self.functions.push(function);
                    }
                }
                unusable.into_iter().for_each(|why| self.warn(format!("SWAIG.includes: {url}: {why}")));
                let actions = self.take_warnings().collect();
                ScriptStep::Result(ScriptResult { actions, ..ScriptResult::default() })
            }
            Err(why) => ScriptStep::failed(format!("SWAIG.includes: no functions from {url}: {why}")),
        }
    }

    /// The function that the server calls at a certain moment, if the document has it.
    fn hook(&mut self, name: &str, arguments: Json, now: Timestamp) -> Option<(ScriptRequest, usize)> {
        let function = self.function(name)?;
        let url = function.url.clone()?;
        let (payload, logged) = self.payload(&function, &arguments, &arguments.to_string(), now);
        Some((ScriptRequest { id: name.to_owned(), request: self.post(&url, payload, now) }, logged))
    }

    fn question(&self) -> Option<(String, Map<String, Json>)> {
        let own = self
            .saved
            .position
            .as_ref()
            .and_then(|position| self.definition.contexts.context(position)?.post_prompt.clone());
        let prompt = own.or_else(|| self.definition.post_prompt.clone())?;
        Some((prompt, self.definition.post_prompt_model.clone()))
    }
}

impl AgentScript for AiScript {
    fn settings(&self) -> AgentSettings {
        let params = &self.definition.params;
        let returns = self.comes_back;
        let words = self.seed.vars.get(RETURN_WORDS).map(template::written).filter(|words| !words.trim().is_empty());
        let opening = match (&params.static_greeting, words) {
            (_, Some(text)) if returns => Opening::Say { text, interruptible: true },
            _ if returns => Opening::Model,
            (Some(greeting), _) => Opening::Say {
                text: self.expanded(greeting, self.facts.created_at),
                interruptible: !params.static_greeting_no_barge,
            },
            _ if params.wait_for_user => Opening::WaitForCaller,
            _ => Opening::Model,
        };
        let outbound = if self.facts.direction == "outbound" { params.outbound_attention } else { None };
        let attention = outbound.or(params.attention);
        let silence = match attention {
            Some(attention) if attention.is_zero() => Some(params.inactivity.unwrap_or(Duration::from_secs(600))),
            attention => attention.or(params.inactivity),
        };
        let silence_prompts = match (attention, params.inactivity) {
            (Some(attention), _) if attention.is_zero() => Some(0),
            (Some(attention), Some(inactivity)) => {
                let prompts = inactivity.as_millis() / attention.as_millis().max(1);
                Some(u32::try_from(prompts).unwrap_or(u32::MAX).saturating_sub(1).min(10))
            }
            _ => None,
        };
        AgentSettings {
            opening,
            languages: self.definition.languages.clone(),
            hints: self.hints(),
            pronunciations: self.definition.pronunciations.clone(),
            interrupted_by: params.interruptible.map(|speech| Inputs { speech, digits: speech }),
            silence_prompt: params.attention_prompt.as_ref().map(|prompt| self.expanded(prompt, self.facts.created_at)),
            times: AgentTimes {
                end_of_speech: params.end_of_speech,
                silence,
                silence_prompts,
                longest: params.hard_stop,
            },
            keeps_call: true,
        }
    }

    fn begin(&mut self, now: Timestamp) -> Vec<ScriptRequest> {
        let includes = self.definition.includes.clone();
        let mut requests = Vec::new();
        if !self.comes_back
            && let Some((request, logged)) = self.hook(STARTUP, json!({}), now)
        {
            // The actions of the answer run. Its response has no reader.
            self.await_answer(STARTUP, Pending::Function { name: STARTUP.to_owned(), logged });
            requests.push(request);
        }
        for (place, include) in includes.iter().enumerate() {
            let id = format!("include-{place}");
            self.await_answer(&id, Pending::Signatures(place));
            let body = include.request(&self.facts.project_id, &self.facts.space_id);
            requests.push(ScriptRequest { id, request: self.post(&include.url, body, now) });
        }
        self.saved.began = self.saved.began.or(Some(now));
        requests
    }

    fn turn(&mut self, now: Timestamp) -> TurnSettings {
        self.leave_hold(now);
        let mut model = self.definition.model.clone();
        model.extend(self.saved.model.clone());
        TurnSettings { prompt: self.system_prompt(now), tools: self.tools(), model }
    }

    fn call(&mut self, call: &ScriptCall, now: Timestamp) -> ScriptStep {
        if call.arguments.len() > LONGEST_ARGUMENTS {
            return ScriptStep::refused("the arguments are too long");
        }
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let Ok(arguments @ Json::Object(_)) = serde_json::from_str::<Json>(text) else {
            return ScriptStep::refused("the arguments are not a JSON object");
        };
        self.saved.returned = None;
        match self.function(&call.name) {
            Some(function) if self.offers(&function) => self.call_function(call, &function, arguments, now),
            Some(_) => ScriptStep::refused("this function is not available now"),
            None => match self.own_tool(&call.name, &arguments, now) {
                Some(step) => {
                    self.note_native_call(call, now);
                    step
                }
                None => ScriptStep::refused("there is no such function"),
            },
        }
    }

    fn answered(&mut self, id: &str, answer: Result<&Response, String>, now: Timestamp) -> ScriptStep {
        let Some(place) = self.pending.iter().position(|(known, _)| known == id) else {
            // The answer is late.
            return ScriptStep::text("");
        };
        match self.pending.swap_remove(place).1 {
            Pending::Function { name, logged } => self.function_answered(&name, logged, answer, now),
            Pending::Map { name, logged, arguments, webhook } => {
                let Some(function) = self.function(&name) else { return ScriptStep::failed(NO_FUNCTION) };
                let data = data_map::with_arguments(self.call_data(&function, now), &arguments);
                let answer = match &answer {
                    Ok(answer) => Ok((answer.status, &answer.body[..])),
                    Err(why) => Err(why.as_str()),
                };
                let failed = answer.err().map(str::to_owned);
                let map = function.data_map.clone().unwrap_or_default();
                let output = data_map::answered(&map, webhook, &data, answer, now);
                match failed {
                    // Without an output for this case, the log of the call shows the failure.
                    Some(why) if map.get("output").is_none() => {
                        self.note_answer(logged, &json!({ "error": why }));
                        ScriptStep::failed(why)
                    }
                    _ => self.answer(&function, logged, &output, now),
                }
            }
            Pending::Signatures(place) => self.signatures(place, answer),
        }
    }

    /// Takes the parts of `ai_message` that the engine does not know: `global_data` and `reset`.
    fn request(&mut self, text: &str, now: Timestamp) -> Vec<AgentAction> {
        let mut actions = Vec::new();
        let Ok(request) = serde_json::from_str::<Json>(text) else { return actions };
        if let Some(data) = request.get("global_data") {
            self.set_global_data(data);
        }
        if let Some(reset) = request.get("reset") {
            self.switch_context(reset, now, &mut actions);
        }
        actions.extend(self.take_warnings());
        actions
    }

    fn end_question(&mut self, why: EndReason, now: Timestamp) -> Option<EndQuestion> {
        if self.returns && why == EndReason::Stopped {
            return None;
        }
        let summarises = self.functions.iter().any(|function| function.name == "summarize_conversation");
        let has_url = self.definition.post_prompt_url.is_some();
        match self.question().filter(|_| has_url || summarises) {
            Some((prompt, model)) => Some(EndQuestion { prompt: self.expanded(&prompt, now), model }),
            None if summarises => {
                Some(EndQuestion { prompt: "Summarize the conversation.".to_owned(), model: Map::new() })
            }
            None => None,
        }
    }

    fn end_report(&mut self, end: &ConversationSummary<'_>, now: Timestamp) -> Vec<ScriptRequest> {
        if self.returns && end.why == EndReason::Stopped {
            return Vec::new();
        }
        let mut requests = Vec::new();
        if let Some(Ok(summary)) = &end.answer {
            requests.extend(self.hook("summarize_conversation", json!({ "summary": summary }), now));
        }
        requests.extend(self.hook("hangup_hook", json!({}), now));
        let mut requests: Vec<_> = requests.into_iter().map(|(request, _)| request).collect();
        if let Some(url) = self.definition.post_prompt_url.clone() {
            let report = self.report(end, now);
            requests.push(ScriptRequest { id: "post_prompt".to_owned(), request: self.post(&url, report, now) });
        }
        requests
    }
}

/// The answer of a web server to a function call. A text that is not JSON is the response.
fn read_answer(answer: &Response) -> Result<Json, String> {
    if !(200..300).contains(&answer.status) {
        return Err(format!("the web server answered with HTTP {}", answer.status));
    }
    match serde_json::from_slice::<Json>(&answer.body) {
        Ok(object @ Json::Object(_)) => Ok(object),
        Ok(Json::String(text)) => Ok(json!({ "response": text })),
        Ok(_) => Err("the answer of the web server is not a JSON object".to_owned()),
        Err(_) if answer.body.is_empty() => Ok(json!({})),
        Err(_) => Err("the answer of the web server is not JSON".to_owned()),
    }
}

/// The request of a DataMap. It is not signed, because it goes to any web server.
fn of_map(request: MapRequest) -> Request {
    Request {
        method: request.method,
        url: request.url,
        headers: request.headers,
        body: Bytes::from(request.body),
        timeouts: Timeouts { connect: Some(Duration::from_secs(5)), total: REQUEST_TIMEOUT },
        max_body: LARGEST_ANSWER,
    }
}
