//! One heap for all timers of the endpoint.
//!
//! An owner (a transaction, a leg or a trunk) knows its own deadlines. The queue only knows when to look at the owner
//! next. Owners re-arm lazily: when a deadline moves later, the old entry stays in the heap. A popped entry costs one
//! lookup if its owner is gone or has nothing due. So a live owner holds about one entry, and arming is O(log n)
//! without any removal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

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

/// The owners to look at, by time.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue {
    heap: BinaryHeap<Reverse<(Instant, Owner)>>,
}

impl TimerQueue {
    /// Makes sure that `owner` is looked at no later than `at`. `wake` is the owner's record of its earliest entry.
    pub(crate) fn arm(&mut self, wake: &mut Option<Instant>, at: Option<Instant>, owner: Owner) {
        let Some(at) = at else { return };
        if wake.is_none_or(|wake| at < wake) {
            *wake = Some(at);
            self.heap.push(Reverse((at, owner)));
        }
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
