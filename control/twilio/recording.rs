//! The resources of recordings, streams and other objects that belong to a call.

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::recording::{Recording, RecordingStatus};
use tandem_id::{ConferenceId, LegId, StreamId};

use super::family::Owner;
use super::{format, webhook};
use crate::path::VERSION;

/// The Recording resource at its path below the account.
pub(super) fn recording(owner: Owner<'_>, public_url: &str, facts: &Recording) -> Value {
    let sid = owner.ids.recording(facts.id);
    let path = owner.path(format_args!("Recordings/{sid}"));
    let mut value = common(owner, facts);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("uri".into(), format!("{path}.json").into());
        fields.insert("media_url".into(), owner.recording_url(public_url, &sid).into());
        let subresources = json!({
            "add_on_results": format!("{path}/AddOnResults.json"),
            "transcriptions": format!("{path}/Transcriptions.json"),
        });
        fields.insert("subresource_uris".into(), subresources);
    }
    value
}

/// The Recording resource at its path below the call.
pub(super) fn call_recording(owner: Owner<'_>, public_url: &str, facts: &Recording) -> Value {
    let (call, sid) = (owner.ids.call(facts.leg), owner.ids.recording(facts.id));
    let mut value = common(owner, facts);
    if let Some(fields) = value.as_object_mut() {
        // Twilio has `media_url` only in the resource below the account.
        if owner.provider.answer().is_some() {
            fields.insert("media_url".into(), owner.recording_url(public_url, &owner.ids.recording(facts.id)).into());
        }
        let uri = owner.uri(format_args!("Calls/{call}/Recordings/{sid}"));
        fields.insert("uri".into(), uri.into());
        fields.insert("track".into(), format::track(facts.spec.track).into());
    }
    value
}

/// The Recording resource at its path below the conference.
pub(super) fn conference_recording(owner: Owner<'_>, public_url: &str, facts: &Recording) -> Value {
    let sid = owner.ids.recording(facts.id);
    let conference = facts.conference.map(|id| owner.ids.conference(id)).unwrap_or_default();
    let mut value = common(owner, facts);
    if let Some(fields) = value.as_object_mut() {
        // Twilio has `media_url` only in the resource below the account.
        if owner.provider.answer().is_some() {
            fields.insert("media_url".into(), owner.recording_url(public_url, &owner.ids.recording(facts.id)).into());
        }
        let uri = owner.uri(format_args!("Conferences/{conference}/Recordings/{sid}"));
        fields.insert("uri".into(), uri.into());
    }
    value
}

fn common(owner: Owner<'_>, facts: &Recording) -> Value {
    let duration = facts.ended_at.map(|_| format::recording_seconds(facts).to_string());
    let failed = matches!(facts.status, RecordingStatus::Failed(_));
    json!({
        "sid": owner.ids.recording(facts.id),
        "account_sid": owner.sid,
        "call_sid": owner.ids.call(facts.leg),
        "conference_sid": facts.conference.map(|id| owner.ids.conference(id)),
        "api_version": VERSION,
        "channels": webhook::channels(facts),
        "date_created": format::rfc2822(facts.started_at),
        "date_updated": format::rfc2822(facts.ended_at.unwrap_or(facts.started_at)),
        "start_time": format::rfc2822(facts.started_at),
        "duration": duration,
        "price": null,
        "price_unit": "USD",
        "status": format::recording_status(facts),
        "source": format::recording_source(facts.spec.source),
        "error_code": failed.then_some(webhook::RECORDING_FAILED),
        "encryption_details": null,
    })
}

/// The Stream resource of a call. A request that started or stopped the stream gets this resource as the answer.
pub(super) fn stream(
    owner: Owner<'_>,
    call: LegId,
    id: StreamId,
    name: Option<&str>,
    status: &'static str,
    now: Timestamp,
) -> Value {
    companion(owner, call, ("Streams", owner.ids.stream(id)), name, status, now)
}

/// The Stream resource of a conference's mix. A request that started or stopped the stream gets this resource as the
/// answer.
pub(super) fn conference_stream(
    owner: Owner<'_>,
    conference: ConferenceId,
    id: StreamId,
    name: Option<&str>,
    status: &'static str,
    now: Timestamp,
) -> Value {
    let (of, sid) = (owner.ids.conference(conference), owner.ids.stream(id));
    let path = format!("Conferences/{of}/Streams/{sid}");
    companion_resource(owner, ("conference_sid", of), (path, sid), name, status, now)
}

/// The resource of an object that belongs to a call. `list` is the name of the call's list that contains the resource.
/// `sid` is the resource's SID.
pub(super) fn companion(
    owner: Owner<'_>,
    call: LegId,
    (list, sid): (&str, String),
    name: Option<&str>,
    status: &'static str,
    now: Timestamp,
) -> Value {
    let call = owner.ids.call(call);
    let path = format!("Calls/{call}/{list}/{sid}");
    companion_resource(owner, ("call_sid", call), (path, sid), name, status, now)
}

fn companion_resource(
    owner: Owner<'_>,
    (key, of): (&str, String),
    (path, sid): (String, String),
    name: Option<&str>,
    status: &'static str,
    now: Timestamp,
) -> Value {
    json!({
        "sid": sid,
        "account_sid": owner.sid,
        key: of,
        "name": name,
        "status": status,
        "date_updated": format::rfc2822(now),
        "uri": owner.uri(path),
    })
}
