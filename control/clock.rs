//! The shell's one place that reads the clocks.

use std::time::Instant;

use tandem_call::Now;

/// This moment on both clocks.
#[expect(clippy::disallowed_methods, reason = "the shell owns the clock; everything pure is given it")]
pub fn now() -> Now {
    let time = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Now { instant: Instant::now(), time }
}
