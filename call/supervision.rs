//! Supervisors: legs that hear another leg's call and are not bridged with that leg.
//!
//! ```text
//!   leg ── bridged ── other      both hear each other, as in any call
//!    |
//!    +── supervisor              hears both; is heard by both, by the leg alone, or by no leg
//! ```
//!
//! When the supervised leg joins a conference, its supervisors also join the conference, in the same role. When the
//! supervised leg leaves the conference, its supervisors also leave.

use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::conference::{Beep, Coaching, LeaveReason, Participation};
use crate::leg::{EndCause, EndedBy};
use crate::output::LegCommand;
use tandem_id::LegId;

/// A supervision: the supervised leg and the supervisor's role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Supervision {
    /// The supervised leg.
    pub of: LegId,
    /// The supervisor's role.
    pub role: SupervisorRole,
}

/// Role of a supervisor. The role says which legs hear the supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SupervisorRole {
    /// All legs of the call hear the supervisor.
    Barge,
    /// Only the supervised leg hears the supervisor.
    Whisper,
    /// No leg hears the supervisor.
    Monitor,
}

impl SupervisorRole {
    /// Returns the coaching that a supervisor with this role has in a conference. `legs` are the supervised legs.
    /// Returns `None` if all participants hear the supervisor.
    pub fn coaching(self, legs: Vec<LegId>) -> Option<Coaching> {
        match self {
            Self::Barge => None,
            Self::Whisper => Some(Coaching::of(legs)),
            Self::Monitor => Some(Coaching::of(Vec::new())),
        }
    }
}

impl Call {
    /// Makes an answered leg the supervisor of another leg. If the other leg has ended, the supervisor is hung up.
    pub(crate) fn supervise(&mut self, leg: LegId, supervision: Supervision) {
        let there = self.leg_state(supervision.of).filter(|state| !state.info.status.is_final());
        if leg == supervision.of || there.is_none() {
            return self.hangup(leg, EndCause::NormalClearing, EndedBy::OtherLeg);
        }
        if let Some(state) = self.leg_state_mut(leg) {
            state.supervision = Some(Box::new(supervision));
        }
        self.connect_supervisor(leg);
    }

    /// Changes the role of a supervisor. Returns `false` if the leg does not supervise another leg.
    pub(crate) fn supervise_as(&mut self, leg: LegId, role: SupervisorRole) -> bool {
        let Some(supervision) = self.leg_state_mut(leg).and_then(|state| state.supervision.as_mut()) else {
            return false;
        };
        supervision.role = role;
        self.connect_supervisor(leg);
        true
    }

    /// Ends the supervision by this leg, because the leg starts another activity.
    pub(crate) fn stop_supervising(&mut self, leg: LegId) {
        if self.leg_state_mut(leg).is_some_and(|state| state.supervision.take().is_some()) {
            self.push_command(leg, LegCommand::StopSupervising);
        }
    }

    /// Connects the supervisors of a leg again, because the leg has joined or left a conference.
    pub(crate) fn move_supervisors(&mut self, of: LegId) {
        for leg in self.supervisors(of) {
            self.connect_supervisor(leg);
        }
    }

    /// Disconnects the supervisors of a leg that is about to join a conference.
    pub(crate) fn disconnect_supervisors(&mut self, of: LegId) {
        for leg in self.supervisors(of) {
            self.push_command(leg, LegCommand::StopSupervising);
        }
    }

    /// Ends all supervisions in which an ended leg takes part. The supervisors of the ended leg are hung up.
    pub(crate) fn end_supervisions(&mut self, leg: LegId) {
        self.stop_supervising(leg);
        for supervisor in self.supervisors(leg) {
            self.hangup(supervisor, EndCause::NormalClearing, EndedBy::OtherLeg);
        }
    }

    fn supervisors(&self, of: LegId) -> Vec<LegId> {
        let own = self.leg_states.iter().filter(|state| state.supervision.as_ref().is_some_and(|one| one.of == of));
        own.map(|state| state.info.id).collect()
    }

    /// Connects a supervisor to the supervised leg. If the supervised leg is in a conference, the supervisor joins this
    /// conference. Otherwise the supervisor hears the supervised leg in their common call.
    fn connect_supervisor(&mut self, leg: LegId) {
        let Some(supervision) = self.leg_state(leg).and_then(|state| state.supervision.as_deref().copied()) else {
            return;
        };
        let conference = self.leg_state(supervision.of).and_then(|state| state.conference.as_ref());
        match conference.map(|participation| participation.conference.clone()) {
            Some(conference) => {
                let coach = supervision.role.coaching(vec![supervision.of]);
                self.join_conference(leg, Participation { beep: Beep::None, coach, ..Participation::new(conference) });
            }
            None => {
                self.leave_conference(leg, LeaveReason::Elsewhere);
                self.push_command(leg, LegCommand::Supervise(supervision));
            }
        }
    }
}
