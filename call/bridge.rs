//! Bridges between two legs, and what each leg does when its bridge ends.

use crate::call::{Abort, Call};
use crate::command::{Accepted, Refused};
use crate::conference::LeaveReason;
use crate::event::EventKind;
use crate::leg::{EndCause, EndedBy};
use crate::leg_state::{Bridge, BridgeOnAnswer, LegState};
use crate::output::LegCommand;
use crate::program::ChildEvent;
use crate::program::instruction::AfterBridge;
use tandem_id::LegId;

impl Call {
    pub(crate) fn bridge_by_request(
        &mut self,
        leg: LegId,
        with: LegId,
        after: AfterBridge,
        if_free: bool,
    ) -> Result<Accepted, Refused> {
        if leg == with || self.leg_state(with).is_none_or(|state| state.info.status.is_final()) {
            return Err(Refused::CannotBridge);
        }
        if if_free && self.is_bridged_with_another(with, leg) {
            return Err(Refused::CannotBridge);
        }
        self.bridge_after_answer(leg, with, (after, AfterBridge::Hangup));
        Ok(Accepted::default())
    }

    /// Bridges two legs of this call. If one of the legs is not answered yet, the bridge starts when that leg is
    /// answered. The first element of `after` is the action of `leg` when `with` leaves. The second element is the
    /// action of `with` when `leg` leaves.
    pub(crate) fn bridge_after_answer(&mut self, leg: LegId, with: LegId, after: (AfterBridge, AfterBridge)) {
        for (one, other, after) in [(leg, with, after), (with, leg, (after.1, after.0))] {
            if !self.ensure_answered(one) {
                if let Some(state) = self.leg_state_mut(one) {
                    state.bridge_on_answer = Some(BridgeOnAnswer { with: other, after, if_free: false });
                }
                return;
            }
        }
        if !self.are_bridged(leg, with) {
            for one in [leg, with] {
                self.notify_parent(one, ChildEvent::Taken);
            }
            for one in [leg, with] {
                self.end_wait_for_bridge(one);
                self.abort_program(one, Abort::Replaced);
                self.end_bridge(one);
            }
        }
        self.bridge(leg, with, after, true);
    }

    /// Bridges two answered legs, or connects a leg to the early media of another leg. `reported` is false for a
    /// connection to early media, because this connection is not reported to applications. Earlier bridges of both legs
    /// with other legs end first. Does nothing if one of the legs has ended.
    pub(crate) fn bridge(&mut self, a: LegId, b: LegId, after: (AfterBridge, AfterBridge), reported: bool) {
        let joined = self.are_bridged(a, b);
        let known = joined && self.leg_state(a).and_then(|state| state.bridge).is_some_and(|bridge| bridge.reported);
        if !joined {
            for one in [a, b] {
                self.end_bridge(one);
                self.leave_conference(one, LeaveReason::Elsewhere);
                self.stop_supervising(one);
            }
        }
        let alive =
            |leg| self.leg_state(leg).filter(|state| !state.info.status.is_final()).map(|state| state.shown().clone());
        let (Some(of_a), Some(of_b)) = (alive(a), alive(b)) else { return };
        if let Some(state) = self.leg_state_mut(a) {
            state.bridge = Some(Bridge { with: b, after: after.0, reported });
        }
        if let Some(state) = self.leg_state_mut(b) {
            state.bridge = Some(Bridge { with: a, after: after.1, reported });
        }
        if !joined {
            self.push_command(a, LegCommand::Bridge { with: b });
        }
        if reported && !known {
            self.emit(a, EventKind::Bridged { with: of_b });
            self.emit(b, EventKind::Bridged { with: of_a });
        }
    }

    /// Ends the bridge of a leg. The other leg of the bridge is then hung up or continues. The field `after` in the
    /// bridge of the other leg decides which of these happens.
    pub(crate) fn end_bridge(&mut self, leg: LegId) {
        if let Some((other, after)) = self.unbridge(leg) {
            self.continue_after_bridge(leg, other, after);
        }
    }

    /// Ends the bridge of a leg. Returns the other leg of the bridge and the next action of this other leg. The
    /// function does not execute this action. The calling code must execute it.
    pub(crate) fn unbridge(&mut self, leg: LegId) -> Option<(LegId, AfterBridge)> {
        let bridge = self.leg_state_mut(leg)?.bridge.take()?;
        let other = bridge.with;
        let after =
            self.leg_state_mut(other).and_then(|state| state.bridge.take()).map_or(AfterBridge::Continue, |b| b.after);
        self.push_command(leg, LegCommand::Unbridge);
        if bridge.reported {
            self.emit(leg, EventKind::Unbridged);
            self.emit(other, EventKind::Unbridged);
        }
        Some((other, after))
    }

    /// Hangs up or continues the leg `other`. The bridge between `other` and the leg `gone` has already ended.
    pub(crate) fn continue_after_bridge(&mut self, gone: LegId, other: LegId, after: AfterBridge) {
        match after {
            AfterBridge::Hangup => self.hangup(other, EndCause::NormalClearing, EndedBy::OtherLeg),
            // If a dial made the bridge, the dial continues the leg.
            AfterBridge::Continue
                if self
                    .leg_state(gone)
                    .is_some_and(|state| state.progress_listener.or(state.info.parent) == Some(other)) => {}
            AfterBridge::Continue => self.advance(other),
        }
    }

    /// Makes the bridge that waits for the answer of this leg, if there is such a bridge.
    pub(crate) fn make_planned_bridge(&mut self, leg: LegId) {
        let ready = |state: &&mut LegState| state.info.answered_at.is_some() && state.sending_digits.is_none();
        let planned = self.leg_state_mut(leg).filter(ready);
        let Some(BridgeOnAnswer { with, after, if_free }) = planned.and_then(|state| state.bridge_on_answer.take())
        else {
            return;
        };
        let gone = self.leg_state(with).is_none_or(|state| state.info.status.is_final());
        if if_free && self.is_bridged_with_another(with, leg) || gone && after.0 == AfterBridge::Hangup {
            self.hangup(leg, EndCause::NormalClearing, EndedBy::OtherLeg);
        } else {
            self.bridge_after_answer(leg, with, after);
        }
    }

    /// Whether the leg is bridged with another leg than the one that has this id for applications.
    pub(crate) fn is_bridged_with_another(&self, leg: LegId, than: LegId) -> bool {
        let bridge = self.leg_state(leg).and_then(|state| state.bridge).filter(|bridge| bridge.reported);
        bridge.is_some_and(|bridge| bridge.with != than && self.shown_id(bridge.with) != than)
    }

    fn are_bridged(&self, a: LegId, b: LegId) -> bool {
        self.leg_state(a).and_then(|state| state.bridge).is_some_and(|bridge| bridge.with == b)
    }
}
