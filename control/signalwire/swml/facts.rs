//! The facts about a call that scripts and applications receive.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tandem_accounts::Account;
use tandem_call::address::Address;
use tandem_call::leg::{Direction, EndCause, LegInfo, Status};

use super::value::{Object, Value};

/// The data in the `client_state` of a leg that a request created.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The `custom_variables` of the dial.
    #[serde(default)]
    pub(crate) envs: Vec<(String, String)>,
}

impl Remembered {
    /// Encodes the data for a leg's `client_state`.
    pub(crate) fn spelled(&self) -> Option<String> {
        serde_json::to_vec(self).ok().map(|json| STANDARD.encode(json))
    }

    /// Decodes the `client_state` of a leg. The result is empty if `client_state` does not contain this data.
    pub(super) fn of(leg: &LegInfo) -> Self {
        let json = leg.client_state.as_ref().and_then(|text| STANDARD.decode(text).ok());
        json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }
}

/// The account's project id.
pub(super) fn project(account: &Account) -> &str {
    account.signalwire.as_ref().map_or("", |own| &own.project_id)
}

/// The `space_id`. On this server, a project has one space, and the whole server is one node.
fn space(account: &Account) -> String {
    derived(project(account).as_bytes(), b"space")
}

fn node(public_url: &str) -> String {
    derived(public_url.as_bytes(), b"node")
}

/// An id that is computed from other data. Equal data gives the same id.
fn derived(from: &[u8], kind: &[u8]) -> String {
    super::uuid(tandem_host::hash::id([kind, from]))
}

/// The ids that every notice of a call contains: `call_id`, `node_id` and `segment_id`.
pub(super) fn ids(leg: &LegInfo, public_url: &str) -> serde_json::Map<String, Json> {
    let id = super::ids().call(leg.id);
    let segment = derived(id.as_bytes(), b"segment");
    let pairs = [("node_id", node(public_url)), ("segment_id", segment), ("call_id", id)];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// The complete body of a notice. `params` becomes a member of this body.
pub(super) fn envelope(account: &Account, leg: Option<&LegInfo>, event: &str, at: Timestamp, params: Json) -> Json {
    let mut envelope = json!({
        "event_type": event,
        "timestamp": seconds(at),
        "project_id": project(account),
        "space_id": space(account),
        "params": params,
    });
    if let (Some(leg), Some(envelope)) = (leg, envelope.as_object_mut()) {
        envelope.insert("event_channel".into(), format!("swml:{}", super::uuid(leg.session.0)).into());
    }
    envelope
}

/// Seconds since 1970, with fractions.
#[expect(clippy::cast_precision_loss, reason = "a millisecond of this century fits")]
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1_000.0
}

/// The kind of the leg's far end: `phone` or `sip`. A number behind a trunk is a `phone`, although the trunk uses SIP.
pub(super) fn kind(leg: &LegInfo) -> &'static str {
    let far = if leg.direction == Direction::Inbound { &leg.from } else { &leg.to };
    match far {
        Address::Phone(_) if leg.sip.trunk.is_some() || leg.direction != Direction::Inbound => "phone",
        Address::Phone(_) if leg.sip.domain.is_none() && matches!(leg.to, Address::Phone(_)) => "phone",
        _ => "sip",
    }
}

/// The call's state: `created`, `ringing`, `answered` or `ended`.
pub(super) fn state(status: Status) -> &'static str {
    match status {
        Status::Queued | Status::Initiated => "created",
        Status::Ringing => "ringing",
        Status::InProgress => "answered",
        status if status.is_final() => "ended",
        _ => "created",
    }
}

/// The direction of the leg: `inbound` or `outbound`.
pub(crate) fn direction(leg: &LegInfo) -> &'static str {
    if leg.direction == Direction::Inbound { "inbound" } else { "outbound" }
}

/// An address as text: a phone number or a SIP URI.
pub(crate) fn party(address: &Address) -> String {
    match address {
        Address::Client(name) => format!("sip:{name}"),
        other => other.text().into_owned(),
    }
}

/// The object `call`, which a script can read and which the script's requests contain.
pub(super) fn call(account: &Account, leg: &LegInfo, public_url: &str) -> Object {
    let (from, to) = (party(&leg.from), party(&leg.to));
    let kind = kind(leg);
    let state = state(leg.status);
    let mut call = Object::default();
    for (key, id) in ids(leg, public_url) {
        call.set(key, Value::from(id));
    }
    call.set("call_state", state);
    call.set("state", state);
    call.set("direction", direction(leg));
    call.set("type", kind);
    call.set("from", from.as_str());
    call.set("to", to.as_str());
    let headers = leg.sip.headers.iter().map(|(name, value)| {
        let header: Object = [("name", name.as_str()), ("value", value.as_str())].into_iter().collect();
        Value::Object(header)
    });
    call.set("headers", headers.collect::<Vec<_>>());
    call.set("project_id", project(account));
    call.set("space_id", space(account));
    if kind == "phone" {
        call.set("from_number", from.as_str());
        call.set("to_number", to.as_str());
    } else {
        call.set("sip_data", sip_data(leg));
    }
    if let Some(parent) = leg.parent {
        let device: Object =
            [("device_type", kind.to_owned()), ("call_id", super::ids().call(parent))].into_iter().collect();
        call.set("parent", device);
    }
    call
}

fn sip_data(leg: &LegInfo) -> Object {
    let mut data = Object::default();
    for (name, address) in [("req", &leg.to), ("from", &leg.from), ("to", &leg.to)] {
        let text = party(address);
        let bare = text.split_once(':').map_or(&*text, |(_, rest)| rest);
        let bare = bare.split([';', '?']).next().unwrap_or(bare);
        let (user, host) = bare.split_once('@').unwrap_or((bare, ""));
        data.set(format!("sip_{name}_user"), user);
        data.set(format!("sip_{name}_host"), host);
        data.set(format!("sip_{name}_uri"), bare);
    }
    data.set("sip_contact_user", address_user(leg));
    data.set("sip_contact_host", leg.sip.source_ip.map(|ip| ip.to_string()));
    data.set("sip_contact_port", "5060");
    data.set("sip_contact_uri", address_user(leg));
    data.set("sip_contact_params", Object::default());
    data
}

fn address_user(leg: &LegInfo) -> String {
    leg.from.user().into_owned()
}

/// The device at the far end of a call.
pub(super) fn device(leg: &LegInfo) -> Json {
    let (from, to) = (party(&leg.from), party(&leg.to));
    match kind(leg) {
        "phone" => json!({ "type": "phone", "params": { "from_number": from, "to_number": to } }),
        kind => json!({ "type": kind, "params": { "from": from, "to": to } }),
    }
}

/// The value of `end_reason`: the reason of the call's end. `None` while the call is live.
pub(super) fn end_reason(leg: &LegInfo) -> Option<&'static str> {
    let end = leg.end.as_ref()?;
    Some(match end.cause {
        EndCause::NormalClearing | EndCause::TimeLimit => "hangup",
        EndCause::OriginatorCancel => "cancel",
        EndCause::Busy => "busy",
        EndCause::Rejected => "decline",
        EndCause::Timeout | EndCause::NoAnswer => "noAnswer",
        EndCause::NotFound | EndCause::Failed | EndCause::Unspecified => "error",
    })
}
