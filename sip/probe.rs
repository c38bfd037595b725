//! Whether a trunk is there: OPTIONS at intervals (RFC 3261 §11), with hysteresis.
//!
//! ```text
//!            DOWN_AFTER failures in a row
//!   Up ───────────────────────────────────> Down
//!      <───────────────────────────────────
//!            UP_AFTER answers in a row
//! ```
//!
//! Any answer counts, for it shows that somebody is there to take a call, except those that say it is not: 408, 502, 503,
//! 504. While a trunk is down, or has just failed once, it is asked more often, so that both ends of an outage are seen soon.

use std::time::{Duration, Instant};

use rand::Rng;

/// Failures in a row that make a trunk down.
const DOWN_AFTER: u32 = 2;
/// Answers in a row that make it up again.
const UP_AFTER: u32 = 2;
/// Longest wait while the state may be about to change.
const SOON: Duration = Duration::from_secs(10);

/// The machine of one trunk.
#[derive(Debug)]
pub(crate) struct Probe {
    interval: Duration,
    /// `None` while an OPTIONS, or the look-up before it, is under way.
    next: Option<Instant>,
    down: bool,
    /// Results in a row that speak against the present state.
    against: u32,
}

impl Probe {
    /// The first question comes within a second: trunks of one file are not asked all at once.
    pub(crate) fn new(now: Instant, interval: Duration, rng: &mut impl Rng) -> Self {
        let first = now + Duration::from_millis(rng.next_u64() % 1_000);
        Self { interval: interval.max(Duration::from_secs(1)), next: Some(first), down: false, against: 0 }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether to ask now; the result is expected then.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = None;
        }
        due
    }

    /// The final status of an OPTIONS; `None` when there was none, or nobody to ask. Whether the state changed.
    pub(crate) fn handle_result(&mut self, now: Instant, status: Option<u16>, rng: &mut impl Rng) -> bool {
        let alive = status.is_some_and(|status| !matches!(status, 408 | 502 | 503 | 504));
        if alive == self.down {
            self.against += 1;
        } else {
            self.against = 0;
        }
        let enough = if self.down { UP_AFTER } else { DOWN_AFTER };
        let changes = self.against >= enough;
        if changes {
            self.down = !self.down;
            self.against = 0;
        }
        let unsettled = self.down || self.against > 0;
        let wait = if unsettled { self.interval.min(SOON) } else { self.interval };
        // Up to a tenth early, lest many trunks keep step.
        let early = wait.mul_f64((rng.next_u64() % 100) as f64 / 1_000.0);
        self.next = Some(now + wait - early);
        changes
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::testing::instant;

    fn probe() -> (Probe, Instant, StdRng) {
        let (now, mut rng) = (instant(), StdRng::from_seed([1; 32]));
        (Probe::new(now, Duration::from_secs(60), &mut rng), now, rng)
    }

    #[test]
    fn one_failure_is_not_an_outage_and_one_answer_not_its_end() {
        let (mut probe, now, mut rng) = probe();
        let mut hear = |status| {
            probe.handle_result(now, status, &mut rng);
            probe.is_down()
        };
        let row = [Some(200), None, Some(404), None, Some(503), Some(200), None, Some(200), Some(405)];
        assert_eq!(row.map(&mut hear), [false, false, false, false, true, true, true, true, false]);
    }

    #[test]
    fn what_is_about_to_change_is_asked_sooner() {
        let (mut probe, now, mut rng) = probe();
        let mut wait = |status| {
            probe.handle_result(now, status, &mut rng);
            probe.next_timeout().map(|at| (at - now).as_secs()).unwrap_or_default()
        };
        assert!((54..=60).contains(&wait(Some(200))));
        assert!((9..=10).contains(&wait(None)), "a first failure");
        assert!((9..=10).contains(&wait(None)), "down");
        assert!((9..=10).contains(&wait(Some(200))), "perhaps up");
        assert!((54..=60).contains(&wait(Some(200))), "up");
    }

    #[test]
    fn nothing_is_asked_while_an_answer_is_awaited() {
        let (mut probe, now, mut rng) = probe();
        let later = now + Duration::from_secs(1);
        assert!(probe.is_due(later) && !probe.is_due(later + Duration::from_secs(3_600)));
        assert_eq!(probe.next_timeout(), None);
        probe.handle_result(later, Some(200), &mut rng);
        assert!(!probe.is_due(later));
    }
}
