//! How a session takes part in a room.

use crate::command::SessionKey;

/// How a session takes part in a room: what it says there, what it hears there, and what its coming and going do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Participation {
    /// For whom it speaks.
    pub role: Role,
    /// It is not heard. It hears what it would hear otherwise.
    pub muted: bool,
    /// It is not heard and does not hear the room.
    pub hold: Hold,
    /// By how much it is heard louder, -20 to 20 dB; more counts as that.
    pub gain_db: i8,
    /// Which of its coming and going the room hears.
    pub beep: Beep,
    /// It hears nothing until the room starts; else the room's music.
    pub waits_in_silence: bool,
    /// The room waits until somebody comes who does not wait.
    pub waits: bool,
    /// The room ends when it leaves.
    pub ends_room: bool,
}

/// For whom somebody speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Role {
    /// For all.
    #[default]
    Speaker,
    /// For these alone; hears the room. Coaches do not hear each other. Those who are not there are heard when they
    /// come. At most 250 count.
    Coach(Vec<SessionKey>),
    /// For nobody; hears the room.
    Monitor,
}

/// Whether somebody is held, and what is heard meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Not held.
    #[default]
    No,
    /// Hears nothing; only what is played to it alone.
    Silence,
    /// Hears the room's music.
    Music,
}

/// Which tones a room hears about somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beep {
    /// None.
    #[default]
    None,
    /// Two rising notes when it comes.
    Enter,
    /// Two falling notes when it goes.
    Exit,
    /// Both.
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
