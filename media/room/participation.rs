//! The participation of a session in a room.

use crate::command::SessionKey;

/// A session's participation in a room: who hears it, what it hears, and the effects of its joining and leaving.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Participation {
    /// Who hears the session.
    pub role: Role,
    /// Nobody hears the session. What it hears does not change.
    pub muted: bool,
    /// Whether the session is on hold: nobody hears it, and it does not hear the room.
    pub hold: Hold,
    /// The gain of the session's audio, -20 to 20 dB. Values outside are limited.
    pub gain_db: i8,
    /// The tones that the room hears when the session joins and leaves.
    pub beep: Beep,
    /// The session hears silence until the room starts. If not set, it hears the room's music.
    pub waits_in_silence: bool,
    /// The session does not start the room: the room waits for a session without this flag.
    pub waits: bool,
    /// The room ends when the session leaves.
    pub ends_room: bool,
}

/// Who hears a participant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Role {
    /// All participants.
    #[default]
    Speaker,
    /// Only these participants; a coach hears the room. Coaches do not hear each other. Sessions in the list that are
    /// not in the room hear the coach as soon as they join. At most 250 entries count.
    Coach(Vec<SessionKey>),
    /// Nobody; a monitor hears the room.
    Monitor,
}

/// Whether a participant is on hold, and what it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Not on hold.
    #[default]
    No,
    /// On hold with silence; it hears only announcements to it alone.
    Silence,
    /// On hold with the room's music.
    Music,
}

/// The tones that a room hears when a participant joins and leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beep {
    /// No tone.
    #[default]
    None,
    /// Two rising notes when it joins.
    Enter,
    /// Two falling notes when it leaves.
    Exit,
    /// Both tones.
    Both,
}

impl Beep {
    pub(crate) fn enters(self) -> bool {
        matches!(self, Beep::Enter | Beep::Both)
    }

    pub(crate) fn exits(self) -> bool {
        matches!(self, Beep::Exit | Beep::Both)
    }
}
