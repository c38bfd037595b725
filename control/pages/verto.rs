//! Verto, the protocol of FreeSWITCH for web pages: JSON-RPC 2.0 requests in both directions. Several SDKs use it with
//! other names of methods and other envelopes ([`Envelope`]).

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_call::header_fields::HeaderFields;
use tandem_legs::browser::Ringing;

use crate::{End, Facts, Page, PageOffer, Protocol, printable};

/// Maximum number of header fields that a page may set.
const MAX_HEADERS: usize = 50;

/// The envelope of an SDK.
pub trait Envelope: Send + Sync {
    /// The name of the SDK, for people.
    const SDK: &'static str;
    /// Writes a request with this id to the page about a call. `method` has no prefix: `invite`, `answer`, `bye`.
    fn request(&self, id: u32, call: &Facts, method: &str, params: Map<String, Value>) -> String;
    /// Writes the answer to a request of the page that has waited.
    fn reply(&self, id: Value, result: Value) -> String;
    /// Members that the requests `invite`, `ringing`, `answer` and `attach` have besides.
    fn ids(&self, call: &Facts) -> Map<String, Value>;
    /// Frames that tell the SDK that the call is up, apart from `answer`.
    fn joined(&self, call: &Facts) -> Vec<String>;
    /// Frames that tell the SDK that the call is over, apart from `bye`.
    fn left(&self, call: &Facts) -> Vec<String>;
    /// The page holds the call, or has taken it up again.
    fn held(&self, _call: &Facts, _held: bool) {}
}

/// The frames of Verto in this envelope.
pub struct Verto<E>(pub E);

impl<E: Envelope> Verto<E> {
    fn request(&self, call: &Facts, method: &str, more: Map<String, Value>, sdp: Option<&str>) -> String {
        let mut params = more;
        params.insert("callID".into(), call.id.clone().into());
        if let Some(sdp) = sdp {
            params.insert("sdp".into(), sdp.into());
        }
        let id = if method == "bye" { call.end_id } else { rand::random() };
        self.0.request(id, call, method, params)
    }

    fn bye(&self, call: &Facts, cause: (&str, u16), sip: Option<(u16, Option<&str>)>) -> Vec<String> {
        let mut params = Map::new();
        params.insert("cause".into(), cause.0.into());
        params.insert("causeCode".into(), cause.1.into());
        if let Some((status, reason)) = sip {
            params.insert("sipCode".into(), status.into());
            params.extend(reason.map(|reason| ("sipReason".into(), reason.into())));
        }
        let mut frames = vec![self.request(call, "bye", params, None)];
        frames.extend(self.0.left(call));
        frames
    }
}

impl<E: Envelope> Protocol for Verto<E> {
    fn name(&self) -> &'static str {
        E::SDK
    }

    fn ring(&self, call: &Facts, ringing: &Ringing) -> Vec<String> {
        let mut params = self.0.ids(call);
        let (from, to) = (ringing.from.user().into_owned(), ringing.to.user().into_owned());
        let name = ringing.from_display.clone().unwrap_or_else(|| from.clone());
        let headers = ringing.headers.iter().map(|(name, value)| json!({ "name": name, "value": value }));
        for (member, value) in [
            ("caller_id_name", Value::from(name)),
            ("caller_id_number", from.into()),
            ("callee_id_name", to.clone().into()),
            ("callee_id_number", to.into()),
            ("display_direction", "inbound".into()),
            ("dialogParams", json!({ "custom_headers": headers.collect::<Vec<_>>() })),
        ] {
            params.insert(member.into(), value);
        }
        vec![self.request(call, "invite", params, Some(&String::from_utf8_lossy(&ringing.offer)))]
    }

    fn progress(&self, call: &Facts, sdp: Option<&str>) -> Vec<String> {
        let mut frames = vec![self.request(call, "ringing", self.0.ids(call), None)];
        frames.extend(sdp.map(|sdp| self.request(call, "media", Map::new(), Some(sdp))));
        frames
    }

    fn accepted(&self, call: &Facts, sdp: Option<&str>) -> Vec<String> {
        let mut frames = self.0.joined(call);
        frames.push(self.request(call, "answer", self.0.ids(call), sdp));
        frames
    }

    fn described(&self, call: &Facts, offer: PageOffer, sdp: Option<&str>) -> Vec<String> {
        match offer {
            PageOffer::Restart(id) => {
                let mut result = json!({ "action": "updateMedia", "callID": call.id });
                if let (Some(sdp), Some(fields)) = (sdp, result.as_object_mut()) {
                    fields.insert("sdp".into(), sdp.into());
                }
                vec![self.0.reply(id, result)]
            }
            PageOffer::Hold(id, held) => {
                // A refused offer changes nothing.
                let state = if held == sdp.is_some() { "held" } else { "active" };
                let action = if held { "hold" } else { "unhold" };
                if sdp.is_some() {
                    self.0.held(call, held);
                }
                vec![self.0.reply(id, json!({ "action": action, "callID": call.id, "holdState": state }))]
            }
            PageOffer::Attach => vec![self.request(call, "attach", self.0.ids(call), sdp)],
            PageOffer::Resume => self.accepted(call, sdp),
        }
    }

    fn resumed(&self, _: &Facts) -> Vec<String> {
        Vec::new()
    }

    fn ended(&self, call: &Facts, end: &End) -> Vec<String> {
        match end {
            End::Refused { status, reason } => self.bye(call, cause(*status), Some((*status, reason.as_deref()))),
            End::Cancelled { answered_elsewhere: true } => self.bye(call, ("LOSE_RACE", 702), None),
            End::Cancelled { answered_elsewhere: false } => self.bye(call, ("ORIGINATOR_CANCEL", 487), None),
            End::HungUp => self.bye(call, ("NORMAL_CLEARING", 16), None),
            End::MediaLost => self.bye(call, ("MEDIA_TIMEOUT", 604), None),
        }
    }

    fn message(&self, _: &Facts, _: &str, _: &[u8]) -> Vec<String> {
        Vec::new()
    }
}

/// Returns the cause of FreeSWITCH for the status of a refused call.
fn cause(status: u16) -> (&'static str, u16) {
    match status {
        404 | 484 => ("UNALLOCATED_NUMBER", 1),
        408 => ("NO_USER_RESPONSE", 18),
        480 => ("NO_ANSWER", 19),
        486 | 600 => ("USER_BUSY", 17),
        401 | 403 | 407 => ("OUTGOING_CALL_BARRED", 52),
        603 => ("CALL_REJECTED", 21),
        488 => ("INCOMPATIBLE_DESTINATION", 88),
        _ => ("NORMAL_TEMPORARY_FAILURE", 41),
    }
}

/// A call that a page makes.
#[derive(Debug, PartialEq, Eq)]
pub struct Invite {
    /// The page's id of the call.
    pub id: String,
    /// The offer.
    pub sdp: String,
    /// The called number or address.
    pub destination: String,
    /// The calling number that the page shows.
    pub caller_number: String,
    /// The calling name that the page shows.
    pub caller_name: Option<String>,
    /// The header fields `X-...` of the page.
    pub headers: HeaderFields,
    /// The variables of the page.
    pub variables: Vec<(String, String)>,
    /// The text that the application shall get with each event of the leg. It may be anything.
    pub client_state: Option<String>,
    /// Whether the page takes up the call with this id, with a new media connection.
    pub reattaches: bool,
}

/// The result of a request of the page.
#[derive(Debug, PartialEq)]
pub enum Handled {
    /// The answer to the request.
    Result(Value),
    /// The answer follows.
    Later,
    /// The page calls. The caller of [`handle`] answers.
    Invite(Box<Invite>),
    /// The request is no request of Verto.
    Unknown,
}

/// Handles a request of the page about its calls. `method` has no prefix. A request about a call that does not exist is
/// answered like any other, because the call may have ended at the same time.
pub fn handle(page: &Arc<Page>, id: &Value, method: &str, params: &Value) -> Handled {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dialog = &params["dialogParams"];
    let call_id = [&dialog["callID"], &params["callID"]].into_iter().find_map(Value::as_str).unwrap_or_default();
    let line = page.line(call_id);
    let sdp = || text(&params["sdp"]);
    let answer = |message: &str| Handled::Result(json!({ "callID": call_id, "message": message }));
    match method {
        "invite" => return Handled::Invite(Box::new(invite(call_id, sdp(), dialog))),
        "answer" => line.iter().for_each(|line| line.answered(sdp(), headers(dialog))),
        "attach" => line.iter().for_each(|line| line.attached(sdp())),
        "bye" => {
            line.iter().for_each(|line| line.left());
            let (cause, code) = (params["cause"].clone(), params["causeCode"].clone());
            return Handled::Result(
                json!({ "callID": call_id, "message": "CALL ENDED", "cause": cause, "causeCode": code }),
            );
        }
        "modify" => return modify(line.as_deref(), id, call_id, params),
        "info" => {
            line.iter().for_each(|line| line.pressed(params["dtmf"].as_str().unwrap_or_default()));
            return Handled::Result(json!({ "message": "SENT" }));
        }
        // The page's checks show its addresses.
        "candidate" | "endOfCandidates" | "pong" => return Handled::Result(json!({})),
        "ping" => return Handled::Result(json!({ "message": "PONG" })),
        "subscribe" => return Handled::Result(json!({ "subscribedChannels": [] })),
        "unsubscribe" => return Handled::Result(json!({ "unsubscribedChannels": [] })),
        "broadcast" => return Handled::Result(json!({})),
        _ => return Handled::Unknown,
    }
    answer(if method == "attach" { "CALL ATTACHED" } else { "CALL ANSWERED" })
}

fn modify(line: Option<&crate::Line>, id: &Value, call_id: &str, params: &Value) -> Handled {
    let action = params["action"].as_str().unwrap_or_default();
    let is_later = match (line, action) {
        (Some(line), "updateMedia") => {
            let sdp = params["sdp"].as_str().unwrap_or_default().to_owned();
            line.offered(sdp, PageOffer::Restart(id.clone()))
        }
        (Some(line), "hold") => line.hold(id.clone(), Some(true)),
        (Some(line), "unhold") => line.hold(id.clone(), Some(false)),
        (Some(line), "toggleHold") => line.hold(id.clone(), None),
        _ => false,
    };
    match is_later {
        true => Handled::Later,
        false => Handled::Result(json!({ "action": action, "callID": call_id, "holdState": "active" })),
    }
}

fn invite(id: &str, sdp: String, dialog: &Value) -> Invite {
    let text = |name: &str| printable(dialog[name].as_str().unwrap_or_default());
    let written = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let variables = dialog["userVariables"].as_object().into_iter().flatten();
    Invite {
        id: id.to_owned(),
        sdp,
        destination: text("destination_number"),
        caller_number: text("caller_id_number"),
        caller_name: Some(text("caller_id_name")).filter(|name| !name.is_empty()),
        headers: headers(dialog),
        variables: variables.map(|(name, value)| (name.clone(), written(value))).collect(),
        client_state: dialog["clientState"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
        reattaches: dialog["reattaching"] == json!(true) || dialog["attach"] == json!(true),
    }
}

/// Returns the header fields `X-...` of the page.
fn headers(dialog: &Value) -> HeaderFields {
    let headers = dialog["custom_headers"].as_array().into_iter().flatten();
    let headers = headers.filter_map(|header| Some((header["name"].as_str()?, header["value"].as_str()?)));
    let is_own = |name: &str, value: &str| {
        let is_token = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_');
        name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("X-"))
            && is_token
            && !value.contains(char::is_control)
    };
    let headers = headers.filter(|(name, value)| is_own(name, value)).take(MAX_HEADERS);
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Fuzz entry point. The data is a request of a page.
pub fn fuzz_request(data: &[u8]) {
    let frame = serde_json::from_slice::<Value>(data).unwrap_or_default();
    let params = frame.get("params").unwrap_or(&Value::Null);
    let sdp = params["sdp"].as_str().unwrap_or_default().to_owned();
    let _ = crate::description::redirected(&sdp, true, 1);
    let _ = invite("1", sdp, &params["dialogParams"]);
}

/// Writes the refusal of a request of the page.
pub fn error(id: &Value, code: i32, message: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_can_set_only_header_fields_of_its_own() {
        let dialog = json!({
            "destination_number": "+15550001111", "caller_id_name": "", "caller_id_number": "alice",
            "custom_headers": [
                { "name": "X-Plan", "value": "gold" }, { "name": "From", "value": "x" }, { "name": "X-A\r\nB", "value": "x" },
                { "name": "X-B", "value": "x\r\nVia: y" }, { "name": "X-C" }, "x",
            ],
            "userVariables": { "a": "b", "c": 7 },
        });
        let read = invite("1", "v=0".into(), &dialog);
        assert_eq!(read.headers, HeaderFields::from([("X-Plan".to_owned(), "gold".to_owned())]));
        assert_eq!(read.variables, [("a".into(), "b".into()), ("c".into(), "7".into())]);
        assert_eq!((read.caller_name, read.reattaches), (None, false));
    }

    #[test]
    fn a_dialog_of_any_type_is_read() {
        for dialog in [json!(null), json!([]), json!("x"), json!({ "callID": 7, "custom_headers": {} })] {
            assert_eq!(invite("1", String::new(), &dialog).destination, "");
        }
    }
}
