//! Dialects: the same call model in each provider's spelling. A dialect only translates; it never performs anything.
//!
//! ```text
//!              CallEvent ──webhook()──► Notice ──seal()──► signed bytes
//!   Fetch ──Documents::fetch()──► Notice ──seal()──► signed bytes     bytes ──Documents::reply()──► Program
//!   stream frames ◄──StreamWire──► text messages                          REST bodies ──rest.rs──► Command
//! ```
#![forbid(unsafe_code)]

pub mod conversation;
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
use tandem_call::queue::QueueStanding;
use tandem_call::recording::{Recording, Track};
use tandem_call::stream::StreamSpec;
use tandem_call::{Method, Target};
use tandem_store::resources::Resource;
use tandem_webhooks::RetryOn;
use url::Url;

use conversation::ConversationWire;
use script::Script;

/// One provider's spelling.
pub trait Dialect: Send + Sync {
    /// Its name in configuration and records: `twilio`, `telnyx`.
    fn name(&self) -> &'static str;

    /// The account as applications know it; `None` if they know it by no name.
    fn account_id(&self, _account: &Account) -> Option<String> {
        None
    }

    /// A leg's id as applications know it.
    fn call_id(&self, leg: LegId) -> String;

    /// A stream's id as applications know it.
    fn stream_id(&self, id: StreamId) -> String {
        id.to_string()
    }

    /// A conversation's id as applications know it.
    fn conversation_id(&self, id: ConversationId) -> String {
        id.to_string()
    }

    /// A recording's id as applications know it.
    fn recording_id(&self, id: RecordingId) -> String {
        id.to_string()
    }

    /// The leg behind any of its spellings.
    fn parse_call_id(&self, text: &str) -> Option<LegId>;

    /// Its documents; `None` for a dialect whose applications only command.
    fn documents(&self) -> Option<&dyn Documents> {
        None
    }

    /// What this provider tells of an event, and where; empty if it tells nothing here.
    fn webhook(&self, account: &Account, event: &CallEvent, context: &Context) -> Vec<Notice>;

    /// What this provider tells of a conference, and where; `context` numbers its notices.
    fn conference(&self, _account: &Account, _event: &ConferenceEvent, _context: &Context) -> Vec<Notice> {
        Vec::new()
    }

    /// The messages of a stream of what all in a conference hear; `None` if this provider has none.
    fn conference_stream(
        &self,
        _account: &Account,
        _conference: &ConferenceInfo,
        _id: StreamId,
        _spec: &StreamSpec,
    ) -> Option<Box<dyn StreamWire>> {
        None
    }

    /// What this provider tells of a usage trigger that this figure has reached; `None` if it tells nothing.
    fn usage_reached(&self, _account: &Account, _trigger: &Resource<Trigger>, _figure: f64) -> Option<Notice> {
        None
    }

    /// Whether the end of a leg is told only when the recording asked for with it is whole, for it is told of there.
    fn ends_with_recording(&self) -> bool {
        false
    }

    /// The HTTP request for one attempt (1-based) at a notice, signed for this moment. `url` is the notice's target or
    /// its failover's.
    fn seal(&self, account: &Account, notice: &SealInput<'_>) -> Sealed;

    /// With which of the account's keys requests are signed together with their URL, in words; `None` if applications check no URL.
    fn signing_key(&self, _account: &Account) -> Option<String> {
        None
    }

    /// How long an application at this URL is waited for, and how often it is asked again.
    fn patience(&self, _url: &str) -> Patience {
        Patience::default()
    }

    /// The provider's number for what went wrong; `None` if it has none.
    fn error_number(&self, _fault: Fault<'_>) -> Option<u32> {
        None
    }

    /// The wire form of a stream to a WebSocket application.
    fn stream(
        &self,
        account: &Account,
        leg: &LegInfo,
        id: StreamId,
        spec: &StreamSpec,
        now: Timestamp,
    ) -> Box<dyn StreamWire>;

    /// The wire form of a conversation with a WebSocket application; `None` if this provider has none. `status`: how the leg stood
    /// when it was ordered.
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

/// What a dialect does whose applications answer with documents.
pub trait Documents: Sync {
    /// What is sent to ask for a document.
    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice;

    /// The document that came back to what was `asked`. `base` is the URL it came from after redirects. Errors are fatal ones
    /// only; what can be passed over, or is out of place in a whisper, becomes a warning in the program.
    fn reply(
        &self,
        fetch: &Fetch,
        asked: &Notice,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure>;

    /// The program that runs a leg's documents, if they are programs with state; `None`: each is a list of instructions.
    fn script(&self) -> Option<Box<dyn Script>> {
        None
    }

    /// The name of another dialect that what was answered is in, if it is.
    fn other_dialect(&self, _body: &[u8]) -> Option<&'static str> {
        None
    }

    /// Octets of a document at most.
    fn longest(&self) -> usize {
        64 * 1024
    }
}

/// What went wrong, where a provider has a number for it.
#[derive(Clone, Copy, Debug)]
pub enum Fault<'a> {
    /// A document could not be had or read.
    Document(&'a FetchFailure),
    /// An event of a call that tells of a failure; of any other event there is no number.
    Event(&'a EventKind),
    /// A call is to be placed from a number that the account may not show.
    Caller,
    /// A call that was asked for by request is from a number that is not the account's.
    ForeignCaller,
    /// A call is to be placed to an address that no route leads to.
    Callee(&'a Address),
    /// A conference does not take somebody.
    Conference(Refused),
    /// A notice of this name was given up; its last attempt was answered so.
    Undelivered {
        /// [`Notice::event`].
        event: &'a str,
        /// HTTP status; `None` without an answer.
        status: Option<u16>,
    },
}

/// How patient a provider is with an application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patience {
    /// For one connection.
    pub connect: Duration,
    /// For one attempt.
    pub total: Duration,
    /// Pauses before the second, third, ... attempt.
    pub retries: Vec<Duration>,
    /// For all attempts together, if they are limited.
    pub overall: Option<Duration>,
    /// Which failures are tried again.
    pub on: RetryOn,
    /// Whether they may send it elsewhere.
    pub redirects: bool,
}

impl Default for Patience {
    /// 5 s to connect, tried twice; 15 s in all; redirects are followed, whatever else is answered is final.
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

/// What a dialect needs to know of the server when it writes.
#[derive(Clone, Debug)]
pub struct Context {
    /// What callers are told: no trailing slash.
    pub public_url: Arc<str>,
    /// How many notices of this leg's progress were sent before this one.
    pub sequence: u32,
    /// The recording that was asked for with the leg, as far as it is.
    pub recording: Option<Recording>,
    /// How the leg stands in the queue that it waits in.
    pub queue: Option<QueueStanding>,
}

/// A request to an application, before it is signed.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice {
    /// Its name in logs (`call.initiated`, `completed`).
    pub event: String,
    /// Where.
    pub target: Target,
    /// Where, when that fails.
    pub failover: Option<Target>,
    /// What.
    pub body: Body,
    /// Whether it is one of the leg's numbered progress notices.
    pub numbered: bool,
}

/// A request's parameters.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// `application/x-www-form-urlencoded`, in this order; in the query when the method is GET.
    Form(Vec<(String, String)>),
    /// `application/json`.
    Json(serde_json::Value),
}

/// One attempt to be signed.
#[derive(Clone, Copy, Debug)]
pub struct SealInput<'a> {
    /// The URL of this attempt, as configured (fragment included).
    pub url: &'a str,
    /// How.
    pub method: Method,
    /// What.
    pub body: &'a Body,
    /// The same for every attempt at one notice.
    pub id: u128,
    /// From 1.
    pub attempt: u32,
    /// Now.
    pub now: Timestamp,
}

/// One attempt, ready to send.
#[derive(Clone, PartialEq, Debug)]
pub struct Sealed {
    /// Without fragment; with the parameters, if the method is GET.
    pub url: String,
    /// All but `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// Empty for GET.
    pub body: Bytes,
}

/// The messages of one stream. Pure; counts sequence numbers itself.
pub trait StreamWire: Send {
    /// Headers of the handshake beyond the WebSocket's own, signed. No Origin, no subprotocol.
    fn handshake(&self) -> Vec<(String, String)>;
    /// The first message, sent as soon as the socket is open.
    fn connected(&mut self) -> String;
    /// Sent when audio begins.
    fn start(&mut self) -> String;
    /// Appends one audio message to `out` (cleared by the caller; no allocation once it has grown).
    fn media(&mut self, frame: &MediaFrame<'_>, out: &mut String);
    /// A key was pressed; `None` if this stream is not told.
    fn dtmf(&mut self, digit: char, now: Timestamp) -> Option<String>;
    /// A mark has been reached.
    fn mark(&mut self, name: &str) -> String;
    /// The last message.
    fn stop(&mut self) -> String;
    /// What is said about a binary message, if anything.
    fn binary(&self) -> Option<StreamProblem> {
        None
    }
    /// Understands one message of the application.
    fn decode(&mut self, text: &str) -> Result<StreamMessage, StreamProblem>;
    /// What is said about audio that will not be played.
    fn unplayable(&self, why: Unplayable) -> StreamProblem;
}

/// Why audio of a stream's application will not be played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unplayable {
    /// A file is no audio that can be read; why.
    Undecodable(String),
    /// A file came too soon after the one before.
    TooSoon,
    /// As much waits to be played as may.
    TooFarAhead,
    /// Where raw samples were agreed, a whole file came: its head is heard as noise.
    Container(&'static str),
}

impl fmt::Display for Unplayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(why) => f.write_str(why),
            Self::TooSoon => f.write_str("at most one file may be sent in a second"),
            Self::TooFarAhead => f.write_str("the application is too far ahead of playout: audio was dropped"),
            Self::Container(what) => write!(f, "the payload is {what}, not raw samples: it is heard as noise"),
        }
    }
}

/// Audio to the application.
#[derive(Clone, Copy, Debug)]
pub struct MediaFrame<'a> {
    /// `Inbound` or `Outbound`.
    pub track: Track,
    /// Since the stream's start, ms.
    pub timestamp_ms: u64,
    /// RTP clock units.
    pub rtp_timestamp: u32,
    /// 20 ms of the stream's codec.
    pub payload: &'a [u8],
}

/// A message of the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamMessage {
    /// Audio to be played after what is queued, decoded from base64.
    Media(Bytes),
    /// Echo this name when the audio so far has been played.
    Mark(String),
    /// Drop the queued audio.
    Clear,
    /// Press these keys: `0-9 A-D * #`.
    Press(String),
    /// Nothing to do.
    Ignored,
}

/// A message that could not be used. The stream goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamProblem {
    /// The provider's number.
    pub code: u32,
    /// In words.
    pub detail: String,
    /// What to answer, if this provider answers.
    pub answer: Option<String>,
}
