//! Single tones: the beep after a greeting, and fax machines' calls. Pure.
//!
//! ```text
//!   frame --one sine explains it?--> hertz, level --steady?--> run --quiet for 100 ms after it?--> tone
//! ```
//!
//! A vowel, a whistle or a flute is a sine for a frame or two; what they do not do is to hold frequency and level, and
//! then stop.

use std::f32::consts::TAU;

use crate::codec::{LONGEST_FRAME, SampleRate};

/// Quieter frames hold no tone, dBov.
const QUIETEST: f32 = -42.0;
/// What one sine must explain of a frame's energy, of 1.
const PURE: f32 = 0.9;
/// Looked at, Hz; wider than a beep may be, so that one at the edge is whole.
const LOWEST: f32 = 330.0;
const HIGHEST: f32 = 2_600.0;
/// How far one frame may be from the run it belongs to, Hz.
const DRIFT: f32 = 14.0;
/// How far from the frame before it, dB.
const STEP: f32 = 3.5;
/// Frames from which on a run counts as a tone and not as speech.
const TONE: u16 = 3;
/// Frames after a tone that must be quieter by `DROP` dB.
const AFTER: u8 = 6;
const DROP: f32 = 10.0;
/// Ringing, busy and dial tones lie here (ITU-T E.180), Hz. They come again within the frames of `AGAIN`.
pub(super) const PROGRESS_HERTZ: std::ops::RangeInclusive<f32> = 330.0..=490.0;
const AGAIN: u8 = 32;

/// A tone, while it lasts or afterwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    /// The mean.
    pub(super) hertz: f32,
    /// Whole frames.
    pub(super) frames: u16,
    /// Of the last frame, dBov.
    level: f32,
    /// Frames missed within it: a phase reversal, a lost packet.
    missed: u8,
}

/// What the last frame brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sound {
    /// No tone.
    Other,
    /// A tone goes on.
    Tone(Run),
    /// There was one; whether it was all is seen in the next frames.
    Ending,
    /// There was one, and silence followed.
    Ended(Run),
}

/// Looks for tones in the frames of one stream.
#[derive(Debug)]
pub(super) struct ToneDetector {
    rate: f32,
    run: Option<Run>,
    ended: Option<(Run, u8)>,
    /// Frames without a tone since the last one as low as a progress tone.
    since_progress: u8,
}

impl ToneDetector {
    pub(super) fn new(rate: SampleRate) -> ToneDetector {
        ToneDetector { rate: rate.hertz() as f32, run: None, ended: None, since_progress: u8::MAX }
    }

    /// Takes the next 20 ms; `level` is the frame's, dBov.
    pub(super) fn handle_frame(&mut self, samples: &[i16], level: f32) -> Sound {
        let hertz = if level > QUIETEST { sine(samples, self.rate) } else { None };
        if let Some(run) = &mut self.run {
            match hertz {
                Some(hertz) if (hertz - run.hertz).abs() < DRIFT && (level - run.level).abs() < STEP => {
                    // A missed frame between was part of it.
                    run.frames = run.frames.saturating_add(1 + u16::from(run.missed > 0));
                    run.missed = 0;
                    run.hertz += (hertz - run.hertz) / f32::from(run.frames.min(20));
                    run.level = level;
                }
                _ if run.missed == 0 && run.frames >= TONE => run.missed = 1,
                _ => {
                    let run = *run;
                    self.run = None;
                    let progress = run.frames >= TONE && PROGRESS_HERTZ.contains(&run.hertz);
                    let again = progress && self.since_progress < AGAIN;
                    // Two frames of what follows have been heard.
                    if run.frames >= TONE && level < run.level - DROP && !again {
                        self.ended = Some((run, 2));
                    }
                    if progress {
                        self.since_progress = 0;
                    }
                }
            }
        }
        if self.run.is_none()
            && let Some(hertz) = hertz
        {
            self.run = Some(Run { hertz, frames: 1, level, missed: 0 });
        }
        if let Some(run) = self.run.filter(|run| run.frames >= TONE) {
            return Sound::Tone(run);
        }
        self.since_progress = self.since_progress.saturating_add(1);
        match &mut self.ended {
            None => Sound::Other,
            Some((run, _)) if level > run.level - DROP => {
                self.ended = None;
                Sound::Other
            }
            Some((run, frames)) => {
                *frames += 1;
                if *frames < if PROGRESS_HERTZ.contains(&run.hertz) { AGAIN } else { AFTER } {
                    return Sound::Ending;
                }
                let run = *run;
                self.ended = None;
                Sound::Ended(run)
            }
        }
    }
}

/// The frequency of the one sine that a frame is, if it is.
fn sine(samples: &[i16], rate: f32) -> Option<f32> {
    let mut wave = [0.0; LONGEST_FRAME];
    let wave = wave.get_mut(..samples.len())?;
    wave.iter_mut().zip(samples).for_each(|(to, from)| *to = f32::from(*from));
    let energy: f32 = wave.iter().map(|sample| sample * sample).sum();
    // Of a sine with w radians a sample the autocorrelation is cos(w) at lag 1 and cos(2w) at lag 2; white noise has none
    // (Pisarenko). What is not nearly one sine is done with here.
    let (mut one, mut two) = (0.0, 0.0);
    for three in wave.windows(3) {
        let &[before, at, after] = three else { continue };
        one += 0.5 * at * (before + after);
        two += before * after;
    }
    let cosine = (two + (two * two + 8.0 * one * one).sqrt()) / (4.0 * one);
    let alike = one / cosine;
    if !(cosine.abs() < 1.0 && alike > 0.7 * energy) {
        return None;
    }
    // That is right within some 50 Hz; the phase between parts of the frame makes it exact.
    let mut hertz = cosine.acos() * rate / TAU;
    for parts in [4, 2, 2] {
        let (turn, length) = (hertz * TAU / rate, wave.len() / parts);
        let mut last: Option<(f32, f32)> = None;
        let mut sum = (0.0, 0.0);
        for (index, part) in wave.chunks_exact(length.max(1)).enumerate() {
            let now = project(part, turn, index * length);
            if let Some(last) = last.replace(now) {
                sum = (sum.0 + last.0 * now.0 + last.1 * now.1, sum.1 + last.1 * now.0 - last.0 * now.1);
            }
        }
        hertz += sum.1.atan2(sum.0) / TAU * rate / length as f32;
    }
    let (real, imaginary) = project(wave, hertz * TAU / rate, 0);
    let explained = 2.0 * (real * real + imaginary * imaginary) / (wave.len() as f32 * energy);
    (explained > PURE && (LOWEST..HIGHEST).contains(&hertz)).then_some(hertz)
}

/// What of `wave` turns with `turn` radians a sample, when it begins `at` samples into the frame.
fn project(wave: &[f32], turn: f32, at: usize) -> (f32, f32) {
    let (mut imaginary, mut real) = (turn * at as f32).sin_cos();
    let (sine, cosine) = turn.sin_cos();
    let mut sum = (0.0, 0.0);
    for sample in wave {
        sum.0 += sample * real;
        sum.1 += sample * imaginary;
        (real, imaginary) = (real * cosine - imaginary * sine, real * sine + imaginary * cosine);
    }
    sum
}
