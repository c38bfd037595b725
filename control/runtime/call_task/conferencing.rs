//! Conferences. A leg joins a conference, and the conference reports to the leg's call.

use std::sync::Arc;

use tandem_call::conference::Participation;
use tandem_call::engine::EngineFailure;
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::Warning;
use tandem_causes::{Cause, OF_CONFERENCE};
use tandem_conferences::{JoinRefusal, ParticipantCall};
use tandem_dialect::ReportedError;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_id::LegId;

use super::CallTask;
use crate::inbox::{Inbox, Message};

/// The call of a participant. This type passes the conference's reports to the call's inbox.
struct CallOfParticipant {
    inbox: Inbox,
    leg: LegId,
}

impl ParticipantCall for CallOfParticipant {
    fn removed(&self, clears: bool) {
        // The call may be over.
        let _ = self.inbox.post(Message::LegEvent(self.leg, LegEvent::ConferenceOver { clears }));
    }

    fn warn(&self, warning: Warning) {
        // The call may be over.
        let _ = self.inbox.offer(Message::LegEvent(self.leg, LegEvent::Warned(warning)));
    }

    fn engine_failed(&self, failure: EngineFailure) {
        // The call may be over.
        let _ = self.inbox.offer(Message::LegEvent(self.leg, LegEvent::EngineFailed(failure)));
    }

    fn note(&self, kind: &'static str, text: String) {
        self.inbox.log().push(clock::time(), Some(self.leg), kind, text);
    }
}

impl CallTask {
    pub(super) fn join_conference(&mut self, leg: LegId, participation: &Participation) {
        let Some(info) = self.state.call.leg(leg).cloned() else { return };
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let seat = match live.seat.take_if(|seat| seat.is_in(&participation.conference)) {
            Some(seat) => {
                seat.change(participation);
                Ok(seat)
            }
            None => {
                let call = Arc::new(CallOfParticipant { inbox: self.inbox.clone(), leg });
                self.services.conferences.join(&info, participation, call)
            }
        };
        let taken = match seat {
            Ok(seat) => {
                let command = seat.command(participation);
                live.seat = Some(seat);
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
