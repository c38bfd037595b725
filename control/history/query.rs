//! Queries for legs and recordings: filters and pages.

use jiff::Timestamp;
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::recording::RecordingStatus;
use tandem_id::{CallId, LegId};
use tandem_store::calls::CallFilter;
use tandem_store::{self as store, TimeRange};

use crate::records;

/// Criteria for legs. A leg must match every criterion that is set.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LegFilter {
    /// The called party. The comparison is exact.
    pub to: Option<String>,
    /// The calling party. The comparison is exact.
    pub from: Option<String>,
    pub parent: Option<LegId>,
    /// The call in which the leg was created.
    pub session: Option<CallId>,
    /// The id of the leg's application.
    pub application: Option<String>,
    /// The allowed states. If the list is empty, every state is allowed.
    pub status: Vec<Status>,
    pub direction: Option<Direction>,
    /// Whether only legs that have not ended match.
    pub live: bool,
    /// Range for the time of the answer. A leg that was never answered does not match a range.
    pub answered: Range,
    /// Range for the time of the end.
    pub ended: Range,
}

/// Criteria for recordings. A recording must match every criterion that is set.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RecordingFilter {
    pub leg: Option<LegId>,
    /// The call of the recorded leg, or the recorded conference.
    pub session: Option<CallId>,
    /// The calling party of the recorded leg. The comparison is exact.
    pub from: Option<String>,
    /// The called party of the recorded leg. The comparison is exact.
    pub to: Option<String>,
    /// Whether only recordings with a complete file match.
    pub completed: bool,
    /// Range for the time of the start.
    pub started: Range,
    /// Range for the time of the end.
    pub ended: Range,
}

/// A half-open range of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// Start of the range, inclusive. `None` means no limit.
    pub from: Option<Timestamp>,
    /// End of the range, exclusive. `None` means no limit.
    pub until: Option<Timestamp>,
}

impl Range {
    /// Whether the time is in the range.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }
}

/// A page of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Maximum number of entries on the page. The highest value is 1,000.
    pub limit: usize,
    /// The id of the last entry on the previous page. The page contains only entries that are older than this entry.
    /// New entries do not change the page.
    pub after: Option<u128>,
    /// Number of entries to skip.
    pub offset: usize,
}

impl LegFilter {
    /// Returns the criteria that the database checks.
    pub fn columns(&self) -> CallFilter {
        CallFilter {
            to: self.to.clone(),
            from: self.from.clone(),
            parent: self.parent.map(|id| id.0),
            session: self.session.map(|id| id.0),
            status: self.status.iter().map(|status| records::status_word(*status).to_owned()).collect(),
            dialect: None,
            direction: self.direction.map(|direction| records::direction_word(direction).to_owned()),
            live: self.live || !self.status.is_empty() && self.status.iter().all(|status| !status.is_final()),
            created: TimeRange::default(),
            answered: self.answered.into(),
            ended: self.ended.into(),
        }
    }

    /// Checks the criteria that the database does not check.
    pub fn fits(&self, leg: &LegInfo) -> bool {
        self.application.as_deref().is_none_or(|id| leg.application.as_deref() == Some(id))
    }
}

impl RecordingFilter {
    /// Converts the criteria to the form of the database.
    pub fn columns(&self) -> store::recordings::RecordingFilter {
        let completed = || records::recording_status_word(&RecordingStatus::Completed).to_owned();
        store::recordings::RecordingFilter {
            leg: self.leg.map(|id| id.0),
            session: self.session.map(|id| id.0),
            from: self.from.clone(),
            to: self.to.clone(),
            dialect: None,
            status: self.completed.then(completed).into_iter().collect(),
            created: self.started.into(),
            ended: self.ended.into(),
        }
    }
}

impl Page {
    /// Converts the page to the form of the database, starting after this row. The limit is one entry higher than
    /// `limit`, so that the result shows whether another page follows.
    pub fn after(self, row: Option<store::Cursor>) -> store::Page {
        let limit = u32::try_from(self.limit.min(1_000) + 1).unwrap_or(1_001);
        store::Page { limit, after: row, before: None, offset: self.offset as u64 }
    }
}

impl From<Range> for TimeRange {
    fn from(range: Range) -> Self {
        Self { since: range.from, before: range.until }
    }
}
