//! Routes of inbound calls.

use std::sync::Arc;
use std::time::Duration;

use crate::program::instruction::{Program, RejectReason};
use crate::recording::RecordingSpec;
use crate::{Callback, Target};

/// The route of an inbound call: the account that it belongs to, and what decides about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// The name of the account that owns the application.
    pub account: Arc<str>,
    /// Name of the dialect in which the application is notified.
    pub dialect: Arc<str>,
    /// Id of the application, if the call goes to one.
    pub application: Option<Arc<str>>,
    /// The callback that receives the leg's status events.
    pub status: Option<Callback>,
    /// The recording that starts with the answer.
    pub record: Option<RecordingSpec>,
    /// What decides about the call.
    pub decision: Decision,
}

/// What decides about an inbound call.
#[derive(Clone, PartialEq, Debug)]
pub enum Decision {
    /// A document of an application, fetched at once.
    Document {
        /// The document to fetch.
        target: Target,
        /// The document to fetch when another one fails.
        fallback: Option<Target>,
    },
    /// A program from the configuration.
    Program(Program),
    /// Commands of an application; the call waits for them.
    Commands,
    /// Commands of an application; the call ends if the first one does not arrive within this time.
    CommandsWithin(Duration),
    /// Nothing: the call is refused.
    Reject(RejectReason),
}
