//! Events for a sink that may be full: in order, and none is lost unless it may be.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Full;

/// Takes events about a `K`.
type Sink<K, E> = Arc<dyn Fn(K, E) -> Result<(), Full> + Send + Sync>;

/// A sink and the events that it has not taken yet. The owner checks [`EventQueue::backlog`] and gives up past a bound of its own.
pub(crate) struct EventQueue<K, E> {
    key: K,
    sink: Sink<K, E>,
    waiting: VecDeque<E>,
}

impl<K: Copy, E: Clone> EventQueue<K, E> {
    pub(crate) fn new(key: K, sink: Sink<K, E>) -> EventQueue<K, E> {
        EventQueue { key, sink, waiting: VecDeque::new() }
    }

    /// Sends an event, after those that wait.
    pub(crate) fn send(&mut self, event: E) {
        if !self.try_send(event.clone()) {
            self.waiting.push_back(event);
        }
    }

    /// Sends an event now. Returns false if that is impossible; the event is then lost.
    pub(crate) fn try_send(&mut self, event: E) -> bool {
        self.waiting.is_empty() && (self.sink)(self.key, event).is_ok()
    }

    /// Offers the waiting events once more.
    pub(crate) fn retry(&mut self) {
        while let Some(event) = self.waiting.front() {
            if (self.sink)(self.key, event.clone()).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// The number of events that wait.
    pub(crate) fn backlog(&self) -> usize {
        self.waiting.len()
    }
}
