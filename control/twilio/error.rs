//! Twilio's error numbers for document fetches, call events and the REST API. The module also has the error body of the
//! REST API.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tandem_call::address::Address;
use tandem_call::conference::state::Refused;
use tandem_call::conversation::ConversationStatus;
use tandem_call::event::{EventKind, Playback, PlaybackEnd};
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::program::instruction::AudioSource;
use tandem_call::queue::QueueResult;
use tandem_call::recording::RecordingStatus;
use tandem_call::siprec::{SiprecFacts, SiprecFault, SiprecStatus};
use tandem_call::stream::{StreamFacts, StreamFault, StreamStatus};
use tandem_causes::Cause;
use tandem_dialect::ReportedError;
use tandem_history::report::Refusal;
use tandem_markup::code;
use tandem_store::StoreFailed;

use super::{siprec, webhook};

/// Error number: the account may not use this `callerId`.
pub(super) const CALLER_ID: u32 = 13214;

/// Error number: the `From` of a REST request for a call does not belong to the account.
pub(super) const FOREIGN_CALLER: u32 = 21210;

/// The error number of a failed document fetch, for `ErrorCode` and the log.
pub(super) fn failure_code(failure: &FetchFailure) -> u32 {
    match failure.kind {
        FailureKind::BadUrl => 11100,
        FailureKind::BadHost => 11210,
        FailureKind::ConnectTimeout => 11201,
        FailureKind::ConnectRefused => 11202,
        FailureKind::Connection => 11205,
        FailureKind::Tls => 11220,
        FailureKind::Timeout => 11203,
        FailureKind::Redirects => 11215,
        FailureKind::Status(_) => 11200,
        FailureKind::Protocol => 11206,
        FailureKind::TooLarge => 11750,
        FailureKind::Empty => 11770,
        FailureKind::ContentType | FailureKind::OtherDialect => 12300,
        FailureKind::Document(code) => code,
        FailureKind::NotServed | FailureKind::ScriptInvalid => code::SCHEMA,
        FailureKind::ScriptSyntax => code::NOT_XML,
        FailureKind::Loop | FailureKind::TooMuchWork => 14106,
    }
}

/// Twilio's error number for a reported error. `None` if Twilio has no number for this error.
pub(super) fn number(fault: ReportedError<'_>) -> Option<u32> {
    match fault {
        ReportedError::Document(failure) => Some(failure_code(failure)),
        ReportedError::Event(event) => notification_code(event),
        ReportedError::Caller => Some(CALLER_ID),
        ReportedError::ForeignCaller => Some(FOREIGN_CALLER),
        ReportedError::Callee(to) => Some(callee_code(to)),
        ReportedError::Conference(why) => conference_code(why),
        ReportedError::Undelivered { event, status } => Some(undelivered_code(event, status)),
    }
}

/// The error number of a media stream's failure.
pub(super) fn stream_code(fault: StreamFault) -> u32 {
    match fault {
        StreamFault::Internal => 31900,
        StreamFault::Timeout => 31901,
        StreamFault::Refused => 31902,
        StreamFault::Broken => 31903,
        StreamFault::Unreachable => 31904,
        StreamFault::Tls => 31910,
        StreamFault::Handshake => 31920,
        StreamFault::Closed => 31921,
        StreamFault::Scheme => 31922,
        StreamFault::Url => 31923,
        StreamFault::Protocol => 31924,
    }
}

/// The error number of a call to an address without a route.
pub(super) fn callee_code(to: &Address) -> u32 {
    match to {
        Address::Phone(_) | Address::Application(_) | Address::Name(_) => 13224,
        Address::Sip(_) | Address::Client(_) => 32009,
    }
}

/// The error number for a participant that the conference refused. `None` if Twilio has no number for this reason.
pub(super) fn conference_code(why: Refused) -> Option<u32> {
    match why {
        Refused::Full => Some(16020),
        Refused::LabelInUse => Some(16025),
        Refused::Over | Refused::Unknown => None,
    }
}

/// The error number of a call event that reports a failure. `None` for other events.
pub(super) fn notification_code(event: &EventKind) -> Option<u32> {
    match event {
        EventKind::Warned(warning) => Some(warning.code),
        EventKind::FetchFailed { failure } => Some(failure_code(failure)),
        EventKind::Recording(facts) => {
            matches!(facts.status, RecordingStatus::Failed(_)).then_some(webhook::RECORDING_FAILED)
        }
        EventKind::Dequeued(outcome) => (outcome.result == QueueResult::Full).then_some(14207),
        EventKind::Stream(StreamFacts { status: StreamStatus::Failed(why), .. }) => Some(stream_code(why.fault)),
        EventKind::Siprec(SiprecFacts { status: SiprecStatus::Failed(why), .. }) => Some(siprec::code(why.fault)),
        EventKind::Siprec(SiprecFacts { status: SiprecStatus::Paused, .. }) => {
            Some(siprec::code(SiprecFault::Internal))
        }
        EventKind::Conversation(facts) => match facts.status {
            ConversationStatus::Failed { after_start, .. } => Some(conversation(after_start).0),
            _ => None,
        },
        EventKind::PlaybackEnded(Playback { source: AudioSource::Speech(_), .. }, end) => {
            matches!(end, PlaybackEnd::Missing(_) | PlaybackEnd::Failed(_)).then_some(13520)
        }
        EventKind::PlaybackEnded(_, PlaybackEnd::Missing(_)) => Some(11200),
        EventKind::PlaybackEnded(_, PlaybackEnd::Failed(_)) => Some(13420),
        _ => None,
    }
}

/// The error number of a callback that failed after its last attempt. `event` is the notice's name. `status` is the
/// HTTP status of the last answer.
pub(super) fn undelivered_code(event: &str, status: Option<u16>) -> u32 {
    let of_conference = ["conference", "participant", "announcement"].iter().any(|kind| event.starts_with(kind));
    match (of_conference, status) {
        (true, Some(_)) => 16011,
        (true, None) => 16010,
        (false, Some(_)) => 15003,
        (false, None) => 15002,
    }
}

/// The error number and the text of a conversation's failure.
pub(super) fn conversation(after_start: bool) -> (u32, &'static str) {
    if after_start { (64105, "Websocket ended") } else { (64102, "Unable to connect to websocket URL") }
}

/// An error answer of the REST API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ApiError {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// Twilio's error number.
    pub(super) code: u32,
    /// The error message for people.
    pub(super) message: String,
    /// The methods that the resource supports, for an error with HTTP status 405.
    pub(super) allow: Option<&'static str>,
    /// The cause of the refusal, if the request itself was correct.
    pub(super) cause: Option<Cause>,
}

/// Values of the header field `Allow` (RFC 9110 §10.2.1), which an answer with HTTP status 405 must have (§15.5.6).
pub(super) mod allow {
    pub(in super::super) const GET: &str = "GET, HEAD";
    pub(in super::super) const POST: &str = "POST";
    pub(in super::super) const DELETE: &str = "DELETE";
    pub(in super::super) const GET_POST: &str = "GET, HEAD, POST";
    pub(in super::super) const GET_DELETE: &str = "GET, HEAD, DELETE";
    pub(in super::super) const GET_POST_DELETE: &str = "GET, HEAD, POST, DELETE";
}

impl ApiError {
    /// This HTTP status with this error number.
    pub(super) fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None, cause: None }
    }

    /// HTTP status 400 with this error number.
    pub(super) fn bad(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message.into())
    }

    /// HTTP status 401: the credentials are missing or wrong.
    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 20003, "Authenticate")
    }

    /// HTTP status 403 with this error number.
    pub(super) fn forbidden(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message.into())
    }

    /// HTTP status 404: there is no resource at this path.
    pub(super) fn not_found(path: &str) -> Self {
        let message = format!("The requested resource {path} was not found");
        Self::new(StatusCode::NOT_FOUND, 20404, message)
    }

    /// HTTP status 405: the resource exists but does not support the method. `allow` is one of [`allow`].
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, 20004, "Method not allowed") }
    }

    /// HTTP status 503: the audio exists and cannot be served now, because the bucket of the recordings does not answer, or
    /// because the disk has no space for the file that the request needs.
    pub(super) fn no_audio_now(cause: Cause) -> Self {
        let message = match cause {
            Cause::BucketAway => "Service unavailable: the bucket of the recordings does not answer",
            _ => "Service unavailable: the disk for recordings has no space for the MP3 file, but the WAV file exists",
        };
        Self { cause: Some(cause), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, 20503, message) }
    }

    /// HTTP status 500: this server failed.
    pub(super) fn internal() -> Self {
        let message = "An internal server error has occurred";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 20500, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({
            "code": self.code,
            "message": self.message,
            "more_info": format!("https://www.twilio.com/docs/errors/{}", self.code),
            "status": self.status.as_u16(),
        });
        let unauthenticated = self.status == StatusCode::UNAUTHORIZED;
        if let (true, Some(fields)) = (unauthenticated, body.as_object_mut()) {
            fields.insert("detail".into(), "Your AccountSid or AuthToken was incorrect.".into());
        }
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Refusal::new(
            format!("{} ({})", self.message, self.code),
            Some(self.code),
            self.cause,
        ));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if unauthenticated {
            let challenge = HeaderValue::from_static("Basic realm=\"Twilio API\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<StoreFailed> for ApiError {
    fn from(failed: StoreFailed) -> Self {
        let (status, code, what) = match failed {
            StoreFailed::TooManyReads => (StatusCode::TOO_MANY_REQUESTS, 20429, "Too many requests"),
            StoreFailed::Away | StoreFailed::ReadTooSlow => {
                (StatusCode::SERVICE_UNAVAILABLE, 20503, "Service unavailable")
            }
        };
        Self::new(status, code, format!("{what}: {failed}"))
    }
}
