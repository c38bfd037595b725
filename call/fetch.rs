//! Asking an application what to do next.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Target;
use crate::command::{Accepted, Refused};
use crate::conversation::ConversationFacts;
use crate::event::{DialResult, MachineFacts, ReferFacts};
use crate::hearing::Words;
use crate::id::{ConferenceId, FetchId, LegId, QueueId};
use crate::leg::LegInfo;
use crate::queue::QueueOutcome;
use crate::recording::Recording;
use crate::stream::StreamFacts;

/// A request for a document.
#[derive(Clone, PartialEq, Debug)]
pub struct Fetch {
    /// Echoed by the answer.
    pub id: FetchId,
    /// On whose behalf.
    pub leg: Arc<LegInfo>,
    /// The URL and method of the request.
    pub target: Target,
    /// Why, with what the application is told besides the leg itself.
    pub reason: FetchReason,
    /// Where it will run.
    pub scope: Scope,
}

/// Where a document runs: not every instruction is in place everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// On a leg, and it decides what the leg does.
    #[default]
    Leg,
    /// On the leg of a party who is yet to be joined.
    Whisper,
    /// On a leg that waits in a queue.
    Queue,
    /// In a conference: it is only heard, and may end at any moment.
    Conference,
}

/// Why a document is asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum FetchReason {
    /// The leg's first.
    Start,
    /// It was sent elsewhere by its document or by a request.
    Redirect,
    /// Digits were collected.
    Gathered {
        /// What was pressed.
        digits: String,
        /// The key that ended it.
        terminator: Option<char>,
    },
    /// Something was said; nothing, if an application wants to know that too.
    Heard(Words),
    /// A recording was made.
    Recorded {
        /// It.
        recording: Recording,
        /// Its length before its silent ends were cut away.
        recorded: Duration,
        /// The key that ended it.
        key: Option<char>,
        /// The caller hung up; the answer will be ignored.
        hangup: bool,
    },
    /// A dial is over.
    Dialed(DialResult),
    /// A connected stream is over.
    Connected(StreamFacts),
    /// A conversation is over.
    Conversed(Box<ConversationFacts>),
    /// A transfer that the far end was asked for is over.
    Refer(ReferFacts),
    /// The far end of the other leg asks for this one to be transferred.
    Referred {
        /// To whom.
        uri: String,
        /// Who asks, as it says itself.
        by: Option<String>,
    },
    /// The called party's own document before the join.
    Whisper,
    /// Something was asked for that this server does not do: how that came out, by name.
    Unserved(Vec<(String, String)>),
    /// What is heard in a queue, for the first time or again.
    Wait,
    /// Its turn has come: what it is told before it is joined to who takes it.
    Called {
        /// The queue.
        queue: QueueId,
        /// How long it waited there.
        waited: Duration,
        /// Who takes it.
        by: LegId,
    },
    /// It is in the queue no longer.
    Queued(QueueOutcome),
    /// An ordered command was done, or was refused.
    Ordered(Result<Accepted, Refused>),
    /// It was found out who is there.
    Detected(Box<MachineFacts>),
    /// What is heard in a conference.
    Conference {
        /// It.
        id: ConferenceId,
        /// Its name.
        name: Arc<str>,
        /// For all of it, not for the leg alone.
        all: bool,
    },
    /// Another document failed.
    Fallback {
        /// How.
        failure: FetchFailure,
        /// The one that failed.
        url: Arc<str>,
    },
}

/// Why a document could not be had. Dialects number these.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchFailure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// In words, for the log.
    pub detail: String,
}

/// Kinds of failure on the way to a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FailureKind {
    /// The URL is no URL, or its target is not allowed.
    BadUrl,
    /// The name does not resolve.
    BadHost,
    /// No connection in time.
    ConnectTimeout,
    /// Connection refused.
    ConnectRefused,
    /// Connection lost, or another transport failure.
    Connection,
    /// TLS failed.
    Tls,
    /// No whole answer in time.
    Timeout,
    /// Too many redirects.
    Redirects,
    /// An HTTP status other than 2xx.
    Status(u16),
    /// Not HTTP.
    Protocol,
    /// The document is larger than allowed.
    TooLarge,
    /// No body.
    Empty,
    /// A content type that is no document.
    ContentType,
    /// Not well-formed, or not a document of this provider; the provider's own number.
    Document(u32),
    /// Documents kept leading to documents without anything being done.
    Loop,
}
