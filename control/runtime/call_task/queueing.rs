//! Queues: a leg's membership in a queue, and an agent's request for the first caller of a queue.

use std::sync::Arc;

use jiff::Timestamp;
use tandem_call::output::LegEvent;
use tandem_call::queue::NotQueued;
use tandem_host::clock;
use tandem_id::{LegId, OpId, QueueId};
use tandem_queues::EnterResult;

use super::CallTask;
use crate::inbox::Message;

impl CallTask {
    pub(super) fn enter_queue(&mut self, leg: LegId, op: OpId, name: &Arc<str>, max_size: Option<u32>) {
        let Some(account) = self.state.call.leg(leg).map(|info| info.account.clone()) else { return };
        if let Some(result) = self.services.queues.enter(&account, name, max_size, leg, clock::time()) {
            return self.entered_queue(leg, op, result);
        }
        // Another node may have the queue.
        let (registry, name, inbox) = (self.registry.clone(), Arc::clone(name), self.inbox.clone());
        tokio::spawn(async move {
            let result = registry.services().queues.arrive(&account, &name, max_size, leg).await;
            let pair = result.as_ref().ok().and_then(|entered| entered.pair.clone());
            // If the call is over, the leg leaves the queue.
            if inbox.post(Message::EnteredQueue { leg, op, result: Box::new(result) }).is_err() {
                registry.connect_to_agent(pair);
            }
        });
    }

    /// Gives a leg its membership in the queue that it wanted to enter. A leg that does not want it any more leaves the queue.
    pub(super) fn entered_queue(&mut self, leg: LegId, op: OpId, result: Result<EnterResult, NotQueued>) {
        let live = self.state.legs.get_mut(&leg).filter(|_| self.state.call.enters_queue(leg, op));
        let Some(live) = live else {
            // The agent of the pair is free again, because the leg has left.
            if let Ok(EnterResult { membership, pair, .. }) = result {
                drop(membership);
                self.registry.connect_to_agent(pair);
            }
            return;
        };
        let result = match result {
            Ok(entered) => {
                let membership = live.attachments.queue_membership.insert(entered.membership);
                // Posted after the leg has stored its queue membership, and before an agent can take the leg.
                let admitted = LegEvent::Enqueued { op, result: Ok(entered.queue.id) };
                let _ = self.inbox.post(Message::LegEvent(leg, admitted));
                membership.ready();
                return self.registry.connect_to_agent(entered.pair);
            }
            Err(why) => Err(why),
        };
        if result == Err(NotQueued::NoOwner) {
            self.note_line(clock::time(), leg, "call", "the node of the queue, or the database, did not answer");
        }
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

    /// Notes that an agent takes the leg out of its queue.
    pub(super) fn note_called(&self, leg: LegId, queue: QueueId) {
        let live = self.state.legs.get(&leg);
        let membership = live.and_then(|live| live.attachments.queue_membership.as_ref());
        // The leg may wait in another queue now.
        if let Some(membership) = membership.filter(|membership| membership.queue() == queue) {
            membership.called();
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
