//! Changes the parameters of requests to applications from the form of Twilio's family to TeXML's form. TeXML lacks
//! some parameters of the family and adds parameters of Telnyx.

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::leg::LegInfo;
use tandem_telnyx::webhook;

use super::id;

type Pairs = Vec<(String, String)>;

/// Parameters of Twilio that TeXML does not have.
const ABSENT_PARAMETERS: [&str; 4] = ["ApiVersion", "CallToken", "Caller", "Called"];
/// Prefixes of the geographic parameters. TeXML does not have these parameters.
const GEOGRAPHIC_PREFIXES: [&str; 4] = ["From", "To", "Caller", "Called"];

/// Converts the parameters of a request. `leg` is the leg that the request concerns, if there is one. `event` is the
/// event that the request reports, if there is one.
pub(super) fn rewrite(leg: Option<&LegInfo>, event: Option<&CallEvent>, pairs: &mut Pairs) {
    let placed = |name: &str| {
        GEOGRAPHIC_PREFIXES
            .iter()
            .filter_map(|party| name.strip_prefix(party))
            .any(|rest| matches!(rest, "City" | "State" | "Zip" | "Country"))
    };
    pairs.retain(|(name, _)| !ABSENT_PARAMETERS.contains(&name.as_str()) && !placed(name));
    let about = pairs.iter().any(|(name, _)| name == "CallStatus");
    let mut more = Pairs::new();
    let mut push = |name: &str, value: String| more.push((name.to_owned(), value));
    for (name, value) in pairs.iter_mut() {
        match name.as_str() {
            "CallSid" | "ParentCallSid" | "DialCallSid" => push(&format!("{name}Legacy"), value.clone()),
            "StreamEvent" if value == "stream-error" => *value = "stream-failed".to_owned(),
            "Timestamp" => {
                if let Ok(at) = jiff::fmt::rfc2822::parse(value) {
                    *value = at.timestamp().to_string();
                }
            }
            _ => {}
        }
    }
    let Some(leg) = leg else {
        pairs.append(&mut more);
        return;
    };
    push("ConnectionId", leg.application.as_deref().unwrap_or_default().to_owned());
    if about {
        let party = if matches!(leg.from, Address::Sip(_) | Address::Client(_)) { "sip" } else { "pstn" };
        push("CallingPartyType", party.to_owned());
        push("CallerId", leg.caller_name.clone().unwrap_or_else(|| leg.from.user().into_owned()));
        for (name, address) in [("FromSipUri", &leg.from), ("ToSipUri", &leg.to)] {
            if let Address::Sip(uri) = address {
                push(name, uri.to_string());
            }
        }
    }
    match event.map(|event| (&event.kind, event.at)) {
        Some((EventKind::Initiated | EventKind::Ringing { .. }, _)) => {
            push("CallInitiatedAt", time(leg.created_at));
        }
        Some((EventKind::Answered { .. }, _)) => {
            push("CallInitiatedAt", time(leg.created_at));
            push("Codec", leg.sip.codec.clone().unwrap_or_default());
            push("SamplingRate", "8000".to_owned());
        }
        Some((EventKind::Ended, at)) => ended(leg, at, &mut push),
        _ => {}
    }
    pairs.append(&mut more);
}

/// Adds the parameters of the notice that reports the leg's end.
fn ended(leg: &LegInfo, at: Timestamp, push: &mut impl FnMut(&str, String)) {
    push("CallInitiatedAt", time(leg.created_at));
    push("StartTime", time(leg.created_at));
    if let Some(answered) = leg.answered_at {
        push("AnsweredTime", time(answered));
    }
    push("EndTime", time(leg.end.as_ref().map_or(at, |end| end.at)));
    push("CallControlId", id::call_control_id(leg.id));
    push("CallLegId", id::uuid(leg.id.0));
    push("CallSessionId", id::uuid(leg.session.0));
    push("UserId", id::user_id(&leg.account));
    push("OrganizationId", id::user_id(&leg.account));
    push("OccurredAt", time(at));
    if let Some(end) = &leg.end {
        push("HangupCause", webhook::hangup_cause(end.cause).to_owned());
        push("HangupSource", webhook::hangup_source(leg.direction, end.by).to_owned());
        push("SipHangupCause", webhook::sip_hangup_cause(end, leg.answered_at.is_some()));
    }
    if let Some(quality) = &leg.sip.quality {
        push("CallQualityStats", webhook::quality(quality).to_string());
    }
}

fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}
