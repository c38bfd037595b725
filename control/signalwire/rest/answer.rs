//! Converts the answers of Twilio's family to answers of the Compatibility API. Each resource has exactly the keys that
//! SignalWire publishes. A key without a value is null.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::family::{self, Fields};

type Keys = &'static [&'static str];

const ACCOUNT: Keys = &[
    "auth_token",
    "date_created",
    "date_updated",
    "friendly_name",
    "owner_account_sid",
    "region_preference",
    "sid",
    "signing_key",
    "status",
    "subproject",
    "subresource_uris",
    "type",
    "uri",
];
const APPLICATION: Keys = &[
    "account_sid",
    "api_version",
    "date_created",
    "date_updated",
    "friendly_name",
    "message_status_callback",
    "sid",
    "sms_fallback_method",
    "sms_fallback_url",
    "sms_method",
    "sms_status_callback",
    "sms_status_callback_method",
    "sms_url",
    "status_callback",
    "status_callback_method",
    "uri",
    "voice_caller_id_lookup",
    "voice_fallback_method",
    "voice_fallback_url",
    "voice_method",
    "voice_url",
];
const AVAILABLE: Keys = &[
    "beta",
    "capabilities",
    "friendly_name",
    "iso_country",
    "lata",
    "latitude",
    "locality",
    "longitude",
    "phone_number",
    "postal_code",
    "rate_center",
    "region",
];
const CALL: Keys = &[
    "account_sid",
    "annotation",
    "answered_by",
    "api_version",
    "audio_in_mos",
    "audio_out_jitter_avg",
    "audio_out_jitter_max",
    "audio_out_jitter_min",
    "audio_out_lost",
    "audio_rtt_avg",
    "audio_rtt_max",
    "audio_rtt_min",
    "caller_name",
    "date_created",
    "date_updated",
    "direction",
    "duration",
    "end_time",
    "formatted_from",
    "formatted_to",
    "forwarded_from",
    "from",
    "from_formatted",
    "group_sid",
    "parent_call_sid",
    "phone_number_sid",
    "price",
    "price_unit",
    "sid",
    "sip_result_code",
    "start_time",
    "status",
    "subresource_uris",
    "to",
    "to_formatted",
    "uri",
];
const CONFERENCE: Keys = &[
    "account_sid",
    "api_version",
    "date_created",
    "date_updated",
    "friendly_name",
    "region",
    "sid",
    "status",
    "subresource_uris",
    "uri",
];
const MEMBER: Keys =
    &["account_sid", "call_sid", "date_enqueued", "member_type", "position", "queue_sid", "uri", "wait_time"];
const NUMBER: Keys = &[
    "account_id",
    "account_sid",
    "address_requirements",
    "address_sid",
    "api_version",
    "beta",
    "capabilities",
    "country_code",
    "date_created",
    "date_updated",
    "emergency_address_sid",
    "emergency_status",
    "friendly_name",
    "identity_sid",
    "origin",
    "phone_number",
    "sid",
    "sms_application_sid",
    "sms_fallback_method",
    "sms_fallback_url",
    "sms_method",
    "sms_url",
    "status_callback",
    "status_callback_method",
    "trunk_sid",
    "uri",
    "voice_application_sid",
    "voice_caller_id_lookup",
    "voice_fallback_method",
    "voice_fallback_url",
    "voice_method",
    "voice_url",
];
const PARTICIPANT: Keys = &[
    "account_sid",
    "call_sid",
    "call_sid_to_coach",
    "coaching",
    "conference_sid",
    "date_created",
    "date_updated",
    "end_conference_on_exit",
    "hold",
    "muted",
    "start_conference_on_enter",
    "status",
    "uri",
];
const QUEUE: Keys = &[
    "account_sid",
    "api_version",
    "average_wait_time",
    "current_size",
    "date_created",
    "date_updated",
    "friendly_name",
    "max_size",
    "sid",
    "uri",
];
const RECORDING: Keys = &[
    "account_sid",
    "api_version",
    "call_sid",
    "channel",
    "channels",
    "conference_sid",
    "date_created",
    "date_updated",
    "duration",
    "encryption_details",
    "end_time",
    "error_code",
    "price",
    "price_unit",
    "sid",
    "source",
    "start_time",
    "status",
    "subresource_uris",
    "trim",
    "uri",
];
const STREAM: Keys = &["account_sid", "call_sid", "date_updated", "name", "sid", "status", "uri"];
const CONFERENCE_STREAM: Keys = &["account_sid", "conference_sid", "date_updated", "name", "sid", "status", "uri"];

const TRANSCRIPTION: Keys = &[
    "account_sid",
    "api_version",
    "date_created",
    "date_updated",
    "duration",
    "price",
    "price_unit",
    "recording_sid",
    "sid",
    "status",
    "transcription_text",
    "type",
    "uri",
];

/// Keys of Twilio's list envelope that do not exist in this API.
const NO_ENVELOPE: [&str; 2] = ["start", "end"];

/// Converts an answer. `below` is the part of the request's path after the account.
pub(crate) fn rewrite(below: &[&str], _status: &mut StatusCode, body: &mut Value) {
    let keys = match below {
        [] => ACCOUNT,
        ["Applications", ..] => APPLICATION,
        ["AvailablePhoneNumbers", _, _] => AVAILABLE,
        ["Calls", _, "Recordings", ..] | ["Conferences", _, "Recordings", ..] | ["Recordings", ..] => RECORDING,
        ["Calls", _, "Streams", ..] => STREAM,
        ["Conferences", _, "Streams", ..] => CONFERENCE_STREAM,
        ["Calls"] | ["Calls", _] => CALL,
        ["Conferences", _, "Participants", ..] => PARTICIPANT,
        ["Conferences"] | ["Conferences", _] => CONFERENCE,
        ["IncomingPhoneNumbers", ..] => NUMBER,
        ["Queues", _, "Members", ..] => MEMBER,
        ["Queues"] | ["Queues", _] => QUEUE,
        ["Transcriptions", ..] => TRANSCRIPTION,
        _ => &[],
    };
    if let Some(envelope) = body.as_object_mut().filter(|body| body.contains_key("page_size")) {
        envelope.retain(|key, _| !NO_ENVELOPE.contains(&key.as_str()));
    }
    if !keys.is_empty() {
        family::rows(body).into_iter().for_each(|row| shaped(below, keys, row));
    }
}

fn shaped(below: &[&str], keys: Keys, fields: &mut Fields) {
    let text = |fields: &Fields, key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
    if keys == RECORDING {
        let channels = fields.get("channels").and_then(Value::as_u64).unwrap_or(1).to_string();
        for key in ["channel", "channels"] {
            fields.insert(key.to_owned(), channels.clone().into());
        }
        let source = match text(fields, "source").as_deref() {
            Some("OutboundAPI") => "OutBoundApi",
            Some("StartCallRecordingAPI" | "StartCallRecordingTwiML") => "StartCallRecordingApi",
            Some("StartConferenceRecordingAPI") => "StartConferenceRecording",
            Some("DialVerb") => "DialVerb",
            Some("Conference") => "Conference",
            Some("Trunking") => "Trunking",
            _ => "RecordVerb",
        };
        fields.insert("source".to_owned(), source.into());
        let ended = text(fields, "duration").and_then(|_| text(fields, "date_updated"));
        fields.insert("end_time".to_owned(), ended.into());
        if let Some(code) = fields.get("error_code").and_then(Value::as_u64) {
            fields.insert("error_code".to_owned(), code.to_string().into());
        }
    }
    // SignalWire publishes fewer subresources than Twilio, and no list of notifications.
    let subresources: &[&str] = if keys == CALL { &["recordings"] } else { &["transcriptions"] };
    if let Some(Value::Object(uris)) = fields.get_mut("subresource_uris").filter(|_| keys == CALL || keys == RECORDING)
    {
        uris.retain(|name, _| subresources.contains(&name.as_str()));
        if keys == CALL {
            uris.insert("notifications".to_owned(), Value::Null);
        }
    }
    if keys == PARTICIPANT {
        let is_over = matches!(text(fields, "status").as_deref(), Some("complete" | "failed"));
        fields.insert("status".to_owned(), if is_over { "completed" } else { "in-progress" }.into());
    }
    if keys == QUEUE {
        fields.insert("api_version".to_owned(), "2010-04-01".into());
    }
    if keys == NUMBER {
        fields.insert("origin".to_owned(), "signalwire".into());
    }
    if keys == ACCOUNT {
        let is_below = fields.get("owner_account_sid") != fields.get("sid");
        fields.insert("subproject".to_owned(), is_below.into());
    }
    if let (true, ["Queues", queue, ..]) = (keys == MEMBER, below) {
        fields.entry("queue_sid").or_insert_with(|| json!(queue));
    }
    family::keep(fields, keys);
}
