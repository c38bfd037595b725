//! The settings of the starlis gateway.

use std::sync::Arc;

use serde::Deserialize;
use tandem_call::address::PhoneNumber;
use tandem_id::AccountName;
use tandem_settings::Secret;

/// The settings of the starlis gateway (`[gateways.starlis]`).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StarlisConfig {
    /// The account that makes the calls. This setting may be absent if the server has one account.
    pub account: Option<AccountName>,
    /// The number from which the gateway calls. If this setting is absent, the gateway calls from a number of the
    /// account.
    pub from: Option<PhoneNumber>,
    /// The name of an agent of `[[agents]]`. This agent talks with the called party. The prompt and first message of a
    /// request replace the agent's prompt and first message. Without an agent, the server speaks the first message and
    /// the call continues.
    pub agent: Option<Arc<str>>,
    /// Maximum number of calls that a user may start within 60 s. The range is 1 to 10,000.
    pub calls_per_minute: u32,
    /// Maximum number of calls that all users together may start within 60 s. The range is 1 to 100,000. If this setting
    /// is absent, the maximum is 4 times `calls_per_minute`. A client chooses its user name freely, so only this limit
    /// protects the account.
    #[serde(rename = "total_calls_per_minute")]
    pub total: Option<u32>,
    /// The beginnings of the numbers that users may call, for example `+49`. An empty list allows every number.
    pub prefixes: Vec<Arc<str>>,
    /// The password of the gateway: each request has it as `Authorization: Bearer`, and each WebSocket as `?secret=`. With
    /// `tokens`, only the request for a token needs the password. `None` means no password.
    pub secret: Option<Secret>,
    /// Maximum number of open WebSockets of a user at the same time. The range is 1 to 10,000.
    pub sockets_per_user: u32,
    /// The parties of a call whose audio and transcript the frontends receive.
    pub tracks: Tracks,
    /// Whether each request and each WebSocket needs its own token from `/generate-token`.
    pub tokens: bool,
    /// Web origins whose pages may use the gateway, in addition to `http://localhost:3000` and the host of
    /// `http.public_url`. If the list is empty, all pages of this machine and of this host may use the gateway.
    pub allowed_origins: Vec<Arc<str>>,
}

impl Default for StarlisConfig {
    fn default() -> Self {
        Self {
            account: None,
            from: None,
            agent: None,
            calls_per_minute: 5,
            total: None,
            prefixes: Vec::new(),
            secret: None,
            sockets_per_user: 3,
            tracks: Tracks::Inbound,
            tokens: false,
            allowed_origins: Vec::new(),
        }
    }
}

impl StarlisConfig {
    /// Returns the maximum number of calls that all users together may start within 60 s.
    pub fn total_calls_per_minute(&self) -> u32 {
        self.total.unwrap_or(self.calls_per_minute.saturating_mul(4))
    }
}

/// The parties of a call whose audio and transcript the frontends receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tracks {
    /// Only the called party.
    Inbound,
    /// Both parties. The audio of both parties is mixed.
    Both,
}
