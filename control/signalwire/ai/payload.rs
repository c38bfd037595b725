//! The bodies of the requests of an agent: function calls, and the report after the conversation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};
use tandem_dialect::agent::{ConversationSummary, DialogueLine, EndReason, LineKind, ScriptCall};

use super::function::{Active, Function};
use super::params::PostedVars;
use super::script::AiScript;
use super::template::{self, written};

/// Maximum number of calls in `swaig_log`. The oldest are left out.
const MAX_LOGGED_CALLS: usize = 100;
/// Maximum size of one entry of `swaig_log`, in octets. A larger entry has no `post_data`.
const LARGEST_LOGGED_CALL: usize = 16 * 1024;

/// Maximum number of places in the answer to the post prompt at which a JSON value is looked for.
const MAX_STARTS: usize = 1_000;

/// The facts about the call and its account that payloads contain.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Facts {
    pub(super) project_id: String,
    pub(super) space_id: String,
    pub(super) signing_key: String,
    pub(super) call_id: String,
    pub(super) caller_name: String,
    pub(super) caller_number: String,
    /// `inbound` or `outbound`.
    pub(super) direction: &'static str,
    pub(super) created_at: Timestamp,
    pub(super) answered_at: Option<Timestamp>,
}

impl AiScript {
    /// The members that the payload of each function has.
    fn base(&self, function: &str) -> Map<String, Json> {
        let params = &self.definition.params;
        let members = [
            ("app_name", Json::from(params.app_name.as_str())),
            ("function", function.into()),
            ("call_id", self.facts.call_id.as_str().into()),
            ("ai_session_id", self.saved.session.as_str().into()),
            ("caller_id_name", self.facts.caller_name.as_str().into()),
            ("caller_id_num", self.facts.caller_number.as_str().into()),
            ("project_id", self.facts.project_id.as_str().into()),
            ("space_id", self.facts.space_id.as_str().into()),
            ("channel_active", true.into()),
            ("channel_offhook", true.into()),
            ("channel_ready", true.into()),
            ("content_type", "text/swaig".into()),
            ("content_disposition", "SWAIG Function".into()),
            ("conversation_type", "voice".into()),
            ("version", "2.0".into()),
            ("global_data", Json::Object(self.saved.global_data.clone())),
        ];
        let mut base: Map<_, _> = members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        if let Some(id) = &params.conversation_id {
            base.insert("conversation_id".to_owned(), id.as_str().into());
        }
        base
    }

    /// The payload of a function call. `raw` is the text of the arguments as the model wrote them.
    pub(super) fn function_payload(&self, function: &Function, arguments: &Json, raw: &str) -> Json {
        let mut payload = self.base(&function.name);
        payload.insert("argument".to_owned(), json!({ "parsed": [arguments], "raw": raw, "substituted": "" }));
        payload.insert("argument_desc".to_owned(), function.parameters.clone());
        payload.insert("description".to_owned(), function.description.as_str().into());
        payload.insert("purpose".to_owned(), function.description.as_str().into());
        payload.insert("meta_data_token".to_owned(), function.token.as_str().into());
        payload.insert("meta_data".to_owned(), Json::Object(self.meta_data(function)));
        match &self.definition.params.post_vars {
            PostedVars::None => {}
            PostedVars::All => {
                payload.insert("SWMLVars".to_owned(), self.seed.vars.clone());
                payload.insert("SWMLCall".to_owned(), self.seed.call.clone());
            }
            PostedVars::These(names) => {
                let named = names.iter().filter_map(|name| Some((name.clone(), self.seed.vars.get(name)?.clone())));
                payload.insert("SWMLVars".to_owned(), Json::Object(named.collect()));
                payload.insert("SWMLCall".to_owned(), self.seed.call.clone());
            }
        }
        Json::Object(payload)
    }

    /// The data that functions with the token of this function share.
    pub(super) fn meta_data(&self, function: &Function) -> Map<String, Json> {
        let mut data = function.meta_data.clone();
        data.extend(self.saved.meta_data.get(&function.token).cloned().unwrap_or_default());
        data
    }

    /// The variables of prompts: facts about the call and the time, and the global data.
    pub(super) fn prompt_vars(&self, now: Timestamp) -> Map<String, Json> {
        let zone = &self.definition.params.local_tz;
        let hour: u32 = template::time("%H", zone, now).parse().unwrap_or(12);
        let time_of_day = match hour {
            0..12 => "morning",
            12..18 => "afternoon",
            _ => "evening",
        };
        let languages = &self.definition.languages;
        let supported: Vec<_> = languages.iter().map(|language| language.name.as_str()).collect();
        let direction = self.definition.params.direction.as_deref().unwrap_or(self.facts.direction);
        let members = [
            ("call_direction", Json::from(direction)),
            ("caller_id_name", self.facts.caller_name.as_str().into()),
            ("caller_id_number", self.facts.caller_number.as_str().into()),
            ("caller_id_num", self.facts.caller_number.as_str().into()),
            ("call_id", self.facts.call_id.as_str().into()),
            ("local_date", template::time("%A, %B %d, %Y", zone, now).into()),
            ("local_time", template::time("%H:%M:%S %z", zone, now).into()),
            ("time_of_day", time_of_day.into()),
            ("supported_languages", supported.join(", ").into()),
            ("default_language", languages.first().map_or("", |language| &language.name).into()),
        ];
        let mut vars: Map<_, _> = members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        vars.extend(self.saved.global_data.clone());
        vars.insert("global_data".to_owned(), Json::Object(self.saved.global_data.clone()));
        vars
    }

    /// The data that the templates of a DataMap read before a web server has answered.
    pub(super) fn call_data(&self, function: &Function, now: Timestamp) -> Map<String, Json> {
        let vars = self.prompt_vars(now);
        let mut data = self.base(&function.name);
        for (key, value) in &vars {
            data.entry(key.clone()).or_insert_with(|| value.clone());
        }
        data.insert("meta_data".to_owned(), Json::Object(self.meta_data(function)));
        data.insert("prompt_vars".to_owned(), Json::Object(vars));
        data
    }

    /// Notes a call of a function of the document for the report. Returns the number of the call.
    pub(super) fn note_call(
        &mut self,
        function: &Function,
        arguments: &str,
        payload: Option<&Json>,
        now: Timestamp,
    ) -> usize {
        let mut entry = logged_call(&function.name, arguments, now);
        if let Active::Times(left) = self.active(function) {
            entry.insert("active_count".to_owned(), left.into());
        }
        match &function.url {
            Some(url) => {
                entry.insert("url".to_owned(), tandem_twilio::signed_request::split_credentials(url).0.into());
            }
            None => {
                entry.insert("native".to_owned(), true.into());
            }
        }
        if let Some(payload) = payload.filter(|payload| payload.to_string().len() <= LARGEST_LOGGED_CALL) {
            entry.insert("post_data".to_owned(), payload.clone());
        }
        self.log_call(entry)
    }

    /// Notes a call of a tool of this server for the report.
    pub(super) fn note_native_call(&mut self, call: &ScriptCall, now: Timestamp) {
        let mut entry = logged_call(&call.name, &call.arguments, now);
        entry.insert("native".to_owned(), true.into());
        self.log_call(entry);
    }

    fn log_call(&mut self, entry: Map<String, Json>) -> usize {
        if self.saved.log.len() >= MAX_LOGGED_CALLS {
            self.saved.log.remove(0);
            self.lost_calls += 1;
        }
        self.saved.log.push(Json::Object(entry));
        self.lost_calls + self.saved.log.len() - 1
    }

    /// Adds a warning to the newest note about a function.
    pub(super) fn note_warning(&mut self, warning: &str) {
        if let Some(entry) = self.saved.log.last_mut().and_then(Json::as_object_mut) {
            let list = entry.entry("warnings").or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut().filter(|list| list.len() < 10) {
                list.push(warning.into());
            }
        }
    }

    /// Adds the answer of the web server to the call with this number.
    pub(super) fn note_answer(&mut self, logged: usize, answer: &Json) {
        if answer.to_string().len() > LARGEST_LOGGED_CALL {
            return;
        }
        let entry = logged.checked_sub(self.lost_calls).and_then(|place| self.saved.log.get_mut(place));
        if let Some(entry) = entry.and_then(Json::as_object_mut) {
            entry.insert("post_response".to_owned(), answer.clone());
        }
    }

    /// The report after the conversation.
    pub(super) fn report(&self, end: &ConversationSummary<'_>, now: Timestamp) -> Json {
        let answer = match &end.answer {
            Some(Ok(text)) => text.as_str(),
            _ => "",
        };
        let params = &self.definition.params;
        let (ended, began) = (end.ended, self.saved.began.unwrap_or(end.began));
        let minutes = ended.duration_since(began).as_secs_f64().max(0.0) / 60.0;
        let prompt = self.instructions(now);
        let system = json!({ "role": "system", "content": prompt, "timestamp": microseconds(began) });
        let log: Vec<Json> = std::iter::once(system).chain(call_log(end.dialogue)).collect();
        let mut report = json!({
            "content_type": "text/json",
            "content_disposition": "agent.summary",
            "conversation_type": "voice",
            "action": "post_conversation",
            "project_id": self.facts.project_id,
            "space_id": self.facts.space_id,
            "call_id": self.facts.call_id,
            "app_name": params.app_name,
            "ai_session_id": self.saved.session,
            "caller_id_name": self.facts.caller_name,
            "caller_id_number": self.facts.caller_number,
            "caller_id_num": self.facts.caller_number,
            "call_start_date": microseconds(self.facts.created_at),
            "call_answer_date": self.facts.answered_at.map_or(0, microseconds),
            "call_end_date": microseconds(ended),
            "ai_start_date": microseconds(began),
            "ai_end_date": microseconds(ended),
            "post_prompt_data": post_prompt_data(answer),
            "global_data": self.saved.global_data,
            "SWMLVars": self.seed.vars,
            "SWMLCall": self.seed.call,
            "call_log": log,
            "raw_call_log": log,
            "swaig_log": self.saved.log,
            "times": times(end.dialogue),
            "total_minutes": minutes,
        });
        let ended_by = match end.why {
            EndReason::Caller => Some("user"),
            EndReason::HungUp | EndReason::Failed => Some("assistant"),
            // The call goes on.
            EndReason::TimedOut | EndReason::Stopped | EndReason::Left | EndReason::Interrupted => None,
        };
        let lasted = ended.duration_since(end.began).unsigned_abs();
        let timed_out = end.why == EndReason::TimedOut && params.hard_stop.is_some_and(|longest| lasted >= longest);
        let present = [
            ("conversation_id", params.conversation_id.as_deref().map(Json::from)),
            ("call_ended_by", ended_by.map(Json::from)),
            ("hard_timeout", timed_out.then_some(Json::Bool(true))),
        ];
        if let Some(members) = report.as_object_mut() {
            let present = present.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            members.extend(present);
        }
        report
    }
}

/// The members that each entry of `swaig_log` has.
fn logged_call(name: &str, arguments: &str, now: Timestamp) -> Map<String, Json> {
    let members =
        [("command_name", Json::from(name)), ("command_arg", arguments.into()), ("epoch_time", now.as_second().into())];
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn microseconds(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The lines of a dialogue as entries of `call_log`.
fn call_log(dialogue: &[DialogueLine]) -> impl Iterator<Item = Json> + '_ {
    let calls = dialogue.iter().filter_map(|line| match &line.kind {
        LineKind::Agent { calls, .. } => Some(calls),
        _ => None,
    });
    let names: BTreeMap<&str, &str> = calls.flatten().map(|call| (&*call.id, &*call.name)).collect();
    dialogue.iter().map(move |line| {
        let role = match &line.kind {
            LineKind::System => "system",
            LineKind::Caller => "user",
            LineKind::Agent { .. } => "assistant",
            LineKind::Tool { .. } => "tool",
        };
        let mut entry = json!({ "role": role, "content": line.text, "timestamp": microseconds(line.at) });
        let Some(members) = entry.as_object_mut() else { return entry };
        match &line.kind {
            LineKind::Agent { latency, calls } => {
                if let Some(latency) = latency {
                    members.insert("latency".to_owned(), u64::try_from(latency.as_millis()).unwrap_or(u64::MAX).into());
                }
                if !calls.is_empty() {
                    let calls = calls.iter().map(|call| {
                        json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
                    });
                    members.insert("tool_calls".to_owned(), calls.collect());
                }
            }
            LineKind::Tool { id } => {
                members.insert("tool_call_id".to_owned(), id.as_str().into());
                if let Some(name) = names.get(&**id) {
                    members.insert("function_name".to_owned(), (*name).into());
                }
            }
            LineKind::System | LineKind::Caller => {}
        }
        entry
    })
}

/// The times of the model's answers.
fn times(dialogue: &[DialogueLine]) -> Vec<Json> {
    let answers = dialogue.iter().filter_map(|line| match &line.kind {
        LineKind::Agent { latency: Some(latency), .. } => Some((line, latency)),
        _ => None,
    });
    let time = |(line, latency): (&DialogueLine, &std::time::Duration)| {
        let words = line.text.split_whitespace().count();
        json!({ "response": line.text, "response_word_count": words, "answer_time": latency.as_secs_f64() })
    };
    answers.map(time).collect()
}

/// The answer to the post prompt: the text, the JSON values in it, and the text around them, if there is any.
pub(super) fn post_prompt_data(answer: &str) -> Json {
    let mut parsed = Vec::new();
    let mut around = String::new();
    let mut rest = answer;
    for _ in 0..MAX_STARTS {
        let Some(at) = rest.find(['{', '[']) else { break };
        let (before, value) = rest.split_at(at);
        around.push_str(before);
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<Json>();
        let read = values.next();
        // After an error the offset is 0, and the bracket is a part of the text.
        let end = if read.as_ref().is_some_and(Result::is_ok) { values.byte_offset() } else { 1 };
        match read {
            Some(Ok(Json::Array(items))) => parsed.extend(items),
            Some(Ok(object)) => parsed.push(object),
            _ => around.push_str(value.get(..end).unwrap_or_default()),
        }
        rest = value.get(end..).unwrap_or_default();
    }
    around.push_str(rest);
    // The marks of a block of code are no prose.
    let lines = around.lines().filter(|line| !line.trim_start().starts_with("```"));
    let around = lines.collect::<Vec<_>>().join("\n");
    let mut data = json!({ "raw": answer, "parsed": parsed });
    if let Some(members) = data.as_object_mut().filter(|_| !around.trim().is_empty()) {
        members.insert("substituted".to_owned(), around.trim().into());
    }
    data
}

/// The text for the model in the answer of a function: a text, or an object with what the tool did and what the model should say.
pub(super) fn response_text(answer: &Json) -> Option<String> {
    match answer.get("response")? {
        Json::Object(parts) => {
            let parts = ["tool_result", "tool_prompt"].into_iter().filter_map(|key| parts.get(key)).map(written);
            Some(parts.collect::<Vec<_>>().join("\n"))
        }
        Json::Null => None,
        other => Some(written(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_in_the_answer_to_the_post_prompt_is_parsed_and_the_prose_stays() {
        let fenced = "```json\n{\"topic\": \"bikes\"}\n```";
        assert_eq!(post_prompt_data(fenced), json!({"raw": fenced, "parsed": [{"topic": "bikes"}]}));
        assert_eq!(post_prompt_data("[1, 2]")["parsed"], json!([1, 2]));
        let two = post_prompt_data("First {\"a\": 1}, then {\"b\": 2}.");
        assert_eq!((&two["parsed"], &two["substituted"]), (&json!([{"a": 1}, {"b": 2}]), &json!("First , then .")));
        let prose = post_prompt_data("They talked } about { bikes.");
        assert_eq!((&prose["parsed"], &prose["substituted"]), (&json!([]), &json!("They talked } about { bikes.")));
        assert_eq!(post_prompt_data(""), json!({"raw": "", "parsed": []}));
        assert_eq!(post_prompt_data(&"[".repeat(100_000))["parsed"], json!([]));
    }

    #[test]
    fn a_response_is_a_text_or_has_a_result_and_an_instruction() {
        assert_eq!(response_text(&json!({"response": "done"})).as_deref(), Some("done"));
        let parts = json!({"response": {"tool_result": "status: on hold", "tool_prompt": "Say so."}});
        assert_eq!(response_text(&parts).as_deref(), Some("status: on hold\nSay so."));
        assert_eq!(response_text(&json!({"action": []})), None);
    }
}
