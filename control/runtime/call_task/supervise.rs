//! Supervisors. Each supervised leg gets a media room. The room contains the leg, its bridged leg, and the supervisors.
//! For the call, the two legs stay bridged. Only the audio of the two legs goes through the room.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_call::supervision::{Supervision, SupervisorRole};
use tandem_id::LegId;
use tandem_media as media;

use super::CallTask;
use crate::call_state::{Room, Supervised};

impl CallTask {
    pub(super) fn supervise(&mut self, leg: LegId, supervision: Supervision) {
        self.state.supervised.get_or_insert_default().supervisions.insert(leg, supervision);
        self.update_rooms(&[]);
    }

    pub(super) fn stop_supervising(&mut self, leg: LegId) {
        if self.state.supervised.as_mut().is_some_and(|all| all.supervisions.remove(&leg).is_some()) {
            self.update_rooms(&[]);
        }
    }

    /// Moves each leg into its correct room. `moved` lists the legs that have left a room because their bridge has
    /// changed.
    pub(super) fn update_rooms(&mut self, moved: &[LegId]) {
        let Some(mut all) = self.state.supervised.take() else { return };
        for leg in moved {
            all.seats.remove(leg);
        }
        let mut seats_needed = BTreeMap::new();
        for (supervisor, Supervision { of, role }) in &all.supervisions {
            let bridged = self.state.legs.get(of).and_then(|live| live.bridged_with);
            let room = bridged.map_or(*of, |bridged| bridged.min(*of));
            for one in [Some(*of), bridged].into_iter().flatten() {
                seats_needed.insert(one, (room, media::Role::Speaker));
            }
            let role = match role {
                SupervisorRole::Barge => media::Role::Speaker,
                SupervisorRole::Whisper => media::Role::Coach(vec![*of]),
                SupervisorRole::Monitor => media::Role::Monitor,
            };
            seats_needed.insert(*supervisor, (room, role));
        }
        let left: Vec<LegId> = all.seats.keys().filter(|leg| !seats_needed.contains_key(leg)).copied().collect();
        for leg in left {
            all.seats.remove(&leg);
            let Some(live) = self.state.legs.get(&leg) else { continue };
            live.io.command(match live.bridged_with {
                // The command for a bridge also removes the leg from the room.
                Some(bridged) => media::Command::Bridge { with: bridged },
                None => media::Command::Leave,
            });
        }
        for (leg, seat) in seats_needed {
            if all.seats.get(&leg) == Some(&seat) {
                continue;
            }
            let Some(room) = self.room(&mut all, seat.0) else { continue };
            let participation = media::Participation { role: seat.1.clone(), ..media::Participation::default() };
            if self
                .state
                .legs
                .get(&leg)
                .is_some_and(|live| live.io.command(media::Command::Join { room, participation }))
            {
                all.seats.insert(leg, seat);
            }
        }
        let used = |room: &LegId| all.seats.values().any(|(of, _)| of == room);
        let empty: Vec<LegId> = all.rooms.keys().filter(|room| !used(room)).copied().collect();
        for room in empty {
            all.rooms.remove(&room);
        }
        self.state.supervised = (!all.supervisions.is_empty()).then_some(all);
    }

    /// Returns the room of a leg. Opens a room if the leg has none.
    fn room(&self, all: &mut Supervised, of: LegId) -> Option<media::RoomKey> {
        if let Some(room) = all.rooms.get(&of) {
            return Some(room.key);
        }
        let key = media::RoomKey(rand::random());
        // Events of the room are ignored, because each leg reports its own end.
        let sink: media::RoomSink = Arc::new(|_, _| Ok(()));
        match self.services.media.open_room(key, self.state.call.id().0, media::RoomSpec::default(), sink) {
            Ok(handle) => {
                all.rooms.insert(of, Room::new(key, handle));
                Some(key)
            }
            Err(error) => {
                tracing::warn!(call = %self.state.call.id(), leg = %of, %error, "no media room for a supervisor");
                None
            }
        }
    }
}
