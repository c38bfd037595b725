//! Conversion of legs and recordings to database rows. Lists use the columns for their filters. The column `details`
//! contains the complete record as JSON.

use std::sync::Arc;

use jiff::Timestamp;
use tandem_call::conference::event::ConferenceInfo;
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::recording::{Recording, RecordingChannels, RecordingFormat, RecordingSource, RecordingStatus, Track};
use tandem_id::AccountName;
use tandem_store::calls::{CallRow, LateRow};
use tandem_store::recordings::RecordingRow;

pub fn call_row(leg: &Arc<LegInfo>, now: Timestamp) -> LateRow {
    let leg = Arc::clone(leg);
    LateRow::of(leg.id.0, move || row_of(&leg, now))
}

fn row_of(leg: &LegInfo, now: Timestamp) -> CallRow {
    CallRow {
        id: leg.id.0,
        session: leg.session.0,
        parent: leg.parent.map(|parent| parent.0),
        account: leg.account.clone(),
        dialect: String::from(&*leg.dialect),
        direction: direction_word(leg.direction).to_owned(),
        from: leg.from.text().into_owned(),
        to: leg.to.text().into_owned(),
        status: status_word(leg.status).to_owned(),
        created_at: leg.created_at,
        answered_at: leg.answered_at,
        ended_at: leg.end.as_ref().map(|end| end.at),
        updated_at: now,
        sip_status: leg.end.as_ref().and_then(|end| end.sip_status).map(i64::from),
        cause: leg.end.as_ref().map(|end| format!("{:?}", end.cause)),
        details: serde_json::to_string(leg).unwrap_or_default(),
    }
}

/// Returns the leg of a row. Returns `None` if another version wrote the row in an unreadable format.
pub fn leg_of(row: &CallRow) -> Option<LegInfo> {
    let read = serde_json::from_str(&row.details);
    read.inspect_err(|error| tracing::error!(%error, "unreadable call record")).ok()
}

/// Returns the row of a recording of `leg`.
pub fn recording_row(recording: &Recording, leg: &LegInfo, path: &std::path::Path) -> RecordingRow {
    let session = recording.conference.map_or(leg.session.0, |conference| conference.0);
    RecordingRow {
        account: leg.account.clone(),
        dialect: leg.dialect.to_string(),
        ..facts_row(recording, session, path)
    }
}

/// Returns the row of a conference recording. The column `session` contains the id of the conference.
pub fn conference_recording_row(
    recording: &Recording,
    conference: &ConferenceInfo,
    path: &std::path::Path,
) -> RecordingRow {
    RecordingRow {
        account: conference.account.clone(),
        dialect: conference.dialect.to_string(),
        ..facts_row(recording, conference.id.0, path)
    }
}

/// Returns the row of a recovered recording file whose call is unknown.
pub fn adopted_recording_row(recording: &Recording, account: &AccountName, path: &std::path::Path) -> RecordingRow {
    RecordingRow { account: account.clone(), ..facts_row(recording, 0, path) }
}

/// Returns the columns that do not depend on the owner of the recording.
fn facts_row(recording: &Recording, session: u128, path: &std::path::Path) -> RecordingRow {
    RecordingRow {
        id: recording.id.0,
        account: AccountName::server(),
        dialect: String::new(),
        leg: recording.leg.0,
        session,
        source: source_word(recording.spec.source).to_owned(),
        channels: if recording.spec.channels == RecordingChannels::Dual { 2 } else { 1 },
        track: track_word(recording.spec.track).to_owned(),
        format: if recording.spec.format == RecordingFormat::Mp3 { "mp3" } else { "wav" }.to_owned(),
        path: path.to_string_lossy().into_owned(),
        // The column says whether the recording has audio. The record in `details` says whether the audio is complete.
        status: match recording.has_audio() {
            true => recording_status_word(&RecordingStatus::Completed),
            false => recording_status_word(&recording.status),
        }
        .to_owned(),
        started_at: recording.started_at,
        ended_at: recording.ended_at,
        duration_ms: recording.duration.map(|length| i64::try_from(length.as_millis()).unwrap_or(i64::MAX)),
        bytes: None,
        details: serde_json::to_string(recording).unwrap_or_default(),
    }
}

/// Returns the recording of a row. Returns `None` if another version wrote the row in an unreadable format.
pub fn recording_of(row: &RecordingRow) -> Option<Recording> {
    serde_json::from_str(&row.details).inspect_err(|error| tracing::error!(%error, "unreadable recording record")).ok()
}

/// Returns the word that the database uses for a status.
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Queued => "queued",
        Status::Initiated => "initiated",
        Status::Ringing => "ringing",
        Status::InProgress => "in-progress",
        Status::Completed => "completed",
        Status::Busy => "busy",
        Status::Failed => "failed",
        Status::NoAnswer => "no-answer",
        Status::Canceled => "canceled",
    }
}

/// Returns the word that the database uses for a direction.
pub fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::OutboundApi => "outbound-api",
        Direction::OutboundDial => "outbound-dial",
    }
}

fn source_word(source: RecordingSource) -> &'static str {
    match source {
        RecordingSource::Record => "record",
        RecordingSource::Dial => "dial",
        RecordingSource::Outbound => "outbound",
        RecordingSource::Request => "request",
        RecordingSource::Start => "start",
        RecordingSource::Trunk => "trunk",
        RecordingSource::Conference => "conference",
        RecordingSource::ConferenceRequest => "conference-request",
    }
}

fn track_word(track: Track) -> &'static str {
    match track {
        Track::Inbound => "inbound",
        Track::Outbound => "outbound",
        Track::Both => "both",
    }
}

/// Returns the word that the database uses for the status of a recording.
pub(crate) fn recording_status_word(status: &RecordingStatus) -> &'static str {
    match status {
        RecordingStatus::InProgress => "in-progress",
        RecordingStatus::Paused => "paused",
        RecordingStatus::Completed => "completed",
        RecordingStatus::Absent => "absent",
        RecordingStatus::Failed(_) => "failed",
    }
}
