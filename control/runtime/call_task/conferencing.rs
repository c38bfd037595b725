//! Conferences. A leg joins a conference, and the conference reports to the leg's call.

use std::sync::Arc;

use tandem_call::conference::{LeaveReason, Participation};
use tandem_call::leg::LegInfo;
use tandem_call::output::LegEvent;
use tandem_causes::{Cause, OF_CONFERENCE};
use tandem_conferences::{JoinRefusal, ParticipantUpdate, Seat};
use tandem_dialect::ReportedError;
use tandem_history::call_port::CallPort;
use tandem_history::problem::Problem;
use tandem_id::LegId;
use tandem_media as media;

use super::CallTask;
use super::port::InboxPort;
use crate::inbox::{Inbox, Message};

/// A leg that asks which node of the cluster has its conference.
pub(crate) struct Arriving {
    /// The number of this attempt. The result of an earlier attempt is not used.
    number: u64,
    participation: Participation,
}

impl CallTask {
    pub(super) fn join_conference(&mut self, leg: LegId, participation: &Participation) {
        let Some(info) = self.state.call.leg(leg).cloned() else { return };
        let call = self.conference_port(leg);
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        if let Some(arriving) = &mut live.attachments.arriving
            && arriving.participation.conference == participation.conference
        {
            arriving.participation = participation.clone();
            return;
        }
        live.attachments.arriving = None;
        let seat = match live.attachments.seat.take_if(|seat| seat.is_in(&participation.conference)) {
            Some(seat) => {
                seat.change(participation);
                Ok(Some(seat))
            }
            None => self.services.conferences.join(&info, participation, &call),
        };
        match seat.transpose() {
            Some(seat) => self.sit_down(leg, participation, seat),
            None => self.arrive(leg, info, participation, call),
        }
    }

    /// Asks the cluster for the node of a conference, and joins the conference there.
    fn arrive(
        &mut self,
        leg: LegId,
        info: Arc<LegInfo>,
        participation: &Participation,
        call: Arc<dyn CallPort<ParticipantUpdate>>,
    ) {
        let number = rand::random();
        if let Some(live) = self.state.legs.get_mut(&leg) {
            live.attachments.arriving = Some(Box::new(Arriving { number, participation: participation.clone() }));
        }
        let (conferences, inbox, participation) =
            (self.services.conferences.clone(), self.inbox.clone(), participation.clone());
        let affinity = self.state.call.id().0;
        tokio::spawn(async move {
            let seat = conferences.arrive(&info, &participation, call, affinity).await;
            // If the call is over, the seat is dropped, and the leg leaves the conference.
            let _ = inbox.post(Message::Seated { leg, number, seat: Box::new(seat) });
        });
    }

    /// The leg has joined the conference that it asked for, or was refused.
    pub(super) fn seated(&mut self, leg: LegId, number: u64, seat: Result<Seat, JoinRefusal>) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        // The leg may have left the conference meanwhile.
        if let Some(arriving) = live.attachments.arriving.take_if(|one| one.number == number) {
            let participation = arriving.participation;
            if let Ok(seat) = &seat {
                seat.change(&participation);
            }
            self.sit_down(leg, &participation, seat);
        }
    }

    fn sit_down(&mut self, leg: LegId, participation: &Participation, seat: Result<Seat, JoinRefusal>) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let name = &participation.conference;
        let taken = match seat {
            Ok(seat) => {
                let command = seat.command(participation);
                live.attachments.seat = Some(seat);
                live.io.command(command)
            }
            Err(JoinRefusal::Refused(refused)) => {
                let why = format!("{OF_CONFERENCE}{name}: {refused}");
                self.warn(leg, ReportedError::Conference(refused), &why);
                false
            }
            Err(why) => {
                let why = format!("{OF_CONFERENCE}{name} was not joined: {why}");
                self.report_of(leg, "call", Problem::new(Cause::ConferenceRefused, why));
                false
            }
        };
        if !taken {
            self.post_leg_event(leg, LegEvent::ConferenceRefused);
        }
    }

    pub(super) fn leave_conference(&mut self, leg: LegId, info: &Arc<LegInfo>, why: LeaveReason) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        live.attachments.arriving = None;
        let command = live.attachments.seat.take().map_or(media::Command::Leave, |seat| {
            let command = seat.leave_command();
            seat.leave(info, why);
            command
        });
        live.io.command(command);
    }

    /// Returns the port through which a conference reports to a leg.
    fn conference_port(&self, leg: LegId) -> Arc<dyn CallPort<ParticipantUpdate>> {
        let pass = move |inbox: &Inbox, update: ParticipantUpdate| match update {
            ParticipantUpdate::Removed { clears } => {
                inbox.post(Message::LegEvent(leg, LegEvent::ConferenceOver { clears }))
            }
            ParticipantUpdate::Warned(warning) => inbox.offer(Message::LegEvent(leg, LegEvent::Warned(warning))),
            ParticipantUpdate::EngineFailed(failure) => {
                inbox.offer(Message::LegEvent(leg, LegEvent::EngineFailed(failure)))
            }
        };
        Arc::new(InboxPort::new(&self.inbox, pass))
    }
}
