//! Dialects translate one call model to the wire format of each provider. A dialect only translates and does no I/O.
//!
//! ```text
//!              CallEvent ──webhook()──► Notice ──seal()──► signed bytes
//!   Fetch ──Documents::fetch()──► Notice ──seal()──► signed bytes     bytes ──Documents::reply()──► Program
//!   stream frames ◄──StreamWire──► text messages                          REST bodies ──rest.rs──► Command
//! ```
#![forbid(unsafe_code)]

pub mod agent;
pub mod conversation;
pub mod delivery;
mod dialects;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod form;
pub mod script;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tandem_accounts::Account;
use tandem_accounts::usage::Trigger;
use tandem_call::Target;
use tandem_call::address::Address;
use tandem_call::conference::event::{ConferenceEvent, ConferenceInfo};
use tandem_call::conference::state::Refused;
use tandem_call::conversation::ConversationSpec;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::fetch::{Fetch, FetchFailure};
use tandem_call::leg::{LegInfo, Status};
use tandem_call::program::instruction::Program;
use tandem_call::queue::QueuePosition;
use tandem_call::recording::{Recording, Track};
use tandem_call::snapshot::CallSnapshotError;
use tandem_call::stream::StreamSpec;
use tandem_id::{ConversationId, LegId, RecordingId, StreamId};
use tandem_store::resources::Resource;
use tandem_webhooks::{Body, RetryPolicy, SignInput, SignedRequest};
use url::Url;

use agent::AgentScript;
use conversation::ConversationWire;
pub use dialects::Dialects;
use script::Script;

/// The translation between the call model and the API of one provider.
pub trait Dialect: Send + Sync {
    /// Returns the name of the dialect in the configuration and in records, for example `twilio` or `telnyx`.
    fn name(&self) -> &'static str;

    /// Returns the account's id in this provider's API. Returns `None` if the provider has no account ids, or if the
    /// account has no credentials for this provider.
    fn account_id(&self, _account: &Account) -> Option<String> {
        None
    }

    /// Returns the leg's id in this provider's form.
    fn call_id(&self, leg: LegId) -> String;

    /// Returns the stream's id in this provider's form.
    fn stream_id(&self, id: StreamId) -> String {
        id.to_string()
    }

    /// Returns the conversation's id in this provider's form.
    fn conversation_id(&self, id: ConversationId) -> String {
        id.to_string()
    }

    /// Returns the recording's id in this provider's form.
    fn recording_id(&self, id: RecordingId) -> String {
        id.to_string()
    }

    /// Parses a leg's id in any form that the provider uses.
    fn parse_call_id(&self, text: &str) -> Option<LegId>;

    /// Returns the functions for documents. Returns `None` if applications of this provider only send commands.
    fn documents(&self) -> Option<&dyn Documents> {
        None
    }

    /// Returns the notices that this provider sends for a call event. Each notice has its target. The list may be
    /// empty.
    fn webhook(&self, account: &Account, event: &CallEvent, context: &Context) -> Vec<Notice>;

    /// Returns the notices that this provider sends for a conference event. Each notice has its target. `context`
    /// contains the sequence number of the notices.
    fn conference(&self, _account: &Account, _event: &ConferenceEvent, _context: &Context) -> Vec<Notice> {
        Vec::new()
    }

    /// Returns the wire format of a stream that carries the mixed audio of a conference. Returns `None` if this
    /// provider has no such streams.
    fn conference_stream(
        &self,
        _account: &Account,
        _conference: &ConferenceInfo,
        _id: StreamId,
        _spec: &StreamSpec,
    ) -> Option<Box<dyn StreamWire>> {
        None
    }

    /// Returns the notice for a usage trigger. `figure` is the usage, which has reached the value of the trigger.
    /// Returns `None` if this provider sends no such notice.
    fn usage_reached(&self, _account: &Account, _trigger: &Resource<Trigger>, _figure: f64) -> Option<Notice> {
        None
    }

    /// Whether the notice of a leg's end waits until the recording that was requested with the leg is complete. The
    /// notice must wait if the notice describes the recording.
    fn ends_with_recording(&self) -> bool {
        false
    }

    /// Builds and signs the HTTP request for one attempt to send a notice. The first attempt has the number 1. `url` is
    /// the notice's target or the failover URL.
    fn sign(&self, account: &Account, notice: &SignInput<'_>) -> SignedRequest;

    /// Describes, for people, how this server signs the requests to the applications of the account. Returns `None` if
    /// the account has no key of this provider, or if this provider signs nothing.
    fn signing(&self, _account: &Account) -> Option<Signing> {
        None
    }

    /// Returns the timeouts and retries for the application at this URL.
    fn retry_policy(&self, _url: &str) -> RetryPolicy {
        RetryPolicy::default()
    }

    /// Returns the provider's error number for a fault. Returns `None` if the provider has no number for this fault.
    fn error_number(&self, _fault: ReportedError<'_>) -> Option<u32> {
        None
    }

    /// Returns the wire format of a media stream to an application's WebSocket.
    fn stream(
        &self,
        account: &Account,
        leg: &LegInfo,
        id: StreamId,
        spec: &StreamSpec,
        now: Timestamp,
    ) -> Box<dyn StreamWire>;

    /// Returns the wire format of a conversation with an application's WebSocket. Returns `None` if this provider has
    /// no conversations. `status` is the status that the leg had when the conversation was requested.
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

    /// Makes the script of an agent from its definition (`AgentSpec::script`). Returns `None` if this provider has no agents
    /// that documents define.
    ///
    /// # Errors
    /// The script is an error if the definition is not valid. The text is the reason.
    fn agent_script(
        &self,
        _account: &Account,
        _leg: &LegInfo,
        _id: ConversationId,
        _definition: &str,
    ) -> Option<Result<Box<dyn AgentScript>, String>> {
        None
    }
}

/// The part of a dialect for applications that return documents.
pub trait Documents: Sync {
    /// Returns the request for a document of the application.
    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice;

    /// Parses a document, which is the response to the request `asked`. `base` is the URL of the document after
    /// redirects. Only a fatal problem is an error. An element that can be skipped, or that is not allowed in a
    /// whisper, causes a warning in the program.
    fn reply(
        &self,
        fetch: &Fetch,
        request: &Notice,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure>;

    /// Returns a new interpreter for a leg if the documents of this dialect are stateful programs (scripts). Returns
    /// `None` if each document is a list of instructions.
    fn script(&self) -> Option<Box<dyn Script>> {
        None
    }

    /// Reads a script that [`Script::write`] has written.
    fn read_script(&self, _octets: &[u8]) -> Result<Box<dyn Script>, CallSnapshotError> {
        Err(CallSnapshotError::Malformed("documents of this dialect are not scripts".to_owned()))
    }

    /// Returns the name of another dialect if `_body` is written in that dialect.
    fn other_dialect(&self, _body: &[u8]) -> Option<&'static str> {
        None
    }

    /// Whether `_body` is certainly a document of this dialect. Dialects whose documents have the same form as those of
    /// other dialects recognise none.
    fn recognises(&self, _body: &[u8]) -> bool {
        false
    }

    /// Returns the maximum size of a document in octets.
    fn longest(&self) -> usize {
        64 * 1024
    }
}

/// A fault for which a provider may have an error number.
#[derive(Clone, Copy, Debug)]
pub enum ReportedError<'a> {
    /// A document could not be fetched or parsed.
    Document(&'a FetchFailure),
    /// A call event that reports a failure. An event that reports no failure has no error number.
    Event(&'a EventKind),
    /// A document dials with a caller ID that the account may not use.
    Caller,
    /// A REST request creates a call from a number that the account does not own.
    ForeignCaller,
    /// No route leads to the dialled address.
    Callee(&'a Address),
    /// A conference refused a participant.
    Conference(Refused),
    /// A notice failed in its last attempt.
    Undelivered {
        /// The name of the notice, from [`Notice::event`].
        event: &'a str,
        /// The HTTP status of the last attempt. `None` if there was no response.
        status: Option<u16>,
    },
}

/// The data about the server and the leg that a dialect needs for a notice.
#[derive(Clone, Debug)]
pub struct Context {
    /// The URL of this server as applications see it, without a trailing slash.
    pub public_url: Arc<str>,
    /// Number of progress notices that were sent for this leg before this notice.
    pub sequence: u32,
    /// The recording that was requested with the leg, in its current state.
    pub recording: Option<Recording>,
    /// The leg's position and waiting times in its queue.
    pub queue: Option<QueuePosition>,
}

/// A request to an application, before the request is signed.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice {
    /// The name of the notice in logs, for example `call.initiated` or `completed`.
    pub event: String,
    /// URL and method of the request.
    pub target: Target,
    /// The URL and method that are used if `target` fails.
    pub failover: Option<Target>,
    /// The parameters of the request.
    pub body: Body,
    /// Whether this notice counts in the sequence numbers of the leg's progress notices ([`Context::sequence`]).
    pub numbered: bool,
}

/// A description, for people, of the signatures of requests to an application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signing {
    /// The name of the key, for example `the auth token of AC...`.
    pub key: String,
    /// Whether the signature covers the URL. Then the application must check exactly the signed URL.
    pub covers_url: bool,
    /// The signed data and the way in which an application checks the signature, in complete sentences.
    pub check: String,
}

/// Encoder and decoder for the messages of one stream. Implementations do no I/O. Each implementation counts the
/// sequence numbers of its stream.
pub trait StreamWire: Send {
    /// Returns the signed headers of the handshake, in addition to the WebSocket headers. There is no Origin and no
    /// subprotocol.
    fn handshake(&self) -> Vec<(String, String)>;
    /// Returns the first message, which is sent when the socket is open.
    fn connected(&mut self) -> String;
    /// Returns the message that is sent when the audio starts.
    fn start(&mut self) -> String;
    /// Appends one audio message to `out`. The caller of this function clears `out`. If `out` has enough capacity, the
    /// function does not allocate.
    fn media(&mut self, frame: &MediaFrame<'_>, out: &mut String);
    /// Returns the message for a DTMF digit from the far end. Returns `None` if this stream does not report digits.
    fn dtmf(&mut self, digit: char, now: Timestamp) -> Option<String>;
    /// Returns the message that reports that the playout has reached a mark.
    fn mark(&mut self, name: &str) -> String;
    /// Returns the last message of the stream.
    fn stop(&mut self) -> String;
    /// Returns the problem to report after a binary message of the application. Returns `None` if binary messages are
    /// ignored.
    fn binary(&self) -> Option<StreamProblem> {
        None
    }
    /// Parses one message of the application.
    fn decode(&mut self, text: &str) -> Result<StreamMessage, StreamProblem>;
    /// Returns the problem to report if audio of the application is not played.
    fn unplayable(&self, why: Unplayable) -> StreamProblem;
}

/// The reason why audio from the application of a stream is not played, or is played as noise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unplayable {
    /// A file could not be decoded. The text is the reason.
    Undecodable(String),
    /// A file arrived less than one second after the previous file.
    TooSoon,
    /// The playout queue is full.
    TooFarAhead,
    /// A complete file arrived in a stream of raw samples. The caller hears the file as noise. The text is the format
    /// of the file.
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
    /// The track of the frame: `Inbound` or `Outbound`.
    pub track: Track,
    /// Milliseconds since the start of the stream.
    pub timestamp_ms: u64,
    /// Timestamp in units of the RTP clock.
    pub rtp_timestamp: u32,
    /// 20 ms of audio in the stream's codec.
    pub payload: &'a [u8],
}

/// A parsed message of the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamMessage {
    /// Play this audio after the queued audio. The audio is already decoded from base64.
    Media(Bytes),
    /// Send this name back to the application after the audio that is now in the queue has been played.
    Mark(String),
    /// Discard the queued audio.
    Clear,
    /// Send these DTMF digits: `0-9 A-D * #`.
    Dtmf(String),
    /// A message that has no effect.
    Ignored,
}

/// An unusable message of the application. The stream continues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamProblem {
    /// The provider's error number.
    pub code: u32,
    /// Details as text.
    pub detail: String,
    /// The message to send to the application, if this provider sends a reply to unusable messages.
    pub answer: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_why_audio_is_not_played_is_a_sentence_for_the_application() {
        let file = Unplayable::Container("a WAV file");
        assert_eq!(file.to_string(), "the payload is a WAV file, not raw samples: the caller hears noise");
        assert_eq!(Unplayable::Undecodable("no MP3 frame".to_owned()).to_string(), "no MP3 frame");
    }

    #[test]
    fn a_dialect_without_own_ids_writes_the_ids_of_this_server() {
        let dialect = fake::Fake::new("a");
        assert_eq!(dialect.stream_id(StreamId(1)), StreamId(1).to_string());
        assert_eq!(dialect.recording_id(RecordingId(2)), RecordingId(2).to_string());
        assert_eq!(dialect.conversation_id(ConversationId(3)), ConversationId(3).to_string());
    }
}
