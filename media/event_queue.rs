//! A queue of events for a sink that can be full. The queue keeps the order of events. The queue loses an event only if
//! the calling code permits the loss ([`EventQueue::try_send`]).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Full;

/// A callback that receives events. `K` is the key of the session or room that the events belong to.
type Sink<K, E> = Arc<dyn Fn(K, E) -> Result<(), Full> + Send + Sync>;

/// A sink, and the events that the sink has not accepted yet. The queue has no maximum length. The queue's owner checks
/// the length with [`EventQueue::backlog`].
pub(crate) struct EventQueue<K, E> {
    key: K,
    sink: Sink<K, E>,
    waiting: VecDeque<E>,
}

impl<K: Copy, E: Clone> EventQueue<K, E> {
    pub(crate) fn new(key: K, sink: Sink<K, E>) -> EventQueue<K, E> {
        EventQueue { key, sink, waiting: VecDeque::new() }
    }

    /// Sends all further events with this key, the waiting events included.
    pub(crate) fn rename(&mut self, key: K) {
        self.key = key;
    }

    /// Sends an event after all waiting events. If the sink is full, the event waits.
    pub(crate) fn send(&mut self, event: E) {
        if !self.try_send(event.clone()) {
            self.waiting.push_back(event);
        }
    }

    /// Sends an event if no other event waits and the sink accepts the event. Otherwise drops the event and returns
    /// false.
    pub(crate) fn try_send(&mut self, event: E) -> bool {
        self.waiting.is_empty() && (self.sink)(self.key, event).is_ok()
    }

    /// Offers the waiting events to the sink again, until the sink refuses an event.
    pub(crate) fn retry(&mut self) {
        while let Some(event) = self.waiting.front() {
            if (self.sink)(self.key, event.clone()).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// The number of waiting events.
    pub(crate) fn backlog(&self) -> usize {
        self.waiting.len()
    }
}
