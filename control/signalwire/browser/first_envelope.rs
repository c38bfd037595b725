//! The envelopes of Verto's requests for the SDK 1.x. `Verto` uses none. `Relay` uses Blade: the requests of this server are
//! broadcasts, and the requests of the page have two envelopes.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_host::clock;
use tandem_pages::Facts;
use tandem_pages::verto::Envelope;

use super::envelope::{NODE, result, server_request};

/// The frames of one page.
pub(super) enum Frames {
    /// The class `Verto`.
    Bare,
    /// The class `Relay`.
    Blade {
        /// The name of the page's session. The SDK drops broadcasts with another name.
        protocol: Option<Arc<str>>,
        project_id: String,
    },
}

impl Frames {
    /// Writes a Verto request to the page.
    pub(super) fn of_server(&self, id: u32, method: &str, params: &Value) -> String {
        let verto = json!({ "jsonrpc": "2.0", "id": id, "method": format!("verto.{method}"), "params": params });
        let Self::Blade { protocol, project_id } = self else { return verto.to_string() };
        let event = json!({
            "event_type": "webrtc.message",
            "timestamp": clock::time().as_millisecond() as f64 / 1_000.0,
            "project_id": project_id,
            "node_id": NODE,
            "params": verto,
        });
        let broadcast = json!({
            "broadcaster_nodeid": NODE, "protocol": protocol, "channel": "notifications",
            "event": "queuing.relay.events", "params": event,
        });
        server_request("blade.broadcast", &broadcast)
    }

    /// Writes the answer to a Verto request: `result` or `error` and its value. `outer` is the id of the envelope.
    pub(super) fn answer(&self, outer: &Value, inner: &Value, member: &str, value: &Value) -> String {
        let verto = json!({ "jsonrpc": "2.0", "id": inner, member: value });
        match self {
            Self::Bare => verto.to_string(),
            Self::Blade { .. } => {
                executed(outer, &json!({ "code": "200", "message": "OK", "node_id": NODE, "result": verto }))
            }
        }
    }
}

/// Writes the answer to a request `blade.execute`.
pub(super) fn executed(id: &Value, of_request: &Value) -> String {
    result(id, &json!({ "requester_nodeid": NODE, "responder_nodeid": NODE, "result": of_request }))
}

impl Envelope for Frames {
    const SDK: &'static str = "SignalWire SDK 1.x";

    fn request(&self, id: u32, _: &Facts, method: &str, params: Map<String, Value>) -> String {
        self.of_server(id, method, &params.into())
    }

    fn reply(&self, id: Value, of_request: Value) -> String {
        let at = |index: usize| id.get(index).unwrap_or(&Value::Null);
        self.answer(at(0), at(1), "result", &of_request)
    }

    fn ids(&self, _: &Facts) -> Map<String, Value> {
        Map::new()
    }

    fn joined(&self, _: &Facts) -> Vec<String> {
        Vec::new()
    }

    fn left(&self, _: &Facts) -> Vec<String> {
        Vec::new()
    }
}
