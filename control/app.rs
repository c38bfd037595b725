//! What every REST handler is given.

use std::sync::Arc;

use crate::account::Accounts;
use crate::recordings::Recordings;
use crate::registry::Calls;

/// Shared state of the HTTP surfaces. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Who may log in.
    pub accounts: Arc<Accounts>,
    /// Live and ended calls.
    pub calls: Calls,
    /// Recordings and their audio.
    pub recordings: Recordings,
    /// What callers are told; no trailing slash.
    pub public_url: Arc<str>,
    /// The applications of the configuration.
    pub applications: Arc<Vec<Application>>,
}

/// An application that numbers and outbound calls may belong to.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Telnyx: connection id; Twilio: `AP...`.
    pub id: Arc<str>,
    /// Whose.
    pub account: Arc<str>,
    /// `twilio`, `telnyx`, `texml`, `signalwire`.
    pub provider: Arc<str>,
    /// Where its webhooks or document requests go.
    pub webhook_url: Arc<str>,
    /// When that fails.
    #[serde(default)]
    pub webhook_failover_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub webhook_method: Option<String>,
    /// Told of a call's end (document-driven providers).
    #[serde(default)]
    pub status_callback: Option<Arc<str>>,
}
