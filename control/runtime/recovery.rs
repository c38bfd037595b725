//! Recovery after a crash. This module ends the records of the calls that were live, repairs recordings, and sends the
//! missing notices to applications.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::leg::{Direction, EndCause, EndedBy, LegEnd, LegInfo, Status};
use tandem_call::recording::{Recording, RecordingChannels, RecordingSource, RecordingSpec, RecordingStatus};
use tandem_causes::{CRASHED, Cause};
use tandem_conferences as conferences;
use tandem_history::event_log::Line;
use tandem_history::problem::Problem;
use tandem_history::records;
use tandem_history::stored_log;
use tandem_host::clock;
use tandem_id::{LegId, RecordingId};
use tandem_media::{RecordedFile, RecordingKey};
use tandem_sip::DialogState;
use tandem_store::deliveries::DeliveryRow;
use tandem_store::{self as store, OwnedBy, StoreError};
use tandem_webhooks::Delivery;

use crate::services::Services;

/// Maximum time from the start of a recording without a record to the last heartbeat. Older recordings are not
/// considered.
const UNSTORED: SignedDuration = SignedDuration::from_secs(10);

/// Number of dialogs that are ended in one batch. The interval between two batches is `BYE_INTERVAL`, so 1,000 dialogs
/// are ended in a second.
const BYE_BATCH: usize = 50;
const BYE_INTERVAL: Duration = Duration::from_millis(50);

/// The unfinished work of an earlier process that the recovery has repaired.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Number of legs that were live.
    pub legs: usize,
    /// Number of recordings that were running.
    pub recordings: usize,
    /// Number of conferences that were running.
    pub conferences: usize,
    /// The dialogs of answered legs. The far ends may still have these dialogs. The server ends these dialogs after the
    /// start of SIP.
    pub dialogs: Vec<DialogState>,
    /// The Call-IDs of outbound legs without an answer. The far ends may still answer. The server then ends the calls.
    pub unanswered: Vec<String>,
    /// Number of recording files that had no record and now have a record.
    pub adopted: usize,
}

/// The process whose unfinished work is repaired.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The owner of the calls and recordings.
    pub owner: OwnedBy,
    /// The last time at which the process was alive. `None` if it never was.
    pub last_alive: Option<Timestamp>,
    /// Whether the files of its recordings are on this machine.
    pub has_files: bool,
}

/// Ends the records that an ended process left unfinished. Recordings come first, because an application receives the
/// notices of recordings before the notice of the leg's end.
pub async fn recover(services: &Arc<Services>, ended: &Ended) -> Result<Recovered, StoreError> {
    let store = &services.store;
    let stopped = ended.last_alive;
    store.pass_other_sequences();
    let mut last_alive = stopped.unwrap_or_else(clock::time);
    let mut recovered = Recovered::default();
    // The recordings that were requested with their leg. The notice of the leg's end contains such a recording.
    let mut own = HashMap::new();
    loop {
        let rows = store::recordings::unfinished(store, &ended.owner).await?;
        if rows.is_empty() {
            break;
        }
        for mut row in rows {
            recovered.recordings += 1;
            let leg = store::calls::find(store, row.leg).await?.as_ref().and_then(records::leg_of);
            if let (Some(recording), Some(leg)) = (records::recording_of(&row), leg) {
                let leg = Arc::new(leg);
                let recording = finish_recording(services, ended, recording, &leg).await?;
                // The server ran at least until the end of this recording.
                last_alive = last_alive.max(recording.ended_at.unwrap_or(recording.started_at));
                if recording.spec.source == RecordingSource::Outbound {
                    own.insert(leg.id, recording);
                }
            } else {
                // The leg is unknown. The record is ended here, so that the next query does not return it again.
                row.status = "failed".to_owned();
                row.ended_at = Some(last_alive);
                store::recordings::upsert(store, row).await?;
            }
        }
    }
    loop {
        let rows = store::calls::unfinished(store, &ended.owner).await?;
        if rows.is_empty() {
            break;
        }
        for mut row in rows {
            recovered.legs += 1;
            if let Some(mut leg) = records::leg_of(&row) {
                if leg.direction != Direction::Inbound && leg.answered_at.is_none() {
                    recovered.unanswered.extend(leg.sip.call_id.as_deref().map(str::to_owned));
                }
                let dialog = leg.sip.dialog.take().filter(|_| leg.answered_at.is_some());
                recovered.dialogs.extend(dialog.and_then(|dialog| dialog.parse().ok()));
                finish_leg(services, own.get(&leg.id), leg, last_alive).await?;
            } else {
                row.status = records::status_word(Status::Failed).to_owned();
                row.ended_at = Some(last_alive);
                store::calls::upsert(store, row).await?;
            }
        }
    }
    recovered.conferences = conferences::recover(&services.conferences, &ended.owner, last_alive).await?;
    if ended.has_files {
        recovered.adopted = adopt_recordings(services, stopped).await?;
    }
    store.flush().await?;
    Ok(recovered)
}

/// Sends BYE for the dialogs of an earlier process, in small batches. Each BYE waits up to 32 s for a response, and new
/// calls need transactions at the same time. Calls whose INVITE had no answer are ended when the answer comes.
pub async fn end_dialogs(sip: &tandem_sip::transport::Handle, dialogs: Vec<DialogState>, unanswered: Vec<String>) {
    if !unanswered.is_empty() {
        sip.post(tandem_sip::Command::EndUnanswered(unanswered));
    }
    let mut dialogs = dialogs.into_iter();
    let mut every = tokio::time::interval(BYE_INTERVAL);
    while dialogs.len() > 0 {
        every.tick().await;
        for dialog in dialogs.by_ref().take(BYE_BATCH) {
            sip.post(tandem_sip::Command::End(Box::new(dialog)));
        }
    }
}

async fn finish_leg(
    services: &Arc<Services>,
    own: Option<&Recording>,
    mut leg: LegInfo,
    last_alive: Timestamp,
) -> Result<(), StoreError> {
    // The leg existed at least until its answer, and the server ran at least until its last heartbeat.
    let at = last_alive.max(leg.answered_at.unwrap_or(leg.created_at));
    let text = CRASHED.to_owned();
    let detail = Some(text.clone());
    leg.end =
        Some(LegEnd { at, cause: EndCause::Failed, by: EndedBy::Server, sip_status: None, detail, failure: None });
    leg.status = if leg.answered_at.is_some() { Status::Completed } else { Status::Failed };
    stored_log::late(
        &services.store,
        leg.session,
        Line { at, leg: Some(leg.id), kind: "call".into(), text, data: None },
    );
    let problem = Problem::new(Cause::Crash, format!("call from {} to {} {CRASHED}", leg.from, leg.to));
    stored_log::late(&services.store, leg.session, problem.advice_line(at, Some(leg.id)));
    services.report(&leg, clock::time(), problem);
    let event = CallEvent { at: clock::time(), leg: Arc::new(leg), kind: EventKind::Ended };
    deliver(services, &event, own).await?;
    store::calls::upsert(&services.store, records::call_row(&event.leg, event.at)).await
}

async fn finish_recording(
    services: &Arc<Services>,
    ended: &Ended,
    mut recording: Recording,
    leg: &Arc<LegInfo>,
) -> Result<Recording, StoreError> {
    let path = services.recording_path(recording.id);
    let repaired = if !ended.has_files {
        Ok(Err(io::Error::other("the file is on the disk of the node that died")))
    } else {
        let (path, key) = (path.clone(), services.recordings.key.clone());
        tokio::task::spawn_blocking(move || tandem_media::repair_recording(&path, key.as_ref())).await
    };
    let mut ended_at = recording.started_at;
    match repaired {
        Ok(Ok(length)) => {
            ended_at = ended_at.checked_add(length).unwrap_or(ended_at);
            recording.duration = Some(length);
            recording.status = if length.is_zero() { RecordingStatus::Absent } else { RecordingStatus::Completed };
        }
        Ok(Err(error)) => recording.status = RecordingStatus::Failed(error.to_string()),
        Err(error) => recording.status = RecordingStatus::Failed(error.to_string()),
    }
    recording.ended_at = Some(ended_at);
    warn_if_lost(recording.id, &recording.status);
    let row = records::recording_row(&recording, leg, &path);
    let kind = EventKind::Recording(recording.clone());
    deliver(services, &CallEvent { at: clock::time(), leg: Arc::clone(leg), kind }, None).await?;
    if recording.spec.source == RecordingSource::Outbound
        && let Some(end) = &leg.end
    {
        // The leg had ended, and the notice of the end was waiting for the end of the recording.
        let event = CallEvent { at: end.at, leg: Arc::clone(leg), kind: EventKind::Ended };
        deliver(services, &event, Some(&recording)).await?;
    }
    store::recordings::upsert(&services.store, row).await?;
    Ok(recording)
}

/// Creates a record for each recording file without a record. Such files exist if the earlier process was killed before
/// it stored the record. Only files that began after the last heartbeat, or at most 10 s before the last heartbeat, are
/// considered. An older file without a record is left over from a deletion.
///
/// The call of the file is unknown. So the file becomes a recording of the operator's account, without a call. If there
/// is no operator's account or more than one, the file stays in its folder, and a log line contains the path of the
/// file.
async fn adopt_recordings(services: &Arc<Services>, stopped: Option<Timestamp>) -> Result<usize, StoreError> {
    let Some(since) = stopped.and_then(|at| at.checked_sub(UNSTORED).ok()) else { return Ok(0) };
    let folder = services.recordings.folder.clone();
    let found = tokio::task::spawn_blocking(move || recordings_since(&folder, since)).await;
    let found = match found.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the folder of recordings cannot be read");
            return Ok(0);
        }
    };
    let operators: Vec<_> =
        services.accounts.all().iter().filter(|one| services.accounts.is_operator(one)).cloned().collect();
    let mut adopted = 0;
    for id in found {
        if store::recordings::find(&services.store, id.0).await?.is_some() {
            continue;
        }
        let path = services.recording_path(id);
        let [owner] = operators.as_slice() else {
            tracing::warn!(
                "a recording without a record stays where it is, because the owner is unknown: {}",
                path.display()
            );
            continue;
        };
        let key = services.recordings.key.clone();
        let read = tokio::task::spawn_blocking(move || repaired(&path, key.as_ref())).await;
        let (length, channels) = match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, recording = %id, "a recording without a record cannot be read; it stays where it is");
                continue;
            }
        };
        let started_at = began(id.0);
        let recording = Recording {
            id,
            leg: LegId(0),
            conference: None,
            spec: RecordingSpec::new(RecordingSource::Request, channels),
            started_at,
            ended_at: Some(started_at.checked_add(length).unwrap_or(started_at)),
            duration: Some(length),
            limit: None,
            status: if length.is_zero() { RecordingStatus::Absent } else { RecordingStatus::Completed },
        };
        let row = records::adopted_recording_row(&recording, &owner.name, &services.recording_path(id));
        store::recordings::upsert(&services.store, row).await?;
        tracing::warn!(recording = %id, account = %owner.name, "a recording without a record was adopted; its call is unknown");
        adopted += 1;
    }
    Ok(adopted)
}

/// Returns the recordings in a folder that began at `since` or later. The id in a file name contains the start time of
/// the recording.
fn recordings_since(folder: &Path, since: Timestamp) -> io::Result<Vec<RecordingId>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".wav")).filter(|digits| digits.len() == 32);
        if let Some(id) = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok())
            && began(id) >= since
        {
            found.push(RecordingId(id));
        }
    }
    Ok(found)
}

/// Returns the time at which an id was created. The first 48 bits of the id contain this time in milliseconds.
fn began(id: u128) -> Timestamp {
    i64::try_from(id >> 80).ok().and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Repairs the file of a recording. Returns the duration and the channels of the recording.
fn repaired(path: &Path, key: Option<&RecordingKey>) -> io::Result<(Duration, RecordingChannels)> {
    let length = tandem_media::repair_recording(path, key)?;
    let mut header = [0; 24];
    RecordedFile::open(path, key)?.read_exact(&mut header)?;
    // The format chunk of a WAV file contains the number of channels.
    let dual = matches!(header, [.., 2, 0]);
    Ok((length, if dual { RecordingChannels::Dual } else { RecordingChannels::Mono }))
}

fn warn_if_lost(id: RecordingId, status: &RecordingStatus) {
    if let RecordingStatus::Failed(why) = status {
        tracing::warn!(recording = %id, %why, "recording could not be repaired");
    }
}

async fn deliver(services: &Arc<Services>, event: &CallEvent, own: Option<&Recording>) -> Result<(), StoreError> {
    let written = store::deliveries::list(&services.store, event.leg.session.0).await?;
    for delivery in services.notices(event, numbered(&written, &event.leg), own) {
        // If a delivery with this id exists, the earlier process queued the delivery and was killed before it wrote the
        // record.
        if written.iter().all(|row| row.id != delivery.id) {
            services.deliveries.enqueue(delivery).await?;
        }
    }
    Ok(())
}

/// Returns the number of notices with a sequence number that the earlier process stored for the leg.
fn numbered(written: &[DeliveryRow], leg: &LegInfo) -> u32 {
    let id = leg.id.to_string();
    let deliveries = written.iter().filter_map(|row| serde_json::from_str::<Delivery>(&row.request).ok());
    let count = deliveries.filter(|delivery| delivery.numbered.as_ref() == Some(&id)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
