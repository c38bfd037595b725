//! The timers of one call. A call has only a few timers at a time, so a linear search is cheaper than a heap.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tandem_id::{Deadline, LegId, OpId};

/// The timers of one leg. A leg has each timer at most once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum LegTimer {
    /// The maximum time until the answer of the leg. While the leg waits for the first command of its application, the
    /// maximum time until this command.
    Ring,
    /// The maximum duration of the leg after its answer.
    Limit,
    /// The maximum time for which the call keeps the ended leg.
    Release,
    /// The maximum waiting time in a queue.
    Wait,
    /// The maximum time until a recording server answers. Contains the first operation of the session.
    Siprec(OpId),
    /// A timer of an instruction or gather, which receives [`Input::Timer`](crate::program::Input::Timer).
    Instruction(OpId),
}

#[derive(Debug, Default)]
pub(crate) struct Timers(Vec<(Deadline, LegId, LegTimer)>);

impl Timers {
    /// Sets a timer. If the leg already has this timer, replaces it.
    pub(crate) fn set(&mut self, at: Deadline, leg: LegId, timer: LegTimer) {
        self.cancel(leg, timer);
        self.0.push((at, leg, timer));
    }

    pub(crate) fn cancel(&mut self, leg: LegId, timer: LegTimer) {
        self.0.retain(|(_, of, which)| (*of, *which) != (leg, timer));
    }

    pub(crate) fn cancel_all(&mut self, leg: LegId) {
        self.0.retain(|(_, of, _)| *of != leg);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(at, ..)| at.instant()).min()
    }

    /// Removes and returns the earliest timer that is due. If two timers have the same time, the timer that was set
    /// first comes first.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(LegId, LegTimer)> {
        let due = self.0.iter().enumerate().filter(|(_, (at, ..))| at.instant() <= now);
        let (index, _) = due.min_by_key(|(_, (at, ..))| *at)?;
        let (_, leg, timer) = self.0.remove(index);
        Some((leg, timer))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Deadline, LegId, LegTimer)> {
        self.0.iter().copied()
    }

    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tandem_id::Now;

    use super::*;

    const LEG: LegId = LegId(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any Instant will do as the start of a virtual clock")]
    fn start() -> Now {
        Now { instant: Instant::now(), time: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn timers_of_one_time_fire_in_the_order_in_which_they_were_set() {
        let (now, mut timers) = (start(), Timers::default());
        let order = [LegTimer::Limit, LegTimer::Instruction(OpId(9)), LegTimer::Ring, LegTimer::Instruction(OpId(3))];
        for timer in order {
            timers.set(Deadline::after(now, SECOND).unwrap(), LEG, timer);
        }
        assert_eq!(timers.pop_due(now.instant), None);
        assert_eq!(order.map(|_| timers.pop_due(now.instant + SECOND).unwrap().1), order);
    }

    #[test]
    fn a_timer_that_is_set_again_replaces_the_earlier_timer() {
        let (now, mut timers) = (start(), Timers::default());
        for seconds in [1, 5] {
            timers.set(Deadline::after(now, seconds * SECOND).unwrap(), LEG, LegTimer::Ring);
        }
        assert_eq!(timers.next(), Some(now.instant + 5 * SECOND));
        timers.cancel(LegId(2), LegTimer::Ring);
        timers.cancel_all(LEG);
        assert_eq!(timers.next(), None);
    }
}
