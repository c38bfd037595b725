//! Dialects: one call model in the wire format of each provider. A dialect only translates. It does no I/O.
//!
//! ```text
//!              CallEvent ──webhook()──► Notice ──seal()──► signed bytes
//!   Fetch ──Documents::fetch()──► Notice ──seal()──► signed bytes     bytes ──Documents::reply()──► Program
//!   stream frames ◄──StreamWire──► text messages                          REST bodies ──rest.rs──► Command
//! ```
#![forbid(unsafe_code)]

pub mod conversation;
pub mod delivery;
mod dialects;
pub mod script;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tandem_accounts::Account;
use tandem_accounts::usage::Trigger;
use tandem_call::address::Address;
use tandem_call::conference::event::{ConferenceEvent, ConferenceInfo};
use tandem_call::conference::state::Refused;
use tandem_call::conversation::ConversationSpec;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::fetch::{Fetch, FetchFailure};
use tandem_call::id::{ConversationId, LegId, RecordingId, StreamId};
use tandem_call::leg::{LegInfo, Status};
use tandem_call::program::instruction::Program;
use tandem_call::queue::QueuePosition;
use tandem_call::recording::{Recording, Track};
use tandem_call::stream::StreamSpec;
use tandem_call::{Method, Target};
use tandem_store::resources::Resource;
use tandem_webhooks::RetryOn;
use url::Url;

use conversation::ConversationWire;
pub use dialects::Dialects;
use script::Script;

/// The translation between the call model and one provider's API.
pub trait Dialect: Send + Sync {
    /// The dialect's name in the configuration and in records: `twilio`, `telnyx`.
    fn name(&self) -> &'static str;

    /// The account's id in this provider's API; `None` if the provider has no account ids, or if the account has no
    /// credentials for it.
    fn account_id(&self, _account: &Account) -> Option<String> {
        None
    }

    /// The leg's id in this provider's spelling.
    fn call_id(&self, leg: LegId) -> String;

    /// The stream's id in this provider's spelling.
    fn stream_id(&self, id: StreamId) -> String {
        id.to_string()
    }

    /// The conversation's id in this provider's spelling.
    fn conversation_id(&self, id: ConversationId) -> String {
        id.to_string()
    }

    /// The recording's id in this provider's spelling.
    fn recording_id(&self, id: RecordingId) -> String {
        id.to_string()
    }

    /// Parses any of the provider's spellings of a leg's id.
    fn parse_call_id(&self, text: &str) -> Option<LegId>;

    /// The dialect's documents; `None` for a dialect whose applications only send commands.
    fn documents(&self) -> Option<&dyn Documents> {
        None
    }

    /// The notices that this provider sends for a call event, with their targets; empty if it sends none.
    fn webhook(&self, account: &Account, event: &CallEvent, context: &Context) -> Vec<Notice>;

    /// The notices that this provider sends for a conference event, with their targets. `context` holds their sequence
    /// number.
    fn conference(&self, _account: &Account, _event: &ConferenceEvent, _context: &Context) -> Vec<Notice> {
        Vec::new()
    }

    /// The wire form of a stream that carries a conference's mix; `None` if this provider has no such streams.
    fn conference_stream(
        &self,
        _account: &Account,
        _conference: &ConferenceInfo,
        _id: StreamId,
        _spec: &StreamSpec,
    ) -> Option<Box<dyn StreamWire>> {
        None
    }

    /// The notice for a usage trigger whose value `figure` has reached; `None` if this provider sends none.
    fn usage_reached(&self, _account: &Account, _trigger: &Resource<Trigger>, _figure: f64) -> Option<Notice> {
        None
    }

    /// Whether the notice of a leg's end waits until the recording that was requested with the leg is complete, because
    /// the notice describes that recording.
    fn ends_with_recording(&self) -> bool {
        false
    }

    /// Builds the HTTP request of one attempt (numbered from 1) at a notice, signed at this moment. `url` is the
    /// notice's target or its failover URL.
    fn seal(&self, account: &Account, notice: &SignInput<'_>) -> SignedRequest;

    /// A description, for people, of the account's key that signs requests together with their URL; `None` if this
    /// provider does not sign the URL.
    fn signing_key(&self, _account: &Account) -> Option<String> {
        None
    }

    /// Timeouts and retries for the application at this URL.
    fn patience(&self, _url: &str) -> RetryPolicy {
        RetryPolicy::default()
    }

    /// The provider's error number for a fault; `None` if it has none.
    fn error_number(&self, _fault: ReportedError<'_>) -> Option<u32> {
        None
    }

    /// The wire form of a media stream to an application's WebSocket.
    fn stream(
        &self,
        account: &Account,
        leg: &LegInfo,
        id: StreamId,
        spec: &StreamSpec,
        now: Timestamp,
    ) -> Box<dyn StreamWire>;

    /// The wire form of a conversation with an application's WebSocket; `None` if this provider has no conversations.
    /// `status` is the leg's status when the conversation was requested.
    fn conversation(
        &self,
        _account: &Account,
        _leg: &LegInfo,
        _status: Status,
        _id: ConversationId,
        _spec: &ConversationSpec,
    ) -> Option<Box<dyn ConversationWire>> {
        None
    }
}

/// The part of a dialect that serves applications which answer with documents.
pub trait Documents: Sync {
    /// The request that asks the application for a document.
    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice;

    /// Parses the document that answered the request `asked`. `base` is the document's URL after redirects. Only fatal
    /// problems are errors. An element that can be skipped, or that a whisper does not allow, becomes a warning in the
    /// program.
    fn reply(
        &self,
        fetch: &Fetch,
        asked: &Notice,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure>;

    /// A new interpreter for a leg, if this dialect's documents are programs with state. `None` if each document is a
    /// list of instructions.
    fn script(&self) -> Option<Box<dyn Script>> {
        None
    }

    /// The name of the dialect in which `_body` is written, if it is not this one.
    fn other_dialect(&self, _body: &[u8]) -> Option<&'static str> {
        None
    }

    /// Maximum size of a document, in octets.
    fn longest(&self) -> usize {
        64 * 1024
    }
}

/// A fault for which a provider may have an error number.
#[derive(Clone, Copy, Debug)]
pub enum ReportedError<'a> {
    /// A document could not be fetched or parsed.
    Document(&'a FetchFailure),
    /// A call event that reports a failure. Other events have no number.
    Event(&'a EventKind),
    /// A document dials with a caller id that the account may not use.
    Caller,
    /// A REST request creates a call from a number that the account does not own.
    ForeignCaller,
    /// No route leads to the dialled address.
    Callee(&'a Address),
    /// A conference refused a participant.
    Conference(Refused),
    /// A notice was given up after its last attempt.
    Undelivered {
        /// The notice's [`Notice::event`].
        event: &'a str,
        /// HTTP status of the last attempt; `None` if there was no answer.
        status: Option<u16>,
    },
}

/// A provider's timeouts and retries for requests to an application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Timeout of one connection.
    pub connect: Duration,
    /// Timeout of one attempt.
    pub total: Duration,
    /// Pauses before the second, third and later attempts. Empty: only one attempt.
    pub retries: Vec<Duration>,
    /// Timeout of all attempts together; `None`: no limit.
    pub overall: Option<Duration>,
    /// The failures that are retried.
    pub on: RetryOn,
    /// Whether redirects of the application are followed.
    pub redirects: bool,
}

impl Default for RetryPolicy {
    /// 5 s to connect, with one retry at once; 15 s for an attempt. Redirects are followed. Any answer is final.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(15),
            retries: vec![Duration::ZERO],
            overall: None,
            on: RetryOn { connect: true, response: false, statuses: Vec::new() },
            redirects: true,
        }
    }
}

/// The facts about the server and the leg that a dialect needs to write a notice.
#[derive(Clone, Debug)]
pub struct Context {
    /// This server's URL as applications see it, without a trailing slash.
    pub public_url: Arc<str>,
    /// Number of progress notices that were sent for this leg before this one.
    pub sequence: u32,
    /// The recording that was requested with the leg, in its current state.
    pub recording: Option<Recording>,
    /// The leg's position and times in the queue in which it waits.
    pub queue: Option<QueuePosition>,
}

/// A request to an application, before it is signed.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice {
    /// The notice's name in logs (`call.initiated`, `completed`).
    pub event: String,
    /// URL and method of the request.
    pub target: Target,
    /// The URL and method to use when `target` fails.
    pub failover: Option<Target>,
    /// The request's parameters.
    pub body: Body,
    /// Whether this notice counts in the sequence numbers of the leg's progress notices ([`Context::sequence`]).
    pub numbered: bool,
}

/// A request's parameters.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// `application/x-www-form-urlencoded`, in this order. A GET request carries the parameters in its query.
    Form(Vec<(String, String)>),
    /// `application/json`.
    Json(serde_json::Value),
}

/// One attempt that is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct SignInput<'a> {
    /// The URL of this attempt as configured, with its fragment.
    pub url: &'a str,
    /// HTTP method of the request.
    pub method: Method,
    /// The parameters.
    pub body: &'a Body,
    /// The notice's id, the same in every attempt.
    pub id: u128,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Time of the signature.
    pub now: Timestamp,
}

/// One signed attempt, ready to send.
#[derive(Clone, PartialEq, Debug)]
pub struct SignedRequest {
    /// The URL without its fragment. For a GET it contains the parameters.
    pub url: String,
    /// All headers except `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The request body; empty for a GET.
    pub body: Bytes,
}

/// Encoder and decoder of one stream's messages. Pure. It counts sequence numbers itself.
pub trait StreamWire: Send {
    /// Signed headers of the handshake, in addition to the WebSocket's own. No Origin and no subprotocol.
    fn handshake(&self) -> Vec<(String, String)>;
    /// The first message. It is sent as soon as the socket is open.
    fn connected(&mut self) -> String;
    /// The message that is sent when audio begins.
    fn start(&mut self) -> String;
    /// Appends one audio message to `out`. The caller clears `out`. Once `out` has grown, this allocates nothing.
    fn media(&mut self, frame: &MediaFrame<'_>, out: &mut String);
    /// The message for a DTMF digit from the far end; `None` if this stream reports no digits.
    fn dtmf(&mut self, digit: char, now: Timestamp) -> Option<String>;
    /// The message that playout has reached a mark.
    fn mark(&mut self, name: &str) -> String;
    /// The last message.
    fn stop(&mut self) -> String;
    /// The problem to report when the application sends a binary message; `None` if binary messages are ignored.
    fn binary(&self) -> Option<StreamProblem> {
        None
    }
    /// Parses one message of the application.
    fn decode(&mut self, text: &str) -> Result<StreamMessage, StreamProblem>;
    /// The problem to report when audio of the application will not be played.
    fn unplayable(&self, why: Unplayable) -> StreamProblem;
}

/// Why a stream's audio from its application is not played, or is heard as noise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unplayable {
    /// A file could not be decoded. Holds the reason.
    Undecodable(String),
    /// A file arrived less than one second after the previous one.
    TooSoon,
    /// The playout queue is full.
    TooFarAhead,
    /// The stream was agreed to carry raw samples, but a whole file arrived. Its header is heard as noise. Holds the
    /// file's format.
    Container(&'static str),
}

impl fmt::Display for Unplayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(why) => f.write_str(why),
            Self::TooSoon => f.write_str("at most one file per second may be sent"),
            Self::TooFarAhead => f.write_str("the application is too far ahead of playout: audio was dropped"),
            Self::Container(what) => write!(f, "the payload is {what}, not raw samples: the caller hears noise"),
        }
    }
}

/// One frame of audio for the application.
#[derive(Clone, Copy, Debug)]
pub struct MediaFrame<'a> {
    /// `Inbound` or `Outbound`.
    pub track: Track,
    /// Milliseconds since the stream's start.
    pub timestamp_ms: u64,
    /// Timestamp in units of the RTP clock.
    pub rtp_timestamp: u32,
    /// 20 ms of audio in the stream's codec.
    pub payload: &'a [u8],
}

/// A parsed message of the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamMessage {
    /// Audio to play after the queued audio, decoded from base64.
    Media(Bytes),
    /// Send this name back when the audio queued so far has been played.
    Mark(String),
    /// Discard the queued audio.
    Clear,
    /// Send these DTMF digits: `0-9 A-D * #`.
    Press(String),
    /// A message without effect.
    Ignored,
}

/// A message that could not be used. The stream continues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamProblem {
    /// The provider's error number.
    pub code: u32,
    /// Details in words.
    pub detail: String,
    /// The message to send to the application, if this provider answers such messages.
    pub answer: Option<String>,
}
