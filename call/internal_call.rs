//! Internal calls: calls between two legs of this server, to an application or a number of this server, without a phone
//! between them. Such a call is two legs, each the far end of the other. One belongs to the caller. The other belongs
//! to the called application or number and is handled like any inbound call; an application receives additional values.
//!
//! ```text
//!   caller ══ leg ──bridge── leg ┄┄┄┄ leg ══ what the application's document does
//!                            called   called in
//! ```

use serde::{Deserialize, Serialize};

/// Maximum length of a chain of internal calls. A further internal call is refused, because each one costs two legs.
pub const MOST_IN_A_ROW: u8 = 8;

/// The position of a leg in a chain of internal calls. If the leg calls an application, also the values passed to the
/// application and the values it returns.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InternalCall {
    /// Names and values that are passed to the application.
    pub parameters: Vec<(String, String)>,
    /// Id under which the calling application presents itself to the called one (TwiML `customerId`); the calling
    /// account if `None`.
    pub customer: Option<String>,
    /// Whether the application sees the number that the original caller dialled, instead of its own address, as the
    /// called one.
    pub as_called: bool,
    /// Number of internal calls in the chain, including this one.
    pub depth: u8,
    /// Values that the application returned when it ended the call.
    pub returned: Vec<(String, String)>,
}
