//! The messages of OpenAI's realtime protocol. The server sends messages with the names of the configured protocol
//! version. The server accepts messages with the names of both versions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::chat::ToolCall;
use super::super::config::Protocol;

/// The encoding of audio. Both directions use the same encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// G.711 µ-law, 8 kHz.
    Pcmu,
    /// Linear PCM, 16 bits, little endian, 24 kHz.
    Pcm24,
}

impl Format {
    /// Returns the number of octets for each millisecond of audio.
    pub fn octets(self) -> u64 {
        match self {
            Self::Pcmu => 8,
            Self::Pcm24 => 48,
        }
    }

    fn named(self, protocol: Protocol) -> Value {
        match (self, protocol) {
            (Self::Pcmu, Protocol::Ga) => json!({ "type": "audio/pcmu" }),
            (Self::Pcm24, Protocol::Ga) => json!({ "type": "audio/pcm", "rate": 24_000 }),
            (Self::Pcmu, Protocol::Beta) => json!("g711_ulaw"),
            (Self::Pcm24, Protocol::Beta) => json!("pcm16"),
        }
    }
}

/// The settings of a session.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub(super) instructions: &'a str,
    pub(super) voice: Option<&'a str>,
    /// The language of the caller. `None` means any language.
    pub(super) language: Option<&'a str>,
    pub(super) transcription: &'a str,
    pub(super) max_tokens: Option<u32>,
    /// The tools, in the JSON format of a chat endpoint.
    pub(super) tools: &'a [Value],
    /// Whether the caller's voice interrupts a response.
    pub(super) interruptible: bool,
    /// Additional members of the session object, which are sent unchanged.
    pub(super) extra: &'a Map<String, Value>,
}

/// Creates a `session.update` message.
pub(super) fn session(protocol: Protocol, format: Format, settings: &Settings<'_>) -> Value {
    let mut turns = json!({ "type": "server_vad", "create_response": true });
    if let Some(turns) = turns.as_object_mut() {
        turns.insert("interrupt_response".into(), settings.interruptible.into());
    }
    // The first subtag of a BCP 47 tag is an ISO 639-1 code.
    let transcription = match settings.language.and_then(|language| language.split('-').next()) {
        Some(language) => json!({ "model": settings.transcription, "language": language }),
        None => json!({ "model": settings.transcription }),
    };
    let tools: Vec<Value> = settings.tools.iter().filter_map(flat).collect();
    let mut session = match protocol {
        Protocol::Ga => json!({
            "type": "realtime",
            "instructions": settings.instructions,
            "output_modalities": ["audio"],
            "audio": {
                "input": { "format": format.named(protocol), "transcription": transcription, "turn_detection": turns },
                "output": { "format": format.named(protocol) },
            },
            "tools": tools,
        }),
        Protocol::Beta => json!({
            "instructions": settings.instructions,
            "modalities": ["text", "audio"],
            "input_audio_format": format.named(protocol),
            "output_audio_format": format.named(protocol),
            "input_audio_transcription": transcription,
            "turn_detection": turns,
            "tools": tools,
        }),
    };
    let (voice, tokens) = match protocol {
        Protocol::Ga => ("/audio/output", "max_output_tokens"),
        Protocol::Beta => ("", "max_response_output_tokens"),
    };
    if let (Some(name), Some(place)) = (settings.voice, session.pointer_mut(voice).and_then(Value::as_object_mut)) {
        place.insert("voice".into(), name.into());
    }
    if let Some(session) = session.as_object_mut() {
        session.extend(settings.max_tokens.map(|max| (tokens.to_owned(), Value::from(max))));
        session.extend(settings.extra.clone());
    }
    json!({ "type": "session.update", "session": session })
}

/// Converts a tool from the JSON format of a chat endpoint to the JSON format of this protocol.
fn flat(tool: &Value) -> Option<Value> {
    let mut function = tool.get("function")?.as_object()?.clone();
    function.insert("type".into(), "function".into());
    Some(Value::Object(function))
}

/// Creates a message with audio of the caller, in the session's format.
pub fn append(octets: &[u8]) -> String {
    let mut text = String::with_capacity(64 + octets.len() / 3 * 4);
    text.push_str(r#"{"type":"input_audio_buffer.append","audio":""#);
    STANDARD.encode_string(octets, &mut text);
    text.push_str(r#""}"#);
    text
}

/// Creates a message with an earlier line of the dialogue, or with information for the model.
pub(super) fn message(role: &str, text: &str) -> Value {
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    let content = [json!({ "type": kind, "text": text })];
    json!({ "type": "conversation.item.create", "item": { "type": "message", "role": role, "content": content } })
}

/// Creates a message with the result of a tool call.
pub(super) fn result(call: &str, text: &str) -> Value {
    let item = json!({ "type": "function_call_output", "call_id": call, "output": text });
    json!({ "type": "conversation.item.create", "item": item })
}

/// Creates a message that removes the part of an item that the caller did not hear.
pub(super) fn truncate(item: &str, milliseconds: u64) -> Value {
    match milliseconds {
        0 => json!({ "type": "conversation.item.delete", "item_id": item }),
        _ => {
            json!({ "type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": milliseconds })
        }
    }
}

/// The `event_id` of each request for a response. An error message repeats this id.
pub(super) const RESPOND: &str = "respond";

/// Creates a request for a response, with optional instructions.
pub(super) fn respond(instructions: Option<&str>) -> Value {
    match instructions {
        Some(text) => json!({ "type": "response.create", "event_id": RESPOND, "response": { "instructions": text } }),
        None => json!({ "type": "response.create", "event_id": RESPOND }),
    }
}

/// A message of the model.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The model has accepted the settings of the session.
    Updated,
    /// The caller speaks (`true`) or has paused (`false`).
    Speech(bool),
    /// The transcript of the caller's words.
    Heard(String),
    /// A response of the model started.
    Began,
    /// The response ended. The text is the reason of a failure.
    Ended(Option<String>),
    /// Audio of an item.
    Audio {
        /// The id of the item.
        item: String,
        /// The audio, in the session's format.
        octets: Vec<u8>,
    },
    /// Words of an item: the complete transcript, or its next part.
    Words {
        /// The id of the item.
        item: String,
        /// The complete transcript, or the next part of the transcript.
        text: String,
        /// Whether `text` is the complete transcript.
        is_whole: bool,
    },
    /// The model calls a tool.
    Call(ToolCall),
    /// The model's server reports an error.
    Error {
        /// The error code of the server.
        code: String,
        /// The error message of the server.
        why: String,
        /// The `event_id` of the message that caused the error.
        of: String,
    },
    /// A message that needs no reaction.
    Other,
}

/// Decodes a message. An invalid message becomes [`Event::Error`] with the code `MALFORMED`.
pub fn decode(text: &str) -> Event {
    let Ok(event) = serde_json::from_str::<Value>(text) else {
        return malformed("the model's message is not JSON");
    };
    let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    // Converts the names of the beta version to the current names.
    let kind = word("/type").replace("response.audio", "response.output_audio");
    match kind.as_str() {
        "session.updated" => Event::Updated,
        "input_audio_buffer.speech_started" => Event::Speech(true),
        "input_audio_buffer.speech_stopped" => Event::Speech(false),
        "conversation.item.input_audio_transcription.completed" => Event::Heard(word("/transcript").trim().to_owned()),
        "response.created" => Event::Began,
        "response.done" => Event::Ended((word("/response/status") == "failed").then(|| {
            let why = word("/response/status_details/error/message");
            if why.is_empty() { "the answer failed".to_owned() } else { why }
        })),
        "response.output_audio.delta" => match STANDARD.decode(word("/delta")) {
            Ok(octets) => Event::Audio { item: word("/item_id"), octets },
            Err(_) => malformed("the model's audio is not base64"),
        },
        "response.output_audio_transcript.delta" => {
            Event::Words { item: word("/item_id"), text: word("/delta"), is_whole: false }
        }
        "response.output_audio_transcript.done" => {
            let text = word("/transcript").trim().to_owned();
            Event::Words { item: word("/item_id"), text, is_whole: true }
        }
        "response.output_item.done" if word("/item/type") == "function_call" => {
            let (id, name, arguments) = (word("/item/call_id"), word("/item/name"), word("/item/arguments"));
            Event::Call(ToolCall { id, name, arguments })
        }
        "error" => Event::Error { code: word("/error/code"), why: word("/error/message"), of: word("/error/event_id") },
        _ => Event::Other,
    }
}

/// The error code for a message that is not valid in the protocol.
pub(super) const MALFORMED: &str = "malformed";

fn malformed(why: &str) -> Event {
    Event::Error { code: MALFORMED.to_owned(), why: why.to_owned(), of: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(extra: &Map<String, Value>) -> Settings<'_> {
        Settings {
            instructions: "Be kind.",
            voice: Some("marin"),
            language: Some("de-DE"),
            transcription: "whisper-1",
            max_tokens: None,
            tools: &[],
            interruptible: true,
            extra,
        }
    }

    #[test]
    fn session_requests_have_the_field_names_of_their_protocol_version() {
        let extra = json!({ "temperature": 0.7 });
        let extra = extra.as_object().unwrap();
        let ga = session(Protocol::Ga, Format::Pcmu, &settings(&Map::new()));
        assert_eq!(ga["session"]["audio"]["output"], json!({ "format": { "type": "audio/pcmu" }, "voice": "marin" }));
        assert_eq!(ga["session"]["audio"]["input"]["transcription"]["language"], "de");
        let beta = session(Protocol::Beta, Format::Pcm24, &settings(extra));
        let beta = &beta["session"];
        assert_eq!((&beta["voice"], &beta["input_audio_format"]), (&json!("marin"), &json!("pcm16")));
        assert_eq!((&beta["temperature"], &beta["type"]), (&json!(0.7), &Value::Null));
    }

    #[test]
    fn messages_of_both_protocol_versions_are_parsed_and_others_ignored() {
        for name in ["response.audio.delta", "response.output_audio.delta"] {
            let text = json!({ "type": name, "item_id": "i", "delta": "AAE=" }).to_string();
            assert_eq!(decode(&text), Event::Audio { item: "i".to_owned(), octets: vec![0, 1] });
        }
        let failed = json!({ "type": "response.done", "response": { "status": "failed" } }).to_string();
        assert_eq!(decode(&failed), Event::Ended(Some("the answer failed".to_owned())));
        assert_eq!(decode(r#"{"type":"response.of_a_later_version"}"#), Event::Other);
        assert!(matches!(decode("{]"), Event::Error { code, .. } if code == MALFORMED));
    }
}
