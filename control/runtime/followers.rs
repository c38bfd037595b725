//! Subscriptions of server components to the events of a leg.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use tandem_call::event::{CallEvent, EventKind};
use tandem_id::LegId;
use tokio::sync::mpsc;

/// Maximum number of subscriptions of all legs. If this number is reached, there is no further subscription.
const MAX_FOLLOWED: usize = 1_000;
/// Maximum number of events that wait for a follower. If this number is exceeded, the follower receives no further
/// events.
const QUEUE: usize = 64;

/// The followers, by leg. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Followers(Arc<RwLock<Table>>);

#[derive(Debug, Default)]
struct Table {
    by_leg: HashMap<LegId, Vec<Follower>>,
    /// Number of followers in `by_leg`.
    count: usize,
    /// Number of the next follower.
    next: u64,
}

#[derive(Debug)]
struct Follower {
    id: u64,
    events: mpsc::Sender<CallEvent>,
}

/// A subscription to the events of a leg.
#[derive(Debug)]
pub struct Following {
    leg: LegId,
    id: u64,
    events: mpsc::Receiver<CallEvent>,
    followers: Followers,
}

impl Followers {
    /// Subscribes to the events of a leg. A leg may have several followers. To receive all events, subscribe before the
    /// leg starts. Returns `None` if there are too many subscriptions.
    pub fn follow(&self, leg: LegId) -> Option<Following> {
        let (sender, events) = mpsc::channel(QUEUE);
        let mut table = self.0.write();
        if table.count >= MAX_FOLLOWED {
            return None;
        }
        let id = table.next;
        table.next += 1;
        table.count += 1;
        table.by_leg.entry(leg).or_default().push(Follower { id, events: sender });
        Some(Following { leg, id, events, followers: self.clone() })
    }

    /// Sends an event to the followers of the event's leg. Never waits.
    pub fn publish(&self, event: &CallEvent) {
        let leg = event.leg.id;
        let lost = |follower: &Follower| follower.events.try_send(event.clone()).is_err();
        let lost: Vec<u64> = match self.0.read().by_leg.get(&leg) {
            Some(followers) => followers.iter().filter(|one| lost(one)).map(|one| one.id).collect(),
            None => return,
        };
        let ended = matches!(event.kind, EventKind::Ended);
        if ended || !lost.is_empty() {
            self.remove(leg, |follower| ended || lost.contains(&follower.id));
        }
    }

    /// Removes the followers of a leg for which `is_over` returns `true`. Their queues end after the waiting events.
    fn remove(&self, leg: LegId, is_over: impl Fn(&Follower) -> bool) {
        let mut table = self.0.write();
        let Some(followers) = table.by_leg.get_mut(&leg) else { return };
        let before = followers.len();
        followers.retain(|follower| !is_over(follower));
        let left = followers.len();
        table.count -= before - left;
        if left == 0 {
            table.by_leg.remove(&leg);
        }
    }
}

impl Following {
    /// Waits for the next event. Returns `None` after the end of the leg.
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.events.recv().await
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followers.remove(self.leg, |follower| follower.id == self.id);
    }
}

#[cfg(test)]
mod tests {
    use tandem_call::testing::CallScript;

    use super::*;

    /// An event of a leg that is not its end.
    fn begun() -> CallEvent {
        CallScript::commanded().events().next().unwrap().clone()
    }

    #[tokio::test]
    async fn each_follower_of_a_leg_hears_everything_until_it_leaves_by_itself() {
        let followers = Followers::default();
        let event = begun();
        let leg = event.leg.id;
        let (mut first, mut second) = (followers.follow(leg).unwrap(), followers.follow(leg).unwrap());
        followers.publish(&event);
        assert!(first.next().await.is_some() && second.next().await.is_some());
        drop(first);
        followers.publish(&event);
        assert!(second.next().await.is_some(), "the end of one subscription is not the end of the other");
        followers.publish(&CallEvent { kind: EventKind::Ended, ..event });
        assert!(second.next().await.is_some() && second.next().await.is_none());
        assert_eq!((followers.0.read().count, followers.0.read().by_leg.len()), (0, 0));
    }

    #[test]
    fn a_follower_that_does_not_read_loses_its_place_and_no_other_does() {
        let followers = Followers::default();
        let event = begun();
        let (slow, mut quick) = (followers.follow(event.leg.id).unwrap(), followers.follow(event.leg.id).unwrap());
        for _ in 0..=QUEUE {
            followers.publish(&event);
            assert!(quick.events.try_recv().is_ok());
        }
        assert_eq!(followers.0.read().count, 1);
        drop(slow);
        assert_eq!(followers.0.read().count, 1, "dropped twice, counted once");
        drop(quick);
        let all: Vec<_> = std::iter::from_fn(|| followers.follow(event.leg.id)).take(MAX_FOLLOWED + 1).collect();
        assert_eq!(all.len(), MAX_FOLLOWED);
    }
}
