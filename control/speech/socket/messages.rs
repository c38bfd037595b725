//! The messages of the interfaces for text to speech over a WebSocket. This module does no I/O.
//!
//! | interface | a text | its end | cancelled by |
//! |---|---|---|---|
//! | ElevenLabs | `text`, `flush`; an empty text | `isFinal` | closing the connection |
//! | ElevenLabs, several contexts | the same with `context_id`; `close_context` | `isFinal` of the context | `close_context` |
//! | Cartesia | `transcript` with `context_id` | `done` of the context | `cancel` |
//! | Deepgram | `Speak`, `Flush` | `Flushed` | `Clear`, which `Cleared` answers |
//!
//! The audio is µ-law at 8,000 Hz, as on most legs, so it is not converted.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use tandem_media::g711::Law;
use tandem_settings::Secret;
use url::Url;

use crate::config::{DEFAULT_MODEL, SocketInterface};

/// The version of Cartesia's interface.
const CARTESIA_VERSION: &str = "2026-08-14";
/// Cartesia's model if the configuration does not name a model. A request without a model is refused.
const CARTESIA_MODEL: &str = "sonic-3";
/// The time after which ElevenLabs closes a connection without messages, in seconds. Its own default is 20 s.
const ELEVENLABS_IDLE: &str = "180";
/// The place of the voice in the path of the URL, as the URL parser writes it.
const VOICE: &str = "%7Bvoice%7D";

/// An engine with one of the interfaces.
pub(crate) struct Protocol {
    pub(crate) interface: SocketInterface,
    pub(crate) url: Url,
    pub(crate) key: Option<Secret>,
    pub(crate) model: String,
}

/// The meaning of a message of the engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Samples at 8,000 Hz.
    Samples(Vec<i16>),
    /// The last samples of the text.
    Last(Vec<i16>),
    /// All audio of the text has been sent.
    Done,
    /// The request to cancel a text has been carried out.
    Cleared,
    Failed(String),
    /// The message has no meaning for this text.
    Nothing,
}

impl Protocol {
    /// Returns the URL of a connection that speaks with this voice.
    pub(super) fn target(&self, voice: &str) -> String {
        let mut url = self.url.clone();
        let segment: String = url::form_urlencoded::byte_serialize(voice.as_bytes()).collect();
        let path = url.path().replace(VOICE, &segment);
        url.set_path(&path);
        match self.interface {
            SocketInterface::ElevenLabs | SocketInterface::ElevenLabsMulti => {
                replace(&mut url, "output_format", "ulaw_8000");
                add(&mut url, "inactivity_timeout", ELEVENLABS_IDLE);
                if self.model != DEFAULT_MODEL {
                    add(&mut url, "model_id", &self.model);
                }
            }
            SocketInterface::Deepgram => {
                for (name, value) in [("encoding", "mulaw"), ("sample_rate", "8000")] {
                    replace(&mut url, name, value);
                }
                // A voice of Deepgram is a model.
                add(&mut url, "model", voice);
            }
            SocketInterface::Cartesia => {}
        }
        url.into()
    }

    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let key = |name: &str, scheme: &str| {
            self.key.as_ref().map(|key| (name.to_owned(), format!("{scheme}{}", key.expose())))
        };
        match self.interface {
            SocketInterface::ElevenLabs | SocketInterface::ElevenLabsMulti => {
                key("xi-api-key", "").into_iter().collect()
            }
            SocketInterface::Deepgram => key("Authorization", "Token ").into_iter().collect(),
            SocketInterface::Cartesia => {
                let version = ("Cartesia-Version".to_owned(), CARTESIA_VERSION.to_owned());
                key("X-API-Key", "").into_iter().chain([version]).collect()
            }
        }
    }

    /// Returns the messages that request the speech for a text. `context` identifies the text on its connection.
    pub(super) fn request(&self, context: &str, voice: &str, language: Option<&str>, text: &str) -> Vec<String> {
        // ElevenLabs wants a space at the end of each text.
        let spaced = format!("{} ", text.trim());
        let messages = match self.interface {
            SocketInterface::ElevenLabs => {
                vec![json!({ "text": " " }), json!({ "text": spaced, "flush": true }), json!({ "text": "" })]
            }
            SocketInterface::ElevenLabsMulti => vec![
                json!({ "text": " ", "context_id": context }),
                json!({ "text": spaced, "context_id": context, "flush": true }),
                json!({ "context_id": context, "close_context": true }),
            ],
            SocketInterface::Cartesia => {
                let model = if self.model == DEFAULT_MODEL { CARTESIA_MODEL } else { &self.model };
                let mut request = json!({
                    "context_id": context,
                    "model_id": model,
                    "transcript": text,
                    "continue": false,
                    "max_buffer_delay_ms": 0,
                    "voice": { "mode": "id", "id": voice },
                    "output_format": { "container": "raw", "encoding": "pcm_mulaw", "sample_rate": 8_000 },
                });
                if let (Some(language), Some(request)) = (language, request.as_object_mut()) {
                    let primary = language.split(['-', '_']).next().unwrap_or_default().to_lowercase();
                    request.insert("language".to_owned(), primary.into());
                }
                vec![request]
            }
            SocketInterface::Deepgram => vec![json!({ "type": "Speak", "text": text }), json!({ "type": "Flush" })],
        };
        messages.iter().map(ToString::to_string).collect()
    }

    /// Returns the message that cancels a text. Without such a message, the connection must be closed.
    pub(super) fn cancel(&self, context: &str) -> Option<String> {
        let message = match self.interface {
            SocketInterface::ElevenLabs => return None,
            SocketInterface::ElevenLabsMulti => json!({ "context_id": context, "close_context": true }),
            SocketInterface::Cartesia => json!({ "context_id": context, "cancel": true }),
            SocketInterface::Deepgram => json!({ "type": "Clear" }),
        };
        Some(message.to_string())
    }

    /// Whether the engine confirms that a text is cancelled. Audio that arrives before the confirmation belongs to the
    /// cancelled text.
    pub(super) fn confirms_cancel(&self) -> bool {
        self.interface == SocketInterface::Deepgram
    }

    /// Whether a connection can speak several texts, one after another.
    pub(super) fn keeps_connection(&self) -> bool {
        self.interface != SocketInterface::ElevenLabs
    }

    /// The time after which an unused connection is closed. It is shorter than the limit of the engine.
    pub(super) fn idle(&self) -> Duration {
        Duration::from_secs(match self.interface {
            SocketInterface::ElevenLabs | SocketInterface::ElevenLabsMulti => 170,
            // Cartesia closes a connection after 5 minutes without messages.
            SocketInterface::Cartesia => 270,
            // The limit of Deepgram for connections without audio is not published.
            SocketInterface::Deepgram => 50,
        })
    }

    /// The number of texts that a connection may speak within a minute, if the engine has such a limit.
    pub(super) fn texts_in_a_minute(&self) -> Option<usize> {
        // Deepgram refuses more than 20 `Flush` messages within a minute.
        (self.interface == SocketInterface::Deepgram).then_some(20)
    }

    /// Reads a text message of the engine.
    pub(super) fn read(&self, text: &str, context: &str) -> Answer {
        let Ok(message) = serde_json::from_str::<Message>(text) else { return Answer::Nothing };
        let of_message = message.context_id.as_deref().or(message.context.as_deref());
        // The other text is cancelled.
        if of_message.is_some_and(|other| other != context) {
            return Answer::Nothing;
        }
        match self.interface {
            SocketInterface::ElevenLabs | SocketInterface::ElevenLabsMulti => {
                let is_error = message.error.is_some() || (message.code.is_some() && message.message.is_some());
                let is_last = message.is_final == Some(true);
                match message.audio.as_deref().unwrap_or_default() {
                    _ if is_error => Answer::Failed(message.failure()),
                    "" if is_last => Answer::Done,
                    "" => Answer::Nothing,
                    audio => samples(audio, is_last),
                }
            }
            SocketInterface::Cartesia => match message.kind.as_deref() {
                Some("chunk") => samples(message.data.as_deref().unwrap_or_default(), message.done == Some(true)),
                Some("done") => Answer::Done,
                Some("error") => Answer::Failed(message.failure()),
                _ => Answer::Nothing,
            },
            SocketInterface::Deepgram => match message.kind.as_deref() {
                Some("Flushed") => Answer::Done,
                Some("Cleared") => Answer::Cleared,
                Some("Error") => Answer::Failed(message.failure()),
                Some("Warning") => {
                    tracing::warn!("speech.tts: the engine warns: {}", message.failure());
                    Answer::Nothing
                }
                _ => Answer::Nothing,
            },
        }
    }

    /// Reads a binary message of the engine.
    pub(super) fn read_binary(&self, octets: &[u8]) -> Answer {
        match self.interface {
            SocketInterface::Deepgram if !octets.is_empty() => Answer::Samples(decoded(octets)),
            _ => Answer::Nothing,
        }
    }
}

/// A message of any engine.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: Option<String>,
    /// ElevenLabs has had both spellings.
    context_id: Option<String>,
    #[serde(rename = "contextId")]
    context: Option<String>,
    audio: Option<String>,
    data: Option<String>,
    #[serde(rename = "isFinal", alias = "is_final")]
    is_final: Option<bool>,
    done: Option<bool>,
    error: Option<serde_json::Value>,
    code: Option<serde_json::Value>,
    error_code: Option<serde_json::Value>,
    title: Option<serde_json::Value>,
    message: Option<serde_json::Value>,
    description: Option<serde_json::Value>,
}

impl Message {
    /// The reason of a failure, from the members that the engines use for it.
    fn failure(&self) -> String {
        let values = [&self.title, &self.message, &self.description, &self.error, &self.error_code, &self.code];
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let parts: Vec<String> = values.into_iter().flatten().map(text).collect();
        format!("the engine reports: {}", parts.join(", ")).chars().take(300).collect()
    }
}

fn samples(base64: &str, is_last: bool) -> Answer {
    match STANDARD.decode(base64) {
        Ok(octets) if octets.is_empty() && is_last => Answer::Done,
        Ok(octets) if octets.is_empty() => Answer::Nothing,
        Ok(octets) if is_last => Answer::Last(decoded(&octets)),
        Ok(octets) => Answer::Samples(decoded(&octets)),
        Err(error) => Answer::Failed(format!("the engine's audio is damaged: {error}")),
    }
}

fn decoded(octets: &[u8]) -> Vec<i16> {
    let mut samples = vec![0; octets.len()];
    Law::Mu.decode(octets, &mut samples);
    samples
}

/// Adds a parameter to the query, unless the configured URL has the parameter.
fn add(url: &mut Url, name: &str, value: &str) {
    if !url.query_pairs().any(|(known, _)| known == name) {
        url.query_pairs_mut().append_pair(name, value);
    }
}

/// Sets a parameter of the query, also if the configured URL has another value.
fn replace(url: &mut Url, name: &str, value: &str) {
    let others: Vec<(String, String)> =
        url.query_pairs().filter(|(known, _)| known != name).map(|(name, value)| (name.into(), value.into())).collect();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn protocol(url: &str, model: &str) -> Protocol {
        let url: Url = url.parse().unwrap();
        let interface = SocketInterface::of(&url).unwrap();
        Protocol { interface, url, key: Some(Secret::new("s3cret")), model: model.to_owned() }
    }

    fn requests(protocol: &Protocol) -> Vec<Value> {
        let messages = protocol.request("c1", "ana", Some("de-DE"), "Guten Tag.");
        messages.iter().map(|message| serde_json::from_str(message).unwrap()).collect()
    }

    #[test]
    fn elevenlabs_gets_one_text_and_its_end() {
        let one =
            protocol("wss://h/v1/text-to-speech/{voice}/stream-input?output_format=mp3_44100", "eleven_flash_v2_5");
        assert_eq!(
            one.target("a/b"),
            "wss://h/v1/text-to-speech/a%2Fb/stream-input?output_format=ulaw_8000&inactivity_timeout=180&\
             model_id=eleven_flash_v2_5"
        );
        assert_eq!(one.headers(), [("xi-api-key".to_owned(), "s3cret".to_owned())]);
        let expected = [json!({"text": " "}), json!({"text": "Guten Tag. ", "flush": true}), json!({"text": ""})];
        assert_eq!(requests(&one), expected);
        assert_eq!(one.cancel("c1"), None);
        assert_eq!(one.read(r#"{"audio":"/38=","isFinal":null}"#, "c1"), Answer::Samples(vec![0, 0]));
        assert_eq!(one.read(r#"{"audio":null,"isFinal":true}"#, "c1"), Answer::Done);
        let refusal = r#"{"message":"no such voice","error":"voice_not_found","code":1008}"#;
        let Answer::Failed(why) = one.read(refusal, "c1") else { panic!() };
        assert!(why.contains("no such voice") && why.contains("1008"), "{why}");
        assert!(!protocol("wss://h/v1/text-to-speech/x/stream-input", "tts-1").target("x").contains("model_id"));
    }

    #[test]
    fn elevenlabs_with_contexts_keeps_the_texts_apart() {
        let multi = protocol("wss://h/v1/text-to-speech/ana/multi-stream-input", "tts-1");
        assert_eq!(requests(&multi)[1], json!({"text": "Guten Tag. ", "context_id": "c1", "flush": true}));
        assert_eq!(multi.cancel("c1").unwrap(), r#"{"close_context":true,"context_id":"c1"}"#);
        assert_eq!(multi.read(r#"{"audio":"//8=","contextId":"c0"}"#, "c1"), Answer::Nothing);
        assert_eq!(multi.read(r#"{"audio":"//8=","contextId":"c1"}"#, "c1"), Answer::Samples(vec![0, 0]));
        assert_eq!(multi.read(r#"{"isFinal":true,"contextId":"c1"}"#, "c1"), Answer::Done);
        let both = r#"{"audio":"//8=","isFinal":true,"contextId":"c1","context_id":"c1"}"#;
        assert_eq!(multi.read(both, "c1"), Answer::Last(vec![0, 0]), "the last audio is also the end");
        let late = r#"{"error":"context_not_found","message":"no such context","code":1008,"contextId":"c0"}"#;
        assert_eq!(multi.read(late, "c1"), Answer::Nothing, "an error of a cancelled text is none of this text");
        let structured = r#"{"error":"quota_exceeded","message":{"text":"no credits"},"contextId":"c1"}"#;
        assert!(matches!(multi.read(structured, "c1"), Answer::Failed(why) if why.contains("no credits")));
        assert!(multi.keeps_connection());
    }

    #[test]
    fn cartesia_gets_the_model_the_voice_and_the_primary_language() {
        let cartesia = protocol("wss://api.cartesia.ai/tts/websocket", "tts-1");
        let request = &requests(&cartesia)[0];
        assert_eq!((&request["model_id"], &request["language"]), (&json!("sonic-3"), &json!("de")));
        assert_eq!(request["output_format"]["encoding"], "pcm_mulaw");
        assert_eq!(cartesia.cancel("c1").unwrap(), r#"{"cancel":true,"context_id":"c1"}"#);
        let headers = cartesia.headers();
        assert!(headers.contains(&("X-API-Key".to_owned(), "s3cret".to_owned())), "{headers:?}");
        let chunk =
            r#"{"type":"chunk","context_id":"c1","data":"//8=","done":false,"status_code":206,"step_time":1.5}"#;
        assert_eq!(cartesia.read(chunk, "c1"), Answer::Samples(vec![0, 0]));
        assert_eq!(cartesia.read(chunk, "c2"), Answer::Nothing, "it belongs to a cancelled text");
        assert_eq!(
            cartesia.read(r#"{"type":"done","context_id":"c1","done":true,"status_code":200}"#, "c1"),
            Answer::Done
        );
        let error = r#"{"type":"error","done":true,"title":"Invalid voice","message":"no such id","status_code":400}"#;
        assert!(matches!(cartesia.read(error, "c1"), Answer::Failed(why) if why.contains("Invalid voice")));
    }

    #[test]
    fn deepgram_flushes_each_text_and_confirms_that_a_text_is_cancelled() {
        let deepgram = protocol("wss://api.deepgram.com/v1/speak?encoding=linear16&mip_opt_out=true", "tts-1");
        assert_eq!(
            deepgram.target("aura-2-thalia-en"),
            "wss://api.deepgram.com/v1/speak?mip_opt_out=true&encoding=mulaw&sample_rate=8000&model=aura-2-thalia-en"
        );
        assert_eq!(requests(&deepgram), [json!({"type": "Speak", "text": "Guten Tag."}), json!({"type": "Flush"})]);
        assert_eq!(deepgram.read_binary(&[0xFF, 0xFF]), Answer::Samples(vec![0, 0]));
        assert_eq!(deepgram.read(r#"{"type":"Flushed","sequence_id":0}"#, ""), Answer::Done);
        assert_eq!(deepgram.read(r#"{"type":"Cleared","sequence_id":0}"#, ""), Answer::Cleared);
        assert_eq!(deepgram.read(r#"{"type":"Metadata","request_id":"r"}"#, ""), Answer::Nothing);
        assert_eq!(deepgram.read("nonsense", ""), Answer::Nothing);
        assert!(deepgram.confirms_cancel());
    }
}
