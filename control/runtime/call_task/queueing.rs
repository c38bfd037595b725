//! Queues: a leg's membership in a queue, and the merge of a waiting caller's call into the call of an agent.

use std::sync::Arc;

use tandem_call::id::{LegId, OpId};
use tandem_call::output::LegEvent;
use tandem_clock as clock;
use tandem_queues::Pair;

use super::CallTask;
use crate::inbox::Message;
use crate::registry::Registry;

impl CallTask {
    pub(super) fn enter_queue(&mut self, leg: LegId, op: OpId, name: &Arc<str>, most: Option<u32>) {
        let Some(account) = self.call.leg(leg).map(|info| Arc::clone(&info.account)) else { return };
        let services = &self.services;
        let standing = match services.queues.enter(&account, name, most, leg, clock::time()) {
            Ok(entered) => {
                if entered.new {
                    let (services, queue) = (Arc::clone(services), entered.queue.clone());
                    tokio::spawn(async move {
                        if let Err(error) = tandem_queues::keep(&services.store, &queue).await {
                            tracing::error!(%error, queue = %queue.name, "queue not stored");
                        }
                    });
                }
                if let Some(live) = self.legs.get_mut(&leg) {
                    live.queue_membership = Some(entered.place);
                }
                // Posted after the leg has stored its queue membership.
                self.found_out(leg, LegEvent::Enqueued { op, standing: Ok(entered.queue.id) });
                return self.registry.connect_to_agent(entered.pair);
            }
            Err(why) => Err(why),
        };
        self.found_out(leg, LegEvent::Enqueued { op, standing });
    }

    pub(super) fn return_to_queue(&self, leg: LegId) {
        let pair = self
            .legs
            .get(&leg)
            .and_then(|live| live.queue_membership.as_ref())
            .and_then(tandem_queues::QueueMembership::wait_again);
        self.registry.connect_to_agent(pair);
    }

    pub(super) fn take_from_queue(&mut self, leg: LegId, name: &Arc<str>) {
        let Some(account) = self.call.leg(leg).map(|info| Arc::clone(&info.account)) else { return };
        let Some(live) = self.legs.get_mut(&leg) else { return };
        // The leg may already have a request for a caller.
        live.agent_request = None;
        let (taking, pair) = self.services.queues.take(&account, name, leg);
        live.agent_request = Some(taking);
        self.registry.connect_to_agent(pair);
    }
}

impl Registry {
    /// Merges the call of a waiting caller into the call of the agent's leg, and then notifies the merged call. If the
    /// merge fails, the function tries the next pair.
    pub(crate) fn connect_to_agent(&self, pair: Option<Pair>) {
        let Some(mut pair) = pair else { return };
        let registry = self.clone();
        tokio::spawn(async move {
            loop {
                let merged = registry.merge(pair.taker, pair.waiter).await.is_ok();
                let called = Message::Own(pair.waiter, LegEvent::Called { queue: pair.queue, by: pair.taker });
                // The merged call has one task. If this task has ended, both legs have ended.
                if merged && registry.tell(pair.waiter, called) {
                    return;
                }
                let (next, stuck) = registry.services().queues.part(&pair, !registry.is_live(pair.taker));
                if stuck {
                    registry.tell(pair.taker, Message::Own(pair.taker, LegEvent::DequeueFailed));
                }
                match next {
                    Some(next) => pair = next,
                    None => return,
                }
            }
        });
    }
}
