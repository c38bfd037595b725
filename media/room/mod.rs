//! Rooms. A room is a conference that mixes the audio of many sessions. A room handles only the audio. The application
//! decides which sessions may join, and reacts to joins and leaves. This module is pure, and [`crate::engine`] drives
//! it.

mod outlet;
mod participation;
mod recording;
mod taps;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::audio::Audio;
use crate::codec::{Codec, SampleRate};
use crate::command::{LegId, OpId, RecordingCommand};
use crate::event::{BACKLOG, Event, FinishReason, Full};
use crate::event_queue::EventQueue;
use crate::mixer::{MAX_PARTICIPANTS, Mixer, MixerEvent};
use crate::tap::TapSink;
use crate::writer::{Done, WriterHandle};
use outlet::Outlets;
use recording::Recordings;
use taps::Taps;

pub(crate) use outlet::MixedFrame;
pub use participation::{Beep, Hold, Participation, Role};

/// The key of a room. The application chooses it. No two open rooms may have the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey(pub u128);

/// The settings of a room.
#[derive(Debug, Clone)]
pub struct RoomSpec {
    /// The sample rate of the mix. If a participant's codec has a lower rate, the room reduces the rate for this
    /// participant only.
    pub rate: SampleRate,
    /// The music for all participants until the room starts, and later for participants on hold with music. The music
    /// repeats. With `None` these participants hear silence.
    pub music: Option<Arc<Audio>>,
    /// The number of participants with which the room starts. The room starts only if `Participation::waits` is false
    /// for at least one of these participants.
    pub starts_with: u16,
    /// The highest number of participants, at most 250.
    pub max_participants: u16,
}

impl Default for RoomSpec {
    fn default() -> RoomSpec {
        RoomSpec { rate: SampleRate::Hz8000, music: None, starts_with: 1, max_participants: MAX_PARTICIPANTS as u16 }
    }
}

/// The receiver of a room's events. The same rules apply as for [`crate::EventSink`]. If the sink stays full, the room
/// ends.
pub type RoomSink = Arc<dyn Fn(RoomKey, RoomEvent) -> Result<(), Full> + Send + Sync>;

/// A command for a room.
#[derive(Debug)]
pub enum RoomCommand {
    /// Starts the room, even if the room still waits for more participants.
    Start,
    /// Replaces the room's music.
    Music(Option<Arc<Audio>>),
    /// Plays audio in addition to the audio that the participants hear. Up to 256 such sounds can play at a time.
    Play {
        /// The id that `Finished` carries.
        op: OpId,
        /// The audio, which is mono at 8,000 Hz.
        audio: Arc<Audio>,
        /// The number of times that the audio plays. With `None` the audio repeats without end.
        loops: Option<NonZeroU32>,
        /// The participants that hear the audio. They hear the audio even when they are on hold. With `None`, all
        /// participants that hear the room hear the audio, and recordings of the room contain the audio.
        to: Option<Vec<LegId>>,
    },
    /// Ends the `Play` with this id.
    Stop {
        /// The id of the `Play` command to end.
        op: OpId,
    },
    /// A command for a recording of the whole mix. The event `Recorded` reports the end of the recording.
    Recording(RecordingCommand),
    /// Copies the whole mix to a reader ([`crate::tap()`]). The tap reports the mix as the inbound track. A room has at
    /// most sixteen taps at a time. A further tap ends at once. Dropping the reader ends the tap.
    Tap(TapSink),
    /// Ends the room. All participants leave.
    End,
}

/// An event of a room. The events of one room arrive in order.
#[derive(Debug, Clone, PartialEq)]
pub enum RoomEvent {
    /// The room has started. Its participants hear each other.
    Started,
    /// A session has joined.
    Joined {
        /// The session that joined.
        session: LegId,
    },
    /// A session has left the room. The session itself stays open.
    Left {
        /// The session that left.
        session: LegId,
    },
    /// A participant has begun to speak, or has not spoken for 600 ms.
    Speaks {
        /// The session of the participant.
        session: LegId,
        /// Whether the participant is speaking now.
        speaks: bool,
    },
    /// The active speaker has changed. The active speaker is the participant that is clearly the loudest. It changes at
    /// most every 300 ms. After 2 s without speech the value is `None`.
    ActiveSpeaker(Option<LegId>),
    /// A `Play` has ended.
    Finished {
        /// The id of the `Play` command.
        op: OpId,
        /// The reason why the audio ended.
        reason: FinishReason,
    },
    /// An [`Event::RecordingFinished`] of the room.
    Recorded(Event),
    /// The room's last event. The room has ended, and its recordings are complete.
    Ended {
        /// The reason why the room ended.
        reason: RoomEnd,
    },
}

/// The reason why a room ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomEnd {
    /// A command ended the room, or its handle was dropped.
    Ended,
    /// This participant left, and its [`Participation::ends_room`] was set.
    Left(LegId),
    /// The room's event sink stayed full.
    SinkFull,
}

/// The reason why a session could not join a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotJoined {
    /// The room does not exist, or has ended.
    #[error("the room does not exist")]
    NoRoom,
    /// The room already has the highest number of participants that its settings permit.
    #[error("the room is full")]
    Full,
}

/// A conference with its mixer, participants, recordings and taps.
pub(crate) struct Room {
    pub(crate) key: RoomKey,
    mixer: Mixer,
    outlets: Outlets,
    slots: HashMap<LegId, usize>,
    starts_with: usize,
    max_participants: usize,
    started: bool,
    end: Option<RoomEnd>,
    /// Whether the `Ended` event was sent.
    end_reported: bool,
    recordings: Recordings,
    taps: Taps,
    events: EventQueue<RoomKey, RoomEvent>,
}

impl Room {
    /// Creates a room. `done` receives the end of each recording and passes this event to [`Room::handle_recorded`].
    pub(crate) fn new(key: RoomKey, spec: RoomSpec, events: RoomSink, done: Done) -> Room {
        let mut mixer = Mixer::new(spec.rate);
        mixer.set_music(spec.music);
        Room {
            key,
            mixer,
            outlets: Outlets::default(),
            slots: HashMap::new(),
            starts_with: spec.starts_with.into(),
            max_participants: usize::from(spec.max_participants).min(MAX_PARTICIPANTS),
            started: false,
            end: None,
            end_reported: false,
            recordings: Recordings::new(spec.rate, done),
            taps: Taps::new(spec.rate),
            events: EventQueue::new(key, events),
        }
    }

    /// Adds a session, or changes the session's participation. Returns the session's slot for [`Room::hear`].
    pub(crate) fn join(&mut self, session: LegId, participation: Participation) -> Result<usize, NotJoined> {
        if self.end.is_some() {
            return Err(NotJoined::NoRoom);
        }
        if let Some(slot) = self.slots.get(&session).copied() {
            self.mixer.change(slot, participation);
            self.start_if_due();
            return Ok(slot);
        }
        if self.slots.len() >= self.max_participants {
            return Err(NotJoined::Full);
        }
        let beeps = participation.beep.enters();
        let slot = self.mixer.join(session, participation).ok_or(NotJoined::Full)?;
        self.slots.insert(session, slot);
        self.outlets.join(slot);
        self.emit(RoomEvent::Joined { session });
        self.start_if_due();
        if beeps && self.started {
            self.mixer.beep(true);
        }
        Ok(slot)
    }

    /// Removes a session.
    pub(crate) fn leave(&mut self, session: LegId, writer: &WriterHandle) {
        let Some(slot) = self.slots.remove(&session) else { return };
        let (beeps, ends) =
            self.mixer.participation(slot).map_or((false, false), |one| (one.beep.exits(), one.ends_room));
        self.mixer.leave(slot);
        self.outlets.leave(slot);
        self.emit(RoomEvent::Left { session });
        if ends {
            self.finish(RoomEnd::Left(session), writer);
        } else if beeps && self.started {
            self.mixer.beep(false);
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
            RoomCommand::Recording(command) => {
                if let Some(refused) = self.recordings.execute(self.key, command, writer) {
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

    /// Ends the room. All participants leave, and no session can join after that.
    fn finish(&mut self, reason: RoomEnd, writer: &WriterHandle) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(reason);
        let mut slots: Vec<(LegId, usize)> = self.slots.drain().collect();
        slots.sort_unstable_by_key(|(_, slot)| *slot);
        for (session, slot) in slots {
            self.mixer.leave(slot);
            self.emit(RoomEvent::Left { session });
        }
        self.mixer.stop_all();
        self.report_mixer_events();
        self.recordings.stop_all(writer);
        self.taps.end_all();
        self.report_end();
    }

    /// Handles the end of a recording. The recording's file is complete.
    pub(crate) fn handle_recorded(&mut self, event: Event) {
        self.recordings.handle_recorded();
        self.emit(RoomEvent::Recorded(event));
        self.report_end();
    }

    fn report_end(&mut self) {
        if let Some(reason) = self.end
            && !self.end_reported
            && self.recordings.are_finished()
        {
            self.end_reported = true;
            self.emit(RoomEvent::Ended { reason });
        }
    }

    /// Sends the events of the mixer.
    fn report_mixer_events(&mut self) {
        while let Some(event) = self.mixer.poll() {
            self.emit(match event {
                MixerEvent::Finished { op, reason } => RoomEvent::Finished { op, reason },
                MixerEvent::ActiveSpeaker(session) => RoomEvent::ActiveSpeaker(session),
                MixerEvent::Speaks { session, speaks } => RoomEvent::Speaks { session, speaks },
            });
        }
    }

    /// Whether the room has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the room has ended and has no event left to send. Either the sink has accepted all events, or the sink
    /// will never accept them.
    pub(crate) fn is_over(&self) -> bool {
        self.end_reported && (self.events.backlog() == 0 || self.end == Some(RoomEnd::SinkFull))
    }

    // ---- frames ----

    /// Handles a participant's audio for this frame.
    pub(crate) fn add_frame(&mut self, slot: usize, rate: SampleRate, frame: &[i16]) {
        self.mixer.add_frame(slot, rate, frame);
    }

    /// Mixes the room. Call this after all inbound frames are handled, and before any frame is sent.
    pub(crate) fn handle_tick(&mut self, writer: &WriterHandle) {
        self.events.retry();
        if self.end.is_some() {
            return;
        }
        self.mixer.mix();
        self.outlets.handle_mix(&self.mixer);
        self.recordings.handle_frame(self.mixer.shared_mix(), writer);
        self.taps.handle_frame(self.mixer.shared_mix());
        self.report_mixer_events();
        if self.events.backlog() > BACKLOG + 2 * MAX_PARTICIPANTS {
            self.finish(RoomEnd::SinkFull, writer);
        }
    }

    /// Skips `frames` frames.
    pub(crate) fn miss(&mut self, frames: u32) {
        self.recordings.miss(frames);
    }

    /// Returns the audio that a participant gets from the last mix, in the participant's codec. Returns `None` if the
    /// slot is empty.
    pub(crate) fn frame_for(&mut self, slot: usize, codec: Codec) -> Option<MixedFrame<'_>> {
        self.outlets.frame_for(&mut self.mixer, slot, codec)
    }

    fn emit(&mut self, event: RoomEvent) {
        // The application must not depend on speaker events. So these events are dropped first if the sink is full.
        if matches!(event, RoomEvent::Speaks { .. } | RoomEvent::ActiveSpeaker(_)) {
            self.events.try_send(event);
        } else {
            self.events.send(event);
        }
    }
}

#[cfg(test)]
mod tests;
