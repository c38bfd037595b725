//! The timers of one call. A call has only a few timers at a time, so a linear search is cheaper than a heap.

use std::time::Instant;

use tandem_id::{LegId, OpId};

#[derive(Debug, Default)]
pub(crate) struct Timers(Vec<(Instant, LegId, OpId)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, leg: LegId, op: OpId) {
        self.0.push((at, leg, op));
    }

    pub(crate) fn cancel(&mut self, leg: LegId, op: OpId) {
        self.0.retain(|(_, of, which)| (*of, *which) != (leg, op));
    }

    pub(crate) fn cancel_all(&mut self, leg: LegId) {
        self.0.retain(|(_, of, _)| *of != leg);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(at, ..)| *at).min()
    }

    /// Removes and returns the earliest timer that is due. If two timers have the same time, the timer that was set
    /// first comes first.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(LegId, OpId)> {
        let (index, _) =
            self.0.iter().enumerate().filter(|(_, (at, ..))| *at <= now).min_by_key(|(_, (at, _, op))| (*at, *op))?;
        let (_, leg, op) = self.0.swap_remove(index);
        Some((leg, op))
    }

    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }
}
