//! Subscriptions of server components to the events of a leg.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::id::LegId;
use tokio::sync::mpsc;

/// Maximum number of legs with a follower.
const MAX_FOLLOWED: usize = 1_000;
/// Maximum number of events that wait for a follower. If this number is exceeded, the follower receives no further
/// events.
const QUEUE: usize = 64;

/// The followers, by leg. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Followers(Arc<RwLock<HashMap<LegId, mpsc::Sender<CallEvent>>>>);

/// A subscription to the events of a leg.
#[derive(Debug)]
pub struct Following {
    leg: LegId,
    events: mpsc::Receiver<CallEvent>,
    followers: Followers,
}

impl Followers {
    /// Subscribes to the events of a leg. To receive all events, subscribe before the leg starts. Returns `None` if too
    /// many legs have a follower.
    pub fn follow(&self, leg: LegId) -> Option<Following> {
        let (sender, events) = mpsc::channel(QUEUE);
        let mut all = self.0.write();
        if all.len() >= MAX_FOLLOWED {
            return None;
        }
        all.insert(leg, sender);
        Some(Following { leg, events, followers: self.clone() })
    }

    /// Sends an event to the follower of the event's leg. Never waits.
    pub fn publish(&self, event: &CallEvent) {
        let leg = event.leg.id;
        let told = match self.0.read().get(&leg) {
            Some(follower) => follower.try_send(event.clone()).is_ok(),
            None => return,
        };
        if !told || matches!(event.kind, EventKind::Ended) {
            self.0.write().remove(&leg);
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
        self.followers.0.write().remove(&self.leg);
    }
}
