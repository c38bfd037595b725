//! The time that the pure crates receive from their callers.

use std::time::Instant;

use jiff::Timestamp;

/// The current time of two clocks: the monotonic clock for timers, the wall clock for records.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time, for timers.
    pub instant: Instant,
    /// Wall-clock time in UTC, for records.
    pub time: Timestamp,
}
