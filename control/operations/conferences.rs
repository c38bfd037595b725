//! Opens conferences, calls participants into conferences, and ends conferences.

use std::sync::Arc;

use tandem_call::command::{Command, Refused, Request};
use tandem_call::conference::event::{ConferenceInfo, ParticipantInfo, ParticipantStatus};
use tandem_call::conference::state::ConferenceSpec;
use tandem_call::conference::{Change, Participation};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::LegInfo;
use tandem_conferences::{ConferenceSnapshot, history};
use tandem_conferences::{JoinRefusal, Place, ReservedSeat as Seat};
use tandem_id::{AccountName, ConferenceId, LegId};
use tandem_routing::new_call::{CreateError, Created, NewCall};
use tandem_runtime::Calls;
use tandem_store::StoreFailed;

use crate::calls;

/// The reason why a conference was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A live conference of the account has this name.
    #[error("a conference with this name exists already")]
    NameInUse,
    /// There is no room for the conference, or its node is not known.
    #[error(transparent)]
    NotOpened(#[from] JoinRefusal),
    /// The call that opens the conference refused to join.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The conference ended at once.
    #[error("the conference has ended")]
    Over,
}

/// The reason why a participant was not called into a conference.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// The conference does not accept the participant.
    #[error(transparent)]
    JoinRefusal(#[from] JoinRefusal),
    /// The call cannot be made.
    #[error(transparent)]
    NotCalled(#[from] CreateError),
    /// The database failed after the call was made.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// The reason why a participant was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The participant cannot coach the requested participants.
    #[error(transparent)]
    CannotCoach(#[from] JoinRefusal),
    /// The call refused the change.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A participant that is being called into a conference.
pub struct Invited {
    /// The new call.
    pub created: Created,
    /// The state of the new call after the conference has registered the call.
    leg: Arc<LegInfo>,
    seat: Seat,
}

/// Opens a conference without participants. If no participant joins within five minutes, the conference ends.
pub async fn open(calls: &Calls, spec: ConferenceSpec<'_>) -> Result<ConferenceSnapshot, OpenError> {
    calls.services().conferences.open(spec).await?.ok_or(OpenError::NameInUse)
}

/// Opens a conference with a live call as its first participant.
pub async fn open_with(
    calls: &Calls,
    account: &AccountName,
    leg: LegId,
    participation: Participation,
    client_state: Option<String>,
) -> Result<Arc<ConferenceInfo>, OpenError> {
    let (conferences, name) = (&calls.services().conferences, Arc::clone(&participation.conference));
    let info = calls.live_leg(leg).ok_or(Refused::NoSuchLeg)?;
    // The reservation keeps the name for the leg.
    let Place::Here { reserved: _reserved, is_new: true } =
        conferences.place(tandem_conferences::spec_of(&info, &participation)).await?
    else {
        return Err(OpenError::NameInUse);
    };
    calls.request(leg, Request { client_state, command: Command::JoinConference(participation) }).await?;
    let opened = conferences.find(account, &name).and_then(|id| conferences.get(account, ConferenceId(id)));
    Ok(opened.ok_or(OpenError::Over)?.info)
}

/// Calls a participant into a conference. Opens the conference if it does not exist. The parameter `forwards` is
/// described at [`calls::place`].
pub async fn invite(
    calls: &Calls,
    spec: ConferenceSpec<'_>,
    participation: Participation,
    new: NewCall,
    forwards: Option<LegId>,
) -> Result<Invited, InviteError> {
    let services = calls.services();
    let account = spec.account;
    // The seat is reserved first, so that no call is made into a conference that does not accept the participant.
    let seat = services.conferences.seat(spec, participation).await?;
    let created = calls::place(calls, new, forwards).await?;
    seat.take(created.leg.id)?;
    let leg = calls.get(account, created.leg.id).await?.unwrap_or_else(|| Arc::clone(&created.leg));
    seat.settle(&leg);
    Ok(Invited { created, leg, seat })
}

impl Invited {
    /// Returns the conference and the participant. Returns `None` if the conference has ended in the meantime and has
    /// no record.
    pub async fn participant(
        &self,
        calls: &Calls,
        account: &AccountName,
    ) -> Result<Option<(Arc<ConferenceInfo>, ParticipantInfo)>, StoreFailed> {
        let services = calls.services();
        let Some(info) = history::get(&services.conferences, account, self.seat.conference()).await? else {
            return Ok(None);
        };
        let participant = history::participant(&services.conferences, account, info.id, self.leg.id).await?;
        Ok(Some((info, participant.unwrap_or_else(|| self.seat.absent(&self.leg)))))
    }
}

/// Ends a conference. If `clears` is true, the participants are hung up. Legs that are still being called into the
/// conference are always hung up. These legs get `client_state` as their new client state.
pub async fn end(calls: &Calls, id: ConferenceId, clears: bool, client_state: Option<String>) {
    for leg in calls.services().conferences.end(id, clears) {
        let command = Command::Hangup { headers: HeaderFields::new() };
        // The leg may have hung up already.
        let _ = calls.request(leg, Request { client_state: client_state.clone(), command }).await;
    }
}

/// Removes a participant from a conference. If the leg of the participant is still being called, the leg is hung up.
pub async fn remove(calls: &Calls, participant: &ParticipantInfo) -> Result<(), Refused> {
    let command = match participant.status {
        ParticipantStatus::Expected => Command::Hangup { headers: HeaderFields::new() },
        _ => Command::LeaveConference,
    };
    calls.request(participant.leg, Request { client_state: None, command }).await.map(drop)
}

/// Changes how a leg participates. A leg can coach only participants who are in the conference and not on hold.
pub async fn change(
    calls: &Calls,
    account: &AccountName,
    id: ConferenceId,
    leg: LegId,
    change: Change,
) -> Result<(), ChangeError> {
    if let Some(Some(coaching)) = &change.coach {
        calls.services().conferences.may_coach(account, id, coaching)?;
    }
    if change != Change::default() {
        let command = Command::ChangeInConference(Box::new(change));
        calls.request(leg, Request { client_state: None, command }).await?;
    }
    Ok(())
}
