//! Reserved seats. Before the server calls a leg for a conference, the server checks whether the conference accepts the
//! leg. During the call, the reservation keeps the conference open.

use tandem_call::conference::event::{ParticipantInfo, ParticipantStatus};
use tandem_call::conference::state::{ConferenceSpec, Refused};
use tandem_call::conference::{Coaching, Participation};
use tandem_call::leg::LegInfo;
use tandem_id::{AccountName, ConferenceId, LegId};
use tandem_media as media;

use super::{Conferences, Place, Reservation};

/// The reason why a leg cannot join a conference, cannot be called into a conference, or cannot coach a participant of
/// a conference.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    /// The media engine cannot open a room for another conference.
    #[error(transparent)]
    NoRoom(#[from] media::OpenError),
    /// The conference refuses the participant.
    #[error("{0}")]
    Refused(Refused),
    /// Another node has a live conference with this name.
    #[error("the conference lives at node {0} of the cluster")]
    Elsewhere(Box<str>),
    /// The node of the conference is not known, or it does not answer.
    #[error("the node of the conference does not answer: {0}")]
    NoOwner(String),
    /// The database cannot say which node has the conference.
    #[error(transparent)]
    NoName(#[from] tandem_store::StoreError),
    /// The participant to be coached is not in the conference.
    #[error("the participant to coach is not in the conference")]
    NoLegToCoach,
    /// The participant to be coached is on hold.
    #[error("the participant to coach is on hold")]
    CoachedIsOnHold,
}

/// A reserved seat in a conference, for a leg that will be called. The reservation ends when this value is dropped.
pub struct ReservedSeat {
    reservation: Reservation,
    participation: Participation,
}

impl ReservedSeat {
    pub fn conference(&self) -> ConferenceId {
        self.reservation.id()
    }

    /// Registers the leg that is called for this seat. This value must not be dropped before the registration.
    pub fn take(&self, leg: LegId) -> Result<(), JoinRefusal> {
        let (conferences, id) = (&self.reservation.conferences, self.reservation.id());
        conferences.expect(id, leg, self.participation.clone()).map_err(JoinRefusal::Refused)
    }

    /// Returns the participant record of a leg that ended before the participant was stored.
    pub fn absent(&self, leg: &LegInfo) -> ParticipantInfo {
        ParticipantInfo {
            leg: leg.id,
            participation: self.participation.clone(),
            status: ParticipantStatus::Failed,
            created_at: leg.created_at,
            updated_at: leg.end.as_ref().map_or(leg.created_at, |end| end.at),
        }
    }

    /// Reports to the conference that this participant did not join, if the leg has already ended.
    pub fn settle(&self, leg: &LegInfo) {
        if leg.status.is_final() {
            self.reservation.conferences.leg_is_over(leg);
        }
    }
}

impl Conferences {
    /// Reserves a seat in the conference with this name. Opens the conference if it does not exist.
    ///
    /// # Errors
    /// [`JoinRefusal::Elsewhere`] if the conference lives at another node: ask this node.
    pub async fn seat(
        &self,
        spec: ConferenceSpec<'_>,
        participation: Participation,
    ) -> Result<ReservedSeat, JoinRefusal> {
        let account = spec.account;
        let reservation = match self.place(spec).await? {
            Place::Here { reserved, .. } => reserved,
            Place::At(node, _) => return Err(JoinRefusal::Elsewhere(node.name.as_str().into())),
        };
        self.admits(reservation.id(), &participation).map_err(JoinRefusal::Refused)?;
        if let Some(coaching) = &participation.coach {
            self.may_coach(account, reservation.id(), coaching)?;
        }
        Ok(ReservedSeat { reservation, participation })
    }

    /// Checks that each participant to be coached is present and not on hold.
    pub fn may_coach(&self, account: &AccountName, id: ConferenceId, coaching: &Coaching) -> Result<(), JoinRefusal> {
        if !coaching.on {
            return Ok(());
        }
        let there = self.get(account, id).map(|seen| seen.participants).unwrap_or_default();
        for leg in &coaching.legs {
            match there.iter().find(|who| who.leg == *leg) {
                None => return Err(JoinRefusal::NoLegToCoach),
                Some(who) if who.participation.hold.is_some() => return Err(JoinRefusal::CoachedIsOnHold),
                Some(_) => {}
            }
        }
        Ok(())
    }
}
