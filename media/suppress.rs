//! Noise suppression: RNNoise decides, frequency by frequency, and a filter bank at the stream's own rate obeys.
//!
//! ```text
//!   frame -+-> up to 48 kHz -> RNNoise -> down --> spectrum Y --\
//!          |                                                     gain = |Y| / |X|, bent -> X * gain -> frame
//!          \-> as late ------------------------> spectrum X --/
//! ```
//!
//! RNNoise's own output is not what is heard. Its high-pass turns the phase of voices around (clean speech comes out with
//! 18 dB of "noise"), and its pitch filter is made for the whole band. The ratio of its output to its input is a gain
//! for each 50 Hz, which is bent a little: what is half speech is kept rather than cut, what is noise is cut deeper.
//!
//! A model that has heard nothing yet takes steady noise of some loudnesses for speech, for half a minute and more. So
//! it has heard a second of a (made) voice before it hears its first call, and it is given a tenth of the level.

pub(crate) mod budget;

use std::f32::consts::PI;
use std::sync::{Arc, LazyLock};

use nnnoiseless::{DenoiseState, RnnModel};
use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::resample::Resampler;

/// What RNNoise works on at a time: 10 ms at 48 kHz.
const BLOCK: usize = DenoiseState::FRAME_SIZE;
/// Hops of 10 ms that the model hears before it is heard: 100 ms.
const WARM_UP: u8 = 10;
/// How much of a crossfade a hop of 10 ms is: it takes a frame of 20 ms.
const FADE: f32 = 0.5;
/// Where nothing below is voice, and from where all may be; Hz.
const RUMBLE: (f32, f32) = (60.0, 120.0);

/// Of the level that the model hears: measured as the best of five on speech and on steady noise of 30 to 4,000.
const LEVEL: f32 = 0.1;

/// The model's weights, 85 KB, shared by all.
static MODEL: LazyLock<RnnModel> = LazyLock::new(RnnModel::default);
/// A model that has heard a voice; each stream begins with a copy. Takes 7 ms to make.
static BEGUN: LazyLock<Box<DenoiseState<'static>>> = LazyLock::new(|| {
    let mut model = DenoiseState::with_model(&MODEL);
    for block in voice().chunks_exact(BLOCK) {
        model.process_frame(&mut [0.0; BLOCK], block);
    }
    model
});

/// Cleans one direction of one leg. Takes 33 KB at 8 kHz and up to 60 KB at 48 kHz; allocates when made only.
pub struct Suppressor {
    rate: SampleRate,
    up: Resampler,
    down: Resampler,
    model: Box<DenoiseState<'static>>,
    /// The input, from what a hop is that comes out now to what has just come in.
    line: Box<[i16]>,
    bank: FilterBank,
    warm_up: u8,
    /// How much of what is heard is late at all: 0 before it has begun and after it has ended, else 1.
    late: f32,
    /// How much of what is late is cleaned: 0 while shed, else 1.
    clean: f32,
    on: bool,
    shed: bool,
}

impl std::fmt::Debug for Suppressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Suppressor { rate, on, shed, .. } = self;
        formatter.debug_struct("Suppressor").field("rate", rate).field("on", on).field("shed", shed).finish()
    }
}

impl Suppressor {
    /// The attenuation of noise where none other is asked for, dB: all but silence.
    pub const LIMIT: u8 = 40;

    /// Makes one that is on: its first 100 ms are as they came, then it fades in within 20 ms.
    pub fn new(rate: SampleRate) -> Suppressor {
        let (up, down) = (Resampler::new(rate, SampleRate::Hz48000), Resampler::new(SampleRate::Hz48000, rate));
        prepare();
        let hop = rate.frame() / 2;
        // Of the model's output; it looks back by one block.
        let late = up.delay() * hop / BLOCK + hop + down.delay();
        Suppressor {
            rate,
            up,
            down,
            model: BEGUN.clone(),
            line: vec![0; late + 2 * hop].into(),
            bank: FilterBank::new(rate),
            warm_up: WARM_UP,
            late: 0.0,
            clean: 1.0,
            on: true,
            shed: false,
        }
    }

    /// By how many samples it makes a stream late while it is on: 25 ms at 8 kHz, 22.5 ms at 16 kHz, 20 ms at 48 kHz.
    /// Shedding changes nothing about that.
    pub fn delay(&self) -> usize {
        self.line.len() - self.rate.frame() / 2
    }

    /// How far noise is turned down at most, 0 to 100 dB; 0 leaves all but rumble below the voice.
    pub fn set_limit(&mut self, decibels: u8) {
        self.bank.floor = 10_f32.powf(-f32::from(decibels.min(100)) / 20.0);
    }

    /// Ends it, with a crossfade of 20 ms back to what comes in; or begins anew.
    pub fn set_on(&mut self, on: bool) {
        if on && self.is_over() {
            self.warm_up = WARM_UP;
        }
        self.on = on;
    }

    /// Leaves the stream as it is, as late as ever, for hardly any work; or cleans again, after 100 ms.
    pub fn shed(&mut self, shed: bool) {
        if self.shed && !shed {
            self.warm_up = WARM_UP;
        }
        self.shed = shed;
    }

    /// Whether it was turned off and its crossfade is over: frames come out as they go in.
    pub fn is_over(&self) -> bool {
        !self.on && self.late == 0.0
    }

    /// Cleans a frame, of 20 ms or 10, in place.
    pub fn process(&mut self, frame: &mut [i16]) {
        if self.is_over() {
            return;
        }
        for hop in frame.chunks_exact_mut(self.rate.frame() / 2) {
            self.hop(hop);
        }
    }

    /// Ten milliseconds.
    fn hop(&mut self, hop: &mut [i16]) {
        let length = hop.len();
        self.line.copy_within(length.., 0);
        let newest = self.line.len() - length;
        if let Some(end) = self.line.get_mut(newest..) {
            end.copy_from_slice(hop);
        }
        let (was_late, was_clean) = (self.late, self.clean);
        let warm = self.warm_up == 0;
        // Shed from the start, it is late all the same; and it stays so while it warms up again.
        self.late = approach(was_late, self.on && (warm || self.shed || was_late > 0.0));
        self.clean = approach(was_clean, !self.shed && (warm || was_late == 0.0));
        let mut cleaned = [0; LONGEST_FRAME / 2];
        let cleaned = cleaned.get_mut(..length).unwrap_or_default();
        if !self.shed || was_clean > 0.0 {
            self.warm_up = self.warm_up.saturating_sub(1);
            let mut wide = [0; BLOCK];
            self.up.process(hop, &mut wide);
            let mut said = [0.0; BLOCK];
            self.model.process_frame(&mut said, &wide.map(|sample| f32::from(sample) * LEVEL));
            let wide = said.map(|sample| to_sample(sample / LEVEL));
            // `cleaned` is the model's own output first, and then what it is made into.
            self.down.process(&wide, cleaned);
            let heard = self.line.get(..length * 2).unwrap_or_default();
            self.bank.process(heard, cleaned);
        }
        let late = self.line.iter();
        for (n, ((sample, late), cleaned)) in hop.iter_mut().zip(late).zip(cleaned).enumerate() {
            let part = (n + 1) as f32 / length as f32;
            let clean = was_clean + (self.clean - was_clean) * part;
            let delayed = was_late + (self.late - was_late) * part;
            let then = f32::from(*late) + (f32::from(*cleaned) - f32::from(*late)) * clean;
            *sample = to_sample(f32::from(*sample) + (then - f32::from(*sample)) * delayed);
        }
    }
}

/// Makes in this thread what the first suppressor would make: 7 ms for the process's first, little for another's.
pub(crate) fn prepare() {
    // Its transforms' tables are each thread's own.
    BEGUN.clone().process_frame(&mut [0.0; BLOCK], &[0.0; BLOCK]);
}

/// A second of something like a voice at 48 kHz: pulses of a moving pitch, four syllables, three formants, faint noise.
fn voice() -> Vec<f32> {
    const RATE: f32 = 48_000.0;
    let turn = |hertz: f32, time: f32| (2.0 * PI * hertz * time).sin();
    let (mut phase, mut random, mut formants) = (0.0, 1u32, [(0.0f32, 0.0f32); 3]);
    (0..RATE as usize)
        .map(|n| {
            let time = n as f32 / RATE;
            phase += (120.0 + 30.0 * turn(0.7, time)) / RATE;
            let pulse = if phase >= 1.0 { 6_000.0 } else { 0.0 };
            phase = phase.fract();
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (random >> 16) as f32 / 32_768.0 - 1.0;
            let mut sample = pulse * turn(4.0, time).max(0.0) + 2.0 * noise;
            let vowel = turn(1.3, time);
            let places = [(500.0 + 200.0 * vowel, 80.0), (1_500.0 - 400.0 * vowel, 100.0), (2_500.0, 150.0)];
            for ((hertz, width), (last, before)) in places.into_iter().zip(&mut formants) {
                let radius = (-PI * width / RATE).exp();
                let feedback = 2.0 * radius * (2.0 * PI * hertz / RATE).cos();
                sample = (1.0 - feedback + radius * radius) * sample + feedback * *last - radius * radius * *before;
                (*before, *last) = (*last, sample);
            }
            sample * 40.0 * LEVEL
        })
        .collect()
}

/// One step of a fade towards 1 or 0.
fn approach(level: f32, up: bool) -> f32 {
    if up { (level + FADE).min(1.0) } else { (level - FADE).max(0.0) }
}

/// Rounds, and saturates.
fn to_sample(value: f32) -> i16 {
    (value + 0.5_f32.copysign(value)) as i16
}

/// Gives one stream the gains by which another was made from it: windows of 20 ms, one every 10 ms, 50 Hz a line.
struct FilterBank {
    forward: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
    /// The square root of Hann's, for analysis and synthesis; both halves sum up to 1.
    window: Box<[f32]>,
    /// The model's output of one hop ago.
    before: Box<[i16]>,
    /// What the last window leaves for the next hop.
    tail: Box<[f32]>,
    floor: f32,
    // Work space.
    time: Box<[f32]>,
    heard: Box<[Complex32]>,
    said: Box<[Complex32]>,
    scratch: Box<[Complex32]>,
}

impl FilterBank {
    fn new(rate: SampleRate) -> FilterBank {
        let length = rate.frame();
        let mut planner = RealFftPlanner::new();
        let (forward, back) = (planner.plan_fft_forward(length), planner.plan_fft_inverse(length));
        let spectrum = || vec![Complex32::default(); length / 2 + 1].into();
        let scratch = forward.get_scratch_len().max(back.get_scratch_len());
        FilterBank {
            window: (0..length).map(|n| (PI * n as f32 / length as f32).sin()).collect(),
            before: vec![0; length / 2].into(),
            tail: vec![0.0; length / 2].into(),
            floor: 10_f32.powf(-f32::from(Suppressor::LIMIT) / 20.0),
            time: vec![0.0; length].into(),
            heard: spectrum(),
            said: spectrum(),
            scratch: vec![Complex32::default(); scratch].into(),
            forward,
            back,
        }
    }

    /// `heard`: the last two hops of what goes in. `hop`: the model's answer to the second of them; what comes out in its
    /// place is for the first.
    fn process(&mut self, heard: &[i16], hop: &mut [i16]) {
        let FilterBank { forward, back, window, before, tail, floor, time, heard: x, said: y, scratch } = self;
        let mut analyse = |samples: &mut dyn Iterator<Item = &i16>, spectrum: &mut [Complex32]| {
            for ((time, window), sample) in time.iter_mut().zip(window.iter()).zip(samples) {
                *time = f32::from(*sample) * window;
            }
            // The lengths are those it was planned for.
            let _ = forward.process_with_scratch(time, spectrum, scratch);
        };
        analyse(&mut heard.iter(), x);
        analyse(&mut before.iter().chain(hop.iter()), y);
        before.copy_from_slice(hop);
        for (line, (x, y)) in x.iter_mut().zip(y).enumerate() {
            *x *= gain(line, x.norm_sqr(), y.norm_sqr()).max(*floor);
        }
        let _ = back.process_with_scratch(x, time, scratch);
        // A transform there and back multiplies by its length.
        let scale = 1.0 / time.len() as f32;
        time.iter_mut().zip(window.iter()).for_each(|(time, window)| *time *= window * scale);
        let (first, second) = time.split_at(tail.len());
        for (out, (tail, now)) in hop.iter_mut().zip(tail.iter().zip(first)) {
            *out = to_sample(tail + now);
        }
        tail.copy_from_slice(second);
    }
}

/// The gain of a spectral line, 50 Hz apart, from the power that went into the model and that which came out.
fn gain(line: usize, before: f32, after: f32) -> f32 {
    const STEP: f32 = 50.0;
    let (none, all) = RUMBLE;
    let voice = ((line as f32 * STEP - none) / (all - none)).clamp(0.0, 1.0);
    let ratio = (after / (before + 1e-3)).min(1.0).sqrt();
    // Below 0.3 deeper, above it gentler: measured as the best of several on speech in six kinds of noise.
    let exponent = if ratio < 0.3 { 1.2 - ratio * (0.5 / 0.3) } else { 0.7 };
    voice * ratio.powf(exponent)
}

#[cfg(test)]
mod tests;
