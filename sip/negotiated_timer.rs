//! The result of the negotiation of a session timer (RFC 4028 §7 and §9).

use serde::{Deserialize, Serialize};

/// The result of the session timer negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NegotiatedTimer {
    /// Session interval in seconds.
    pub(crate) interval: u32,
    /// Whether this server refreshes the session.
    pub(crate) we_refresh: bool,
    /// Whether the far end supports session timers. Only such a far end can be required to refresh.
    pub(crate) known: bool,
}
