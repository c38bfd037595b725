//! Waits for conditions that cause no event.

use std::time::{Duration, Instant};

/// The time between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until the condition is true. Panics with `what` if the condition is still false after `limit`.
pub async fn wait_until(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    wait_for(limit, what, async || condition().await.then_some(())).await;
}

/// Waits until `check` returns a value, and returns this value. Panics with `what` if there is no value after `limit`.
pub async fn wait_for<T>(limit: Duration, what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
    try_wait_for(limit, check).await.unwrap_or_else(|| panic!("waited {limit:?} in vain: {what}"))
}

/// Waits until `check` returns a value. Returns `None` if there is no value after `limit`.
pub async fn try_wait_for<T>(limit: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let found = async {
        loop {
            if let Some(value) = check().await {
                return value;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(limit, found).await.ok()
}

/// Calls `check` every `interval` until it returns a value, and returns this value. Blocks the thread. Panics with
/// `what` if there is no value after `limit`.
#[expect(clippy::disallowed_methods, reason = "the tests that call this function run on the real clock")]
pub fn wait_for_blocking<T>(
    limit: Duration,
    interval: Duration,
    what: &str,
    mut check: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        std::thread::sleep(interval);
    }
}
