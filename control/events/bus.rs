//! The bus.

use std::cell::LazyCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};
use tandem_call::event::CallEvent;
use tandem_history::live_log::{Entry, LogEntry, LogListener};
use tandem_id::{AccountName, CallId, LegId};
use tokio::sync::Notify;

use crate::event::Event;
use crate::filter::{Filter, Kind, Topic};

/// Maximum number of subscriptions to a single leg, of all legs together.
const MAX_OF_LEGS: usize = 1_000;
/// Maximum number of other subscriptions. Each event of a wanted kind is compared with each of them.
const MAX_OTHERS: usize = 256;
/// Maximum number of events that wait for a reader of one leg, and for any other reader. At this number, the reader
/// misses the oldest event.
const WAITING_OF_LEG: usize = 64;
const WAITING: usize = 1_024;

/// Maximum number of different filters that other nodes get. Of more filters, they get the union.
const INTERESTS: usize = 64;

/// The names of nodes.
pub type NodeNames = Arc<[Arc<str>]>;

/// The bus. Cheap to clone: all clones are one bus. A subscription also keeps the bus.
#[derive(Clone, Default, Debug)]
pub struct Bus(Arc<Shared>);

#[derive(Default, Debug)]
struct Shared {
    /// The kinds that at least one subscription selects, as bits. So an event that no reader wants costs one load.
    wanted: AtomicU32,
    table: RwLock<Table>,
    /// Wakes the tasks that wait until a kind is wanted.
    subscribed: Notify,
    /// Wakes the task that tells the other nodes which events are wanted.
    interest_changed: Notify,
    /// The nodes whose events do not come.
    away: Mutex<NodeNames>,
}

#[derive(Default, Debug)]
struct Table {
    by_leg: HashMap<LegId, Vec<Arc<Reader>>>,
    others: Vec<Arc<Reader>>,
    /// The number of readers in `by_leg`.
    of_legs: usize,
}

#[derive(Debug)]
struct Reader {
    /// The reader receives the events that one of the filters selects.
    filters: Vec<Filter>,
    /// The only leg whose events the reader receives.
    leg: Option<LegId>,
    queue: Mutex<Queue>,
    /// Wakes the reader.
    arrived: Notify,
}

#[derive(Default, Debug)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    missed: u64,
    /// As in [`Item::Away`], if it has changed.
    away: Option<NodeNames>,
    /// Whether no more events will arrive.
    is_over: bool,
}

/// The reason why there is no further subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the server has too many readers of events")]
pub struct TooManySubscriptions;

/// An item that a reader receives.
#[derive(Clone, Debug)]
pub enum Item {
    /// An event.
    Event(Arc<Event>),
    /// The reader was too slow and has missed this number of events. They are older than the events that follow.
    Missed(u64),
    /// For a reader of the events of all nodes: from now on, the events of all other nodes come, but not of the nodes with
    /// these names. The reader may have missed events before.
    Away(NodeNames),
}

/// A subscription to events. Dropping this value ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    reader: Arc<Reader>,
    bus: Arc<Shared>,
}

impl Bus {
    /// Subscribes to all later events that the filter selects. To receive all events of a leg, subscribe before the leg
    /// starts.
    ///
    /// # Errors
    /// [`TooManySubscriptions`], if the bus has its maximum number of subscriptions.
    pub fn subscribe(&self, filter: Filter) -> Result<Subscription, TooManySubscriptions> {
        let leg = filter.leg;
        self.add(leg, vec![filter])
    }

    /// Subscribes to all later events that one of the filters selects.
    ///
    /// # Errors
    /// [`TooManySubscriptions`], if the bus has its maximum number of subscriptions.
    pub fn subscribe_to_any(&self, filters: Vec<Filter>) -> Result<Subscription, TooManySubscriptions> {
        self.add(None, filters)
    }

    fn add(&self, leg: Option<LegId>, filters: Vec<Filter>) -> Result<Subscription, TooManySubscriptions> {
        let reader = Arc::new(Reader { filters, leg, queue: Mutex::default(), arrived: Notify::new() });
        if reader.is_everywhere() {
            let away = Arc::clone(&self.0.away.lock());
            reader.queue.lock().away = (!away.is_empty()).then_some(away);
        }
        let mut table = self.0.table.write();
        match leg {
            Some(_) if table.of_legs >= MAX_OF_LEGS => return Err(TooManySubscriptions),
            None if table.others.len() >= MAX_OTHERS => return Err(TooManySubscriptions),
            Some(leg) => {
                table.of_legs += 1;
                table.by_leg.entry(leg).or_default().push(Arc::clone(&reader));
            }
            None => table.others.push(Arc::clone(&reader)),
        }
        self.0.wanted.fetch_or(reader.bits(), Ordering::Release);
        drop(table);
        self.0.subscribed.notify_waiters();
        if reader.is_everywhere() {
            self.0.interest_changed.notify_one();
        }
        Ok(Subscription { reader, bus: Arc::clone(&self.0) })
    }

    /// Whether a reader takes events of this kind. A publisher may skip work for events that no reader takes.
    pub fn wants(&self, kind: Kind) -> bool {
        self.0.wanted.load(Ordering::Acquire) & kind.bit() != 0
    }

    /// Waits until a reader takes events of this kind.
    pub async fn wanted(&self, kind: Kind) {
        loop {
            let subscribed = self.0.subscribed.notified();
            if self.wants(kind) {
                return;
            }
            subscribed.await;
        }
    }

    /// Sends an event to the readers whose filters select the topic. Never waits. The event is built only if there is
    /// such a reader.
    pub fn publish(&self, topic: Topic<'_>, event: impl FnOnce() -> Event) {
        if !self.wants(topic.kind) {
            return;
        }
        let event = LazyCell::new(|| Arc::new(event()));
        let table = self.0.table.read();
        let of_leg = topic.leg.and_then(|leg| table.by_leg.get(&leg)).map_or(&[][..], Vec::as_slice);
        for reader in of_leg.iter().filter(|reader| reader.selects(&topic)) {
            reader.push(Arc::clone(&event), WAITING_OF_LEG);
        }
        for reader in table.others.iter().filter(|reader| reader.selects(&topic)) {
            reader.push(Arc::clone(&event), WAITING);
        }
        let is_over = topic.ends_leg && !of_leg.is_empty();
        drop(table);
        if let Some(leg) = topic.leg.filter(|_| is_over) {
            self.0.end(leg);
        }
    }

    /// Sends an event of another node to the readers of the events of all nodes.
    pub fn publish_of_other_node(&self, event: Arc<Event>) {
        let topic = event.topic();
        for reader in self.0.table.read().others.iter().filter(|reader| reader.is_everywhere()) {
            if reader.selects(&topic) {
                reader.push(Arc::clone(&event), WAITING);
            }
        }
    }

    /// Says that the readers of the events of all nodes have missed this number of events of other nodes.
    pub fn missed_of_other_node(&self, count: u64) {
        self.to_everywhere(|queue| queue.missed += count);
    }

    /// Says that the events of the other nodes come from now on, but not of the nodes with these names.
    pub fn set_away(&self, nodes: NodeNames) {
        *self.0.away.lock() = Arc::clone(&nodes);
        self.to_everywhere(|queue| queue.away = Some(Arc::clone(&nodes)));
    }

    fn to_everywhere(&self, change: impl Fn(&mut Queue)) {
        for reader in self.0.table.read().others.iter().filter(|reader| reader.is_everywhere()) {
            change(&mut reader.queue.lock());
            reader.arrived.notify_one();
        }
    }

    /// Returns the filters of the readers of the events of all nodes, each filter once: the events that other nodes must
    /// send to this node.
    pub fn interest(&self) -> Vec<Filter> {
        let mut all: Vec<Filter> = Vec::new();
        for filter in self.0.table.read().others.iter().flat_map(|reader| &reader.filters) {
            if filter.everywhere && !all.contains(filter) {
                all.push(filter.clone());
            }
        }
        if all.len() > INTERESTS { vec![Filter::union(&all)] } else { all }
    }

    /// Waits until [`Self::interest`] may have changed. Only one task may wait.
    pub async fn interest_changed(&self) {
        self.0.interest_changed.notified().await;
    }

    /// Publishes an event of a leg.
    pub fn publish_call(&self, event: &CallEvent) {
        self.publish(event.into(), || Event::Call(event.clone()));
    }
}

impl LogListener for Bus {
    fn entry(&self, sessions: &[CallId], leg: Option<LegId>, entry: &dyn Fn() -> Entry) {
        let Some(session) = sessions.first() else { return };
        let server = AccountName::server();
        let topic = Topic::of_call(Kind::Log, &server, sessions, leg);
        self.publish(topic, || Event::Log(LogEntry { session: *session, entry: entry() }));
    }
}

impl Shared {
    /// Ends the subscriptions to this leg.
    fn end(&self, leg: LegId) {
        let mut table = self.table.write();
        let readers = table.by_leg.remove(&leg).unwrap_or_default();
        table.of_legs -= readers.len();
        self.wanted.store(table.bits(), Ordering::Release);
        drop(table);
        readers.iter().for_each(|reader| reader.end());
    }

    fn remove(&self, reader: &Arc<Reader>) {
        let mut table = self.table.write();
        match reader.leg {
            Some(leg) => {
                let Some(readers) = table.by_leg.get_mut(&leg) else { return };
                let before = readers.len();
                readers.retain(|other| !Arc::ptr_eq(other, reader));
                let (removed, is_empty) = (before - readers.len(), readers.is_empty());
                table.of_legs -= removed;
                if is_empty {
                    table.by_leg.remove(&leg);
                }
            }
            None => table.others.retain(|other| !Arc::ptr_eq(other, reader)),
        }
        self.wanted.store(table.bits(), Ordering::Release);
        drop(table);
        if reader.is_everywhere() {
            self.interest_changed.notify_one();
        }
    }
}

impl Table {
    /// Returns the bits of the kinds that the readers select.
    fn bits(&self) -> u32 {
        let of_legs = if self.of_legs > 0 { Kind::Call.bit() } else { 0 };
        self.others.iter().fold(of_legs, |all, reader| all | reader.bits())
    }
}

impl Reader {
    fn selects(&self, topic: &Topic<'_>) -> bool {
        self.filters.iter().any(|filter| filter.selects(topic))
    }

    fn bits(&self) -> u32 {
        self.filters.iter().fold(0, |all, filter| all | filter.bits())
    }

    /// Whether the reader receives events of other nodes.
    fn is_everywhere(&self) -> bool {
        self.filters.iter().any(|filter| filter.everywhere)
    }

    /// Adds an event. If `max` events wait, the oldest event is dropped and counted.
    fn push(&self, event: Arc<Event>, max: usize) {
        let mut queue = self.queue.lock();
        if queue.events.len() >= max {
            queue.events.pop_front();
            queue.missed += 1;
        }
        queue.events.push_back(event);
        drop(queue);
        self.arrived.notify_one();
    }

    fn end(&self) {
        self.queue.lock().is_over = true;
        self.arrived.notify_one();
    }
}

impl Subscription {
    /// Waits for the next event. A subscription to a leg returns `None` after the end of the leg. Any other subscription
    /// does not end. If the returned future is dropped, no event is lost.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            match self.try_next() {
                Ok(item) => return item,
                Err(Empty) => self.reader.arrived.notified().await,
            }
        }
    }

    /// Returns the next event, or an error if no event waits.
    fn try_next(&mut self) -> Result<Option<Item>, Empty> {
        let mut queue = self.reader.queue.lock();
        if let Some(away) = queue.away.take() {
            return Ok(Some(Item::Away(away)));
        }
        if queue.missed > 0 {
            return Ok(Some(Item::Missed(std::mem::take(&mut queue.missed))));
        }
        match queue.events.pop_front() {
            Some(event) => Ok(Some(Item::Event(event))),
            None if queue.is_over => Ok(None),
            None => Err(Empty),
        }
    }

    /// Returns the next item if one waits.
    pub fn waiting(&mut self) -> Option<Item> {
        self.try_next().ok().flatten()
    }

    /// Drops the waiting items.
    pub fn skip_waiting(&mut self) {
        let mut queue = self.reader.queue.lock();
        (queue.missed, queue.away, queue.events) = (0, None, VecDeque::new());
    }

    /// Waits for the next event of a leg, and skips all other items. Returns `None` like [`Subscription::next`].
    pub async fn next_of_leg(&mut self) -> Option<CallEvent> {
        loop {
            match self.next().await? {
                Item::Event(event) => {
                    if let Event::Call(event) = &*event {
                        return Some(event.clone());
                    }
                }
                Item::Missed(count) => tracing::warn!(count, "a reader of a leg was too slow: it missed events"),
                Item::Away(_) => {}
            }
        }
    }
}

/// No event waits.
#[derive(Debug)]
struct Empty;

impl Drop for Subscription {
    fn drop(&mut self) {
        self.bus.remove(&self.reader);
    }
}
