//! The shell's one place that reads the clocks.
#![forbid(unsafe_code)]

use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use tandem_call::Now;

/// This moment on both clocks.
#[expect(clippy::disallowed_methods, reason = "the shell owns the clock; everything pure is given it")]
pub fn now() -> Now {
    Now { instant: Instant::now(), time: time() }
}

/// This moment as people know it.
#[expect(clippy::disallowed_methods, reason = "as above")]
pub fn time() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When the server started: the date of whatever its configuration file says. First asked by [`Calls::new`], which is made
/// once.
///
/// [`Calls::new`]: tandem_runtime::registry::Calls::new
pub fn started() -> Timestamp {
    static STARTED: LazyLock<Timestamp> = LazyLock::new(time);
    *STARTED
}
