//! The supervision of a call: the pairs of a supervising leg and a supervised leg, and the media rooms of these legs.

use foldhash::HashMap;
use tandem_call::supervision::Supervision;
use tandem_id::LegId;
use tandem_media as media;

/// The supervisors of a call, and the media rooms for the supervision.
#[derive(Default)]
pub(crate) struct Supervised {
    /// The supervisions, by the leg of the supervisor.
    pub supervisions: HashMap<LegId, Supervision>,
    /// The rooms, by leg. The room of two bridged legs is stored under the leg with the lower id.
    pub rooms: HashMap<LegId, Room>,
    /// The room and the role of each leg. The room is identified by the leg under which `rooms` stores it.
    pub seats: HashMap<LegId, (LegId, media::Role)>,
}

/// A media room for a supervised leg.
pub(crate) struct Room {
    pub key: media::RoomKey,
    /// The handle of the room. The room closes when this handle is dropped.
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
    /// Creates a room. The room closes when this value is dropped.
    pub(crate) fn new(key: media::RoomKey, handle: media::RoomHandle) -> Self {
        Self { key, _handle: handle }
    }
}
