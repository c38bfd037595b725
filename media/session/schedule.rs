//! Decides which ticks of its group serve a session.

use std::time::Instant;

/// The number of ticks by which a session may be served early after it has changed its group.
const EARLY: i32 = 2;

/// A worker serves a session in one of four groups, at every fourth tick. A session that has just come to the worker or
/// to another group skips ticks, so that the number of its frames matches the elapsed time.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// The time at which the session came to its worker. Ticks that were due earlier do not serve it. `None` after its
    /// first tick.
    arrived: Option<Instant>,
    /// The next tick is skipped, because it comes too soon after the last one.
    skips_next: bool,
    /// The number of ticks by which the session's frames are later than if it had stayed in one group.
    shift: i32,
}

impl Schedule {
    /// Notes that the session has come to a worker.
    pub(crate) fn arrive(&mut self, now: Instant) {
        self.arrived = Some(now);
    }

    /// Notes that the session has changed its group. `ticks`: the number of ticks from its last one in the old group to
    /// its first one in the new group; `groups`: the number without the change.
    pub(crate) fn change_group(&mut self, ticks: i32, groups: i32) {
        self.shift += ticks - groups;
        if self.shift < -EARLY {
            self.skips_next = true;
            self.shift += groups;
        }
    }

    /// Whether the tick that was due at `tick` serves the session.
    pub(crate) fn is_due(&self, tick: Instant) -> bool {
        !self.skips_next && self.arrived.is_none_or(|arrived| arrived <= tick)
    }

    /// Begins the tick that was due at `tick`. Returns whether it serves the session.
    pub(crate) fn begin(&mut self, tick: Instant) -> bool {
        if self.arrived.is_some_and(|arrived| tick < arrived) {
            return false;
        }
        self.arrived = None;
        !std::mem::take(&mut self.skips_next)
    }
}
