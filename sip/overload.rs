//! Decides whether the driver is too late, so that new calls must be refused.
//!
//! After T1 (500 ms) the far ends retransmit, so work on an older backlog is wasted. New INVITEs get 503 with
//! Retry-After at once in two cases: the loop has been behind its inputs for some time, or its timers fire late. A 503
//! costs little time. The remaining time is for the existing calls; their requests are never refused for this reason.
//!
//! New INVITEs also get 503 if the calls that the driver has reported wait too long for the application. Without this
//! rule, such calls would pile up even if the loop keeps up with its sockets.

use std::time::{Duration, Instant};

/// Factor for the time that a reported call waits for the application. The call waits about the same time again on the
/// way back, so the time counts twice.
const WAIT_FACTOR: u32 = 2;

/// Measures the lateness of the driver's loop.
#[derive(Debug)]
pub(crate) struct Overload {
    limit: Duration,
    behind_since: Option<Instant>,
    late: Duration,
    /// The lateness in the previous round. A single late round does not count, because the operating system may have
    /// paused the process.
    late_before: Duration,
    /// Time for which the oldest reported call has waited for the application.
    waited: Duration,
}

impl Overload {
    /// Creates the measurement. A lateness above `limit` is an overload. A limit of 0 switches the check off.
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

    /// Ends a round of the loop. Returns whether the driver is overloaded. `behind` is true if some inputs that waited
    /// at the start of the round are still not handled.
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
    fn overload_is_being_behind_for_longer_than_the_limit_and_ends_with_catching_up() {
        let (mut overload, start) = (Overload::new(400 * MS), instant());
        for at in 0..=400 {
            assert!(!overload.round(start + at * MS, true), "{at}");
        }
        assert!(overload.round(start + 401 * MS, true));
        assert!(!overload.round(start + 402 * MS, false));
        assert!(!overload.round(start + 403 * MS, true));
    }

    #[test]
    fn calls_that_nobody_sees_to_are_overload_too() {
        let (mut overload, start) = (Overload::new(400 * MS), instant());
        overload.waited(150 * MS);
        assert!(!overload.round(start, false));
        overload.waited(250 * MS);
        assert!(overload.round(start, false));
        overload.waited(MS);
        assert!(!overload.round(start, false));
    }

    #[test]
    fn timers_that_ring_late_are_overload_too() {
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
