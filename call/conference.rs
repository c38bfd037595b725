//! Conferences: many legs, of whatever calls, who hear each other. A call knows which of them its legs take part in, and how;
//! who else is there is the shell's to know.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::event::EventKind;
use crate::id::LegId;
use crate::output::LegCommand;
use crate::program::Signal;

/// Which conference a leg takes part in, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Participation {
    /// The account's name for it. It comes to be with its first participant and is over with its last.
    pub conference: Arc<str>,
    /// Nobody hears the leg; it hears the others.
    pub muted: bool,
    /// The conference does not begin before somebody comes who does not wait.
    pub waits: bool,
    /// The conference ends when the leg leaves.
    pub ends: bool,
    /// What the others hear of its coming and going.
    pub beep: Beep,
    /// How many the conference takes, if this leg is its first.
    pub most: u16,
}

/// Which tones a conference hears about somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Beep {
    /// None.
    None,
    /// When it comes.
    Enter,
    /// When it goes.
    Exit,
    /// Both.
    Both,
}

impl Participation {
    /// Takes part from the first moment, heard by all; its coming and going are heard; for up to 250.
    pub fn new(conference: impl Into<Arc<str>>) -> Self {
        let conference = conference.into();
        Self { conference, muted: false, waits: false, ends: false, beep: Beep::Both, most: 250 }
    }
}

impl Call {
    /// Takes part in a conference, or takes part in it otherwise; another one, or the leg that it was joined to, is left.
    pub(crate) fn confer(&mut self, leg: LegId, participation: Participation) {
        let before = self.party(leg).and_then(|party| party.conference.clone());
        let same = before.as_ref().is_some_and(|before| before.conference == participation.conference);
        if !same {
            self.leave_conference(leg);
            self.part(leg);
        }
        if let Some(party) = self.party_mut(leg) {
            party.conference = Some(participation.clone());
        }
        self.order(leg, LegCommand::Confer(participation.clone()));
        if !same {
            self.emit(leg, EventKind::ConferenceJoined(participation));
        }
    }

    /// Leaves its conference. `false`: it is in none.
    pub(crate) fn leave_conference(&mut self, leg: LegId) -> bool {
        let Some(left) = self.party_mut(leg).and_then(|party| party.conference.take()) else { return false };
        self.order(leg, LegCommand::LeaveConference);
        self.emit(leg, EventKind::ConferenceLeft(left));
        true
    }

    /// Lets nobody in its conference hear it, or lets them again. `false`: it is in none.
    pub(crate) fn mute_in_conference(&mut self, leg: LegId, muted: bool) -> bool {
        let Some(before) = self.party(leg).and_then(|party| party.conference.clone()) else { return false };
        self.confer(leg, Participation { muted, ..before });
        true
    }

    /// The conference is over, or would not have it.
    pub(crate) fn conference_over(&mut self, leg: LegId) {
        if self.leave_conference(leg) {
            self.signal(leg, Signal::ConferenceOver);
        }
    }
}
