//! Queries for legs and recordings: filters and pages.

use jiff::Timestamp;
use tandem_call::id::{CallId, LegId};
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::recording::RecordingStatus;
use tandem_store::calls::CallFilter;
use tandem_store::{self as store, TimeRange};

use crate::records;

/// Criteria for legs; every field that is set must match.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LegFilter {
    /// The called party, compared exactly.
    pub to: Option<String>,
    /// The calling party, compared exactly.
    pub from: Option<String>,
    /// The parent leg.
    pub parent: Option<LegId>,
    /// The session in which the leg was created.
    pub session: Option<CallId>,
    /// The id of the leg's application.
    pub application: Option<String>,
    /// Allowed states; every state if empty.
    pub status: Vec<Status>,
    /// The direction of the leg.
    pub direction: Option<Direction>,
    /// Time of the answer, or of the creation if the leg was never answered.
    pub started: Range,
    /// Time of the end.
    pub ended: Range,
}

/// Criteria for recordings; every field that is set must match.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RecordingFilter {
    /// The recorded leg.
    pub leg: Option<LegId>,
    /// The session of the recorded leg, or the recorded conference.
    pub session: Option<CallId>,
    /// The calling party of the recorded leg, compared exactly.
    pub from: Option<String>,
    /// The called party of the recorded leg, compared exactly.
    pub to: Option<String>,
    /// Whether to return only recordings whose file is complete.
    pub completed: bool,
    /// Time of the start.
    pub started: Range,
    /// Time of the end.
    pub ended: Range,
}

/// A half-open range of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// Start of the range, inclusive; `None` for no bound.
    pub from: Option<Timestamp>,
    /// End of the range, exclusive; `None` for no bound.
    pub until: Option<Timestamp>,
}

/// A page of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Maximum number of entries, at most 1,000.
    pub limit: usize,
    /// Returns only entries after (older than) this id, which is stable while new entries arrive.
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
            created: self.started.into(),
            answered: TimeRange::default(),
            ended: self.ended.into(),
        }
    }

    /// The rest.
    pub fn fits(&self, leg: &LegInfo) -> bool {
        self.application.as_deref().is_none_or(|id| leg.application.as_deref() == Some(id))
    }
}

impl RecordingFilter {
    /// Returns the criteria in the form of the database.
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
    /// Returns the page of the database after this row. It has one entry more than `limit`, which shows whether another
    /// page follows.
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
