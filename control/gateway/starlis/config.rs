//! The settings of the starlis gateway.

use std::sync::Arc;

use serde::Deserialize;
use tandem_call::address::PhoneNumber;

/// The settings of the starlis gateway (`[gateways.starlis]`).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StarlisConfig {
    /// The account that makes the calls; may be absent when the server has one account.
    pub account: Option<Arc<str>>,
    /// Caller's number; any number of the account when absent.
    pub from: Option<PhoneNumber>,
    /// The agent, one of `[[agents]]`, that talks with the called party. A request's prompt and first message replace
    /// those of the agent. Without an agent, the first message is spoken and the call continues.
    pub agent: Option<Arc<str>>,
    /// Calls that a user may begin within 60 s, 1 to 10,000.
    pub calls_per_minute: u32,
    /// WebSockets that a user may have open at a time, 1 to 10,000.
    pub sockets_per_user: u32,
    /// The parties that frontends hear.
    pub tracks: Tracks,
    /// Whether each request and each WebSocket needs a token of its own from `/generate-token`.
    pub tokens: bool,
    /// Web origins whose pages may use the gateway, besides `http://localhost:3000`. An empty list allows every origin.
    pub allowed_origins: Vec<Arc<str>>,
}

impl Default for StarlisConfig {
    fn default() -> Self {
        Self {
            account: None,
            from: None,
            agent: None,
            calls_per_minute: 5,
            sockets_per_user: 3,
            tracks: Tracks::Inbound,
            tokens: false,
            allowed_origins: Vec::new(),
        }
    }
}

/// The parties whose audio and transcript frontends receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tracks {
    /// The called party only.
    Inbound,
    /// Both parties, mixed.
    Both,
}
