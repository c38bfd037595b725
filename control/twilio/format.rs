//! Values as the 2010 API and its webhooks write them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tandem_call::Method;
use tandem_call::address::Address;
use tandem_call::leg::{CallerIdentity, Direction, Standing, Status};
use tandem_call::machine::{GreetingEnd, Verdict};
use tandem_call::recording::{Recording, RecordingSource, RecordingStatus, Track};
use tandem_routing::trunk::identity;

/// RFC 2822 in UTC: `Tue, 31 Aug 2010 20:36:28 +0000`.
pub(super) fn rfc2822(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// ISO 8601 with milliseconds: `2024-01-02T03:04:05.678Z`.
pub(super) fn iso8601(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Adds the fields of one object to another.
pub(super) fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (object, more) {
        fields.extend(more);
    }
}

/// Takes fields out of an object.
pub(super) fn without(object: &mut Value, names: &[&str]) {
    if let Value::Object(fields) = object {
        fields.retain(|name, _| !names.contains(&name.as_str()));
    }
}

/// Whole seconds, to the nearest.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_millis() >= 500)
}

/// Who vouches for the calling number, of a call that came with a signature.
pub(super) fn stir_verstat(identity: &CallerIdentity) -> String {
    let word = match identity.standing {
        Standing::Passed => "TN-Validation-Passed",
        Standing::Failed => "TN-Validation-Failed",
        Standing::Unknown => return "No-TN-Validation".into(),
    };
    identity.attestation.map_or_else(|| word.into(), |attestation| format!("{word}-{}", attestation.letter()))
}

/// `CallStatus`, except that `initiated` is a word of callbacks only: elsewhere a leg that is being set up is `ringing`.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Queued => "queued",
        Status::Initiated | Status::Ringing => "ringing",
        Status::InProgress => "in-progress",
        Status::Completed => "completed",
        Status::Busy => "busy",
        Status::Failed => "failed",
        Status::NoAnswer => "no-answer",
        Status::Canceled => "canceled",
    }
}

/// The states a `CallStatus` stands for; `None` if it is no such word.
pub(super) fn parse_status(text: &str) -> Option<&'static [Status]> {
    Some(match text {
        "queued" => &[Status::Queued],
        "ringing" => &[Status::Initiated, Status::Ringing],
        "in-progress" => &[Status::InProgress],
        "completed" => &[Status::Completed],
        "busy" => &[Status::Busy],
        "failed" => &[Status::Failed],
        "no-answer" => &[Status::NoAnswer],
        "canceled" => &[Status::Canceled],
        _ => return None,
    })
}

/// `AnsweredBy`.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Human => "human",
        Verdict::Machine => "machine_start",
        Verdict::GreetingEnded(GreetingEnd::Beep) => "machine_end_beep",
        Verdict::GreetingEnded(GreetingEnd::Silence) => "machine_end_silence",
        Verdict::GreetingEnded(GreetingEnd::Time) => "machine_end_other",
        Verdict::Fax => "fax",
        Verdict::Silence | Verdict::NotSure => "unknown",
    }
}

/// `Direction`.
pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::OutboundApi => "outbound-api",
        Direction::OutboundDial => "outbound-dial",
    }
}

/// `RecordingSource`.
pub(super) fn recording_source(source: RecordingSource) -> &'static str {
    match source {
        RecordingSource::Record => "RecordVerb",
        RecordingSource::Dial => "DialVerb",
        RecordingSource::Outbound => "OutboundAPI",
        RecordingSource::Request => "StartCallRecordingAPI",
        // In no published document, but what the provider says of them.
        RecordingSource::Start => "StartCallRecordingTwiML",
        RecordingSource::Trunk => "Trunking",
        RecordingSource::Conference => "Conference",
        RecordingSource::ConferenceRequest => "StartConferenceRecordingAPI",
    }
}

/// `status` of a recording. One that could not be written reads as absent, with an error code beside it.
pub(super) fn recording_status(status: &RecordingStatus) -> &'static str {
    match status {
        RecordingStatus::InProgress => "in-progress",
        RecordingStatus::Paused => "paused",
        RecordingStatus::Completed => "completed",
        RecordingStatus::Absent | RecordingStatus::Failed(_) => "absent",
    }
}

/// `track` of a recording.
pub(super) fn track(track: Track) -> &'static str {
    match track {
        Track::Inbound => "inbound",
        Track::Outbound => "outbound",
        Track::Both => "both",
    }
}

/// Length of a recording's audio so far known.
pub(super) fn recording_seconds(recording: &Recording) -> u64 {
    let until = recording.ended_at.unwrap_or(recording.started_at);
    let elapsed = Duration::try_from(until.duration_since(recording.started_at)).unwrap_or_default();
    seconds(recording.duration.unwrap_or(elapsed))
}

/// What stands for a caller who withholds the number: `ANONYMOUS` on a telephone's keys.
const ANONYMOUS: &str = "+266696687";

/// A party as `From` and `To` have it.
pub(super) fn address(address: &Address) -> String {
    match address {
        Address::Name(name) if &**name == identity::ANONYMOUS => ANONYMOUS.to_owned(),
        address => address.to_string(),
    }
}

/// `to_formatted`: `(415) 867-5309` for North America, everything else as it is.
pub(super) fn formatted(address: &Address) -> String {
    let text = self::address(address);
    let national = match text.strip_prefix("+1") {
        Some(rest) if rest.len() == 10 && rest.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => return text,
    };
    match (national.get(..3), national.get(3..6), national.get(6..)) {
        (Some(area), Some(exchange), Some(line)) => format!("({area}) {exchange}-{line}"),
        _ => text,
    }
}

/// `GET` or `POST`.
pub(super) fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
    }
}

/// `GET` or `POST`, in any case.
pub(super) fn parse_method(text: &str) -> Option<Method> {
    if text.eq_ignore_ascii_case("GET") {
        Some(Method::Get)
    } else if text.eq_ignore_ascii_case("POST") {
        Some(Method::Post)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_api_does() {
        let at: Timestamp = "2010-08-31T20:36:28.5Z".parse().unwrap();
        assert_eq!(rfc2822(at), "Tue, 31 Aug 2010 20:36:28 +0000");
        assert_eq!(iso8601(at), "2010-08-31T20:36:28.500Z");
        let early: Timestamp = "2017-06-01T20:48:32Z".parse().unwrap();
        assert_eq!(rfc2822(early), "Thu, 01 Jun 2017 20:48:32 +0000");
    }

    #[test]
    fn north_american_numbers_are_formatted() {
        assert_eq!(formatted(&Address::from("+14158675309")), "(415) 867-5309");
        assert_eq!(formatted(&Address::from("+442071838750")), "+442071838750");
        assert_eq!(formatted(&Address::from("client:alice")), "client:alice");
    }

    #[test]
    fn every_status_reads_back_as_itself() {
        for word in ["queued", "ringing", "in-progress", "completed", "busy", "failed", "no-answer", "canceled"] {
            assert!(parse_status(word).unwrap().iter().all(|s| status(*s) == word));
        }
        assert_eq!(parse_status("initiated"), None);
    }
}
