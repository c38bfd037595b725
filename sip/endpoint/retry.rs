//! Retry-After: the time for which a refused client should wait (RFC 3261 §20.33).
//!
//! If a 503 has this header, a client sends nothing at all for this time (RFC 3261 §21.5.4). So the time is short if
//! the client has only sent requests too fast. The time is longer if other calls must end before the server has room
//! for a new call. The time is always random, so that clients do not all return in the same second.

use std::ops::RangeInclusive;

/// The reason why a request is refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryReason {
    /// The trunk has reached its limit `max_cps`, or its slice of `max_calls`. New calls are possible again in the next
    /// second.
    Pace,
    /// The trunk has reached its limit `max_calls`. A new call is possible again when a call ends.
    Calls,
    /// The shell is late. While the server refuses new calls, the shell recovers within seconds.
    Late,
    /// The setting `max_legs` or `max_transactions` is reached. There is room again when many calls have ended.
    Tables,
    /// The request belongs to a dialog, so it must not wait long.
    Dialog,
    /// The registrar already has `max_bindings` bindings.
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
