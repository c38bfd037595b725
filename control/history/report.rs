//! Stored [problems](crate::problem), for operators and users. Reports concern calls or the server itself. Reports appear
//! in `/console/errors` and in `tandem errors`, in addition to the server's log. Reports are kept as long as the logs of
//! calls.
//!
//! The error lists of providers are separate ([`crate::notification`]). An error list contains only errors that have a
//! provider's error number.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_causes::Cause;
use tandem_sip as sip;
use tandem_store::resources::{self, Kind};

use crate::problem::{self, Problem};

/// The resource kind of stored reports.
pub const REPORTS: Kind<Report> = Kind::new(resources::REPORT);

/// Maximum number of characters of a reason that is read from the body of an answer.
const LONGEST_REASON: usize = 200;

/// A report of a failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The cause of the failure. `None` in reports of older versions if the cause was unknown.
    pub cause: Option<Cause>,
    /// The provider's error number, if there is one.
    pub code: Option<u32>,
    /// Text that describes the problem.
    pub message: String,
    /// Advice for this specific case, in addition to the advice of the cause.
    #[serde(default)]
    pub hint: Option<String>,
    /// The id of the leg in the provider's form.
    pub call: Option<String>,
    /// The id of the call.
    pub session: Option<String>,
    /// The SIP request, if the server refused the request before a call existed.
    #[serde(default)]
    pub request: Option<Box<SipRequest>>,
}

/// A SIP request that was refused before a call existed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SipRequest {
    /// The method: `REGISTER` or `INVITE`. Empty in reports of older versions.
    #[serde(default)]
    pub method: String,
    /// User part of the From header.
    pub from: String,
    /// The called user, or the user of a registration.
    pub to: String,
    /// User name in the credentials of the request. The credentials may be invalid. The text is empty if the request has
    /// no credentials.
    pub username: String,
    /// Source address and port.
    pub source: String,
    /// Transport of the request: `UDP`, `TCP`, `TLS`, `WS` or `WSS`.
    pub transport: String,
    /// The Call-ID header. `tandem trace` shows the SIP messages with this Call-ID.
    pub sip_call_id: String,
}

impl From<&sip::RefusedRequest> for SipRequest {
    fn from(refused: &sip::RefusedRequest) -> Self {
        Self {
            method: refused.method.clone(),
            from: refused.from.clone(),
            to: refused.to.clone(),
            username: refused.username.clone(),
            source: refused.source.to_string(),
            transport: refused.transport.token().to_owned(),
            sip_call_id: refused.sip_call_id.clone(),
        }
    }
}

/// The parameters of an HTTP request that have no effect. The response to the request carries this value as an extension.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unused(pub Vec<String>);

/// The reason why a dialect refused an HTTP request. The response carries this value as an extension.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The text of the reason. It names the wrong parameter and has the provider's error number.
    pub why: String,
    /// The provider's error number, if the provider has numbers.
    pub code: Option<u32>,
    pub cause: Cause,
}

impl Refusal {
    /// Creates a refusal. `cause` is the cause if the request itself was correct.
    pub fn new(why: impl Into<String>, code: Option<u32>, cause: Option<Cause>) -> Self {
        Self { why: why.into(), code, cause: cause.unwrap_or(Cause::RequestRefused) }
    }

    /// Reads the reason from the body of an answer, if the dialect does not state the reason. JSON has the reason in
    /// `errors[0]` or in the outer object, as all providers write it.
    pub fn of_answer(body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = json.get("errors").and_then(|errors| errors.get(0)).unwrap_or(&json);
        let text = |names: &[&str]| names.iter().find_map(|name| error.get(*name)?.as_str()).map(str::to_owned);
        let code = error.get("code").and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
        let plain = || String::from_utf8_lossy(body).trim().chars().take(LONGEST_REASON).collect();
        let why = text(&["detail", "message", "error"]).or_else(|| error.as_str().map(str::to_owned));
        Self::new(why.unwrap_or_else(plain), code.and_then(|code| u32::try_from(code).ok()), None)
    }

    /// Returns the problem of this refusal of a request. `request` is the method and the path of the request.
    pub fn problem(self, status: u16, request: impl fmt::Display) -> Problem {
        let colon = if self.why.is_empty() { "" } else { ": " };
        let message = format!("{status} to {request}{colon}{}", self.why);
        Problem { code: self.code, ..Problem::new(self.cause, message) }
    }
}

impl Report {
    /// Returns the advice of the cause together with the advice for this specific case.
    pub fn advice(&self) -> Option<String> {
        self.cause.map(|cause| problem::advice(cause, self.hint.as_deref()).into_owned())
    }
}
