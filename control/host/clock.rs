//! Reads the monotonic clock and the wall clock for the crates below `control/`.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use tandem_id::Now;

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

/// The time of the server's start, which is the date of everything in the configuration file. The first call of this
/// function sets the time. For this reason, the call registry calls this function when the registry is created.
pub fn started() -> Timestamp {
    static STARTED: LazyLock<Timestamp> = LazyLock::new(time);
    *STARTED
}
