//! The conversations with an application: Telnyx's Conversation Relay. The messages are those of
//! [`tandem_dialect::conversation::messages`]; the handshake, the first message and the complaints are Telnyx's.

use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_call::conversation::ConversationSpec;
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_dialect::conversation::messages::{InvalidMessage, MessageFault, MessageWire};
use tandem_id::ConversationId;

use super::{id, stream};

/// The characters that an application may send as digits. `w` and `W` are pauses.
const DIGITS: &str = "0123456789ABCDwW#*";
/// Maximum number of characters of an unknown type in the answer to an invalid message.
const SHOWN: usize = 100;

/// The wire form of one conversation.
pub fn wire(
    account: &Account,
    leg: &LegInfo,
    status: Status,
    session_id: String,
    spec: &ConversationSpec,
) -> MessageWire {
    let control_id = id::call_control_id(leg.id);
    let parameters: Map<String, Value> =
        spec.parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let setup = json!({
        "type": "setup",
        "sessionId": session_id,
        "accountSid": id::user_id(&account.name),
        "callSid": control_id,
        "callControlId": control_id,
        "callSessionId": id::uuid(leg.session.0),
        "callLegId": id::uuid(leg.id.0),
        "from": leg.from.to_string(),
        "to": leg.to.to_string(),
        "direction": if leg.direction == Direction::Inbound { "inbound" } else { "outbound" },
        "callerName": leg.caller_name.clone().unwrap_or_default(),
        "callStatus": if status == Status::Ringing { "ringing" } else { "active" },
        "customParameters": parameters,
    });
    let handshake = vec![("User-Agent".to_owned(), stream::USER_AGENT.to_owned())];
    MessageWire { handshake, setup, digits: DIGITS, complaint }
}

/// The id of a conversation in the setup message, in answers and in webhooks.
pub(super) fn session_id(id: ConversationId) -> String {
    id::uuid_v4(id.0)
}

/// The text about an invalid message.
fn complaint(message: &InvalidMessage<'_>) -> String {
    let fault = match &message.fault {
        MessageFault::Json if message.text.is_none() => "binary frames are not supported".to_owned(),
        MessageFault::Json => "malformed JSON".to_owned(),
        MessageFault::UnknownType(name) => {
            format!("unknown type: {}", name.chars().take(SHOWN).collect::<String>())
        }
        MessageFault::Missing(member) => format!("missing required field: {member}"),
        MessageFault::BadValue(member) => format!("invalid value of field: {member}"),
    };
    format!("Invalid message: {fault}")
}

#[cfg(test)]
mod tests {
    use tandem_call::conversation::ConversationTarget;
    use tandem_dialect::conversation::ConversationCommand;
    use tandem_dialect::conversation::ConversationWire;

    use super::*;
    use crate::fixture;

    fn own() -> MessageWire {
        let with = ConversationTarget::Application("wss://app.example/relay".to_owned());
        let parameters = vec![("customer_id".to_owned(), "customer_123".to_owned())];
        let spec = ConversationSpec { parameters, ..ConversationSpec::new(with) };
        wire(&fixture::account(), &fixture::leg(), Status::InProgress, session_id(ConversationId(5)), &spec)
    }

    #[test]
    fn the_first_message_has_the_published_members() {
        let setup: Value = serde_json::from_str(&own().setup()).unwrap();
        // The members of the published example, in alphabetical order.
        let published = [
            "accountSid",
            "callControlId",
            "callLegId",
            "callSessionId",
            "callSid",
            "callStatus",
            "callerName",
            "customParameters",
            "direction",
            "from",
            "sessionId",
            "to",
            "type",
        ];
        let mut names: Vec<&str> = setup.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, published);
        assert_eq!(
            (&setup["type"], &setup["callStatus"], &setup["direction"]),
            (&json!("setup"), &json!("active"), &json!("inbound"))
        );
        assert_eq!(setup["callSid"], setup["callControlId"]);
        assert_eq!(setup["customParameters"], json!({ "customer_id": "customer_123" }));
        assert_eq!(setup["sessionId"], session_id(ConversationId(5)));
    }

    #[test]
    fn an_invalid_message_is_answered_with_the_published_texts() {
        for (text, complaint) in [
            (r#"{"type":"text"}"#, "Invalid message: missing required field: token"),
            (r#"{"type":"foo"}"#, "Invalid message: unknown type: foo"),
            ("{", "Invalid message: malformed JSON"),
            (r#"{"type":"sendDigits","digits":"x"}"#, "Invalid message: invalid value of field: digits"),
        ] {
            assert_eq!(own().decode(text).unwrap_err(), complaint);
        }
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(10_000));
        assert!(own().decode(&long).unwrap_err().len() < 200);
    }

    #[test]
    fn letters_and_both_pauses_are_digits() {
        let sent = own().decode(r#"{"type":"sendDigits","digits":"1wW#*AD"}"#).unwrap();
        assert_eq!(sent, ConversationCommand::SendDigits("1wW#*AD".into()));
    }
}
