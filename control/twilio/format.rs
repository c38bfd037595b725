//! Formats values for the 2010-04-01 API and its webhooks.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tandem_call::address::Address;
use tandem_call::leg::{CallerIdentity, Direction, Status, Verstat};
use tandem_call::machine_detection::{DetectionResult, GreetingEnd};
use tandem_call::recording::{Recording, RecordingSource, RecordingStatus, Track};
use tandem_routing::trunk::identity;

/// A time in RFC 2822 format, in UTC: `Tue, 31 Aug 2010 20:36:28 +0000`.
pub(super) fn rfc2822(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A time in ISO 8601 format with milliseconds, in UTC: `2024-01-02T03:04:05.678Z`.
pub(super) fn iso8601(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Copies the fields of the JSON object `more` into `object`.
pub(super) fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (object, more) {
        fields.extend(more);
    }
}

/// Removes fields from a JSON object.
pub(super) fn without(object: &mut Value, names: &[&str]) {
    if let Value::Object(fields) = object {
        fields.retain(|name, _| !names.contains(&name.as_str()));
    }
}

/// A duration in seconds, rounded to the nearest second.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_millis() >= 500)
}

/// `StirVerstat`: the result of STIR verification and the attestation level. Only a call with a signed caller ID has
/// this value.
pub(super) fn stir_verstat(identity: &CallerIdentity) -> String {
    let word = match identity.verstat {
        Verstat::Passed => "TN-Validation-Passed",
        Verstat::Failed => "TN-Validation-Failed",
        Verstat::Unknown => return "No-TN-Validation".into(),
    };
    identity.attestation.map_or_else(|| word.into(), |attestation| format!("{word}-{}", attestation.letter()))
}

/// The word for `CallStatus`. A leg that is being set up has the status `ringing`. Only callbacks use the word
/// `initiated`.
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

/// The leg states for a word of `CallStatus`. `None` if the word is not a `CallStatus`.
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

/// The word for `AnsweredBy`.
pub(super) fn detection_result(result: DetectionResult) -> &'static str {
    match result {
        DetectionResult::Human => "human",
        DetectionResult::Machine => "machine_start",
        DetectionResult::GreetingEnded(GreetingEnd::Beep) => "machine_end_beep",
        DetectionResult::GreetingEnded(GreetingEnd::Silence) => "machine_end_silence",
        DetectionResult::GreetingEnded(GreetingEnd::Time) => "machine_end_other",
        DetectionResult::Fax => "fax",
        DetectionResult::Silence | DetectionResult::NotSure => "unknown",
    }
}

/// The word for `Direction`.
pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::OutboundApi => "outbound-api",
        Direction::OutboundDial => "outbound-dial",
    }
}

/// The word for `RecordingSource`.
pub(super) fn recording_source(source: RecordingSource) -> &'static str {
    match source {
        RecordingSource::Record => "RecordVerb",
        RecordingSource::Dial => "DialVerb",
        RecordingSource::Outbound => "OutboundAPI",
        RecordingSource::Request => "StartCallRecordingAPI",
        // Twilio's published documents do not list these words, but Twilio sends these words.
        RecordingSource::Start => "StartCallRecordingTwiML",
        RecordingSource::Trunk => "Trunking",
        RecordingSource::Conference => "Conference",
        RecordingSource::ConferenceRequest => "StartConferenceRecordingAPI",
    }
}

/// The `status` of a recording. A recording that could not be written has the status `absent` and an error code. If a part
/// of the audio was written, the status is `completed`, so that clients fetch this part, and there is an error code too.
pub(super) fn recording_status(facts: &Recording) -> &'static str {
    match &facts.status {
        _ if facts.has_audio() => "completed",
        RecordingStatus::InProgress => "in-progress",
        RecordingStatus::Paused => "paused",
        RecordingStatus::Completed => "completed",
        RecordingStatus::Absent | RecordingStatus::Failed(_) => "absent",
    }
}

/// The word for a recording's `track`.
pub(super) fn track(track: Track) -> &'static str {
    match track {
        Track::Inbound => "inbound",
        Track::Outbound => "outbound",
        Track::Both => "both",
    }
}

/// Length of a recording in seconds. While the audio's length is unknown, the result is the time since the recording's
/// start.
pub(super) fn recording_seconds(recording: &Recording) -> u64 {
    let until = recording.ended_at.unwrap_or(recording.started_at);
    let elapsed = Duration::try_from(until.duration_since(recording.started_at)).unwrap_or_default();
    seconds(recording.duration.unwrap_or(elapsed))
}

/// The caller ID of a caller who withholds the number. On a telephone keypad, the digits spell `ANONYMOUS`.
const ANONYMOUS: &str = "+266696687";

/// An address in the format of `From` and `To`.
pub(super) fn address(address: &Address) -> String {
    match address {
        Address::Name(name) if &**name == identity::ANONYMOUS => ANONYMOUS.to_owned(),
        address => address.to_string(),
    }
}

/// `to_formatted` and `from_formatted`: `(415) 867-5309` for North American numbers. Other addresses are unchanged.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_format_of_twilios_api() {
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
