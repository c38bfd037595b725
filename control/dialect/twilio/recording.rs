//! Recordings and streams as resources.

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::id::{LegId, StreamId};
use tandem_call::recording::{Recording, RecordingStatus};

use super::{format, sid, webhook};
use crate::dialect::twilio::path::VERSION;

/// The resource under the account.
pub(super) fn recording(account_sid: &str, public_url: &str, facts: &Recording) -> Value {
    let sid = sid::recording(facts.id);
    let path = format!("/{VERSION}/Accounts/{account_sid}/Recordings/{sid}");
    let mut value = common(account_sid, facts);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("uri".into(), format!("{path}.json").into());
        fields.insert("media_url".into(), format::recording_url(public_url, account_sid, &sid).into());
        let subresources = json!({
            "add_on_results": format!("{path}/AddOnResults.json"),
            "transcriptions": format!("{path}/Transcriptions.json"),
        });
        fields.insert("subresource_uris".into(), subresources);
    }
    value
}

/// The resource under its call.
pub(super) fn call_recording(account_sid: &str, facts: &Recording) -> Value {
    let (call, sid) = (sid::call(facts.leg), sid::recording(facts.id));
    let mut value = common(account_sid, facts);
    if let Some(fields) = value.as_object_mut() {
        let uri = format!("/{VERSION}/Accounts/{account_sid}/Calls/{call}/Recordings/{sid}.json");
        fields.insert("uri".into(), uri.into());
        fields.insert("track".into(), format::track(facts.spec.track).into());
    }
    value
}

/// The resource under its conference.
pub(super) fn conference_recording(account_sid: &str, facts: &Recording) -> Value {
    let sid = sid::recording(facts.id);
    let conference = facts.conference.map(sid::conference).unwrap_or_default();
    let mut value = common(account_sid, facts);
    if let Some(fields) = value.as_object_mut() {
        let uri = format!("/{VERSION}/Accounts/{account_sid}/Conferences/{conference}/Recordings/{sid}.json");
        fields.insert("uri".into(), uri.into());
    }
    value
}

fn common(account_sid: &str, facts: &Recording) -> Value {
    let duration = facts.ended_at.map(|_| format::recording_seconds(facts).to_string());
    let failed = matches!(facts.status, RecordingStatus::Failed(_));
    json!({
        "sid": sid::recording(facts.id),
        "account_sid": account_sid,
        "call_sid": sid::call(facts.leg),
        "conference_sid": facts.conference.map(sid::conference),
        "api_version": VERSION,
        "channels": webhook::channels(facts),
        "date_created": format::rfc2822(facts.started_at),
        "date_updated": format::rfc2822(facts.ended_at.unwrap_or(facts.started_at)),
        "start_time": format::rfc2822(facts.started_at),
        "duration": duration,
        "price": null,
        "price_unit": "USD",
        "status": format::recording_status(&facts.status),
        "source": format::recording_source(facts.spec.source),
        "error_code": failed.then_some(webhook::RECORDING_FAILED),
        "encryption_details": null,
    })
}

/// The resource of a stream that a request began or ended.
pub(super) fn stream(
    account_sid: &str,
    call: LegId,
    id: StreamId,
    name: Option<&str>,
    status: &'static str,
    now: Timestamp,
) -> Value {
    companion(account_sid, call, ("Streams", sid::stream(id)), name, status, now)
}

/// What runs beside a call, in that list of it, with that SID.
pub(super) fn companion(
    account_sid: &str,
    call: LegId,
    (list, sid): (&str, String),
    name: Option<&str>,
    status: &'static str,
    now: Timestamp,
) -> Value {
    let call = sid::call(call);
    json!({
        "sid": sid,
        "account_sid": account_sid,
        "call_sid": call,
        "name": name,
        "status": status,
        "date_updated": format::rfc2822(now),
        "uri": format!("/{VERSION}/Accounts/{account_sid}/Calls/{call}/{list}/{sid}.json"),
    })
}
