//! Conferences. A leg joins a conference, and the conference reports to the leg's call.

use std::sync::Arc;

use tandem_call::conference::Participation;
use tandem_call::output::LegEvent;
use tandem_causes::{Cause, OF_CONFERENCE};
use tandem_conferences::{JoinRefusal, ParticipantUpdate};
use tandem_dialect::ReportedError;
use tandem_history::problem::Problem;
use tandem_id::LegId;

use super::CallTask;
use super::port::InboxPort;
use crate::inbox::{Inbox, Message};

impl CallTask {
    pub(super) fn join_conference(&mut self, leg: LegId, participation: &Participation) {
        let Some(info) = self.state.call.leg(leg).cloned() else { return };
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let seat = match live.attachments.seat.take_if(|seat| seat.is_in(&participation.conference)) {
            Some(seat) => {
                seat.change(participation);
                Ok(seat)
            }
            None => {
                let call = InboxPort::new(&self.inbox, move |inbox: &Inbox, update: ParticipantUpdate| match update {
                    ParticipantUpdate::Removed { clears } => {
                        inbox.post(Message::LegEvent(leg, LegEvent::ConferenceOver { clears }))
                    }
                    ParticipantUpdate::Warned(warning) => {
                        inbox.offer(Message::LegEvent(leg, LegEvent::Warned(warning)))
                    }
                    ParticipantUpdate::EngineFailed(failure) => {
                        inbox.offer(Message::LegEvent(leg, LegEvent::EngineFailed(failure)))
                    }
                });
                self.services.conferences.join(&info, participation, Arc::new(call))
            }
        };
        let taken = match seat {
            Ok(seat) => {
                let command = seat.command(participation);
                live.attachments.seat = Some(seat);
                live.io.command(command)
            }
            Err(JoinRefusal::Refused(refused)) => {
                let why = format!("{OF_CONFERENCE}{}: {refused}", participation.conference);
                self.warn(leg, ReportedError::Conference(refused), &why);
                false
            }
            Err(why) => {
                let why = format!(
                    "{OF_CONFERENCE}{} was not joined: the media engine has no room for it: {why}",
                    participation.conference
                );
                self.report_of(leg, "call", Problem::new(Cause::ConferenceRefused, why));
                false
            }
        };
        if !taken {
            self.post_leg_event(leg, LegEvent::ConferenceRefused);
        }
    }
}
