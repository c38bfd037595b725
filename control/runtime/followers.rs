//! Those inside the server who want to know what happens to a leg.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::id::LegId;
use tokio::sync::mpsc;

/// Legs that are followed at a time; further ones are not.
const MOST: usize = 1_000;
/// Events that may wait for a follower; who lets more come hears of no more.
const QUEUE: usize = 64;

/// Who follows which leg. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Followers(Arc<RwLock<HashMap<LegId, mpsc::Sender<CallEvent>>>>);

/// A leg's events from now on.
#[derive(Debug)]
pub struct Following {
    leg: LegId,
    events: mpsc::Receiver<CallEvent>,
    followers: Followers,
}

impl Followers {
    /// Follows a leg, best before it is there; `None` when too many are followed.
    pub fn follow(&self, leg: LegId) -> Option<Following> {
        let (sender, events) = mpsc::channel(QUEUE);
        let mut all = self.0.write();
        if all.len() >= MOST {
            return None;
        }
        all.insert(leg, sender);
        Some(Following { leg, events, followers: self.clone() })
    }

    /// Tells who follows the event's leg; never waits.
    pub fn tell(&self, event: &CallEvent) {
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
    /// The next event; `None` after the leg's end.
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.events.recv().await
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followers.0.write().remove(&self.leg);
    }
}
