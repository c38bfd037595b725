//! A list of received items, in order. A test can wait for items of the list.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

/// The time limit of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A list that grows. A test can wait for the next items.
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

    /// Waits for the first matching item, from index `from` on. Returns the item and the index after it.
    pub(crate) async fn find_after(&self, from: usize, what: &str, fits: impl Fn(&T) -> bool) -> (T, usize) {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let grown = self.grown.notified();
                tokio::pin!(grown);
                // The code registers for notifications before it reads the list. So it does not miss an item that is
                // added during the read.
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

    /// Waits for the first matching item.
    pub(crate) async fn find(&self, what: &str, fits: impl Fn(&T) -> bool) -> T {
        self.find_after(0, what, fits).await.0
    }

    /// Waits until the list has at least `length` items.
    pub(crate) async fn reach(&self, length: usize, what: &str) {
        if length > 0 {
            self.find_after(length - 1, what, |_| true).await;
        }
    }
}
