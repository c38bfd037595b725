//! Supervisors: legs that hear another leg's call and are not bridged with that leg.
//!
//! ```text
//!   leg ── bridged ── other      both hear each other, as in any call
//!    |
//!    +── supervisor              hears both; is heard by both, by the leg alone, or by nobody
//! ```
//!
//! When the supervised leg joins a conference, its supervisors also join the conference, in the same role. When the
//! supervised leg leaves the conference, its supervisors also leave.

use crate::call::Call;
use crate::conference::{Beep, Coaching, LeaveReason, Participation};
use crate::id::LegId;
use crate::leg::{EndCause, EndedBy};
use crate::output::LegCommand;

/// A supervision: the supervised leg and the supervisor's role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Supervision {
    /// The supervised leg.
    pub of: LegId,
    /// The supervisor's role.
    pub role: SupervisorRole,
}

/// Role of a supervisor. The role says which legs hear the supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SupervisorRole {
    /// All legs of the call hear the supervisor.
    Barge,
    /// Only the supervised leg hears the supervisor.
    Whisper,
    /// No leg hears the supervisor.
    Monitor,
}

impl SupervisorRole {
    /// Returns the coaching of a supervisor in a conference. `whom` are the supervised legs. Returns `None` if all
    /// participants hear the supervisor.
    pub fn coaching(self, whom: Vec<LegId>) -> Option<Coaching> {
        match self {
            Self::Barge => None,
            Self::Whisper => Some(Coaching::of(whom)),
            Self::Monitor => Some(Coaching::of(Vec::new())),
        }
    }
}

impl Call {
    /// Makes an answered leg the supervisor of another leg. If the other leg has ended, the supervisor is hung up.
    pub(crate) fn supervise(&mut self, leg: LegId, supervision: Supervision) {
        let there = self.party(supervision.of).filter(|party| !party.info.status.is_final());
        if leg == supervision.of || there.is_none() {
            return self.hangup(leg, EndCause::NormalClearing, EndedBy::OtherLeg);
        }
        if let Some(party) = self.party_mut(leg) {
            party.supervision = Some(Box::new(supervision));
        }
        self.attend(leg);
    }

    /// Changes the role of a supervisor. Returns `false` if the leg does not supervise another leg.
    pub(crate) fn supervise_as(&mut self, leg: LegId, role: SupervisorRole) -> bool {
        let Some(supervision) = self.party_mut(leg).and_then(|party| party.supervision.as_mut()) else { return false };
        supervision.role = role;
        self.attend(leg);
        true
    }

    /// Ends the supervision by this leg, because the leg does something else now.
    pub(crate) fn stop_supervising(&mut self, leg: LegId) {
        if self.party_mut(leg).is_some_and(|party| party.supervision.take().is_some()) {
            self.order(leg, LegCommand::StopSupervising);
        }
    }

    /// Connects the supervisors of a leg again, because the leg has joined or left a conference.
    pub(crate) fn call_supervisors(&mut self, of: LegId) {
        for leg in self.supervisors(of) {
            self.attend(leg);
        }
    }

    /// Disconnects the supervisors of a leg that is about to join a conference.
    pub(crate) fn send_supervisors_away(&mut self, of: LegId) {
        for leg in self.supervisors(of) {
            self.order(leg, LegCommand::StopSupervising);
        }
    }

    /// Ends all supervisions in which an ended leg takes part. The supervisors of this leg are hung up.
    pub(crate) fn end_supervisions(&mut self, leg: LegId) {
        self.stop_supervising(leg);
        for supervisor in self.supervisors(leg) {
            self.hangup(supervisor, EndCause::NormalClearing, EndedBy::OtherLeg);
        }
    }

    fn supervisors(&self, of: LegId) -> Vec<LegId> {
        let own = self.parties.iter().filter(|party| party.supervision.as_ref().is_some_and(|one| one.of == of));
        own.map(|party| party.info.id).collect()
    }

    /// Connects a supervisor to the supervised leg: in the conference of this leg, or, if it is in no conference, in
    /// its call.
    fn attend(&mut self, leg: LegId) {
        let Some(supervision) = self.party(leg).and_then(|party| party.supervision.as_deref().copied()) else { return };
        let conference = self.party(supervision.of).and_then(|party| party.conference.as_ref());
        match conference.map(|participation| participation.conference.clone()) {
            Some(conference) => {
                let coach = supervision.role.coaching(vec![supervision.of]);
                self.confer(leg, Participation { beep: Beep::None, coach, ..Participation::new(conference) });
            }
            None => {
                self.leave_conference(leg, LeaveReason::Elsewhere);
                self.order(leg, LegCommand::Supervise(supervision));
            }
        }
    }
}
