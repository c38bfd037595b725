//! Conferences: many legs of different calls hear each other. For each of its legs, a call knows the conference of the
//! leg and the leg's settings in this conference. A [`state::Conference`] knows all participants and the state of the
//! whole conference.
//!
//! ```text
//!   Call ── Confer(participation), LeaveConference ──►┐                    ┌── events (webhooks, records)
//!   requests ── end, announce, record ───────────────►┼── state::Conference┼── orders (record, end, play a document to a leg)
//!   the engine's room ── joined, left, speaks, over ─►┘                    └── participants that were removed
//! ```

pub mod event;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::call::Call;
use crate::event::EventKind;
use crate::output::LegCommand;
use crate::program::Input;
use crate::program::instruction::Wait;
use crate::recording::RecordingSpec;
use crate::snapshot::double_option;
use crate::{Callback, Target};
use tandem_id::LegId;

/// A leg's participation in a conference: the name of the conference and the settings of the participant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Participation {
    /// The name that the account uses for the conference. The conference begins when its first participant joins and
    /// ends when its last participant leaves.
    pub conference: Arc<str>,
    /// The name that the application uses for the participant, unique in the conference.
    #[serde(default)]
    pub label: Option<Arc<str>>,
    /// Whether the leg is muted. A muted leg hears the other participants, but they do not hear the muted leg.
    pub muted: bool,
    /// Audio that the leg hears while the leg is on hold; `None` if the leg is not on hold. A leg on hold and the other
    /// participants do not hear each other.
    #[serde(default)]
    pub hold: Option<Wait>,
    /// Audio that the leg hears until the conference starts.
    #[serde(default)]
    pub wait: Wait,
    /// Whether the leg waits for a participant that starts the conference. Only a participant without this setting
    /// starts the conference.
    pub waits: bool,
    /// Whether the conference ends when the leg leaves.
    pub ends: bool,
    /// Whether the remaining participants are hung up if the conference ends because this leg leaves.
    #[serde(default)]
    pub clears: bool,
    /// Tones that the other participants hear when the leg joins and leaves.
    pub beep: Beep,
    /// The participants to whom this leg speaks; the other participants do not hear this leg. `None` if all
    /// participants hear this leg.
    #[serde(default)]
    pub coach: Option<Coaching>,
    /// Maximum number of participants of the conference. The setting applies if this leg is the first participant.
    #[serde(rename = "most")]
    pub max_participants: u16,
    /// Further settings of the conference. These settings apply if this leg is the first participant.
    #[serde(default)]
    pub opening: Option<Arc<ConferenceSettings>>,
}

/// Coaching: only some of the other participants hear this participant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Coaching {
    /// The participants that hear this participant. If the list is empty, no participant hears this participant.
    #[serde(rename = "whom", deserialize_with = "one_or_several")]
    pub legs: Vec<LegId>,
    /// Whether the coaching is active. If the coaching is not active, all participants hear the leg.
    pub on: bool,
}

impl Coaching {
    /// Creates an active coaching. Only these legs hear the participant.
    pub fn of(legs: Vec<LegId>) -> Self {
        Self { legs, on: true }
    }
}

/// Reads one leg or a list of legs. Older stored records contain exactly one leg.
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

/// Settings of the whole conference. The first participant brings these settings.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConferenceSettings {
    /// The callback that receives the conference's events.
    pub callback: Option<Callback>,
    /// The recording that runs from the conference's start.
    pub record: Option<RecordingSpec>,
    /// The URL that gets the older form of the recording's webhook. The server uses this URL if the recording has no
    /// callback of its own.
    pub recorded: Option<Target>,
    /// The name that the application uses for the region that mixes the conference. The server stores and reports this
    /// name. The name has no other effect.
    pub region: Option<Arc<str>>,
    /// Whether the conference can start with one participant. Otherwise the conference needs two participants to start.
    #[serde(default)]
    pub starts_alone: bool,
    /// Audio that participants hear until the start of the conference, if they do not set their own audio.
    #[serde(default)]
    pub wait: Option<Wait>,
    /// Tones for participants that do not set their own tones.
    #[serde(default)]
    pub beep: Option<Beep>,
    /// Maximum duration of the conference. After this time all participants are hung up.
    #[serde(default)]
    pub lasts: Option<Duration>,
}

/// The moments at which the participants hear a tone for a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Beep {
    /// The participants hear no tone for the leg.
    None,
    /// The participants hear a tone when the leg joins.
    Enter,
    /// The participants hear a tone when the leg leaves.
    Exit,
    /// The participants hear a tone when the leg joins and when the leg leaves.
    Both,
}

impl Beep {
    /// Returns this setting with another choice for the leaving tone. If `exit` is true, the participants hear a tone
    /// when the leg leaves. The tone for joining does not change.
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

/// A change of a leg's participation. Fields that are `None` do not change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Change {
    /// See [`Participation::muted`].
    pub muted: Option<bool>,
    /// See [`Participation::hold`]. `Some(None)` takes the leg off hold.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "double_option")]
    pub hold: Option<Option<Wait>>,
    /// See [`Participation::wait`].
    pub wait: Option<Wait>,
    /// See [`Participation::ends`].
    pub ends: Option<bool>,
    /// See [`Participation::clears`].
    pub clears: Option<bool>,
    /// See [`Participation::beep`].
    pub beep: Option<Beep>,
    /// Whether the other participants hear a tone when the leg leaves.
    pub beep_on_exit: Option<bool>,
    /// See [`Participation::coach`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "double_option")]
    pub coach: Option<Option<Coaching>>,
}

/// The reason why a leg leaves its conference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LeaveReason {
    /// The leg ended.
    Ended,
    /// The leg left the conference because of its own program, for example after a digit or a time limit.
    Itself,
    /// A request moved the leg to another activity.
    Elsewhere,
    /// A request removed the leg from the conference.
    Removed,
    /// The conference ended, or the conference refused the leg.
    Over,
}

impl Participation {
    /// Creates a participation with the default settings. The leg starts the conference, and all participants hear the
    /// leg. The participants hear a tone when the leg joins and when the leg leaves. The leg hears silence until the
    /// start. The conference takes at most 250 participants.
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
            max_participants: 250,
            opening: None,
        }
    }

    /// Applies a change to this participation.
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

/// Detail text for the end of a leg that was hung up because its conference ended.
const CONFERENCE_OVER: &str = "the conference had ended";

impl Call {
    /// Joins a conference, or changes the participation in the current conference. A leg that joins a conference first
    /// leaves its old conference or its bridge.
    pub(crate) fn join_conference(&mut self, leg: LegId, participation: Participation) {
        let before = self.leg_state(leg).and_then(|state| state.conference.clone());
        let same = before.as_ref().is_some_and(|before| before.conference == participation.conference);
        if !same {
            self.leave_conference(leg, LeaveReason::Elsewhere);
            self.end_bridge(leg);
            self.disconnect_supervisors(leg);
        }
        if let Some(state) = self.leg_state_mut(leg) {
            state.conference = Some(Box::new(participation.clone()));
        }
        self.push_command(leg, LegCommand::JoinConference(participation.clone()));
        if !same {
            self.emit(leg, EventKind::ConferenceJoined(participation));
            self.move_supervisors(leg);
        }
    }

    /// Takes the leg out of its conference. Returns `false` if the leg is in no conference.
    pub(crate) fn leave_conference(&mut self, leg: LegId, why: LeaveReason) -> bool {
        let Some(state) = self.leg_state_mut(leg) else { return false };
        let (Some(left), info) = (state.conference.take(), Arc::clone(&state.info)) else { return false };
        self.push_command(leg, LegCommand::LeaveConference { why, leg: info });
        self.emit(leg, EventKind::ConferenceLeft(*left));
        self.move_supervisors(leg);
        true
    }

    /// Changes the leg's participation in its conference. Returns `false` if the leg is in no conference.
    pub(crate) fn change_in_conference(&mut self, leg: LegId, change: Change) -> bool {
        let Some(mut participation) = self.leg_state(leg).and_then(|state| state.conference.clone()) else {
            return false;
        };
        participation.change(change);
        self.join_conference(leg, *participation);
        true
    }

    /// Takes the leg out of its conference, because the conference has ended or because the leg leaves. If `clears` is
    /// true, the leg is also hung up.
    pub(crate) fn conference_over(&mut self, leg: LegId, why: LeaveReason, clears: bool) {
        if self.leave_conference(leg, why) {
            self.handle_input(leg, Input::ConferenceOver);
            if clears {
                self.clear_for_application(leg, CONFERENCE_OVER);
            }
        }
    }

    /// Takes the leg out of a conference that refused the leg.
    pub(crate) fn conference_refused(&mut self, leg: LegId) {
        if self.leave_conference(leg, LeaveReason::Over) {
            self.handle_input(leg, Input::ConferenceRefused);
        }
    }
}
