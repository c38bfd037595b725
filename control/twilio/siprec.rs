//! SIPREC sessions: requests for sessions, REST resources and callbacks.

use jiff::Timestamp;
use serde_json::Value;
use tandem_call::leg::LegInfo;
use tandem_call::recording::Track;
use tandem_call::siprec::{SiprecFacts, SiprecFault, SiprecSpec, SiprecStatus};
use tandem_dialect::Notice;
use tandem_id::{LegId, SiprecId};

use super::error::ApiError;
use super::family::Owner;
use super::form::Parameters as Form;
use super::webhook::{self, Parameters};
use super::{format, recording, request};

/// Error number: there is no connector with this name.
pub(super) const NO_CONNECTOR: u32 = 31940;

/// The error number of a SIPREC session's failure. Twilio uses the numbers of media streams for SIPREC sessions.
pub(super) fn code(fault: SiprecFault) -> u32 {
    match fault {
        SiprecFault::NoConnector => NO_CONNECTOR,
        SiprecFault::TooMany => 31960,
        SiprecFault::Unreachable => 31904,
        SiprecFault::Timeout => 31901,
        SiprecFault::Refused(_) => 31902,
        SiprecFault::NoAudio => 31920,
        SiprecFault::HungUp => 31921,
        SiprecFault::Internal => 31900,
    }
}

/// The callback for an event of a SIPREC session. `None` if the application did not request callbacks.
pub(super) fn event(owner: Owner<'_>, leg: &LegInfo, facts: &SiprecFacts, at: Timestamp) -> Option<Notice> {
    let callback = facts.spec.callback.as_ref()?;
    let (event, problem) = match &facts.status {
        SiprecStatus::Started => ("siprec-started", None),
        SiprecStatus::Stopped => ("siprec-stopped", None),
        SiprecStatus::Failed(why) => ("siprec-error", Some(why)),
        // Twilio has no event for these changes. The debugger shows them.
        SiprecStatus::Paused | SiprecStatus::Resumed => return None,
    };
    let own = owner.ids.siprec(facts.id);
    let mut parameters: Parameters = [
        ("AccountSid", owner.sid.to_owned()),
        ("CallSid", owner.ids.call(leg.id)),
        ("SiprecName", facts.spec.name.clone().unwrap_or_else(|| own.clone())),
        ("SiprecSid", own),
        ("SiprecEvent", event.to_owned()),
        ("Timestamp", format::iso8601(at)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(why) = problem {
        parameters.push(("SiprecErrorCode".into(), code(why.fault).to_string()));
        parameters.push(("SiprecError".into(), why.detail.clone()));
    }
    Some(webhook::form(event, callback, parameters, false))
}

/// Parses a request for a SIPREC session (`POST Calls/{Sid}/Siprec.json`).
pub(super) fn spec(parameters: &Form) -> Result<Box<SiprecSpec>, ApiError> {
    let connector = parameters.get("ConnectorName").unwrap_or_default();
    Ok(Box::new(SiprecSpec {
        connector: connector.to_owned(),
        name: parameters.get("Name").map(str::to_owned),
        track: parameters.word("Track", &request::STREAM_TRACKS, Track::Both, 31941)?,
        parameters: request::stream_parameters(parameters),
        callback: parameters.callback("StatusCallback", &[])?,
    }))
}

/// The Siprec resource. A request that started or stopped the session gets this resource as the answer.
pub(super) fn resource(
    owner: Owner<'_>,
    call: LegId,
    (id, name): &(SiprecId, Option<String>),
    status: &'static str,
    now: Timestamp,
) -> Value {
    recording::companion(owner, call, ("Siprec", owner.ids.siprec(*id)), name.as_deref(), status, now)
}
