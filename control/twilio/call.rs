//! The Call resource of a leg.

use serde_json::{Value, json};
use tandem_call::leg::{Direction, LegInfo};
use tandem_routing::customer_trunk;

use super::family::Owner;
use super::format;
use crate::path::VERSION;

const SUBRESOURCES: [(&str, &str); 9] = [
    ("notifications", "Notifications"),
    ("recordings", "Recordings"),
    ("payments", "Payments"),
    ("events", "Events"),
    ("siprec", "Siprec"),
    ("streams", "Streams"),
    ("transcriptions", "Transcriptions"),
    ("user_defined_message_subscriptions", "UserDefinedMessageSubscriptions"),
    ("user_defined_messages", "UserDefinedMessages"),
];

/// The Call resource with all its keys.
pub(super) fn call(owner: Owner<'_>, leg: &LegInfo) -> Value {
    let sid = owner.ids.call(leg.id);
    let path = owner.path(format_args!("Calls/{sid}"));
    let subresources: serde_json::Map<String, Value> =
        SUBRESOURCES.iter().map(|(key, name)| ((*key).to_owned(), json!(format!("{path}/{name}.json")))).collect();
    let ended = leg.end.as_ref().map(|end| end.at);
    let customer_trunk = leg.sip.trunk.as_deref().and_then(customer_trunk::id);
    let direction = match (customer_trunk, leg.direction) {
        (Some(_), Direction::Inbound) => "trunking-terminating",
        (Some(_), Direction::OutboundDial) => "trunking-originating",
        (_, direction) => owner.provider.direction(direction),
    };
    let updated = ended.or(leg.answered_at).unwrap_or(leg.created_at);
    let mut value = json!({
        "sid": sid,
        "account_sid": owner.sid,
        "parent_call_sid": leg.parent.map(|id| owner.ids.call(id)),
        "phone_number_sid": leg.sip.number.as_ref().map(|id| format!("PN{id}")),
        "to": leg.to.to_string(),
        "to_formatted": format::formatted(&leg.to),
        "from": format::address(&leg.from),
        "from_formatted": format::formatted(&leg.from),
        "status": format::status(leg.status),
        "direction": direction,
        "answered_by": leg.answered_by.map(|answered_by| owner.provider.answered_by(answered_by.verdict)),
        "start_time": leg.answered_at.map(format::rfc2822),
        "end_time": ended.map(format::rfc2822),
        "duration": ended.map(|at| format::seconds(leg.duration(at)).to_string()),
        "price": null,
        "price_unit": "USD",
        "api_version": VERSION,
        "date_created": format::rfc2822(leg.created_at),
        "date_updated": format::rfc2822(updated),
        "forwarded_from": leg.forwarded_from,
        "caller_name": leg.caller_name,
        "group_sid": null,
        "trunk_sid": customer_trunk.map(|id| owner.ids.spell("TK", id)),
        "queue_time": "0",
        "stir_verstat": leg.sip.identity.as_deref().map(format::stir_verstat),
        "uri": format!("{path}.json"),
        "subresource_uris": subresources,
    });
    if let Some(fields) = value.as_object_mut() {
        owner.provider.call(leg, fields);
    }
    value
}

/// The Call resource in the answer to the request that created the call. The status is `queued`, and all dates are
/// null.
pub(super) fn created(owner: Owner<'_>, leg: &LegInfo) -> Value {
    let mut value = call(owner, leg);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("status".into(), "queued".into());
        for date in ["date_created", "date_updated", "start_time", "end_time", "duration"] {
            fields.insert(date.into(), Value::Null);
        }
    }
    value
}
