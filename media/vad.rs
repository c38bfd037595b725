//! Voice activity: whether somebody speaks in a frame. Pure.
//!
//! ```text
//!   frame -> 8 kHz -> five bands over their noise floors --quiet--> silence (1 us)
//!                                     \--something--> neural detector -> speech or not (10 us more)
//! ```
//!
//! On speech with traffic and voices behind it, levels alone took two thirds of the noise for speech, whatever the
//! bands and thresholds; the detector one percent. It is better with the telephone's band than with a wider one, so
//! every rate is brought down to it.

use earshot::Detector;

use crate::codec::SampleRate;
use crate::resample::Resampler;

/// 0-500, 500-1,000, 1,000-2,000, 2,000-3,000 and 3,000-4,000 Hz.
const BANDS: usize = 5;
/// Frames of one part of the window in which a floor is looked for, and its parts: 2.4 s in all, longer than anybody
/// speaks without a gap between words.
const PART: u8 = 10;
const PARTS: usize = 12;
/// The least of a smoothed energy is below its mean by about this.
const BIAS: f32 = 1.6;
/// No band's floor is taken to be lower (mean square of samples): about -80 dBov.
const QUIETEST: f32 = 10.0;
/// Nor, when it begins, higher, or the first word would be the noise: about -38 dBov.
const LOUDEST_FIRST: f32 = 170_000.0;
/// The mean of the bands above their floors that is worth a closer look, dB.
const SOMETHING: f32 = 1.2;
/// A band tells no more than this, dB, so that a click or a tone in one does not look like speech in all.
const MOST: f32 = 15.0;
/// Quieter frames are silence whatever the floor, dBov.
const SILENCE: f32 = -58.0;
/// What the detector says of speech at least, of 1: to begin, and to go on.
const BEGIN: f32 = 0.65;
const GO_ON: f32 = 0.55;
/// Frames for which speech is taken to go on after the last active one: 200 ms, the longest closure within words.
const HANGOVER: u8 = 10;
/// Samples that the detector takes at a time: 16 ms at 16 kHz.
const BLOCK: usize = 256;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activity {
    /// Somebody speaks: an active frame, or at most 200 ms after one.
    pub speech: bool,
    /// Speech in the frame itself, give or take 20 ms.
    pub active: bool,
    /// Something stands out of what was there all the time.
    pub sound: bool,
    /// Root mean square against full scale, dBov (a sine that just does not clip is -3); -127 for digital silence.
    pub level: f32,
}

/// Says of each frame of one stream whether somebody speaks. 10 KiB, most of it on the heap.
pub struct VoiceActivity {
    to_narrow: Resampler,
    to_detector: Resampler,
    gate: Gate,
    detector: Box<Detector>,
    /// At 16 kHz, until it is a block.
    pending: [i16; BLOCK],
    length: usize,
    /// What the detector said last, of 1.
    voice: f32,
    /// Frames for which the gate stays open.
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
    /// For frames at `rate`.
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

    /// Takes the next 20 ms. What is above 4 kHz counts for the level only. Allocates nothing.
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

    /// The most that the detector says of a block that ends in this frame.
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

/// How far a frame stands above what was there all the time.
#[derive(Debug)]
struct Gate {
    bank: FilterBank,
    smoothed: [f32; BANDS],
    floors: [Floor; BANDS],
    /// No frame has been heard.
    fresh: bool,
}

impl Default for Gate {
    fn default() -> Gate {
        let floors = [Floor::new(QUIETEST); BANDS];
        Gate { bank: FilterBank::default(), smoothed: [0.0; BANDS], floors, fresh: true }
    }
}

impl Gate {
    /// The mean of the bands, dB.
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
            above += (10.0 * (energy / floor.noise()).log10()).clamp(0.0, MOST);
        }
        self.fresh = false;
        above / BANDS as f32
    }
}

/// Root mean square of `samples` against full scale, dBov.
fn level(samples: &[i16]) -> f32 {
    let sum: i64 = samples.iter().map(|sample| i64::from(*sample) * i64::from(*sample)).sum();
    let mean = sum as f32 / samples.len().max(1) as f32;
    if mean == 0.0 { -127.0 } else { 10.0 * mean.log10() - 90.309 }
}

/// The least of a band's smoothed energy in the last 2.4 s.
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

/// A tree of half-band filters, each made of two first-order all-passes on every second sample.
#[derive(Debug, Clone, Default)]
struct FilterBank {
    /// Takes away direct current and hum.
    high_pass: (f32, f32),
    whole: Split,
    lower: Split,
    upper: Split,
    lowest: Split,
}

impl FilterBank {
    /// Mean square of each band.
    fn energies(&mut self, narrow: &[i16]) -> [f32; BANDS] {
        let mut steady = [0.0; 160];
        for (to, sample) in steady.iter_mut().zip(narrow) {
            // A zero at 0 and a pole at 100 Hz.
            let (sample, (before, last)) = (f32::from(*sample), self.high_pass);
            *to = sample - before + 0.925 * last;
            self.high_pass = (sample, *to);
        }
        let (mut low, mut high) = ([0.0; 80], [0.0; 80]);
        self.whole.divide(&steady, &mut low, &mut high);
        let (mut to_1000, mut to_2000) = ([0.0; 40], [0.0; 40]);
        self.lower.divide(&low, &mut to_1000, &mut to_2000);
        // The upper half comes out upside down.
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

/// Divides a signal into its lower and its upper half, each at half the rate.
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
