//! Problems: failures before they are reported.
//!
//! Every failure becomes a [`Problem`], and one function reports all problems (`Services::report` in `tandem-runtime`):
//! in the server's log, in the list of errors, in the provider's notifications and in `/metrics`. A problem of a call is
//! also in the call's log. So no failure is visible in one of these places and missing in another.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_causes::Cause;
use tandem_http::exchange::HttpExchange;
use tandem_id::LegId;

use crate::event_log::{ADVICE, Line};
use crate::notification::{Level, Notification};
use crate::report::{Report, SipRequest};

/// A failure with its cause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The cause, which has advice.
    pub cause: Cause,
    /// The severity.
    pub level: Level,
    /// Text that describes the problem.
    pub message: String,
    /// Advice for this specific case, in addition to the advice of the cause.
    pub hint: Option<String>,
    /// The provider's error number, if there is one.
    pub code: Option<u32>,
    /// The SIP request, if the server refused the request before a call existed.
    pub request: Option<Box<SipRequest>>,
    /// The notification for the developers of the application. A problem without an error number has no notification.
    pub notification: Option<Box<Notification>>,
    /// The number of earlier problems of the same source that are not in the server's log. `None` if this problem must
    /// not be in the server's log either.
    pub held_back: Option<u64>,
}

impl Problem {
    /// Creates a problem of level [`Level::Error`].
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            level: Level::Error,
            message: message.into(),
            hint: None,
            code: None,
            request: None,
            notification: None,
            held_back: Some(0),
        }
    }

    /// Creates a problem after which the call continued normally.
    pub fn warning(cause: Cause, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::new(cause, message) }
    }

    /// Creates the problem of a warning about a document or a request. `code` is the provider's number of the warning.
    pub fn of_warning(code: u32, message: String, exchange: Option<HttpExchange>) -> Self {
        Self::warning(Cause::of_warning(code, &message), message.clone()).notified(code, message, exchange)
    }

    /// Adds the provider's error number, and a notification with this text and this HTTP exchange.
    #[must_use]
    pub fn notified(mut self, code: u32, message: String, exchange: Option<HttpExchange>) -> Self {
        self.code = Some(code);
        self.notification = Some(Box::new(Notification { code, message, cause: Some(self.cause), exchange }));
        self
    }

    /// Returns the advice of the cause together with the advice for this specific case.
    pub fn advice(&self) -> Cow<'static, str> {
        advice(self.cause, self.hint.as_deref())
    }

    /// Returns the advice as a line for the log of a call. `at` is the time of the line about the problem.
    pub fn advice_line(&self, at: Timestamp, leg: Option<LegId>) -> Line {
        let text = format!("{} ({})", self.advice(), self.cause.page());
        Line { at, leg, kind: ADVICE.into(), text, data: None }
    }

    /// Returns the data of the line about the problem.
    pub fn data(&self) -> Value {
        json!({ "event": "problem", "level": self.level.word(), "cause": self.cause })
    }

    /// Returns the report of the problem. `call` and `session` are the ids of the leg in the provider's form and of the
    /// call, if the problem belongs to a call.
    pub fn report(self, call: Option<String>, session: Option<String>) -> Report {
        let Self { cause, code, message, hint, request, .. } = self;
        Report { cause: Some(cause), code, message, hint, call, session, request }
    }
}

/// Returns the advice of a cause together with the advice for a specific case.
pub(crate) fn advice(cause: Cause, hint: Option<&str>) -> Cow<'static, str> {
    match hint {
        // The hint for an unknown number is complete. The advice of the cause only explains this hint.
        Some(remedy) if cause == Cause::UnknownNumber => format!("{remedy} {}", cause.advice()).into(),
        Some(hint) => format!("{} {hint}", cause.advice()).into(),
        None => cause.advice().into(),
    }
}
