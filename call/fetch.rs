//! Requests for documents. In a document, the application says what a leg does next.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{Accepted, Refused};
use crate::conversation::ConversationFacts;
use crate::event::{DialResult, MachineFacts, ReferFacts};
use crate::leg::LegInfo;
use crate::queue::QueueOutcome;
use crate::recognition::RecognisedText;
use crate::recording::Recording;
use crate::stream::StreamFacts;
use crate::{Method, Target};
use tandem_id::{ConferenceId, FetchId, LegId, QueueId};

/// A request to an application for a document.
#[derive(Clone, PartialEq, Debug)]
pub struct Fetch {
    /// Id of the request. The response carries this id too.
    pub id: FetchId,
    /// Facts about the leg that needs the document.
    pub leg: Arc<LegInfo>,
    /// The URL and method of the request.
    pub target: Target,
    /// The reason for the request, with the values that are sent in addition to the facts about the leg.
    pub reason: FetchReason,
    /// The scope in which the document will run.
    pub scope: Scope,
    /// The method of the leg's first document request: the method of the leg's application. `POST` if the leg has
    /// requested no document.
    pub first_method: Method,
}

/// The scope in which a document runs. Some instructions are allowed only in some scopes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Scope {
    /// The document controls a leg.
    #[default]
    Leg,
    /// The document runs on a called leg before the bridge.
    Whisper,
    /// The document runs on a leg that waits in a queue.
    Queue,
    /// The audio of the document is played in a conference. The document can be stopped at any moment.
    Conference,
}

/// The reason why a document is requested.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum FetchReason {
    /// The leg needs its first document.
    Start,
    /// A document or a request redirected the leg.
    Redirect,
    /// A gather collected digits.
    Gathered {
        /// The collected digits, without the terminator.
        digits: String,
        /// The digit that ended the gather.
        terminator: Option<char>,
    },
    /// A gather recognised speech. If the caller said nothing, the text is empty. A request with an empty text is sent
    /// only if the application wants it.
    GatheredSpeech(RecognisedText),
    /// A recording is complete.
    Recorded {
        /// Facts about the complete recording.
        recording: Recording,
        /// Length of the recorded audio. Silence at the start and the end, which may have been removed later, is
        /// included.
        recorded: Duration,
        /// The digit that ended the recording.
        key: Option<char>,
        /// Whether the caller hung up. If true, the response is ignored.
        hangup: bool,
    },
    /// A dial ended.
    Dialed(DialResult),
    /// The stream of a connect instruction ended.
    Connected(StreamFacts),
    /// A conversation ended.
    Conversed(Box<ConversationFacts>),
    /// The transfer that the server requested from the far end by REFER has ended.
    Refer(ReferFacts),
    /// The far end of the bridged leg asks this server to transfer this leg (REFER).
    Referred {
        /// URI of the transfer target.
        uri: String,
        /// The identity that the referrer claims (Referred-By header).
        by: Option<String>,
    },
    /// The called party runs a document of its own before the bridge.
    Whisper,
    /// An instruction requested something that this server does not implement. The list contains names and values,
    /// which are the result of the instruction for the application.
    Unsupported(Vec<(String, String)>),
    /// The leg waits in a queue and hears this document. The document is requested again for each repetition.
    Wait,
    /// The leg is about to leave a queue and hears this document first. Then the leg is bridged with the leg that takes
    /// it out of the queue.
    Called {
        /// Id of the queue.
        queue: QueueId,
        /// The leg's waiting time in the queue.
        waited: Duration,
        /// The leg that takes this leg out of the queue.
        by: LegId,
    },
    /// The leg left the queue.
    Queued(QueueOutcome),
    /// A command from an instruction was executed or refused.
    CommandExecuted(Result<Accepted, Refused>),
    /// Answering-machine detection has its last result.
    Detected(Box<MachineFacts>),
    /// The audio of the document is played in a conference.
    Conference {
        /// Id of the conference.
        id: ConferenceId,
        /// Name of the conference.
        name: Arc<str>,
        /// Whether all participants hear the document, not only this leg.
        all: bool,
    },
    /// Another document failed.
    Fallback {
        /// The failure of the other document.
        failure: FetchFailure,
        /// URL of the document that failed. `None` if the document was part of a request or of the configuration.
        url: Option<Arc<str>>,
    },
}

/// The failure of a document request: the document could not be fetched or parsed. Each dialect has its own error
/// number for each kind of failure.
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
    /// The server sent too many redirects.
    Redirects,
    /// The response has this HTTP status, which is not 2xx.
    Status(u16),
    /// The response is not HTTP.
    Protocol,
    /// The document exceeds the size limit.
    TooLarge,
    /// The response has no body.
    Empty,
    /// The response has a content type that no document has.
    ContentType,
    /// The document is not well-formed, or is not a document of this provider. The number is the provider's error
    /// number.
    Document(u32),
    /// Too many documents in a row only led to another document and did nothing else.
    Loop,
    /// A document that is a script did more work than a script may do between two actions of its call.
    TooMuchWork,
    /// The document asks for something that this server does not implement.
    NotServed,
    /// The document is a script whose text is not well-formed.
    ScriptSyntax,
    /// The document is a well-formed script with an unknown method, a missing parameter or a wrong structure.
    ScriptInvalid,
    /// The document has the form of another provider's documents.
    OtherDialect,
}
