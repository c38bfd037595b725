//! Finds the cause of a failure in the table of `cause.rs`. The table says what happened and gives advice.
//!
//! The texts of this table appear in the server's log, in the timeline of a call, in lists of errors, in the APIs of
//! the providers, and in `docs/troubleshooting.md`. A test generates `docs/troubleshooting.md` from the table
//! (`UPDATE_DOCS=1 cargo test -p tandem-causes troubleshooting_in_the_docs`).
//!
//! To add a cause, add a row to the table in `cause.rs`, and name the cause in the code that finds the failure. For a
//! failure that is an event of a call, this code is [`Cause::of_event`] or [`Cause::of_end`] in this file. Any other
//! failure is a `Problem` (`tandem-history`), which `Services::report` (`tandem-runtime`) reports. `tests/server/causes.rs`
//! provokes each cause.
#![forbid(unsafe_code)]

pub mod cause;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tandem_call::conference::event::ConferenceEventKind;
use tandem_call::conversation::{BAD_DEFINITION, ConversationStatus, NO_AGENT};
use tandem_call::engine::{
    ESPEAK_SPEAKS, Engine, EngineFailure, LOCAL_SPEECH_BUSY, LOCAL_SPEECH_DOWN, SPEECH_NOT_INSTALLED,
    SPEECH_TO_TEXT_OFF,
};
use tandem_call::event::{EventKind, PlaybackEnd, ReferState};
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::leg::{Direction, EndCause, EndFailure, EndedBy, LegInfo, SHUT_DOWN, Status};
use tandem_call::program::instruction::AudioSource;
use tandem_call::queue::QueueResult;
use tandem_call::recording::RecordingStatus;
use tandem_call::siprec::SiprecStatus;
use tandem_call::stream::{StreamFailure, StreamFault, StreamStatus};
use tandem_call::transcription::{TranscriptState, TranscriptionStatus};
use tandem_http::{FetchError, Redirect, TURNED_INTO_GET};
use tandem_markup::{self as markup, code};

pub use crate::cause::Cause;

/// The end detail of a leg that ended because the server crashed.
pub const CRASHED: &str = "ended by a crash of the server";
/// The end detail of an outbound leg whose record could not be stored. Such a leg is not called.
pub const UNSTORED: &str = "not called: the database was away";
/// The last words of the end detail of a leg, if no trunk and no endpoint accepts the leg's destination.
pub const NO_TRUNK: &str = "no trunk and no endpoint takes it";

/// The first words of the end detail of a leg, if no phone has the called name.
pub const NO_PHONE: &str = "no phone of the account";
/// The last words of the end detail of a leg, if the called phone has no contact.
const UNREGISTERED: &str = "is not registered";

/// The warning about a script that ends without an answer to its call.
pub const UNANSWERED_SCRIPT: &str = "the script ended without answering the call, so the caller gets 480";

/// The first words of a warning about a step of a script.
const SCRIPT_CODE: &str = "relay_script_";

/// The last words of a warning about a header field that states a caller, set by an application that may not do so.
pub const FOREIGN_IDENTITY: &str = "may not be set by an application, because strict_caller_id is true";
/// The last words of a warning about a calling number that the account may not use.
pub const FOREIGN_CALLER: &str = "is neither a number of the account nor a verified caller id";

/// The first word of a warning about a message of a stream's application.
pub(crate) const OF_STREAM: &str = "stream: ";

/// The first word of a warning about a conference that did not accept a leg.
pub const OF_CONFERENCE: &str = "conference ";

/// Words in the end detail of a leg to a web page, if the node that the page is connected to does not answer, and if this
/// node has ended.
pub const PAGE_AWAY: &str = "the node of the web page does not answer";
pub const PAGE_GONE: &str = "the node of the web page has ended";

/// The end detail of a leg for which the media engine had no room.
pub const NO_MEDIA: &str = "no media session";
/// The first words of the end detail of a leg whose far end no media can reach (ICE, DTLS).
pub const NO_MEDIA_CONNECTION: &str = "no media connection: ";

/// The page that explains each cause, as a path in the repository.
pub const PAGE: &str = "docs/troubleshooting.md";

impl Cause {
    /// The cause with this id. `None` if there is no such cause.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.id() == id)
    }

    /// The section of the page for this cause: `docs/troubleshooting.md#connection-refused`.
    pub fn page(self) -> String {
        format!("{PAGE}#{}", self.id())
    }

    /// The advice as one log line, with the section of the page in parentheses.
    pub fn line(self) -> String {
        format!("{} ({})", self.advice(), self.page())
    }

    /// The cause of a line that [`Self::line`] made.
    pub fn of_line(line: &str) -> Option<Self> {
        let (_, id) = line.strip_suffix(')')?.rsplit_once(PAGE)?;
        Self::of_id(id.strip_prefix('#')?)
    }

    /// The reason why an HTTP request got no answer.
    pub fn of_fetch_error(error: &FetchError) -> Self {
        match error {
            FetchError::Url(_) => Self::BadUrl,
            FetchError::Refused(_) => Self::PrivateAddress,
            FetchError::Dns(_) => Self::NameNotResolved,
            FetchError::ConnectTimeout(_) => Self::ConnectTimeout,
            FetchError::ConnectRefused(_) => Self::ConnectionRefused,
            FetchError::Tls(detail) => Self::of_tls(detail),
            FetchError::Timeout(_) => Self::Timeout,
            FetchError::TooLarge { .. } => Self::TooLarge,
            FetchError::TooManyRedirects(_) => Self::TooManyRedirects,
            FetchError::Broken(_) => Self::ConnectionLost,
            FetchError::Protocol(_) => Self::NotHttp,
        }
    }

    /// The reason why a TLS handshake failed. The function recognises the error texts of the TLS library.
    fn of_tls(detail: &str) -> Self {
        match detail {
            // A server without TLS sends plain text, or closes the connection without a message.
            _ if detail.contains("InvalidContentType") || detail.contains("handshake eof") => Self::TlsToPlainHttp,
            _ if ["UnknownIssuer", "CaUsedAsEndEntity", "SelfSigned"].iter().any(|word| detail.contains(word)) => {
                Self::TlsUnknownIssuer
            }
            _ => Self::TlsFailed,
        }
    }

    /// The cause for the HTTP status of a response that followed these redirects. `None` for a 2xx status.
    pub fn of_answer(status: u16, redirects: &[Redirect]) -> Option<Self> {
        match status {
            405 if redirects.iter().any(|redirect| redirect.turned_into_get) => Some(Self::RedirectedToGet),
            _ => Self::of_status(status),
        }
    }

    /// The cause for an HTTP status. `None` for a 2xx status.
    pub fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            200..300 => return None,
            400 => Self::Status400,
            401 => Self::Status401,
            403 => Self::Status403,
            404 | 410 => Self::Status404,
            405 => Self::Status405,
            415 => Self::Status415,
            500.. => Self::Status5xx,
            _ => Self::StatusOther,
        })
    }

    /// The reason why a document could not be fetched or read.
    pub fn of_failure(failure: &FetchFailure) -> Self {
        let detail = &failure.detail;
        match failure.kind {
            FailureKind::BadUrl if detail.contains("not in allow_networks") => Self::PrivateAddress,
            FailureKind::BadUrl => Self::BadUrl,
            FailureKind::BadHost => Self::NameNotResolved,
            FailureKind::ConnectTimeout => Self::ConnectTimeout,
            FailureKind::ConnectRefused => Self::ConnectionRefused,
            FailureKind::Connection => Self::ConnectionLost,
            FailureKind::Tls => Self::of_tls(detail),
            FailureKind::Timeout => Self::Timeout,
            FailureKind::Redirects => Self::TooManyRedirects,
            FailureKind::Status(405) if detail.contains(TURNED_INTO_GET) => Self::RedirectedToGet,
            FailureKind::Status(status) => Self::of_status(status).unwrap_or(Self::StatusOther),
            FailureKind::Protocol => Self::NotHttp,
            FailureKind::TooLarge => Self::TooLarge,
            FailureKind::Empty => Self::EmptyAnswer,
            FailureKind::ContentType if detail.contains("json") => Self::JsonAnswer,
            FailureKind::ContentType => Self::ContentType,
            FailureKind::Document(_) if detail.ends_with(markup::WEB_PAGE) => Self::HtmlAnswer,
            FailureKind::Document(_) if detail.ends_with(markup::JSON) => Self::JsonAnswer,
            FailureKind::Document(code::WRONG_ROOT) => Self::WrongRoot,
            FailureKind::Document(_) => Self::NotXml,
            FailureKind::Loop => Self::DocumentLoop,
            FailureKind::TooMuchWork => Self::ScriptWork,
            FailureKind::NotServed => Self::NotServed,
            FailureKind::ScriptSyntax => Self::ScriptSyntax,
            FailureKind::ScriptInvalid => Self::ScriptInvalid,
            FailureKind::OtherDialect => Self::OtherProvider,
        }
    }

    /// The cause of a warning about a document, a message of a stream or a call. `number` is the provider's number of
    /// the warning, and `message` is the text of the warning. Most warnings are about the text of a document.
    pub fn of_warning(number: u32, message: &str) -> Self {
        match message {
            _ if message.contains("not available on this server") || message.contains("not served") => Self::NotServed,
            _ if message.ends_with(NO_TRUNK) => Self::NoTrunk,
            _ if message.starts_with(NO_PHONE) => Self::NotRegistered,
            _ if message.ends_with(FOREIGN_CALLER) || message.ends_with(FOREIGN_IDENTITY) => Self::ForeignCallerId,
            _ if message.starts_with(OF_STREAM) => Self::StreamMessage,
            _ if message.starts_with(OF_CONFERENCE) => Self::ConferenceRefused,
            UNANSWERED_SCRIPT => Self::ScriptUnanswered,
            _ if message.starts_with(SCRIPT_CODE) => match message.split(':').next() {
                Some(code) if code.ends_with("_undefined") => Self::UnknownMarkup,
                _ => Self::ScriptStep,
            },
            _ if [code::BAD_URL, code::BAD_STREAM_URL].contains(&number) => Self::BadUrl,
            _ if number == code::STREAM_SCHEME => Self::StreamScheme,
            _ => Self::UnknownMarkup,
        }
    }

    /// The reason why an engine that works for a call failed.
    pub fn of_engine(failure: &EngineFailure) -> Self {
        match failure.engine {
            _ if failure.detail.contains("allow_networks") => Self::PrivateAddress,
            Engine::Voice if let Some(cause) = Self::of_local_speech(&failure.detail) => cause,
            Engine::Voice if failure.detail.contains(ESPEAK_SPEAKS) => Self::VoiceReplaced,
            Engine::Model => Self::ModelFailed,
            Engine::Voice => Self::NoVoice,
            Engine::Recogniser => Self::of_recogniser(&failure.detail),
            Engine::Tool => Self::ToolFailed,
            Engine::File => Self::MediaUnusable,
        }
    }

    /// The reason why speech was not recognised.
    pub fn of_recogniser(why: &str) -> Self {
        match why {
            SPEECH_TO_TEXT_OFF => Self::SpeechToTextOff,
            _ if why.contains("allow_networks") => Self::PrivateAddress,
            _ => Self::of_local_speech(why).unwrap_or(Self::SpeechToTextFailed),
        }
    }

    /// The reason why the speech engine on this computer failed. `None` if another engine failed.
    fn of_local_speech(why: &str) -> Option<Self> {
        [
            (SPEECH_NOT_INSTALLED, Self::SpeechNotInstalled),
            (LOCAL_SPEECH_BUSY, Self::LocalSpeechBusy),
            (LOCAL_SPEECH_DOWN, Self::LocalSpeechDown),
        ]
        .into_iter()
        .find(|(words, _)| why.contains(words))
        .map(|(_, cause)| cause)
    }

    /// The reason why a WebSocket to an application failed.
    pub(crate) fn of_stream(failure: &StreamFailure) -> Self {
        match failure.fault {
            StreamFault::Url => Self::BadUrl,
            StreamFault::Scheme => Self::StreamScheme,
            StreamFault::Unreachable if failure.detail.contains("allow_networks") => Self::PrivateAddress,
            StreamFault::Unreachable => Self::NameNotResolved,
            StreamFault::Refused => Self::StreamRefused,
            StreamFault::Timeout => Self::StreamTimeout,
            StreamFault::Tls => Self::of_tls(&failure.detail),
            StreamFault::Handshake => Self::StreamHandshake,
            StreamFault::Protocol => Self::StreamProtocol,
            StreamFault::Broken => Self::StreamBroken,
            StreamFault::Closed => Self::StreamClosed,
            StreamFault::Internal if failure.detail.starts_with(NO_AGENT) => Self::AgentUnknown,
            StreamFault::Internal if failure.detail.starts_with(BAD_DEFINITION) => Self::AgentInvalid,
            StreamFault::Internal => Self::StreamInternal,
        }
    }

    /// The cause of the failure that an event reports. `None` if the event does not report a failure. Every kind of
    /// event is listed here, so that no new kind of failure is silent. An event with a cause is a problem of its call.
    pub fn of_event(event: &EventKind) -> Option<Self> {
        match event {
            EventKind::FetchFailed { failure } => Some(Self::of_failure(failure)),
            EventKind::Warned(warning) => Some(Self::of_warning(warning.code, &warning.message)),
            EventKind::EngineFailed(failure) => Some(Self::of_engine(failure)),
            EventKind::PlaybackEnded(playback, end) => match end {
                PlaybackEnd::Completed | PlaybackEnd::Stopped | PlaybackEnd::Hangup => None,
                PlaybackEnd::Missing(why) | PlaybackEnd::Failed(why) if why.contains("allow_networks") => {
                    Some(Self::PrivateAddress)
                }
                PlaybackEnd::Missing(_) | PlaybackEnd::Failed(_)
                    if matches!(playback.source, AudioSource::Speech(_)) =>
                {
                    Some(Self::NoVoice)
                }
                PlaybackEnd::Missing(_) => Some(Self::MediaMissing),
                PlaybackEnd::Failed(_) => Some(Self::MediaUnusable),
            },
            EventKind::Stream(facts) => Self::of_stream_status(&facts.status),
            EventKind::Conversation(facts) => match &facts.status {
                ConversationStatus::Failed { why, .. } => Some(Self::of_stream(why)),
                ConversationStatus::Started
                | ConversationStatus::Utterance(_)
                | ConversationStatus::PartialResult(_)
                | ConversationStatus::Ended(_)
                | ConversationStatus::Completed => None,
            },
            EventKind::Recording(recording) => Self::of_recording(&recording.status),
            EventKind::Siprec(facts) => {
                matches!(facts.status, SiprecStatus::Failed(_) | SiprecStatus::Paused).then_some(Self::SiprecFailed)
            }
            EventKind::Transcription(facts) => match &facts.status {
                TranscriptionStatus::Failed(why) => Some(Self::of_recogniser(why)),
                _ => None,
            },
            EventKind::Transcribed(transcript) => match &transcript.state {
                TranscriptState::Failed(why) => Some(Self::of_recogniser(why)),
                TranscriptState::InProgress | TranscriptState::Completed(_) => None,
            },
            EventKind::Dequeued(outcome) => {
                matches!(outcome.result, QueueResult::Full | QueueResult::Failed).then_some(Self::QueueRefused)
            }
            EventKind::Refer(facts) => (facts.state == ReferState::Failed).then_some(Self::TransferFailed),
            EventKind::Unsupported(_) => Some(Self::NotServed),
            // The end of a leg has its cause in the leg's facts.
            EventKind::Ended
            | EventKind::Initiated
            | EventKind::Ringing { .. }
            | EventKind::Answered { .. }
            | EventKind::DtmfReceived { .. }
            | EventKind::PlaybackStarted(_)
            | EventKind::GatherEnded { .. }
            | EventKind::GatherPartial { .. }
            | EventKind::Bridged { .. }
            | EventKind::Unbridged
            | EventKind::ConferenceJoined(_)
            | EventKind::ConferenceLeft(_)
            | EventKind::Enqueued { .. }
            | EventKind::MachineDetected(_)
            // The called leg reports why it failed.
            | EventKind::Dialed(_)
            // The failed document was reported before.
            | EventKind::Apologised => None,
        }
    }
}

impl Cause {
    fn of_recording(status: &RecordingStatus) -> Option<Self> {
        matches!(status, RecordingStatus::Failed(_)).then_some(Self::RecordingFailed)
    }

    fn of_stream_status(status: &StreamStatus) -> Option<Self> {
        match status {
            StreamStatus::Failed(why) => Some(Self::of_stream(why)),
            StreamStatus::Started | StreamStatus::Stopped => None,
        }
    }

    /// The cause of the failure that an event of a conference reports. `None` if the event does not report a failure.
    pub fn of_conference(event: &ConferenceEventKind) -> Option<Self> {
        match event {
            ConferenceEventKind::Recording(recording) => Self::of_recording(&recording.status),
            ConferenceEventKind::Stream(facts) => Self::of_stream_status(&facts.status),
            ConferenceEventKind::Opened
            | ConferenceEventKind::Entered
            | ConferenceEventKind::Expected(_)
            | ConferenceEventKind::Joined(_)
            // The called leg reports why it failed.
            | ConferenceEventKind::Left { .. }
            | ConferenceEventKind::Started
            | ConferenceEventKind::Ended
            | ConferenceEventKind::Muted(_)
            | ConferenceEventKind::Held(_)
            | ConferenceEventKind::Modified(_)
            | ConferenceEventKind::Speaks { .. }
            | ConferenceEventKind::ActiveSpeaker(_)
            | ConferenceEventKind::Played(_)
            // The failed announcement was a warning of the participant's call.
            | ConferenceEventKind::Announced { .. } => None,
        }
    }

    /// The reason why a leg failed, in SIP or in this server. `None` if the leg did not fail.
    pub fn of_end(leg: &LegInfo) -> Option<Self> {
        let end = leg.end.as_ref()?;
        match end.detail.as_deref() {
            Some(CRASHED) => return Some(Self::Crash),
            Some(SHUT_DOWN) => return Some(Self::Shutdown),
            Some(UNSTORED) => return Some(Self::DatabaseAway),
            Some(NO_MEDIA) => return Some(Self::MediaFull),
            Some(detail) if detail.starts_with(NO_MEDIA_CONNECTION) => return Some(Self::MediaConnection),
            Some(detail) if detail.ends_with(NO_TRUNK) => return Some(Self::NoTrunk),
            Some(detail) if detail.contains(PAGE_AWAY) => return Some(Self::BusAway),
            Some(detail) if detail.ends_with(PAGE_GONE) => return Some(Self::NodeDied),
            Some(detail) if detail.starts_with(NO_PHONE) => return Some(Self::NotRegistered),
            Some(detail) if leg.answered_at.is_none() && detail.ends_with(UNREGISTERED) => {
                return (leg.status == Status::Failed).then_some(Self::NotRegistered);
            }
            Some(detail) if detail.ends_with(FOREIGN_CALLER) || detail.ends_with(FOREIGN_IDENTITY) => {
                return Some(Self::ForeignCallerId);
            }
            Some(detail) if detail.contains("has reached its call limit") || detail.contains("outbound profile") => {
                return Some(Self::CallLimit);
            }
            _ => {}
        }
        if leg.answered_at.is_some() {
            return match end.cause {
                EndCause::Failed if end.sip_status == Some(488) => Some(Self::of_sdp(end.detail.as_deref())),
                EndCause::Failed => Some(Self::CallFailed),
                EndCause::Unspecified => Some(Self::FarEndLost),
                _ => None,
            };
        }
        let silent = end.cause == EndCause::Timeout && leg.status == Status::NoAnswer && end.detail.is_some();
        if leg.status != Status::Failed && !silent {
            return None;
        }
        let inbound = leg.direction == Direction::Inbound;
        match end.sip_status {
            Some(488 | 606) => Some(Self::of_sdp(end.detail.as_deref())),
            // The application refused the call.
            _ if inbound && end.by == EndedBy::Application => None,
            Some(503) if inbound && end.by == EndedBy::Server => Some(Self::MediaFull),
            _ if inbound => Some(Self::CallFailed),
            status if leg.sip.trunk.is_some() => Some(match status {
                Some(_) if end.by == EndedBy::FarEnd => Self::TrunkRefused,
                _ if silent => Self::TrunkSilent,
                _ => {
                    let detail = end.detail.as_deref().unwrap_or_default();
                    if detail.contains("TLS handshake failed") {
                        Self::TrunkTls
                    } else if detail.contains("no answer") || detail.contains("never rang") {
                        Self::TrunkSilent
                    } else if detail.contains("max_calls") {
                        Self::TrunkFull
                    } else {
                        Self::TrunkUnreachable
                    }
                }
            }),
            _ => Some(Self::CalleeRefused),
        }
    }
}

impl Cause {
    /// The reason why the two sides did not agree about audio, from the reason of this server. If the far end refused,
    /// its reason is not known, and most often it is the codec.
    fn of_sdp(detail: Option<&str>) -> Self {
        match detail.unwrap_or_default() {
            detail if detail.contains("the address families differ") => Self::AddressFamily,
            detail if detail.contains("SRTP") => Self::SrtpMismatch,
            _ => Self::CodecUnknown,
        }
    }

    /// The reason why a leg failed, from [`Self::of_end`]. If there is no such reason, the result is the reason why the
    /// leg's application or an engine failed. The server already reported such a failure when the failure happened.
    /// `None` if nothing failed.
    pub fn of_failed_call(leg: &LegInfo) -> Option<Self> {
        let failure = leg.end.as_ref().and_then(|end| end.failure.as_deref());
        Self::of_end(leg).or_else(|| {
            failure.map(|failure| match failure {
                EndFailure::Document(why) => Self::of_failure(why),
                EndFailure::Stream(why) | EndFailure::Conversation(why) => Self::of_stream(why),
                EndFailure::Engine(why) => Self::of_engine(why),
            })
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::of_id(&id).ok_or_else(|| serde::de::Error::custom(format_args!("unknown cause {id:?}")))
    }
}
