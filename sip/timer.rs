//! One heap for all timers of the endpoint.
//!
//! An owner (a transaction, a leg or a trunk) knows its own deadlines. The queue only knows when it must wake the
//! owner. If a deadline moves to a later time, the old entry stays in the heap. When an old entry is due, its owner may
//! be gone or may have nothing to do. Then the entry costs only one lookup. A live owner has about one entry in the
//! heap. Setting a timer takes O(log n) time and removes no entry.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::keys::{ClientId, LegSlot, ServerId};

/// The owner of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Client(ClientId),
    Server(ServerId),
    Leg(LegSlot),
    /// A trunk, identified by its index in the endpoint.
    Trunk(usize),
}

/// The entries of the owners, sorted by time.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue {
    heap: BinaryHeap<Reverse<(Instant, Owner)>>,
}

impl TimerQueue {
    /// Makes sure that `owner` is woken no later than `at`. `wake` is the time of the owner's earliest entry, which the
    /// owner stores.
    pub(crate) fn arm(&mut self, wake: &mut Option<Instant>, at: Option<Instant>, owner: Owner) {
        let Some(at) = at else { return };
        if wake.is_none_or(|wake| at < wake) {
            *wake = Some(at);
            self.heap.push(Reverse((at, owner)));
        }
    }

    /// Removes and returns the next entry if it is due. The owner stores the time of its earliest entry as `wake`. If
    /// `wake` equals the returned instant, the owner must clear `wake` and set the timer again.
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

    /// Drops the first entry if the entry's owner has nothing to do at the time of the entry. `at` is the time of the
    /// first entry, and `owner` is its owner. `next` is the owner's next deadline. `wake` is the time of the owner's
    /// earliest entry, or `None` if the owner is gone. Returns whether the entry was dropped.
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
