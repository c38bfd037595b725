//! Recording, the worker's half: one frame a tick onto buffers that the writer thread takes. Pure.

use std::time::Duration;

use crate::command::{Channels, OpId, RecordSpec, Tracks};
use crate::event::RecordingReason;
use crate::rtp::FRAME;
use crate::timeline::RECORDER_LAG;

/// Frames of a buffer: 100 ms.
const FRAMES: usize = 5;
/// Buffers of one recording. When the writer is 800 ms behind, what comes is left out and written as silence.
const BUFFERS: usize = 8;
/// Mean level below which a frame counts as silence, about -46 dBFS.
pub(crate) const SILENT: u32 = 160;

/// What goes to the writer thread.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Whole frames, after so many samples (of each channel) of silence for what could not be queued.
    Audio { silence_before: u64, samples: Vec<i16> },
    /// The end.
    Finish { silence_before: u64, reason: RecordingReason },
}

/// The writer's half of a new recording.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) pieces: rtrb::Consumer<Piece>,
    pub(crate) empty: rtrb::Producer<Vec<i16>>,
}

/// Whether a recording is held, and what becomes of the time until it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pause {
    No,
    Silence,
    Skip,
}

/// Gives the frames of each side that no tick has read yet, one after the other.
pub(crate) type Drain<'a> = &'a mut dyn FnMut(&mut [i16; FRAME], &mut [i16; FRAME]);

/// A recording at work on its session.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) op: OpId,
    channels: Channels,
    track: Tracks,
    pieces: rtrb::Producer<Piece>,
    empty: rtrb::Consumer<Vec<i16>>,
    current: Option<Vec<i16>>,
    silence_before: u64,
    /// Ticks until the wire of the moment it started reaches us.
    lag: u8,
    pause: Pause,
    frames_left: Option<u64>,
    silence_limit: Option<u64>,
    silent_frames: u64,
}

impl Recorder {
    pub(crate) fn new(op: OpId, spec: &RecordSpec) -> (Recorder, Feed) {
        let channels = spec.channels as usize + 1;
        // One place more than buffers, so that the end always finds room.
        let (pieces, taken) = rtrb::RingBuffer::new(BUFFERS + 2);
        let (mut give, empty) = rtrb::RingBuffer::new(BUFFERS + 1);
        for _ in 0..BUFFERS {
            let _ = give.push(Vec::with_capacity(FRAMES * FRAME * channels));
        }
        let frames = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).div_ceil(20);
        let recorder = Recorder {
            op,
            channels: spec.channels,
            track: spec.track,
            pieces,
            empty,
            current: None,
            silence_before: 0,
            lag: RECORDER_LAG,
            pause: Pause::No,
            frames_left: spec.max_length.map(frames),
            silence_limit: spec.silence_timeout.map(frames),
            silent_frames: 0,
        };
        (recorder, Feed { pieces: taken, empty: give })
    }

    pub(crate) fn pause(&mut self, pause: Pause) {
        self.pause = pause;
    }

    /// Takes one frame of each side. `alive`: RTP arrives. Returns why it is over, when it is.
    pub(crate) fn handle_frame(
        &mut self,
        inbound: &[i16; FRAME],
        outbound: &[i16; FRAME],
        alive: bool,
    ) -> Option<RecordingReason> {
        if self.lag > 0 {
            self.lag -= 1;
            return None;
        }
        const NOTHING: [i16; FRAME] = [0; FRAME];
        match self.pause {
            Pause::No => self.write(inbound, outbound),
            Pause::Silence => self.write(&NOTHING, &NOTHING),
            Pause::Skip => return None,
        }
        if let Some(left) = &mut self.frames_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Some(RecordingReason::MaxLength);
            }
        }
        let limit = self.silence_limit.filter(|_| self.pause == Pause::No)?;
        let listened = if self.track == Tracks::Outbound { outbound } else { inbound };
        if !is_silent(listened) {
            self.silent_frames = 0;
        } else if alive || self.track == Tracks::Outbound {
            self.silent_frames += 1;
        }
        (self.silent_frames >= limit).then_some(RecordingReason::Silence)
    }

    /// Ends it: what the wire brought until now but no tick has read yet is added when `drain` is given.
    pub(crate) fn finish(mut self, reason: RecordingReason, drain: Option<Drain<'_>>) {
        if let Some(drain) = drain
            && self.pause == Pause::No
        {
            let (mut left, mut right) = ([0; FRAME], [0; FRAME]);
            for later in 0..RECORDER_LAG {
                drain(&mut left, &mut right);
                // When it was stopped before its lag had passed, that many fewer frames are ours.
                if later < self.lag {
                    continue;
                }
                if self.frames_left == Some(0) {
                    break;
                }
                self.write(&left, &right);
                self.frames_left = self.frames_left.map(|left| left.saturating_sub(1));
            }
        }
        self.hand_over();
        let _ = self.pieces.push(Piece::Finish { silence_before: self.silence_before, reason });
    }

    fn write(&mut self, inbound: &[i16; FRAME], outbound: &[i16; FRAME]) {
        if self.current.is_none() {
            self.current = self.empty.pop().ok();
        }
        let Some(buffer) = &mut self.current else {
            self.silence_before += FRAME as u64;
            return;
        };
        let heard =
            |track: Tracks, sample: i16| if self.track == Tracks::Both || self.track == track { sample } else { 0 };
        let pairs = inbound.iter().zip(outbound);
        match self.channels {
            Channels::Mono => buffer
                .extend(pairs.map(|(left, right)| {
                    heard(Tracks::Inbound, *left).saturating_add(heard(Tracks::Outbound, *right))
                })),
            Channels::Dual => buffer.extend(
                pairs.flat_map(|(left, right)| [heard(Tracks::Inbound, *left), heard(Tracks::Outbound, *right)]),
            ),
        }
        if buffer.len() == buffer.capacity() || buffer.len() >= FRAMES * FRAME * (self.channels as usize + 1) {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let Some(samples) = self.current.take() else { return };
        let per_channel = (samples.len() / (self.channels as usize + 1)) as u64;
        let silence_before = self.silence_before;
        match self.pieces.push(Piece::Audio { silence_before, samples }) {
            Ok(()) => self.silence_before = 0,
            Err(_) => self.silence_before += per_channel,
        }
    }
}

/// Whether a frame's mean level is below [`SILENT`].
pub(crate) fn is_silent(samples: &[i16]) -> bool {
    let sum: u32 = samples.iter().map(|sample| u32::from(sample.unsigned_abs())).sum();
    sum <= SILENT.saturating_mul(samples.len() as u32)
}
