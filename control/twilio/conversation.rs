//! The messages of ConversationRelay: JSON texts in both directions.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tandem_call::address::Address;
use tandem_call::conversation::{ConversationSpec, ConversationTarget, Inputs};
use tandem_call::leg::{LegInfo, Status};
use tandem_dialect::conversation::{ConversationCommand, ConversationEvent, ConversationWire, InterruptPolicy};
use tandem_id::ConversationId;

use super::family::Owner;
use super::{format, sign};

/// Maximum number of characters that the answer to an invalid message quotes from the message.
const SHOWN: usize = 500;
/// Number of repetitions for `loop="0"`.
const FOR_EVER: u32 = 1_000;
/// The WebSocket close code for invalid messages. RFC 6455 §7.4.1 defines this code for data that is not consistent
/// with the type of the message.
const INCONSISTENT: u16 = 1007;
const NORMAL: u16 = 1000;

/// The wire form of one conversation.
pub(super) struct Wire {
    handshake: Vec<(String, String)>,
    setup: Value,
}

impl Wire {
    pub(super) fn new(
        owner: Owner<'_>,
        auth_token: &str,
        leg: &LegInfo,
        status: Status,
        id: ConversationId,
        spec: &ConversationSpec,
    ) -> Self {
        // A conversation with an agent of this server has no URL.
        let url = if let ConversationTarget::Application(url) = &spec.with { url.as_str() } else { "" };
        let url = url.split('#').next().unwrap_or(url);
        let handshake = [
            ("User-Agent", "Twilio.TmeWs/1.0".to_owned()),
            ("X-Twilio-Signature", sign::signature(auth_token, url, [])),
        ];
        let parameters: Map<String, Value> =
            spec.parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let sip = leg.sip.domain.is_some() || matches!(leg.from, Address::Sip(_));
        let setup = json!({
            "type": "setup",
            "sessionId": owner.ids.conversation(id),
            "accountSid": owner.sid,
            "parentCallSid": leg.parent.map(|id| owner.ids.call(id)).unwrap_or_default(),
            "callSid": owner.ids.call(leg.id),
            "from": format::address(&leg.from),
            "to": leg.to.to_string(),
            "forwardedFrom": leg.forwarded_from.clone().unwrap_or_default(),
            "callType": if sip { "SIP" } else { "PSTN" },
            "callerName": leg.caller_name.clone().unwrap_or_default(),
            "direction": format::direction(leg.direction),
            "callStatus": format::status(status).to_ascii_uppercase().replace('-', "_"),
            "customParameters": parameters,
        });
        Self { handshake: handshake.map(|(name, value)| (name.to_owned(), value)).into(), setup }
    }
}

impl ConversationWire for Wire {
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
            ConversationEvent::Prompt { text, language, last } => {
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
        understood(text).ok_or_else(|| {
            let shown: String = text.chars().take(SHOWN).collect();
            refused(&shown)
        })
    }

    fn binary(&self) -> String {
        refused("binary")
    }

    fn malformed(&self) -> (u16, &'static str) {
        (INCONSISTENT, "Too many consecutive malformed messages.")
    }

    fn close_reason(&self) -> (u16, &'static str) {
        (NORMAL, "Closing websocket session")
    }
}

fn refused(shown: &str) -> String {
    format!("Invalid message received, code: 64107, {shown}")
}

/// Parses a message. `None` if the message is invalid.
fn understood(text: &str) -> Option<ConversationCommand> {
    let message: Incoming<'_> = serde_json::from_str(text).ok()?;
    let interrupt_policy = InterruptPolicy {
        by: match &message.interruptible {
            None | Some(Value::Null) => None,
            Some(value) => Some(inputs(value)?),
        },
        preemptible: flag(message.preemptible.as_ref())?,
    };
    Some(match message.kind.as_ref() {
        "text" => ConversationCommand::Say {
            token: message.token?.into_owned(),
            last: flag(message.last.as_ref())?.unwrap_or(false),
            language: message.language.map(Cow::into_owned),
            interrupt_policy,
        },
        "play" => {
            let url = message.source?.into_owned();
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                return None;
            }
            let times = match &message.times {
                None | Some(Value::Null) => 1,
                Some(Value::String(text)) => text.parse().ok()?,
                Some(value) => u32::try_from(value.as_u64()?).ok()?,
            };
            ConversationCommand::Play {
                url,
                times: if times == 0 { FOR_EVER } else { times.min(FOR_EVER) },
                interrupt_policy,
            }
        }
        "sendDigits" => {
            let digits = message.digits?;
            let fits = !digits.is_empty() && digits.len() <= 256 && digits.chars().all(|c| "0123456789w#*".contains(c));
            fits.then(|| ConversationCommand::SendDigits(digits.into_owned()))?
        }
        "language" => {
            let (speech_language, recognition_language) = (message.tts_language, message.transcription_language);
            if speech_language.is_none() && recognition_language.is_none() {
                return None;
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
        _ => return None,
    })
}

/// Parses `none`, `dtmf`, `speech` or `any`. The boolean `true` means `any`, and `false` means `none`.
pub(crate) fn inputs(value: &Value) -> Option<Inputs> {
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
struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
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

    use tandem_call::conversation::{LanguageSettings, Sensitivity};

    use tandem_call::leg::LegOwner;
    use tandem_id::{CallId, LegId};

    use super::*;
    use tandem_id::AccountName;

    fn spec() -> ConversationSpec {
        ConversationSpec {
            with: ConversationTarget::Application("wss://127.0.0.1:5000/media".to_owned()),
            parameters: vec![("callReference".into(), "bar".into())],
            greeting: None,
            greeting_interrupted_by: Inputs::ANY,
            speech_language: "en-US".into(),
            recognition_language: "en-US".into(),
            default_language_settings: LanguageSettings::default(),
            languages: Vec::new(),
            interrupted_by: Inputs::ANY,
            reports: Inputs::NONE,
            sensitivity: Sensitivity::High,
            words_decide_interruption: false,
            digits: true,
            preemptible: false,
            partials: false,
            no_profanity: true,
            reports_speakers: false,
            reports_played: false,
        }
    }

    fn leg() -> LegInfo {
        let (from, to) = (Address::from("+15550001"), Address::from("+15550002"));
        let owner = LegOwner::new(AccountName::new("acme"), "twilio");
        let leg = LegInfo::inbound(LegId(1), CallId(1), owner, from, to, Timestamp::UNIX_EPOCH);
        LegInfo { status: Status::InProgress, ..leg }
    }

    fn wire() -> Wire {
        Wire::new(crate::owner("AC1"), "12345", &leg(), Status::Ringing, ConversationId(2), &spec())
    }

    fn encoded(event: ConversationEvent) -> Value {
        serde_json::from_str(&wire().encode(&event, Timestamp::UNIX_EPOCH)).unwrap()
    }

    #[test]
    fn the_handshake_is_signed_and_setup_describes_the_call() {
        let signature = ("X-Twilio-Signature".into(), "vpxf0v2dd7/HzhiIw0qU9UREaYw=".into());
        assert!(wire().handshake().contains(&signature));
        let setup: Value = serde_json::from_str(&wire().setup()).unwrap();
        let expected = json!({
            "type": "setup", "sessionId": "VX00000000000000000000000000000002", "accountSid": "AC1", "parentCallSid": "",
            "callSid": "CA00000000000000000000000000000001", "from": "+15550001", "to": "+15550002",
            "forwardedFrom": "", "callType": "PSTN", "callerName": "", "direction": "inbound",
            "callStatus": "RINGING", "customParameters": { "callReference": "bar" },
        });
        assert_eq!(setup, expected);
        let again = Wire::new(crate::owner("AC1"), "12345", &leg(), Status::InProgress, ConversationId(3), &spec());
        assert_eq!(serde_json::from_str::<Value>(&again.setup()).unwrap()["callStatus"], "IN_PROGRESS");
    }

    #[test]
    fn conversation_events_become_conversation_relay_messages() {
        let prompt = ConversationEvent::Prompt { text: "hi".into(), language: "en-US".into(), last: true };
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
        assert_eq!(
            ask(r#"{"type":"text","token":"Hi \"you\"","more":1}"#),
            ConversationCommand::Say {
                token: "Hi \"you\"".into(),
                last: false,
                language: None,
                interrupt_policy: plain
            }
        );
        let interrupt_policy =
            InterruptPolicy { by: Some(Inputs { digits: true, speech: false }), preemptible: Some(true) };
        assert_eq!(
            ask(r#"{"type":"text","token":"","last":true,"lang":"fr-FR","interruptible":"dtmf","preemptible":true}"#),
            ConversationCommand::Say {
                token: String::new(),
                last: true,
                language: Some("fr-FR".into()),
                interrupt_policy
            }
        );
        let play = |times, interrupt_policy| ConversationCommand::Play {
            url: "https://a/b.mp3".into(),
            times,
            interrupt_policy,
        };
        assert_eq!(ask(r#"{"type":"play","source":"https://a/b.mp3"}"#), play(1, plain));
        let interrupt_policy = InterruptPolicy { by: Some(Inputs::NONE), preemptible: None };
        assert_eq!(
            ask(r#"{"type":"play","source":"https://a/b.mp3","loop":0,"interruptible":false}"#),
            play(1_000, interrupt_policy)
        );
        assert_eq!(
            ask(r#"{"type":"sendDigits","digits":"9www4085551212"}"#),
            ConversationCommand::SendDigits("9www4085551212".into())
        );
        assert_eq!(
            ask(r#"{"type":"language","ttsLanguage":"sv-SE","transcriptionLanguage":"en-US"}"#),
            ConversationCommand::Language {
                speech_language: Some("sv-SE".into()),
                recognition_language: Some("en-US".into())
            }
        );
        assert_eq!(ask(r#"{"type":"end"}"#), ConversationCommand::End { handoff: None });
        assert_eq!(
            ask(r#"{"type":"end","handoffData":"{\"reason\":\"live\"}"}"#),
            ConversationCommand::End { handoff: Some(r#"{"reason":"live"}"#.into()) }
        );
    }

    #[test]
    fn an_invalid_message_is_answered_with_error_64107() {
        for text in [
            "nonsense",
            "[]",
            "{}",
            r#"{"foo":"bar"}"#,
            r#"{"type":"dance"}"#,
            r#"{"type":"text"}"#,
            r#"{"type":"text","token":"a","interruptible":"perhaps"}"#,
            r#"{"type":"play"}"#,
            r#"{"type":"play","source":"file:///etc/passwd"}"#,
            r#"{"type":"sendDigits","digits":"call me"}"#,
            r#"{"type":"language"}"#,
        ] {
            let why = wire().decode(text).unwrap_err();
            assert_eq!(why, format!("Invalid message received, code: 64107, {text}"));
        }
        let long = wire().decode(&"x".repeat(100_000)).unwrap_err();
        assert!(long.len() < 600);
    }
}
