//! Notifications for the developers of applications. A notification is an error or a warning of a call. Each
//! notification has the provider's error number and the request that caused the error. Notifications are kept as long
//! as the logs of calls.

use serde::{Deserialize, Serialize};
use tandem_causes::Cause;
use tandem_http::exchange::HttpExchange;
use tandem_store::resources::{self, Kind};

/// The resource kind of stored notifications.
pub const NOTIFICATIONS: Kind<Notification> = Kind::new(resources::NOTIFICATION);

/// An error or a warning with the provider's error number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notification {
    /// The provider's error number.
    pub code: u32,
    /// Text that describes the problem.
    pub message: String,
    /// The cause of the problem, if the cause is known.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// The HTTP exchange that caused the problem.
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
    /// Returns the word for this level. The word is stored as the name of the resource, so that lists can filter by
    /// level.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}
