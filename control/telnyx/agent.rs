//! Webhooks about conversations with a voice agent or an application: the values that the agent collected, the start
//! and the end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tandem_call::conversation::{AgentFacts, ConversationFacts, ConversationStatus, Utterance};
use tandem_call::leg::LegInfo;

use super::id;
use super::webhook::{calling_party_type, parties};

/// The event types and the payloads. The payloads have only the members that are specific to the events. The list is empty
/// if Telnyx has no webhook for this event.
pub(super) fn event_types_and_payloads(leg: &LegInfo, facts: &ConversationFacts) -> Vec<(&'static str, Value)> {
    let agent = facts.agent.as_ref();
    if let (ConversationStatus::Utterance(_), Some(agent)) = (&facts.status, agent) {
        let history = || json!({ "message_history": messages(&agent.utterances) });
        let updated = agent.spec.reports_utterances.then(|| parties(leg, history()));
        return updated.map(|extra| ("call.ai_gather.message_history_updated", extra)).into_iter().collect();
    }
    match agent.filter(|agent| agent.spec.collect_schema.is_some()) {
        Some(agent) => gather(leg, facts, agent),
        None => conversation(leg, facts, agent).into_iter().collect(),
    }
}

/// The webhooks of an agent that collects values. The end of the collection is also the end of a conversation.
fn gather(leg: &LegInfo, facts: &ConversationFacts, agent: &AgentFacts) -> Vec<(&'static str, Value)> {
    let history = messages(&agent.utterances);
    let values = |text: &str| serde_json::from_str::<Map<String, Value>>(text);
    let (result, status) = match &facts.status {
        ConversationStatus::Started | ConversationStatus::Utterance(_) => return Vec::new(),
        ConversationStatus::PartialResult(text) => {
            let Ok(values) = values(text) else { return Vec::new() };
            let extra = json!({ "message_history": history, "partial_results": values });
            return vec![("call.ai_gather.partial_results", parties(leg, extra))];
        }
        ConversationStatus::Ended(Some(text)) => match values(text) {
            Ok(values) => (values, "valid"),
            Err(_) => (Map::new(), "invalid"),
        },
        ConversationStatus::Ended(None) | ConversationStatus::Completed | ConversationStatus::Failed { .. } => {
            (Map::new(), "invalid")
        }
    };
    let gathered = parties(leg, json!({ "result": result, "status": status, "message_history": history }));
    let ended = ended(leg, facts, Some(agent), &facts.status);
    vec![("call.ai_gather.ended", gathered), ("call.conversation.ended", ended)]
}

/// The webhook of a conversation with an assistant, or with an application (`agent` is `None`).
fn conversation(leg: &LegInfo, facts: &ConversationFacts, agent: Option<&AgentFacts>) -> Option<(&'static str, Value)> {
    match (&facts.status, agent) {
        (ConversationStatus::Utterance(_) | ConversationStatus::PartialResult(_), _) => None,
        (ConversationStatus::Started, None) => None,
        (ConversationStatus::Started, Some(_)) => {
            let extra = json!({
                "calling_party_type": calling_party_type(leg),
                "conversation_id": conversation_id(facts, agent),
            });
            Some(("call.conversation.created", parties(leg, extra)))
        }
        (ConversationStatus::Failed { after_start: false, .. }, Some(agent)) => {
            let extra = json!({
                "assistant_id": agent.spec.name,
                "calling_party_type": calling_party_type(leg),
                "reason": "service_error",
            });
            Some(("call.conversation.start_failed", parties(leg, extra)))
        }
        (status, agent) => Some(("call.conversation.ended", ended(leg, facts, agent, status))),
    }
}

fn conversation_id(facts: &ConversationFacts, agent: Option<&AgentFacts>) -> String {
    id::uuid_v4(agent.and_then(|agent| agent.spec.conversation).unwrap_or(facts.id.0))
}

fn ended(leg: &LegInfo, facts: &ConversationFacts, agent: Option<&AgentFacts>, status: &ConversationStatus) -> Value {
    let mut extra = json!({
        "assistant_id": agent.map(|agent| &agent.spec.name),
        "calling_party_type": calling_party_type(leg),
        "conversation_id": conversation_id(facts, agent),
        "duration_sec": facts.duration.as_secs(),
        "reason": reason(status, agent.is_some()),
        // The engines are this server's own engines, and Telnyx has no names for them.
        "llm_model": null,
        "stt_model": null,
        "tts_model_id": null,
        "tts_provider": null,
        "tts_voice_id": agent.and_then(|agent| agent.spec.voice.as_deref()),
    });
    // Only the application knows the dialogue of a conversation with an application.
    if let (Some(agent), Some(extra)) = (agent, extra.as_object_mut()) {
        extra.insert("messages".to_owned(), messages(&agent.utterances).into());
    }
    parties(leg, extra)
}

/// The reason why a conversation with an assistant (`has_agent`) or an application has ended.
pub fn reason(status: &ConversationStatus, has_agent: bool) -> &'static str {
    match status {
        ConversationStatus::Completed => "customer_disconnect",
        ConversationStatus::Failed { .. } if has_agent => "error",
        _ if has_agent => "assistant_disconnect",
        // The application ended the conversation, or its WebSocket closed or failed.
        _ => "customer_disconnect",
    }
}

/// The parameters of the request that follows a conversation in a document, besides those of the call. `None` for a
/// conversation with an application.
pub fn document_parameters(facts: &ConversationFacts) -> Option<Vec<(&'static str, String)>> {
    let agent = facts.agent.as_ref()?;
    if agent.spec.collect_schema.is_none() {
        let reason = match reason(&facts.status, true) {
            "error" => "service_error",
            reason => reason,
        };
        return Some(vec![("Reason", reason.to_owned())]);
    }
    let (status, result) = match &facts.status {
        ConversationStatus::Ended(Some(values)) => ("valid", serde_json::from_str(values).unwrap_or_default()),
        _ => ("invalid", Map::new()),
    };
    let encoded = |value: Value| STANDARD.encode(value.to_string());
    Some(vec![
        ("Status", status.to_owned()),
        ("Base64Result", encoded(json!({ "status": status, "result": result }))),
        ("Base64MessageHistory", encoded(messages(&agent.utterances).into())),
    ])
}

fn messages(history: &[Utterance]) -> Vec<Value> {
    let role = |line: &Utterance| if line.by_agent { "assistant" } else { "user" };
    history.iter().map(|line| json!({ "role": role(line), "content": line.text })).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tandem_call::conversation::AgentSpec;
    use tandem_call::stream::StreamFault;
    use tandem_id::ConversationId;

    use super::*;
    use crate::fixture;

    fn facts(status: ConversationStatus, spec: Option<AgentSpec>) -> ConversationFacts {
        let line = |by_agent, text: &str| Utterance { by_agent, text: text.into() };
        let utterances = vec![line(true, "How old are you?"), line(false, "29.")];
        let agent = spec.map(|spec| AgentFacts { spec: Arc::new(spec), utterances });
        ConversationFacts { id: ConversationId(5), status, duration: Duration::from_millis(2_900), agent }
    }

    fn webhooks(status: ConversationStatus, spec: Option<AgentSpec>) -> Vec<(&'static str, Value)> {
        event_types_and_payloads(&fixture::leg(), &facts(status, spec))
    }

    fn webhook(status: ConversationStatus, spec: Option<AgentSpec>) -> Option<(&'static str, Value)> {
        webhooks(status, spec).into_iter().next()
    }

    fn gather() -> Option<AgentSpec> {
        Some(AgentSpec { collect_schema: Some("{}".into()), reports_utterances: true, ..AgentSpec::default() })
    }

    fn failed(after_start: bool) -> ConversationStatus {
        ConversationStatus::Failed { after_start, why: StreamFault::Internal.because("x") }
    }

    #[test]
    fn payloads_have_only_the_published_members() {
        let Some(document) = fixture::published() else { return };
        let line = ConversationStatus::Utterance(Utterance { by_agent: false, text: "x".into() });
        for (schema, status, spec) in [
            ("CallAIGatherPartialResults", ConversationStatus::PartialResult(r#"{"age":29}"#.into()), gather()),
            ("CallAIGatherMessageHistoryUpdated", line, gather()),
            ("CallAIGatherEnded", ConversationStatus::Ended(Some(r#"{"age":29}"#.into())), gather()),
            ("CallAIGatherEnded", ConversationStatus::Completed, gather()),
            ("callConversationEnded", ConversationStatus::Completed, Some(AgentSpec::default())),
            ("callConversationEnded", ConversationStatus::Ended(None), None),
        ] {
            let (event_type, payload) = webhook(status, spec).unwrap();
            let schema = &document["components"]["schemas"][schema]["properties"];
            assert_eq!(schema["event_type"]["enum"], json!([event_type]));
            let members = &fixture::resolve(&document, &schema["payload"])["properties"];
            // The description is older than the types of the SDK, which have `messages`.
            for name in payload.as_object().unwrap().keys().filter(|name| *name != "messages") {
                assert!(!members[name].is_null(), "{event_type} has no {name}");
            }
        }
    }

    #[test]
    fn partial_results_have_the_values_and_the_messages_so_far() {
        let (_, payload) = webhook(ConversationStatus::PartialResult(r#"{"age":29}"#.into()), gather()).unwrap();
        assert_eq!(payload["partial_results"], json!({ "age": 29 }));
        assert_eq!(payload["message_history"][1], json!({ "role": "user", "content": "29." }));
    }

    #[test]
    fn the_end_of_a_gather_is_also_the_end_of_its_conversation() {
        for (status, result) in [
            (ConversationStatus::Ended(Some(r#"{"age":29}"#.into())), "valid"),
            (ConversationStatus::Ended(None), "invalid"),
            (ConversationStatus::Ended(Some("29".into())), "invalid"),
            (failed(false), "invalid"),
        ] {
            let both = webhooks(status, gather());
            let [(gather, gathered), (conversation, ended)] = &both[..] else { panic!("{both:?}") };
            assert_eq!((*gather, *conversation), ("call.ai_gather.ended", "call.conversation.ended"));
            assert_eq!(gathered["status"], result);
            assert_eq!(ended["messages"], gathered["message_history"]);
            assert_eq!(ended["conversation_id"], id::uuid_v4(5));
        }
    }

    #[test]
    fn the_message_history_of_an_assistant_is_reported_to_an_application_that_wants_it() {
        let line = || ConversationStatus::Utterance(Utterance { by_agent: false, text: "29.".into() });
        let spec = |reports_utterances| Some(AgentSpec { reports_utterances, ..AgentSpec::default() });
        assert_eq!(webhook(line(), spec(false)), None);
        let (event_type, payload) = webhook(line(), spec(true)).unwrap();
        assert_eq!(event_type, "call.ai_gather.message_history_updated");
        assert_eq!(payload["message_history"][1], json!({ "role": "user", "content": "29." }));
    }

    #[test]
    fn a_conversation_with_an_assistant_is_created_and_ends_or_fails_to_start() {
        let spec = || Some(AgentSpec { name: "assistant-1".into(), conversation: Some(9), ..AgentSpec::default() });
        let id = id::uuid_v4(9);
        let (event_type, payload) = webhook(ConversationStatus::Started, spec()).unwrap();
        assert_eq!((event_type, &payload["conversation_id"]), ("call.conversation.created", &json!(id)));
        let (event_type, payload) = webhook(failed(false), spec()).unwrap();
        assert_eq!((event_type, &payload["reason"]), ("call.conversation.start_failed", &json!("service_error")));
        assert_eq!(payload["assistant_id"], "assistant-1");
        let ended = |status| {
            let (event_type, payload) = webhook(status, spec()).unwrap();
            assert_eq!((event_type, &payload["conversation_id"]), ("call.conversation.ended", &json!(id)));
            payload["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!(ended(failed(true)), "error");
        assert_eq!(ended(ConversationStatus::Completed), "customer_disconnect");
        assert_eq!(ended(ConversationStatus::Ended(None)), "assistant_disconnect");
    }

    #[test]
    fn only_the_end_of_a_conversation_relay_is_reported() {
        assert_eq!(webhook(ConversationStatus::Started, None), None);
        for status in
            [failed(true), failed(false), ConversationStatus::Ended(Some("x".into())), ConversationStatus::Completed]
        {
            let (event_type, payload) = webhook(status, None).unwrap();
            assert_eq!((event_type, &payload["reason"]), ("call.conversation.ended", &json!("customer_disconnect")));
            assert_eq!(payload["conversation_id"], id::uuid_v4(5));
            assert_eq!(payload["duration_sec"], 2);
        }
    }

    #[test]
    fn a_document_that_follows_a_gather_gets_the_published_parameters() {
        let decoded = |text: &str| serde_json::from_slice::<Value>(&STANDARD.decode(text).unwrap()).unwrap();
        let parameters =
            document_parameters(&facts(ConversationStatus::Ended(Some(r#"{"age":29}"#.into())), gather())).unwrap();
        assert_eq!(parameters[0], ("Status", "valid".to_owned()));
        assert_eq!((parameters[1].0, parameters[2].0), ("Base64Result", "Base64MessageHistory"));
        assert_eq!(decoded(&parameters[1].1), json!({ "status": "valid", "result": { "age": 29 } }));
        assert_eq!(decoded(&parameters[2].1)[0], json!({ "role": "assistant", "content": "How old are you?" }));
        let silent = document_parameters(&facts(ConversationStatus::Ended(None), gather())).unwrap();
        assert_eq!(silent[0], ("Status", "invalid".to_owned()));
        let spoken = document_parameters(&facts(failed(true), Some(AgentSpec::default()))).unwrap();
        assert_eq!(spoken, [("Reason", "service_error".to_owned())]);
        assert_eq!(document_parameters(&facts(ConversationStatus::Ended(None), None)), None);
    }
}
