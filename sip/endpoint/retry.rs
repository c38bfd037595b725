//! How long who is refused for now is asked to stay away (RFC 3261 §20.33).
//!
//! For so long a peer that heeds the 503 sends us nothing at all (RFC 3261 §21.5.4): briefly where only its own pace was too
//! fast, longer where nothing but the end of calls makes room. Always by chance, lest all come back in the same second.

use std::ops::RangeInclusive;

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryReason {
    /// A trunk's `max_cps`: the next second has room.
    Pace,
    /// A trunk's `max_calls`: some call has to end first.
    Calls,
    /// We are late; shedding cures that within seconds.
    Late,
    /// `max_legs` or `max_transactions`: many calls have to end.
    Tables,
    /// A request within a call, which must not wait for long.
    Dialog,
    /// The registrar's table.
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
