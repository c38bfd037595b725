//! The only place in this crate that reads the clocks.
#![forbid(unsafe_code)]

use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use tandem_call::Now;

/// The current time of the monotonic clock and of the wall clock.
#[expect(clippy::disallowed_methods, reason = "the shell owns the clock; everything pure is given it")]
pub fn now() -> Now {
    Now { instant: Instant::now(), time: time() }
}

/// The current wall-clock time.
#[expect(clippy::disallowed_methods, reason = "as above")]
pub fn time() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time at which the server started; it stands for the date of everything in the configuration file. The first call
/// decides it, so the registry of calls asks once when it is made.
pub fn started() -> Timestamp {
    static STARTED: LazyLock<Timestamp> = LazyLock::new(time);
    *STARTED
}
