//! The events of other nodes. A node sends its events over the bus only while a reader at another node wants them: nobody
//! looks, so a call costs no message.
//!
//! ```text
//!   node B, with a reader: Follow, each 3 s ─────────────────────► node A
//!          readers ◄── its event bus ◄── Told: some events, in order ──┘ while the last Follow is at most 10 s old
//! ```
//!
//! Node A numbers the events for each node that follows. So node B learns how many were lost: node A drops the oldest events
//! when the bus of the cluster is slow, and the bus of the cluster may lose messages. A node that does not answer `Follow`
//! is away, and the readers get its name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_cluster::{Cluster, Note, Question};
use tandem_events::{Bus, Event, Filter, Item, NodeNames, Subscription};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Interval between two questions to a node that sends its events.
const RENEWAL: Duration = Duration::from_secs(3);

/// Interval between two searches for nodes that do not send their events yet.
const SEARCH: Duration = Duration::from_secs(1);

/// Time after the last question of a node, at which its interest is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Time after the end of a node, in which another node ends its calls in the database. Then the readers read again.
const BURIAL: Duration = Duration::from_secs(7);

/// Maximum number of events in one message. An event has at most some 10 kB.
const BATCH: usize = 32;

/// Asks a node to send its events that one of the filters selects. No filters: it shall send no more.
#[derive(Serialize, Deserialize)]
struct Follow {
    /// The epoch of the node that asks.
    node: i64,
    filters: Vec<Filter>,
}

/// A sequence of events of one node for another one.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug, Default)]
struct Place {
    /// A random number that names the sequence.
    sequence: u64,
    /// The number of the next event, from 0.
    next: u64,
}

impl Question for Follow {
    const NAME: &'static str = "follow";
    /// The place of the next event. `None` if the node sends no events, because it has too many readers.
    type Answer = Option<Place>;
}

/// Some events, in order.
#[derive(Serialize, Deserialize)]
struct Told {
    /// The place of the first event.
    place: Place,
    events: Vec<Arc<Event>>,
}

impl Note for Told {
    const NAME: &'static str = "events";
}

/// Starts to send the events of this node, and to ask for those of others.
pub(super) fn start(cluster: &Cluster, bus: &Bus) {
    let followers = Followers { cluster: cluster.clone(), bus: bus.clone(), by_node: Mutex::default() };
    let followers = Arc::new(followers);
    cluster.answer(move |follow: Follow| std::future::ready(followers.handle(follow)));
    let received: Arc<Received> = Arc::default();
    let (receiver, own) = (Arc::clone(&received), bus.clone());
    cluster.listen(move |told: Told, sender| receiver.take(told, sender, &own));
    tokio::spawn(follow(cluster.clone(), bus.clone(), received));
}

/// The nodes that follow this node. The number of nodes limits the size.
struct Followers {
    cluster: Cluster,
    bus: Bus,
    by_node: Mutex<HashMap<i64, Follower>>,
}

/// A node that follows this node.
struct Follower {
    filters: Vec<Filter>,
    renewed: Arc<Mutex<Instant>>,
    place: Arc<Mutex<Place>>,
    task: AbortHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followers {
    fn handle(&self, Follow { node, filters }: Follow) -> Option<Place> {
        let mut by_node = self.by_node.lock();
        by_node.retain(|_, follower| !follower.task.is_finished());
        if let Some(known) = by_node.get(&node).filter(|known| known.filters == filters) {
            *known.renewed.lock() = Instant::now();
            return Some(*known.place.lock());
        }
        // The node reads its lists again after this answer, so the waiting events of the earlier filters may be dropped.
        by_node.remove(&node);
        if filters.is_empty() {
            return None;
        }
        let events = self.bus.subscribe_to_any(filters.clone()).ok()?;
        let first = Place { sequence: rand::random(), next: 0 };
        let (renewed, place) = (Arc::new(Mutex::new(Instant::now())), Arc::new(Mutex::new(first)));
        let sending = send(self.cluster.clone(), node, events, Arc::clone(&renewed), Arc::clone(&place));
        by_node.insert(node, Follower { filters, renewed, place, task: tokio::spawn(sending).abort_handle() });
        Some(first)
    }
}

/// Sends events to a node until its interest is forgotten.
async fn send(
    cluster: Cluster,
    node: i64,
    mut events: Subscription,
    renewed: Arc<Mutex<Instant>>,
    place: Arc<Mutex<Place>>,
) {
    loop {
        let forgotten = *renewed.lock() + FORGOTTEN;
        let item = tokio::select! {
            item = events.next() => item,
            () = tokio::time::sleep_until(forgotten) => {
                if *renewed.lock() + FORGOTTEN <= Instant::now() {
                    return;
                }
                continue;
            }
        };
        let Some(item) = item else { return };
        let (batch, missed) = batch(item, &mut events);
        let first = *place.lock();
        let count = batch.len() as u64;
        if count > 0 {
            // A note that is not sent leaves a gap, which the other node notices.
            if let Err(error) = cluster.tell(node, &Told { place: first, events: batch }).await {
                tracing::debug!(%error, count, "events for another node were not sent");
            }
        }
        place.lock().next += count + missed;
    }
}

/// Takes the events that wait, at most [`BATCH`]. Returns them, and the number of events that were missed after them.
fn batch(first: Item, events: &mut Subscription) -> (Vec<Arc<Event>>, u64) {
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(item) = next.take() {
        match item {
            Item::Event(event) => batch.push(event),
            Item::Missed(count) => return (batch, count),
            Item::Away(_) => {}
        }
        next = if batch.len() < BATCH { events.waiting() } else { None };
    }
    (batch, 0)
}

/// The places up to which the events of other nodes have come.
#[derive(Default)]
struct Received(Mutex<HashMap<i64, Reached>>);

#[derive(Default)]
struct Reached {
    place: Place,
    /// The place that the node had reached at its last answer.
    owed: Place,
}

impl Received {
    /// Publishes events of another node on the bus of this node.
    fn take(&self, told: Told, sender: i64, bus: &Bus) {
        let missed = {
            let mut by_node = self.0.lock();
            let reached = by_node.entry(sender).or_default();
            if reached.place.sequence != told.place.sequence {
                reached.place = Place { next: 0, ..told.place };
            }
            let missed = told.place.next.saturating_sub(reached.place.next);
            reached.place.next = told.place.next + told.events.len() as u64;
            missed
        };
        if missed > 0 {
            bus.missed_of_other_node(missed);
        }
        told.events.into_iter().for_each(|event| bus.publish_of_other_node(event));
    }

    /// Handles the answer of a node. The events before its last answer should have come. Returns the number of those that
    /// were lost.
    fn answered(&self, node: i64, place: Place) -> u64 {
        let mut by_node = self.0.lock();
        let reached = by_node.entry(node).or_default();
        let owed = std::mem::replace(&mut reached.owed, place);
        if reached.place.sequence != place.sequence {
            reached.place = Place { next: 0, ..place };
        }
        if owed.sequence != place.sequence {
            return 0;
        }
        let lost = owed.next.saturating_sub(reached.place.next);
        reached.place.next += lost;
        lost
    }

    fn retain(&self, living: impl Fn(i64) -> bool) {
        self.0.lock().retain(|node, _| living(*node));
    }
}

/// Asks the other nodes for their events, as long as a reader of this node wants them.
async fn follow(cluster: Cluster, bus: Bus, received: Arc<Received>) {
    // When each node has last answered.
    let mut sending: HashMap<i64, Instant> = HashMap::new();
    let mut asked_for: Vec<Filter> = Vec::new();
    let mut before: NodeNames = Arc::default();
    let mut read_again: Option<Instant> = None;
    loop {
        let filters = bus.interest();
        let others = cluster.others();
        if filters != asked_for {
            sending.clear();
        }
        let is_due = |epoch: i64| sending.get(&epoch).is_none_or(|answered| answered.elapsed() >= RENEWAL);
        // When the last reader has gone, each node learns it once.
        let is_asked = |epoch: i64| if filters.is_empty() { filters != asked_for } else { is_due(epoch) };
        let asked = others.iter().filter(|row| is_asked(row.epoch)).map(|row| async {
            let follow = Follow { node: cluster.epoch().unwrap_or_default(), filters: filters.clone() };
            (row.epoch, cluster.ask(row, &follow).await.ok().flatten())
        });
        let answers = join_all(asked).await;
        asked_for.clone_from(&filters);
        if filters.is_empty() {
            sending.clear();
            received.retain(|_| false);
            before = Arc::default();
            bus.set_away(Arc::clone(&before));
            bus.interest_changed().await;
            continue;
        }
        let living = |epoch: i64| others.iter().any(|row| row.epoch == epoch);
        received.retain(living);
        let known = sending.len();
        sending.retain(|epoch, _| living(*epoch));
        if sending.len() < known {
            read_again = Some(Instant::now() + BURIAL);
        }
        let mut changed = sending.len() < known || read_again.is_some_and(|at| at <= Instant::now());
        read_again = read_again.filter(|at| *at > Instant::now());
        for (epoch, place) in answers {
            match place {
                Some(place) => {
                    changed |= sending.insert(epoch, Instant::now()).is_none();
                    let lost = received.answered(epoch, place);
                    if lost > 0 {
                        bus.missed_of_other_node(lost);
                    }
                }
                None => drop(sending.remove(&epoch)),
            }
        }
        let away: NodeNames =
            others.iter().filter(|row| !sending.contains_key(&row.epoch)).map(|row| row.name.as_str().into()).collect();
        if changed || away != before {
            bus.set_away(Arc::clone(&away));
            before = away;
        }
        tokio::select! {
            () = bus.interest_changed() => {}
            () = tokio::time::sleep(SEARCH) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_events::{Kind, PhoneEvent, Topic};
    use tandem_id::AccountName;

    use super::*;

    fn phone(username: &str) -> Event {
        let (account, username) = (AccountName::new("acme"), username.into());
        Event::Phone(PhoneEvent { account, username, domain: None, registered: true })
    }

    fn told(place: Place, names: &[&str]) -> Told {
        Told { place, events: names.iter().map(|name| Arc::new(phone(name))).collect() }
    }

    /// The names of the phones, and the numbers of missed events, which have come.
    fn taken(reader: &mut Subscription) -> Vec<String> {
        std::iter::from_fn(|| reader.waiting())
            .map(|item| match item {
                Item::Missed(count) => format!("missed {count}"),
                Item::Event(event) => match &*event {
                    Event::Phone(phone) => phone.username.to_string(),
                    other => panic!("{other:?}"),
                },
                Item::Away(_) => "away".to_owned(),
            })
            .collect()
    }

    #[test]
    fn lost_messages_are_noticed_with_the_next_event_or_with_the_next_answer() {
        let (bus, received) = (Bus::default(), Received::default());
        let mut reader = bus.subscribe(Filter::kinds(&[Kind::Phone]).everywhere()).unwrap();
        let at = |next| Place { sequence: 5, next };
        assert_eq!(received.answered(1, at(0)), 0);
        received.take(told(at(0), &["a", "b"]), 1, &bus);
        assert_eq!(taken(&mut reader), ["a", "b"]);
        received.take(told(at(4), &["c"]), 1, &bus);
        assert_eq!(taken(&mut reader), ["missed 2", "c"]);
        // The events before this answer may still be on their way until the next answer.
        assert_eq!(received.answered(1, at(7)), 0);
        assert_eq!(received.answered(1, at(7)), 2);
        assert_eq!(received.answered(1, at(7)), 0);
        received.take(told(at(7), &["d"]), 1, &bus);
        assert_eq!(taken(&mut reader), ["d"]);
        // Another sequence begins: the lists are read again.
        received.take(told(Place { sequence: 6, next: 0 }, &["e"]), 1, &bus);
        assert_eq!(received.answered(1, Place { sequence: 6, next: 0 }), 0);
        assert_eq!(taken(&mut reader), ["e"]);
    }

    #[tokio::test]
    async fn waiting_events_are_sent_together_and_the_missed_ones_leave_a_gap() {
        let bus = Bus::default();
        let mut events = bus.subscribe(Filter::kinds(&[Kind::Phone])).unwrap();
        let publish = |count: usize| {
            for _ in 0..count {
                bus.publish(Topic::new(Kind::Phone, &AccountName::new("acme")), || phone("x"));
            }
        };
        publish(BATCH + 3);
        let mut next = async || {
            let first = events.next().await.unwrap();
            let (batch, missed) = batch(first, &mut events);
            (batch.len(), missed)
        };
        assert_eq!(next().await, (BATCH, 0));
        assert_eq!(next().await, (3, 0));
        publish(1_030);
        assert_eq!(next().await, (0, 6));
        assert_eq!(next().await, (BATCH, 0));
    }
}
