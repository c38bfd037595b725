//! The neutral call model: calls, their legs and the programs of legs, independent of any provider's API. The crate is
//! pure. It receives the time, random numbers and every result from the outside world as arguments. It returns every
//! action on the outside world as an output.
//!
//! ```text
//!   leg events ──┐                       ┌── leg commands   (answer, invite, play, record, bridge ...)
//!   commands ────┼──► Call ── legs ──────┼── fetches        (requests for the next document)
//!   documents ───┤      each runs a      ├── events         (facts for webhooks, records and logs)
//!   time ────────┘      program          └── next timeout
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
mod bridge;
pub mod call;
pub mod command;
pub mod conference;
pub mod conversation;
mod ending;
pub mod engine;
pub mod event;
pub mod fetch;
pub mod header_fields;
pub mod internal_call;
pub mod leg;
mod leg_cx;
mod leg_state;
pub mod machine_detection;
pub mod new_leg;
pub mod output;
pub mod program;
pub mod queue;
pub mod recognition;
pub mod recording;
pub mod refer;
mod remote_leg;
mod request;
mod resume;
pub mod route;
pub mod siprec;
pub mod snapshot;
pub mod stream;
pub mod supervision;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timer;
pub mod transcription;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The URL and method of a request to an application.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Absolute URL.
    pub url: Arc<str>,
    /// The HTTP method.
    pub method: Method,
}

impl Target {
    /// Returns whether the target is an HTTP request. Any other target asks for the next step of the leg's script.
    pub(crate) fn is_request(&self) -> bool {
        let scheme = self.url.split(':').next().unwrap_or_default();
        ["http", "https"].iter().any(|one| scheme.eq_ignore_ascii_case(one))
    }
}

/// HTTP methods that an application can choose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Method {
    /// GET: the parameters are in the query of the URL.
    Get,
    /// POST: the parameters are in the body of the request.
    #[default]
    Post,
}

impl Method {
    /// Returns the name of the method: `GET` or `POST`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }

    /// Parses `GET` or `POST` in upper or lower case. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Get, Self::Post].into_iter().find(|method| text.eq_ignore_ascii_case(method.name()))
    }
}

/// The status events that an application wants to receive, and the targets that receive them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Callback {
    /// The target of the notifications.
    pub target: Target,
    /// The target to which a notification is sent if `target` fails.
    pub failover: Option<Target>,
    /// The events that the application has subscribed to. Other events are not reported.
    #[serde(rename = "moments")]
    pub events: Vec<StatusEvent>,
    /// Targets for single events, which replace `target` for these events. The text is the name that the dialect uses
    /// for the event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<(Arc<str>, Target)>,
    /// Maximum time for a response of the application, if the application has set a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<std::time::Duration>,
}

impl Callback {
    /// Creates a callback with one target for all events.
    pub fn new(target: Target, events: Vec<StatusEvent>) -> Self {
        Self { target, failover: None, events, elsewhere: Vec::new(), timeout: None }
    }

    /// Returns whether the application has subscribed to this event.
    pub fn wants(&self, event: StatusEvent) -> bool {
        self.events.contains(&event)
    }

    /// Returns the target for an event. `event` is the name that the dialect uses for the event. An event without a
    /// target of its own has the target `self.target`.
    pub fn target_of(&self, event: &str) -> &Target {
        self.elsewhere.iter().find(|(name, _)| **name == *event).map_or(&self.target, |(_, target)| target)
    }
}

/// Status events that an application can subscribe to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum StatusEvent {
    /// The server starts to set up a leg.
    Initiated,
    /// The leg rings.
    Ringing,
    /// The leg was answered.
    Answered,
    /// Answering-machine detection has a result.
    Detected,
    /// A leg or a recording ended.
    Completed,
    /// A recording started or resumed.
    InProgress,
    /// A recording contains no audio.
    Absent,
    /// A conference started.
    Started,
    /// A conference ended.
    Over,
    /// A participant joined a conference.
    Joined,
    /// A participant left a conference.
    Left,
    /// A participant of a conference was muted or unmuted.
    Muted,
    /// A participant of a conference was put on hold or taken off hold.
    Held,
    /// The settings of a participant in a conference changed.
    Modified,
    /// A participant of a conference started or stopped speaking.
    Speaks,
    /// An announcement to a conference ended.
    Announced,
}
