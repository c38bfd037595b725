//! What came in, in order, for a test to wait for.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

/// Longest that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A growing list.
pub(crate) struct Log<T> {
    items: Mutex<Vec<T>>,
    grown: Notify,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), grown: Notify::new() }
    }
}

impl<T: Clone> Log<T> {
    pub(crate) fn push(&self, item: T) {
        self.items.lock().unwrap().push(item);
        self.grown.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.items.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.lock().unwrap().len()
    }

    /// The first that fits, from place `from` on, as soon as it is there, and the place after it.
    pub(crate) async fn find_after(&self, from: usize, what: &str, fits: impl Fn(&T) -> bool) -> (T, usize) {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let grown = self.grown.notified();
                tokio::pin!(grown);
                // From here on nothing that is pushed is missed.
                grown.as_mut().enable();
                {
                    let items = self.items.lock().unwrap();
                    if let Some(place) = items.iter().skip(from).position(&fits) {
                        return (items[from + place].clone(), from + place + 1);
                    }
                }
                grown.await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("in vain: {what}"))
    }

    /// The first that fits, as soon as it is there.
    pub(crate) async fn find(&self, what: &str, fits: impl Fn(&T) -> bool) -> T {
        self.find_after(0, what, fits).await.0
    }

    /// Returns when it is at least so long.
    pub(crate) async fn reach(&self, length: usize, what: &str) {
        if length > 0 {
            self.find_after(length - 1, what, |_| true).await;
        }
    }
}
