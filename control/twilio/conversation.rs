//! The messages of ConversationRelay: JSON texts in both directions.

use serde_json::{Map, Value, json};
use tandem_call::address::Address;
use tandem_call::conversation::{ConversationSpec, ConversationTarget};
use tandem_call::leg::{LegInfo, Status};
use tandem_dialect::conversation::messages::{InvalidMessage, MessageWire};
use tandem_id::ConversationId;

use super::family::Owner;
use super::{format, sign};

/// Maximum number of characters that the answer to an invalid message quotes from the message.
const SHOWN: usize = 500;

/// The wire form of one conversation.
pub(super) fn wire(
    owner: Owner<'_>,
    auth_token: &str,
    leg: &LegInfo,
    status: Status,
    id: ConversationId,
    spec: &ConversationSpec,
) -> MessageWire {
    // A conversation with an agent of this server has no URL.
    let url = if let ConversationTarget::Application(url) = &spec.with { url.as_str() } else { "" };
    let url = url.split('#').next().unwrap_or(url);
    let handshake =
        [("User-Agent", "Twilio.TmeWs/1.0".to_owned()), ("X-Twilio-Signature", sign::signature(auth_token, url, []))];
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
    MessageWire {
        handshake: handshake.map(|(name, value)| (name.to_owned(), value)).into(),
        setup,
        digits: "0123456789w#*",
        complaint,
    }
}

/// The text about an invalid message.
fn complaint(message: &InvalidMessage<'_>) -> String {
    let shown: String = message.text.unwrap_or("binary").chars().take(SHOWN).collect();
    format!("Invalid message received, code: 64107, {shown}")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tandem_call::leg::LegOwner;
    use tandem_dialect::conversation::ConversationWire;
    use tandem_id::{CallId, LegId};

    use super::*;
    use tandem_id::AccountName;

    fn spec() -> ConversationSpec {
        let with = ConversationTarget::Application("wss://127.0.0.1:5000/media".to_owned());
        let parameters = vec![("callReference".into(), "bar".into())];
        ConversationSpec { parameters, ..ConversationSpec::new(with) }
    }

    fn leg() -> LegInfo {
        let (from, to) = (Address::from("+15550001"), Address::from("+15550002"));
        let owner = LegOwner::new(AccountName::new("acme"), "twilio");
        let leg = LegInfo::inbound(LegId(1), CallId(1), owner, from, to, Timestamp::UNIX_EPOCH);
        LegInfo { status: Status::InProgress, ..leg }
    }

    fn own() -> MessageWire {
        wire(crate::owner("AC1"), "12345", &leg(), Status::Ringing, ConversationId(2), &spec())
    }

    #[test]
    fn the_handshake_is_signed_and_setup_describes_the_call() {
        let signature = ("X-Twilio-Signature".into(), "vpxf0v2dd7/HzhiIw0qU9UREaYw=".into());
        assert!(own().handshake().contains(&signature));
        let setup: Value = serde_json::from_str(&own().setup()).unwrap();
        let expected = json!({
            "type": "setup", "sessionId": "VX00000000000000000000000000000002", "accountSid": "AC1", "parentCallSid": "",
            "callSid": "CA00000000000000000000000000000001", "from": "+15550001", "to": "+15550002",
            "forwardedFrom": "", "callType": "PSTN", "callerName": "", "direction": "inbound",
            "callStatus": "RINGING", "customParameters": { "callReference": "bar" },
        });
        assert_eq!(setup, expected);
        let again = wire(crate::owner("AC1"), "12345", &leg(), Status::InProgress, ConversationId(3), &spec());
        assert_eq!(serde_json::from_str::<Value>(&again.setup()).unwrap()["callStatus"], "IN_PROGRESS");
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
            let why = own().decode(text).unwrap_err();
            assert_eq!(why, format!("Invalid message received, code: 64107, {text}"));
        }
        let long = own().decode(&"x".repeat(100_000)).unwrap_err();
        assert!(long.len() < 600);
    }
}
