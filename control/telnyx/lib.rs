//! Telnyx's dialect: applications send commands by REST (`/v2/calls/...`), receive signed webhooks, and exchange audio
//! over WebSockets.
//!
//! ```text
//!   rest/     JSON ──► NewCall, Request          LegInfo, Recording ──► JSON
//!   webhook   CallEvent ──► Notice               sign    Notice ──► signed bytes
//!   browser/  the WebRTC SDK: logins, tokens, WebSockets
//!   stream    audio, marks, digits ◄──► frames   id      ids ◄──► v3:..., UUIDs
//! ```
#![forbid(unsafe_code)]

pub mod agent;
pub mod assistant;
pub mod browser;
mod conference;
pub mod conversation;
pub mod id;
mod machine_detection;
pub mod rest;
pub mod sign;
pub mod stream;
pub mod webhook;

#[cfg(any(test, feature = "testing"))]
pub mod fixture;

use std::time::Duration;

use jiff::Timestamp;
use tandem_accounts::Account;
use tandem_call::conference::event::ConferenceEvent;
use tandem_call::conversation::ConversationSpec;
use tandem_call::event::CallEvent;
use tandem_call::leg::{LegInfo, Status};
use tandem_call::stream::StreamSpec;
use tandem_dialect::agent::AgentScript;
use tandem_dialect::conversation::ConversationWire;
use tandem_dialect::{Context, Dialect, Notice, Signing, StreamWire};
use tandem_id::{ConversationId, LegId, RecordingId, StreamId};
use tandem_webhooks::{Retries, RetryOn, RetryPolicy, SignInput, SignedRequest, StatusRange};

/// The dialect's name in the configuration, in calls and in records.
pub const NAME: &str = "telnyx";

/// The dialect of the Telnyx Voice API v2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Telnyx;

impl Dialect for Telnyx {
    fn name(&self) -> &'static str {
        NAME
    }

    fn call_id(&self, leg: LegId) -> String {
        id::call_control_id(leg)
    }

    fn stream_id(&self, id: StreamId) -> String {
        id::uuid(id.0)
    }

    fn recording_id(&self, id: RecordingId) -> String {
        id::uuid(id.0)
    }

    fn parse_call_id(&self, text: &str) -> Option<LegId> {
        id::parse_call_control_id(text).or_else(|| id::parse_uuid(text).map(LegId))
    }

    fn webhook(&self, _account: &Account, event: &CallEvent, context: &Context) -> Vec<Notice> {
        webhook::notices(event, context)
    }

    fn conference(&self, _account: &Account, event: &ConferenceEvent, context: &Context) -> Vec<Notice> {
        conference::notice(event, context).into_iter().collect()
    }

    fn sign(&self, account: &Account, notice: &SignInput<'_>) -> SignedRequest {
        webhook::sign(account, notice)
    }

    fn signing(&self, account: &Account) -> Option<Signing> {
        webhook::signing(account)
    }

    /// The timeouts and retries for Telnyx's webhooks. Telnyx expects an answer within 2 s, unless the application has
    /// a `webhook_timeout_secs`. This server's default is 10 s. There are two reasons for this longer time. A newly
    /// started application often needs more than 2 s for its first request. A repeated `call.initiated` makes many
    /// applications answer a call twice.
    ///
    /// This server repeats a webhook after 408, 429, 5xx and a timeout. After the last attempt, this server sends the
    /// webhook to the failover URL. A redirect is a failure.
    fn retry_policy(&self, _url: &str) -> RetryPolicy {
        RetryPolicy {
            connect: Duration::from_secs(2),
            total: Duration::from_secs(10),
            retries: Retries {
                pauses: vec![Duration::from_secs(1), Duration::from_secs(4)],
                on: RetryOn {
                    connect: true,
                    response: true,
                    statuses: [(408, 408), (429, 429), (500, 599)].map(StatusRange::from).into(),
                },
                overall: None,
            },
            redirects: false,
        }
    }

    fn stream(
        &self,
        account: &Account,
        leg: &LegInfo,
        id: StreamId,
        spec: &StreamSpec,
        _now: Timestamp,
    ) -> Box<dyn StreamWire> {
        Box::new(stream::Wire::new(account, leg, id, spec))
    }

    fn conversation_id(&self, id: ConversationId) -> String {
        conversation::session_id(id)
    }

    fn conversation(
        &self,
        account: &Account,
        leg: &LegInfo,
        status: Status,
        id: ConversationId,
        spec: &ConversationSpec,
    ) -> Option<Box<dyn ConversationWire>> {
        Some(Box::new(conversation::wire(account, leg, status, conversation::session_id(id), spec)))
    }

    fn agent_script(
        &self,
        account: &Account,
        leg: &LegInfo,
        _id: ConversationId,
        definition: &str,
    ) -> Option<Result<Box<dyn AgentScript>, String>> {
        Some(assistant::script(account, leg, definition))
    }
}

/// The `event_type` and `payload` of each webhook for a call event. Most events have one webhook or none.
pub fn event_types_and_payloads(event: &CallEvent, context: &Context) -> Vec<(&'static str, serde_json::Value)> {
    webhook::payloads(event, context)
}

/// A time in Telnyx's format: `2018-02-02T22:25:27.521992Z`.
pub fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}
