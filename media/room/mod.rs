//! Rooms: conferences of many sessions, mixed. Who may come, and what comes of it, is the application's to say; a room
//! is their sound. Pure; [`crate::engine`] drives it.

mod outlet;
mod participation;
mod recording;
mod taps;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::audio::Audio;
use crate::codec::{Codec, SampleRate};
use crate::command::{OpId, RecordingCommand, SessionKey};
use crate::event::{BACKLOG, Event, FinishReason, Full};
use crate::event_queue::EventQueue;
use crate::mixer::{MOST, Mixer, Told};
use crate::tap::TapSink;
use crate::writer::{Done, WriterHandle};
use outlet::Outlets;
use recording::Recordings;
use taps::Taps;

pub(crate) use outlet::Said;
pub use participation::{Beep, Hold, Participation, Role};

/// A room's name, chosen by the application and unique among its open rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey(pub u128);

/// What a room is.
#[derive(Debug, Clone)]
pub struct RoomSpec {
    /// Of its mix. What a participant's codec cannot carry is filtered out for that one alone.
    pub rate: SampleRate,
    /// Heard, over and over, until the room starts, and by those held with music. `None`: nothing is.
    pub music: Option<Arc<Audio>>,
    /// It starts when so many are there, one of whom does not wait.
    pub starts_with: u16,
    /// How many it takes; 250 at most.
    pub most: u16,
}

impl Default for RoomSpec {
    fn default() -> RoomSpec {
        RoomSpec { rate: SampleRate::Hz8000, music: None, starts_with: 1, most: MOST as u16 }
    }
}

/// Where a room's events go; as [`crate::EventSink`], and as there a sink that stays full ends the room.
pub type RoomSink = Arc<dyn Fn(RoomKey, RoomEvent) -> Result<(), Full> + Send + Sync>;

/// An order to a room.
#[derive(Debug)]
pub enum RoomCommand {
    /// Starts it although somebody is still waited for.
    Start,
    /// Replaces its music.
    Music(Option<Arc<Audio>>),
    /// Plays audio over what is heard; up to 256 at a time.
    Play {
        /// Echoed by `Finished`.
        op: OpId,
        /// 8 kHz mono.
        audio: Arc<Audio>,
        /// How often; `None`: for ever.
        loops: Option<NonZeroU32>,
        /// To these alone, also when held; `None`: to all who hear the room, and to its recording.
        to: Option<Vec<SessionKey>>,
    },
    /// Ends that `Play`.
    Stop {
        /// Of the command to end.
        op: OpId,
    },
    /// About a recording of the whole mix; `Recorded` tells its end.
    Recording(RecordingCommand),
    /// Copies the whole mix to a reader ([`crate::tap()`]), as the inbound track; a room takes sixteen taps at a time, and another one
    /// ends at once. When its reader is dropped, the tap ends.
    Tap(TapSink),
    /// Ends it: all leave.
    End,
}

/// A fact about a room. They come in order.
#[derive(Debug, Clone, PartialEq)]
pub enum RoomEvent {
    /// It has started: those in it hear each other.
    Started,
    /// A session takes part.
    Joined {
        /// Which.
        session: SessionKey,
    },
    /// A session takes part no more. It goes on, without what it heard here.
    Left {
        /// Which.
        session: SessionKey,
    },
    /// Somebody began to speak, or has not spoken for 600 ms.
    Speaks {
        /// Which.
        session: SessionKey,
        /// Began.
        speaks: bool,
    },
    /// The active speaker: who is clearly the loudest. Changes at most every 300 ms; nobody after 2 s without speech.
    Leads(Option<SessionKey>),
    /// A `Play` is over.
    Finished {
        /// Of the command.
        op: OpId,
        /// Why.
        reason: FinishReason,
    },
    /// An [`Event::RecordingFinished`] of the room.
    Recorded(Event),
    /// The last event; recordings are finished.
    Ended {
        /// Why.
        reason: RoomEnd,
    },
}

/// Why a room ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomEnd {
    /// By command, or because its handle was dropped.
    Ended,
    /// This one left, whose leaving ends it.
    Left(SessionKey),
    /// Its sink stayed full.
    Unheard,
}

/// Why a session did not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotJoined {
    /// There is no such room, or it has ended.
    #[error("the room does not exist")]
    NoRoom,
    /// As many are there as it takes.
    #[error("the room is full")]
    Full,
}

/// See the module.
pub(crate) struct Room {
    pub(crate) key: RoomKey,
    mixer: Mixer,
    outlets: Outlets,
    slots: HashMap<SessionKey, usize>,
    starts_with: usize,
    most: usize,
    started: bool,
    end: Option<RoomEnd>,
    /// Its sink knows.
    told_end: bool,
    recordings: Recordings,
    taps: Taps,
    events: EventQueue<RoomKey, RoomEvent>,
}

impl Room {
    /// `done` is told of each complete recording, and tells [`Room::handle_recorded`].
    pub(crate) fn new(key: RoomKey, spec: RoomSpec, events: RoomSink, done: Done) -> Room {
        let mut mixer = Mixer::new(spec.rate);
        mixer.set_music(spec.music);
        Room {
            key,
            mixer,
            outlets: Outlets::default(),
            slots: HashMap::new(),
            starts_with: spec.starts_with.into(),
            most: usize::from(spec.most).min(MOST),
            started: false,
            end: None,
            told_end: false,
            recordings: Recordings::new(spec.rate, done),
            taps: Taps::new(spec.rate),
            events: EventQueue::new(key, events),
        }
    }

    /// Takes a session in, or has one that is there take part otherwise. Its slot names it to [`Room::hear`].
    pub(crate) fn join(&mut self, session: SessionKey, participation: Participation) -> Result<usize, NotJoined> {
        if self.end.is_some() {
            return Err(NotJoined::NoRoom);
        }
        if let Some(slot) = self.slots.get(&session).copied() {
            self.mixer.change(slot, participation);
            self.start_if_due();
            return Ok(slot);
        }
        if self.slots.len() >= self.most {
            return Err(NotJoined::Full);
        }
        let beeps = participation.beep.enters();
        let slot = self.mixer.join(session, participation).ok_or(NotJoined::Full)?;
        self.slots.insert(session, slot);
        self.outlets.join(slot);
        self.emit(RoomEvent::Joined { session });
        self.start_if_due();
        if beeps && self.started {
            self.mixer.chime(true);
        }
        Ok(slot)
    }

    /// A session goes.
    pub(crate) fn leave(&mut self, session: SessionKey, writer: &WriterHandle) {
        let Some(slot) = self.slots.remove(&session) else { return };
        let (beeps, ends) =
            self.mixer.participation(slot).map_or((false, false), |one| (one.beep.exits(), one.ends_room));
        self.mixer.leave(slot);
        self.outlets.leave(slot);
        self.emit(RoomEvent::Left { session });
        if ends {
            self.finish(RoomEnd::Left(session), writer);
        } else if beeps && self.started {
            self.mixer.chime(false);
        }
    }

    pub(crate) fn handle_command(&mut self, command: RoomCommand, writer: &WriterHandle) {
        if self.end.is_some() {
            return;
        }
        match command {
            RoomCommand::Start => self.start(),
            RoomCommand::Music(music) => self.mixer.set_music(music),
            RoomCommand::Play { op, audio, loops, to } => {
                let slots = to.map(|to| to.iter().filter_map(|key| self.slots.get(key).copied()).collect());
                if !self.mixer.play(op, audio, loops, slots) {
                    self.emit(RoomEvent::Finished { op, reason: FinishReason::Stopped });
                }
            }
            RoomCommand::Stop { op } => self.mixer.stop(op),
            RoomCommand::Recording(order) => {
                if let Some(refused) = self.recordings.obey(self.key, order, writer) {
                    self.emit(RoomEvent::Recorded(refused));
                }
            }
            RoomCommand::Tap(sink) => self.taps.start(sink),
            RoomCommand::End => self.finish(RoomEnd::Ended, writer),
        }
    }

    fn start_if_due(&mut self) {
        let comes = |slot: &usize| self.mixer.participation(*slot).is_some_and(|one| !one.waits);
        if self.slots.len() >= self.starts_with && self.slots.values().any(comes) {
            self.start();
        }
    }

    fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.mixer.start();
            self.emit(RoomEvent::Started);
        }
    }

    /// All leave; nobody comes any more.
    fn finish(&mut self, reason: RoomEnd, writer: &WriterHandle) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(reason);
        let mut slots: Vec<(SessionKey, usize)> = self.slots.drain().collect();
        slots.sort_unstable_by_key(|(_, slot)| *slot);
        for (session, slot) in slots {
            self.mixer.leave(slot);
            self.emit(RoomEvent::Left { session });
        }
        self.mixer.stop_all();
        self.tell();
        self.recordings.stop_all(writer);
        self.taps.end_all();
        self.tell_end();
    }

    /// The writer has completed a file.
    pub(crate) fn handle_recorded(&mut self, event: Event) {
        self.recordings.handle_recorded();
        self.emit(RoomEvent::Recorded(event));
        self.tell_end();
    }

    fn tell_end(&mut self) {
        if let Some(reason) = self.end
            && !self.told_end
            && self.recordings.are_finished()
        {
            self.told_end = true;
            self.emit(RoomEvent::Ended { reason });
        }
    }

    /// What the mixer has to tell.
    fn tell(&mut self) {
        while let Some(told) = self.mixer.poll() {
            self.emit(match told {
                Told::Finished { op, reason } => RoomEvent::Finished { op, reason },
                Told::Leads(who) => RoomEvent::Leads(who),
                Told::Speaks { who, speaks } => RoomEvent::Speaks { session: who, speaks },
            });
        }
    }

    /// Whether all have left for good.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether its sink knows that too, or never will.
    pub(crate) fn is_over(&self) -> bool {
        self.told_end && (self.events.backlog() == 0 || self.end == Some(RoomEnd::Unheard))
    }

    // ---- a frame ----

    /// Takes what a participant says in this frame.
    pub(crate) fn hear(&mut self, slot: usize, rate: SampleRate, frame: &[i16]) {
        self.mixer.hear(slot, rate, frame);
    }

    /// Mixes, between all hearing and all speaking.
    pub(crate) fn handle_tick(&mut self, writer: &WriterHandle) {
        self.events.retry();
        if self.end.is_some() {
            return;
        }
        self.mixer.mix();
        self.outlets.handle_mix(&self.mixer);
        self.recordings.handle_frame(self.mixer.whole(), writer);
        self.taps.handle_frame(self.mixer.whole());
        self.tell();
        if self.events.backlog() > BACKLOG + 2 * MOST {
            self.finish(RoomEnd::Unheard, writer);
        }
    }

    /// So many frames are left out.
    pub(crate) fn miss(&mut self, frames: u32) {
        self.recordings.miss(frames);
    }

    /// What a participant is sent of the last mix, in its codec. `None`: it is not there.
    pub(crate) fn say(&mut self, slot: usize, codec: Codec) -> Option<Said<'_>> {
        self.outlets.say(&mut self.mixer, slot, codec)
    }

    fn emit(&mut self, event: RoomEvent) {
        // Who speaks is no state that somebody must know: with a full sink it is the first to go.
        if matches!(event, RoomEvent::Speaks { .. } | RoomEvent::Leads(_)) {
            self.events.try_send(event);
        } else {
            self.events.send(event);
        }
    }
}

#[cfg(test)]
mod tests;
