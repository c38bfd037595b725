//! Detects single tones: the beep after a greeting, and the tones of fax machines. This module is pure.
//!
//! ```text
//!   frame --a single sine?--> hertz, level --steady?--> run --quiet for 6 frames after it?--> tone
//! ```
//!
//! A vowel, a whistle or a flute may be a sine for one or two frames. But such a sound does not keep its frequency and
//! level, and does not stop abruptly.

use std::f32::consts::TAU;

use crate::codec::{LONGEST_FRAME, SampleRate};

/// The level in dBov below which a frame contains no tone.
const QUIETEST: f32 = -42.0;
/// The part of a frame's energy (0 to 1) that a single sine must have. If the sine has less energy, the frame does not
/// count as a tone.
const PURE: f32 = 0.9;
/// The lowest frequency of a tone in Hz. The next constant, `HIGHEST`, is the highest frequency. This range is wider
/// than the range of beeps. So the detector finds the whole beep even if the frequency of the beep is at the edge of
/// the range of beeps.
const LOWEST: f32 = 330.0;
const HIGHEST: f32 = 2_600.0;
/// The largest difference in Hz between the frequency of a frame and the mean frequency of the tone that the frame
/// continues.
const DRIFT: f32 = 14.0;
/// The largest difference in level between two consecutive frames of a tone, in dB.
const STEP: f32 = 3.5;
/// The number of frames after which a run counts as a tone. A shorter run may be speech.
const TONE: u16 = 3;
/// The number of quiet frames that must follow a tone. A frame is quiet if it is at least `DROP` dB quieter than the
/// tone.
const AFTER: u8 = 6;
const DROP: f32 = 10.0;
/// The frequency range of ringing, busy and dial tones in Hz (ITU-T E.180). Such tones repeat within `AGAIN` frames.
pub(super) const PROGRESS_HERTZ: std::ops::RangeInclusive<f32> = 330.0..=490.0;
const AGAIN: u8 = 32;

/// A tone that continues or has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    /// The mean frequency in Hz.
    pub(super) hertz: f32,
    /// The number of whole frames that the tone has lasted.
    pub(super) frames: u16,
    /// The level of the last frame in dBov.
    level: f32,
    /// The number of frames without the tone since the last frame with the tone. The value is 1 while one frame is
    /// missing because of a phase reversal or a lost packet.
    missed: u8,
}

/// The result of the detector for a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sound {
    /// The frame has no tone.
    Other,
    /// A tone continues.
    Tone(Run),
    /// A tone has stopped. The next frames show whether the tone has ended or only paused.
    Ending,
    /// A tone has ended, and silence has followed it.
    Ended(Run),
}

/// Detects tones in the frames of one stream.
#[derive(Debug)]
pub(super) struct ToneDetector {
    rate: f32,
    run: Option<Run>,
    ended: Option<(Run, u8)>,
    /// The number of frames without a tone since the last progress tone. A progress tone is a tone whose frequency is
    /// in `PROGRESS_HERTZ`.
    since_progress: u8,
}

impl ToneDetector {
    pub(super) fn new(rate: SampleRate) -> ToneDetector {
        ToneDetector { rate: rate.hertz() as f32, run: None, ended: None, since_progress: u8::MAX }
    }

    /// Handles the next 20 ms of audio. `level` is the level of the frame in dBov.
    pub(super) fn handle_frame(&mut self, samples: &[i16], level: f32) -> Sound {
        let hertz = if level > QUIETEST { sine(samples, self.rate) } else { None };
        if let Some(run) = &mut self.run {
            match hertz {
                Some(hertz) if (hertz - run.hertz).abs() < DRIFT && (level - run.level).abs() < STEP => {
                    // A missed frame between two frames of the tone is part of the tone.
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
                    // At this point, two frames after the tone have been handled.
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

/// Returns the frequency in Hz if the frame is a single sine. Otherwise returns `None`.
fn sine(samples: &[i16], rate: f32) -> Option<f32> {
    let mut wave = [0.0; LONGEST_FRAME];
    let wave = wave.get_mut(..samples.len())?;
    wave.iter_mut().zip(samples).for_each(|(to, from)| *to = f32::from(*from));
    let energy: f32 = wave.iter().map(|sample| sample * sample).sum();
    // The autocorrelation of a sine with w radians per sample is cos(w) at lag 1 and cos(2w) at lag 2. White noise has
    // no such correlation (Pisarenko). The function returns early if the frame is clearly not a single sine.
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
    // This estimate has an error of up to about 50 Hz. The phase difference between parts of the frame gives the exact
    // frequency.
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

/// Returns the correlation of `wave` with a sine of `turn` radians per sample. `wave` starts at sample `at` of the
/// frame.
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
