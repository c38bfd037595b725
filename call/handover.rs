//! Calls between two legs of this server: to an application or a number of it, with no phone between. Such a call is two legs
//! that are each other's far end. One belongs to the caller. The other belongs to the called application or number, which is
//! called like by anybody else; an application is told more.
//!
//! ```text
//!   caller ══ leg ──bridge── leg ┄┄┄┄ leg ══ what the application's document does
//!                            called   called in
//! ```

use serde::{Deserialize, Serialize};

/// So many applications and numbers may call one another in a row; a further one is not called: each of them costs two legs.
pub const MOST_IN_A_ROW: u8 = 8;

/// A leg's place in a row of calls within the server. If an application is called: also what the application is told, and what
/// it says at the end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handover {
    /// Names and values, as it is told them.
    pub parameters: Vec<(String, String)>,
    /// Who hands the call over, in the words of who does; the account if `None`.
    pub customer: Option<String>,
    /// It sees whom the caller had called, not itself, as called.
    pub as_called: bool,
    /// The how manieth call in a row this is.
    pub depth: u8,
    /// What the application handed back when it ended the call.
    pub returned: Vec<(String, String)>,
}
