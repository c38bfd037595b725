//! Audio that the room itself plays at its own rate: announcements, music, and the enter and exit tones.

use std::f64::consts::PI;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::audio::Audio;
use crate::codec::SampleRate;
use crate::command::OpId;
use crate::resample::Resampler;

/// The number of samples in 20 ms of [`Audio`].
const FRAME: usize = SampleRate::Hz8000.frame();

/// The participants that hear a sound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listeners {
    /// All participants that hear the room.
    Room,
    /// The participants in these slots, whether or not they hear the room.
    Slots(Vec<usize>),
}

/// Audio that is playing. `frame` is the current frame.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) op: OpId,
    pub(super) listeners: Listeners,
    pub(super) frame: Vec<i16>,
    looped: Looped,
    /// Whether the sound was stopped. If so, the next frame is the last frame, and the sound fades out in this frame.
    stopped: bool,
}

/// The state of a sound after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SoundState {
    Playing,
    Completed,
    Stopped,
}

impl Sound {
    pub(super) fn new(
        op: OpId,
        audio: Arc<Audio>,
        loops: Option<NonZeroU32>,
        listeners: Listeners,
        rate: SampleRate,
    ) -> Sound {
        let looped = Looped::new(audio, loops.map(NonZeroU32::get), rate);
        Sound { op, listeners, frame: vec![0; rate.frame()], looped, stopped: false }
    }

    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Produces the next frame. `frame` is valid only if the result is [`SoundState::Playing`].
    pub(super) fn step(&mut self) -> SoundState {
        if self.stopped && self.looped.is_over() {
            return SoundState::Stopped;
        }
        if !self.looped.next_frame(&mut self.frame) {
            return if self.stopped { SoundState::Stopped } else { SoundState::Completed };
        }
        if self.stopped {
            let length = self.frame.len();
            super::sum::scale(&mut self.frame, 1.0, 0.0, length);
            self.looped.end();
        }
        SoundState::Playing
    }
}

/// Audio that repeats and is resampled to the room's rate.
#[derive(Debug)]
pub(super) struct Looped {
    audio: Arc<Audio>,
    position: u64,
    /// The number of repetitions that remain. With `None` the audio repeats without end.
    left: Option<u32>,
    resampler: Resampler,
    /// Whether the resampler still holds the last samples.
    held_back: bool,
}

impl Looped {
    pub(super) fn new(audio: Arc<Audio>, loops: Option<u32>, rate: SampleRate) -> Looped {
        let resampler = Resampler::new(SampleRate::Hz8000, rate);
        Looped { audio, position: 0, left: loops, held_back: false, resampler }
    }

    /// Writes the next frame. If no audio remains, the frame is silent and the result is false.
    pub(super) fn next_frame(&mut self, frame: &mut [i16]) -> bool {
        let mut samples = [0; FRAME];
        let mut filled = 0;
        // Audio that is shorter than a frame may repeat several times in one frame. Empty audio ends at once.
        while self.left != Some(0) {
            let copied = self.audio.copy(self.position, samples.get_mut(filled..).unwrap_or_default());
            if copied == 0 {
                break;
            }
            filled += copied;
            self.position += copied as u64;
            if self.position >= self.audio.length() {
                self.position = 0;
                self.left = self.left.map(|left| left - 1);
            }
        }
        let sounds = filled > 0 || std::mem::take(&mut self.held_back);
        if sounds {
            self.resampler.process(&samples, frame);
            self.held_back = filled == FRAME && self.resampler.delay() > 0;
        } else {
            frame.fill(0);
        }
        sounds
    }

    fn end(&mut self) {
        (self.left, self.held_back) = (Some(0), false);
    }

    fn is_over(&self) -> bool {
        self.left == Some(0) && !self.held_back
    }
}

/// The amplitude of an enter or exit tone. The level is -20 dBFS.
const LOUD: f64 = 3_277.0;
/// The number of samples of one note. A note lasts 120 ms, and a tone has two notes. The next constant, `EDGE`, is the
/// number of samples of the fade at each end of a note (10 ms).
const NOTE: usize = 960;
const EDGE: usize = 80;

/// Returns the enter tone, which has two rising notes, or the exit tone, which has two falling notes.
pub(super) fn beep(enters: bool) -> Arc<Audio> {
    let notes = if enters { [660.0, 880.0] } else { [880.0, 660.0] };
    let samples: Vec<i16> = notes
        .iter()
        .flat_map(|hertz| {
            (0..NOTE).map(move |n| {
                let edge = n.min(NOTE - 1 - n).min(EDGE) as f64 / EDGE as f64;
                let envelope = 0.5 - 0.5 * (PI * edge).cos();
                (LOUD * envelope * (2.0 * PI * hertz * n as f64 / 8_000.0).sin()) as i16
            })
        })
        .collect();
    Arc::new(Audio::new(samples))
}
