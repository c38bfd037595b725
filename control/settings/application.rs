//! `[[applications]]`: the web applications and the provider of each application.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tandem_call::Method;
use tandem_id::AccountName;

use super::method;

/// An application: the customer's program that controls the calls to its numbers and its outbound calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The id in the provider's form: a Telnyx connection id, or an id `AP...` of Twilio.
    pub id: Arc<str>,
    /// Name of the account that owns the calls of the application. If there is only one account, the key may be left
    /// out.
    #[serde(default)]
    pub account: AccountName,
    /// The dialect: `twilio`, `telnyx`, `texml` or `signalwire`. If this text is empty, the configuration derives the
    /// dialect from the id.
    #[serde(default)]
    pub provider: Arc<str>,
    /// Whether documents or commands control the application's calls. The configuration derives this field from the
    /// provider.
    #[serde(skip)]
    pub works_by: ApplicationKind,
    /// The URL of the application's webhooks or document requests.
    pub webhook_url: Arc<str>,
    /// The URL that is used if `webhook_url` fails.
    #[serde(default)]
    pub webhook_failover_url: Option<Arc<str>>,
    /// The HTTP method of `webhook_url`: `GET` or `POST`.
    #[serde(default, deserialize_with = "method")]
    pub webhook_method: Method,
    /// Maximum time in seconds for the response to a webhook, from 1 to 30 (Telnyx).
    #[serde(default)]
    pub webhook_timeout_secs: Option<u8>,
    /// Maximum time until the first command of the application. If no command arrives within this time, a call to the
    /// application ends.
    #[serde(skip)]
    pub first_command_within: Option<Duration>,
    /// The URL that receives the notice of a call's end. Only providers with documents have this setting.
    #[serde(default)]
    pub status_callback: Option<Arc<str>>,
}

impl Application {
    /// Returns the maximum time for the response to a webhook, if this time is set.
    pub fn webhook_timeout(&self) -> Option<Duration> {
        self.webhook_timeout_secs.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// Returns the provider of an application without a `provider` setting. The form of the id decides: an id of `AP` and
/// 32 hex digits belongs to Twilio, and every other id belongs to Telnyx.
pub fn provider_of_application(id: &str) -> &'static str {
    let twilio =
        id.strip_prefix("AP").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|one| one.is_ascii_hexdigit()));
    if twilio { "twilio" } else { "telnyx" }
}

/// The values of `provider = "..."`.
pub const PROVIDERS: [&str; 5] = ["twilio", "telnyx", "texml", "signalwire", "swml"];
/// The providers whose applications send commands.
const COMMANDING: [&str; 1] = ["telnyx"];

/// The way in which an application controls its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ApplicationKind {
    /// The server requests documents from the application.
    #[default]
    Documents,
    /// The application receives events and sends commands.
    Commands,
}

impl ApplicationKind {
    /// Returns the way in which applications of this provider control their calls.
    pub fn of(provider: &str) -> Self {
        if COMMANDING.contains(&provider) { Self::Commands } else { Self::Documents }
    }
}
