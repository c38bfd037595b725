//! Queries for legs and recordings: filters and pages.

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::recording::RecordingStatus;
use tandem_id::{AccountName, CallId, LegId};
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
            over: false,
            without_live_of: None,
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

/// Whether a leg matches the criteria. `accounts` are the accounts whose legs match.
pub fn selects(filter: &CallFilter, accounts: &[AccountName], leg: &LegInfo) -> bool {
    let CallFilter {
        to,
        from,
        parent,
        session,
        status,
        live,
        over,
        without_live_of: _,
        dialect,
        direction,
        created,
        answered,
        ended,
    } = filter;
    let is = |text: &Option<String>, of_leg: &str| text.as_deref().is_none_or(|text| text == of_leg);
    // The text of a party may need an allocation.
    let is_party = |text: &Option<String>, of_leg: &Address| text.as_deref().is_none_or(|text| text == of_leg.text());
    let ended_at = leg.end.as_ref().map(|end| end.at);
    let within = |range: &TimeRange, at: Option<Timestamp>| {
        *range == TimeRange::default() || at.is_some_and(|at| range.contains(at))
    };
    let is_other_state = *live && ended_at.is_some() || *over && ended_at.is_none();
    !is_other_state
        && session.is_none_or(|session| leg.session == CallId(session))
        && parent.is_none_or(|parent| leg.parent == Some(LegId(parent)))
        && within(ended, ended_at)
        && within(answered, leg.answered_at)
        && created.contains(leg.created_at)
        && (status.is_empty() || status.iter().any(|status| status == records::status_word(leg.status)))
        && is(dialect, &leg.dialect)
        && is(direction, records::direction_word(leg.direction))
        && is_party(from, &leg.from)
        && is_party(to, &leg.to)
        && accounts.contains(&leg.account)
}

/// Returns the position of a leg in a list with this filter. The database stores times in microseconds, so the position
/// has no smaller fraction.
pub fn cursor(filter: &CallFilter, leg: &LegInfo) -> store::Cursor {
    let ended_at = leg.end.as_ref().map(|end| end.at);
    let cursor = filter.cursor(leg.id.0, leg.created_at, leg.answered_at, ended_at);
    let at = Timestamp::from_microsecond(cursor.at.as_microsecond()).unwrap_or(cursor.at);
    store::Cursor { at, ..cursor }
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
        store::Page { limit, after: row, offset: self.offset as u64 }
    }
}

impl From<Range> for TimeRange {
    fn from(range: Range) -> Self {
        Self { since: range.from, before: range.until }
    }
}

#[cfg(test)]
mod tests {
    use tandem_call::leg::{EndCause, EndedBy, LegEnd};
    use tandem_call::testing::CallScript;

    use super::*;

    #[test]
    fn a_leg_in_memory_matches_the_same_criteria_as_its_record() {
        let info = (*CallScript::commanded().events().next().unwrap().leg).clone();
        let at = |second| Timestamp::from_second(second).unwrap();
        let leg = LegInfo {
            parent: Some(LegId(9)),
            status: Status::InProgress,
            created_at: at(10),
            answered_at: Some(at(20)),
            ..info
        };
        let range = |since, before| TimeRange { since: Some(at(since)), before: Some(at(before)) };
        let none = CallFilter::default;
        let is = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (none(), true),
            (CallFilter { live: true, ..none() }, true),
            (CallFilter { over: true, ..none() }, false),
            (CallFilter { to: is(&leg.to.text()), from: is(&leg.from.text()), ..none() }, true),
            (CallFilter { to: is("+15550009999"), ..none() }, false),
            (CallFilter { from: is("+15550009999"), ..none() }, false),
            (CallFilter { parent: Some(9), session: Some(leg.session.0), ..none() }, true),
            (CallFilter { parent: Some(8), ..none() }, false),
            (CallFilter { session: Some(leg.session.0 + 1), ..none() }, false),
            (CallFilter { status: vec!["ringing".into(), "in-progress".into()], ..none() }, true),
            (CallFilter { status: vec!["completed".into()], ..none() }, false),
            (CallFilter { dialect: is(&leg.dialect), direction: is("inbound"), ..none() }, true),
            (CallFilter { dialect: is("another"), ..none() }, false),
            (CallFilter { direction: is("outbound-api"), ..none() }, false),
            (CallFilter { created: range(10, 11), answered: range(20, 21), ..none() }, true),
            (CallFilter { created: range(9, 10), ..none() }, false),
            (CallFilter { answered: range(21, 22), ..none() }, false),
            (CallFilter { ended: range(0, 100), ..none() }, false),
        ] {
            assert_eq!(selects(&filter, std::slice::from_ref(&leg.account), &leg), expected, "{filter:?}");
        }
        assert!(!selects(&none(), &[AccountName::new("another")], &leg));
        let end = LegEnd {
            at: at(30),
            cause: EndCause::NormalClearing,
            by: EndedBy::Server,
            sip_status: None,
            detail: None,
            failure: None,
        };
        let ended = LegInfo { end: Some(end), ..leg.clone() };
        for (filter, expected) in [
            (none(), true),
            (CallFilter { live: true, ..none() }, false),
            (CallFilter { over: true, ended: range(30, 31), ..none() }, true),
            (CallFilter { ended: range(31, 32), ..none() }, false),
        ] {
            assert_eq!(selects(&filter, std::slice::from_ref(&ended.account), &ended), expected, "{filter:?}");
        }
        let unanswered = LegInfo { answered_at: None, ..leg };
        assert!(!selects(
            &CallFilter { answered: range(0, 100), ..none() },
            std::slice::from_ref(&unanswered.account),
            &unanswered
        ));
    }

    #[test]
    fn the_position_of_a_leg_has_the_precision_of_the_database() {
        let info = (*CallScript::commanded().events().next().unwrap().leg).clone();
        let leg = LegInfo { created_at: Timestamp::from_nanosecond(1_999).unwrap(), ..info };
        let position = cursor(&CallFilter::default(), &leg);
        assert_eq!((position.at, position.id), (Timestamp::from_microsecond(1).unwrap(), leg.id.0));
    }
}
