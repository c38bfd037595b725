//! The shell's one place that reads the clocks.

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
