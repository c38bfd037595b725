//! Conferences: opening them, calling participants into them, and ending them.

use std::sync::Arc;

use tandem_call::command::{Command, Refused, Request};
use tandem_call::conference::event::{ConferenceInfo, ParticipantInfo, ParticipantStatus};
use tandem_call::conference::state::ConferenceSpec;
use tandem_call::conference::{Change, Participation};
use tandem_call::id::{ConferenceId, LegId};
use tandem_call::leg::LegInfo;
use tandem_conferences::{ConferenceSnapshot, history};
use tandem_conferences::{JoinRefusal, ReservedSeat as Seat};
use tandem_media as media;
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
    /// The media engine cannot open a room for another conference.
    #[error(transparent)]
    NoRoom(#[from] media::OpenError),
    /// The call that opens the conference refused to join.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The conference ended at once.
    #[error("the conference has ended")]
    Over,
}

/// The reason why a call was not made into a conference.
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
    /// The participant cannot coach those that it is to coach.
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
    /// The call after the conference knows of it.
    leg: Arc<LegInfo>,
    seat: Seat,
}

/// Opens a conference without participants. It ends after a while if no participant joins.
pub fn open(calls: &Calls, spec: ConferenceSpec<'_>) -> Result<ConferenceSnapshot, OpenError> {
    calls.services().conferences.open(spec)?.ok_or(OpenError::NameInUse)
}

/// Opens a conference with a live call as its first participant.
pub async fn open_with(
    calls: &Calls,
    account: &str,
    leg: LegId,
    participation: Participation,
    client_state: Option<String>,
) -> Result<Arc<ConferenceInfo>, OpenError> {
    let (conferences, name) = (&calls.services().conferences, Arc::clone(&participation.conference));
    if conferences.find(account, &name).is_some() {
        return Err(OpenError::NameInUse);
    }
    calls.request(leg, Request { client_state, command: Command::JoinConference(participation) }).await?;
    let opened = conferences.find(account, &name).and_then(|id| conferences.get(account, ConferenceId(id)));
    Ok(opened.ok_or(OpenError::Over)?.info)
}

/// Calls a participant into a conference, which is opened if there is none. `forwards` is as in [`calls::place`].
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
    let seat = services.conferences.seat(spec, participation)?;
    let created = calls::place(calls, new, forwards).await?;
    seat.take(created.leg.id)?;
    let leg = calls.get(account, created.leg.id).await?.unwrap_or_else(|| Arc::clone(&created.leg));
    seat.settle(&leg);
    Ok(Invited { created, leg, seat })
}

impl Invited {
    /// The conference, and the participant in it; `None` if the conference ended meanwhile without a record.
    pub async fn participant(
        &self,
        calls: &Calls,
        account: &str,
    ) -> Result<Option<(Arc<ConferenceInfo>, ParticipantInfo)>, StoreFailed> {
        let services = calls.services();
        let Some(info) = history::get(&services.conferences, account, self.seat.conference()).await? else {
            return Ok(None);
        };
        let participant = history::participant(&services.conferences, account, info.id, self.leg.id).await?;
        Ok(Some((info, participant.unwrap_or_else(|| self.seat.absent(&self.leg)))))
    }
}

/// Ends a conference; with `clears` its participants are hung up. Legs that are being called for it are hung up in any
/// case, with `client_state` as their new client state.
pub async fn end(calls: &Calls, id: ConferenceId, clears: bool, client_state: Option<String>) {
    for leg in calls.services().conferences.end(id, clears) {
        let command = Command::Hangup { headers: Vec::new() };
        // The leg may have hung up already.
        let _ = calls.request(leg, Request { client_state: client_state.clone(), command }).await;
    }
}

/// Removes a participant. A leg that is still being called is hung up.
pub async fn remove(calls: &Calls, participant: &ParticipantInfo) -> Result<(), Refused> {
    let command = match participant.status {
        ParticipantStatus::Expected => Command::Hangup { headers: Vec::new() },
        _ => Command::LeaveConference,
    };
    calls.request(participant.leg, Request { client_state: None, command }).await.map(drop)
}

/// Changes how a leg participates. A leg can coach only participants who are in the conference and not on hold.
pub async fn change(
    calls: &Calls,
    account: &str,
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
