//! Seats: whether a conference takes somebody is asked before they are called, and the seat is kept while they are.

use std::sync::Arc;

use tandem_call::conference::event::{ParticipantInfo, ParticipantStatus};
use tandem_call::conference::state::{Refused, Wanted};
use tandem_call::conference::{Coaching, Participation};
use tandem_call::id::{ConferenceId, LegId};
use tandem_call::leg::LegInfo;

use super::{Conferences, Reservation};
use crate::services::Services;

/// Why somebody cannot be called into a conference, or cannot coach there.
#[derive(Debug, thiserror::Error)]
pub enum NoSeat {
    /// The server has no room for another conference; why.
    #[error("{0}")]
    NoRoom(String),
    /// The conference does not take them.
    #[error("{0:?}")]
    Refused(Refused),
    /// The participant to be coached is not there.
    #[error("the participant to coach is not in the conference")]
    NobodyToCoach,
    /// The participant to be coached is on hold.
    #[error("the participant to coach is on hold")]
    CoachedIsOnHold,
}

/// A place in a conference, kept for somebody who is yet to be called. Given up when dropped.
pub struct Seat {
    reservation: Reservation,
    participation: Participation,
}

impl Seat {
    /// The conference.
    pub fn conference(&self) -> ConferenceId {
        self.reservation.id()
    }

    /// This leg is called for the seat, which is to be held until then.
    pub fn take(&self, leg: LegId) -> Result<(), NoSeat> {
        let (conferences, id) = (&self.reservation.conferences, self.reservation.id());
        conferences.expect(id, leg, self.participation.clone()).map_err(NoSeat::Refused)
    }

    /// The participant that a leg is whose call has ended before it was written down.
    pub fn absent(&self, leg: &LegInfo) -> ParticipantInfo {
        ParticipantInfo {
            leg: leg.id,
            participation: self.participation.clone(),
            status: ParticipantStatus::Failed,
            created_at: leg.created_at,
            updated_at: leg.end.as_ref().map_or(leg.created_at, |end| end.at),
        }
    }

    /// How the leg stands after that: one that has ended meanwhile is known as a participant who did not come.
    pub fn settle(&self, leg: &LegInfo) {
        if leg.status.is_final() {
            self.reservation.conferences.leg_is_over(leg);
        }
    }
}

impl Conferences {
    /// A seat in the conference of that name, which is opened if there is none.
    pub fn seat(
        &self,
        services: &Arc<Services>,
        wanted: Wanted<'_>,
        participation: Participation,
    ) -> Result<Seat, NoSeat> {
        let account = wanted.account;
        let reservation = self.reserve(services, wanted).map_err(NoSeat::NoRoom)?;
        self.admits(reservation.id(), &participation).map_err(NoSeat::Refused)?;
        if let Some(coaching) = &participation.coach {
            self.may_coach(account, reservation.id(), coaching)?;
        }
        Ok(Seat { reservation, participation })
    }

    /// Whether whom somebody wants to coach is there to be coached.
    pub fn may_coach(&self, account: &str, id: ConferenceId, coaching: &Coaching) -> Result<(), NoSeat> {
        if !coaching.on {
            return Ok(());
        }
        let there = self.get(account, id).map(|seen| seen.participants).unwrap_or_default();
        for leg in &coaching.whom {
            match there.iter().find(|who| who.leg == *leg) {
                None => return Err(NoSeat::NobodyToCoach),
                Some(who) if who.participation.hold.is_some() => return Err(NoSeat::CoachedIsOnHold),
                Some(_) => {}
            }
        }
        Ok(())
    }
}
