//! What went wrong, for people: with calls and with the server itself, each with its [cause](crate::advice). It is in the server's
//! log, in `/console/errors` and in `tandem errors`; kept as long as the logs of calls are.
//!
//! Providers' own lists of errors are another matter ([`crate::trouble`]): they have providers' numbers, and only what those have.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::leg::LegInfo;
use tandem_sip as sip;

use crate::advice::Cause;
use crate::clock;
use crate::services::Services;
use crate::store::resources::{self, Kind, Resource};
use crate::trouble::Level;

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
pub(crate) struct Refusal(pub(crate) String);

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

impl Services {
    /// Something went wrong outside of any call that there is: a WARN line with the advice, and a report. `account`: whose it is, if
    /// it is anybody's; operators see those of nobody.
    pub fn report(&self, account: Option<&str>, cause: Cause, message: &str) {
        if self.keep(account, Report::new(cause, message)) {
            tracing::warn!(%cause, account, advice = cause.advice(), "{message}");
        }
    }

    /// The same, of which the log has a line already. Anybody on the network may cause these, so of each cause some a second are
    /// kept. `false`: this one was not.
    pub fn keep(&self, account: Option<&str>, report: Report) -> bool {
        let now = clock::now().instant;
        let kept = report.cause.is_none_or(|cause| self.counters.report(cause, now).is_some());
        if kept {
            self.keep_report(account.unwrap_or_default(), None, Level::Error, clock::time(), report);
        }
        kept
    }

    /// Writes a report down beside the calls; dropped, and counted, when the database is slow.
    pub(crate) fn keep_report(
        &self,
        account: &str,
        leg: Option<&LegInfo>,
        level: Level,
        at: Timestamp,
        mut report: Report,
    ) {
        if let Some(leg) = leg {
            report.call = Some(self.call_id(leg));
            report.session = Some(leg.session.to_string());
        }
        let mut row = Resource::new(account, level.word(), report);
        (row.created_at, row.updated_at) = (at, at);
        row.parent = leg.map(|leg| leg.id.0);
        resources::submit(&self.store, REPORTS, &row);
    }
}
