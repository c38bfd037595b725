//! The messages of a conversation with an application: JSON texts in both directions. Several providers have the same
//! messages. They differ in the handshake, in the first message, and in the texts about invalid messages.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_call::conversation::Inputs;

use super::{ConversationCommand, ConversationEvent, ConversationWire, InterruptPolicy};

/// Number of repetitions for `loop: 0`.
const FOR_EVER: u32 = 1_000;
/// Maximum number of digits in one message.
const MAX_DIGITS: usize = 256;
/// The WebSocket close code for invalid messages. RFC 6455 §7.4.1 defines this code for data that is not consistent
/// with the type of the message.
const INCONSISTENT: u16 = 1007;
const NORMAL: u16 = 1000;

/// The parts of a conversation's messages that are specific to a provider, and the implementation of the messages.
#[derive(Debug)]
pub struct MessageWire {
    /// The signed headers of the handshake.
    pub handshake: Vec<(String, String)>,
    /// The first message.
    pub setup: Value,
    /// The characters that the application may send as digits.
    pub digits: &'static str,
    /// Returns the text that is sent to the application after an invalid message.
    pub complaint: fn(&InvalidMessage<'_>) -> String,
}

/// A message of the application that has no meaning.
#[derive(Debug)]
pub struct InvalidMessage<'a> {
    /// The message. `None` if the message is binary.
    pub text: Option<&'a str>,
    pub fault: MessageFault,
}

/// The fault in an invalid message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageFault {
    /// The message is not a JSON object, or a member has the wrong type.
    Json,
    /// There is no message with this `type`.
    UnknownType(String),
    /// This member is absent.
    Missing(&'static str),
    /// The value of this member is not permitted.
    BadValue(&'static str),
}

impl ConversationWire for MessageWire {
    fn handshake(&self) -> Vec<(String, String)> {
        self.handshake.clone()
    }

    fn setup(&self) -> String {
        self.setup.to_string()
    }

    fn encode(&self, event: &ConversationEvent, now: Timestamp) -> String {
        let speaking = |name: &str, on: bool| {
            let value = if on { "on" } else { "off" };
            json!({ "type": "info", "name": name, "value": value, "ts": now.as_millisecond() })
        };
        let message = match event {
            ConversationEvent::Prompt { text, language, last, .. } => {
                json!({ "type": "prompt", "voicePrompt": text, "lang": language, "last": last })
            }
            ConversationEvent::Digit(key) => json!({ "type": "dtmf", "digit": key.to_string() }),
            ConversationEvent::Interrupted { heard, after } => json!({
                "type": "interrupt",
                "utteranceUntilInterrupt": heard,
                "durationUntilInterruptMs": u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            }),
            ConversationEvent::AgentSpeaking(on) => speaking("agentSpeaking", *on),
            ConversationEvent::CallerSpeaking(on) => speaking("clientSpeaking", *on),
            ConversationEvent::Played(text) => json!({ "type": "info", "name": "tokensPlayed", "value": text }),
            ConversationEvent::Problem(why) | ConversationEvent::RecognitionFailed(why) => {
                json!({ "type": "error", "description": why })
            }
        };
        message.to_string()
    }

    fn decode(&self, text: &str) -> Result<ConversationCommand, String> {
        command(text, self.digits).map_err(|fault| (self.complaint)(&InvalidMessage { text: Some(text), fault }))
    }

    fn binary(&self) -> String {
        (self.complaint)(&InvalidMessage { text: None, fault: MessageFault::Json })
    }

    fn malformed(&self) -> (u16, &'static str) {
        (INCONSISTENT, "Too many consecutive malformed messages.")
    }

    fn close_reason(&self) -> (u16, &'static str) {
        (NORMAL, "Closing websocket session")
    }
}

/// Parses a message. `digits` are the characters that an application may send as digits.
fn command(text: &str, digits: &str) -> Result<ConversationCommand, MessageFault> {
    use MessageFault::{BadValue, Missing};
    let message: Message<'_> = serde_json::from_str(text).map_err(|_| MessageFault::Json)?;
    let kind = message.kind.ok_or(Missing("type"))?;
    let interrupt_policy = InterruptPolicy {
        by: match &message.interruptible {
            None | Some(Value::Null) => None,
            Some(value) => Some(inputs(value).ok_or(BadValue("interruptible"))?),
        },
        preemptible: flag(message.preemptible.as_ref()).ok_or(BadValue("preemptible"))?,
    };
    Ok(match kind.as_ref() {
        "text" => ConversationCommand::Say {
            token: message.token.ok_or(Missing("token"))?.into_owned(),
            last: flag(message.last.as_ref()).ok_or(BadValue("last"))?.unwrap_or(false),
            language: message.language.map(Cow::into_owned),
            interrupt_policy,
        },
        "play" => {
            let url = message.source.ok_or(Missing("source"))?.into_owned();
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                return Err(BadValue("source"));
            }
            let times = match &message.times {
                None | Some(Value::Null) => Some(1),
                Some(Value::String(text)) => text.parse().ok(),
                Some(value) => value.as_u64().and_then(|times| u32::try_from(times).ok()),
            };
            let times = times.ok_or(BadValue("loop"))?;
            let times = if times == 0 { FOR_EVER } else { times.min(FOR_EVER) };
            ConversationCommand::Play { url, times, interrupt_policy }
        }
        "sendDigits" => {
            let given = message.digits.ok_or(Missing("digits"))?;
            let fits = !given.is_empty() && given.len() <= MAX_DIGITS && given.chars().all(|c| digits.contains(c));
            if !fits {
                return Err(BadValue("digits"));
            }
            ConversationCommand::SendDigits(given.into_owned())
        }
        "language" => {
            let (speech_language, recognition_language) = (message.tts_language, message.transcription_language);
            if speech_language.is_none() && recognition_language.is_none() {
                return Err(Missing("ttsLanguage or transcriptionLanguage"));
            }
            ConversationCommand::Language {
                speech_language: speech_language.map(Cow::into_owned),
                recognition_language: recognition_language.map(Cow::into_owned),
            }
        }
        "end" => ConversationCommand::End {
            handoff: match message.handoff_data {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text),
                // The value must be a text. Any other value is passed on as JSON.
                Some(other) => Some(other.to_string()),
            },
        },
        other => return Err(MessageFault::UnknownType(other.to_owned())),
    })
}

/// Parses `none`, `dtmf`, `speech` or `any`. The boolean `true` means `any`, and `false` means `none`.
pub fn inputs(value: &Value) -> Option<Inputs> {
    match value {
        Value::Bool(on) => Some(if *on { Inputs::ANY } else { Inputs::NONE }),
        Value::String(word) => INPUTS.iter().find(|(name, _)| *name == word).map(|(_, inputs)| *inputs),
        _ => None,
    }
}

/// The words for the kinds of input that the caller can give.
const INPUTS: [(&str, Inputs); 6] = [
    ("none", Inputs::NONE),
    ("false", Inputs::NONE),
    ("dtmf", Inputs { digits: true, speech: false }),
    ("speech", Inputs { digits: false, speech: true }),
    ("any", Inputs::ANY),
    ("true", Inputs::ANY),
];

/// Parses a boolean, or a text that contains a boolean. `None` for any other value. `Some(None)` if the value is absent
/// or null.
fn flag(value: Option<&Value>) -> Option<Option<bool>> {
    match value {
        None | Some(Value::Null) => Some(None),
        Some(Value::Bool(on)) => Some(Some(*on)),
        Some(Value::String(word)) => word.parse().ok().map(Some),
        Some(_) => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    #[serde(default)]
    last: Option<Value>,
    #[serde(borrow, default, rename = "lang")]
    language: Option<Cow<'a, str>>,
    #[serde(default)]
    interruptible: Option<Value>,
    #[serde(default)]
    preemptible: Option<Value>,
    #[serde(borrow, default)]
    source: Option<Cow<'a, str>>,
    #[serde(default, rename = "loop")]
    times: Option<Value>,
    #[serde(borrow, default)]
    digits: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tts_language: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    transcription_language: Option<Cow<'a, str>>,
    #[serde(default)]
    handoff_data: Option<Value>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wire() -> MessageWire {
        MessageWire {
            handshake: Vec::new(),
            setup: json!({ "type": "setup" }),
            digits: "0123456789w#*",
            complaint: |invalid| format!("{:?} in {}", invalid.fault, invalid.text.unwrap_or("binary")),
        }
    }

    fn encoded(event: ConversationEvent) -> Value {
        serde_json::from_str(&wire().encode(&event, Timestamp::UNIX_EPOCH)).unwrap()
    }

    #[test]
    fn events_become_messages() {
        let prompt = ConversationEvent::Prompt {
            text: "hi".into(),
            language: "en-US".into(),
            last: true,
            end_of_turn: Some(0.5),
        };
        assert_eq!(encoded(prompt), json!({"type": "prompt", "voicePrompt": "hi", "lang": "en-US", "last": true}));
        assert_eq!(encoded(ConversationEvent::Digit('#')), json!({"type": "dtmf", "digit": "#"}));
        let interrupted = ConversationEvent::Interrupted { heard: "Life is".into(), after: Duration::from_millis(460) };
        let expected =
            json!({"type": "interrupt", "utteranceUntilInterrupt": "Life is", "durationUntilInterruptMs": 460});
        assert_eq!(encoded(interrupted), expected);
        let on = json!({"type": "info", "name": "agentSpeaking", "value": "on", "ts": 0});
        assert_eq!(encoded(ConversationEvent::AgentSpeaking(true)), on);
        let off = json!({"type": "info", "name": "clientSpeaking", "value": "off", "ts": 0});
        assert_eq!(encoded(ConversationEvent::CallerSpeaking(false)), off);
        let played = json!({"type": "info", "name": "tokensPlayed", "value": "Hello,"});
        assert_eq!(encoded(ConversationEvent::Played("Hello,".into())), played);
        assert_eq!(encoded(ConversationEvent::Problem("no".into())), json!({"type": "error", "description": "no"}));
    }

    #[test]
    fn messages_of_the_application_become_commands() {
        let ask = |text: &str| wire().decode(text).unwrap();
        let plain = InterruptPolicy::default();
        let say = |token: &str, last, language: Option<&str>, interrupt_policy| ConversationCommand::Say {
            token: token.into(),
            last,
            language: language.map(Into::into),
            interrupt_policy,
        };
        assert_eq!(ask(r#"{"type":"text","token":"Hi \"you\"","more":1}"#), say("Hi \"you\"", false, None, plain));
        let by_digits = InterruptPolicy { by: Some(Inputs { digits: true, speech: false }), preemptible: Some(true) };
        assert_eq!(
            ask(r#"{"type":"text","token":"","last":true,"lang":"fr-FR","interruptible":"dtmf","preemptible":true}"#),
            say("", true, Some("fr-FR"), by_digits)
        );
        let play = |times, interrupt_policy| ConversationCommand::Play {
            url: "https://a/b.mp3".into(),
            times,
            interrupt_policy,
        };
        assert_eq!(ask(r#"{"type":"play","source":"https://a/b.mp3"}"#), play(1, plain));
        let by_nothing = InterruptPolicy { by: Some(Inputs::NONE), preemptible: None };
        assert_eq!(
            ask(r#"{"type":"play","source":"https://a/b.mp3","loop":0,"interruptible":false}"#),
            play(1_000, by_nothing)
        );
        assert_eq!(
            ask(r#"{"type":"sendDigits","digits":"9www4085551212"}"#),
            ConversationCommand::SendDigits("9www4085551212".into())
        );
        let languages = ConversationCommand::Language {
            speech_language: Some("sv-SE".into()),
            recognition_language: Some("en-US".into()),
        };
        assert_eq!(ask(r#"{"type":"language","ttsLanguage":"sv-SE","transcriptionLanguage":"en-US"}"#), languages);
        assert_eq!(ask(r#"{"type":"end"}"#), ConversationCommand::End { handoff: None });
        assert_eq!(
            ask(r#"{"type":"end","handoffData":"{\"reason\":\"live\"}"}"#),
            ConversationCommand::End { handoff: Some(r#"{"reason":"live"}"#.into()) }
        );
    }

    #[test]
    fn the_fault_of_an_invalid_message_is_named() {
        let unknown = MessageFault::UnknownType("dance".into());
        for (text, fault) in [
            ("nonsense", MessageFault::Json),
            ("7", MessageFault::Json),
            ("{}", MessageFault::Missing("type")),
            (r#"{"foo":"bar"}"#, MessageFault::Missing("type")),
            (r#"{"type":"dance"}"#, unknown),
            (r#"{"type":"text"}"#, MessageFault::Missing("token")),
            (r#"{"type":"text","token":"a","interruptible":"perhaps"}"#, MessageFault::BadValue("interruptible")),
            (r#"{"type":"play"}"#, MessageFault::Missing("source")),
            (r#"{"type":"play","source":"file:///etc/passwd"}"#, MessageFault::BadValue("source")),
            (r#"{"type":"play","source":"https://a/b","loop":"x"}"#, MessageFault::BadValue("loop")),
            (r#"{"type":"sendDigits","digits":"call me"}"#, MessageFault::BadValue("digits")),
            (r#"{"type":"language"}"#, MessageFault::Missing("ttsLanguage or transcriptionLanguage")),
        ] {
            assert_eq!(wire().decode(text).unwrap_err(), format!("{fault:?} in {text}"));
        }
        assert_eq!(wire().binary(), "Json in binary");
    }
}
