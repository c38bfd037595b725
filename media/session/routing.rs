//! With whom a leg exchanges audio, and in which form.

use crate::command::SessionKey;
use crate::engine::RoomSeat;
use crate::offload::Offload;

/// The session that another one is bridged with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BridgedLeg {
    pub(crate) key: SessionKey,
    /// Its slot on this worker.
    pub(crate) slot: usize,
}

/// What a session is joined to: one thing at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Joined {
    #[default]
    Nothing,
    Leg(BridgedLeg),
    Room(RoomSeat),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    pub(crate) joined: Joined,
    /// The leg hears itself, and nobody else.
    pub(crate) echo: bool,
    /// The leg's audio goes to the bridged leg frame by frame, because its packets cannot be relayed.
    pub(crate) transcoded: bool,
    /// The leg sends a codec of its plan that the bridged leg's relay cannot take.
    pub(super) codec_mismatch: bool,
    /// The kernel's part in relaying the leg's packets.
    pub(crate) offload: Offload,
    /// The number of the newest command that says whom the leg hears.
    pub(crate) orders: u32,
}

impl Routing {
    pub(crate) fn bridged_with(&self) -> Option<BridgedLeg> {
        match self.joined {
            Joined::Leg(leg) => Some(leg),
            Joined::Nothing | Joined::Room(_) => None,
        }
    }

    pub(crate) fn room(&self) -> Option<RoomSeat> {
        match self.joined {
            Joined::Room(seat) => Some(seat),
            Joined::Nothing | Joined::Leg(_) => None,
        }
    }
}
