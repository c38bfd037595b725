//! The participation of a session in a room.

use crate::command::LegId;

/// A session's participation in a room. It determines which participants hear the session, which audio the session
/// hears, and which sounds play when the session joins and leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Participation {
    /// The participants that hear the session.
    pub role: Role,
    /// Whether the session is muted. No participant hears a muted session. The session still hears the room.
    pub muted: bool,
    /// Whether the session is on hold. During hold no participant hears it, and the session does not hear the room.
    pub hold: Hold,
    /// The gain of the session's audio, -20 to 20 dB. Values outside the range are limited.
    pub gain_db: i8,
    /// The tones that the room hears when the session joins and leaves.
    pub beep: Beep,
    /// Whether the session hears silence until the room starts. If not, the session hears the room's music.
    pub waits_in_silence: bool,
    /// Whether the session only waits for other sessions. The room does not start until a session joins for which this
    /// flag is false.
    pub waits: bool,
    /// Whether the room ends when the session leaves.
    pub ends_room: bool,
}

/// The participants that hear a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Role {
    /// All participants hear the session.
    #[default]
    Speaker,
    /// Only these participants hear the session, which is their coach. The coach hears the room. Coaches do not hear
    /// each other. A listed session that joins later hears the coach too. At most 250 entries count.
    Coach(Vec<LegId>),
    /// No participant hears the session. The session hears the room.
    Monitor,
}

/// Whether a participant is on hold, and which audio the participant hears during hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// The participant is not on hold.
    #[default]
    No,
    /// The participant is on hold and hears silence. The participant still hears announcements that are for this
    /// participant alone.
    Silence,
    /// The participant is on hold and hears the room's music.
    Music,
}

/// The tones that a room hears when a participant joins and leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beep {
    /// The room hears no tone.
    #[default]
    None,
    /// The room hears two rising notes when the participant joins.
    Enter,
    /// The room hears two falling notes when the participant leaves.
    Exit,
    /// The room hears both tones.
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
