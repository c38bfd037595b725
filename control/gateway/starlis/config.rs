//! `[gateways.starlis]`.

use std::sync::Arc;

use serde::Deserialize;
use tandem_call::address::PhoneNumber;

/// `[gateways.starlis]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StarlisConfig {
    /// Whose calls it makes; the only account's when left out.
    pub account: Option<Arc<str>>,
    /// The number that it calls from; one of the account's when left out.
    pub from: Option<PhoneNumber>,
    /// One of `[[agents]]`, which talks with who is called; a request's prompt and first message take the place of its own. Without
    /// it the first message is spoken, and the call goes on.
    pub agent: Option<Arc<str>>,
    /// Calls that a user may begin in 60 s, 1 to 10,000.
    pub calls_per_minute: u32,
    /// WebSockets that a user may have at a time, 1 to 10,000.
    pub sockets_per_user: u32,
    /// Whom frontends hear.
    pub tracks: Tracks,
    /// Requests and WebSockets need a token of `/generate-token`, each its own.
    pub tokens: bool,
    /// Pages of these origins may use it, and of `http://localhost:3000`; of all origins when there are none.
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

/// Whom frontends hear, and whose words they read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tracks {
    /// Who is called.
    Inbound,
    /// Both, mixed.
    Both,
}
