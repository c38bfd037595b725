//! Conferences: many legs, of whatever calls, who hear each other. A call knows which of them its legs take part in, and how;
//! who else is there, and what becomes of it all, is one [`state::Conference`]'s to know.
//!
//! ```text
//!   Call ── Confer(participation), LeaveConference ──►┐                    ┌── facts (webhooks, records)
//!   requests ── end, announce, record ───────────────►┼── state::Conference┼── orders (record, end, who hears which document)
//!   the engine's room ── joined, left, speaks, over ─►┘                    └── who has been put out
//! ```

pub mod event;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::call::Call;
use crate::event::EventKind;
use crate::id::LegId;
use crate::output::LegCommand;
use crate::program::Signal;
use crate::program::instruction::Wait;
use crate::recording::RecordingSpec;
use crate::{Callback, Target};

/// Which conference a leg takes part in, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Participation {
    /// The account's name for it. It comes to be with its first participant and is over with its last.
    pub conference: Arc<str>,
    /// The application's name for the participant, unique in the conference.
    #[serde(default)]
    pub label: Option<Arc<str>>,
    /// Nobody hears the leg; it hears the others.
    pub muted: bool,
    /// Nobody hears the leg, and it hears this instead of the others.
    #[serde(default)]
    pub hold: Option<Wait>,
    /// What it hears until the conference starts.
    #[serde(default)]
    pub wait: Wait,
    /// The conference does not begin before somebody comes who does not wait.
    pub waits: bool,
    /// The conference ends when the leg leaves.
    pub ends: bool,
    /// Those who are still there then are hung up.
    #[serde(default)]
    pub clears: bool,
    /// What the others hear of its coming and going.
    pub beep: Beep,
    /// For whom alone it speaks.
    #[serde(default)]
    pub coach: Option<Coaching>,
    /// How many the conference takes, if this leg is its first.
    pub most: u16,
    /// What else holds for the conference, if this leg is its first.
    #[serde(default)]
    pub opening: Option<Arc<Opening>>,
}

/// One participant speaks to some of the others alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Coaching {
    /// To whom; to nobody if empty.
    #[serde(deserialize_with = "one_or_several")]
    pub whom: Vec<LegId>,
    /// Not while this is off: then it speaks to all.
    pub on: bool,
}

impl Coaching {
    /// To these alone, from now on.
    pub fn of(whom: Vec<LegId>) -> Self {
        Self { whom, on: true }
    }
}

/// Records of before there could be several have one.
fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<LegId>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Whom {
        One(LegId),
        Several(Vec<LegId>),
    }
    Ok(match Whom::deserialize(from)? {
        Whom::One(leg) => vec![leg],
        Whom::Several(legs) => legs,
    })
}

/// What the first participant says about the whole conference.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Opening {
    /// Told of what happens in it.
    pub callback: Option<Callback>,
    /// Recorded from its start.
    pub record: Option<RecordingSpec>,
    /// Told of the recording in the old way, unless that has a callback of its own.
    pub recorded: Option<Target>,
    /// Where the application wants it mixed; a word that is kept and told.
    pub region: Option<Arc<str>>,
    /// It starts with its first participant, not with the second.
    #[serde(default)]
    pub starts_alone: bool,
    /// What those hear until it starts who say nothing of it.
    #[serde(default)]
    pub wait: Option<Wait>,
    /// What it hears of those who say nothing of it.
    #[serde(default)]
    pub beep: Option<Beep>,
    /// It ends after so long, and whoever is there is hung up.
    #[serde(default)]
    pub lasts: Option<Duration>,
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

impl Beep {
    /// The same when it comes, and this when it goes.
    #[must_use]
    pub fn with_exit(self, exit: bool) -> Self {
        match (matches!(self, Self::Enter | Self::Both), exit) {
            (true, true) => Self::Both,
            (true, false) => Self::Enter,
            (false, true) => Self::Exit,
            (false, false) => Self::None,
        }
    }
}

/// A change to how a leg takes part; what is `None` stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// See [`Participation::muted`].
    pub muted: Option<bool>,
    /// See [`Participation::hold`]; `Some(None)` takes it off hold.
    pub hold: Option<Option<Wait>>,
    /// See [`Participation::wait`].
    pub wait: Option<Wait>,
    /// See [`Participation::ends`].
    pub ends: Option<bool>,
    /// See [`Participation::clears`].
    pub clears: Option<bool>,
    /// See [`Participation::beep`].
    pub beep: Option<Beep>,
    /// Whether the others hear a tone when it goes.
    pub beep_on_exit: Option<bool>,
    /// See [`Participation::coach`].
    pub coach: Option<Option<Coaching>>,
}

/// Why a leg leaves its conference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Leaving {
    /// The leg is over.
    Ended,
    /// Of its own: a key, its time.
    Itself,
    /// A request sent it elsewhere.
    Elsewhere,
    /// A request put it out.
    Removed,
    /// The conference is over, or would not have it.
    Over,
}

impl Participation {
    /// Takes part from the first moment, heard by all; its coming and going are heard; for up to 250. Until the start it hears
    /// nothing.
    pub fn new(conference: impl Into<Arc<str>>) -> Self {
        Self {
            conference: conference.into(),
            label: None,
            muted: false,
            hold: None,
            wait: Wait::Silence,
            waits: false,
            ends: false,
            clears: false,
            beep: Beep::Both,
            coach: None,
            most: 250,
            opening: None,
        }
    }

    /// Takes part as before, but for this.
    pub fn change(&mut self, change: Change) {
        let Change { muted, hold, wait, ends, clears, beep, beep_on_exit, coach } = change;
        self.muted = muted.unwrap_or(self.muted);
        self.ends = ends.unwrap_or(self.ends);
        self.clears = clears.unwrap_or(self.clears);
        self.beep = beep.unwrap_or(self.beep);
        if let Some(hold) = hold {
            self.hold = hold;
        }
        if let Some(wait) = wait {
            self.wait = wait;
        }
        if let Some(exit) = beep_on_exit {
            self.beep = self.beep.with_exit(exit);
        }
        if let Some(coach) = coach {
            self.coach = coach;
        }
    }
}

/// How a leg ends with its conference, in words.
const CONFERENCE_OVER: &str = "the conference had ended";

impl Call {
    /// Takes part in a conference, or takes part in it otherwise; another one, or the leg that it was joined to, is left.
    pub(crate) fn confer(&mut self, leg: LegId, participation: Participation) {
        let before = self.party(leg).and_then(|party| party.conference.clone());
        let same = before.as_ref().is_some_and(|before| before.conference == participation.conference);
        if !same {
            self.leave_conference(leg, Leaving::Elsewhere);
            self.part(leg);
            self.send_supervisors_away(leg);
        }
        if let Some(party) = self.party_mut(leg) {
            party.conference = Some(Box::new(participation.clone()));
        }
        self.order(leg, LegCommand::Confer(participation.clone()));
        if !same {
            self.emit(leg, EventKind::ConferenceJoined(participation));
            self.call_supervisors(leg);
        }
    }

    /// Leaves its conference. `false`: it is in none.
    pub(crate) fn leave_conference(&mut self, leg: LegId, why: Leaving) -> bool {
        let Some(party) = self.party_mut(leg) else { return false };
        let (Some(left), info) = (party.conference.take(), Arc::clone(&party.info)) else { return false };
        self.order(leg, LegCommand::LeaveConference { why, leg: info });
        self.emit(leg, EventKind::ConferenceLeft(*left));
        self.call_supervisors(leg);
        true
    }

    /// Takes part in its conference otherwise. `false`: it is in none.
    pub(crate) fn change_in_conference(&mut self, leg: LegId, change: Change) -> bool {
        let Some(mut participation) = self.party(leg).and_then(|party| party.conference.clone()) else { return false };
        participation.change(change);
        self.confer(leg, *participation);
        true
    }

    /// The conference is over, or is to be left. `clears`: the leg is hung up then.
    pub(crate) fn conference_over(&mut self, leg: LegId, why: Leaving, clears: bool) {
        if self.leave_conference(leg, why) {
            self.signal(leg, Signal::ConferenceOver);
            if clears {
                self.clear_for_application(leg, CONFERENCE_OVER);
            }
        }
    }

    /// The conference would not have it.
    pub(crate) fn conference_refused(&mut self, leg: LegId) {
        if self.leave_conference(leg, Leaving::Over) {
            self.signal(leg, Signal::ConferenceRefused);
        }
    }
}
