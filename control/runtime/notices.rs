//! Converts an event of a call into notices for the application. The notices are webhook deliveries.

use std::sync::Arc;

use tandem_call::event::{CallEvent, EventKind};
use tandem_call::leg::LegInfo;
use tandem_call::queue::QueuePosition;
use tandem_call::recording::Recording;
use tandem_dialect::{Context, delivery};
use tandem_webhooks::Delivery;

use crate::services::Services;

impl Services {
    /// Returns the id of the leg in the form of the leg's provider.
    pub fn call_id(&self, leg: &LegInfo) -> String {
        self.dialects.get(&leg.dialect).map_or_else(|| leg.id.to_string(), |dialect| dialect.call_id(leg.id))
    }

    /// Returns the position of the event's leg in its queue, for the notices of an event about this queue. If another node
    /// of the cluster has the queue, asks this node.
    pub async fn position_for_notices(&self, event: &CallEvent) -> Option<QueuePosition> {
        let in_line = match &event.kind {
            EventKind::Enqueued { id, .. } => *id,
            EventKind::Dequeued(outcome) => outcome.waited?.0,
            _ => return None,
        };
        self.queues.position_of(in_line, event.leg.id, event.at).await
    }

    /// Returns the notices of an event as deliveries, in the dialect of the event's leg. `recording` is the recording
    /// that was requested with the leg.
    pub fn notices(&self, event: &CallEvent, sequence: u32, recording: Option<&Recording>) -> Vec<Delivery> {
        self.notices_in_queue(event, sequence, recording, None)
    }

    /// Does the same as [`Self::notices`]. `queue` is the result of [`Self::position_for_notices`].
    pub fn notices_in_queue(
        &self,
        event: &CallEvent,
        sequence: u32,
        recording: Option<&Recording>,
        queue: Option<QueuePosition>,
    ) -> Vec<Delivery> {
        let Some((dialect, account)) =
            self.dialects.get(&event.leg.dialect).zip(self.accounts.by_name(&event.leg.account))
        else {
            return Vec::new();
        };
        let recording = recording.cloned();
        let context = Context { public_url: Arc::clone(&self.public_url), sequence, recording, queue };
        let notices = dialect.webhook(&account, event, &context);
        // An empty list is the usual case. Without this check, the collection of an empty list would double the time.
        if notices.is_empty() {
            return Vec::new();
        }
        let notices = notices.into_iter().enumerate();
        notices
            .map(|(place, notice)| delivery::of_leg(notice, dialect.as_ref(), &event.leg, delivery_id(event, place)))
            .collect()
    }
}

/// Returns the id of the delivery of a notice. `place` is the index of the notice among the notices of the event. A
/// notice about the end of a leg or recording always has a fixed id, so that the server does not send the notice again
/// after a crash.
fn delivery_id(event: &CallEvent, place: usize) -> u128 {
    let ended = match &event.kind {
        EventKind::Ended => event.leg.id.0,
        EventKind::Recording(recording) if recording.ended_at.is_some() => recording.id.0,
        _ => return tandem_id::ordered(event.at, &mut rand::rng()),
    };
    ended.wrapping_add(1 + place as u128)
}
