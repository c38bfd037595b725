//! Voice activity detection: decides whether a frame contains speech. This module is pure.
//!
//! ```text
//!   frame -> 8 kHz -> five bands above their noise floors --quiet--> silence (1 us)
//!                                      \--sound--> neural detector -> speech or not (10 us more)
//! ```
//!
//! A test used speech with traffic and voices in the background. A detector that used only levels classified two thirds
//! of the noise as speech, whatever its bands and thresholds were. The neural detector misclassified one percent of the
//! noise. The detector is more accurate with telephone bandwidth than with a wider band, so every rate is reduced to 8
//! kHz.

use earshot::Detector;

use crate::codec::SampleRate;
use crate::resample::Resampler;

/// The number of frequency bands. The bands are 0-500, 500-1,000, 1,000-2,000, 2,000-3,000 and 3,000-4,000 Hz.
const BANDS: usize = 5;
/// The number of frames in one part of the window in which a noise floor is searched. The next constant, `PARTS`, is
/// the number of parts. The window lasts 2.4 s, which is longer than speech without a gap between words.
const PART: u8 = 10;
const PARTS: usize = 12;
/// The factor by which the mean energy of a noise is higher than the minimum of the smoothed energy.
const BIAS: f32 = 1.6;
/// The lowest noise floor of a band, as a mean square of samples. The value is about -80 dBov.
const QUIETEST: f32 = 10.0;
/// The highest noise floor at the start: about -38 dBov. With a higher limit, the first word would count as noise.
const LOUDEST_FIRST: f32 = 170_000.0;
/// The threshold of the neural detector in dB. The detector runs if the bands are on average more than this value above
/// their noise floors.
const SOMETHING: f32 = 1.2;
/// The largest distance in dB from the noise floor that counts for one band. With this limit, a click or a tone in one
/// band does not look like speech in all bands.
const MAX_EXCESS_DB: f32 = 15.0;
/// The lowest level in dBov of a frame with sound. A quieter frame is silence, independent of the noise floor.
const SILENCE: f32 = -58.0;
/// The lowest result of the detector (0 to 1) at which speech begins. The next constant, `GO_ON`, is the lowest result
/// at which speech continues.
const BEGIN: f32 = 0.65;
const GO_ON: f32 = 0.55;
/// The number of frames for which speech continues after the last active frame. They last 200 ms. This is the longest
/// pause within a word.
const HANGOVER: u8 = 10;
/// The number of samples that the detector takes together. They last 16 ms at 16 kHz.
const BLOCK: usize = 256;

/// The result of the detector for a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activity {
    /// Whether the frame is speech. A frame is speech if it is active, or if it comes at most 200 ms after an active
    /// frame.
    pub speech: bool,
    /// Whether this frame itself contains speech, with a tolerance of 20 ms.
    pub active: bool,
    /// Whether the frame has sound above the steady background.
    pub sound: bool,
    /// The root mean square relative to full scale, in dBov. It is -3 for the loudest unclipped sine, and -127 for
    /// digital silence.
    pub level: f32,
}

/// Detects speech in the frames of one stream. A detector takes 10 KiB, mostly on the heap.
pub struct VoiceActivity {
    to_narrow: Resampler,
    to_detector: Resampler,
    gate: Gate,
    detector: Box<Detector>,
    /// The samples at 16 kHz that do not fill a block yet.
    pending: [i16; BLOCK],
    length: usize,
    /// The last result of the neural detector, 0 to 1.
    voice: f32,
    /// The number of frames for which the neural detector continues to run.
    open: u8,
    was_active: bool,
    hangover: u8,
}

impl std::fmt::Debug for VoiceActivity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("VoiceActivity").field("was_active", &self.was_active).finish_non_exhaustive()
    }
}

impl VoiceActivity {
    /// Creates a detector for frames at `rate`.
    pub fn new(rate: SampleRate) -> VoiceActivity {
        VoiceActivity {
            to_narrow: Resampler::new(rate, SampleRate::Hz8000),
            to_detector: Resampler::new(SampleRate::Hz8000, SampleRate::Hz16000),
            gate: Gate::default(),
            detector: Box::default(),
            pending: [0; BLOCK],
            length: 0,
            voice: 0.0,
            open: 0,
            was_active: false,
            hangover: 0,
        }
    }

    /// Handles the next 20 ms of audio. Frequencies above 4 kHz affect only the level. The function does not allocate.
    pub fn handle_frame(&mut self, samples: &[i16]) -> Activity {
        let level = level(samples);
        let mut narrow = [0; SampleRate::Hz8000.frame()];
        self.to_narrow.process(samples, &mut narrow);
        let something = self.gate.above(&narrow) > SOMETHING && level > SILENCE;
        self.open = if something { HANGOVER } else { self.open.saturating_sub(1) };
        if self.open > 0 {
            self.detect(&narrow);
        } else {
            self.voice = 0.0;
        }
        let active = something && self.voice > if self.was_active { GO_ON } else { BEGIN };
        self.was_active = active;
        self.hangover = if active { HANGOVER } else { self.hangover.saturating_sub(1) };
        Activity { speech: active || self.hangover > 0, active, sound: something, level }
    }

    /// Runs the neural detector on each block that ends in this frame, and stores the highest result.
    fn detect(&mut self, narrow: &[i16]) {
        let mut wide = [0; SampleRate::Hz16000.frame()];
        self.to_detector.process(narrow, &mut wide);
        let mut heard = None;
        let mut rest = wide.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.length));
            if let Some(places) = self.pending.get_mut(self.length..self.length + now.len()) {
                places.copy_from_slice(now);
            }
            self.length += now.len();
            rest = later;
            if self.length == BLOCK {
                self.length = 0;
                let voice = self.detector.predict_i16(&self.pending);
                heard = Some(heard.map_or(voice, |before: f32| before.max(voice)));
            }
        }
        self.voice = heard.unwrap_or(self.voice);
    }
}

/// Measures the distance of a frame from the steady background.
#[derive(Debug)]
struct Gate {
    bank: FilterBank,
    smoothed: [f32; BANDS],
    floors: [Floor; BANDS],
    /// Whether no frame has been handled yet.
    fresh: bool,
}

impl Default for Gate {
    fn default() -> Gate {
        let floors = [Floor::new(QUIETEST); BANDS];
        Gate { bank: FilterBank::default(), smoothed: [0.0; BANDS], floors, fresh: true }
    }
}

impl Gate {
    /// Returns the mean distance of the bands from their noise floors in dB.
    fn above(&mut self, narrow: &[i16]) -> f32 {
        let energies = self.bank.energies(narrow);
        let mut above = 0.0;
        for ((energy, smoothed), floor) in energies.iter().zip(&mut self.smoothed).zip(&mut self.floors) {
            if self.fresh {
                *smoothed = energy.min(LOUDEST_FIRST);
                *floor = Floor::new(*smoothed);
            }
            *smoothed += (energy - *smoothed) * 0.3;
            floor.update(*smoothed);
            above += (10.0 * (energy / floor.noise()).log10()).clamp(0.0, MAX_EXCESS_DB);
        }
        self.fresh = false;
        above / BANDS as f32
    }
}

/// Returns the root mean square of `samples` relative to full scale, in dBov.
fn level(samples: &[i16]) -> f32 {
    let sum: i64 = samples.iter().map(|sample| i64::from(*sample) * i64::from(*sample)).sum();
    let mean = sum as f32 / samples.len().max(1) as f32;
    if mean == 0.0 { -127.0 } else { 10.0 * mean.log10() - 90.309 }
}

/// The minimum of a band's smoothed energy in the last 2.4 s.
#[derive(Debug, Clone, Copy)]
struct Floor {
    parts: [f32; PARTS],
    part: usize,
    frames: u8,
    present: f32,
    least: f32,
}

impl Floor {
    fn new(energy: f32) -> Floor {
        Floor { parts: [energy; PARTS], part: 0, frames: 0, present: energy, least: energy }
    }

    fn update(&mut self, energy: f32) {
        self.present = self.present.min(energy);
        self.least = self.least.min(energy);
        self.frames += 1;
        if self.frames < PART {
            return;
        }
        self.frames = 0;
        if let Some(part) = self.parts.get_mut(self.part) {
            *part = self.present;
        }
        self.part = (self.part + 1) % PARTS;
        self.least = self.parts.iter().copied().fold(f32::INFINITY, f32::min);
        self.present = energy;
    }

    fn noise(&self) -> f32 {
        (self.least * BIAS).max(QUIETEST)
    }
}

/// A tree of half-band filters. Each filter consists of two first-order all-pass filters, which process alternate
/// samples.
#[derive(Debug, Clone, Default)]
struct FilterBank {
    /// The state of the filter that removes DC and hum.
    high_pass: (f32, f32),
    whole: Split,
    lower: Split,
    upper: Split,
    lowest: Split,
}

impl FilterBank {
    /// Returns the mean square of each band.
    fn energies(&mut self, narrow: &[i16]) -> [f32; BANDS] {
        let mut steady = [0.0; 160];
        for (to, sample) in steady.iter_mut().zip(narrow) {
            // The filter has a zero at 0 Hz and a pole at 100 Hz.
            let (sample, (before, last)) = (f32::from(*sample), self.high_pass);
            *to = sample - before + 0.925 * last;
            self.high_pass = (sample, *to);
        }
        let (mut low, mut high) = ([0.0; 80], [0.0; 80]);
        self.whole.divide(&steady, &mut low, &mut high);
        let (mut to_1000, mut to_2000) = ([0.0; 40], [0.0; 40]);
        self.lower.divide(&low, &mut to_1000, &mut to_2000);
        // The upper half band has its frequencies in reverse order.
        let (mut to_4000, mut to_3000) = ([0.0; 40], [0.0; 40]);
        self.upper.divide(&high, &mut to_4000, &mut to_3000);
        let (mut to_500, mut from_500) = ([0.0; 20], [0.0; 20]);
        self.lowest.divide(&to_1000, &mut to_500, &mut from_500);
        [energy(&to_500), energy(&from_500), energy(&to_2000), energy(&to_3000), energy(&to_4000)]
    }
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
}

/// Splits a signal into a lower and an upper half band, each at half the sample rate.
#[derive(Debug, Clone, Copy, Default)]
struct Split {
    even: AllPass,
    odd: AllPass,
}

impl Split {
    fn divide(&mut self, samples: &[f32], low: &mut [f32], high: &mut [f32]) {
        for ((pair, low), high) in samples.chunks_exact(2).zip(low).zip(high) {
            let &[first, second] = pair else { continue };
            let (one, other) = (self.even.next(second, 0.17), self.odd.next(first, 0.64));
            *low = (one + other) * 0.5;
            *high = (one - other) * 0.5;
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct AllPass {
    state: f32,
}

impl AllPass {
    fn next(&mut self, sample: f32, coefficient: f32) -> f32 {
        let out = self.state + coefficient * sample;
        self.state = sample - coefficient * out;
        out
    }
}

#[cfg(test)]
mod tests;
