//! The actions in the answer of a function: what the agent does, and what changes in its data.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use tandem_call::conversation::{AgentMessage, MessageRole};
use tandem_dialect::agent::{AgentAction, AgentTimes, BackgroundAudio};

use super::contexts::Moved;
use super::definition::model_fields;
use super::function::{Active, Function};
use super::params::{NOT_MIXED, flag, milliseconds, number, time};
use super::pom::{prompt, rendered};
use super::script::AiScript;
use super::template::{Scope, expand, written};
use super::{Continuation, Outcome};
use crate::swml::{parameters, text};

/// Maximum number of actions in one answer. Further ones are left out, with a warning.
const MAX_ACTIONS: usize = 50;
/// Maximum size of the global data, and of the meta data of one token, in octets.
const LARGEST_DATA: usize = 256 * 1024;
/// The default and the longest time of a hold.
const HOLD: Duration = Duration::from_secs(300);
const LONGEST_HOLD: Duration = Duration::from_secs(900);
/// Actions that change nothing here, and that a call does not miss.
const WITHOUT_EFFECT: [&str; 5] =
    ["back_to_back_functions", "extensive_data", "functions_on_speaker_timeout", "speech_event_timeout", "user_event"];

/// The steps that follow a hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct AfterHold {
    /// The time at which the hold ends by itself.
    until: Timestamp,
    length: Duration,
    /// Whether the model answers the function before the hold.
    pub(super) follows_reply: bool,
    /// The step after an end of the hold by an application.
    step: Option<String>,
    /// The step after an end of the hold by itself.
    timeout_step: Option<String>,
}

/// The end of the conversation that the actions of one answer request.
enum Exit {
    /// The agent comes back after the documents.
    Return,
    Stop,
    Transfer(Json),
    Destination(String),
}

/// The effects of the actions of one answer.
#[derive(Default)]
struct Effects {
    /// The actions that the engine runs.
    out: Vec<AgentAction>,
    /// The documents that run when the agent has left.
    documents: Vec<Json>,
    exit: Option<Exit>,
}

impl Effects {
    /// Ends the conversation after all actions of the answer. Only the first end counts, but any end replaces a return.
    fn leave(&mut self, exit: Exit) {
        if matches!(self.exit, None | Some(Exit::Return)) {
            self.exit = Some(exit);
        }
    }
}

impl AiScript {
    /// Runs the actions of an answer. Returns those that the engine runs.
    pub(super) fn act(&mut self, function: &Function, actions: &Json, now: Timestamp) -> Vec<AgentAction> {
        let mut effects = Effects::default();
        let list = match actions {
            Json::Array(list) => list.as_slice(),
            Json::Object(_) => std::slice::from_ref(actions),
            Json::Null => &[],
            _ => {
                self.warn(format!("function {}: `action` is not a list", function.name));
                &[]
            }
        };
        if list.len() > MAX_ACTIONS {
            self.warn(format!("function {}: only the first {MAX_ACTIONS} actions run", function.name));
        }
        for action in list.iter().take(MAX_ACTIONS) {
            let Some(members) = action.as_object() else {
                self.warn(format!("function {}: an action is not an object", function.name));
                continue;
            };
            for (name, value) in members {
                // `transfer` beside `SWML` says how the document runs.
                if name == "transfer" && members.contains_key("SWML") {
                    continue;
                }
                self.act_once(function, name, value, members, now, &mut effects);
            }
        }
        let Effects { mut out, documents, exit } = effects;
        out.extend(self.take_warnings());
        let then = match exit {
            None => return out,
            Some(Exit::Stop) => None,
            Some(Exit::Transfer(document)) => Some(Continuation::Transfer(document)),
            Some(Exit::Destination(dest)) => Some(Continuation::Destination(dest)),
            // The state has the effects of all actions, also of those behind the document.
            Some(Exit::Return) => {
                self.saved.began = self.saved.began.or(Some(now));
                Some(Continuation::Return(Box::new(self.saved.clone())))
            }
        };
        self.returns = matches!(then, Some(Continuation::Return(_)));
        out.push(AgentAction::Stop(Some(self.outcome(documents, then))));
        out
    }

    fn act_once(
        &mut self,
        function: &Function,
        name: &str,
        value: &Json,
        members: &Map<String, Json>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let out = &mut effects.out;
        match name {
            "SWML" => self.run_document(value, members.get("transfer"), effects),
            "transfer" => {
                let dest = value.get("dest").unwrap_or(value);
                let dest = written(dest);
                if dest.trim().is_empty() {
                    return self.warn("transfer has no destination".to_owned());
                }
                effects.leave(Exit::Destination(dest));
            }
            "say" => out.push(AgentAction::Say(written(value))),
            "hangup" | "stop" | "wait_for_user" | "replace_in_history" if is_off(value) => {}
            "replace_in_history" => out.push(AgentAction::ReplaceCall(value.as_str().map(str::to_owned))),
            "hangup" if matches!(effects.exit, Some(Exit::Transfer(_) | Exit::Destination(_))) => {}
            "hangup" if effects.documents.is_empty() => out.push(AgentAction::HangUp),
            // The documents run before the end of the call.
            "hangup" => {
                effects.documents.push(json!({ "sections": { "main": [{ "hangup": {} }] } }));
                effects.leave(Exit::Stop);
            }
            "stop" => effects.leave(Exit::Stop),
            "hold" => out.push(self.hold(value, now)),
            "playback_bg" => self.play_background(value, out),
            "stop_playback_bg" => out.push(AgentAction::StopBackground),
            "set_global_data" | "unset_global_data" if !self.definition.params.allow_global_data => {
                self.warn(format!("{name} is not allowed by swaig_set_global_data"));
            }
            "set_global_data" => self.set_global_data(value),
            "unset_global_data" => unset(&mut self.saved.global_data, value),
            "set_meta_data" => {
                let data = self.saved.meta_data.entry(function.token.clone()).or_default();
                if let Err(why) = set(data, value) {
                    self.warn(format!("set_meta_data: {why}"));
                }
            }
            "unset_meta_data" => {
                unset(self.saved.meta_data.entry(function.token.clone()).or_default(), value);
            }
            "context_switch" => self.switch_context(value, now, out),
            "change_step" | "change_context" => self.change_position(name, &written(value), out),
            "toggle_functions" => self.toggle(value),
            "user_input" => out.push(AgentAction::UserInput(written(value))),
            "settings" if !self.definition.params.allow_settings => {
                self.warn("settings are not allowed by swaig_allow_settings".to_owned());
            }
            "settings" => self.saved.model.extend(model_fields(value)),
            "add_dynamic_hints" => {
                let list = value.as_array().map_or(&[][..], Vec::as_slice);
                let hints = list.iter().map(|hint| written(hint.get("hint").unwrap_or(hint)));
                self.saved.hints.extend(hints.take(100_usize.saturating_sub(self.saved.hints.len())));
                out.push(AgentAction::SetHints(self.hints()));
            }
            "clear_dynamic_hints" => {
                self.saved.hints.clear();
                out.push(AgentAction::SetHints(self.hints()));
            }
            "end_of_speech_timeout" => {
                let end_of_speech = number(value).filter(|time| *time > 0.0).map(milliseconds);
                out.push(AgentAction::SetTimes(AgentTimes { end_of_speech, ..AgentTimes::default() }));
            }
            // The model answers the result of the function, and every agent then waits for the caller.
            "wait_for_user" if value == "answer_first" => {}
            "wait_for_user" => out.push(AgentAction::WaitForCaller(true)),
            name if WITHOUT_EFFECT.contains(&name) => {}
            other => self.warn(format!("function {}: the action {other} is not served", function.name)),
        }
    }

    /// Runs a document: the conversation ends, and comes back afterwards unless the document takes the call over.
    fn run_document(&mut self, document: &Json, transfer: Option<&Json>, effects: &mut Effects) {
        if !self.definition.params.allow_swml {
            return self.warn("SWML is not allowed by swaig_allow_swml".to_owned());
        }
        let read = match document {
            Json::String(source) => match text::read(source.as_bytes()) {
                Ok(value) => Ok(value.to_json()),
                Err(fault) => Err(fault.to_string()),
            },
            object @ Json::Object(_) => Ok(object.clone()),
            _ => Err("it is not a document".to_owned()),
        };
        let mut document = match read {
            Ok(document) => document,
            Err(why) => return self.warn(format!("the action SWML: {why}")),
        };
        // Older SDKs write `transfer` into the document.
        let inside = document.as_object_mut().and_then(|members| members.remove("transfer"));
        if transfer.or(inside.as_ref()).and_then(flag).unwrap_or(false) {
            effects.leave(Exit::Transfer(document));
        } else if !only_events(&document) && matches!(effects.exit, None | Some(Exit::Return)) {
            effects.documents.push(document);
            effects.leave(Exit::Return);
        }
    }

    /// The result of the conversation for the interpreter.
    fn outcome(&mut self, documents: Vec<Json>, then: Option<Continuation>) -> String {
        let outcome = Outcome {
            documents,
            then,
            global_data: self.saved.global_data.clone(),
            persists: self.definition.params.persist_global_data,
            warnings: std::mem::take(&mut self.warnings),
        };
        serde_json::to_string(&outcome).unwrap_or_default()
    }

    fn hold(&mut self, value: &Json, now: Timestamp) -> AgentAction {
        let length = value.get("timeout").unwrap_or(value);
        let length = match length {
            Json::String(text) => time(text),
            other => number(other).filter(|seconds| *seconds >= 0.0).map(|seconds| milliseconds(seconds * 1_000.0)),
        };
        let length = length.filter(|length| *length <= LONGEST_HOLD).unwrap_or(HOLD);
        let step = |key: &str| value.get(key).and_then(Json::as_str).map(str::to_owned);
        let (step, timeout_step) = (step("step"), step("timeout_step"));
        if step.is_some() || timeout_step.is_some() {
            let until = now.checked_add(length).unwrap_or(now);
            self.saved.after_hold = Some(AfterHold { until, length, follows_reply: false, step, timeout_step });
        }
        AgentAction::Hold(Some(length))
    }

    /// Goes to the step that follows a hold, when the first request to the model after the hold is due.
    pub(super) fn leave_hold(&mut self, now: Timestamp) {
        if let Some(hold) = &mut self.saved.after_hold
            && std::mem::take(&mut hold.follows_reply)
        {
            // This request is for the reply, and the hold follows it.
            hold.until = now.checked_add(hold.length).unwrap_or(now);
            return;
        }
        let Some(hold) = self.saved.after_hold.take() else { return };
        let step = if now >= hold.until { hold.timeout_step } else { hold.step };
        if let (Some(step), Some(position)) = (step, &mut self.saved.position)
            && self.definition.contexts.change_step(position, &step).is_none()
        {
            self.warn(format!("hold: there is no step {step:?}"));
        }
    }

    fn play_background(&mut self, value: &Json, out: &mut Vec<AgentAction>) {
        let url = written(value.get("file").unwrap_or(value));
        if !parameters::is_url(&url, parameters::WEB) {
            return self.warn(format!("playback_bg: {url:?} is not an http or https URL"));
        }
        if value.get("wait").and_then(flag).unwrap_or(false) {
            let audio = BackgroundAudio { url, times: Some(1), waits: true };
            out.push(AgentAction::PlayBackground(audio));
        } else if !std::mem::replace(&mut self.warned_of_background, true) {
            self.warn(format!("playback_bg: {NOT_MIXED}; with \"wait\": true it plays while the agent waits"));
        }
    }

    /// Merges values into the global data.
    pub(super) fn set_global_data(&mut self, value: &Json) {
        if let Err(why) = set(&mut self.saved.global_data, value) {
            self.warn(format!("set_global_data: {why}"));
        }
    }

    /// Replaces the system prompt, and starts the dialogue again on request.
    pub(super) fn switch_context(&mut self, value: &Json, now: Timestamp, out: &mut Vec<AgentAction>) {
        let format = self.definition.params.pom_format;
        let of = |text: &str, pom: &str| {
            let sections = value.get(pom).map(|sections| rendered(sections, format)).filter(|text| !text.is_empty());
            sections.or_else(|| value.get(text).and_then(|value| prompt(value, format)))
        };
        let system = value.as_str().map(str::to_owned).or_else(|| of("system_prompt", "system_pom"));
        let user = of("user_prompt", "user_pom");
        let full_reset = value.get("full_reset").and_then(flag).unwrap_or(false);
        if value.get("consolidate").and_then(flag) == Some(true) {
            self.warn("context_switch: consolidate has no effect, the model keeps the whole dialogue".to_owned());
        }
        if let Some(system) = system {
            self.saved.prompt = Some(system);
            self.saved.context_prompt = None;
        }
        let user = user.map(|text| self.expanded(&text, now));
        self.restart(full_reset, user, out);
    }

    /// Forgets the dialogue, and gives the model words of the caller.
    fn restart(&self, forgets: bool, user: Option<String>, out: &mut Vec<AgentAction>) {
        let user = user.filter(|text| !text.trim().is_empty());
        if forgets {
            let message = |text: String| AgentMessage { role: MessageRole::User, text: text.into() };
            out.push(AgentAction::ReplaceHistory(user.map(message).into_iter().collect()));
        } else if let Some(text) = user {
            out.push(AgentAction::UserInput(text));
        }
    }

    fn change_position(&mut self, action: &str, name: &str, out: &mut Vec<AgentAction>) {
        let Some(position) = &mut self.saved.position else {
            return self.warn(format!("{action}: the prompt has no contexts"));
        };
        let contexts = &self.definition.contexts;
        let moved = match action {
            "change_step" => contexts.change_step(position, name),
            _ => contexts.change_context(position, name),
        };
        match moved {
            Some(moved) => self.follow(moved, out),
            None => self.warn(format!("{action}: there is no {name:?}")),
        }
    }

    /// Follows a change of the step or the context.
    pub(super) fn follow(&mut self, moved: Moved, out: &mut Vec<AgentAction>) {
        let Moved { into_context, forgets, reset, .. } = moved;
        if into_context {
            self.saved.context_prompt = None;
        }
        let mut user = None;
        if let Some(reset) = reset {
            user = reset.user_prompt;
            match reset.system_prompt {
                Some(prompt) if reset.full_reset => self.saved.prompt = Some(prompt),
                Some(prompt) => self.saved.context_prompt = Some(prompt),
                None => {}
            }
        }
        self.restart(forgets, user, out);
    }

    fn toggle(&mut self, value: &Json) {
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for toggle in list.iter().take(MAX_ACTIONS) {
            let active = Active::read(toggle.get("active"));
            let names = match toggle.get("function") {
                Some(Json::Array(names)) => names.iter().map(written).collect(),
                Some(name) => vec![written(name)],
                None => Vec::new(),
            };
            for name in names.into_iter().take(MAX_ACTIONS) {
                if self.functions.iter().any(|function| function.name == name) {
                    self.saved.active.insert(name, active);
                } else {
                    self.warn(format!("toggle_functions: there is no function {name:?}"));
                }
            }
        }
    }

    /// Replaces the templates in a text of the document or of a web server.
    pub(super) fn expanded(&self, text: &str, now: Timestamp) -> String {
        let vars = Json::Object(self.prompt_vars(now));
        let places = [&vars, &self.seed.vars];
        expand(text, Scope { places: &places, now })
    }
}

/// Whether a document does nothing but send events to the clients of SignalWire, which nobody receives here. Such a document does
/// not interrupt the conversation.
fn only_events(document: &Json) -> bool {
    let main = document.get("sections").and_then(|sections| sections.get("main")).and_then(Json::as_array);
    let is_event = |step: &Json| step.as_object().is_some_and(|step| step.keys().all(|method| method == "user_event"));
    main.is_some_and(|steps| !steps.is_empty() && steps.iter().all(is_event))
}

fn is_off(value: &Json) -> bool {
    flag(value) == Some(false)
}

/// Merges the members of an object.
fn set(data: &mut Map<String, Json>, value: &Json) -> Result<(), String> {
    let Some(members) = value.as_object() else { return Err("the value is not an object".to_owned()) };
    let mut merged = data.clone();
    merged.extend(members.clone());
    if serde_json::to_string(&merged).map_or(usize::MAX, |text| text.len()) > LARGEST_DATA {
        return Err(format!("the data would have more than {} KiB", LARGEST_DATA / 1024));
    }
    *data = merged;
    Ok(())
}

/// Removes keys: a name, a list of names, or an object whose members replace the data.
fn unset(data: &mut Map<String, Json>, value: &Json) {
    match value {
        Json::Array(names) => names.iter().for_each(|name| drop(data.remove(&written(name)))),
        Json::Object(names) => names.keys().for_each(|name| drop(data.remove(name))),
        name => drop(data.remove(&written(name))),
    }
}
