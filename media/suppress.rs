//! Noise suppression. RNNoise computes a gain for each frequency, and a filter bank at the stream's own rate applies
//! these gains.
//!
//! ```text
//!   frame -+-> up to 48 kHz -> RNNoise -> down --> spectrum Y --\
//!          |                                                     gain = f(|Y| / |X|) -> X * gain -> frame
//!          \-> same delay ----------------------> spectrum X --/
//! ```
//!
//! The output of RNNoise itself is not used as audio, for two reasons. The high-pass filter of RNNoise shifts the phase
//! of voices, so that clean speech gets 18 dB of "noise". The pitch filter of RNNoise is made for the full band. The
//! ratio of RNNoise's output to its input is a gain for each 50 Hz. The engine changes this gain a little. It
//! attenuates frequencies with some speech less than RNNoise does, and attenuates noise more.
//!
//! In its initial state the model takes steady noise of some levels for speech, for half a minute or more. So the model
//! processes 1 s of a synthetic voice before the audio of the first call. The level of the model's input is also
//! reduced to a tenth.

pub(crate) mod budget;

use std::f32::consts::PI;
use std::sync::{Arc, LazyLock};

use nnnoiseless::{DenoiseState, RnnModel};
use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::resample::Resampler;

/// The number of samples that RNNoise processes together. They last 10 ms at 48 kHz.
const BLOCK: usize = DenoiseState::FRAME_SIZE;
/// The number of hops that the model processes before its result is used. A hop is 10 ms, so these hops last 100 ms.
const WARM_UP: u8 = 10;
/// The change of a cross-fade's weight per hop of 10 ms. A cross-fade takes 20 ms.
const FADE: f32 = 0.5;
/// Two frequencies in Hz. Below the first frequency there is no voice, and above the second frequency all audio may be
/// voice.
const RUMBLE: (f32, f32) = (60.0, 120.0);

/// The factor for the model's input. Five factors were tested with speech and with steady noise of amplitudes from 30
/// to 4,000. This factor gave the best results.
const LEVEL: f32 = 0.1;

/// The model's weights, which take 85 KB. All suppressors share these weights.
static MODEL: LazyLock<RnnModel> = LazyLock::new(RnnModel::default);
/// A model that has processed a voice. Each stream starts with a copy of this model. The creation of the model takes 7
/// ms.
static BEGUN: LazyLock<Box<DenoiseState<'static>>> = LazyLock::new(|| {
    let mut model = DenoiseState::with_model(&MODEL);
    for block in voice().chunks_exact(BLOCK) {
        model.process_frame(&mut [0.0; BLOCK], block);
    }
    model
});

/// Suppresses noise in one direction of one leg. A suppressor takes 33 KB at 8 kHz and up to 60 KB at 48 kHz. A
/// suppressor allocates only on creation.
pub struct Suppressor {
    rate: SampleRate,
    up: Resampler,
    down: Resampler,
    model: Box<DenoiseState<'static>>,
    /// The input, from the hop that is sent now to the newest hop.
    line: Box<[i16]>,
    bank: FilterBank,
    warm_up: u8,
    /// The weight of the delayed signal in the output. The weight is 0 before suppression has begun and after
    /// suppression has ended. Otherwise the weight is 1.
    late: f32,
    /// The weight of the clean signal in the delayed signal. The weight is 0 while suppression is shed. Otherwise the
    /// weight is 1.
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
    /// The default attenuation of noise in dB. With this value noise is nearly inaudible.
    pub const LIMIT: u8 = 40;

    /// Creates a suppressor that is switched on. The first 100 ms of audio pass unchanged. Then suppression fades in
    /// within 20 ms.
    pub fn new(rate: SampleRate) -> Suppressor {
        let (up, down) = (Resampler::new(rate, SampleRate::Hz48000), Resampler::new(SampleRate::Hz48000, rate));
        prepare();
        let hop = rate.frame() / 2;
        // This is the delay of the model's output. The model itself delays the audio by one block.
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

    /// The delay of the stream in samples while suppression is on. The delay is 25 ms at 8 kHz, 22.5 ms at 16 kHz and
    /// 20 ms at 48 kHz. The delay stays the same while suppression is shed.
    pub fn delay(&self) -> usize {
        self.line.len() - self.rate.frame() / 2
    }

    /// Sets the highest attenuation of noise, 0 to 100 dB. With 0, only rumble below the frequencies of voices is
    /// removed.
    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, decibels: u8) {
        self.bank.floor = 10_f32.powf(-f32::from(decibels.min(100)) / 20.0);
    }

    /// Switches suppression off, with a cross-fade of 20 ms to the input, or switches suppression on again.
    pub fn set_on(&mut self, on: bool) {
        if on && self.is_over() {
            self.warm_up = WARM_UP;
        }
        self.on = on;
    }

    /// Stops the noise suppression to save CPU time (true), or starts it again (false). While suppression is stopped,
    /// the stream passes unchanged with the same delay and needs hardly any CPU time. After the restart, suppression
    /// works again after 100 ms.
    pub fn shed(&mut self, shed: bool) {
        if self.shed && !shed {
            self.warm_up = WARM_UP;
        }
        self.shed = shed;
    }

    /// Whether suppression is off and the cross-fade to the input has ended. Frames then pass unchanged and without
    /// delay.
    pub fn is_over(&self) -> bool {
        !self.on && self.late == 0.0
    }

    /// Removes the noise from a frame of 20 ms or 10 ms in place.
    pub fn process(&mut self, frame: &mut [i16]) {
        if self.is_over() {
            return;
        }
        for hop in frame.chunks_exact_mut(self.rate.frame() / 2) {
            self.hop(hop);
        }
    }

    /// Processes a hop of 10 ms.
    fn hop(&mut self, hop: &mut [i16]) {
        let length = hop.len();
        self.line.copy_within(length.., 0);
        let newest = self.line.len() - length;
        if let Some(end) = self.line.get_mut(newest..) {
            end.copy_from_slice(hop);
        }
        let (was_late, was_clean) = (self.late, self.clean);
        let warm = self.warm_up == 0;
        // A suppressor that is shed from its start delays the stream too. The delay stays while the model warms up
        // again.
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
            // `cleaned` first holds the output of the model. The filter bank then replaces this output with the clean
            // signal.
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

/// Creates the data that the first suppressor of this thread would otherwise create. This takes 7 ms for the first
/// thread of the process, and less for other threads.
pub(crate) fn prepare() {
    // Each thread has its own tables for the model's transforms.
    BEGUN.clone().process_frame(&mut [0.0; BLOCK], &[0.0; BLOCK]);
}

/// Returns 1 s of a synthetic voice at 48 kHz. The voice consists of pulses with a changing pitch, four syllables,
/// three formants, and faint noise.
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

/// Advances a fade by one step towards 1 or 0.
fn approach(level: f32, up: bool) -> f32 {
    if up { (level + FADE).min(1.0) } else { (level - FADE).max(0.0) }
}

/// Rounds a value to a sample. Values outside the range become the nearest sample.
fn to_sample(value: f32) -> i16 {
    (value + 0.5_f32.copysign(value)) as i16
}

/// Computes a gain for each frequency from the model's input and output, and applies these gains to the stream. The
/// filter bank uses a window of 20 ms every 10 ms, with spectral lines of 50 Hz.
struct FilterBank {
    forward: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
    /// The square root of a Hann window, for analysis and synthesis. Overlapping windows add up to 1.
    window: Box<[f32]>,
    /// The model's output for the previous hop.
    before: Box<[i16]>,
    /// The part of the last window that is added to the next hop.
    tail: Box<[f32]>,
    floor: f32,
    // Buffers without a state between calls.
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

    /// Processes one hop. `heard` is the last two hops of the input. When the function is called, `hop` contains the
    /// model's output for the second of these hops. When the function returns, `hop` contains the clean signal of the
    /// first of these hops.
    fn process(&mut self, heard: &[i16], hop: &mut [i16]) {
        let FilterBank { forward, back, window, before, tail, floor, time, heard: x, said: y, scratch } = self;
        let mut analyse = |samples: &mut dyn Iterator<Item = &i16>, spectrum: &mut [Complex32]| {
            for ((time, window), sample) in time.iter_mut().zip(window.iter()).zip(samples) {
                *time = f32::from(*sample) * window;
            }
            // The transform fails only for a length that was not planned.
            let _ = forward.process_with_scratch(time, spectrum, scratch);
        };
        analyse(&mut heard.iter(), x);
        analyse(&mut before.iter().chain(hop.iter()), y);
        before.copy_from_slice(hop);
        for (line, (x, y)) in x.iter_mut().zip(y).enumerate() {
            *x *= gain(line, x.norm_sqr(), y.norm_sqr()).max(*floor);
        }
        let _ = back.process_with_scratch(x, time, scratch);
        // A transform followed by its inverse multiplies the signal by the length.
        let scale = 1.0 / time.len() as f32;
        time.iter_mut().zip(window.iter()).for_each(|(time, window)| *time *= window * scale);
        let (first, second) = time.split_at(tail.len());
        for (out, (tail, now)) in hop.iter_mut().zip(tail.iter().zip(first)) {
            *out = to_sample(tail + now);
        }
        tail.copy_from_slice(second);
    }
}

/// Returns the gain of a spectral line of 50 Hz. `before` is the power of the model's input, and `after` is the power
/// of the model's output.
fn gain(line: usize, before: f32, after: f32) -> f32 {
    const STEP: f32 = 50.0;
    let (none, all) = RUMBLE;
    let voice = ((line as f32 * STEP - none) / (all - none)).clamp(0.0, 1.0);
    let ratio = (after / (before + 1e-3)).min(1.0).sqrt();
    // Ratios below 0.3 are attenuated more, and ratios above 0.3 are attenuated less. Several curves were tested with
    // speech in six kinds of noise. This curve gave the best results.
    let exponent = if ratio < 0.3 { 1.2 - ratio * (0.5 / 0.3) } else { 0.7 };
    voice * ratio.powf(exponent)
}

#[cfg(test)]
mod tests;
