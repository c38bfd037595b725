//! Whether we are so late that new calls had better go elsewhere.
//!
//! A queue that is older than T1 is worked off in vain: peers repeat what waits in it. So when the loop has not caught up
//! with its inputs for a while, or its timers ring late, new INVITEs get 503 with Retry-After at once, which costs little, and
//! what remains of the time goes to the calls that are there: their requests are never refused for this. The same when calls
//! that the loop has passed on wait long for somebody to see to them: they would pile up behind a loop that keeps up.

use std::time::{Duration, Instant};

/// What waits on its way in waits again on its way back.
const WAYS: u32 = 2;

/// Measures how late the loop is.
#[derive(Debug)]
pub(crate) struct Overload {
    limit: Duration,
    behind_since: Option<Instant>,
    late: Duration,
    /// In the round before. One late round is a hiccup of the machine.
    late_before: Duration,
    /// How long the oldest call that is passed on has waited.
    waited: Duration,
}

impl Overload {
    /// Later than `limit` is overloaded; a limit of zero never is.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, behind_since: None, late: Duration::ZERO, late_before: Duration::ZERO, waited: Duration::ZERO }
    }

    /// A timer that was due at `due` is seen to.
    pub(crate) fn rang(&mut self, now: Instant, due: Instant) {
        self.late = now.saturating_duration_since(due);
    }

    /// The oldest call that the loop has passed on, and that nobody has seen to, has waited so long.
    pub(crate) fn waited(&mut self, longest: Duration) {
        self.waited = longest;
    }

    /// A round is over: whether inputs are left that waited already when it began. Says whether we are overloaded.
    pub(crate) fn round(&mut self, now: Instant, behind: bool) -> bool {
        let since = behind.then(|| self.behind_since.unwrap_or(now));
        self.behind_since = since;
        let lag = since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
            .max(self.late.min(self.late_before))
            .max(self.waited * WAYS);
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
        overload.rang(start + 500 * MS, start);
        assert!(!overload.round(start + 500 * MS, false), "a hiccup");
        overload.rang(start + 600 * MS, start + 100 * MS);
        assert!(overload.round(start + 600 * MS, false));
        overload.rang(start + 900 * MS, start + 890 * MS);
        assert!(!overload.round(start + 900 * MS, false));
        let mut never = Overload::new(Duration::ZERO);
        never.rang(start + 5_000 * MS, start);
        never.round(start + 5_000 * MS, true);
        never.rang(start + 9_000 * MS, start);
        assert!(!never.round(start + 5_000 * MS, true));
    }
}
