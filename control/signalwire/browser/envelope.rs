//! The envelope of Verto's requests: events of type `webrtc.message`, and the events about the state of a call.

use serde_json::{Map, Value, json};
use tandem_host::clock;
use tandem_pages::Facts;
use tandem_pages::verto::Envelope;

use tandem_id::uuid;

/// The id of this server in events.
pub(super) const NODE: &str = "tandem";

/// The envelope for pages of this project.
pub(super) struct Events {
    pub(super) project_id: String,
}

impl Events {
    /// Writes an event.
    pub(super) fn event(&self, kind: &str, params: &Value) -> String {
        let params = json!({
            "event_type": kind,
            "event_channel": kind,
            "timestamp": clock::time().as_millisecond() as f64 / 1_000.0,
            "project_id": self.project_id,
            "node_id": NODE,
            "params": params,
        });
        server_request("signalwire.event", &params)
    }

    fn state(&self, call: &Facts, state: &str) -> String {
        let direction = if call.called_by == tandem_pages::CalledBy::Page { "outbound" } else { "inbound" };
        let params = json!({
            "call_id": call.id,
            "node_id": NODE,
            "segment_id": call.id,
            "call_state": state,
            "direction": direction,
            "device": { "type": "webrtc", "params": {} },
            "room_session_id": call.id,
        });
        self.event("call.state", &params)
    }
}

/// Writes a request to the page.
pub(super) fn server_request(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": uuid(rand::random()), "method": method, "params": params }).to_string()
}

/// Writes the answer to a request of the page.
pub(super) fn result(id: &Value, result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

/// Returns the id of a Verto request in its envelope: both ids are needed for the answer.
pub(super) fn both_ids(outer: &Value, inner: &Value) -> Value {
    json!([outer, inner])
}

/// Writes the answer to a Verto request.
pub(super) fn verto_result(outer: &Value, inner: &Value, of_request: &Value) -> String {
    let verto = json!({ "jsonrpc": "2.0", "id": inner, "result": of_request });
    result(outer, &json!({ "code": "200", "message": "OK", "node_id": NODE, "result": verto }))
}

/// Returns the page itself as a member of the call.
pub(super) fn member(call: &Facts, audio_muted: bool) -> Value {
    json!({
        "member_id": call.id, "call_id": call.id, "node_id": NODE, "room_session_id": call.id, "room_id": call.id,
        "name": "self", "type": "member", "audio_muted": audio_muted, "video_muted": true, "deaf": false, "visible": false,
        "input_volume": 0, "output_volume": 0, "input_sensitivity": 44, "handraised": false, "meta": {},
    })
}

impl Envelope for Events {
    const SDK: &'static str = "SignalWire SDK 3.x";

    fn request(&self, id: u32, call: &Facts, method: &str, params: Map<String, Value>) -> String {
        // The SDK knows no Verto request for ringing.
        if method == "ringing" {
            return self.state(call, "ringing");
        }
        let verto = json!({ "jsonrpc": "2.0", "id": id, "method": format!("verto.{method}"), "params": params });
        self.event("webrtc.message", &verto)
    }

    fn reply(&self, id: Value, of_request: Value) -> String {
        let at = |index: usize| id.get(index).unwrap_or(&Value::Null);
        verto_result(at(0), at(1), &of_request)
    }

    fn ids(&self, _: &Facts) -> Map<String, Value> {
        Map::new()
    }

    /// Without `call.joined`, with the page among the members, the page's call never begins.
    fn joined(&self, call: &Facts) -> Vec<String> {
        let session = json!({
            "id": call.id, "room_session_id": call.id, "room_id": call.id, "event_channel": call.id, "name": call.id,
            "display_name": call.id, "layout_name": "", "locked": false, "recording": false, "streaming": false,
            "members": [member(call, false)], "recordings": [], "playbacks": [], "streams": [],
        });
        let joined = json!({
            "call_id": call.id, "origin_call_id": call.id, "member_id": call.id, "node_id": NODE, "room_id": call.id,
            "room_session_id": call.id, "capabilities": ["self", "member", "end"], "room_session": session,
        });
        vec![self.event("call.joined", &joined), self.state(call, "answered")]
    }

    fn left(&self, call: &Facts) -> Vec<String> {
        let left = json!({
            "call_id": call.id, "origin_call_id": call.id, "member_id": call.id, "room_id": call.id,
            "room_session_id": call.id,
        });
        vec![self.state(call, "ended"), self.event("call.left", &left)]
    }
}
