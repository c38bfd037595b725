//! Decides which ticks of a session's group serve the session.

use serde::{Deserialize, Serialize};

use std::time::Instant;

/// A session that has changed its group may process a frame too early by at most this number of ticks.
const EARLY: i32 = 2;

/// The schedule of a session. The session is in one of four groups, and the worker serves the session at every fourth
/// tick. A session that has just come to the worker or to another group skips ticks, so that the number of its frames
/// matches the elapsed time.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Schedule {
    /// The time at which the session came to its worker. Ticks that were due before this time do not serve the session.
    /// The value is `None` after the session's first tick.
    #[serde(skip)]
    arrived: Option<Instant>,
    /// Whether the next tick is skipped, because it comes too soon after the last tick.
    skips_next: bool,
    /// The delay of the session's frames in ticks, compared with a session that stayed in one group.
    shift: i32,
}

impl Schedule {
    /// Records that the session has come to a worker.
    pub(crate) fn arrive(&mut self, now: Instant) {
        self.arrived = Some(now);
    }

    /// Records that the session has changed its group. `ticks` is the number of ticks from the last tick in the old
    /// group to the first tick in the new group. `groups` is the usual number of ticks from one tick of a group to its
    /// next tick.
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

    /// Begins the tick that was due at `tick`. Returns whether the tick serves the session.
    pub(crate) fn begin(&mut self, tick: Instant) -> bool {
        if self.arrived.is_some_and(|arrived| tick < arrived) {
            return false;
        }
        self.arrived = None;
        !std::mem::take(&mut self.skips_next)
    }
}
