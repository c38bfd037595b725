//! The supervision of a call: which leg supervises which, and the rooms for it.

use foldhash::HashMap;
use tandem_call::id::LegId;
use tandem_call::supervision::Supervision;
use tandem_media as media;

/// The supervisors of a call, and their rooms.
#[derive(Default)]
pub(crate) struct Supervised {
    /// Supervisions by the supervisor's leg.
    pub supervisions: HashMap<LegId, Supervision>,
    /// Rooms by leg: of two bridged legs, by the one with the lesser id.
    pub rooms: HashMap<LegId, Room>,
    /// The room and the role of each leg, with the room named by its leg.
    pub seats: HashMap<LegId, (LegId, media::Role)>,
}

/// A media room for a supervised leg.
pub(crate) struct Room {
    /// The key of the room.
    pub key: media::RoomKey,
    /// The room closes when this is dropped.
    _handle: media::RoomHandle,
}

impl Supervised {
    /// Merges the supervision of two calls.
    pub(crate) fn merged(one: Option<Box<Self>>, other: Option<Box<Self>>) -> Option<Box<Self>> {
        let Some(other) = other else { return one };
        let mut one = one.unwrap_or_default();
        one.supervisions.extend(other.supervisions);
        one.rooms.extend(other.rooms);
        one.seats.extend(other.seats);
        Some(one)
    }
}

impl Room {
    /// A room that closes when the value is dropped.
    pub(crate) fn new(key: media::RoomKey, handle: media::RoomHandle) -> Self {
        Self { key, _handle: handle }
    }
}
