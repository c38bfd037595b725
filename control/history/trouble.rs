//! What went wrong with calls, as applications' developers look it up: errors and warnings by the provider's number, each with
//! the request that it came of. Kept as long as the calls' logs are.

use serde::{Deserialize, Serialize};
use tandem_causes::Cause;
use tandem_http::exchange::Exchange;
use tandem_store::resources::{self, Kind};

/// All of them.
pub const TROUBLES: Kind<Trouble> = Kind::new(resources::TROUBLE);

/// One.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trouble {
    /// The provider's number.
    pub code: u32,
    /// In words.
    pub message: String,
    /// Why, if that is known.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// The request it came of, if there was one.
    pub exchange: Option<Exchange>,
}

/// How bad it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Something was not done.
    Error,
    /// The call went on.
    Warning,
}

impl Level {
    /// As stored, in place of a name: what lists are filtered by.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}
