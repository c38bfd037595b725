//! Converts the answers of Twilio's family to answers of TeXML's REST API. A TeXML answer has fewer keys, different
//! date formats and different names. The answer to a creation has the HTTP status 200.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tandem_twilio::family::{self, Fields};

use super::super::envelope;

/// The date format of a resource.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dates {
    /// RFC 2822, as in the answers of Twilio's family.
    Rfc2822,
    Iso8601,
}

/// The published keys and the date format of a resource. A key without a value is null.
struct Shape {
    keys: &'static [&'static str],
    dates: Dates,
}

const CALL: Shape = Shape {
    keys: &[
        "account_sid",
        "answered_by",
        "caller_name",
        "date_created",
        "date_updated",
        "direction",
        "duration",
        "end_time",
        "from",
        "from_formatted",
        "price",
        "price_unit",
        "sid",
        "start_time",
        "status",
        "to",
        "to_formatted",
        "uri",
    ],
    dates: Dates::Rfc2822,
};
const CALL_RECORDING: Shape = Shape {
    keys: &[
        "account_sid",
        "call_sid",
        "channels",
        "conference_sid",
        "date_created",
        "date_updated",
        "duration",
        "error_code",
        "price",
        "price_unit",
        "sid",
        "source",
        "start_time",
        "track",
        "uri",
    ],
    dates: Dates::Iso8601,
};
const RECORDING: Shape = Shape {
    keys: &[
        "account_sid",
        "call_sid",
        "channels",
        "conference_sid",
        "date_created",
        "date_updated",
        "duration",
        "error_code",
        "media_url",
        "sid",
        "source",
        "start_time",
        "status",
        "subresources_uris",
        "uri",
    ],
    dates: Dates::Iso8601,
};
const SIPREC: Shape = Shape {
    keys: &[
        "account_sid",
        "call_sid",
        "date_created",
        "date_updated",
        "error_code",
        "sid",
        "start_time",
        "status",
        "track",
        "uri",
    ],
    dates: Dates::Rfc2822,
};
const STOPPED_SIPREC: Shape = Shape {
    keys: &["account_sid", "call_sid", "date_updated", "error_code", "sid", "status", "uri"],
    dates: Dates::Rfc2822,
};
const STREAM: Shape =
    Shape { keys: &["account_sid", "call_sid", "date_updated", "name", "sid", "status", "uri"], dates: Dates::Iso8601 };
const STOPPED_STREAM: Shape =
    Shape { keys: &["account_sid", "call_sid", "date_updated", "sid", "status", "uri"], dates: Dates::Iso8601 };
const CONFERENCE: Shape = Shape {
    keys: &[
        "account_sid",
        "api_version",
        "call_sid_ending_conference",
        "date_created",
        "date_updated",
        "friendly_name",
        "reason_conference_ended",
        "region",
        "sid",
        "status",
        "subresource_uris",
        "uri",
    ],
    dates: Dates::Rfc2822,
};
const PARTICIPANT: Shape = Shape {
    keys: &[
        "account_sid",
        "api_version",
        "call_sid",
        "call_sid_legacy",
        "coaching",
        "coaching_call_sid",
        "coaching_call_sid_legacy",
        "conference_sid",
        "date_created",
        "date_updated",
        "end_conference_on_exit",
        "hold",
        "muted",
        "status",
        "uri",
    ],
    dates: Dates::Rfc2822,
};
const CALLED_PARTICIPANT: Shape = Shape {
    keys: &[
        "account_sid",
        "call_sid",
        "coaching",
        "coaching_call_sid",
        "conference_sid",
        "end_conference_on_exit",
        "hold",
        "muted",
        "status",
        "uri",
    ],
    dates: Dates::Rfc2822,
};
const QUEUE: Shape = Shape {
    keys: &[
        "account_sid",
        "average_wait_time",
        "current_size",
        "date_created",
        "date_updated",
        "max_size",
        "sid",
        "subresource_uris",
        "uri",
    ],
    dates: Dates::Rfc2822,
};
const TRANSCRIPTION: Shape = Shape {
    keys: &[
        "account_sid",
        "api_version",
        "call_sid",
        "date_created",
        "date_updated",
        "duration",
        "recording_sid",
        "sid",
        "status",
        "transcription_text",
        "uri",
    ],
    dates: Dates::Iso8601,
};

/// Converts an answer. `below` is the path of the request below the account.
pub(crate) fn rewrite(below: &[&str], status: &mut StatusCode, body: &mut Value) {
    let made = *status == StatusCode::CREATED;
    if made {
        *status = StatusCode::OK;
    }
    let stopped = body.get("status").and_then(Value::as_str) == Some("stopped");
    let shape = match below {
        ["Calls"] if made => return accepted(body),
        ["Calls"] | ["Calls", _] => &CALL,
        ["Calls", _, "Recordings"] if body.get("recordings").is_some() => &RECORDING,
        ["Calls", _, "Recordings", ..] => &CALL_RECORDING,
        ["Calls", _, "Siprec", ..] if stopped => &STOPPED_SIPREC,
        ["Calls", _, "Siprec", ..] => &SIPREC,
        ["Calls", _, "Streams", ..] if stopped => &STOPPED_STREAM,
        ["Calls", _, "Streams", ..] => &STREAM,
        ["Conferences"] | ["Conferences", _] => &CONFERENCE,
        ["Conferences", _, "Participants"] if made => &CALLED_PARTICIPANT,
        ["Conferences", _, "Participants", ..] => &PARTICIPANT,
        ["Recordings", ..] | ["Conferences", _, "Recordings", ..] => &RECORDING,
        ["Queues"] | ["Queues", _] => &QUEUE,
        ["Transcriptions", ..] => &TRANSCRIPTION,
        _ => return,
    };
    family::rows(body).into_iter().for_each(|row| shaped(shape, row));
}

/// The answer to a request for a new call. Telnyx publishes only `from`, `to` and `status`. The ids are extensions,
/// because clients need the ids.
fn accepted(body: &mut Value) {
    let value_of = |key: &str| body.get(key).cloned().unwrap_or_default();
    *body = json!({
        "from": value_of("from"), "to": value_of("to"), "status": "accepted",
        "sid": value_of("sid"), "call_sid": value_of("sid"), "account_sid": value_of("account_sid"),
    });
}

fn shaped(shape: &Shape, fields: &mut Fields) {
    let moved = [
        ("call_sid_to_coach", "coaching_call_sid"),
        ("subresource_uris", "subresources_uris"),
        ("friendly_name", "sid"),
    ];
    for (from, to) in moved.iter().filter(|(_, to)| shape.keys.contains(to)) {
        if !shape.keys.contains(from)
            && let Some(value) = fields.get(*from).cloned()
        {
            fields.insert((*to).to_owned(), value);
        }
    }
    for (twin, of) in [("call_sid_legacy", "call_sid"), ("coaching_call_sid_legacy", "coaching_call_sid")] {
        let value = fields.get(of).cloned().unwrap_or_default();
        fields.insert(twin.to_owned(), value);
    }
    family::keep(fields, shape.keys);
    for (key, value) in fields {
        let text = value.as_str();
        let written = match (key.as_str(), text) {
            ("status", Some("queued")) if shape.keys == CALL.keys => Some("ringing".into()),
            ("status", Some("complete" | "failed")) if shape.keys.contains(&"muted") => Some("completed".into()),
            ("status", Some("queued" | "ringing")) if shape.keys.contains(&"muted") => Some("connecting".into()),
            ("api_version", _) => Some("v2/texml".into()),
            ("subresources_uris", _) => {
                Some(json!({ "transcriptions": value.get("transcriptions").cloned().unwrap_or_default() }))
            }
            ("error_code", None) => value.as_u64().map(|code| code.to_string().into()),
            ("start_time" | "date_created" | "date_updated", Some(text)) if shape.dates == Dates::Iso8601 => {
                family::iso8601(text).map(Value::from)
            }
            _ => None,
        };
        if let Some(written) = written {
            *value = written;
        }
    }
}

/// Converts an error to Telnyx's HTTP status, error number and title.
pub(crate) fn refusal(status: StatusCode, code: u32, message: &str) -> (StatusCode, Value) {
    let message = message.replace("Twiml", "Texml").replace("VoiceUrl", "voice_url");
    let missing = message.ends_with("is required") || message.starts_with("No '");
    let (status, number, title) = match status {
        StatusCode::BAD_REQUEST if code == 21220 => (StatusCode::UNPROCESSABLE_ENTITY, "10027", "Unprocessable Entity"),
        StatusCode::BAD_REQUEST if missing => (StatusCode::UNPROCESSABLE_ENTITY, "10004", "Missing required parameter"),
        StatusCode::BAD_REQUEST if matches!(code, 21211 | 21212 | 21214) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "10002", "Invalid phone number")
        }
        StatusCode::BAD_REQUEST => (StatusCode::UNPROCESSABLE_ENTITY, "10015", "Bad Request"),
        StatusCode::UNAUTHORIZED => (status, "10009", "Authentication failed"),
        StatusCode::FORBIDDEN => (status, "10010", "Authorization failed"),
        StatusCode::NOT_FOUND => (status, "10005", "Resource not found"),
        StatusCode::METHOD_NOT_ALLOWED => (status, "10030", "Method not allowed"),
        StatusCode::TOO_MANY_REQUESTS => (status, "10011", "Too many requests"),
        StatusCode::SERVICE_UNAVAILABLE => (status, "10037", "Service unavailable"),
        _ => (status, "10007", "Unexpected error"),
    };
    envelope(status, number, title, &message)
}
