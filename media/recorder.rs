//! The worker's part of a recording. The recorder copies one frame per tick into buffers. The buffers go to the writer
//! thread. This module is pure.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::codec::SampleRate;
use crate::codec::g711::Law;
use crate::command::{Channels, OpId, RecordSpec, Tracks};
use crate::event::RecordingReason;
use crate::rtp::FRAME;
use crate::timeline::RECORDER_LAG;
use crate::track_frame::TrackFrame;
use crate::vad::VoiceActivity;
use crate::wav::WavCoding;

/// The number of octets in a buffer, for each channel. This is half a second of G.711, or a quarter of a second of
/// linear samples. If the process is killed, the audio that is in this buffer or on its way to the disk is lost. This
/// is at most 0.9 s, unless the disk is slow.
pub(crate) const BUFFER: usize = 25 * FRAME;
/// The number of buffers of one recording. All buffers together have 20 kB for each channel. If all buffers are full,
/// audio is dropped and recorded as silence. While the disk is fast enough, only two buffers are used, one after the
/// other.
const BUFFERS: usize = 5;
/// The number of pauses and resumptions that can wait until the recorder's delay has passed. A further change replaces
/// the last waiting change.
const CHANGES: usize = 8;
/// The maximum number of missed frames that are recorded as silence. 3,000 frames last 1 min. Further missed frames are
/// not recorded.
const MISSED: u32 = 3_000;

/// A message to the writer thread.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Whole frames. `silence_before` is the number of frames of silence before these frames. The silence stands for
    /// audio that could not be queued. `coding` is the coding of the octets, which is usually the file's coding. If the
    /// file is linear and both channels were received in the same law, `coding` may be this law. This halves the amount
    /// of data.
    Audio { silence_before: u64, coding: WavCoding, octets: Vec<u8> },
    /// The end of the recording.
    Finish { silence_before: u64, reason: RecordingReason },
}

/// The part of a new recording that the writer thread gets.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) pieces: rtrb::Consumer<Piece>,
    pub(crate) empty: rtrb::Producer<Vec<u8>>,
}

/// The state of a recording's pause: not paused, paused with silence, or paused with nothing. With silence, the
/// recording contains silence for the time of the pause. With nothing, the recording omits this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Pause {
    No,
    Silence,
    Skip,
}

/// A function that reads the oldest frames, one for each direction, that no tick has read yet.
pub(crate) type Drain<'a> = &'a mut dyn FnMut(&mut TrackFrame, &mut TrackFrame);

/// The frame that stands for a track that is not recorded.
static NOTHING: TrackFrame = TrackFrame::Octets(Law::Mu, [Law::Mu.silence(); FRAME]);

/// A running recording of a session or a room.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) op: OpId,
    channels: Channels,
    track: Tracks,
    coding: WavCoding,
    pieces: rtrb::Producer<Piece>,
    empty: rtrb::Consumer<Vec<u8>>,
    /// The empty buffers. The last buffer was used most recently and is in the CPU caches.
    spare: Vec<Vec<u8>>,
    current: Option<(WavCoding, Vec<u8>)>,
    /// The number of lost frames since the last piece. A frame is lost if no buffer is free.
    silence_before: u64,
    /// The operation that must end before the recording starts.
    after: Option<OpId>,
    /// The number of ticks until the timeline delivers the first frame after the start.
    lag: u8,
    pause: Pause,
    /// The pauses and resumptions that wait. Each has the number of ticks after which the pause or resumption applies.
    changes: VecDeque<(u8, Pause)>,
    frames_left: Option<u64>,
    silence_limit: Option<u64>,
    silent_frames: u64,
    /// The speech detector. It is set only if the recording has a silence timeout.
    activity: Option<Box<VoiceActivity>>,
    /// The media clock at the start command, or `None` if the recording waited for an operation.
    began: Option<u32>,
    /// The number of frames since the start.
    frames: u32,
    /// The number of frames of audio in the recording.
    recorded: u64,
}

/// The position of a recording at a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordingPosition {
    /// The id of the recording.
    pub op: OpId,
    /// The length of the audio recorded so far, without the audio that waits for the recorder's delay of 140 ms.
    pub recorded: Duration,
    /// Whether the recording is paused.
    pub paused: bool,
}

/// A recording as data. The file and the settings are not part of it: a new `Start` command gives them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecordingState {
    op: OpId,
    /// The number of frames recorded so far.
    recorded: u64,
    pause: Pause,
    frames_left: Option<u64>,
    silent_frames: u64,
}

impl RecordingState {
    pub(crate) fn is(&self, op: OpId) -> bool {
        self.op == op
    }

    pub(crate) fn pause(&mut self, pause: Pause) {
        self.pause = pause;
    }

    pub(crate) fn position(&self) -> RecordingPosition {
        RecordingPosition {
            op: self.op,
            recorded: Duration::from_millis(self.recorded.saturating_mul(20)),
            paused: self.pause != Pause::No,
        }
    }
}

impl Recorder {
    pub(crate) fn state(&self) -> RecordingState {
        RecordingState {
            op: self.op,
            recorded: self.recorded,
            // A change that waits for the recorder's delay is the state from now on.
            pause: self.changes.back().map_or(self.pause, |(_, pause)| *pause),
            frames_left: self.frames_left,
            silent_frames: self.silent_frames,
        }
    }

    /// Continues the limits and the pause of a recording from before a snapshot. The silence limit and the longest length
    /// continue at the recorded length.
    pub(crate) fn resume(&mut self, before: RecordingState) {
        self.recorded = before.recorded;
        self.pause = before.pause;
        self.frames_left = before.frames_left;
        self.silent_frames = before.silent_frames;
        // A recording that has begun waits for no operation.
        self.after = self.after.filter(|_| before.recorded == 0);
    }

    /// Creates a recorder, and the writer's part of the recording. `now` is the media clock at the start command, in
    /// units of 1/8,000 s. If `now` is set, the length of the recording equals the time from the start command to the
    /// stop command.
    pub(crate) fn new(op: OpId, spec: &RecordSpec, now: Option<u32>) -> (Recorder, Feed) {
        // The queue has more slots than there are buffers, so that the final message always fits.
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
            recorded: 0,
        };
        (recorder, Feed { pieces: taken, empty: give })
    }

    /// Whether a buffer is free for another frame.
    #[cfg(test)]
    pub(crate) fn has_room(&self) -> bool {
        self.current.is_some() || !self.empty.is_empty() || !self.spare.is_empty()
    }

    /// Pauses or resumes the recording. The change applies to the audio that is on the network now and to later audio.
    pub(crate) fn pause(&mut self, pause: Pause) {
        if self.changes.len() == CHANGES {
            self.changes.pop_back();
        }
        // The frame in which the command arrives is not recorded in either case, so that audio from a pause is never
        // recorded.
        self.changes.push_back((RECORDER_LAG - u8::from(pause != Pause::No), pause));
    }

    /// Takes note of the operation that is playing now. If the recording waits for an operation, the recording starts
    /// when this operation no longer plays.
    pub(crate) fn playing(&mut self, playing: Option<OpId>) {
        self.after = self.after.filter(|after| playing == Some(*after));
    }

    /// The number of frames that the recorder can take in one batch. A longer batch could miss the end of the
    /// recording, or the end of the operation that the recording waits for.
    pub(crate) fn frames_until_due(&self) -> u64 {
        let silence = self.silence_limit.map(|limit| limit.saturating_sub(self.silent_frames));
        let rest = self.frames_left.into_iter().chain(silence).min().unwrap_or(u64::MAX);
        if self.after.is_some() { 1 } else { rest }
    }

    /// Handles one frame of each direction. Returns the reason if the recording has ended.
    pub(crate) fn handle_frame(&mut self, inbound: &TrackFrame, outbound: &TrackFrame) -> Option<RecordingReason> {
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
        // A far end that sends no packets is silent. Some phones send no packets during silence.
        self.silent_frames = if activity.active { 0 } else { self.silent_frames + 1 };
        (self.silent_frames >= limit).then_some(RecordingReason::Silence)
    }

    /// Records silence for the frames that the worker missed because the worker was blocked. These frames count as
    /// dropped.
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
                self.recorded += 1;
                self.frames_left = self.frames_left.map(|left| left - 1);
            }
        }
    }

    /// Ends the recording. `drain` adds the audio that has arrived and that no tick has read yet. If `now` (as in
    /// [`Recorder::new`]) is set, the length of the recording is the number of frames that is nearest to the time since
    /// the start. The number of ticks alone could be wrong by up to one frame, because ticks and commands are not
    /// synchronous.
    pub(crate) fn finish(mut self, reason: RecordingReason, now: Option<u32>, drain: Option<Drain<'_>>) {
        if let Some(drain) = drain
            && self.after.is_none()
        {
            let (mut left, mut right) = (TrackFrame::silence(Law::Mu), TrackFrame::silence(Law::Mu));
            for later in 0..RECORDER_LAG.saturating_add_signed(self.short(now)) {
                drain(&mut left, &mut right);
                self.proceed();
                // If the recording ends before its delay has passed, the first frames come from the time before its
                // start.
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

    /// Returns the difference between the number of ticks and the time since the start, -1 to 1 frames.
    fn short(&self, now: Option<u32>) -> i8 {
        let Some((began, now)) = self.began.zip(now) else { return 0 };
        let nearest = (now.wrapping_sub(began) + FRAME as u32 / 2) / FRAME as u32;
        nearest.wrapping_sub(self.frames).cast_signed().clamp(-1, 1) as i8
    }

    /// Applies the pauses and resumptions that are due.
    fn proceed(&mut self) {
        while let Some(pause) = self.changes.front().filter(|(ticks, _)| *ticks == 0).map(|(_, pause)| *pause) {
            self.pause = pause;
            self.changes.pop_front();
        }
        self.changes.iter_mut().for_each(|(ticks, _)| *ticks = ticks.saturating_sub(1));
    }

    /// Records a frame. Returns false if a pause omits the frame.
    fn take(&mut self, inbound: &TrackFrame, outbound: &TrackFrame) -> bool {
        match self.pause {
            Pause::No => self.write(inbound, outbound),
            Pause::Silence => self.write(&NOTHING, &NOTHING),
            Pause::Skip => return false,
        }
        self.frames_left = self.frames_left.map(|left| left.saturating_sub(1));
        self.recorded += 1;
        true
    }

    fn write(&mut self, inbound: &TrackFrame, outbound: &TrackFrame) {
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
                let one = if outbound.is_silent() {
                    inbound
                } else if inbound.is_silent() {
                    outbound
                } else {
                    mixed = TrackFrame::Samples(mix(inbound, outbound));
                    &mixed
                };
                let coding = self.carried([one, one]);
                let Some(buffer) = self.buffer(coding) else { return };
                one.append(coding, buffer);
                self.hand_over_if_full(coding, 1);
            }
        }
    }

    /// Returns the coding in which a frame goes to the writer. If a piece has begun, this is the coding of this piece.
    /// For a linear file the coding may be the law (mu-law or A-law) in which the frame was received. In such a piece,
    /// concealed audio is encoded in this law too.
    fn carried(&self, sides: [&TrackFrame; 2]) -> WavCoding {
        if let Some((coding, _)) = &self.current {
            return *coding;
        }
        let mixes = self.channels == Channels::Mono && self.track == Tracks::Both;
        match (self.coding, sides) {
            (WavCoding::Pcm, _) if mixes => WavCoding::Pcm,
            (WavCoding::Pcm, [TrackFrame::Octets(Law::Mu, _), TrackFrame::Octets(Law::Mu, _)]) => WavCoding::Mulaw,
            (WavCoding::Pcm, [TrackFrame::Octets(Law::A, _), TrackFrame::Octets(Law::A, _)]) => WavCoding::Alaw,
            (coding, _) => coding,
        }
    }

    /// Returns a buffer with the coding `coding` and space for a frame. If no buffer is free, silence is recorded
    /// instead of the frame, and the result is `None`.
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
        // The queue has more slots than there are buffers, so this cannot fail.
        let _ = self.pieces.push(Piece::Audio { silence_before, coding, octets });
    }
}

fn mix(one: &TrackFrame, other: &TrackFrame) -> [i16; FRAME] {
    let mut mixed = one.samples();
    mixed.iter_mut().zip(other.samples()).for_each(|(mixed, other)| *mixed = mixed.saturating_add(other));
    mixed
}

/// Appends the samples of both channels to `to`. Samples of the left and the right channel alternate.
fn interleave(coding: WavCoding, left: &TrackFrame, right: &TrackFrame, to: &mut Vec<u8>) {
    let Some(law) = coding.law() else {
        let mut both = [0; 2 * FRAME];
        pairs(&mut both, &left.samples(), &right.samples());
        return coding.encode(&both, to);
    };
    let mut both = [0; 2 * FRAME];
    match (left, right) {
        (TrackFrame::Octets(a, left), TrackFrame::Octets(b, right)) if *a == law && *b == law => {
            pairs(&mut both, left, right);
        }
        _ => pairs(&mut both, &left.octets(law), &right.octets(law)),
    }
    to.extend_from_slice(&both);
}

fn pairs<T: Copy>(both: &mut [T; 2 * FRAME], left: &[T; FRAME], right: &[T; FRAME]) {
    let pairs = left.iter().zip(right);
    both.as_chunks_mut().0.iter_mut().zip(pairs).for_each(|(place, (left, right))| *place = [*left, *right]);
}
