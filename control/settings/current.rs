//! What may be replaced while calls go on.

use std::sync::Arc;

use parking_lot::RwLock;

/// Settings as they are now. Who gets them keeps them as they were then.
#[derive(Debug, Default)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// These, until others come.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// As they are now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Others, for everybody who asks from now on.
    pub fn set(&self, value: T) {
        *self.0.write() = Arc::new(value);
    }
}
