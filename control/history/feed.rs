//! A feed of log lines of live calls, for watchers in this process (`tandem dev`).

use tandem_http::exchange::HttpExchange;
use tandem_id::{CallId, LegId};
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::event_log::Line;

/// Maximum number of entries that wait for a slow watcher. If more entries wait, the watcher misses the oldest entries
/// and receives the number of missed entries.
const WAITING: usize = 1_024;

/// An entry of a call's log, with the id of the call.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedItem {
    /// The id of the call.
    pub session: CallId,
    /// The entry of the log.
    pub entry: Entry,
}

/// An entry of a call's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A log line.
    Line(Line),
    /// An HTTP exchange, and the leg that the exchange concerns. The entry follows the log line of the exchange.
    Exchange(Option<LegId>, Box<HttpExchange>),
}

/// The feed. Without watchers, the feed has no cost. A call checks only once, when the call starts, whether there are
/// watchers.
#[derive(Debug)]
pub struct Feed(Sender<FeedItem>);

/// Sends the log lines of one call to the watchers.
#[derive(Clone, Debug)]
pub struct FeedSender {
    session: CallId,
    watchers: Sender<FeedItem>,
}

impl Default for Feed {
    fn default() -> Self {
        Self(broadcast::channel(WAITING).0)
    }
}

impl Feed {
    /// Subscribes to the log lines of calls that start from now on.
    pub fn watch(&self) -> Receiver<FeedItem> {
        self.0.subscribe()
    }

    /// Returns the sender for the log lines of this call, or `None` if there is no watcher.
    pub fn wire(&self, session: CallId) -> Option<FeedSender> {
        (self.0.receiver_count() > 0).then(|| FeedSender { session, watchers: self.0.clone() })
    }
}

impl FeedSender {
    /// Sends an entry to the watchers.
    pub fn publish(&self, entry: Entry) {
        // The watchers may have gone, so an error is ignored.
        let _ = self.watchers.send(FeedItem { session: self.session, entry });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::event_log::EventLog;

    fn push(log: &mut EventLog, text: &str) {
        log.push(Timestamp::UNIX_EPOCH, None, "call", text);
    }

    #[test]
    fn a_watcher_gets_each_line_once_when_two_calls_merge() {
        let feed = Feed::default();
        assert!(feed.wire(CallId(1)).is_none(), "nobody watches");
        let mut watcher = feed.watch();
        let (mut one, mut other) = (EventLog::default(), EventLog::default());
        one.publish_to(feed.wire(CallId(1)));
        other.publish_to(feed.wire(CallId(2)));
        push(&mut one, "of the one");
        let exchange = HttpExchange::new(Timestamp::UNIX_EPOCH, "POST", "http://app/", &[], Duration::ZERO);
        other.push_exchange(None, exchange);
        push(&mut other, "of the other");
        one.append(std::mem::take(&mut other));
        push(&mut one, "of both");
        let received: Vec<_> = std::iter::from_fn(|| watcher.try_recv().ok()).collect();
        let texts = received.iter().map(|received| match &received.entry {
            Entry::Line(line) => (received.session.0, line.text.as_str()),
            Entry::Exchange(_, exchange) => (received.session.0, exchange.url.as_str()),
        });
        let texts: Vec<_> = texts.collect();
        assert_eq!(texts, [(1, "of the one"), (2, "http://app/"), (2, "of the other"), (1, "of both")]);
    }
}
