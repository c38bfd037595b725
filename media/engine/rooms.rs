//! The rooms of a worker, their sessions, and the work for rooms in a tick. All sessions of a room are in one group. So
//! the same tick reads all inbound frames of the room, mixes the room, and sends all outbound frames. No participant
//! gets the audio a frame later than the others.

use std::time::Instant;

use slab::Slab;

use crate::HashMap;

use super::{Core, GROUPS, Outcome};
use crate::command::{Command, LegId};
use crate::event::Event;
use crate::room::{NotJoined, Participation, Room, RoomCommand, RoomKey};
use crate::session::{Input, Joined};

/// The position of a session in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoomSeat {
    /// The slot of the room on this worker.
    room: usize,
    /// The slot of the session in the room.
    slot: usize,
}

#[derive(Default)]
pub(super) struct Rooms {
    slab: Slab<HostedRoom>,
    slots: HashMap<RoomKey, usize>,
    /// The rooms removed since the last [`Core::take_ended_rooms`].
    ended: Vec<RoomKey>,
}

struct HostedRoom {
    room: Room,
    group: usize,
    /// The members of the room. Each pair contains the slot of the member's session, and the slot of the member in the
    /// room.
    members: Vec<(usize, usize)>,
}

impl Rooms {
    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Whether this group of sessions has a room.
    pub(super) fn are_in(&self, group: usize) -> bool {
        self.slab.iter().any(|(_, hosted)| hosted.group == group % GROUPS)
    }

    /// Skips `frames` frames in all rooms.
    pub(super) fn miss(&mut self, frames: u32) {
        self.slab.iter_mut().for_each(|(_, hosted)| hosted.room.miss(frames));
    }

    /// Returns the room's mix for a session in this frame.
    pub(super) fn frame_for(&mut self, place: RoomSeat, codec: crate::codec::Codec) -> Option<Input<'_>> {
        self.slab.get_mut(place.room)?.room.frame_for(place.slot, codec).map(Input::Room)
    }
}

impl Core {
    /// Adds a room to the group with the fewest sessions.
    pub(crate) fn open_room(&mut self, room: Room) {
        let groups = self.groups.iter().enumerate();
        let group = groups.min_by_key(|(_, group)| group.len()).map_or(0, |(number, _)| number);
        let key = room.key;
        let place = self.rooms.slab.insert(HostedRoom { room, group, members: Vec::new() });
        self.rooms.slots.insert(key, place);
    }

    pub(crate) fn handle_room_command(&mut self, key: RoomKey, command: RoomCommand) {
        if let Some(place) = self.rooms.slots.get(&key).copied() {
            if let Some(hosted) = self.rooms.slab.get_mut(place) {
                hosted.room.handle_command(command, &self.writer);
            }
            self.settle_room(place);
        }
    }

    /// Delivers the end of a recording to its room.
    pub(crate) fn handle_room_recorded(&mut self, key: RoomKey, event: Event) {
        if let Some(place) = self.rooms.slots.get(&key).copied() {
            if let Some(hosted) = self.rooms.slab.get_mut(place) {
                hosted.room.handle_recorded(event);
            }
            self.settle_room(place);
        }
    }

    /// Returns the keys of the rooms removed since the last call.
    pub(crate) fn take_ended_rooms(&mut self) -> Vec<RoomKey> {
        std::mem::take(&mut self.rooms.ended)
    }

    pub(super) fn end_rooms(&mut self) {
        let keys: Vec<RoomKey> = self.rooms.slots.keys().copied().collect();
        keys.into_iter().for_each(|key| self.handle_room_command(key, RoomCommand::End));
    }

    /// Adds a session to a room, or changes the session's participation in the room.
    pub(super) fn join_room(&mut self, key: LegId, room: RoomKey, participation: Participation) -> Outcome {
        let Some(place) = self.rooms.slots.get(&room).copied() else {
            return Outcome::RoomElsewhere(room, Command::Join { room, participation });
        };
        let Some(session) = self.slots.get(&key).copied() else { return Outcome::Unknown };
        let before = self.sessions.get(session).and_then(|session| session.routing.room());
        if before.is_none_or(|before| before.room != place) {
            self.unbridge(key);
            self.leave_room(key);
        }
        let Some(hosted) = self.rooms.slab.get_mut(place) else { return Outcome::Unknown };
        match hosted.room.join(key, participation) {
            Err(why) => self.refuse(key, room, why),
            Ok(slot) if before == Some(RoomSeat { room: place, slot }) => {}
            Ok(slot) => {
                hosted.members.push((session, slot));
                let group = hosted.group;
                self.move_to_group(session, group);
                if let Some(session) = self.sessions.get_mut(session) {
                    session.set_room(Joined::Room(RoomSeat { room: place, slot }));
                }
            }
        }
        Outcome::Done
    }

    /// Reports to a session that it could not join a room.
    pub(crate) fn refuse(&mut self, key: LegId, room: RoomKey, why: NotJoined) {
        if let Some(session) = self.slots.get(&key).and_then(|slot| self.sessions.get_mut(*slot)) {
            session.emit(Event::NotJoined { room, why });
        }
    }

    /// Removes a session from its room. Does nothing if the session is in no room.
    pub(super) fn leave_room(&mut self, key: LegId) {
        let Some(slot) = self.slots.get(&key).copied() else { return };
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(place) = session.routing.room() else { return };
        session.set_room(Joined::Nothing);
        if let Some(hosted) = self.rooms.slab.get_mut(place.room) {
            hosted.members.retain(|(member, _)| *member != slot);
            hosted.room.leave(key, &self.writer);
        }
        self.settle_room(place.room);
    }

    /// Releases the sessions of a room that has ended. Removes the room when its sink has accepted the last event.
    fn settle_room(&mut self, place: usize) {
        let Some(hosted) = self.rooms.slab.get_mut(place).filter(|hosted| hosted.room.has_ended()) else { return };
        for (slot, _) in hosted.members.drain(..) {
            if let Some(session) = self.sessions.get_mut(slot) {
                session.set_room(Joined::Nothing);
            }
        }
        if hosted.room.is_over() {
            let hosted = self.rooms.slab.remove(place);
            self.rooms.slots.remove(&hosted.room.key);
            self.rooms.ended.push(hosted.room.key);
        }
    }

    /// Runs the second pass of a tick, after the inbound frames are read and before frames are sent.
    pub(super) fn mix_rooms(&mut self, now: Instant) {
        let mut ended = false;
        for (_, hosted) in &mut self.rooms.slab {
            if hosted.group != self.group {
                continue;
            }
            for (session, slot) in &hosted.members {
                let session = self.sessions.get_mut(*session).filter(|session| session.schedule.is_due(now));
                if let Some((samples, rate)) = session.and_then(|session| session.take_inbound_frame()) {
                    hosted.room.add_frame(*slot, rate, samples);
                }
            }
            hosted.room.handle_tick(&self.writer);
            ended |= hosted.room.has_ended();
        }
        if ended {
            let places: Vec<usize> = self.rooms.slots.values().copied().collect();
            places.into_iter().for_each(|place| self.settle_room(place));
        }
    }
}
