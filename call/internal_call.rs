//! Internal calls: calls inside this server without SIP. A leg calls an application or a number of this server. An
//! internal call has two legs, and each of the two legs is the far end of the other leg. One leg belongs to the caller.
//! The second leg belongs to the called application or number, and is handled like any inbound call. A called
//! application also receives additional values.
//!
//! ```text
//!   caller ══ leg ──bridge── leg ┄┄┄┄ leg ══ what the application's document does
//!                            called   called in
//! ```

use serde::{Deserialize, Serialize};

/// Maximum number of internal calls in a chain. A further internal call is refused, because each internal call costs
/// two legs.
pub const MAX_CHAIN: u8 = 8;

/// The position of a leg in a chain of internal calls. If the leg calls an application, this struct also has the values
/// that are passed to the application and the values that the application returns. A web page that calls an application
/// passes such values without an internal call.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InternalCall {
    /// Names and values that are passed to the application.
    pub parameters: Vec<(String, String)>,
    /// Id of the calling application, as the called application sees it (TwiML `customerId`). If `None`, the
    /// application sees the id of the calling account.
    pub customer: Option<String>,
    /// Whether the called application sees the number that the original caller dialled as the called address. If false,
    /// the called address is the address of the application.
    pub as_called: bool,
    /// Number of internal calls in the chain. This call is included, if it is one.
    pub depth: u8,
    /// Values that the application returned when it ended the internal call.
    pub returned: Vec<(String, String)>,
}
