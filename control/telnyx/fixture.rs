//! Fixtures for the tests of this dialect: a leg, an account, and the API description that Telnyx publishes. The
//! computer that runs the tests may not have this description.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::sync::Arc;

use base64::Engine;
use serde_json::Value;
use tandem_accounts::{Account, TelnyxCredentials};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{LegInfo, LegOwner, SipFacts};
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_id::{AccountName, CallId, LegId};

pub(super) const LEG: LegId = LegId(0x1af5_aabe_a9b8_11f0_bb0d_0242_0a1f_0a69);
pub(super) const SESSION: CallId = CallId(0x1af5_a4ce_a9b8_11f0_8e2d_0242_0a1f_0a69);

pub fn account() -> Account {
    let seed = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let telnyx = TelnyxCredentials { api_key: "KEY1".into(), signing_seed: seed };
    Account { name: AccountName::new("acme"), twilio: None, telnyx: Some(telnyx), signalwire: None, operator: false }
}

pub(super) fn callback() -> Callback {
    let target = |url: &str| Target { url: url.into(), method: Method::Post };
    Callback {
        target: target("http://127.0.0.1:9000/telnyx"),
        failover: Some(target("http://127.0.0.1:9001/telnyx")),
        events: vec![StatusEvent::Initiated],
        elsewhere: Vec::new(),
        timeout: None,
    }
}

/// An inbound leg with the status ringing.
pub fn leg() -> LegInfo {
    let owner = LegOwner {
        application: Some("1000000000000000001".into()),
        ..LegOwner::new(AccountName::new("acme"), "telnyx")
    };
    let (from, to) = ("+15551230001".into(), "+15551230002".into());
    LegInfo {
        caller_name: Some("Alice".into()),
        status_callback: Some(callback()),
        sip: SipFacts {
            headers: HeaderFields::from([("X-Ticket".into(), "42".into()), ("User-to-User".into(), "1234".into())]),
            offered_codecs: ["PCMU".into(), "PCMA".into()].into(),
            ..SipFacts::default()
        },
        ..LegInfo::inbound(LEG, SESSION, owner, from, to, "2026-11-21T02:00:00.000001Z".parse().unwrap())
    }
}

pub(super) fn shared(leg: LegInfo) -> Arc<LegInfo> {
    Arc::new(leg)
}

/// The voice part of the API description that Telnyx publishes. If this computer does not have the description, the
/// function prints a note and returns `None`.
pub(super) fn published() -> Option<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/openapi/telnyx_voice.json");
    match std::fs::read(path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(_) => {
            tandem_test_support::skip(tandem_test_support::Needs::Shared("openapi/telnyx_voice.json"));
            None
        }
    }
}

/// Resolves a `$ref` within the description.
pub(super) fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => resolve(document, document.pointer(reference.trim_start_matches('#')).unwrap()),
        None => schema,
    }
}
