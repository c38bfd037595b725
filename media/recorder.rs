//! Recording, the worker's half: one frame a tick onto buffers that the writer thread takes. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::codec::SampleRate;
use crate::codec::g711::Law;
use crate::command::{Channels, OpId, RecordSpec, Tracks};
use crate::copied::Copied;
use crate::event::RecordingReason;
use crate::rtp::FRAME;
use crate::timeline::RECORDER_LAG;
use crate::vad::VoiceActivity;
use crate::wav::WavCoding;

/// Octets of a buffer for each channel: half a second of G.711, or a quarter of linear samples. A killed process loses that
/// and what is on its way: 0.9 s at most, unless the disk is slow.
pub(crate) const BUFFER: usize = 25 * FRAME;
/// Buffers of one recording: 20 kB a channel. When all are full what comes is left out and written as silence. While the disk
/// keeps up two of them are used in turns, and the others never touched.
const BUFFERS: usize = 5;
/// Pauses and resumptions that may wait for the wire of their moment; more replace the last.
const CHANGES: usize = 8;
/// Missed frames that become silence: 1 min. What was missed longer is not made good.
const MISSED: u32 = 3_000;

/// What goes to the writer thread.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Whole frames, after so many frames of silence for what could not be queued. `coding` is the file's, or the law in
    /// which the channels came, when the file is linear: that is half as much to carry.
    Audio { silence_before: u64, coding: WavCoding, octets: Vec<u8> },
    /// The end.
    Finish { silence_before: u64, reason: RecordingReason },
}

/// The writer's half of a new recording.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) pieces: rtrb::Consumer<Piece>,
    pub(crate) empty: rtrb::Producer<Vec<u8>>,
}

/// Whether a recording is held, and what becomes of the time until it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pause {
    No,
    Silence,
    Skip,
}

/// Gives the frames of each side that no tick has read yet, one after the other.
pub(crate) type Drain<'a> = &'a mut dyn FnMut(&mut Copied, &mut Copied);

/// What a track is that is not recorded.
static NOTHING: Copied = Copied::Octets(Law::Mu, [Law::Mu.silence(); FRAME]);

/// A recording at work on its session.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) op: OpId,
    channels: Channels,
    track: Tracks,
    coding: WavCoding,
    pieces: rtrb::Producer<Piece>,
    empty: rtrb::Consumer<Vec<u8>>,
    /// Those that wait to be filled; the last is the one that was used last, and is in the caches.
    spare: Vec<Vec<u8>>,
    current: Option<(WavCoding, Vec<u8>)>,
    /// Frames that found no buffer.
    silence_before: u64,
    /// What must be over before it starts.
    after: Option<OpId>,
    /// Ticks until the wire of the moment it started reaches us.
    lag: u8,
    pause: Pause,
    /// What becomes of that, and in how many ticks.
    changes: VecDeque<(u8, Pause)>,
    frames_left: Option<u64>,
    silence_limit: Option<u64>,
    silent_frames: u64,
    /// Hears whether somebody speaks, where that matters.
    activity: Option<Box<VoiceActivity>>,
    /// When it was ordered, unless it began later.
    began: Option<u32>,
    /// Frames since then.
    frames: u32,
}

impl Recorder {
    /// `now`: the media clock, 8,000 a second, at the order, if its length is to be that of the time until it is stopped.
    pub(crate) fn new(op: OpId, spec: &RecordSpec, now: Option<u32>) -> (Recorder, Feed) {
        // One place more than buffers, so that the end always finds room.
        let (pieces, taken) = rtrb::RingBuffer::new(BUFFERS + 2);
        let (give, empty) = rtrb::RingBuffer::new(BUFFERS + 1);
        let capacity = BUFFER * usize::from(spec.form().channels);
        let frames = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).div_ceil(20);
        let recorder = Recorder {
            op,
            channels: spec.channels,
            track: spec.track,
            coding: spec.coding,
            pieces,
            empty,
            spare: (0..BUFFERS).map(|_| Vec::with_capacity(capacity)).collect(),
            current: None,
            silence_before: 0,
            after: spec.after,
            lag: RECORDER_LAG,
            pause: Pause::No,
            changes: VecDeque::with_capacity(CHANGES),
            frames_left: spec.max_length.map(frames),
            silence_limit: spec.silence_timeout.map(frames),
            silent_frames: 0,
            activity: spec.silence_timeout.map(|_| Box::new(VoiceActivity::new(SampleRate::Hz8000))),
            began: now.filter(|_| spec.after.is_none()),
            frames: 0,
        };
        (recorder, Feed { pieces: taken, empty: give })
    }

    /// Whether a frame would find a buffer.
    #[cfg(test)]
    pub(crate) fn has_room(&self) -> bool {
        self.current.is_some() || !self.empty.is_empty() || !self.spare.is_empty()
    }

    /// Holds it, or lets it go on, from what is on the wire now.
    pub(crate) fn pause(&mut self, pause: Pause) {
        if self.changes.len() == CHANGES {
            self.changes.pop_back();
        }
        // The frame in which the moment lies is left out both times: nothing that was said in a pause is ever kept.
        self.changes.push_back((RECORDER_LAG - u8::from(pause != Pause::No), pause));
    }

    /// What plays now, if anything: it starts when what it waits for does not.
    pub(crate) fn playing(&mut self, playing: Option<OpId>) {
        self.after = self.after.filter(|after| playing == Some(*after));
    }

    /// Frames that it can be given at once, before something might have to be known: whether what it waits for still plays,
    /// and when it is over.
    pub(crate) fn patience(&self) -> u64 {
        let silence = self.silence_limit.map(|limit| limit.saturating_sub(self.silent_frames));
        let rest = self.frames_left.into_iter().chain(silence).min().unwrap_or(u64::MAX);
        if self.after.is_some() { 1 } else { rest }
    }

    /// Takes one frame of each side. Returns why it is over, when it is.
    pub(crate) fn handle_frame(&mut self, inbound: &Copied, outbound: &Copied) -> Option<RecordingReason> {
        if self.after.is_some() {
            return None;
        }
        self.frames = self.frames.wrapping_add(1);
        self.proceed();
        if self.lag > 0 {
            self.lag -= 1;
            return None;
        }
        if self.frames_left != Some(0) && !self.take(inbound, outbound) {
            return None;
        }
        if self.frames_left == Some(0) {
            return Some(RecordingReason::MaxLength);
        }
        let limit = self.silence_limit.filter(|_| self.pause == Pause::No)?;
        let listened = if self.track == Tracks::Outbound { outbound } else { inbound };
        let activity = self.activity.as_mut()?.handle_frame(&listened.samples());
        // Who sends nothing is silent: phones save packets that way.
        self.silent_frames = if activity.active { 0 } else { self.silent_frames + 1 };
        (self.silent_frames >= limit).then_some(RecordingReason::Silence)
    }

    /// Frames that were never heard, since the worker stood still: they are silence, and counted as such.
    pub(crate) fn miss(&mut self, frames: u32) {
        if self.after.is_some() {
            return;
        }
        self.hand_over();
        self.frames = self.frames.wrapping_add(frames);
        for _ in 0..frames.min(MISSED) {
            self.proceed();
            if self.lag > 0 {
                self.lag -= 1;
            } else if self.pause != Pause::Skip && self.frames_left != Some(0) {
                self.silence_before += 1;
                self.frames_left = self.frames_left.map(|left| left - 1);
            }
        }
    }

    /// Ends it: what the wire brought until now but no tick has read yet is added when `drain` is given. With `now`, as for
    /// [`Recorder::new`], it is as many frames as come nearest to the time since it began: ticks alone, which lie anyhow
    /// between the orders, would leave out or add up to a frame.
    pub(crate) fn finish(mut self, reason: RecordingReason, now: Option<u32>, drain: Option<Drain<'_>>) {
        if let Some(drain) = drain
            && self.after.is_none()
        {
            let (mut left, mut right) = (Copied::silence(Law::Mu), Copied::silence(Law::Mu));
            for later in 0..RECORDER_LAG.saturating_add_signed(self.short(now)) {
                drain(&mut left, &mut right);
                self.proceed();
                // When it was stopped before its lag had passed, that many fewer frames are ours.
                if later < self.lag {
                    continue;
                }
                if self.frames_left == Some(0) {
                    break;
                }
                self.take(&left, &right);
            }
        }
        self.hand_over();
        let _ = self.pieces.push(Piece::Finish { silence_before: self.silence_before, reason });
    }

    /// By how many frames the ticks until now are fewer than the time since it began: -1, 0 or 1.
    fn short(&self, now: Option<u32>) -> i8 {
        let Some((began, now)) = self.began.zip(now) else { return 0 };
        let nearest = (now.wrapping_sub(began) + FRAME as u32 / 2) / FRAME as u32;
        nearest.wrapping_sub(self.frames).cast_signed().clamp(-1, 1) as i8
    }

    /// Lets a pause or its end begin whose moment has come.
    fn proceed(&mut self) {
        while let Some(pause) = self.changes.front().filter(|(ticks, _)| *ticks == 0).map(|(_, pause)| *pause) {
            self.pause = pause;
            self.changes.pop_front();
        }
        self.changes.iter_mut().for_each(|(ticks, _)| *ticks = ticks.saturating_sub(1));
    }

    /// A frame of what is recorded; false when it is left out.
    fn take(&mut self, inbound: &Copied, outbound: &Copied) -> bool {
        match self.pause {
            Pause::No => self.write(inbound, outbound),
            Pause::Silence => self.write(&NOTHING, &NOTHING),
            Pause::Skip => return false,
        }
        self.frames_left = self.frames_left.map(|left| left.saturating_sub(1));
        true
    }

    fn write(&mut self, inbound: &Copied, outbound: &Copied) {
        let inbound = if self.track == Tracks::Outbound { &NOTHING } else { inbound };
        let outbound = if self.track == Tracks::Inbound { &NOTHING } else { outbound };
        match self.channels {
            Channels::Dual => {
                let coding = self.carried([inbound, outbound]);
                let Some(buffer) = self.buffer(coding) else { return };
                interleave(coding, inbound, outbound, buffer);
                self.hand_over_if_full(coding, 2);
            }
            Channels::Mono => {
                let mixed;
                let one = if outbound.is_nothing() {
                    inbound
                } else if inbound.is_nothing() {
                    outbound
                } else {
                    mixed = Copied::Samples(mix(inbound, outbound));
                    &mixed
                };
                let coding = self.carried([one, one]);
                let Some(buffer) = self.buffer(coding) else { return };
                one.append(coding, buffer);
                self.hand_over_if_full(coding, 1);
            }
        }
    }

    /// What a frame is carried to the writer in: as the piece that it is added to, or for a linear file the law in which it
    /// came. What is made up later in such a piece is of that law anyway.
    fn carried(&self, sides: [&Copied; 2]) -> WavCoding {
        if let Some((coding, _)) = &self.current {
            return *coding;
        }
        let mixes = self.channels == Channels::Mono && self.track == Tracks::Both;
        match (self.coding, sides) {
            (WavCoding::Pcm, _) if mixes => WavCoding::Pcm,
            (WavCoding::Pcm, [Copied::Octets(Law::Mu, _), Copied::Octets(Law::Mu, _)]) => WavCoding::Mulaw,
            (WavCoding::Pcm, [Copied::Octets(Law::A, _), Copied::Octets(Law::A, _)]) => WavCoding::Alaw,
            (coding, _) => coding,
        }
    }

    /// A buffer of `coding` with room for a frame. `None`, and the frame is silence: there is none.
    fn buffer(&mut self, coding: WavCoding) -> Option<&mut Vec<u8>> {
        if self.current.is_none() {
            while let Ok(buffer) = self.empty.pop() {
                self.spare.push(buffer);
            }
            self.current = self.spare.pop().map(|buffer| (coding, buffer));
        }
        if self.current.is_none() {
            self.silence_before += 1;
        }
        self.current.as_mut().map(|(_, buffer)| buffer)
    }

    fn hand_over_if_full(&mut self, coding: WavCoding, channels: usize) {
        let frame = FRAME * channels * coding.octets();
        if self.current.as_ref().is_some_and(|(_, buffer)| buffer.len() + frame > BUFFER * channels) {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let Some((coding, octets)) = self.current.take() else { return };
        let silence_before = std::mem::take(&mut self.silence_before);
        // There are more places than buffers.
        let _ = self.pieces.push(Piece::Audio { silence_before, coding, octets });
    }
}

fn mix(one: &Copied, other: &Copied) -> [i16; FRAME] {
    let mut mixed = one.samples();
    mixed.iter_mut().zip(other.samples()).for_each(|(mixed, other)| *mixed = mixed.saturating_add(other));
    mixed
}

/// Appends both, sample by sample in turn.
fn interleave(coding: WavCoding, left: &Copied, right: &Copied, to: &mut Vec<u8>) {
    let Some(law) = coding.law() else {
        let mut both = [0; 2 * FRAME];
        pairs(&mut both, &left.samples(), &right.samples());
        return coding.encode(&both, to);
    };
    let mut both = [0; 2 * FRAME];
    match (left, right) {
        (Copied::Octets(a, left), Copied::Octets(b, right)) if *a == law && *b == law => pairs(&mut both, left, right),
        _ => pairs(&mut both, &left.octets(law), &right.octets(law)),
    }
    to.extend_from_slice(&both);
}

fn pairs<T: Copy>(both: &mut [T; 2 * FRAME], left: &[T; FRAME], right: &[T; FRAME]) {
    let pairs = left.iter().zip(right);
    both.as_chunks_mut().0.iter_mut().zip(pairs).for_each(|(place, (left, right))| *place = [*left, *right]);
}
