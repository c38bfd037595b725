//! Measures how long new calls wait until the application handles them. The driver passes each new call to a task, and
//! the task waits for CPU time. The driver does not notice this wait if it handles its own inputs in time.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Maximum number of waiting calls whose time is measured. Further calls are not measured.
const MAX_CALLS: usize = 65_536;

/// A guard that comes with a new call. The application drops the guard when it acts on the call. It also drops the
/// guard if the call must wait for something other than CPU time.
#[derive(Debug, Clone, Default)]
pub struct PendingCallGuard(#[expect(dead_code, reason = "held only for its drop, never read")] Option<Arc<()>>);

/// The waiting calls, oldest first.
#[derive(Debug, Default)]
pub(crate) struct WaitingCalls(VecDeque<(Instant, Weak<()>)>);

impl WaitingCalls {
    /// Adds a call that waits from `now` until the returned guard is dropped. If [`MAX_CALLS`] calls already wait, this
    /// call is not measured.
    pub(crate) fn join(&mut self, now: Instant) -> PendingCallGuard {
        if self.0.len() >= MAX_CALLS {
            return PendingCallGuard::default();
        }
        let guard = Arc::new(());
        self.0.push_back((now, Arc::downgrade(&guard)));
        PendingCallGuard(Some(guard))
    }

    /// Returns the time for which the oldest waiting call has waited. Returns zero if no call waits.
    pub(crate) fn longest(&mut self, now: Instant) -> Duration {
        while let Some((since, guard)) = self.0.front() {
            if guard.strong_count() > 0 {
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
    fn the_oldest_unhandled_call_decides_about_overload() {
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
    fn the_check_of_pending_calls_reads_a_limited_number_of_calls() {
        let (mut calls, start) = (WaitingCalls::default(), instant());
        let guards: Vec<PendingCallGuard> = (0..MAX_CALLS + 10).map(|_| calls.join(start)).collect();
        assert_eq!((guards.len(), calls.0.len()), (MAX_CALLS + 10, MAX_CALLS));
    }
}
