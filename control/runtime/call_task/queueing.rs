//! Queues: a leg's membership in a queue, and the merge of a waiting caller's call into the call of an agent.

use std::sync::Arc;

use jiff::Timestamp;
use tandem_call::output::LegEvent;
use tandem_host::clock;
use tandem_id::{LegId, OpId};
use tandem_queues::Pair;

use super::CallTask;
use crate::inbox::Message;
use crate::registry::Registry;

impl CallTask {
    pub(super) fn enter_queue(&mut self, leg: LegId, op: OpId, name: &Arc<str>, max_size: Option<u32>) {
        let Some(account) = self.state.call.leg(leg).map(|info| info.account.clone()) else { return };
        let services = &self.services;
        let result = match services.queues.enter(&account, name, max_size, leg, clock::time()) {
            Ok(entered) => {
                if entered.new {
                    let (services, queue) = (Arc::clone(services), entered.queue.clone());
                    tokio::spawn(async move {
                        if let Err(error) = tandem_queues::keep(&services.store, &queue).await {
                            tracing::error!(%error, queue = %queue.name, "queue not stored");
                        }
                    });
                }
                if let Some(live) = self.state.legs.get_mut(&leg) {
                    live.attachments.queue_membership = Some(entered.membership);
                }
                // Posted after the leg has stored its queue membership.
                self.post_leg_event(leg, LegEvent::Enqueued { op, result: Ok(entered.queue.id) });
                return self.registry.connect_to_agent(entered.pair);
            }
            Err(why) => Err(why),
        };
        self.post_leg_event(leg, LegEvent::Enqueued { op, result });
    }

    /// Puts a leg that waited before a restart to its position in the queue.
    pub(super) fn resume_wait(&mut self, leg: LegId, name: &Arc<str>, since: Timestamp, called: bool) {
        let Some(account) = self.state.call.leg(leg).map(|info| info.account.clone()) else { return };
        match self.services.queues.resume(&account, name, leg, since, called) {
            Ok((membership, pair)) => {
                if let Some(live) = self.state.legs.get_mut(&leg) {
                    live.attachments.queue_membership = Some(membership);
                }
                self.registry.connect_to_agent(pair);
            }
            Err(error) => tracing::error!(%error, queue = %name, "a leg lost its position in the queue"),
        }
    }

    pub(super) fn return_to_queue(&self, leg: LegId) {
        let pair = self
            .state
            .legs
            .get(&leg)
            .and_then(|live| live.attachments.queue_membership.as_ref())
            .and_then(tandem_queues::QueueMembership::wait_again);
        self.registry.connect_to_agent(pair);
    }

    pub(super) fn take_from_queue(&mut self, leg: LegId, name: &Arc<str>) {
        let Some(account) = self.state.call.leg(leg).map(|info| info.account.clone()) else { return };
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        // The leg may already have a request for a caller.
        live.attachments.agent_request = None;
        let (request, pair) = self.services.queues.take(&account, name, leg);
        live.attachments.agent_request = Some(request);
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
                let merged = registry.merge(pair.agent, pair.caller).await.is_ok();
                let called = Message::LegEvent(pair.caller, LegEvent::Called { queue: pair.queue, by: pair.agent });
                // The merged call has one task. If this task has ended, both legs have ended.
                if merged && registry.post(pair.caller, called) {
                    return;
                }
                let (next, stuck) = registry.services().queues.unpair(&pair, !registry.is_live(pair.agent));
                if stuck {
                    registry.post(pair.agent, Message::LegEvent(pair.agent, LegEvent::DequeueFailed));
                }
                match next {
                    Some(next) => pair = next,
                    None => return,
                }
            }
        });
    }
}
