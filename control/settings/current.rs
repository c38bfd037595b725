//! Settings that a reload replaces while calls continue.

use std::sync::Arc;

use parking_lot::RwLock;

/// The current settings. The caller of [`Current::get`] keeps the returned version, even after a reload.
#[derive(Debug, Default)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// Creates the value with these settings.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// Returns the current settings.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Replaces the settings for all later calls of [`Current::get`].
    pub fn set(&self, value: T) {
        *self.0.write() = Arc::new(value);
    }
}
