//! Requests for documents, with which an application says what to do next.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Target;
use crate::command::{Accepted, Refused};
use crate::conversation::ConversationFacts;
use crate::event::{DialResult, MachineFacts, ReferFacts};
use crate::id::{ConferenceId, FetchId, LegId, QueueId};
use crate::leg::LegInfo;
use crate::queue::QueueOutcome;
use crate::recognition::RecognisedText;
use crate::recording::Recording;
use crate::stream::StreamFacts;

/// A request to an application for a document.
#[derive(Clone, PartialEq, Debug)]
pub struct Fetch {
    /// Id that the response carries too.
    pub id: FetchId,
    /// Facts about the leg that needs the document.
    pub leg: Arc<LegInfo>,
    /// The URL and method of the request.
    pub target: Target,
    /// Why the document is requested, with the values that are sent besides the facts about the leg.
    pub reason: FetchReason,
    /// Where the document will run.
    pub scope: Scope,
}

/// Where a document runs. Some instructions are allowed only in some places.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// On a leg, which the document controls.
    #[default]
    Leg,
    /// On a called leg before it is bridged.
    Whisper,
    /// On a leg that waits in a queue.
    Queue,
    /// In a conference: its audio is played there, and it can end at any moment.
    Conference,
}

/// Why a document is requested.
#[derive(Clone, PartialEq, Debug)]
pub enum FetchReason {
    /// It is the first document of the leg.
    Start,
    /// The leg was redirected by its document or by a request.
    Redirect,
    /// A gather collected digits.
    Gathered {
        /// The collected digits, without the terminator.
        digits: String,
        /// The digit that ended the gather.
        terminator: Option<char>,
    },
    /// A gather recognised speech. Empty if nothing was said and the application wants to know that too.
    Heard(RecognisedText),
    /// A recording is complete.
    Recorded {
        /// The recording.
        recording: Recording,
        /// Length of the audio before leading and trailing silence was removed.
        recorded: Duration,
        /// The digit that ended the recording.
        key: Option<char>,
        /// Whether the caller hung up; the response is ignored then.
        hangup: bool,
    },
    /// A dial ended.
    Dialed(DialResult),
    /// A connected stream ended.
    Connected(StreamFacts),
    /// A conversation ended.
    Conversed(Box<ConversationFacts>),
    /// A transfer that the far end was asked for (REFER) ended.
    Refer(ReferFacts),
    /// The far end of the bridged leg requests a transfer of this leg (REFER).
    Referred {
        /// URI of the transfer target.
        uri: String,
        /// The referrer's identity as it gives it itself (Referred-By).
        by: Option<String>,
    },
    /// The called party's own document before the bridge.
    Whisper,
    /// An instruction requested something that this server does not implement. Its result, as names and values.
    Unsupported(Vec<(String, String)>),
    /// The document that a leg hears while it waits in a queue, for the first time or again.
    Wait,
    /// The document that a waiting leg hears before it is bridged with the leg that takes it out of the queue.
    Called {
        /// Id of the queue.
        queue: QueueId,
        /// The leg's waiting time in the queue.
        waited: Duration,
        /// The leg that takes this one.
        by: LegId,
    },
    /// The leg left the queue.
    Queued(QueueOutcome),
    /// A command that an instruction contained was executed or refused.
    Ordered(Result<Accepted, Refused>),
    /// Answering-machine detection has its last result.
    Detected(Box<MachineFacts>),
    /// The document whose audio is played in a conference.
    Conference {
        /// Id of the conference.
        id: ConferenceId,
        /// Name of the conference.
        name: Arc<str>,
        /// Whether all participants hear it, not only this leg.
        all: bool,
    },
    /// Another document failed.
    Fallback {
        /// The failure.
        failure: FetchFailure,
        /// URL of the document that failed.
        url: Arc<str>,
    },
}

/// Why a document could not be fetched or parsed. Dialects have an error number for each kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchFailure {
    /// Kind of the failure.
    pub kind: FailureKind,
    /// Details in words, for the log.
    pub detail: String,
}

/// Kinds of failure of a document request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FailureKind {
    /// The URL is invalid, or its host is not allowed.
    BadUrl,
    /// The host name does not resolve.
    BadHost,
    /// The connection was not established in time.
    ConnectTimeout,
    /// The connection was refused.
    ConnectRefused,
    /// The connection was lost, or the transport failed in another way.
    Connection,
    /// The TLS handshake failed.
    Tls,
    /// The response was not complete in time.
    Timeout,
    /// Too many redirects.
    Redirects,
    /// An HTTP status other than 2xx.
    Status(u16),
    /// The response is not HTTP.
    Protocol,
    /// The document exceeds the size limit.
    TooLarge,
    /// The response has no body.
    Empty,
    /// The content type is not that of a document.
    ContentType,
    /// The document is not well-formed, or not a document of this provider. The number is the provider's error number.
    Document(u32),
    /// Documents kept leading to further documents without doing anything.
    Loop,
}
