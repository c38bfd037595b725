//! A waiting leg that is reserved for a request of an application.

use tandem_id::LegId;

use super::table::Hold;
use super::{Member, Queues, RESERVED};

/// A waiting leg that is not paired, because a request works on it. When this value is dropped, the leg returns to its position,
/// unless it has left the queue. If another node has the queue, the leg returns to its position 15 s after it was reserved.
pub struct Reservation {
    member: Member,
    held: Option<Held>,
}

/// A hold on a leg in a queue of this node.
struct Held {
    queues: Queues,
    hold: Hold,
}

impl Reservation {
    pub(super) fn here(queues: &Queues, member: Member, hold: Hold) -> Self {
        Self { member, held: Some(Held { queues: queues.clone(), hold }) }
    }

    /// A leg in a queue of another node, which ends the reservation.
    pub(super) fn elsewhere(member: Member) -> Self {
        Self { member, held: None }
    }

    /// The reserved leg.
    pub fn leg(&self) -> LegId {
        self.member.leg
    }

    /// Returns the reserved leg, which leaves the queue soon. If it is still in the queue after 15 s, it returns to its position.
    pub fn leaves(self) -> Member {
        if let Some(held) = self.held {
            let runtime = held.queues.0.runtime.clone();
            runtime.spawn(async move {
                tokio::time::sleep(RESERVED).await;
                drop(held);
            });
        }
        self.member
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let pair = {
            let mut table = self.queues.0.table.lock();
            table.release(self.hold).and_then(|id| table.pair(id))
        };
        // The value may be dropped outside of the runtime, which connects the pair.
        let _in_runtime = self.queues.0.runtime.enter();
        self.queues.connect(pair);
    }
}
