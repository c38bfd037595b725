//! Decides whether the driver is so late that it must refuse new calls.
//!
//! The far ends retransmit a request after T1 (500 ms). So work on requests that have waited longer is wasted. New
//! INVITEs get 503 with Retry-After at once in two cases: the loop has been behind its inputs for some time, or its
//! timers fire late. A 503 costs little time, so most of the time is left for existing calls. Requests in existing
//! calls are never refused for this reason.
//!
//! The driver reports new calls to the application. If reported calls wait too long for the application, new INVITEs
//! also get 503. Without this rule, such calls would pile up even if the loop handles its inputs in time.

use std::time::{Duration, Instant};

/// Factor for the time that a reported call has waited for the application. The reply of the application waits about as
/// long as the call, so this time counts twice.
const WAIT_FACTOR: u32 = 2;

/// Measures the lateness of the driver's loop.
#[derive(Debug)]
pub(crate) struct Overload {
    limit: Duration,
    behind_since: Option<Instant>,
    late: Duration,
    /// The lateness of the timers in the previous round. The timers count as late only after two late rounds, because
    /// the operating system may have paused the process in one round.
    late_before: Duration,
    /// Time for which the oldest reported call has waited for the application.
    waited: Duration,
}

impl Overload {
    /// Creates the measurement. If the lateness is above `limit`, the driver is overloaded. With a limit of 0, the
    /// driver is never overloaded.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, behind_since: None, late: Duration::ZERO, late_before: Duration::ZERO, waited: Duration::ZERO }
    }

    /// Records that a timer fires at `now`. The timer was due at `due`.
    pub(crate) fn note_timer(&mut self, now: Instant, due: Instant) {
        self.late = now.saturating_duration_since(due);
    }

    /// Records the time for which the oldest reported call has waited for the application.
    pub(crate) fn waited(&mut self, longest: Duration) {
        self.waited = longest;
    }

    /// Ends a round of the loop. Returns whether the driver is overloaded. `behind` is true if some inputs already
    /// waited at the start of the round and are still not handled.
    pub(crate) fn round(&mut self, now: Instant, behind: bool) -> bool {
        let since = behind.then(|| self.behind_since.unwrap_or(now));
        self.behind_since = since;
        let lag = since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
            .max(self.late.min(self.late_before))
            .max(self.waited * WAIT_FACTOR);
        (self.late_before, self.late) = (self.late, Duration::ZERO);
        !self.limit.is_zero() && lag > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::instant;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_driver_that_stays_late_for_longer_than_the_limit_is_overloaded_until_it_is_in_time() {
        let (mut overload, start) = (Overload::new(400 * MS), instant());
        for at in 0..=400 {
            assert!(!overload.round(start + at * MS, true), "{at}");
        }
        assert!(overload.round(start + 401 * MS, true));
        assert!(!overload.round(start + 402 * MS, false));
        assert!(!overload.round(start + 403 * MS, true));
    }

    #[test]
    fn calls_that_the_application_does_not_handle_are_overload() {
        let (mut overload, start) = (Overload::new(400 * MS), instant());
        overload.waited(150 * MS);
        assert!(!overload.round(start, false));
        overload.waited(250 * MS);
        assert!(overload.round(start, false));
        overload.waited(MS);
        assert!(!overload.round(start, false));
    }

    #[test]
    fn late_timers_count_as_overload() {
        let (mut overload, start) = (Overload::new(400 * MS), instant());
        overload.note_timer(start + 500 * MS, start);
        assert!(!overload.round(start + 500 * MS, false), "a hiccup");
        overload.note_timer(start + 600 * MS, start + 100 * MS);
        assert!(overload.round(start + 600 * MS, false));
        overload.note_timer(start + 900 * MS, start + 890 * MS);
        assert!(!overload.round(start + 900 * MS, false));
        let mut never = Overload::new(Duration::ZERO);
        never.note_timer(start + 5_000 * MS, start);
        never.round(start + 5_000 * MS, true);
        never.note_timer(start + 9_000 * MS, start);
        assert!(!never.round(start + 5_000 * MS, true));
    }
}
