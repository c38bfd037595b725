//! The frames of calls.

use serde_json::{Value, json};
use tandem_id::LegId;
use tandem_legs::browser::Ringing;
use tandem_pages::{CalledBy, End, Facts, PageOffer, Protocol};

use super::super::path;
use super::super::sid::{self, Ids};
use super::frame::{url_encoded, write};

/// The SDK's code for a media connection that cannot be continued.
const NOT_CONTINUED: u32 = 31_005;

/// The protocol of the Voice SDK, for pages of this account.
pub(super) struct Signal {
    /// The SID of the account.
    pub(super) account_sid: String,
}

/// Returns the id in frames for a call that rings: the SID of the leg. All pages of a user get the same SID.
pub(super) fn id_of(leg: LegId, _branch: LegId) -> String {
    Ids::Prefixed.call(leg)
}

impl Protocol for Signal {
    fn name(&self) -> &'static str {
        "Twilio Voice SDK"
    }

    fn ring(&self, call: &Facts, ringing: &Ringing) -> Vec<String> {
        // The application wrote parameters of the page, which are header fields at a phone.
        let own = ringing.headers.iter();
        let own = own.map(|(name, value)| (name.strip_prefix("X-").unwrap_or(name), value.as_str()));
        let parameters = json!({
            "CallSid": call.id,
            "AccountSid": self.account_sid,
            "From": ringing.from.text(),
            "To": ringing.to.text(),
            "ApiVersion": path::VERSION,
            "Params": url_encoded(own),
        });
        let offer = String::from_utf8_lossy(&ringing.offer);
        let payload = json!({
            "callsid": call.id, "sdp": offer, "parameters": parameters, "reconnect": call.token,
        });
        vec![write("invite", &payload)]
    }

    fn progress(&self, call: &Facts, sdp: Option<&str>) -> Vec<String> {
        vec![write("ringing", &with_sdp(json!({ "callsid": call.id }), sdp))]
    }

    fn accepted(&self, call: &Facts, sdp: Option<&str>) -> Vec<String> {
        vec![write("answer", &with_sdp(json!({ "callsid": call.id, "reconnect": call.token }), sdp))]
    }

    fn described(&self, call: &Facts, offer: PageOffer, sdp: Option<&str>) -> Vec<String> {
        match (offer, sdp) {
            (PageOffer::Restart(_), Some(_)) => vec![write("answer", &with_sdp(json!({ "callsid": call.id }), sdp))],
            (PageOffer::Resume, Some(_)) => self.accepted(call, sdp),
            // The page repeats a refused restart of ICE.
            _ => Vec::new(),
        }
    }

    fn resumed(&self, call: &Facts) -> Vec<String> {
        self.accepted(call, None)
    }

    fn ended(&self, call: &Facts, end: &End) -> Vec<String> {
        let hangup = |error: Option<(u32, &str)>| match error {
            Some((code, message)) => {
                write("hangup", &json!({ "callsid": call.id, "error": { "code": code, "message": message } }))
            }
            None => write("hangup", &json!({ "callsid": call.id })),
        };
        vec![match end {
            End::Refused { status, .. } => hangup(Some(refusal(*status))),
            End::Cancelled { .. } => write("cancel", &json!({ "callsid": call.id })),
            End::HungUp => hangup(None),
            End::MediaLost => hangup(Some((NOT_CONTINUED, "the media connection cannot be continued"))),
        }]
    }

    fn message(&self, call: &Facts, content_type: &str, body: &[u8]) -> Vec<String> {
        let payload = json!({
            "callsid": call.id,
            "content": serde_json::from_slice::<Value>(body).unwrap_or_default(),
            "contenttype": content_type,
            "messagetype": "user-defined-message",
            "voiceeventsid": sid::spell("KX", rand::random()),
        });
        vec![write("message", &payload)]
    }
}

/// Tells the page the SID of the call that it has made.
pub(super) fn sid_of_call(call: &Facts) -> String {
    debug_assert_eq!(call.called_by, CalledBy::Page);
    write("ringing", &json!({ "callsid": call.id }))
}

fn with_sdp(mut payload: Value, sdp: Option<&str>) -> Value {
    if let (Some(sdp), Some(fields)) = (sdp, payload.as_object_mut()) {
        fields.insert("sdp".to_owned(), sdp.into());
    }
    payload
}

/// Returns the SDK's code and text for the status of a refused call.
fn refusal(status: u16) -> (u32, &'static str) {
    match status {
        403 => (31_002, "the call was declined"),
        404 => (31_404, "not found"),
        408 => (31_003, "timeout"),
        480 => (31_480, "temporarily unavailable"),
        486 | 600 => (31_486, "busy"),
        603 => (31_603, "declined"),
        488 | 500..=599 => (31_005, "the server cannot take the call"),
        _ => (31_000, "the call was refused"),
    }
}
