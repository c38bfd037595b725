//! After a crash: what was alive is ended with the truth, recordings are made playable, and what applications should have
//! heard is told.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::id::RecordingId;
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegInfo, Status};
use tandem_call::recording::{Recording, RecordingSource, RecordingStatus};

use crate::clock;
use crate::conferences;
use crate::event_log::{self, Line};
use crate::records;
use crate::services::Services;
use crate::store::deliveries::DeliveryRow;
use crate::store::{self, StoreError};
use crate::webhook::Delivery;

/// What was left unfinished by an earlier process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Legs that were alive.
    pub legs: usize,
    /// Recordings that ran.
    pub recordings: usize,
    /// Conferences that went on.
    pub conferences: usize,
}

/// Ends what an earlier process left unfinished. Recordings first: an application hears of them before the end.
pub async fn recover(services: &Arc<Services>) -> Result<Recovered, StoreError> {
    let store = &services.store;
    let mut last_alive = store::server::last_alive(store).await?.unwrap_or_else(clock::time);
    let mut recovered = Recovered::default();
    // Those asked for with their leg, whose end tells of them.
    let mut own = HashMap::new();
    loop {
        let rows = store::recordings::unfinished(store).await?;
        if rows.is_empty() {
            break;
        }
        for mut row in rows {
            recovered.recordings += 1;
            let leg = store::calls::find(store, row.leg).await?.as_ref().and_then(records::leg_of);
            if let (Some(recording), Some(leg)) = (records::recording_of(&row), leg) {
                let leg = Arc::new(leg);
                let recording = finish_recording(services, recording, &leg).await?;
                // What was recorded was alive.
                last_alive = last_alive.max(recording.ended_at.unwrap_or(recording.started_at));
                if recording.spec.source == RecordingSource::Outbound {
                    own.insert(leg.id, recording);
                }
            } else {
                // Nobody knows any more what it was of; it must not come again.
                row.status = "failed".to_owned();
                row.ended_at = Some(last_alive);
                store::recordings::upsert(store, row).await?;
            }
        }
    }
    loop {
        let rows = store::calls::unfinished(store).await?;
        if rows.is_empty() {
            break;
        }
        for mut row in rows {
            recovered.legs += 1;
            if let Some(leg) = records::leg_of(&row) {
                finish_leg(services, own.get(&leg.id), leg, last_alive).await?;
            } else {
                row.status = records::status_word(Status::Failed).to_owned();
                row.ended_at = Some(last_alive);
                store::calls::upsert(store, row).await?;
            }
        }
    }
    recovered.conferences = conferences::recover(services, last_alive).await?;
    store.flush().await?;
    Ok(recovered)
}

async fn finish_leg(
    services: &Arc<Services>,
    own: Option<&Recording>,
    mut leg: LegInfo,
    last_alive: Timestamp,
) -> Result<(), StoreError> {
    // It lived at least until its last sign of life, and the server at least until its last heartbeat.
    let at = last_alive.max(leg.answered_at.unwrap_or(leg.created_at));
    let text = "ended by a crash of the server".to_owned();
    let detail = Some(text.clone());
    leg.end = Some(LegEnd { at, cause: EndCause::Failed, by: EndedBy::Server, sip_status: None, detail });
    leg.status = if leg.answered_at.is_some() { Status::Completed } else { Status::Failed };
    event_log::late(&services.store, leg.session, Line { at, leg: Some(leg.id), kind: "call".into(), text });
    let event = CallEvent { at: clock::time(), leg: Arc::new(leg), kind: EventKind::Ended };
    deliver(services, &event, own).await?;
    store::calls::upsert(&services.store, records::call_row(&event.leg, event.at)).await
}

async fn finish_recording(
    services: &Arc<Services>,
    mut recording: Recording,
    leg: &Arc<LegInfo>,
) -> Result<Recording, StoreError> {
    let path = services.recording_path(recording.id);
    let repaired = {
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
        // Its leg had ended, which was to be told when the recording would be whole.
        let event = CallEvent { at: end.at, leg: Arc::clone(leg), kind: EventKind::Ended };
        deliver(services, &event, Some(&recording)).await?;
    }
    store::recordings::upsert(&services.store, row).await?;
    Ok(recording)
}

fn warn_if_lost(id: RecordingId, status: &RecordingStatus) {
    if let RecordingStatus::Failed(why) = status {
        tracing::warn!(recording = %id, %why, "recording could not be repaired");
    }
}

async fn deliver(services: &Arc<Services>, event: &CallEvent, own: Option<&Recording>) -> Result<(), StoreError> {
    let written = store::deliveries::list(&services.store, event.leg.session.0).await?;
    for delivery in services.notices(event, numbered(&written, &event.leg), own) {
        // Else the earlier process told it, and was killed before it wrote the record.
        if written.iter().all(|row| row.id != delivery.id) {
            services.deliveries().enqueue(delivery).await?;
        }
    }
    Ok(())
}

/// How many of the leg's numbered notices the earlier process had written down.
fn numbered(written: &[DeliveryRow], leg: &LegInfo) -> u32 {
    let id = leg.id.to_string();
    let deliveries = written.iter().filter_map(|row| serde_json::from_str::<Delivery>(&row.request).ok());
    let count = deliveries.filter(|delivery| delivery.numbered.as_ref() == Some(&id)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
