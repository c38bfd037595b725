//! The live legs of the server: the inbox of the call of each leg, and the state of the leg.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use tandem_call::leg::LegInfo;
use tandem_id::LegId;

/// The live legs and calls, by id. The number of live legs limits the size. `I` is the inbox of a call.
#[derive(Debug)]
pub(crate) struct LiveLegs<I>(RwLock<HashMap<u128, Live<I>>>);

#[derive(Debug)]
struct Live<I> {
    inbox: I,
    /// The last state of the leg. `None` if the leg has no state yet, after the end, and if the id is the id of a call.
    leg: Option<Arc<LegInfo>>,
}

impl<I> Default for LiveLegs<I> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<I: Clone> LiveLegs<I> {
    /// Makes an inbox reachable under the id of a leg or of a call. The id may have another inbox already.
    pub(crate) fn register(&self, id: u128, inbox: I) {
        let mut table = self.0.write();
        let leg = table.get_mut(&id).and_then(|live| live.leg.take());
        table.insert(id, Live { inbox, leg });
    }

    /// Stores the state of a leg, and its inbox if the leg is not registered yet. Does nothing if the leg has ended.
    pub(crate) fn update(&self, leg: &Arc<LegInfo>, inbox: &I) {
        if leg.status.is_final() {
            return;
        }
        let state = Some(Arc::clone(leg));
        let mut table = self.0.write();
        match table.get_mut(&leg.id.0) {
            Some(live) => live.leg = state,
            None => drop(table.insert(leg.id.0, Live { inbox: inbox.clone(), leg: state })),
        }
    }

    /// Removes the state of an ended leg. From then on, the leg is known by its record in the database. So the record of
    /// the end must have been submitted before.
    pub(crate) fn end(&self, leg: LegId) {
        if let Some(live) = self.0.write().get_mut(&leg.0) {
            live.leg = None;
        }
    }

    /// Removes a leg or a call. Returns whether nothing is live any more.
    pub(crate) fn remove(&self, id: u128) -> bool {
        let mut table = self.0.write();
        table.remove(&id);
        table.is_empty()
    }

    /// Returns the inbox of the live leg or call with this id.
    pub(crate) fn inbox(&self, id: u128) -> Option<I> {
        self.0.read().get(&id).map(|live| live.inbox.clone())
    }

    /// Returns all inboxes. An inbox occurs once for each id.
    pub(crate) fn inboxes(&self) -> Vec<I> {
        self.0.read().values().map(|live| live.inbox.clone()).collect()
    }

    /// Returns the state of a leg. Returns `None` if the leg has no state yet, or has ended.
    pub(crate) fn get(&self, leg: LegId) -> Option<Arc<LegInfo>> {
        self.0.read().get(&leg.0).and_then(|live| live.leg.clone())
    }

    /// Returns the selected legs, in any order.
    pub(crate) fn select(&self, selects: impl Fn(&LegInfo) -> bool) -> Vec<Arc<LegInfo>> {
        // The lock is released before the comparison, because every event of a call waits for it.
        let mut legs: Vec<_> = self.0.read().values().filter_map(|live| live.leg.clone()).collect();
        legs.retain(|leg| selects(leg));
        legs
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tandem_call::leg::Status;
    use tandem_call::testing::CallScript;

    use super::*;

    fn leg(status: Status) -> Arc<LegInfo> {
        let info = CallScript::commanded().events().next().unwrap().leg.clone();
        Arc::new(LegInfo { status, ..(*info).clone() })
    }

    #[test]
    fn a_leg_has_its_last_state_until_it_ends_and_its_inbox_until_it_is_removed() {
        let legs = LiveLegs::default();
        let ringing = leg(Status::Ringing);
        let id = ringing.id;
        legs.register(id.0, "inbox");
        assert_eq!((legs.get(id), legs.inbox(id.0)), (None, Some("inbox")));
        legs.update(&ringing, &"inbox");
        legs.update(&leg(Status::InProgress), &"inbox");
        assert_eq!(legs.get(id).map(|leg| leg.status), Some(Status::InProgress));
        legs.register(id.0, "inbox of the merged call");
        assert_eq!(legs.get(id).map(|leg| leg.status), Some(Status::InProgress), "a merge does not change the state");
        legs.update(&leg(Status::Completed), &"inbox");
        assert!(legs.get(id).is_some(), "the record of the end is not submitted yet");
        legs.end(id);
        assert_eq!((legs.get(id), legs.inbox(id.0)), (None, Some("inbox of the merged call")));
        assert!(legs.remove(id.0) && legs.inbox(id.0).is_none());
    }

    #[test]
    fn an_event_registers_its_leg_unless_the_leg_has_ended() {
        let legs = LiveLegs::default();
        legs.update(&leg(Status::Failed), &"inbox");
        assert!(legs.is_empty());
        let initiated = leg(Status::Initiated);
        legs.update(&initiated, &"inbox");
        assert_eq!((legs.get(initiated.id), legs.inbox(initiated.id.0)), (Some(initiated), Some("inbox")));
    }

    #[test]
    fn only_legs_with_a_state_are_selected() {
        let legs = LiveLegs::default();
        let initiated = leg(Status::Initiated);
        legs.register(1, "the inbox of a call");
        legs.update(&initiated, &"inbox");
        assert_eq!(legs.select(|_| true), [initiated]);
        assert!(legs.select(|leg| leg.status == Status::Ringing).is_empty());
    }
}
