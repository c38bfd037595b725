//! Checks at intervals, with OPTIONS (RFC 3261 §11), whether a trunk can be reached. The check has hysteresis.
//!
//! ```text
//!            DOWN_AFTER failures in a row
//!   Up ───────────────────────────────────> Down
//!      <───────────────────────────────────
//!            UP_AFTER answers in a row
//! ```
//!
//! A final response counts as an answer, because it shows that the trunk can accept a call. The responses 408, 502, 503
//! and 504 count as failures. The interval is shorter while a trunk is down, and after one failure. So the start and
//! the end of an outage are noticed soon.

use std::time::{Duration, Instant};

use rand::Rng;

/// Number of consecutive failures after which a trunk is down.
const DOWN_AFTER: u32 = 2;
/// Number of consecutive answers after which a trunk that was down is up again.
const UP_AFTER: u32 = 2;
/// Maximum interval between two probes in two cases: while the trunk is down, and while the latest result contradicts
/// the state.
const SHORT_INTERVAL: Duration = Duration::from_secs(10);

/// The state of the probes of one trunk.
#[derive(Debug)]
pub(crate) struct Probe {
    interval: Duration,
    /// Time of the next probe. `None` while an OPTIONS or its lookup is in progress.
    next: Option<Instant>,
    down: bool,
    /// Number of consecutive results that contradict the current state (up or down).
    against: u32,
}

impl Probe {
    /// Schedules the first OPTIONS at a random time within a second. So the trunks of one configuration are not all
    /// probed at once.
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

    /// Returns whether an OPTIONS is due. If so, the caller must send the OPTIONS and report the result with
    /// [`Probe::handle_result`].
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = None;
        }
        due
    }

    /// Handles the final status of an OPTIONS. `status` is `None` if no response came or no address was found. Returns
    /// whether the state changed.
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
        let wait = if unsettled { self.interval.min(SHORT_INTERVAL) } else { self.interval };
        // The next probe comes up to a tenth of the interval earlier, so that many trunks do not stay synchronised.
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
    fn a_trunk_is_down_after_two_failures_and_up_after_two_answers() {
        let (mut probe, now, mut rng) = probe();
        let mut hear = |status| {
            probe.handle_result(now, status, &mut rng);
            probe.is_down()
        };
        let row = [Some(200), None, Some(404), None, Some(503), Some(200), None, Some(200), Some(405)];
        assert_eq!(row.map(&mut hear), [false, false, false, false, true, true, true, true, false]);
    }

    #[test]
    fn a_probe_is_sent_sooner_when_the_status_may_change() {
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
    fn no_register_is_sent_while_another_has_no_response() {
        let (mut probe, now, mut rng) = probe();
        let later = now + Duration::from_secs(1);
        assert!(probe.is_due(later) && !probe.is_due(later + Duration::from_secs(3_600)));
        assert_eq!(probe.next_timeout(), None);
        probe.handle_result(later, Some(200), &mut rng);
        assert!(!probe.is_due(later));
    }
}
