//! Routes of inbound calls.

use std::time::Duration;

use crate::leg::LegOwner;
use crate::program::instruction::{Program, RejectReason};
use crate::recording::RecordingSpec;
use crate::{Callback, Target};

/// The route of an inbound call. The route names the account of the call. It also says whether a document, a program or
/// commands control the call, or whether the call is refused.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// The owner of the inbound leg.
    pub owner: LegOwner,
    /// The callback that receives the leg's status events.
    pub status: Option<Callback>,
    /// The recording that starts with the answer.
    pub record: Option<RecordingSpec>,
    /// The controller of the call, or the refusal of the call.
    pub decision: Decision,
}

/// The controller of an inbound call: a document, a program or commands. Or the refusal of the call.
#[derive(Clone, PartialEq, Debug)]
pub enum Decision {
    /// A document of an application, which is fetched at once.
    Document {
        /// The document to fetch.
        target: Target,
        /// The document that is fetched if another document fails.
        fallback: Option<Target>,
    },
    /// A program from the configuration.
    Program(Program),
    /// Commands of an application. The call waits for the commands.
    Commands,
    /// Commands of an application. The call ends if the first command does not arrive within this time.
    CommandsWithTimeout(Duration),
    /// No controller: the server refuses the call.
    Reject(RejectReason),
    /// No controller: the server refuses the call with this SIP status, for this reason.
    Refuse(u16, String),
}
