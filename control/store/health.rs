//! The health of the database: whether the database stores the submitted writes. `/readyz` and the metrics show this
//! information. Operations that would have to wait for the database also use it.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tandem_causes::cause::Cause;
use tandem_id::AccountName;
use tokio::time::Instant;

/// An aspect of the server's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The writer task: whether its transactions succeed.
    Writer,
    /// The heartbeat. Once a second, the server writes to the database and checks the database file.
    Heartbeat,
    /// The lock that prevents a second server from using the database.
    Claim,
    /// The disk for recordings. Calls and reads continue to work without this disk.
    Recordings,
}

const CHECKS: usize = 4;

/// The last result of each [`Check`], and the receiver of the problems of the database.
#[derive(Default)]
pub struct Health {
    outages: [Mutex<Option<Outage>>; CHECKS],
    reporter: OnceLock<Reporter>,
}

/// The receiver of a problem: the account that the problem concerns (or the server), the cause, and a text.
type Reporter = Box<dyn Fn(&AccountName, Cause, String) + Send + Sync>;

struct Outage {
    since: Instant,
    reason: String,
}

impl Health {
    /// Sets the receiver of all later problems. Before that, and in a program without reports, a problem is only a log
    /// line. The receiver must not wait. Further calls of this function have no effect.
    pub fn report_to(&self, reporter: impl Fn(&AccountName, Cause, String) + Send + Sync + 'static) {
        // An error means that there is a receiver already.
        let _ = self.reporter.set(Box::new(reporter));
    }

    /// Reports a problem. `account` is the account that the problem concerns, or the server.
    pub fn report(&self, account: &AccountName, cause: Cause, message: String) {
        match self.reporter.get() {
            Some(reporter) => reporter(account, cause, message),
            None => {
                let account = (!account.is_server()).then_some(account.as_str());
                tracing::error!(%cause, account, advice = cause.advice(), "{message}");
            }
        }
    }

    /// Stores the result of a check. Reports a failure if the result has changed.
    pub fn note(&self, check: Check, outcome: Result<(), String>) {
        if let Some(reason) = self.changed(check, outcome) {
            self.report(&AccountName::server(), check.cause(), format!("not ready: {reason}"));
        }
    }

    /// Stores the result of a check. Returns the reason of a failure, if the reason is new.
    fn changed(&self, check: Check, outcome: Result<(), String>) -> Option<String> {
        let mut trouble = self.of(check);
        match (outcome, &mut *trouble) {
            (Ok(()), None) => {}
            (Ok(()), Some(past)) => {
                let seconds = past.since.elapsed().as_secs();
                tracing::info!("{} again, after {seconds} s", check.good());
                *trouble = None;
            }
            (Err(reason), None) => {
                *trouble = Some(Outage { since: Instant::now(), reason: reason.clone() });
                return Some(reason);
            }
            (Err(reason), Some(present)) if present.reason != reason => {
                present.reason.clone_from(&reason);
                return Some(reason);
            }
            (Err(_), Some(_)) => {}
        }
        None
    }

    /// Returns the reason why the server is not ready, or `None` if the server is ready.
    pub fn problem(&self) -> Option<String> {
        [Check::Claim, Check::Heartbeat, Check::Writer, Check::Recordings]
            .into_iter()
            .find_map(|check| self.of(check).as_ref().map(|trouble| trouble.reason.clone()))
    }

    /// Returns the reason why the database is unavailable. Returns `None` if the database is available, or has been
    /// unavailable for less than `length`. If there is a reason, it is useless to wait for the database.
    pub(super) fn away_for(&self, length: Duration) -> Option<String> {
        [Check::Heartbeat, Check::Writer].into_iter().find_map(|check| {
            let trouble = self.of(check);
            trouble.as_ref().filter(|trouble| trouble.since.elapsed() >= length).map(|trouble| trouble.reason.clone())
        })
    }

    fn of(&self, check: Check) -> MutexGuard<'_, Option<Outage>> {
        let [writer, heartbeat, claim, recordings] = &self.outages;
        let trouble = match check {
            Check::Writer => writer,
            Check::Heartbeat => heartbeat,
            Check::Claim => claim,
            Check::Recordings => recordings,
        };
        trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check {
    /// Returns the cause of a failed check.
    fn cause(self) -> Cause {
        match self {
            Self::Writer | Self::Heartbeat => Cause::DatabaseAway,
            Self::Claim => Cause::DatabaseLockLost,
            Self::Recordings => Cause::DiskFull,
        }
    }

    /// Returns the text of the log line for a check that succeeds again after a failure.
    fn good(self) -> &'static str {
        match self {
            Self::Writer => "the database stores the waiting writes",
            Self::Heartbeat => "the database accepts the heartbeat",
            Self::Claim => "this server holds the lock on the database",
            Self::Recordings => "the disk for recordings has space",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_problem_is_reported_immediately_and_its_duration_counts_from_the_first_reason() {
        let health = Health::default();
        assert_eq!(health.problem(), None);
        health.note(Check::Writer, Err("disk full".into()));
        assert_eq!(health.problem().as_deref(), Some("disk full"));
        assert_eq!(health.away_for(Duration::from_secs(3)), None);
        tokio::time::advance(Duration::from_secs(2)).await;
        // A change of the reason does not restart the duration of the outage.
        health.note(Check::Writer, Err("disk still full".into()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.away_for(Duration::from_secs(3)).as_deref(), Some("disk still full"));
        health.note(Check::Writer, Ok(()));
        assert_eq!((health.problem(), health.away_for(Duration::ZERO)), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn each_new_reason_is_reported_once_with_the_cause_of_its_check() {
        let (health, reports) = (Health::default(), Arc::new(Mutex::new(Vec::new())));
        let receiver = Arc::clone(&reports);
        health.report_to(move |account, cause, text| receiver.lock().unwrap().push((account.to_string(), cause, text)));
        for reason in ["disk full", "disk full", "disk away"] {
            health.note(Check::Writer, Err(reason.into()));
        }
        health.note(Check::Writer, Ok(()));
        health.note(Check::Recordings, Err("no space".into()));
        health.note(Check::Claim, Err("lost".into()));
        let reports = reports.lock().unwrap();
        let reports: Vec<_> = reports.iter().map(|(account, cause, text)| (&**account, *cause, &**text)).collect();
        assert_eq!(
            reports,
            [
                ("", Cause::DatabaseAway, "not ready: disk full"),
                ("", Cause::DatabaseAway, "not ready: disk away"),
                ("", Cause::DiskFull, "not ready: no space"),
                ("", Cause::DatabaseLockLost, "not ready: lost"),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_passed_check_does_not_hide_a_failed_check() {
        let health = Health::default();
        health.note(Check::Recordings, Err("no space".into()));
        health.note(Check::Heartbeat, Ok(()));
        assert_eq!(health.problem().as_deref(), Some("no space"));
        assert_eq!(health.away_for(Duration::ZERO), None);
    }
}
