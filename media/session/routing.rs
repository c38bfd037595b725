//! Routing of a leg's audio. It states the leg or room with which the leg exchanges audio, and the form of this audio.

use crate::command::LegId;
use crate::engine::RoomSeat;
use crate::offload::Offload;

/// The other session of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BridgedLeg {
    pub(crate) key: LegId,
    /// The slot of the other session on this worker.
    pub(crate) slot: usize,
}

/// The leg or room that a session is joined to. A session cannot be joined to a leg and to a room at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Joined {
    #[default]
    Nothing,
    Leg(BridgedLeg),
    Room(RoomSeat),
}

/// The routing of a leg's audio.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    pub(crate) joined: Joined,
    /// The other session of the bridge from before a snapshot, until this session is on the worker too.
    pub(crate) awaited: Option<LegId>,
    /// Whether the leg hears only itself.
    pub(crate) echo: bool,
    /// Whether the bridged leg gets this leg's audio as frames, because the packets cannot be relayed.
    pub(crate) transcoded: bool,
    /// Whether the leg has sent packets that cannot be relayed: in another codec, or longer than the bridged leg accepts.
    pub(super) codec_mismatch: bool,
    /// The longest packet in ms that the bridged leg accepts. `None` means any length.
    pub(crate) max_packet_ms: Option<u8>,
    /// Whether the newest packet came from another address than the packets before it.
    pub(crate) moved: bool,
    /// The state of the offload of this leg's packets to the kernel.
    pub(crate) offload: Offload,
    /// The number of the session's newest command about its bridge or room.
    pub(crate) command_number: u32,
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
