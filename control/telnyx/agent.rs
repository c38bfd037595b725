//! Webhooks about conversations with a voice agent: the values that the agent collected, and the end of the
//! conversation.

use serde_json::{Map, Value, json};
use tandem_call::conversation::{AgentFacts, ConversationFacts, ConversationStatus, Utterance};
use tandem_call::leg::LegInfo;

use super::id;
use super::webhook::{calling_party_type, parties};

/// The event type and the payload. The payload has only the members that are specific to this event. `None` if Telnyx
/// has no webhook for this event.
pub(super) fn event_type_and_payload(leg: &LegInfo, facts: &ConversationFacts) -> Option<(&'static str, Value)> {
    let agent = facts.agent.as_ref()?;
    let history = messages(&agent.utterances);
    match (&facts.status, agent.spec.collect_schema.is_some()) {
        (ConversationStatus::Utterance(_), true) if agent.spec.reports_utterances => {
            ("call.ai_gather.message_history_updated", parties(leg, json!({ "message_history": history })))
        }
        (ConversationStatus::Started | ConversationStatus::Utterance(_), _) => return None,
        (ConversationStatus::Ended(Some(values)), true) => {
            ("call.ai_gather.ended", gathered(leg, serde_json::from_str(values).ok()?, "valid", history))
        }
        (_, true) => ("call.ai_gather.ended", gathered(leg, Map::new(), "invalid", history)),
        (status, false) => ("call.conversation.ended", ended(leg, facts, agent, status)),
    }
    .into()
}

fn gathered(leg: &LegInfo, result: Map<String, Value>, status: &str, history: Vec<Value>) -> Value {
    parties(leg, json!({ "result": result, "status": status, "message_history": history }))
}

fn ended(leg: &LegInfo, facts: &ConversationFacts, agent: &AgentFacts, status: &ConversationStatus) -> Value {
    let reason = match status {
        ConversationStatus::Failed { .. } => "error",
        ConversationStatus::Completed => "customer_disconnect",
        _ => "assistant_disconnect",
    };
    let extra = json!({
        "assistant_id": agent.spec.name,
        "calling_party_type": calling_party_type(leg),
        "conversation_id": id::uuid_v4(agent.spec.conversation.unwrap_or(facts.id.0)),
        "duration_sec": facts.duration.as_secs(),
        "reason": reason,
        // The engines are this server's own engines, and Telnyx has no names for them.
        "llm_model": null,
        "stt_model": null,
        "tts_model_id": null,
        "tts_provider": null,
        "tts_voice_id": agent.spec.voice,
    });
    parties(leg, extra)
}

fn messages(history: &[Utterance]) -> Vec<Value> {
    let role = |line: &Utterance| if line.by_agent { "assistant" } else { "user" };
    history.iter().map(|line| json!({ "role": role(line), "content": line.text })).collect()
}
