//! The time that the pure crates receive from their callers.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// The current time of two clocks: the monotonic clock for timers, the wall clock for records.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time, for timers.
    pub instant: Instant,
    /// Wall-clock time in UTC, for records.
    pub time: Timestamp,
}

impl Now {
    /// Returns the wall-clock time since `earlier`. Returns zero if the wall clock was set back before `earlier`.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::try_from(self.time.duration_since(earlier)).unwrap_or_default()
    }
}

/// The point in time at which a timer fires.
///
/// A deadline in memory is a time of the monotonic clock, so a step of the wall clock does not move a timer. A time of
/// the monotonic clock means nothing to another process. So a deadline is stored as a wall-clock time. The
/// conversion uses the two clocks at the moment of writing, and the conversion back uses the two clocks at the moment of
/// reading. The time between writing and reading counts: a deadline that passed in this time is due at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the deadline at this time from now. Returns `None` if the monotonic clock cannot represent the deadline.
    pub fn after(now: Now, length: Duration) -> Option<Self> {
        now.instant.checked_add(length).map(Self)
    }

    /// Returns the deadline at this time of the monotonic clock.
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// Returns the deadline as a time of the monotonic clock.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Returns the wall-clock time at which the deadline passes if the wall clock makes no step until then. A time that
    /// the wall clock cannot represent becomes the last time of the wall clock.
    pub fn to_wall_time(self, now: Now) -> Timestamp {
        let (left, overdue) = (self.0.checked_duration_since(now.instant), now.instant.checked_duration_since(self.0));
        match (left, overdue) {
            (Some(left), _) => {
                let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
                now.time.checked_add(left).unwrap_or(Timestamp::MAX)
            }
            (None, overdue) => {
                let overdue = SignedDuration::try_from(overdue.unwrap_or_default()).unwrap_or(SignedDuration::MAX);
                now.time.checked_sub(overdue).unwrap_or(Timestamp::MIN)
            }
        }
    }

    /// Reads a deadline that [`Deadline::to_wall_time`] wrote. A deadline that the monotonic clock cannot represent is
    /// due at once.
    pub fn from_wall_time(time: Timestamp, now: Now) -> Self {
        let left = time.duration_since(now.time);
        let instant = if left.is_negative() {
            now.instant.checked_sub(left.unsigned_abs())
        } else {
            now.instant.checked_add(left.unsigned_abs())
        };
        Self(instant.unwrap_or(now.instant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any Instant will do as the start of a virtual clock")]
    fn start() -> Now {
        Now { instant: Instant::now(), time: Timestamp::UNIX_EPOCH }
    }

    fn after(now: Now, monotonic: Duration, wall: i64) -> Now {
        Now { instant: now.instant + monotonic, time: now.time + SignedDuration::from_secs(wall) }
    }

    #[test]
    fn a_deadline_that_is_written_and_read_at_one_moment_stays_the_same() {
        let now = start();
        for nanoseconds in [0, 1, 999_999_999, 3_600_000_000_001] {
            let deadline = Deadline::after(now, Duration::from_nanos(nanoseconds)).unwrap();
            assert_eq!(Deadline::from_wall_time(deadline.to_wall_time(now), now), deadline);
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_no_deadline() {
        let now = start();
        let deadline = Deadline::after(now, 10 * SECOND).unwrap();
        for step in [-3_600, 3_600] {
            let stepped = after(now, 4 * SECOND, 4 + step);
            assert_eq!(Deadline::from_wall_time(deadline.to_wall_time(stepped), stepped), deadline, "{step}");
        }
    }

    #[test]
    fn a_deadline_is_nearer_by_the_time_between_writing_and_reading() {
        let now = start();
        let written = Deadline::after(now, 10 * SECOND).unwrap().to_wall_time(now);
        // Another process has another monotonic clock.
        let later = after(now, 1_000 * SECOND, 4);
        assert_eq!(Deadline::from_wall_time(written, later).instant(), later.instant + 6 * SECOND);
        let too_late = after(now, 1_000 * SECOND, 14);
        assert_eq!(Deadline::from_wall_time(written, too_late).instant(), too_late.instant - 4 * SECOND);
    }

    #[test]
    fn times_at_the_limits_of_the_clocks_cause_no_panic() {
        let now = start();
        assert_eq!(Deadline::after(now, Duration::MAX), None);
        for time in [Timestamp::MIN, Timestamp::MAX] {
            let _ = Deadline::from_wall_time(time, now).to_wall_time(now);
        }
        let far = Deadline::after(now, Duration::from_secs(1 << 40)).unwrap();
        assert_eq!(far.to_wall_time(now), Timestamp::MAX);
    }
}
