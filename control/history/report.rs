//! Reports of failures for operators and users, about calls and about the server itself. Each has its
//! [cause](tandem_causes). Reports appear in `/console/errors` and in `tandem errors`, in addition to the server's log.
//! They are kept as long as the logs of calls.
//!
//! The error lists of providers are separate ([`crate::notification`]): they contain only errors with a provider's number.

use serde::{Deserialize, Serialize};
use tandem_causes::Cause;
use tandem_sip as sip;
use tandem_store::resources::{self, Kind};

/// The kind of stored reports.
pub const REPORTS: Kind<Report> = Kind::new(resources::REPORT);

/// A report of something that went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The cause, if known.
    pub cause: Option<Cause>,
    /// The provider's error number, if there is one.
    pub code: Option<u32>,
    /// Text that says what happened.
    pub message: String,
    /// Advice for this case, in addition to the advice of the cause.
    #[serde(default)]
    pub hint: Option<String>,
    /// The call's id in the spelling of its application.
    pub call: Option<String>,
    /// The id of the call's session.
    pub session: Option<String>,
    /// The refused SIP request, if it was refused before a call existed.
    #[serde(default)]
    pub request: Option<Box<SipRequest>>,
}

/// A SIP request that was refused before a call existed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SipRequest {
    /// User part of From.
    pub from: String,
    /// Called user, or the user to register.
    pub to: String,
    /// Username of its credentials, which need not be valid; empty without credentials.
    pub username: String,
    /// Source address and port.
    pub source: String,
    /// Transport: `UDP`, `TCP`, `TLS`, `WS`, `WSS`.
    pub transport: String,
    /// The Call-ID header; `tandem trace` shows the messages with it.
    pub sip_call_id: String,
}

impl From<&sip::RefusedRequest> for SipRequest {
    fn from(refused: &sip::RefusedRequest) -> Self {
        Self {
            from: refused.from.clone(),
            to: refused.to.clone(),
            username: refused.username.clone(),
            source: refused.source.to_string(),
            transport: refused.transport.token().to_owned(),
            sip_call_id: refused.sip_call_id.clone(),
        }
    }
}

/// The reason why a dialect refused an HTTP request, as text. It is an extension of the response.
#[derive(Clone, Debug)]
pub struct Refusal(pub String);

impl Report {
    /// Creates a report with this cause that concerns no call.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause: Some(cause),
            code: None,
            message: message.into(),
            hint: None,
            call: None,
            session: None,
            request: None,
        }
    }

    /// Returns the advice of the cause, together with the advice for this case.
    pub fn advice(&self) -> Option<String> {
        self.cause.map(|cause| match &self.hint {
            // The hint for an unknown number is complete; the cause's advice only explains it.
            Some(remedy) if cause == Cause::UnknownNumber => format!("{remedy} {}", cause.advice()),
            Some(hint) => format!("{} {hint}", cause.advice()),
            None => cause.advice().to_owned(),
        })
    }
}
