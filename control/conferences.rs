//! The conferences of the server: a room of the engine for each name of an account, from the first who comes to the last who goes.
//!
//! ```text
//!   Confer ──► join ──► Seat (in the leg's hands) ──► media::Command::Join
//!                          \-- dropped: the last one takes the room with it
//!   the room ends, or puts somebody out ──► its sink ──► Own(leg, ConferenceOver) to the leg's call
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tandem_call::conference::{Beep, Participation};
use tandem_call::id::LegId;
use tandem_call::output::LegEvent;
use tandem_media as media;

use crate::inbox::{Inbox, Message};

/// Account and name.
type Name = (Arc<str>, Arc<str>);

/// All of them; at most as many as the engine has rooms. Cheap to clone.
#[derive(Clone, Default)]
pub struct Conferences(Arc<Mutex<HashMap<Name, Conference>>>);

struct Conference {
    room: media::RoomHandle,
    members: HashMap<LegId, Member>,
}

struct Member {
    /// Of its call.
    inbox: Inbox,
    /// The room has said that it is there.
    inside: bool,
}

/// A leg's place in a conference; dropped, it is free.
pub struct Seat {
    conferences: Conferences,
    name: Name,
    room: media::RoomKey,
    leg: LegId,
}

impl Conferences {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The id of an account's conference of that name.
    pub fn find(&self, account: &str, name: &str) -> Option<u128> {
        self.0.lock().get(&(account.into(), name.into())).map(|conference| conference.room.key().0)
    }

    /// The name of an account's conference.
    pub fn name(&self, account: &str, id: u128) -> Option<Arc<str>> {
        let conferences = self.0.lock();
        let mut own = conferences.iter().filter(|((of, _), _)| **of == *account);
        own.find(|(_, conference)| conference.room.key().0 == id).map(|((_, name), _)| Arc::clone(name))
    }

    /// Who takes part in it, in no order.
    pub fn members(&self, account: &str, id: u128) -> Vec<LegId> {
        let Some(name) = self.name(account, id) else { return Vec::new() };
        let conferences = self.0.lock();
        let conference = conferences.get(&(account.into(), name));
        conference.map(|conference| conference.members.keys().copied().collect()).unwrap_or_default()
    }

    /// A place in the conference of that name, which is opened if there is none. An error says why not.
    pub fn join(
        &self,
        engine: &media::Engine,
        account: &Arc<str>,
        participation: &Participation,
        leg: LegId,
        inbox: Inbox,
    ) -> Result<Seat, String> {
        let name = (Arc::clone(account), Arc::clone(&participation.conference));
        let mut conferences = self.0.lock();
        let conference = match conferences.get_mut(&name) {
            Some(conference) => conference,
            None => {
                let key = media::RoomKey(rand::random());
                let spec = media::RoomSpec { most: participation.most, starts_with: 2, ..media::RoomSpec::default() };
                let sink = sink(Arc::downgrade(&self.0), name.clone());
                let room = engine.open_room(key, key.0, spec, sink).map_err(|error| error.to_string())?;
                conferences.entry(name.clone()).or_insert(Conference { room, members: HashMap::new() })
            }
        };
        conference.members.insert(leg, Member { inbox, inside: false });
        let room = conference.room.key();
        drop(conferences);
        Ok(Seat { conferences: self.clone(), name, room, leg })
    }
}

impl Seat {
    /// Whether it is in that conference of its account.
    pub fn is_in(&self, conference: &str) -> bool {
        *self.name.1 == *conference
    }

    /// What the engine is told.
    pub fn command(&self, participation: &Participation) -> media::Command {
        let participation = media::Participation {
            muted: participation.muted,
            waits: participation.waits,
            ends_room: participation.ends,
            beep: match participation.beep {
                Beep::None => media::Beep::None,
                Beep::Enter => media::Beep::Enter,
                Beep::Exit => media::Beep::Exit,
                Beep::Both => media::Beep::Both,
            },
            ..media::Participation::default()
        };
        media::Command::Join { room: self.room, participation }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut conferences = self.conferences.0.lock();
        let Some(conference) = conferences.get_mut(&self.name).filter(|one| one.room.key() == self.room) else {
            return;
        };
        conference.members.remove(&self.leg);
        if conference.members.is_empty() {
            // The last one turns off the lights: dropping the handle ends the room.
            conferences.remove(&self.name);
        }
    }
}

/// What a room tells: who is there is taken note of, and who is put out is told.
fn sink(conferences: Weak<Mutex<HashMap<Name, Conference>>>, name: Name) -> media::RoomSink {
    Arc::new(move |room, event| {
        let Some(conferences) = conferences.upgrade() else { return Ok(()) };
        let mut conferences = conferences.lock();
        let Some(conference) = conferences.get_mut(&name).filter(|one| one.room.key() == room) else { return Ok(()) };
        match event {
            media::RoomEvent::Joined { session } => {
                if let Some(member) = conference.members.get_mut(&LegId(session.0)) {
                    member.inside = true;
                }
            }
            media::RoomEvent::Left { session } => {
                let leg = LegId(session.0);
                // One that left by itself has no seat any more, or one that it has yet to take.
                if let Some(member) = conference.members.get(&leg).filter(|member| member.inside) {
                    // Its call may be over.
                    let _ = member.inbox.post(Message::Own(leg, LegEvent::ConferenceOver));
                }
            }
            // Who comes now begins a new one.
            media::RoomEvent::Ended { .. } => {
                conferences.remove(&name);
            }
            _ => {}
        }
        Ok(())
    })
}
