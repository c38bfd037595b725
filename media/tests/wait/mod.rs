//! Waiting on the real clock, with a deadline.

use std::time::{Duration, Instant};

/// Calls `attempt` every `step` until it returns a value, and returns this value. Fails after `within`; `what` names the
/// missing event.
pub(crate) fn wait_until<T>(within: Duration, step: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(step);
    }
}
