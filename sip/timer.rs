//! One heap for all timers of the endpoint.
//!
//! An owner (a transaction, a leg or a trunk) knows its own deadlines. The queue only knows when to look at the owner
//! next. Owners re-arm lazily: when a deadline moves later, the old entry stays in the heap. A popped entry costs one
//! lookup if its owner is gone or has nothing due. So a live owner holds about one entry, and arming is O(log n)
//! without any removal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::keys::{ClientId, LegId, ServerId};

/// The owner of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Client(ClientId),
    Server(ServerId),
    Leg(LegId),
    /// A trunk, by its index among the endpoint's trunks.
    Trunk(usize),
}

/// ExpiryBucket that may be late are this far apart.
const TOGETHER: Duration = Duration::from_millis(250);

/// The owners to look at, by time.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue {
    heap: BinaryHeap<Reverse<(Instant, Owner)>>,
    /// The first instant that was ever armed; the origin of the [`TOGETHER`] grid.
    first: Option<Instant>,
}

impl TimerQueue {
    /// Makes sure that `owner` is looked at no later than `at`. `wake` is the owner's record of its earliest entry.
    pub(crate) fn arm(&mut self, wake: &mut Option<Instant>, at: Option<Instant>, owner: Owner) {
        let Some(at) = at else { return };
        if wake.is_none_or(|wake| at < wake) {
            *wake = Some(at);
            self.first.get_or_insert(at);
            self.heap.push(Reverse((at, owner)));
        }
    }

    /// Rounds `at` up by at most [`TOGETHER`]. Deadlines that are close to each other get the same instant, so that one
    /// wake-up serves them all.
    pub(crate) fn together(&self, at: Instant) -> Instant {
        let beyond = |first| at.saturating_duration_since(first).as_nanos() % TOGETHER.as_nanos();
        self.first.map_or(at, |first| at + TOGETHER - Duration::from_nanos(beyond(first) as u64))
    }

    /// Removes and returns the next entry if it is due. If the owner's `wake` equals the returned instant, the owner
    /// must clear it and arm again.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Owner)> {
        if self.heap.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            self.heap.pop().map(|Reverse(entry)| entry)
        } else {
            None
        }
    }

    pub(crate) fn first(&self) -> Option<(Instant, Owner)> {
        self.heap.peek().map(|Reverse(entry)| *entry)
    }

    /// Drops the first entry if its owner has nothing to do at that time. The entry is the owner's at `at`. `next` is
    /// the owner's next deadline. `wake` holds the owner's earliest entry; it is `None` if the owner is gone. Returns
    /// whether the entry was dropped.
    pub(crate) fn skip(
        &mut self,
        wake: Option<&mut Option<Instant>>,
        at: Instant,
        next: Option<Instant>,
        owner: Owner,
    ) -> bool {
        if next.is_some_and(|next| next <= at) {
            return false;
        }
        self.heap.pop();
        if let Some(wake) = wake
            && *wake == Some(at)
        {
            *wake = None;
            self.arm(wake, next, owner);
        }
        true
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::instant;

    #[test]
    fn ends_that_may_be_late_are_close_together_and_never_early() {
        let (mut queue, start) = (TimerQueue::default(), instant());
        queue.arm(&mut None, Some(start), Owner::Trunk(0));
        let ends: Vec<Instant> = (1..=1_000)
            .map(|number| start + Duration::from_micros(number * 1_234))
            .map(|at| (at, queue.together(at)))
            .inspect(|(at, end)| assert!(at < end && *end <= *at + TOGETHER))
            .map(|(_, end)| end)
            .collect();
        let different: std::collections::HashSet<_> = ends.into_iter().collect();
        assert_eq!(different.len(), 5, "of 1.234 s");
    }
}
