//! Retry-After: how long a refused client should wait (RFC 3261 §20.33).
//!
//! A client that obeys the header of a 503 sends nothing at all for that time (RFC 3261 §21.5.4). So the time is short
//! if the client only exceeded its own rate, and longer if only the end of calls makes room. It is always random, so
//! that clients do not come back all in the same second.

use std::ops::RangeInclusive;

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryReason {
    /// A trunk's `max_cps` is reached; the next second has room.
    Pace,
    /// A trunk's `max_calls` is reached; a call has to end first.
    Calls,
    /// The shell is late; refusing calls cures that within seconds.
    Late,
    /// `max_legs` or `max_transactions` is reached; many calls have to end.
    Tables,
    /// A request within a dialog, which must not wait long.
    Dialog,
    /// The registrar has `max_bindings` bindings.
    Bindings,
}

impl RetryReason {
    pub(super) fn seconds(self) -> RangeInclusive<u32> {
        match self {
            Self::Pace => 1..=2,
            Self::Dialog => 1..=4,
            Self::Late => 2..=8,
            Self::Calls => 5..=15,
            Self::Tables => 10..=30,
            Self::Bindings => 60..=180,
        }
    }
}
