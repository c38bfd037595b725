//! `[[applications]]`: web applications, and whose words they speak.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

/// An application: the customer's program that decides about calls of its numbers and about its outbound calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The id in the provider's form: a Telnyx connection id, or Twilio's `AP...`.
    pub id: Arc<str>,
    /// Name of the account that the call belongs to.
    pub account: Arc<str>,
    /// The dialect: `twilio`, `telnyx`, `texml` or `signalwire`. If empty, the configuration derives it from the id.
    #[serde(default)]
    pub provider: Arc<str>,
    /// Whether documents or commands control its calls; the configuration derives this from the provider.
    #[serde(skip)]
    pub works_by: WorksBy,
    /// The URL of its webhooks or document requests.
    pub webhook_url: Arc<str>,
    /// The URL that is used when `webhook_url` fails.
    #[serde(default)]
    pub webhook_failover_url: Option<Arc<str>>,
    /// The HTTP method: `GET` or `POST`.
    #[serde(default)]
    pub webhook_method: Option<String>,
    /// Seconds within which a webhook must be answered, 1 to 30 (Telnyx).
    #[serde(default)]
    pub webhook_timeout_secs: Option<u8>,
    /// A call to the application ends if no command has arrived within this time.
    #[serde(skip)]
    pub first_command_within: Option<Duration>,
    /// The URL of the notice about a call's end (providers with documents).
    #[serde(default)]
    pub status_callback: Option<Arc<str>>,
}

impl Application {
    /// The time within which a webhook must be answered, if it is set.
    pub fn webhook_timeout(&self) -> Option<Duration> {
        self.webhook_timeout_secs.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// The provider of an application whose provider is not named, by the form of its id: `AP` and 32 hex digits are
/// Twilio's, all others Telnyx's.
pub fn provider_of_application(id: &str) -> &'static str {
    let twilio =
        id.strip_prefix("AP").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|one| one.is_ascii_hexdigit()));
    if twilio { "twilio" } else { "telnyx" }
}

/// The providers, as `provider = "..."` spells them.
pub const PROVIDERS: [&str; 5] = ["twilio", "telnyx", "texml", "signalwire", "swml"];
/// The providers whose applications send commands.
const COMMANDING: [&str; 1] = ["telnyx"];

/// How an application controls its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WorksBy {
    /// The server requests documents from it.
    #[default]
    Documents,
    /// It receives events and sends commands.
    Commands,
}

impl WorksBy {
    /// How the applications of this provider control their calls.
    pub fn of(provider: &str) -> Self {
        if COMMANDING.contains(&provider) { Self::Commands } else { Self::Documents }
    }
}
