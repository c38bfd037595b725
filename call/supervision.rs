//! Legs that hear another leg's call without being joined to it: supervisors.
//!
//! ```text
//!   leg ── joined ── peer        both hear each other, as in any call
//!    |
//!    +── supervisor               hears both; is heard by both, by the leg alone, or by nobody
//! ```
//!
//! Where the leg takes part in a conference its supervisors do, too, in the same role; where it leaves that, they leave.

use crate::call::Call;
use crate::conference::{Beep, Coaching, Leaving, Participation};
use crate::id::LegId;
use crate::leg::{EndCause, EndedBy};
use crate::output::LegCommand;

/// Whose call a leg hears, and who hears it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Supervision {
    /// Whose.
    pub of: LegId,
    /// How.
    pub role: SupervisorRole,
}

/// Who hears a supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SupervisorRole {
    /// Everybody in the call.
    Barge,
    /// The supervised leg alone.
    Whisper,
    /// Nobody.
    Monitor,
}

impl SupervisorRole {
    /// To whom such a supervisor of these speaks; `None`: to all.
    pub fn coaching(self, whom: Vec<LegId>) -> Option<Coaching> {
        match self {
            Self::Barge => None,
            Self::Whisper => Some(Coaching::of(whom)),
            Self::Monitor => Some(Coaching::of(Vec::new())),
        }
    }
}

impl Call {
    /// An answered leg hears another one's call from now on. Whoever was to be heard has gone: it is hung up.
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

    /// The same in another role. `false`: it hears nobody's.
    pub(crate) fn supervise_as(&mut self, leg: LegId, role: SupervisorRole) -> bool {
        let Some(supervision) = self.party_mut(leg).and_then(|party| party.supervision.as_mut()) else { return false };
        supervision.role = role;
        self.attend(leg);
        true
    }

    /// Something else is to be heard on the leg.
    pub(crate) fn stop_supervising(&mut self, leg: LegId) {
        if self.party_mut(leg).is_some_and(|party| party.supervision.take().is_some()) {
            self.order(leg, LegCommand::StopSupervising);
        }
    }

    /// A leg takes part in a conference from now on, or no longer: so do its supervisors.
    pub(crate) fn call_supervisors(&mut self, of: LegId) {
        for leg in self.supervisors(of) {
            self.attend(leg);
        }
    }

    /// A leg is about to take part in a conference: nobody hears it anywhere else.
    pub(crate) fn send_supervisors_away(&mut self, of: LegId) {
        for leg in self.supervisors(of) {
            self.order(leg, LegCommand::StopSupervising);
        }
    }

    /// A leg is over: as a supervisor, and with it the calls of its own.
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

    /// Hears whom it supervises, wherever that one is.
    fn attend(&mut self, leg: LegId) {
        let Some(supervision) = self.party(leg).and_then(|party| party.supervision.as_deref().copied()) else { return };
        let conference = self.party(supervision.of).and_then(|party| party.conference.as_ref());
        match conference.map(|participation| participation.conference.clone()) {
            Some(conference) => {
                let coach = supervision.role.coaching(vec![supervision.of]);
                self.confer(leg, Participation { beep: Beep::None, coach, ..Participation::new(conference) });
            }
            None => {
                self.leave_conference(leg, Leaving::Elsewhere);
                self.order(leg, LegCommand::Supervise(supervision));
            }
        }
    }
}
