//! Stores notifications and reports of failures in the database, and logs failures.

use jiff::Timestamp;
use tandem_call::id::LegId;
use tandem_call::leg::LegInfo;
use tandem_causes::Cause;
use tandem_clock as clock;
use tandem_history::notification::{Level, NOTIFICATIONS, Notification};
use tandem_history::report::{REPORTS, Report};
use tandem_store::resources::{self, Resource};

use crate::services::Services;

impl Services {
    /// Stores a notification. If the database is slow, the notification is dropped and counted.
    pub fn note_notification(&self, account: &str, leg: Option<LegId>, level: Level, notification: Notification) {
        let mut row = Resource::new(account, level.word(), notification);
        row.parent = leg.map(|leg| leg.0);
        resources::submit(&self.store, NOTIFICATIONS, &row);
    }

    /// Reports a failure outside of any call: logs a WARN line with the advice, and stores a report. `account` is the
    /// owner of the report, if there is an owner. Operators see the reports without an owner.
    pub fn report(&self, account: Option<&str>, cause: Cause, message: &str) {
        if self.keep(account, Report::new(cause, message)) {
            tracing::warn!(%cause, account, advice = cause.advice(), "{message}");
        }
    }

    /// Stores a report for an event that is already in the log. Any host on the network can cause such events, so only
    /// a few reports of each cause are stored in one second. Returns `false` if the report was dropped.
    pub fn keep(&self, account: Option<&str>, report: Report) -> bool {
        let now = clock::now().instant;
        let kept = report.cause.is_none_or(|cause| self.counters.report(cause, now).is_some());
        if kept {
            self.keep_report(account.unwrap_or_default(), None, Level::Error, clock::time(), report);
        }
        kept
    }

    /// Stores a report in the database. If the database is slow, the report is dropped and counted.
    pub fn keep_report(&self, account: &str, leg: Option<&LegInfo>, level: Level, at: Timestamp, mut report: Report) {
        if let Some(leg) = leg {
            report.call = Some(self.call_id(leg));
            report.session = Some(leg.session.to_string());
        }
        self.keep_report_of(account, leg.map(|leg| leg.id), level, at, report);
    }

    /// Stores a report that names its call itself. The story of the call shows the report if `leg` is a leg of the call.
    pub(crate) fn keep_report_of(
        &self,
        account: &str,
        leg: Option<LegId>,
        level: Level,
        at: Timestamp,
        report: Report,
    ) {
        let mut row = Resource::new(account, level.word(), report);
        (row.created_at, row.updated_at) = (at, at);
        row.parent = leg.map(|leg| leg.0);
        resources::submit(&self.store, REPORTS, &row);
    }
}
