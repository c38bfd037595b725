//! The events of a call as data, for the lines of its log. Readers draw a time axis from this data, so they do not have to
//! read the texts. `docs/console.md` has the members.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_call::conversation::ConversationStatus;
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::event::{CallEvent, EventKind, GatherEnd, Playback, ReferState};
use tandem_call::program::instruction::AudioSource;
use tandem_call::recording::{Recording, RecordingStatus};
use tandem_call::siprec::SiprecStatus;
use tandem_call::stream::StreamStatus;
use tandem_call::transcription::TranscriptionStatus;
use tandem_dialect::Dialect;
use tandem_history::notification::Level;

use super::publish::named;

/// Returns the data of an event. `None` if the text of the line says everything. DTMF digits are left out, because they may
/// be a PIN.
pub(super) fn of(event: &CallEvent, dialect: Option<&Arc<dyn Dialect>>) -> Option<Value> {
    Some(match &event.kind {
        EventKind::Ringing { early_media } => {
            json!({ "event": "status", "status": "ringing", "early_media": early_media })
        }
        EventKind::Answered { .. } => json!({ "event": "status", "status": "answered" }),
        EventKind::DtmfReceived { .. } => json!({ "event": "digit" }),
        EventKind::PlaybackStarted(playback) => prompt("started", playback),
        EventKind::PlaybackEnded(playback, _) => prompt("ended", playback),
        EventKind::GatherEnded { digits, end, words, .. } => {
            let result = if *end == GatherEnd::Valid { "complete".to_owned() } else { end.to_string() };
            json!({ "event": "gather", "digits": digits.len(), "speech": words.is_some(), "result": result })
        }
        EventKind::EngineFailed(failure) => engine_failed(failure),
        EventKind::Bridged { with } => {
            let with = named(dialect, with.id, |dialect| dialect.call_id(with.id));
            json!({ "event": "bridge", "state": "started", "with": with })
        }
        EventKind::Unbridged => json!({ "event": "bridge", "state": "ended" }),
        EventKind::ConferenceJoined(one) => span("conference", "started", one.conference.to_string()),
        EventKind::ConferenceLeft(one) => span("conference", "ended", one.conference.to_string()),
        EventKind::Enqueued { queue, .. } => span("queue", "started", queue.to_string()),
        EventKind::Dequeued(outcome) => span("queue", "ended", outcome.name.to_string()),
        EventKind::Recording(recording) => of_recording(recording, dialect),
        EventKind::Stream(facts) => {
            let state = if facts.status == StreamStatus::Started { "started" } else { "ended" };
            span("stream", state, named(dialect, facts.id, |dialect| dialect.stream_id(facts.id)))
        }
        EventKind::Siprec(facts) => {
            let state = match &facts.status {
                SiprecStatus::Started => "started",
                SiprecStatus::Paused | SiprecStatus::Resumed => "changed",
                SiprecStatus::Stopped | SiprecStatus::Failed(_) => "ended",
            };
            span("siprec", state, facts.id.to_string())
        }
        EventKind::Transcription(facts) => {
            let state = match &facts.status {
                TranscriptionStatus::Started => "started",
                TranscriptionStatus::Recognised { .. } => "changed",
                _ => "ended",
            };
            span("transcription", state, facts.id.to_string())
        }
        EventKind::Conversation(facts) => {
            let state = match &facts.status {
                ConversationStatus::Started => "started",
                ConversationStatus::Utterance(_) | ConversationStatus::PartialResult(_) => "changed",
                ConversationStatus::Ended(_) | ConversationStatus::Completed | ConversationStatus::Failed { .. } => {
                    "ended"
                }
            };
            span("agent", state, named(dialect, facts.id, |dialect| dialect.conversation_id(facts.id)))
        }
        EventKind::MachineDetected(facts) => json!({
            "event": "machine_detection", "result": facts.result.to_string(), "after_ms": facts.after.as_millis() as u64,
        }),
        EventKind::Dialed(result) => json!({
            "event": "dial", "result": result.status.to_string(), "bridged_ms": result.duration.as_millis() as u64,
        }),
        EventKind::Refer(facts) => {
            let state = if facts.state == ReferState::Started { "started" } else { "ended" };
            json!({ "event": "transfer", "state": state, "to": facts.to, "sip_status": facts.progress.or(facts.answer) })
        }
        _ => return None,
    })
}

/// Adds the level of a problem to the data of its line.
pub(super) fn with_level(data: Option<Value>, level: Level) -> Value {
    let mut members = match data {
        Some(Value::Object(members)) => members,
        _ => Map::from_iter([("event".to_owned(), "problem".into())]),
    };
    members.insert("level".to_owned(), level.word().into());
    Value::Object(members)
}

/// Returns the data of a running verb. `document` is the URL of its document.
pub(super) fn verb(state: &str, verb: &str, document: Option<&str>) -> Value {
    json!({ "event": "verb", "state": state, "verb": verb, "document": document })
}

fn span(event: &str, state: &str, id: String) -> Value {
    json!({ "event": event, "state": state, "id": id })
}

fn prompt(state: &str, playback: &Playback) -> Value {
    let source = match &playback.source {
        AudioSource::Speech(_) => "speech",
        AudioSource::Url(_) | AudioSource::UncachedUrl(_) => "url",
        AudioSource::Inline(_) => "octets",
        AudioSource::Stored(_) => "file",
        AudioSource::Tone(_) => "tone",
        AudioSource::Music => "music",
        AudioSource::Silence(_) => "silence",
    };
    json!({ "event": "prompt", "state": state, "id": playback.op.0, "source": source })
}

fn of_recording(recording: &Recording, dialect: Option<&Arc<dyn Dialect>>) -> Value {
    let state = match &recording.status {
        RecordingStatus::InProgress => "started",
        RecordingStatus::Paused => "changed",
        RecordingStatus::Completed | RecordingStatus::Absent | RecordingStatus::Failed(_) => "ended",
    };
    span("recording", state, named(dialect, recording.id, |dialect| dialect.recording_id(recording.id)))
}

fn engine_failed(failure: &EngineFailure) -> Value {
    let event = match failure.engine {
        Engine::Model => "model_failed",
        Engine::Voice | Engine::File => "not_said",
        Engine::Recogniser => "not_heard",
        Engine::Tool => "tool_failed",
    };
    json!({ "event": event, "why": failure.detail, "recovered": failure.effect == EngineEffect::Recovered })
}
