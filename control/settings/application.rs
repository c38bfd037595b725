//! `[[applications]]`: web applications, and whose words they speak.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

/// An application that numbers and outbound calls may belong to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Telnyx: connection id; Twilio: `AP...`.
    pub id: Arc<str>,
    /// Whose.
    pub account: Arc<str>,
    /// `twilio`, `telnyx`, `texml`, `signalwire`. Empty until the configuration has found it out by the id.
    #[serde(default)]
    pub provider: Arc<str>,
    /// How it decides about its calls; the configuration finds that out by the provider.
    #[serde(skip)]
    pub works_by: WorksBy,
    /// Where its webhooks or document requests go.
    pub webhook_url: Arc<str>,
    /// When that fails.
    #[serde(default)]
    pub webhook_failover_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub webhook_method: Option<String>,
    /// How long it may take to answer a webhook, seconds, 1 to 30 (Telnyx).
    #[serde(default)]
    pub webhook_timeout_secs: Option<u8>,
    /// A call to it ends when no command has come after this time.
    #[serde(skip)]
    pub first_command_within: Option<Duration>,
    /// Told of a call's end (document-driven providers).
    #[serde(default)]
    pub status_callback: Option<Arc<str>>,
}

impl Application {
    /// How long it may take to answer a webhook, if it says so.
    pub fn webhook_timeout(&self) -> Option<Duration> {
        self.webhook_timeout_secs.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// Whose an application is by the form of its id, where its provider is not named: `AP` and 32 hex digits are Twilio's.
pub fn provider_of_application(id: &str) -> &'static str {
    let twilio =
        id.strip_prefix("AP").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|one| one.is_ascii_hexdigit()));
    if twilio { "twilio" } else { "telnyx" }
}

/// Providers as `provider = "..."` spells them.
pub const PROVIDERS: [&str; 5] = ["twilio", "telnyx", "texml", "signalwire", "swml"];
/// Those whose applications command.
const COMMANDING: [&str; 1] = ["telnyx"];

/// How an application decides about its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WorksBy {
    /// It is asked for documents.
    #[default]
    Documents,
    /// It is told of events, and commands.
    Commands,
}

impl WorksBy {
    /// How the applications of a provider do.
    pub fn of(provider: &str) -> Self {
        if COMMANDING.contains(&provider) { Self::Commands } else { Self::Documents }
    }
}
