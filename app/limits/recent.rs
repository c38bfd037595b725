//! The calls of a limit in the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

use tandem_cluster::slices::{Urgency, Usage};
use tokio::time::Instant;

/// Time for which a rate counts its calls.
const SECOND: Duration = Duration::from_secs(1);

/// Time for which a refused call shows that this node needs more.
const REFUSED: Duration = Duration::from_secs(2);

/// Time for which a call shows that this node may soon have another.
const ACTIVE: Duration = Duration::from_secs(5);

/// Minimum time for which a node keeps a larger slice of a rate. It can use the slice only after a second.
const KEPT: Duration = Duration::from_secs(2);

/// The figures of a limit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    /// The limit of all nodes together.
    pub(super) limit: u32,
    /// Number of calls that count now. `None` for a limit of new calls per second.
    pub(super) calls: Option<u32>,
    /// Number of calls since the start, with those that were refused.
    pub(super) attempts: u64,
    /// Number of refused calls since the start.
    pub(super) refused: u64,
    /// The slice that is in effect. `None` if no slice was set.
    pub(super) in_effect: Option<u32>,
}

/// The last seconds of a limit.
#[derive(Debug, Default)]
pub(super) struct Recent {
    attempts: u64,
    attempted_at: Option<Instant>,
    refused: u64,
    refused_at: Option<Instant>,
    raised_at: Option<Instant>,
    /// The numbers of attempts in the last second, oldest first. Only of a rate.
    samples: VecDeque<(Instant, u64)>,
}

impl Recent {
    /// Notes that the slice of this node is larger now.
    pub(super) fn raised(&mut self, now: Instant) {
        self.raised_at = Some(now);
    }

    /// Returns the usage of a limit. `slice` is the slice of this node.
    pub(super) fn usage(&mut self, now: Instant, seen: &Figures, slice: u32) -> Usage {
        if seen.attempts != self.attempts {
            (self.attempts, self.attempted_at) = (seen.attempts, Some(now));
        }
        if seen.refused != self.refused {
            (self.refused, self.refused_at) = (seen.refused, Some(now));
        }
        let (held, need) = match seen.calls {
            Some(calls) => (calls, calls),
            None => (if within(now, self.raised_at, KEPT) { slice } else { 0 }, self.rate(now)),
        };
        let is_used_up = need >= slice && slice < seen.limit;
        let urgency = match is_used_up {
            true if within(now, self.refused_at, REFUSED) => Urgency::Refused,
            true if within(now, self.attempted_at, ACTIVE) => Urgency::UsedUp,
            _ => Urgency::None,
        };
        Usage { limit: seen.limit, held, need, urgency }
    }

    /// Returns the number of attempts in the last second.
    fn rate(&mut self, now: Instant) -> u32 {
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= SECOND) {
            self.samples.pop_front();
        }
        let before = self.samples.front().map_or(0, |(_, attempts)| *attempts);
        // Rounds and looks are at least 2 ms apart, so this is a bound only for a clock that stands still.
        if self.samples.len() < 64 {
            self.samples.push_back((now, self.attempts));
        }
        u32::try_from(self.attempts.saturating_sub(before)).unwrap_or(u32::MAX)
    }
}

fn within(now: Instant, at: Option<Instant>, time: Duration) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(calls: Option<u32>, attempts: u64, refused: u64) -> Figures {
        Figures { limit: 10, calls, attempts, refused, in_effect: None }
    }

    #[test]
    fn calls_are_urgent_when_the_slice_is_used_up_and_more_so_after_a_refusal() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let mut usage = |ms, calls, attempts, refused, slice| {
            let usage = recent.usage(start + Duration::from_millis(ms), &seen(Some(calls), attempts, refused), slice);
            assert_eq!((usage.limit, usage.held, usage.need), (10, calls, calls));
            usage.urgency
        };
        assert_eq!(usage(0, 0, 0, 0, 0), Urgency::None);
        assert_eq!(usage(0, 4, 4, 0, 5), Urgency::None);
        assert_eq!(usage(100, 5, 5, 0, 5), Urgency::UsedUp);
        assert_eq!(usage(200, 5, 6, 1, 5), Urgency::Refused);
        assert_eq!(usage(300, 5, 6, 1, 6), Urgency::None, "it has got more");
        assert_eq!(usage(2_100, 5, 6, 1, 5), Urgency::Refused);
        assert_eq!(usage(2_200, 5, 6, 1, 5), Urgency::UsedUp);
        assert_eq!(usage(5_200, 5, 6, 1, 5), Urgency::None);
        assert_eq!(usage(5_300, 10, 11, 2, 10), Urgency::None, "this node has all");
    }

    #[test]
    fn a_rate_needs_the_calls_of_the_last_second_and_is_kept_for_a_time() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let mut needs = Vec::new();
        for step in 0..12_u64 {
            let attempts = if step < 5 { step + 1 } else { 5 };
            let now = start + Duration::from_millis(step * 200);
            needs.push(recent.usage(now, &seen(None, attempts, 0), 9).need);
        }
        assert_eq!(needs[..5], [1, 1, 2, 3, 4]);
        assert_eq!(needs[10..], [0, 0]);
        recent.raised(start + Duration::from_secs(3));
        let mut held = |ms| recent.usage(start + Duration::from_millis(ms), &seen(None, 5, 0), 9).held;
        assert_eq!((held(4_999), held(5_000)), (9, 0));
    }
}
