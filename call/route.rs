//! Where an inbound call goes.

use std::sync::Arc;
use std::time::Duration;

use crate::program::instruction::{Program, RejectReason};
use crate::recording::RecordingSpec;
use crate::{Callback, Target};

/// The answer to "whose call is this, and who decides about it?"
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// The name of the account that owns the application.
    pub account: Arc<str>,
    /// The dialect that speaks for it.
    pub dialect: Arc<str>,
    /// The application's id, if it goes to one.
    pub application: Option<Arc<str>>,
    /// Told of its progress.
    pub status: Option<Callback>,
    /// Recorded from the answer.
    pub record: Option<RecordingSpec>,
    /// Who decides.
    pub decision: Decision,
}

/// Who decides about a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Decision {
    /// An application's document, fetched now.
    Document {
        /// The document.
        target: Target,
        /// When it fails.
        fallback: Option<Target>,
    },
    /// A program of the configuration.
    Program(Program),
    /// An application's commands; the call waits.
    Commands,
    /// The same. The call ends if no command has come after this time.
    CommandsWithin(Duration),
    /// Nobody: refused.
    Reject(RejectReason),
}
