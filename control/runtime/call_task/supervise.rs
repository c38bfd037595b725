//! Supervisors: a room for each leg that has any, in which the leg is, whoever it is joined to, and they.
//!
//! The leg and the one it is joined to stay joined as far as the call is concerned; only their audio goes through the room instead of
//! straight from one to the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use tandem_call::id::LegId;
use tandem_call::supervision::{Supervision, SupervisorRole};
use tandem_media as media;

use super::CallTask;

/// Who hears whose call.
#[derive(Default)]
pub(super) struct Supervised {
    /// By supervisor.
    supervisions: HashMap<LegId, Supervision>,
    /// By the leg that the room is of: the lesser of two that are joined.
    rooms: HashMap<LegId, Room>,
    /// How each leg takes part in the room of which leg.
    seats: HashMap<LegId, (LegId, media::Role)>,
}

struct Room {
    key: media::RoomKey,
    /// Dropped, the room ends.
    _handle: media::RoomHandle,
}

impl Supervised {
    /// Of two calls that have become one.
    pub(super) fn united(one: Option<Box<Self>>, other: Option<Box<Self>>) -> Option<Box<Self>> {
        let Some(other) = other else { return one };
        let mut one = one.unwrap_or_default();
        one.supervisions.extend(other.supervisions);
        one.rooms.extend(other.rooms);
        one.seats.extend(other.seats);
        Some(one)
    }
}

impl CallTask {
    pub(super) fn supervise(&mut self, leg: LegId, supervision: Supervision) {
        self.supervised.get_or_insert_default().supervisions.insert(leg, supervision);
        self.rearrange(&[]);
    }

    pub(super) fn stop_supervising(&mut self, leg: LegId) {
        if self.supervised.as_mut().is_some_and(|all| all.supervisions.remove(&leg).is_some()) {
            self.rearrange(&[]);
        }
    }

    /// Has everybody take part in the room that is theirs now. `moved`: those who have just left theirs.
    pub(super) fn rearrange(&mut self, moved: &[LegId]) {
        let Some(mut all) = self.supervised.take() else { return };
        for leg in moved {
            all.seats.remove(leg);
        }
        let mut wanted = BTreeMap::new();
        for (supervisor, Supervision { of, role }) in &all.supervisions {
            let peer = self.legs.get(of).and_then(|io| io.peer);
            let room = peer.map_or(*of, |peer| peer.min(*of));
            for one in [Some(*of), peer].into_iter().flatten() {
                wanted.insert(one, (room, media::Role::Speaker));
            }
            let role = match role {
                SupervisorRole::Barge => media::Role::Speaker,
                SupervisorRole::Whisper => media::Role::Coach(vec![media::SessionKey(of.0)]),
                SupervisorRole::Monitor => media::Role::Monitor,
            };
            wanted.insert(*supervisor, (room, role));
        }
        let gone: Vec<LegId> = all.seats.keys().filter(|leg| !wanted.contains_key(leg)).copied().collect();
        for leg in gone {
            all.seats.remove(&leg);
            let Some(io) = self.legs.get(&leg) else { continue };
            io.command(match io.peer {
                // It leaves the room.
                Some(peer) => media::Command::Bridge { with: media::SessionKey(peer.0) },
                None => media::Command::Leave,
            });
        }
        for (leg, seat) in wanted {
            if all.seats.get(&leg) == Some(&seat) {
                continue;
            }
            let Some(room) = self.room(&mut all, seat.0) else { continue };
            let participation = media::Participation { role: seat.1.clone(), ..media::Participation::default() };
            if self.legs.get(&leg).is_some_and(|io| io.command(media::Command::Join { room, participation })) {
                all.seats.insert(leg, seat);
            }
        }
        let used = |room: &LegId| all.seats.values().any(|(of, _)| of == room);
        let empty: Vec<LegId> = all.rooms.keys().filter(|room| !used(room)).copied().collect();
        for room in empty {
            all.rooms.remove(&room);
        }
        self.supervised = (!all.supervisions.is_empty()).then_some(all);
    }

    /// The room of a leg, which is opened if there is none.
    fn room(&self, all: &mut Supervised, of: LegId) -> Option<media::RoomKey> {
        if let Some(room) = all.rooms.get(&of) {
            return Some(room.key);
        }
        let key = media::RoomKey(rand::random());
        // Nothing that happens in it is of interest: the legs say when they go.
        let sink: media::RoomSink = Arc::new(|_, _| Ok(()));
        match self.services.media.open_room(key, self.call.id().0, media::RoomSpec::default(), sink) {
            Ok(handle) => {
                all.rooms.insert(of, Room { key, _handle: handle });
                Some(key)
            }
            Err(error) => {
                tracing::warn!(call = %self.call.id(), leg = %of, %error, "no room for a supervisor");
                None
            }
        }
    }
}
