//! What went wrong, for people: with calls and with the server itself, each with its [cause](tandem_causes). It is in the server's
//! log, in `/console/errors` and in `tandem errors`; kept as long as the logs of calls are.
//!
//! Providers' own lists of errors are another matter ([`crate::trouble`]): they have providers' numbers, and only what those have.

use serde::{Deserialize, Serialize};
use tandem_causes::Cause;
use tandem_sip as sip;
use tandem_store::resources::{self, Kind};

/// All of them.
pub const REPORTS: Kind<Report> = Kind::new(resources::REPORT);

/// One.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Why, if that is known.
    pub cause: Option<Cause>,
    /// The provider's number, if it has one.
    pub code: Option<u32>,
    /// What happened, in words.
    pub message: String,
    /// What is to be done in this very case, beyond the cause's advice.
    #[serde(default)]
    pub hint: Option<String>,
    /// The call's id as its application knows it.
    pub call: Option<String>,
    /// Its session's id.
    pub session: Option<String>,
    /// The SIP request that it is about, if that was refused before there was any call.
    #[serde(default)]
    pub request: Option<Box<SipRequest>>,
}

/// A SIP request that was refused before there was any call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SipRequest {
    /// User of From.
    pub from: String,
    /// User that was called, or that is to be registered.
    pub to: String,
    /// The user that it claimed to be by its credentials; empty without any.
    pub username: String,
    /// Where it came from: address and port.
    pub source: String,
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS`.
    pub transport: String,
    /// Its Call-ID: `tandem trace` shows its messages.
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

/// Why a dialect refused an HTTP request, in words: an extension of its response.
#[derive(Clone, Debug)]
pub struct Refusal(pub String);

impl Report {
    /// One of this cause, about no call.
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

    /// What to do: the cause's advice, and what is to be done in this very case.
    pub fn advice(&self) -> Option<String> {
        self.cause.map(|cause| match &self.hint {
            // The remedy of an unknown number is complete; the cause's advice only says why it helps.
            Some(remedy) if cause == Cause::UnknownNumber => format!("{remedy} {}", cause.advice()),
            Some(hint) => format!("{} {hint}", cause.advice()),
            None => cause.advice().to_owned(),
        })
    }
}
