//! What is told to a sink that may be full: in order, nothing lost but what may be.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Full;

/// Where events about a `K` go.
type Sink<K, E> = Arc<dyn Fn(K, E) -> Result<(), Full> + Send + Sync>;

/// A sink and what it has not taken yet. Its owner looks at how much that is, and gives up past a bound of its own.
pub(crate) struct EventQueue<K, E> {
    key: K,
    sink: Sink<K, E>,
    waiting: VecDeque<E>,
}

impl<K: Copy, E: Clone> EventQueue<K, E> {
    pub(crate) fn new(key: K, sink: Sink<K, E>) -> EventQueue<K, E> {
        EventQueue { key, sink, waiting: VecDeque::new() }
    }

    /// Tells it, after what waits.
    pub(crate) fn send(&mut self, event: E) {
        if !self.try_send(event.clone()) {
            self.waiting.push_back(event);
        }
    }

    /// Tells it now or never: false.
    pub(crate) fn try_send(&mut self, event: E) -> bool {
        self.waiting.is_empty() && (self.sink)(self.key, event).is_ok()
    }

    /// Offers what waits once more.
    pub(crate) fn retry(&mut self) {
        while let Some(event) = self.waiting.front() {
            if (self.sink)(self.key, event.clone()).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// How many events wait.
    pub(crate) fn backlog(&self) -> usize {
        self.waiting.len()
    }
}
