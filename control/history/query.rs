//! What is asked of the records: which legs, which recordings, which part of a list.

use jiff::Timestamp;
use tandem_call::id::{CallId, LegId};
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::recording::RecordingStatus;
use tandem_store::calls::CallFilter;
use tandem_store::{self as store, TimeRange};

use crate::records;

/// Which legs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LegFilter {
    /// Exactly this called party.
    pub to: Option<String>,
    /// Exactly this calling party.
    pub from: Option<String>,
    /// Children of this leg.
    pub parent: Option<LegId>,
    /// Legs born in this session.
    pub session: Option<CallId>,
    /// Of this application.
    pub application: Option<String>,
    /// In one of these states; all if empty.
    pub status: Vec<Status>,
    /// In this direction.
    pub direction: Option<Direction>,
    /// Answered (never answered: created) at or after / before.
    pub started: Range,
    /// Ended at or after / before.
    pub ended: Range,
}

/// Which recordings.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RecordingFilter {
    /// Of this leg.
    pub leg: Option<LegId>,
    /// Of this session.
    pub session: Option<CallId>,
    /// Of a leg with exactly this calling party.
    pub from: Option<String>,
    /// Of a leg with exactly this called party.
    pub to: Option<String>,
    /// Only those that are on disk, whole.
    pub completed: bool,
    /// Started at or after / before.
    pub started: Range,
    /// Ended at or after / before.
    pub ended: Range,
}

/// A half-open span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// At or after.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// A part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// How many, at most 1,000.
    pub limit: usize,
    /// Those after (older than) this id; stable while new ones arrive.
    pub after: Option<u128>,
    /// How many of them to pass over.
    pub offset: usize,
}

impl LegFilter {
    /// The part that the database knows.
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
    /// As the database knows it.
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
    /// The database's page behind this row, one longer.
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
