//! Notifications for the developers of applications: errors and warnings of calls by the provider's number, with the
//! request that caused them. They are kept as long as the logs of calls.

use serde::{Deserialize, Serialize};
use tandem_causes::Cause;
use tandem_http::exchange::HttpExchange;
use tandem_store::resources::{self, Kind};

/// The kind of stored notifications.
pub const NOTIFICATIONS: Kind<Notification> = Kind::new(resources::TROUBLE);

/// An error or a warning.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notification {
    /// The provider's error number.
    pub code: u32,
    /// Text that says what happened.
    pub message: String,
    /// The cause, if known.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// The HTTP request that caused it, with its answer.
    pub exchange: Option<HttpExchange>,
}

/// Severity of a notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// An operation failed.
    Error,
    /// The call continued normally.
    Warning,
}

impl Level {
    /// Returns the word that is stored as the resource's name, by which lists are filtered.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}
