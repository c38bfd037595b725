//! How long new calls wait until somebody sees to them: the driver passes them on to tasks that wait for their turn, and a
//! driver that has kept up with its sockets does not see how long.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Most calls that are looked at; of what comes beyond, nothing is known.
const MOST: usize = 65_536;

/// Held until something is done about a new call, or it waits for something else than its turn; then dropped.
#[derive(Debug, Clone, Default)]
pub struct Waiting(#[expect(dead_code, reason = "held only for its drop, never read")] Option<Arc<()>>);

/// The calls that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct WaitingCalls(VecDeque<(Instant, Weak<()>)>);

impl WaitingCalls {
    /// One more, from now on.
    pub(crate) fn join(&mut self, now: Instant) -> Waiting {
        if self.0.len() >= MOST {
            return Waiting::default();
        }
        let held = Arc::new(());
        self.0.push_back((now, Arc::downgrade(&held)));
        Waiting(Some(held))
    }

    /// How long the oldest one has waited.
    pub(crate) fn longest(&mut self, now: Instant) -> Duration {
        while let Some((since, held)) = self.0.front() {
            if held.strong_count() > 0 {
                return now.saturating_duration_since(*since);
            }
            self.0.pop_front();
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::instant;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_oldest_that_nobody_has_seen_to_counts() {
        let (mut calls, start) = (WaitingCalls::default(), instant());
        assert_eq!(calls.longest(start), Duration::ZERO);
        let first = calls.join(start);
        let second = calls.join(start + 10 * MS);
        let third = calls.join(start + 20 * MS);
        assert_eq!(calls.longest(start + 30 * MS), 30 * MS);
        drop(second);
        assert_eq!(calls.longest(start + 30 * MS), 30 * MS);
        drop(first);
        assert_eq!(calls.longest(start + 30 * MS), 10 * MS);
        drop(third);
        assert_eq!(calls.longest(start + 90 * MS), Duration::ZERO);
        assert!(calls.0.is_empty());
    }

    #[test]
    fn no_more_are_looked_at_than_it_is_good_for() {
        let (mut calls, start) = (WaitingCalls::default(), instant());
        let held: Vec<Waiting> = (0..MOST + 10).map(|_| calls.join(start)).collect();
        assert_eq!((held.len(), calls.0.len()), (MOST + 10, MOST));
    }
}
