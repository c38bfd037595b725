//! The frames of `/signal`: JSON objects `{"type", "version", "payload"}`, and `\n` as the heartbeat.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

/// The heartbeat. Each side sends it, and the page answers with it.
pub(super) const HEARTBEAT: &str = "\n";
/// The version of the protocol.
const VERSION: &str = "1.6";
/// The version of the protocol that the SDK 1.x speaks.
const VERSION_OF_1: &str = "1.5";
/// The characters of a URL-encoded parameter that need no escape. The page decodes `+` as a space.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A frame of the page.
#[derive(Debug, PartialEq)]
pub(super) enum FromPage {
    /// The page is alive.
    Heartbeat,
    /// The first frame of a socket, and each new token. `resumes` says whether the SDK takes up its calls by itself after a
    /// lost socket: versions before 2 do not.
    Listen { token: String, resumes: bool },
    /// The page can be called (`true`), or no longer.
    Register { audio: bool },
    /// The page calls. `id` is the page's own id of the call.
    Invite { id: String, sdp: String, parameters: Vec<(String, String)> },
    /// The page takes up a call over a new socket.
    Resume { id: String, sdp: String, reconnect: String },
    /// The page accepts a call.
    Answer { id: String, sdp: String },
    /// The page restarts ICE.
    Reinvite { id: String, sdp: String },
    /// The page ends a call.
    Hangup { id: String },
    /// The page refuses a call.
    Reject { id: String },
    /// The page presses keys.
    Digits { id: String, digits: String },
    /// The page sends a message of its user to the application.
    Message { id: String, event: String, content: Value },
    /// A frame that this server does not know. Later versions of the SDK may send such frames.
    Unknown(String),
}

#[derive(Deserialize)]
struct Frame {
    r#type: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    payload: Payload,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Payload {
    token: String,
    media: Media,
    callsid: String,
    sdp: String,
    reconnect: Option<String>,
    twilio: Parameters,
    dtmf: String,
    voiceeventsid: String,
    content: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Media {
    audio: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Parameters {
    params: String,
}

/// Reads a frame of the page. Returns `None` if it is malformed.
pub(super) fn read(text: &str) -> Option<FromPage> {
    if text.trim().is_empty() {
        return Some(FromPage::Heartbeat);
    }
    let Frame { r#type, version, payload } = serde_json::from_str(text).ok()?;
    let (id, sdp) = (payload.callsid, payload.sdp);
    Some(match r#type.as_str() {
        "listen" => FromPage::Listen { token: payload.token, resumes: version != VERSION_OF_1 },
        "register" => FromPage::Register { audio: payload.media.audio },
        "invite" => match payload.reconnect {
            Some(reconnect) => FromPage::Resume { id, sdp, reconnect },
            None => {
                let parameters = form_urlencoded::parse(payload.twilio.params.as_bytes()).into_owned().collect();
                FromPage::Invite { id, sdp, parameters }
            }
        },
        "answer" => FromPage::Answer { id, sdp },
        "reinvite" => FromPage::Reinvite { id, sdp },
        "hangup" => FromPage::Hangup { id },
        "reject" => FromPage::Reject { id },
        "dtmf" => FromPage::Digits { id, digits: payload.dtmf },
        "message" => FromPage::Message { id, event: payload.voiceeventsid, content: payload.content },
        other => FromPage::Unknown(other.chars().take(40).collect()),
    })
}

/// Writes a frame to the page.
pub(super) fn write(kind: &str, payload: &Value) -> String {
    json!({ "type": kind, "version": VERSION, "payload": payload }).to_string()
}

/// Writes an error of the session.
pub(super) fn error(code: u32, message: &str) -> String {
    write("error", &json!({ "error": { "code": code, "message": message } }))
}

/// Writes names and values as the page reads `Params`.
pub(super) fn url_encoded<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pair =
        |(name, value)| format!("{}={}", utf8_percent_encode(name, ESCAPED), utf8_percent_encode(value, ESCAPED));
    values.into_iter().map(pair).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_the_published_sdk_are_read() {
        let token = r#"{"payload":{"token":"x.y.z","browserinfo":{"p":"browser"}},"type":"listen","version":"1.6"}"#;
        assert_eq!(read(token), Some(FromPage::Listen { token: "x.y.z".into(), resumes: true }));
        let older = token.replace("1.6", "1.5");
        assert_eq!(read(&older), Some(FromPage::Listen { token: "x.y.z".into(), resumes: false }));
        let call = r#"{"type":"invite","version":"1.6","payload":{"callsid":"TJS1","sdp":"v=0","twilio":{"params":"To=%2B1555&a=b%20c"}}}"#;
        let parameters = vec![("To".into(), "+1555".into()), ("a".into(), "b c".into())];
        assert_eq!(read(call), Some(FromPage::Invite { id: "TJS1".into(), sdp: "v=0".into(), parameters }));
        let resume = r#"{"type":"invite","payload":{"callsid":"CA1","sdp":"v=0","reconnect":"r","twilio":{}}}"#;
        let expected = FromPage::Resume { id: "CA1".into(), sdp: "v=0".into(), reconnect: "r".into() };
        assert_eq!(read(resume), Some(expected));
        assert_eq!(read("\n"), Some(FromPage::Heartbeat));
        assert_eq!(read(r#"{"type":"new"}"#), Some(FromPage::Unknown("new".into())));
    }

    #[test]
    fn a_malformed_frame_is_no_frame() {
        for text in ["{", "[]", "7", r#"{"payload":{}}"#, r#"{"type":"listen","payload":null}"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn parameters_need_no_plus() {
        assert_eq!(url_encoded([("a b", "1+1"), ("ü", "&=")]), "a%20b=1%2B1&%C3%BC=%26%3D");
    }
}
