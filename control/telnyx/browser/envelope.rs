//! The envelope of Verto's requests, and the ids that Telnyx adds.

use serde_json::{Map, Value, json};
use tandem_host::clock;
use tandem_operations::notices::NoticeQueue;
use tandem_pages::Facts;
use tandem_pages::verto::Envelope;
use tandem_runtime::Calls;

use crate::{NAME, Telnyx, id, webhook};

/// The prefix of the methods.
pub(super) const PREFIX: &str = "telnyx_rtc.";

/// Requests and answers without a further envelope.
pub(super) struct Plain {
    calls: Calls,
    /// The id of the connection. The SDK names its session at the next login only if our frames have such an id.
    connection: String,
    notices: NoticeQueue,
}

impl Plain {
    pub(super) fn new(calls: Calls) -> Self {
        let notices = NoticeQueue::new(&calls);
        Self { calls, connection: id::uuid_v4(rand::random()), notices }
    }

    /// Writes a request to the page.
    pub(super) fn of_server(&self, id: u32, method: &str, params: &Value) -> String {
        let (connection, method) = (&self.connection, format!("{PREFIX}{method}"));
        json!({ "jsonrpc": "2.0", "id": id, "voice_sdk_id": connection, "method": method, "params": params })
            .to_string()
    }

    /// Writes the answer to a request of the page.
    pub(super) fn result(&self, id: &Value, result: &Value) -> String {
        json!({ "jsonrpc": "2.0", "id": id, "voice_sdk_id": self.connection, "result": result }).to_string()
    }
}

impl Envelope for Plain {
    const SDK: &'static str = "Telnyx WebRTC SDK";

    fn request(&self, id: u32, _: &Facts, method: &str, params: Map<String, Value>) -> String {
        self.of_server(id, method, &params.into())
    }

    fn reply(&self, id: Value, of_request: Value) -> String {
        self.result(&id, &of_request)
    }

    fn ids(&self, call: &Facts) -> Map<String, Value> {
        let mut ids = Map::new();
        ids.insert("telnyx_call_control_id".into(), id::call_control_id(call.leg).into());
        ids.insert("telnyx_leg_id".into(), id::uuid(call.leg.0).into());
        if let Some(leg) = self.calls.leg_of_page(call.leg) {
            ids.insert("telnyx_session_id".into(), id::uuid(leg.session.0).into());
            ids.extend(leg.client_state.clone().map(|state| ("client_state".into(), state.into())));
        }
        ids
    }

    fn joined(&self, _: &Facts) -> Vec<String> {
        Vec::new()
    }

    fn left(&self, _: &Facts) -> Vec<String> {
        Vec::new()
    }

    fn held(&self, call: &Facts, held: bool) {
        let Some(leg) = self.calls.leg_of_page(call.leg).filter(|leg| *leg.dialect == *NAME) else { return };
        let notice = webhook::held(&leg, held, clock::time());
        notice.into_iter().for_each(|notice| self.notices.send(&leg, &Telnyx, notice));
    }
}
