//! How late the runtime is: what the driver passes on is done by tasks that wait for their turn, and a driver that has kept up
//! with its sockets does not see how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often it is felt, while there is something to do.
const EVERY: Duration = Duration::from_millis(100);
/// Still on its way.
const OUT: u64 = u64::MAX;

/// Sends a task round through all that wait, again and again, and takes its time.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    began: Option<Instant>,
    /// Microseconds that the last one took, or [`OUT`].
    took: Arc<AtomicU64>,
    /// What the one before took.
    before: Duration,
}

impl Pulse {
    /// How long a turn takes, at least; called in every round of the driver, on its runtime. One slow turn is a hiccup of the
    /// machine: it takes two.
    pub(super) fn feel(&mut self, now: Instant) -> Duration {
        let since = self.began.map_or(EVERY, |began| now.saturating_duration_since(began));
        match self.took.load(Ordering::Relaxed) {
            OUT => since.min(self.before),
            took => {
                let took = Duration::from_micros(took);
                let turn = took.min(self.before);
                if since >= EVERY {
                    self.before = took;
                    self.began = Some(now);
                    self.took.store(OUT, Ordering::Relaxed);
                    tokio::spawn(round(now, Arc::clone(&self.took)));
                }
                turn
            }
        }
    }
}

async fn round(began: Instant, took: Arc<AtomicU64>) {
    // Whoever is spawned comes next, whoever yields comes last.
    tokio::task::yield_now().await;
    let elapsed = u64::try_from(began.elapsed().as_micros()).unwrap_or(OUT).min(OUT - 1);
    took.store(elapsed, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::instant;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn two_slow_turns_are_slow_and_one_is_a_hiccup() {
        let mut pulse = Pulse::default();
        let start = instant();
        assert_eq!(pulse.feel(start), Duration::ZERO);
        // Nothing runs meanwhile: it is not back.
        assert_eq!(pulse.feel(start + 900 * MS), Duration::ZERO, "the first slow one");
        pulse.took.store(900_000, Ordering::Relaxed);
        assert_eq!(pulse.feel(start + 901 * MS), Duration::ZERO);
        assert_eq!(pulse.feel(start + 1_301 * MS), 400 * MS, "the next, so far");
        pulse.took.store(1_000, Ordering::Relaxed);
        assert_eq!(pulse.feel(start + 1_302 * MS), MS, "it is over");
    }

    #[tokio::test]
    async fn a_turn_comes_round() {
        let mut pulse = Pulse::default();
        pulse.feel(instant());
        while pulse.took.load(Ordering::Relaxed) == OUT {
            tokio::task::yield_now().await;
        }
    }
}
