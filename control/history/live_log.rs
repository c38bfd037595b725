//! The entries of the logs of live calls, for readers in this process.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tandem_http::exchange::HttpExchange;
use tandem_id::{CallId, LegId};

use crate::event_log::Line;

/// An entry of the log of a live call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The id of the call.
    pub session: CallId,
    pub entry: Entry,
}

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    Line(Line),
    /// An HTTP exchange, and the leg that the exchange concerns. The entry follows the log line of the exchange.
    Exchange(Option<LegId>, Box<HttpExchange>),
}

/// The receiver of the entries of all live calls.
pub trait LogListener: Send + Sync {
    /// Receives an entry. `sessions` are the ids of the call and of the calls that were merged into it. `entry` builds
    /// the entry, if a reader needs it. Must not wait.
    fn entry(&self, sessions: &[CallId], leg: Option<LegId>, entry: &dyn Fn() -> Entry);
}

/// Sends the entries of one log to the listener.
pub(crate) struct Wire {
    sessions: Vec<CallId>,
    listener: Arc<dyn LogListener>,
}

impl Wire {
    pub(crate) fn new(session: CallId, listener: Arc<dyn LogListener>) -> Self {
        Self { sessions: vec![session], listener }
    }

    pub(crate) fn send(&self, leg: Option<LegId>, entry: &dyn Fn() -> Entry) {
        self.listener.entry(&self.sessions, leg, entry);
    }

    /// Returns the wire of a log into which the log of `other` was merged.
    pub(crate) fn and(mut self, other: Option<Self>) -> Self {
        self.sessions.extend(other.into_iter().flat_map(|other| other.sessions));
        self
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use parking_lot::Mutex;

    use super::*;
    use crate::event_log::EventLog;

    /// The received entries as text, each with the sessions of its log.
    #[derive(Default)]
    struct Received(Mutex<Vec<(Vec<u128>, String)>>);

    impl LogListener for Received {
        fn entry(&self, sessions: &[CallId], _leg: Option<LegId>, entry: &dyn Fn() -> Entry) {
            let text = match entry() {
                Entry::Line(line) => line.text,
                Entry::Exchange(_, exchange) => exchange.url,
            };
            self.0.lock().push((sessions.iter().map(|session| session.0).collect(), text));
        }
    }

    fn push(log: &mut EventLog, text: &str) {
        log.push(Timestamp::UNIX_EPOCH, None, "call", text);
    }

    #[test]
    fn each_entry_is_sent_once_although_two_calls_merge() {
        let received = Arc::new(Received::default());
        let (mut target, mut other) = (EventLog::default(), EventLog::default());
        push(&mut target, "before the listener");
        target.send_to(CallId(1), received.clone());
        other.send_to(CallId(2), received.clone());
        push(&mut target, "of the target");
        let exchange = HttpExchange::new(Timestamp::UNIX_EPOCH, "POST", "http://app/", &[], Duration::ZERO);
        other.push_exchange(None, exchange);
        push(&mut other, "of the other");
        target.append(std::mem::take(&mut other));
        push(&mut target, "after the merge");
        // A task that does not know of the merge uses the log that the merge left behind.
        push(&mut other, "late");
        target.append(std::mem::take(&mut other));
        let received = std::mem::take(&mut *received.0.lock());
        let received: Vec<_> = received.iter().map(|(sessions, text)| (&**sessions, text.as_str())).collect();
        assert_eq!(
            received,
            [
                (&[1][..], "of the target"),
                (&[2], "http://app/"),
                (&[2], "of the other"),
                (&[1, 2], "after the merge"),
                (&[1, 2], "late"),
            ]
        );
    }
}
