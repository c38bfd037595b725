//! Which ticks of its group serve a session.

use std::time::Instant;

/// The number of ticks by which a session may be served early after it has changed its group.
const EARLY: i32 = 2;

/// A worker serves a session in one of four groups, every fourth tick. A session that has just come to the worker, or to
/// another group, leaves ticks out, so that it has as many frames as time has passed.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// When the session came to its worker. Ticks that were due before then do not serve it. `None` after its first tick.
    arrived: Option<Instant>,
    /// The next tick would come too soon after the last one and is left out.
    skips_next: bool,
    /// By how many ticks the session's frames are later than they would be had it stayed in one group.
    shift: i32,
}

impl Schedule {
    /// The session has come to a worker.
    pub(crate) fn arrive(&mut self, now: Instant) {
        self.arrived = Some(now);
    }

    /// The session has changed its group. `ticks`: between its last tick in the old group and its first in the new one;
    /// `groups`: what they would have been.
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

    /// The tick that was due at `tick` has come. Returns whether it serves the session.
    pub(crate) fn begin(&mut self, tick: Instant) -> bool {
        if self.arrived.is_some_and(|arrived| tick < arrived) {
            return false;
        }
        self.arrived = None;
        !std::mem::take(&mut self.skips_next)
    }
}
