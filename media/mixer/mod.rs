//! The mixer of a conference. Each participant hears all other participants (N-1) and the audio that the room plays. A
//! frame is 20 ms. This module is pure.
//!
//! ```text
//!   add_frame: gate -> gain ------------> sum ------+        for each: own frame subtracted, coaches and
//!   announcements, enter/exit tones ------------+-> whole ->           announcements to it alone added
//!   music ----------------------------------------> those who wait or are on hold
//! ```
//!
//! The sum does not contain silent participants. So all silent participants hear the same samples, which are the whole
//! mix. If 250 participants listen to one speaker, the room needs only one mix and one encoded frame. A sum that does
//! not exceed the knee ([`sum::KNEE`]) is exact.

mod sound;
mod sum;
mod voice;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use slab::Slab;

use crate::audio::Audio;
use crate::codec::SampleRate;
use crate::command::{LegId, OpId};
use crate::event::FinishReason;
use crate::resample::Resampler;
use crate::room::{Hold, Participation, Role};
use crate::vad::VoiceActivity;
use sound::{Listeners, Looped, Sound, SoundState};
use voice::{ActiveSpeakerSelector, Voice};

/// The highest number of participants in a room.
pub(crate) const MAX_PARTICIPANTS: usize = 250;
/// The highest number of speech tests in one frame. Only the frames of loud participants are tested. Each test needs 10
/// us of CPU time. If more participants are loud, the further participants count as speaking without a test.
const MAX_SPEECH_TESTS: usize = 16;
/// The highest number of announcements at a time. An announcement may be for many participants.
const MAX_SOUNDS: usize = 256;

/// The audio of this frame for one participant, at the room's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix<'a> {
    /// The participant hears nothing.
    Silence,
    /// The whole mix. Several participants hear the same samples.
    Shared(&'a [i16]),
    /// The room's music. Several participants hear the same samples.
    Music(&'a [i16]),
    /// A mix that only this participant hears.
    Own(&'a [i16]),
}

/// The kind of a [`Mix`], without the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The participant hears nothing.
    Silence,
    /// The whole mix.
    Shared,
    /// The room's music.
    Music,
    /// A mix that only this participant hears.
    Own,
}

/// An event of the mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MixerEvent {
    /// An announcement has ended.
    Finished { op: OpId, reason: FinishReason },
    /// The active speaker has changed. The active speaker changes at most once in 300 ms.
    ActiveSpeaker(Option<LegId>),
    /// A participant has begun to speak (true), or has not spoken for 600 ms (false).
    Speaks { session: LegId, speaks: bool },
}

/// The mixer of one conference. In each frame, call [`Mixer::add_frame`] for each participant that sent audio, then
/// [`Mixer::mix`], then [`Mixer::mix_for`] for each participant.
#[derive(Debug)]
pub struct Mixer {
    rate: SampleRate,
    participants: Slab<Participant>,
    started: bool,
    /// The sum of the participants' audio since the last mix.
    sum: Vec<i32>,
    /// The sum of all fade-outs since the last mix. Audio that stopped abruptly gets a fade-out.
    tails: Vec<i32>,
    has_tails: bool,
    /// The samples of the last mix before the limiter. The next field, `shared`, contains the samples after the
    /// limiter.
    full_sum: Vec<i32>,
    shared: Vec<i16>,
    /// The number of participants whose audio is in the last mix.
    speakers: usize,
    /// The highest number of speech tests in a frame. The next field, `speech_tests_left`, is the number of tests that
    /// may still run in this frame.
    max_speech_tests: usize,
    speech_tests_left: usize,
    /// Whether the last mix contains audio that does not come from participants.
    plays: bool,
    sounds: Vec<Sound>,
    music: Option<Looped>,
    music_frame: Vec<i16>,
    beeps: [Arc<Audio>; 2],
    selector: ActiveSpeakerSelector,
    events: VecDeque<MixerEvent>,
    /// Buffers for samples. They have no content between calls.
    scratch: Vec<i32>,
    own: Vec<i16>,
    earlier: Vec<i16>,
}

#[derive(Debug)]
struct Participant {
    key: LegId,
    /// The participation that applies now. The next field, `pending`, is the participation that applies after the
    /// participant's audio has faded out.
    current: Participation,
    pending: Option<Participation>,
    /// The sample rate of the participant's audio.
    rate: SampleRate,
    resampler: Resampler,
    voice: Voice,
    detector: VoiceActivity,
    speaks: bool,
    /// The gain factor at the end of the participant's last frame.
    gain: f32,
    /// The participant's audio in this frame. The audio is valid only if `sounds` is set.
    frame: Vec<i16>,
    heard: bool,
    sounds: bool,
    /// Whether the whole mix contains the participant's audio.
    mixed: bool,
    /// The slots of the participants that coach this participant.
    coaches: Vec<usize>,
    /// Whether an announcement plays to this participant only.
    announced: bool,
    heard_mix: HeardMix,
    previous_heard_mix: HeardMix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeardMix {
    Nothing,
    Music,
    Room,
}

/// The operation ids of the enter and exit tones.
const BEEPS: [OpId; 2] = [OpId(u64::MAX), OpId(u64::MAX - 1)];

impl Mixer {
    /// Creates an empty room that has not started. Until the start, participants hear music.
    pub fn new(rate: SampleRate) -> Mixer {
        let frame = rate.frame();
        Mixer {
            rate,
            participants: Slab::new(),
            started: false,
            sum: vec![0; frame],
            tails: vec![0; frame],
            has_tails: false,
            full_sum: vec![0; frame],
            shared: vec![0; frame],
            speakers: 0,
            max_speech_tests: MAX_SPEECH_TESTS,
            speech_tests_left: 0,
            plays: false,
            sounds: Vec::new(),
            music: None,
            music_frame: vec![0; frame],
            beeps: [sound::beep(true), sound::beep(false)],
            selector: ActiveSpeakerSelector::default(),
            events: VecDeque::new(),
            scratch: vec![0; frame],
            own: vec![0; frame],
            earlier: vec![0; frame],
        }
    }

    /// The sample rate of the mixes.
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Starts the room. From the next frame on, participants that are not on hold speak and hear.
    pub fn start(&mut self) {
        self.started = true;
    }

    /// Sets the music for participants that wait or are on hold with music. With `None` they hear silence.
    pub fn set_music(&mut self, music: Option<Arc<Audio>>) {
        self.music = music.map(|audio| Looped::new(audio, None, self.rate));
        self.music_frame.fill(0);
    }

    // ---- participants ----

    /// Adds a participant and returns its slot. Returns `None` if the room already has 250 participants.
    pub fn join(&mut self, key: LegId, participation: Participation) -> Option<usize> {
        if self.participants.len() >= MAX_PARTICIPANTS {
            return None;
        }
        let heard_mix = HeardMix::of(&participation, self.started);
        let slot = self.participants.insert(Participant {
            key,
            current: participation,
            pending: None,
            rate: self.rate,
            resampler: Resampler::new(self.rate, self.rate),
            voice: Voice::new(),
            detector: VoiceActivity::new(self.rate),
            speaks: false,
            gain: 0.0,
            frame: vec![0; self.rate.frame()],
            heard: false,
            sounds: false,
            mixed: false,
            coaches: Vec::new(),
            announced: false,
            heard_mix,
            previous_heard_mix: heard_mix,
        });
        self.find_coaches();
        Some(slot)
    }

    /// Changes the participation of the participant in `slot`. If the role changes, the participant's audio first fades
    /// out within 20 ms.
    pub fn change(&mut self, slot: usize, participation: Participation) {
        let Some(participant) = self.participants.get_mut(slot) else { return };
        let rerouted = participant.current.role != participation.role;
        if rerouted && participant.gain > 0.0 {
            participant.current.muted |= participation.muted;
            participant.pending = Some(participation);
        } else {
            participant.pending = None;
            participant.current = participation;
            if rerouted {
                self.find_coaches();
            }
        }
    }

    /// The participation that was set last. It is returned even if it applies only after a fade-out.
    pub fn participation(&self, slot: usize) -> Option<&Participation> {
        self.participants.get(slot).map(|one| one.pending.as_ref().unwrap_or(&one.current))
    }

    /// Removes a participant. The participant's audio fades out within 5 ms.
    pub fn leave(&mut self, slot: usize) {
        let Some(participant) = self.participants.try_remove(slot) else { return };
        if participant.is_heard_by_room() && participant.sounds {
            if participant.heard {
                sum::subtract(&mut self.sum, &participant.frame);
            }
            if participant.gain > 0.0 {
                sum::add_tail(&mut self.tails, &participant.frame, self.rate.frame() / 4);
                self.has_tails = true;
            }
        }
        self.selector.forget(slot);
        for sound in &mut self.sounds {
            if let Listeners::Slots(slots) = &mut sound.listeners {
                slots.retain(|listener| *listener != slot);
                if slots.is_empty() {
                    sound.stop();
                }
            }
        }
        self.find_coaches();
    }

    /// The participants that are speaking now.
    pub fn speaking(&self) -> impl Iterator<Item = LegId> {
        self.participants.iter().filter(|(_, one)| one.speaks).map(|(_, one)| one.key)
    }

    /// The active speaker.
    pub fn active_speaker(&self) -> Option<LegId> {
        self.participants.get(self.selector.active_speaker()?).map(|one| one.key)
    }

    fn find_coaches(&mut self) {
        let coaches: Vec<(usize, Vec<LegId>)> = self
            .participants
            .iter()
            .filter_map(|(slot, one)| match &one.current.role {
                Role::Coach(coached) => Some((slot, coached.iter().take(MAX_PARTICIPANTS).copied().collect())),
                Role::Speaker | Role::Monitor => None,
            })
            .collect();
        for (_, participant) in &mut self.participants {
            participant.coaches.clear();
            let own = coaches.iter().filter(|(_, coached)| coached.contains(&participant.key));
            participant.coaches.extend(own.map(|(coach, _)| *coach));
        }
    }

    // ---- announcements and tones ----

    /// Plays audio in addition to the audio that the participants hear. With `to`, the participants in these slots hear
    /// the audio. With `None`, all participants that hear the room also hear the audio. Returns false if 256 sounds are
    /// playing already.
    pub fn play(&mut self, op: OpId, audio: Arc<Audio>, loops: Option<NonZeroU32>, to: Option<Vec<usize>>) -> bool {
        if self.sounds.len() >= MAX_SOUNDS {
            return false;
        }
        let there = |slot: &usize| self.participants.contains(*slot);
        let listeners = match to {
            None => Listeners::Room,
            Some(slots) => Listeners::Slots(slots.into_iter().filter(there).collect()),
        };
        let mut sound = Sound::new(op, audio, loops, listeners, self.rate);
        if sound.listeners == Listeners::Slots(Vec::new()) {
            sound.stop();
        }
        self.sounds.push(sound);
        true
    }

    /// Ends the audio of this operation. The audio fades out within one frame.
    pub fn stop(&mut self, op: OpId) {
        self.sounds.iter_mut().filter(|sound| sound.op == op).for_each(Sound::stop);
    }

    /// Ends all audio at once.
    pub(crate) fn stop_all(&mut self) {
        for sound in self.sounds.drain(..).filter(|sound| !BEEPS.contains(&sound.op)) {
            self.events.push_back(MixerEvent::Finished { op: sound.op, reason: FinishReason::Stopped });
        }
    }

    /// Plays the enter tone or the exit tone, unless the same tone is playing already.
    pub fn beep(&mut self, enters: bool) {
        let [enter, exit] = &self.beeps;
        let (op, audio) = if enters { (BEEPS[0], enter) } else { (BEEPS[1], exit) };
        if self.sounds.iter().all(|sound| sound.op != op) {
            self.play(op, Arc::clone(audio), NonZeroU32::new(1), None);
        }
    }

    // ---- frames ----

    /// Takes a participant's audio for this frame, at any sample rate. A second call in one frame is ignored.
    pub fn add_frame(&mut self, slot: usize, rate: SampleRate, frame: &[i16]) {
        let Some(participant) = self.participants.get_mut(slot).filter(|one| !one.heard) else { return };
        participant.heard = true;
        let adopted = participant.apply_pending();
        participant.set_rate(rate, self.rate);
        if self.started && participant.may_speak() {
            let (detector, speech_tests_left) = (&mut participant.detector, &mut self.speech_tests_left);
            participant.voice.handle(sum::level(frame), || {
                let listened = *speech_tests_left > 0;
                *speech_tests_left = speech_tests_left.saturating_sub(1);
                !listened || detector.handle_frame(frame).speech
            });
        } else {
            participant.voice.silence();
        }
        participant.prepare(frame);
        if participant.sounds && participant.is_heard_by_room() {
            sum::add(&mut self.sum, &participant.frame);
        }
        if adopted {
            self.find_coaches();
        }
    }

    /// Mixes all audio that the participants sent since the last call.
    pub fn mix(&mut self) {
        self.gather();
        std::mem::swap(&mut self.sum, &mut self.full_sum);
        self.sum.fill(0);
        self.plays = std::mem::take(&mut self.has_tails);
        if self.plays {
            self.full_sum.iter_mut().zip(&mut self.tails).for_each(|(sum, tail)| *sum += std::mem::take(tail));
        }
        self.play_sounds();
        if self.plays || self.speakers > 0 {
            sum::limit(&self.full_sum, &mut self.shared);
        } else {
            self.shared.fill(0);
        }
        self.follow();
    }

    /// Determines which participants are in the mix, and which audio each participant hears.
    fn gather(&mut self) {
        let (mut adopted, mut music) = (false, false);
        self.speakers = 0;
        self.speech_tests_left = self.max_speech_tests;
        for (_, participant) in &mut self.participants {
            if !std::mem::take(&mut participant.heard) {
                if participant.sounds && participant.gain > 0.0 && participant.is_heard_by_room() {
                    sum::add_tail(&mut self.tails, &participant.frame, self.rate.frame() / 4);
                    self.has_tails = true;
                }
                participant.sounds = false;
                participant.gain = 0.0;
                participant.voice.handle_nothing();
                adopted |= participant.apply_pending();
            }
            participant.mixed = participant.sounds && participant.is_heard_by_room();
            self.speakers += usize::from(participant.mixed);
            participant.previous_heard_mix = participant.heard_mix;
            participant.heard_mix = HeardMix::of(&participant.current, self.started);
            music |= participant.heard_mix == HeardMix::Music || participant.previous_heard_mix == HeardMix::Music;
        }
        if adopted {
            self.find_coaches();
        }
        if let Some(looped) = self.music.as_mut().filter(|_| music) {
            looped.next_frame(&mut self.music_frame);
        }
    }

    fn play_sounds(&mut self) {
        let (participants, events, full_sum, plays) =
            (&mut self.participants, &mut self.events, &mut self.full_sum, &mut self.plays);
        if self.sounds.is_empty() {
            return;
        }
        for (_, participant) in participants.iter_mut() {
            participant.announced = false;
        }
        self.sounds.retain_mut(|sound| {
            let reason = match sound.step() {
                SoundState::Playing => {
                    match &sound.listeners {
                        Listeners::Room => {
                            sum::add(full_sum, &sound.frame);
                            *plays = true;
                        }
                        Listeners::Slots(slots) => slots.iter().for_each(|slot| {
                            if let Some(participant) = participants.get_mut(*slot) {
                                participant.announced = true;
                            }
                        }),
                    }
                    return true;
                }
                SoundState::Completed => FinishReason::Completed,
                SoundState::Stopped => FinishReason::Stopped,
            };
            if !BEEPS.contains(&sound.op) {
                events.push_back(MixerEvent::Finished { op: sound.op, reason });
            }
            false
        });
    }

    /// Determines which participants are speaking, and which participant is the active speaker.
    fn follow(&mut self) {
        let events = &mut self.events;
        for (_, participant) in &mut self.participants {
            let speaks = participant.voice.speaks() && participant.is_heard_by_room();
            if speaks != participant.speaks {
                participant.speaks = speaks;
                events.push_back(MixerEvent::Speaks { session: participant.key, speaks });
            }
        }
        let speaking = self.participants.iter().filter(|(_, one)| one.speaks);
        let speaking = speaking.map(|(slot, one)| (slot, one.voice.level() * factor(one.current.gain_db)));
        if self.selector.handle(speaking) {
            let active_speaker = self.active_speaker();
            self.events.push_back(MixerEvent::ActiveSpeaker(active_speaker));
        }
    }

    /// The kind of mix that a participant hears, as in [`Mixer::mix_for`] but without the samples.
    pub fn kind_for(&self, slot: usize) -> Kind {
        let Some(participant) = self.participants.get(slot) else { return Kind::Silence };
        let coach = |coach: &usize| self.participants.get(*coach).is_some_and(|one| one.sounds);
        let coached = participant.heard_mix == HeardMix::Room && participant.coaches.iter().any(coach);
        if participant.heard_mix != participant.previous_heard_mix || participant.announced || coached {
            return Kind::Own;
        }
        match participant.heard_mix {
            HeardMix::Nothing => Kind::Silence,
            HeardMix::Music if self.music.is_none() => Kind::Silence,
            HeardMix::Music => Kind::Music,
            HeardMix::Room if !self.plays && self.speakers == usize::from(participant.mixed) => Kind::Silence,
            HeardMix::Room if participant.mixed => Kind::Own,
            HeardMix::Room => Kind::Shared,
        }
    }

    /// Returns the part of the last mix that a participant hears, at the room's rate.
    pub fn mix_for(&mut self, slot: usize) -> Mix<'_> {
        match self.kind_for(slot) {
            Kind::Silence => return Mix::Silence,
            Kind::Shared => return Mix::Shared(&self.shared),
            Kind::Music => return Mix::Music(&self.music_frame),
            Kind::Own => {}
        }
        let Some(participant) = self.participants.get(slot) else { return Mix::Silence };
        let (scratch, own) = (&mut self.scratch, &mut self.own);
        let part = Part { participants: &self.participants, sounds: &self.sounds, slot, participant };
        if participant.heard_mix != participant.previous_heard_mix {
            part.render(participant.previous_heard_mix, &self.full_sum, &self.music_frame, scratch, &mut self.earlier);
            part.render(participant.heard_mix, &self.full_sum, &self.music_frame, scratch, own);
            sum::crossfade(&self.earlier, own);
        } else if participant.announced || !participant.coaches.is_empty() {
            part.render(participant.heard_mix, &self.full_sum, &self.music_frame, scratch, own);
        } else {
            sum::limit_without(&self.full_sum, &participant.frame, own);
        }
        Mix::Own(own)
    }

    /// Whether the last whole mix is silent.
    pub fn is_silent(&self) -> bool {
        !self.plays && self.speakers == 0
    }

    /// The mean magnitude of the samples of the last whole mix.
    pub fn level(&self) -> f32 {
        if self.is_silent() { 0.0 } else { sum::level(&self.shared) }
    }

    /// The last frame of music.
    pub(crate) fn music(&self) -> &[i16] {
        &self.music_frame
    }

    /// The last whole mix: all speakers, and all announcements to the room. A recording of the room contains this mix.
    pub fn shared_mix(&self) -> &[i16] {
        &self.shared
    }

    /// Returns the next event. Call this in each frame until it returns `None`.
    pub(crate) fn poll(&mut self) -> Option<MixerEvent> {
        self.events.pop_front()
    }
}

impl Participant {
    /// Applies the waiting participation if the participant's audio has faded out. Returns whether the participation
    /// changed.
    fn apply_pending(&mut self) -> bool {
        let pending = if self.gain == 0.0 { self.pending.take() } else { None };
        pending.map(|pending| self.current = pending).is_some()
    }

    /// Sets the sample rate of the participant's audio.
    fn set_rate(&mut self, rate: SampleRate, room: SampleRate) {
        if self.rate != rate {
            self.rate = rate;
            self.resampler = Resampler::new(rate, room);
            self.detector = VoiceActivity::new(rate);
        }
    }

    /// Applies the gate, the resampler and the gain to the participant's audio. The result is ready for the mix.
    fn prepare(&mut self, frame: &[i16]) {
        let heard = self.voice.is_open() && self.pending.is_none();
        let gain = if heard { factor(self.current.gain_db) } else { 0.0 };
        let before = std::mem::replace(&mut self.gain, gain);
        self.sounds = before > 0.0 || gain > 0.0;
        if !self.sounds {
            return;
        }
        if before == 0.0 {
            self.resampler.reset();
        }
        if frame.len() < self.rate.frame() {
            self.frame.fill(0);
        }
        self.resampler.process(frame, &mut self.frame);
        if before != 1.0 || gain != 1.0 {
            let length = self.frame.len();
            // When the gate opens, the gain rises quickly. Otherwise the start of a word would be too quiet.
            sum::scale(&mut self.frame, before, gain, if before == 0.0 { length / 8 } else { length });
        }
    }

    /// Whether any other participant may hear this participant.
    fn may_speak(&self) -> bool {
        let Participation { role, muted, hold, .. } = &self.current;
        !muted && *hold == Hold::No && *role != Role::Monitor
    }

    fn is_heard_by_room(&self) -> bool {
        self.current.role == Role::Speaker
    }
}

impl HeardMix {
    fn of(participation: &Participation, started: bool) -> HeardMix {
        match participation.hold {
            Hold::Silence => HeardMix::Nothing,
            Hold::Music => HeardMix::Music,
            Hold::No if started => HeardMix::Room,
            Hold::No if participation.waits_in_silence => HeardMix::Nothing,
            Hold::No => HeardMix::Music,
        }
    }
}

/// Creates the mix that only one participant hears.
struct Part<'a> {
    participants: &'a Slab<Participant>,
    sounds: &'a [Sound],
    slot: usize,
    participant: &'a Participant,
}

impl Part<'_> {
    fn render(&self, heard_mix: HeardMix, whole: &[i32], music: &[i16], scratch: &mut [i32], to: &mut [i16]) {
        match heard_mix {
            HeardMix::Nothing => scratch.fill(0),
            HeardMix::Music => scratch.iter_mut().zip(music).for_each(|(sum, sample)| *sum = i32::from(*sample)),
            HeardMix::Room => {
                scratch.copy_from_slice(whole);
                if self.participant.mixed {
                    sum::subtract(scratch, &self.participant.frame);
                }
                let coaches = self.participant.coaches.iter().filter_map(|coach| self.participants.get(*coach));
                coaches.filter(|coach| coach.sounds).for_each(|coach| sum::add(scratch, &coach.frame));
            }
        }
        if self.participant.announced {
            let own = self.sounds.iter().filter(|sound| match &sound.listeners {
                Listeners::Room => false,
                Listeners::Slots(slots) => slots.contains(&self.slot),
            });
            own.for_each(|sound| sum::add(scratch, &sound.frame));
        }
        sum::limit(scratch, to);
    }
}

/// Converts a gain in dB to a factor. The gain is first limited to the range -20 to 20 dB.
fn factor(gain_db: i8) -> f32 {
    match gain_db {
        0 => 1.0,
        gain => 10f32.powf(f32::from(gain.clamp(-20, 20)) / 20.0),
    }
}

#[cfg(test)]
mod tests;
