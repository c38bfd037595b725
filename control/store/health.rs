//! The health of the database: whether the database stores the submitted writes. `/readyz` and the metrics show this
//! information. Operations that would have to wait for the database also use it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tandem_causes::cause::Cause;
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

/// The last result of each [`Check`].
#[derive(Default)]
pub struct Health([Mutex<Option<Outage>>; CHECKS]);

struct Outage {
    since: Instant,
    reason: String,
}

impl Health {
    /// Stores the result of a check. Writes a log line if the result has changed.
    pub fn note(&self, check: Check, outcome: Result<(), String>) {
        let mut trouble = self.of(check);
        match (outcome, &mut *trouble) {
            (Ok(()), None) => {}
            (Ok(()), Some(past)) => {
                let seconds = past.since.elapsed().as_secs();
                tracing::info!("{} again, after {seconds} s", check.good());
                *trouble = None;
            }
            (Err(reason), None) => {
                let cause = check.cause();
                let advice = cause.map(Cause::advice);
                tracing::error!(cause = cause.map(tracing::field::display), advice, "not ready: {reason}");
                *trouble = Some(Outage { since: Instant::now(), reason });
            }
            (Err(reason), Some(present)) => {
                if present.reason != reason {
                    tracing::error!(cause = check.cause().map(tracing::field::display), "not ready: {reason}");
                    present.reason = reason;
                }
            }
        }
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
        let [writer, heartbeat, claim, recordings] = &self.0;
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
    /// Returns the cause that the log line of a failed check contains.
    fn cause(self) -> Option<Cause> {
        match self {
            Self::Writer | Self::Heartbeat => Some(Cause::DatabaseAway),
            Self::Claim | Self::Recordings => None,
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
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_problem_is_told_at_once_and_waited_for_only_when_it_is_new() {
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
    async fn one_check_that_is_well_does_not_hide_another_that_is_not() {
        let health = Health::default();
        health.note(Check::Recordings, Err("no space".into()));
        health.note(Check::Heartbeat, Ok(()));
        assert_eq!(health.problem().as_deref(), Some("no space"));
        assert_eq!(health.away_for(Duration::ZERO), None);
    }
}
