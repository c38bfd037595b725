//! Which resource a path names. Every path works with and without `.json`, except that a recording's without one is its audio.

use tandem_call::id::{LegId, RecordingId};

use super::sid;

/// First segment of every path.
pub(super) const VERSION: &str = "2010-04-01";

/// A resource and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place<'a> {
    /// `AC...` of the path; `None` for the list of accounts.
    pub(super) account: Option<&'a str>,
    /// What of it; `None` if there is no such thing.
    pub(super) resource: Option<Resource<'a>>,
}

/// A resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resource<'a> {
    Accounts,
    Account,
    Balance,
    Calls,
    Call(LegId),
    CallRecordings(LegId),
    CallRecording(LegId, CallRecording),
    Streams(LegId),
    Stream(LegId, &'a str),
    Recordings,
    Recording(RecordingId),
    Audio(RecordingId, Audio),
}

/// A recording of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallRecording {
    /// By its SID.
    Id(RecordingId),
    /// `Twilio.CURRENT`: the one that runs.
    Current,
}

/// The form a recording's audio is wanted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audio {
    /// `.wav`.
    Wav,
    /// `.mp3`.
    Mp3,
    /// No extension: WAV when fetched, the resource itself when deleted.
    Bare,
}

/// Takes a path apart; `None` if it is not under `/2010-04-01/Accounts`.
pub(super) fn parse(path: &str) -> Option<Place<'_>> {
    let mut segments = path.trim_start_matches('/').split('/');
    if segments.next() != Some(VERSION) {
        return None;
    }
    let segments: Vec<&str> = segments.filter(|segment| !segment.is_empty()).take(8).collect();
    let (last, before) = segments.split_last()?;
    let bare = last.strip_suffix(".json").unwrap_or(last);
    Some(match (before, bare) {
        ([], "Accounts") => Place { account: None, resource: Some(Resource::Accounts) },
        (["Accounts"], account) => Place { account: Some(account), resource: Some(Resource::Account) },
        (["Accounts", account, rest @ ..], _) => Place { account: Some(account), resource: below(rest, bare, last) },
        _ => return None,
    })
}

fn below<'a>(before: &[&str], bare: &'a str, last: &str) -> Option<Resource<'a>> {
    let call = |text: &str| sid::parse_call(text);
    Some(match (before, bare) {
        ([], "Balance") => Resource::Balance,
        ([], "Calls") => Resource::Calls,
        ([], "Recordings") => Resource::Recordings,
        (["Calls"], id) => Resource::Call(call(id)?),
        (["Calls", id], "Recordings") => Resource::CallRecordings(call(id)?),
        (["Calls", id], "Streams") => Resource::Streams(call(id)?),
        (["Calls", id, "Recordings"], "Twilio.CURRENT") => Resource::CallRecording(call(id)?, CallRecording::Current),
        (["Calls", id, "Recordings"], recording) => match audio(recording) {
            (_, Audio::Bare) => Resource::CallRecording(call(id)?, CallRecording::Id(sid::parse_recording(recording)?)),
            (recording, form) => {
                call(id)?;
                Resource::Audio(sid::parse_recording(recording)?, form)
            }
        },
        (["Calls", id, "Streams"], stream) => Resource::Stream(call(id)?, stream),
        (["Recordings"], recording) if bare != last => Resource::Recording(sid::parse_recording(recording)?),
        (["Recordings"], recording) => {
            let (recording, form) = audio(recording);
            Resource::Audio(sid::parse_recording(recording)?, form)
        }
        _ => return None,
    })
}

fn audio(text: &str) -> (&str, Audio) {
    if let Some(text) = text.strip_suffix(".wav") {
        (text, Audio::Wav)
    } else if let Some(text) = text.strip_suffix(".mp3") {
        (text, Audio::Mp3)
    } else {
        (text, Audio::Bare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "CA00000000000000000000000000000001";
    const RECORDING: &str = "RE00000000000000000000000000000002";

    fn resource(path: &str) -> Option<Resource<'static>> {
        let path: &'static str = Box::leak(format!("/2010-04-01/Accounts/AC1{path}").into_boxed_str());
        let place = parse(path).unwrap();
        assert_eq!(place.account, Some("AC1"));
        place.resource
    }

    #[test]
    fn every_resource_is_found_with_and_without_json() {
        let (call, recording) = (LegId(1), RecordingId(2));
        for (path, expected) in [
            (String::new(), Resource::Account),
            ("/Balance".into(), Resource::Balance),
            ("/Calls".into(), Resource::Calls),
            (format!("/Calls/{CALL}"), Resource::Call(call)),
            (format!("/Calls/{CALL}/Recordings"), Resource::CallRecordings(call)),
            (
                format!("/Calls/{CALL}/Recordings/{RECORDING}"),
                Resource::CallRecording(call, CallRecording::Id(recording)),
            ),
            (format!("/Calls/{CALL}/Recordings/Twilio.CURRENT"), Resource::CallRecording(call, CallRecording::Current)),
            (format!("/Calls/{CALL}/Streams"), Resource::Streams(call)),
            (format!("/Calls/{CALL}/Streams/name"), Resource::Stream(call, "name")),
            ("/Recordings".into(), Resource::Recordings),
        ] {
            assert_eq!(resource(&path), Some(expected), "{path}");
            assert_eq!(resource(&format!("{path}.json")), Some(expected), "{path}.json");
        }
        assert_eq!(parse("/2010-04-01/Accounts.json").unwrap().resource, Some(Resource::Accounts));
    }

    #[test]
    fn a_recording_without_json_is_its_audio() {
        let id = RecordingId(2);
        for (path, expected) in [
            (format!("/Recordings/{RECORDING}.json"), Resource::Recording(id)),
            (format!("/Recordings/{RECORDING}"), Resource::Audio(id, Audio::Bare)),
            (format!("/Recordings/{RECORDING}.wav"), Resource::Audio(id, Audio::Wav)),
            (format!("/Recordings/{RECORDING}.mp3"), Resource::Audio(id, Audio::Mp3)),
            (format!("/Calls/{CALL}/Recordings/{RECORDING}.wav"), Resource::Audio(id, Audio::Wav)),
        ] {
            assert_eq!(resource(&path), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in
            ["/Dance.json", "/Calls/CA1.json", "/Calls/CA1/Events.json", "/Recordings/x.wav", "/a/b/c/d/e/f/g/h/i"]
        {
            assert_eq!(resource(path), None, "{path}");
        }
        assert_eq!(parse("/2010-04-01"), None);
        assert_eq!(parse("/2010-04-01/"), None);
        assert_eq!(parse("/v1/Trunks"), None);
    }
}
