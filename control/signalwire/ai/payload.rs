//! The bodies of the requests of an agent: function calls, and the report after the conversation.

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};
use tandem_dialect::agent::{ConversationSummary, DialogueLine, EndReason, LineKind};

use super::function::Function;
use super::params::PostedVars;
use super::script::AiScript;
use super::template::{self, written};

/// Maximum number of calls in `swaig_log`. The oldest are left out.
const MAX_LOGGED_CALLS: usize = 100;
/// Maximum size of one entry of `swaig_log`, in octets. A larger entry has no `post_data`.
const LARGEST_LOGGED_CALL: usize = 16 * 1024;

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

    /// Notes a function call for the report.
    pub(super) fn note_call(
        &mut self,
        name: &str,
        arguments: &str,
        url: Option<&str>,
        post_data: Option<Json>,
        now: Timestamp,
    ) {
        let mut entry = json!({ "command_name": name, "command_arg": arguments, "epoch_time": now.as_second(), "native": url.is_none() });
        if let (Some(entry), Some(url)) = (entry.as_object_mut(), url) {
            entry.insert("url".to_owned(), tandem_twilio::signed_request::split_credentials(url).0.into());
        }
        let post_data = post_data.filter(|data| data.to_string().len() <= LARGEST_LOGGED_CALL);
        if let (Some(entry), Some(data)) = (entry.as_object_mut(), post_data) {
            entry.insert("post_data".to_owned(), data);
        }
        if self.saved.log.len() >= MAX_LOGGED_CALLS {
            self.saved.log.remove(0);
        }
        self.saved.log.push(entry);
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

    /// Adds the answer of the web server to the newest note about this function.
    pub(super) fn note_answer(&mut self, name: &str, answer: &Json) {
        if answer.to_string().len() > LARGEST_LOGGED_CALL {
            return;
        }
        let open =
            self.saved.log.iter_mut().rev().find(|entry| entry.get("command_name").is_some_and(|own| own == name));
        if let Some(entry) = open.and_then(Json::as_object_mut) {
            entry.entry("post_response").or_insert_with(|| answer.clone());
        }
    }

    /// The report after the conversation.
    pub(super) fn report(&self, end: &ConversationSummary<'_>) -> Json {
        let mut log = self.saved.lines.clone();
        log.extend(call_log(end.dialogue));
        let answer = match &end.answer {
            Some(Ok(text)) => text.as_str(),
            _ => "",
        };
        let (ended, began) = (end.ended, self.saved.began.unwrap_or(end.began));
        let minutes = ended.duration_since(began).as_secs_f64().max(0.0) / 60.0;
        json!({
            "content_type": "text/json",
            "content_disposition": "agent.summary",
            "conversation_type": "voice",
            "action": "post_conversation",
            "version": "2.0",
            "project_id": self.facts.project_id,
            "space_id": self.facts.space_id,
            "call_id": self.facts.call_id,
            "app_name": self.definition.params.app_name,
            "ai_session_id": self.saved.session,
            "conversation_id": self.definition.params.conversation_id,
            "caller_id_name": self.facts.caller_name,
            "caller_id_number": self.facts.caller_number,
            "caller_id_num": self.facts.caller_number,
            "call_ended_by": if end.why == EndReason::Caller { "user" } else { "assistant" },
            "hard_timeout": false,
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
            "previous_contexts": [],
            "total_minutes": minutes,
        })
    }
}

fn microseconds(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The lines of a dialogue as entries of `call_log`.
pub(super) fn call_log(dialogue: &[DialogueLine]) -> impl Iterator<Item = Json> + '_ {
    dialogue.iter().map(|line| {
        let timestamp = microseconds(line.at);
        let role = match &line.kind {
            LineKind::System => "system",
            LineKind::Caller => "user",
            LineKind::Agent { .. } => "assistant",
            LineKind::Tool { .. } => "tool",
        };
        let mut entry = json!({ "role": role, "content": line.text, "timestamp": timestamp });
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

/// The answer to the post prompt: the text, and the JSON in it.
pub(super) fn post_prompt_data(answer: &str) -> Json {
    let trimmed = answer.trim();
    let start = trimmed.find(['{', '[']);
    let end = trimmed.rfind(['}', ']']);
    let inner = start.zip(end).and_then(|(start, end)| trimmed.get(start..=end));
    let parsed = inner
        .and_then(|text| serde_json::from_str::<Json>(text).ok())
        .filter(|value| value.is_object() || value.is_array());
    let parsed = match parsed {
        Some(Json::Array(items)) => items,
        Some(object) => vec![object],
        None => Vec::new(),
    };
    json!({ "raw": answer, "substituted": answer, "parsed": parsed })
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
    fn the_json_in_the_answer_to_the_post_prompt_is_parsed() {
        let data = post_prompt_data("```json\n{\"topic\": \"bikes\"}\n```");
        assert_eq!(data["parsed"], json!([{"topic": "bikes"}]));
        assert_eq!(post_prompt_data("[1, 2]")["parsed"], json!([1, 2]));
        let prose = post_prompt_data("They talked } about { bikes.");
        assert_eq!((&prose["parsed"], &prose["raw"]), (&json!([]), &json!("They talked } about { bikes.")));
    }

    #[test]
    fn a_response_is_a_text_or_has_a_result_and_an_instruction() {
        assert_eq!(response_text(&json!({"response": "done"})).as_deref(), Some("done"));
        let parts = json!({"response": {"tool_result": "status: on hold", "tool_prompt": "Say so."}});
        assert_eq!(response_text(&parts).as_deref(), Some("status: on hold\nSay so."));
        assert_eq!(response_text(&json!({"action": []})), None);
    }
}
