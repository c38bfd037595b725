//! Bridges between two legs, and the actions of the legs when a bridge ends.

use crate::call::{Abort, Call};
use crate::command::{Accepted, Refused};
use crate::conference::LeaveReason;
use crate::event::EventKind;
use crate::id::LegId;
use crate::leg::{EndCause, EndedBy};
use crate::leg_state::{Bridge, BridgeOnAnswer, LegState};
use crate::output::LegCommand;
use crate::program::ChildEvent;
use crate::program::instruction::AfterBridge;

impl Call {
    pub(crate) fn bridge_by_request(
        &mut self,
        leg: LegId,
        with: LegId,
        after: AfterBridge,
        if_free: bool,
    ) -> Result<Accepted, Refused> {
        if leg == with || self.party(with).is_none_or(|party| party.info.status.is_final()) {
            return Err(Refused::CannotBridge);
        }
        if if_free && self.is_joined_to_another(with, leg) {
            return Err(Refused::CannotBridge);
        }
        self.join(leg, with, (after, AfterBridge::Hangup));
        Ok(Accepted::default())
    }

    /// Bridges two legs of this call. If one of the legs is not answered yet, the bridge starts when that leg is
    /// answered. `after` has the action of `leg` when `with` leaves, and the action of `with` when `leg` leaves.
    pub(crate) fn join(&mut self, leg: LegId, with: LegId, after: (AfterBridge, AfterBridge)) {
        for (one, other, after) in [(leg, with, after), (with, leg, (after.1, after.0))] {
            if !self.ensure_answered(one) {
                if let Some(party) = self.party_mut(one) {
                    party.bridge_on_answer = Some(BridgeOnAnswer { with: other, after, if_free: false });
                }
                return;
            }
        }
        if !self.are_joined(leg, with) {
            for one in [leg, with] {
                self.tell_parent(one, ChildEvent::Taken);
            }
            for one in [leg, with] {
                self.wait_joined(one);
                self.abort_program(one, Abort::Replaced);
                self.part(one);
            }
        }
        self.bridge(leg, with, after, true);
    }

    /// Bridges two answered legs, or connects a leg to the early media of another leg. A connection to early media is
    /// not reported (`told` is false). Existing bridges with other legs end first. Does nothing if one of the legs has
    /// ended.
    pub(crate) fn bridge(&mut self, a: LegId, b: LegId, after: (AfterBridge, AfterBridge), told: bool) {
        let joined = self.are_joined(a, b);
        let known = joined && self.party(a).and_then(|party| party.bridge).is_some_and(|bridge| bridge.told);
        if !joined {
            for one in [a, b] {
                self.part(one);
                self.leave_conference(one, LeaveReason::Elsewhere);
                self.stop_supervising(one);
            }
        }
        let alive = |leg| self.party(leg).filter(|party| !party.info.status.is_final()).map(|party| party.info.clone());
        let (Some(of_a), Some(of_b)) = (alive(a), alive(b)) else { return };
        if let Some(party) = self.party_mut(a) {
            party.bridge = Some(Bridge { with: b, after: after.0, told });
        }
        if let Some(party) = self.party_mut(b) {
            party.bridge = Some(Bridge { with: a, after: after.1, told });
        }
        if !joined {
            self.order(a, LegCommand::Bridge { with: b });
        }
        if told && !known {
            self.emit(a, EventKind::Bridged { with: of_b });
            self.emit(b, EventKind::Bridged { with: of_a });
        }
    }

    /// Ends the bridge of a leg. The other leg is then hung up or continues, as the field `after` of its bridge says.
    pub(crate) fn part(&mut self, leg: LegId) {
        if let Some((other, after)) = self.unbridge(leg) {
            self.left_alone(leg, other, after);
        }
    }

    /// Ends the bridge of a leg. Returns the other leg and the action that this other leg has to do now. The function
    /// does not execute this action; the caller must execute it.
    pub(crate) fn unbridge(&mut self, leg: LegId) -> Option<(LegId, AfterBridge)> {
        let bridge = self.party_mut(leg)?.bridge.take()?;
        let other = bridge.with;
        let after =
            self.party_mut(other).and_then(|party| party.bridge.take()).map_or(AfterBridge::Continue, |b| b.after);
        self.order(leg, LegCommand::Unbridge);
        if bridge.told {
            self.emit(leg, EventKind::Unbridged);
            self.emit(other, EventKind::Unbridged);
        }
        Some((other, after))
    }

    /// Hangs up or continues the leg `other`, after its bridge with the leg `gone` has ended.
    pub(crate) fn left_alone(&mut self, gone: LegId, other: LegId, after: AfterBridge) {
        match after {
            AfterBridge::Hangup => self.hangup(other, EndCause::NormalClearing, EndedBy::OtherLeg),
            // If a dial made the bridge, the dial continues the leg.
            AfterBridge::Continue
                if self
                    .party(gone)
                    .is_some_and(|party| party.progress_listener.or(party.info.parent) == Some(other)) => {}
            AfterBridge::Continue => self.advance(other),
        }
    }

    /// Makes the bridge that was planned for the answer of this leg, if a bridge was planned.
    pub(crate) fn join_as_promised(&mut self, leg: LegId) {
        let ready = |party: &&mut LegState| party.info.answered_at.is_some() && party.sending_digits.is_none();
        let promise = self.party_mut(leg).filter(ready);
        let Some(BridgeOnAnswer { with, after, if_free }) = promise.and_then(|party| party.bridge_on_answer.take())
        else {
            return;
        };
        let gone = self.party(with).is_none_or(|party| party.info.status.is_final());
        if if_free && self.is_joined_to_another(with, leg) || gone && after.0 == AfterBridge::Hangup {
            self.hangup(leg, EndCause::NormalClearing, EndedBy::OtherLeg);
        } else {
            self.join(leg, with, after);
        }
    }

    fn is_joined_to_another(&self, leg: LegId, than: LegId) -> bool {
        self.party(leg).and_then(|party| party.bridge).is_some_and(|bridge| bridge.told && bridge.with != than)
    }

    fn are_joined(&self, a: LegId, b: LegId) -> bool {
        self.party(a).and_then(|party| party.bridge).is_some_and(|bridge| bridge.with == b)
    }
}
