//! The stored records of conferences and their participants. The data of live conferences comes from memory.

use std::sync::Arc;

use tandem_call::conference::event::{
    ConferenceEvent, ConferenceEventKind, ConferenceInfo, ConferenceStatus, ParticipantInfo, ParticipantStatus,
};
use tandem_history::query::{Page, Range};
use tandem_history::recordings::RecordingFiles;
use tandem_history::records;
use tandem_id::{AccountName, ConferenceId, LegId};
use tandem_store::resources::{self, Filter, Kind, Resource};
use tandem_store::{self as store, Cursor, OwnedBy, Store, StoreError};

use super::Conferences;

/// Number of rows that one query reads.
const PAGE_SIZE: u32 = 1_000;

/// The kind of the stored records of conferences.
const CONFERENCE: fn() -> Kind<ConferenceInfo> = || Kind::new("conference");
/// The kind of the stored records of participants. The parent of each record is the record of the conference.
const PARTICIPANT: fn() -> Kind<ParticipantInfo> = || Kind::new("participant");
/// A mark for each conference that has not ended. After a crash, the recovery ends the marked conferences.
const LIVE: fn() -> Kind<()> = || Kind::new("live conference");

#[derive(Clone, Debug, Default)]
pub struct ConferenceFilter {
    /// If set, only conferences with this name pass.
    pub name: Option<String>,
    /// If not empty, only conferences in one of these states pass.
    pub states: &'static [ConferenceStatus],
    /// Only conferences that were created in this range of time pass.
    pub created: Range,
    /// Only conferences whose last change was in this range of time pass.
    pub updated: Range,
}

impl ConferenceFilter {
    fn fits(&self, info: &ConferenceInfo) -> bool {
        self.name.as_deref().is_none_or(|name| *info.name == *name)
            && (self.states.is_empty() || self.states.contains(&info.status))
            && self.created.contains(info.created_at)
            && self.updated.contains(info.updated_at)
    }
}

/// Stores the changes that an event causes in the records.
pub(super) async fn write(store: &Store, files: &RecordingFiles, event: &ConferenceEvent) -> Result<(), StoreError> {
    let info = &event.conference;
    match &event.kind {
        ConferenceEventKind::Opened => {
            put(store, info).await?;
            resources::put(store, LIVE(), &mark(info)).await?;
        }
        // The status changes, and other nodes of a cluster read it.
        ConferenceEventKind::Entered | ConferenceEventKind::Started => put(store, info).await?,
        ConferenceEventKind::Ended => {
            put(store, info).await?;
            resources::delete(store, LIVE(), &info.account, mark(info).id).await?;
        }
        ConferenceEventKind::Expected(participant)
        | ConferenceEventKind::Joined(participant)
        | ConferenceEventKind::Left { participant, .. } => {
            let row = Resource {
                id: participant.leg.0 ^ info.id.0,
                account: info.account.clone(),
                parent: Some(info.id.0),
                name: participant.leg.to_string(),
                claim: None,
                details: participant.clone(),
                created_at: participant.created_at,
                updated_at: participant.updated_at,
            };
            resources::put(store, PARTICIPANT(), &row).await?;
        }
        ConferenceEventKind::Recording(recording) => {
            let path = files.path(recording.id);
            let row = records::conference_recording_row(recording, info, &path);
            store::recordings::upsert(store, row).await?;
            if recording.ended_at.is_some() {
                files.complete(recording.id);
            }
        }
        // These events change only state that is read from memory.
        ConferenceEventKind::Muted(_)
        | ConferenceEventKind::Held(_)
        | ConferenceEventKind::Modified(_)
        | ConferenceEventKind::ActiveSpeaker(_)
        | ConferenceEventKind::Played(_)
        | ConferenceEventKind::Speaks { .. }
        | ConferenceEventKind::Announced { .. }
        | ConferenceEventKind::Stream(_) => {}
    }
    Ok(())
}

async fn put(store: &Store, info: &ConferenceInfo) -> Result<(), StoreError> {
    let row = Resource {
        id: info.id.0,
        account: info.account.clone(),
        parent: None,
        name: info.name.to_string(),
        claim: None,
        details: info.clone(),
        created_at: info.created_at,
        updated_at: info.updated_at,
    };
    resources::put(store, CONFERENCE(), &row).await.map(drop)
}

fn mark(info: &ConferenceInfo) -> Resource<()> {
    Resource {
        id: !info.id.0,
        account: info.account.clone(),
        parent: Some(info.id.0),
        name: info.name.to_string(),
        claim: None,
        details: (),
        created_at: info.created_at,
        updated_at: info.created_at,
    }
}

/// Returns the account's conference with this id, live or ended.
pub async fn get(
    conferences: &Conferences,
    account: &AccountName,
    id: ConferenceId,
) -> Result<Option<Arc<ConferenceInfo>>, StoreError> {
    if let Some(seen) = conferences.get(account, id) {
        return Ok(Some(seen.info));
    }
    let row = resources::get(&conferences.0.services.store, CONFERENCE(), account, id.0).await?;
    Ok(row.map(|row| Arc::new(row.details)))
}

/// Returns the live conference with this name. If there is none, returns the newest ended conference with this name.
pub async fn named(
    conferences: &Conferences,
    account: &AccountName,
    name: &str,
) -> Result<Option<Arc<ConferenceInfo>>, StoreError> {
    let live = conferences.find(account, name).and_then(|id| conferences.get(account, ConferenceId(id)));
    if let Some(seen) = live {
        return Ok(Some(seen.info));
    }
    let row = resources::named(&conferences.0.services.store, CONFERENCE(), account, name).await?;
    Ok(row.map(|row| Arc::new(row.details)))
}

/// Returns the account's conferences that pass the filter, newest conference first. Returns at most `page.limit + 1`
/// conferences.
pub async fn list(
    conferences: &Conferences,
    account: &AccountName,
    filter: &ConferenceFilter,
    page: Page,
) -> Result<Vec<Arc<ConferenceInfo>>, StoreError> {
    let store = &conferences.0.services.store;
    let mut found: Vec<Arc<ConferenceInfo>> = Vec::new();
    let live = conferences.all(account);
    let mut after = match page.after {
        Some(id) => resources::cursor(store, account, id).await?,
        None => None,
    };
    let limit = page.offset.saturating_add(page.limit.min(PAGE_SIZE as usize) + 1);
    let stored = Filter { name: filter.name.as_deref(), created: filter.created.into(), ..Filter::default() };
    // The newest conferences may exist only in memory so far.
    let first = after.is_none();
    // The conferences of this node that have not ended are all in memory, and the first page has all of them.
    let stored_too = filter.states.is_empty() || filter.states.contains(&ConferenceStatus::Completed) || !first;
    if !stored_too && conferences.0.services.cluster.is_on() {
        found = live_elsewhere(conferences, account, &stored).await?;
        found.retain(|info| filter.fits(info) && live.iter().all(|seen| seen.info.id != info.id));
    }
    loop {
        if !stored_too {
            break;
        }
        let part = store::Page { limit: PAGE_SIZE, after, offset: 0 };
        let rows = resources::list(store, CONFERENCE(), account, &stored, &part).await?;
        let last = rows.last().map(|row| Cursor { at: row.created_at, id: row.id });
        let whole = rows.len() < PAGE_SIZE as usize;
        for row in rows {
            let now = live.iter().find(|seen| seen.info.id.0 == row.id).map(|seen| Arc::clone(&seen.info));
            found.push(now.unwrap_or_else(|| Arc::new(row.details)));
        }
        found.retain(|info| filter.fits(info));
        match last {
            Some(last) if !whole && found.len() < limit => after = Some(last),
            _ => break,
        }
    }
    if first {
        let unwritten = live.iter().map(|seen| &seen.info).filter(|info| filter.fits(info));
        let unwritten: Vec<_> =
            unwritten.filter(|info| found.iter().all(|one| one.id != info.id)).map(Arc::clone).collect();
        found.splice(0..0, unwritten);
        found.sort_by_key(|info| std::cmp::Reverse((info.created_at, info.id)));
    }
    found.drain(..page.offset.min(found.len()));
    found.truncate(page.limit + 1);
    Ok(found)
}

/// Returns the unfinished conferences of all nodes, at most 1,000, as they are stored.
async fn live_elsewhere(
    conferences: &Conferences,
    account: &AccountName,
    filter: &Filter<'_>,
) -> Result<Vec<Arc<ConferenceInfo>>, StoreError> {
    let store = &conferences.0.services.store;
    let marks = resources::list(store, LIVE(), account, filter, &store::Page::first(PAGE_SIZE)).await?;
    let mut found = Vec::with_capacity(marks.len());
    for id in marks.iter().filter_map(|mark| mark.parent) {
        let row = resources::get(store, CONFERENCE(), account, id).await?;
        found.extend(row.map(|row| Arc::new(row.details)));
    }
    Ok(found)
}

/// Returns at most 1,000 participants of a conference, in the order of their arrival. The result includes participants
/// that have left, and legs that were called and did not join.
pub async fn participants(
    conferences: &Conferences,
    account: &AccountName,
    id: ConferenceId,
) -> Result<Vec<ParticipantInfo>, StoreError> {
    let there = conferences.get(account, id).map(|seen| seen.participants).unwrap_or_default();
    let filter = Filter { parent: Some(id.0), ..Filter::default() };
    let rows =
        resources::list(&conferences.0.services.store, PARTICIPANT(), account, &filter, &store::Page::first(PAGE_SIZE))
            .await?;
    let gone = rows.into_iter().rev().map(|row| row.details);
    let mut all: Vec<_> = gone.filter(|one| there.iter().all(|now| now.leg != one.leg)).collect();
    all.extend(there.iter().cloned());
    Ok(all)
}

/// Returns a participant of a conference, even if the participant has left.
pub async fn participant(
    conferences: &Conferences,
    account: &AccountName,
    id: ConferenceId,
    leg: LegId,
) -> Result<Option<ParticipantInfo>, StoreError> {
    let there = conferences.get(account, id);
    if let Some(one) = there.and_then(|seen| seen.participants.into_iter().find(|one| one.leg == leg)) {
        return Ok(Some(one));
    }
    let row = resources::get(&conferences.0.services.store, PARTICIPANT(), account, leg.0 ^ id.0).await?;
    Ok(row.map(|row| row.details))
}

/// A conference that was live when the server crashed. The value contains the participants and the legs that the server
/// was calling for the conference.
pub(super) struct UnfinishedConference {
    pub(super) info: ConferenceInfo,
    /// The participants in the order of their arrival, at most 1,000 participants.
    pub(super) participants: Vec<ParticipantInfo>,
}

/// Returns the conferences of `owner` that were live when their server crashed.
pub(super) async fn unfinished(store: &Store, owner: &OwnedBy) -> Result<Vec<UnfinishedConference>, StoreError> {
    let mut left = Vec::new();
    for mark in resources::all(store, LIVE()).await?.into_iter().filter(|mark| owner.includes(!mark.id)) {
        match resources::get(store, CONFERENCE(), &mark.account, !mark.id).await? {
            Some(row) => {
                let filter = Filter { parent: Some(row.id), ..Filter::default() };
                let page = store::Page::first(PAGE_SIZE);
                let participants = resources::list(store, PARTICIPANT(), &mark.account, &filter, &page).await?;
                let there = |one: &ParticipantInfo| {
                    matches!(one.status, ParticipantStatus::Expected | ParticipantStatus::Connected)
                };
                let participants = participants.into_iter().rev().map(|row| row.details).filter(there).collect();
                left.push(UnfinishedConference { info: row.details, participants });
            }
            None => drop(resources::delete(store, LIVE(), &mark.account, mark.id).await?),
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tandem_call::conference::ConferenceSettings;

    use super::*;

    fn room(status: ConferenceStatus) -> ConferenceInfo {
        ConferenceInfo {
            id: ConferenceId(7),
            account: AccountName::new("acme"),
            dialect: "test".into(),
            name: "room".into(),
            status,
            opening: Arc::new(ConferenceSettings::default()),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: second(1),
            end: None,
            application: None,
        }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn participant(leg: u128, status: ParticipantStatus) -> ParticipantInfo {
        let stored = r#"{"conference":"room","muted":false,"waits":false,"ends":true,"beep":"Both","most":7}"#;
        let participation = serde_json::from_str(stored).unwrap();
        let at = second(leg as i64);
        ParticipantInfo { leg: LegId(leg), participation, status, created_at: at, updated_at: at }
    }

    async fn open(folder: &tempfile::TempDir) -> Store {
        Store::open(&format!("sqlite:{}", folder.path().join("test.db").display())).await.unwrap()
    }

    /// Stores the changes of these events of one conference.
    async fn stored(store: &Store, status: ConferenceStatus, events: Vec<ConferenceEventKind>) {
        let files = RecordingFiles::new(&Default::default(), "data".as_ref()).unwrap();
        for kind in events {
            let (at, conference) = (Timestamp::UNIX_EPOCH, Arc::new(room(status)));
            let event = ConferenceEvent { at, conference, leg: None, first: None, kind };
            write(store, &files, &event).await.unwrap();
        }
    }

    #[tokio::test]
    async fn conferences_that_were_live_before_a_crash_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let info = room(ConferenceStatus::InProgress);
        put(&store, &info).await.unwrap();
        resources::put(&store, LIVE(), &mark(&info)).await.unwrap();
        let left = unfinished(&store, &OwnedBy::Anybody).await.unwrap();
        assert_eq!(left.iter().map(|one| one.info.id).collect::<Vec<_>>(), [ConferenceId(7)]);
        resources::delete(&store, CONFERENCE(), &AccountName::new("acme"), 7).await.unwrap();
        assert!(unfinished(&store, &OwnedBy::Anybody).await.unwrap().is_empty(), "it was deleted");
        store.close().await;
    }

    #[tokio::test]
    async fn a_conference_is_unfinished_from_its_first_to_its_last_event() {
        use ConferenceEventKind::{Ended, Opened, Started};
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        stored(&store, ConferenceStatus::InProgress, vec![Opened, Started]).await;
        let left = unfinished(&store, &OwnedBy::Anybody).await.unwrap();
        assert_eq!(left.iter().map(|one| one.info.status).collect::<Vec<_>>(), [ConferenceStatus::InProgress]);
        stored(&store, ConferenceStatus::Completed, vec![Ended]).await;
        assert!(unfinished(&store, &OwnedBy::Anybody).await.unwrap().is_empty());
        let row = resources::get(&store, CONFERENCE(), &AccountName::new("acme"), 7).await.unwrap().unwrap();
        assert_eq!(row.details.status, ConferenceStatus::Completed, "the record stays");
        store.close().await;
    }

    #[tokio::test]
    async fn after_a_crash_the_present_and_the_called_participants_are_found_in_the_order_of_their_arrival() {
        use ConferenceEventKind::{Expected, Joined, Left, Opened};
        use tandem_call::conference::event::LeftReason;
        use tandem_call::leg::Status;
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let left = |leg, status| Left {
            participant: participant(leg, status),
            why: LeftReason::Itself,
            call: Status::Completed,
        };
        let events = vec![
            Opened,
            Joined(participant(1, ParticipantStatus::Connected)),
            Expected(participant(2, ParticipantStatus::Expected)),
            Expected(participant(3, ParticipantStatus::Expected)),
            Joined(participant(4, ParticipantStatus::Connected)),
            left(1, ParticipantStatus::Left),
            left(3, ParticipantStatus::Failed),
        ];
        stored(&store, ConferenceStatus::InProgress, events).await;
        let found = unfinished(&store, &OwnedBy::Anybody).await.unwrap();
        let legs: Vec<_> = found[0].participants.iter().map(|one| (one.leg.0, one.status)).collect();
        assert_eq!(legs, [(2, ParticipantStatus::Expected), (4, ParticipantStatus::Connected)]);
        store.close().await;
    }

    #[test]
    fn a_conference_passes_a_filter_only_if_its_name_state_and_times_fit() {
        let info = room(ConferenceStatus::InProgress);
        let fits = |filter: ConferenceFilter| filter.fits(&info);
        let at = |from, until| Range { from: Some(second(from)), until: Some(second(until)) };
        assert!(fits(ConferenceFilter::default()));
        assert!(fits(ConferenceFilter { name: Some("room".to_owned()), ..Default::default() }));
        assert!(!fits(ConferenceFilter { name: Some("Room".to_owned()), ..Default::default() }));
        assert!(fits(ConferenceFilter { states: &[ConferenceStatus::InProgress], ..Default::default() }));
        assert!(!fits(ConferenceFilter { states: &[ConferenceStatus::Completed], ..Default::default() }));
        assert!(fits(ConferenceFilter { created: at(0, 1), updated: at(1, 2), ..Default::default() }));
        assert!(!fits(ConferenceFilter { created: at(1, 2), ..Default::default() }));
        assert!(!fits(ConferenceFilter { updated: at(0, 1), ..Default::default() }), "the end is exclusive");
    }

    #[test]
    fn coaching_of_one_or_several_legs_is_read_from_records() {
        use tandem_call::conference::Coaching;
        let several = Coaching::of(vec![LegId(1), LegId(2)]);
        let text = serde_json::to_string(&several).unwrap();
        assert_eq!(serde_json::from_str::<Coaching>(&text).unwrap(), several);
        let old = serde_json::json!({ "whom": LegId(1), "on": true }).to_string();
        assert_eq!(serde_json::from_str::<Coaching>(&old).unwrap(), Coaching::of(vec![LegId(1)]));
    }

    #[test]
    fn fields_of_stored_records_keep_their_names() {
        use tandem_call::conference::Participation;
        use tandem_call::{Callback, Method, Target};
        let stored = r#"{"conference":"room","muted":false,"waits":false,"ends":true,"beep":"Both","most":7}"#;
        let participation: Participation = serde_json::from_str(stored).unwrap();
        assert_eq!((&*participation.conference, participation.max_participants), ("room", 7));
        let target = Target { url: "http://127.0.0.1/".into(), method: Method::Post };
        let callback = Callback::new(target, Vec::new());
        assert!(serde_json::to_value(callback).unwrap().get("moments").is_some());
    }
}
