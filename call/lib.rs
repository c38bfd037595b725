//! The neutral call model: what a call is, whoever's API speaks about it. Pure: time, randomness and every answer of the
//! outside world are arguments; what it wants done are outputs.
//!
//! ```text
//!   leg events ──┐                       ┌── leg commands   (answer, invite, play, record, bridge ...)
//!   commands ────┼──► Call ── legs ──────┼── fetches        (the next document, please)
//!   documents ───┤      each runs a      ├── events         (facts for webhooks, records and logs)
//!   time ────────┘      program          └── next timeout
//! ```
#![forbid(unsafe_code)]

pub mod address;
mod bridge;
pub mod call;
pub mod command;
pub mod conference;
pub mod conversation;
mod ending;
pub mod event;
pub mod fetch;
pub mod handover;
pub mod hearing;
pub mod id;
pub mod leg;
pub mod machine;
pub mod output;
mod party;
pub mod program;
pub mod queue;
pub mod recording;
pub mod refer;
mod request;
pub mod route;
pub mod siprec;
pub mod stream;
pub mod supervision;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timer;
pub mod transcription;

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One moment on both clocks: the steady one for timers, the wall's for records.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back.
    pub instant: Instant,
    /// UTC.
    pub time: Timestamp,
}

/// Where a request goes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Absolute URL.
    pub url: Arc<str>,
    /// The HTTP method.
    pub method: Method,
}

/// HTTP methods that applications may choose from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Method {
    /// Parameters in the query.
    Get,
    /// Parameters in the body.
    #[default]
    Post,
}

/// A standing order to be told of progress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Callback {
    /// Where to.
    pub target: Target,
    /// Where to when `target` fails.
    pub failover: Option<Target>,
    /// What of; other moments are not told.
    pub moments: Vec<Moment>,
    /// Single events that are told elsewhere, by their dialect's names for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<(Arc<str>, Target)>,
    /// How long the application may take to answer, if it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<std::time::Duration>,
}

impl Callback {
    /// Whether this moment is to be told.
    pub fn wants(&self, moment: Moment) -> bool {
        self.moments.contains(&moment)
    }

    /// Where this event is told, by its dialect's name for it.
    pub fn target_of(&self, event: &str) -> &Target {
        self.elsewhere.iter().find(|(name, _)| **name == *event).map_or(&self.target, |(_, target)| target)
    }
}

/// Moments an application can ask to be told of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Moment {
    /// A leg is being set up.
    Initiated,
    /// It rings.
    Ringing,
    /// It was answered.
    Answered,
    /// Machine detection has a verdict.
    Detected,
    /// A leg, a recording ended.
    Completed,
    /// A recording runs.
    InProgress,
    /// A recording holds nothing.
    Absent,
    /// A conference began.
    Started,
    /// It is over.
    Over,
    /// Somebody takes part in it.
    Joined,
    /// No longer.
    Left,
    /// Somebody was muted in it, or no longer.
    Muted,
    /// Somebody was held, or no longer.
    Held,
    /// Somebody takes part in it otherwise.
    Modified,
    /// Somebody speaks, or has stopped.
    Speaks,
    /// An announcement is over.
    Announced,
}
