//! Settings that a reload replaces while calls go on.

use std::sync::Arc;

use parking_lot::RwLock;

/// The current settings. A caller of [`Current::get`] keeps the version that it got.
#[derive(Debug, Default)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// Starts with these settings.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The current settings.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Replaces the settings for all later calls of [`Current::get`].
    pub fn set(&self, value: T) {
        *self.0.write() = Arc::new(value);
    }
}
