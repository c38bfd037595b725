//! Lines of calls as they are written, for whoever watches in this process (`tandem dev`).

use tandem_call::id::{CallId, LegId};
use tandem_http::exchange::Exchange;
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::event_log::Line;

/// Entries that wait for a watcher; one that is further behind misses the oldest, and is told how many.
const WAITING: usize = 1_024;

/// One entry of a call's log, and whose.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The session.
    pub session: CallId,
    /// What its log says now.
    pub entry: Entry,
}

/// What a log is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A line.
    Line(Line),
    /// A request with its answer, and the leg it is about. It follows the line that tells of it.
    Exchange(Option<LegId>, Box<Exchange>),
}

/// Where lines go. Costs nothing while nobody watches: a call looks once, at its beginning.
#[derive(Debug)]
pub struct Feed(Sender<Told>);

/// The way of one call's lines to the watchers.
#[derive(Clone, Debug)]
pub struct Wire {
    session: CallId,
    watchers: Sender<Told>,
}

impl Default for Feed {
    fn default() -> Self {
        Self(broadcast::channel(WAITING).0)
    }
}

impl Feed {
    /// Watches: the lines of calls that begin from now on.
    pub fn watch(&self) -> Receiver<Told> {
        self.0.subscribe()
    }

    /// For the lines of this session, if anybody watches.
    pub fn wire(&self, session: CallId) -> Option<Wire> {
        (self.0.receiver_count() > 0).then(|| Wire { session, watchers: self.0.clone() })
    }
}

impl Wire {
    /// Passes it on.
    pub fn tell(&self, entry: Entry) {
        // The watchers may have gone meanwhile.
        let _ = self.watchers.send(Told { session: self.session, entry });
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
    fn a_watcher_is_told_each_line_once_also_when_two_calls_become_one() {
        let feed = Feed::default();
        assert!(feed.wire(CallId(1)).is_none(), "nobody watches");
        let mut watcher = feed.watch();
        let (mut one, mut other) = (EventLog::default(), EventLog::default());
        one.told_to(feed.wire(CallId(1)));
        other.told_to(feed.wire(CallId(2)));
        push(&mut one, "of the one");
        let exchange = Exchange::new(Timestamp::UNIX_EPOCH, "POST", "http://app/", &[], Duration::ZERO);
        other.push_exchange(None, exchange);
        push(&mut other, "of the other");
        one.append(std::mem::take(&mut other));
        push(&mut one, "of both");
        let told: Vec<_> = std::iter::from_fn(|| watcher.try_recv().ok()).collect();
        let texts = told.iter().map(|told| match &told.entry {
            Entry::Line(line) => (told.session.0, line.text.as_str()),
            Entry::Exchange(_, exchange) => (told.session.0, exchange.url.as_str()),
        });
        let texts: Vec<_> = texts.collect();
        assert_eq!(texts, [(1, "of the one"), (2, "http://app/"), (2, "of the other"), (1, "of both")]);
    }
}
