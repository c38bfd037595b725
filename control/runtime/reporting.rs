//! Writes notifications and reports of failures: into the log, and into the database beside the calls.

use jiff::Timestamp;
use tandem_call::id::LegId;
use tandem_call::leg::LegInfo;
use tandem_causes::Cause;
use tandem_clock as clock;
use tandem_history::report::{REPORTS, Report};
use tandem_history::trouble::{Level, TROUBLES, Trouble};
use tandem_store::resources::{self, Resource};

use crate::services::Services;

impl Services {
    /// Writes it down beside the calls; dropped, and counted, when the database is slow.
    pub fn note_trouble(&self, account: &str, leg: Option<LegId>, level: Level, trouble: Trouble) {
        let mut row = Resource::new(account, level.word(), trouble);
        row.parent = leg.map(|leg| leg.0);
        resources::submit(&self.store, TROUBLES, &row);
    }

    /// Something went wrong outside of any call that there is: a WARN line with the advice, and a report. `account`: whose it is, if
    /// it is anybody's; operators see those of nobody.
    pub fn report(&self, account: Option<&str>, cause: Cause, message: &str) {
        if self.keep(account, Report::new(cause, message)) {
            tracing::warn!(%cause, account, advice = cause.advice(), "{message}");
        }
    }

    /// The same, of which the log has a line already. Anybody on the network may cause these, so of each cause some a second are
    /// kept. `false`: this one was not.
    pub fn keep(&self, account: Option<&str>, report: Report) -> bool {
        let now = clock::now().instant;
        let kept = report.cause.is_none_or(|cause| self.counters.report(cause, now).is_some());
        if kept {
            self.keep_report(account.unwrap_or_default(), None, Level::Error, clock::time(), report);
        }
        kept
    }

    /// Writes a report down beside the calls; dropped, and counted, when the database is slow.
    pub fn keep_report(&self, account: &str, leg: Option<&LegInfo>, level: Level, at: Timestamp, mut report: Report) {
        if let Some(leg) = leg {
            report.call = Some(self.call_id(leg));
            report.session = Some(leg.session.to_string());
        }
        let mut row = Resource::new(account, level.word(), report);
        (row.created_at, row.updated_at) = (at, at);
        row.parent = leg.map(|leg| leg.id.0);
        resources::submit(&self.store, REPORTS, &row);
    }
}
