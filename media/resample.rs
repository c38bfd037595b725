//! Converts audio between 8, 16 and 48 kHz, from 22.05 to 48 kHz, and from 16 to 24 kHz, frame by frame, with a
//! linear-phase polyphase filter of 40 taps per phase.
//!
//! In this text, `r` is the lower of the two rates. The pass band ends at 0.45 `r` (ripple below 0.02 dB). Images and
//! aliases above 0.55 `r` are attenuated by at least 60 dB. The filter is a Nyquist filter: if the output rate is
//! higher, each input sample appears unchanged in the output after a delay.

use std::array;
use std::f64::consts::PI;
use std::sync::LazyLock;

use crate::codec::SampleRate;

/// The number of taps of one phase. The delay is half of this number, in samples of the lower rate.
const TAPS: usize = 40;
/// The highest ratio of two sample rates. It is the ratio of 48 kHz to 8 kHz.
const HIGHEST: usize = 6;
/// The highest number of samples that are processed together. They last 10 ms at 48 kHz.
const BLOCK: usize = 480;
/// The beta of the Kaiser window. Kaiser's formula is beta = 0.1102 (A - 8.7). With a beta of 6.2, the attenuation A is
/// 65 dB.
const KAISER: f64 = 6.2;
/// The number of partial sums of a dot product. Several sums allow the compiler to vectorise the loop.
const LANES: usize = 8;

/// Resamples one stream. The state of 0.5 KB is part of the struct. The resampler never allocates.
#[derive(Debug, Clone)]
pub struct Resampler {
    direction: Direction,
    /// The last input samples, newest last. Before the first sample of the stream they are silence.
    history: [i16; TAPS * HIGHEST],
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Same,
    Up(&'static Filter),
    Down(&'static Filter),
    /// The rate rises by the filter's ratio divided by this number.
    UpPart(&'static Filter, usize),
}

impl Resampler {
    /// Creates a resampler for a stream that starts now.
    pub fn new(from: SampleRate, to: SampleRate) -> Resampler {
        let (low, high) = (from.min(to), from.max(to));
        let filter: Option<&'static Filter> = match (low, high) {
            (SampleRate::Hz8000, SampleRate::Hz16000) => Some(&TWO),
            (SampleRate::Hz16000, SampleRate::Hz48000) => Some(&THREE),
            (SampleRate::Hz8000, SampleRate::Hz48000) => Some(&SIX),
            _ => None,
        };
        let direction = match filter {
            None => Direction::Same,
            Some(filter) if from < to => Direction::Up(filter),
            Some(filter) => Direction::Down(filter),
        };
        Resampler { direction, history: [0; TAPS * HIGHEST] }
    }

    /// Creates a resampler from 22,050 to 48,000 Hz for a stream that starts now. 147 input samples become 320 output
    /// samples. Each frame must have a multiple of 147 samples; 20 ms have 441.
    pub fn from_22050_to_48000() -> Resampler {
        Resampler { direction: Direction::UpPart(&THREE_HUNDRED_AND_TWENTY, PERIOD), history: [0; TAPS * HIGHEST] }
    }

    /// Creates a resampler from 16,000 to 24,000 Hz for a stream that starts now. Two input samples become three output
    /// samples. Each frame must have an even number of samples.
    pub fn from_16000_to_24000() -> Resampler {
        Resampler { direction: Direction::UpPart(&THREE, 2), history: [0; TAPS * HIGHEST] }
    }

    /// The delay in output samples, which equals 20 samples of the lower rate. It is 2.5 ms between 8 kHz and another
    /// rate, 1.25 ms between 16 and 48 kHz, and 0 for equal rates.
    pub fn delay(&self) -> usize {
        match self.direction {
            Direction::Same => 0,
            Direction::Up(filter) => TAPS / 2 * filter.ratio,
            Direction::Down(_) => TAPS / 2,
            Direction::UpPart(filter, part) => TAPS / 2 * filter.ratio / part,
        }
    }

    /// Resets the resampler to its initial state.
    pub fn reset(&mut self) {
        self.history.fill(0);
    }

    /// Resamples a frame. The frame may have any length that is a whole number of samples at both rates. Output that
    /// does not fit into `output` is lost.
    pub fn process(&mut self, input: &[i16], output: &mut [i16]) {
        match self.direction {
            Direction::Same => output.iter_mut().zip(input).for_each(|(to, from)| *to = *from),
            Direction::Up(filter) => {
                const STEP: usize = BLOCK / HIGHEST;
                for (input, output) in input.chunks(STEP).zip(output.chunks_mut(STEP * filter.ratio)) {
                    self.block::<{ TAPS + STEP }>(TAPS, input, |line| filter.up(line, output));
                }
            }
            Direction::UpPart(filter, part) => {
                let periods = PERIOD / part;
                for (input, output) in input.chunks(periods * part).zip(output.chunks_mut(periods * filter.ratio)) {
                    self.block::<{ TAPS + PERIOD }>(TAPS, input, |line| filter.up_part(part, line, output));
                }
            }
            Direction::Down(filter) => {
                // A lower ratio needs a shorter history. In this case the rest of the line is unused.
                const LINE: usize = TAPS * HIGHEST + BLOCK;
                for (input, output) in input.chunks(BLOCK).zip(output.chunks_mut(BLOCK / filter.ratio)) {
                    self.block::<LINE>(TAPS * filter.ratio, input, |line| filter.down(line, output));
                }
            }
        }
    }

    /// Calls `work` with one slice. The slice contains the last `past` samples, and then the samples of `input`.
    fn block<const LINE: usize>(&mut self, past: usize, input: &[i16], work: impl FnOnce(&[f32])) {
        let mut line = [0.0; LINE];
        let before = self.history.len() - past;
        let history = self.history.get(before..).unwrap_or_default();
        let samples = history.iter().chain(input);
        line.iter_mut().zip(samples).for_each(|(to, from)| *to = f32::from(*from));
        work(line.get(..past + input.len()).unwrap_or_default());
        let newest = input.get(input.len().saturating_sub(self.history.len())..).unwrap_or_default();
        self.history.copy_within(newest.len().., 0);
        let kept = self.history.len() - newest.len();
        if let Some(end) = self.history.get_mut(kept..) {
            end.copy_from_slice(newest);
        }
    }
}

/// The filter for one ratio. It serves both directions.
#[derive(Debug)]
struct Filter {
    ratio: usize,
    /// The taps for a rising rate. There is one set of taps for each output sample that lies between two input samples.
    /// The first tap of a set is for the oldest input sample.
    phases: Vec<[f32; TAPS]>,
    /// The taps for a falling rate. The first tap is for the oldest input sample.
    whole: Vec<f32>,
}

static TWO: LazyLock<Filter> = LazyLock::new(|| Filter::new(2));
static THREE: LazyLock<Filter> = LazyLock::new(|| Filter::new(3));
static SIX: LazyLock<Filter> = LazyLock::new(|| Filter::new(6));
static THREE_HUNDRED_AND_TWENTY: LazyLock<Filter> = LazyLock::new(|| Filter::new(320));
/// 48,000 / 22,050 = 320 / 147.
const PERIOD: usize = 147;

impl Filter {
    fn new(ratio: usize) -> Filter {
        let length = TAPS * ratio;
        // Each value is tap `n` of the impulse response, whose middle is at `length` / 2. Tap 0 is a zero of the sinc
        // function.
        let taps: Vec<f64> = (0..length)
            .map(|n| {
                let place = n as f64 - length as f64 / 2.0;
                sinc(place / ratio as f64) * kaiser(place / (length as f64 / 2.0))
            })
            .collect();
        let tap = |n: usize| taps.get(n).copied().unwrap_or_default();
        // Each phase is scaled so that its gain for a constant signal is 1.
        let phases = (1..ratio)
            .map(|phase| {
                let sum: f64 = (0..TAPS).map(|k| tap(phase + k * ratio)).sum();
                array::from_fn(|k| (tap(phase + (TAPS - 1 - k) * ratio) / sum) as f32)
            })
            .collect();
        let sum: f64 = taps.iter().sum();
        let whole = taps.iter().rev().map(|tap| (tap / sum) as f32).collect();
        Filter { ratio, phases, whole }
    }

    /// Raises the rate. `line` contains [`TAPS`] past samples, followed by the new samples.
    fn up(&self, line: &[f32], output: &mut [i16]) {
        let windows = line.windows(TAPS).skip(1);
        for (window, output) in windows.zip(output.chunks_exact_mut(self.ratio)) {
            // The first output sample is the input sample itself.
            let Some((same, between)) = output.split_first_mut() else { continue };
            *same = to_sample(window.get(TAPS / 2 - 1).copied().unwrap_or_default());
            for (taps, output) in self.phases.iter().zip(between) {
                *output = to_sample(dot(window, taps));
            }
        }
    }

    /// Raises the rate by the ratio divided by `part`: computes each sample number `part` of the output of [`Self::up`].
    fn up_part(&self, part: usize, line: &[f32], output: &mut [i16]) {
        for (n, output) in output.iter_mut().enumerate() {
            let (place, phase) = (n * part / self.ratio, n * part % self.ratio);
            let Some(window) = line.get(place + 1..place + 1 + TAPS) else { return };
            *output = match phase.checked_sub(1).and_then(|between| self.phases.get(between)) {
                None => to_sample(window.get(TAPS / 2 - 1).copied().unwrap_or_default()),
                Some(taps) => to_sample(dot(window, taps)),
            };
        }
    }

    /// Reduces the rate. `line` begins with the past samples, whose number is [`TAPS`] times the ratio of the rates.
    /// The new samples follow.
    fn down(&self, line: &[f32], output: &mut [i16]) {
        let windows = line.windows(self.whole.len()).skip(1).step_by(self.ratio);
        for (window, output) in windows.zip(output) {
            *output = to_sample(dot(window, &self.whole));
        }
    }
}

/// Returns the dot product of `samples` and `taps`. Both slices have the same length, which is a multiple of [`LANES`].
fn dot(samples: &[f32], taps: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (samples, _) = samples.as_chunks::<LANES>();
    let (taps, _) = taps.as_chunks::<LANES>();
    for (samples, taps) in samples.iter().zip(taps) {
        for ((sum, sample), tap) in sums.iter_mut().zip(samples).zip(taps) {
            *sum += sample * tap;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Rounds a value to a sample. Values outside the range become the nearest sample.
fn to_sample(value: f32) -> i16 {
    // A cast from float to integer saturates, and truncates towards zero.
    (value + 0.5_f32.copysign(value)) as i16
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// Returns the value of the Kaiser window at `place`. The window extends from -1 to 1.
fn kaiser(place: f64) -> f64 {
    bessel(KAISER * (1.0 - place * place).max(0.0).sqrt()) / bessel(KAISER)
}

/// Returns the modified Bessel function I0, computed as a series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1.0);
    while term > sum * 1e-12 {
        term *= (x / (2.0 * n)) * (x / (2.0 * n));
        sum += term;
        n += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use SampleRate::{Hz8000, Hz16000, Hz48000};

    const PAIRS: [(SampleRate, SampleRate); 6] = [
        (Hz8000, Hz16000),
        (Hz8000, Hz48000),
        (Hz16000, Hz48000),
        (Hz16000, Hz8000),
        (Hz48000, Hz8000),
        (Hz48000, Hz16000),
    ];
    const LOUD: f64 = 16_000.0;

    /// Returns 1 s of a sine.
    fn sine(hertz: f64, rate: SampleRate) -> Vec<i16> {
        let step = 2.0 * PI * hertz / f64::from(rate.hertz());
        (0..rate.hertz()).map(|n| ((f64::from(n) * step).sin() * LOUD).round() as i16).collect()
    }

    fn resampled(samples: &[i16], from: SampleRate, to: SampleRate) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to);
        let mut all = Vec::new();
        for frame in samples.chunks(from.frame()) {
            let mut output = vec![0; to.frame()];
            resampler.process(frame, &mut output);
            all.extend(output);
        }
        all
    }

    /// Returns two levels in dB. Both are measured without the first 100 ms of the samples. The first value is the
    /// level of the frequency `hertz`, and the second value is the level of all other frequencies. Both are relative to
    /// a sine of amplitude [`LOUD`].
    fn levels(samples: &[i16], hertz: f64, rate: SampleRate) -> (f64, f64) {
        let start = rate.hertz() as usize / 10;
        let step = 2.0 * PI * hertz / f64::from(rate.hertz());
        let (mut sine, mut cosine, mut power) = (0.0, 0.0, 0.0);
        for (n, sample) in samples.iter().enumerate().skip(start) {
            let (s, c) = (n as f64 * step).sin_cos();
            sine += f64::from(*sample) * s;
            cosine += f64::from(*sample) * c;
            power += f64::from(*sample).powi(2);
        }
        let count = (samples.len() - start) as f64;
        let tone = (sine * sine + cosine * cosine) * 2.0 / count;
        let full = LOUD * LOUD / 2.0 * count;
        (10.0 * (tone / full).log10(), 10.0 * ((power - tone).max(1e-3) / full).log10())
    }

    #[test]
    fn tones_of_the_pass_band_pass_within_a_fiftieth_of_a_decibel_and_their_images_are_60_db_down() {
        for (from, to) in PAIRS {
            let low = f64::from(from.min(to).hertz());
            for part in [0.01, 0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.425, 0.45] {
                // The frequency is rounded, so that the measured part contains whole periods.
                let hertz = (low * part / 10.0).round() * 10.0;
                let (tone, rest) = levels(&resampled(&sine(hertz, from), from, to), hertz, to);
                assert!(tone.abs() < 0.02, "{from:?} to {to:?}, {hertz} Hz: {tone} dB");
                assert!(rest < -60.0, "{from:?} to {to:?}, {hertz} Hz: {rest} dB of images");
            }
        }
    }

    #[test]
    fn a_tone_at_16_khz_is_the_same_tone_at_24_khz() {
        for hertz in [300.0, 1_000.0, 3_400.0, 6_800.0] {
            let mut resampler = Resampler::from_16000_to_24000();
            let mut all = Vec::new();
            for frame in sine(hertz, SampleRate::Hz16000).chunks(320) {
                let mut output = [0; 480];
                resampler.process(frame, &mut output);
                all.extend(output);
            }
            // Read as 48 kHz, a tone at 24 kHz has twice its frequency.
            let (tone, rest) = levels(&all, 2.0 * hertz, SampleRate::Hz48000);
            assert!(tone.abs() < 0.05 && rest < -55.0, "{hertz} Hz: {tone} dB, {rest} dB");
        }
    }

    #[test]
    fn tones_that_the_lower_rate_cannot_hold_are_60_db_down() {
        for (from, to) in PAIRS.into_iter().filter(|(from, to)| from > to) {
            let low = f64::from(to.hertz());
            let mut hertz = low * 0.55;
            while hertz < f64::from(from.hertz()) / 2.0 {
                let (_, all) = levels(&resampled(&sine(hertz, from), from, to), 0.0, to);
                assert!(all < -60.0, "{from:?} to {to:?}, {hertz} Hz: {all} dB");
                hertz += low * 0.05;
            }
        }
    }

    #[test]
    fn frames_of_any_length_are_resampled_without_a_discontinuity() {
        for (from, to) in PAIRS {
            let input = sine(1_001.0, from);
            let whole = resampled(&input, from, to);
            let mut resampler = Resampler::new(from, to);
            let (mut read, mut written, mut turn) = (0, 0, 0);
            let mut all = vec![0; whole.len()];
            while read < input.len() {
                // The frames have 1 to 20 ms.
                let milliseconds = [1, 20, 3, 10, 7, 2][turn % 6];
                let take = (milliseconds * from.hertz() as usize / 1_000).min(input.len() - read);
                let give = take * to.hertz() as usize / from.hertz() as usize;
                resampler.process(&input[read..read + take], &mut all[written..written + give]);
                (read, written, turn) = (read + take, written + give, turn + 1);
            }
            assert_eq!(all, whole, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn the_stated_delay_is_exact_and_upsampling_keeps_every_sample() {
        for (from, to) in PAIRS {
            let mut click = vec![0; from.frame() * 4];
            click[480] = 20_000;
            let out = resampled(&click, from, to);
            let loudest = (0..out.len()).max_by_key(|n| out[*n]).unwrap();
            let at = 480 * to.hertz() as usize / from.hertz() as usize;
            assert_eq!(loudest - at, Resampler::new(from, to).delay(), "{from:?} to {to:?}");
        }
        let input = sine(333.0, Hz8000);
        let out = resampled(&input, Hz8000, Hz48000);
        for (n, sample) in input.iter().enumerate().take(7_000) {
            assert_eq!(out[n * 6 + Resampler::new(Hz8000, Hz48000).delay()], *sample);
        }
    }

    #[test]
    fn tones_at_22050_hz_are_resampled_to_48000_hz_without_discontinuities_or_images() {
        for hertz in [50.0, 440.0, 1_000.0, 3_400.0, 7_000.0, 9_900.0] {
            let step = 2.0 * PI * hertz / 22_050.0;
            let input: Vec<i16> = (0..22_050).map(|n| ((f64::from(n) * step).sin() * LOUD).round() as i16).collect();
            let mut resampler = Resampler::from_22050_to_48000();
            let mut all = Vec::new();
            for frame in input.chunks(441) {
                let mut output = [0; 960];
                resampler.process(frame, &mut output);
                all.extend(output);
            }
            let (tone, rest) = levels(&all, hertz, Hz48000);
            assert!(tone.abs() < 0.02, "{hertz} Hz: {tone} dB");
            assert!(rest < -60.0, "{hertz} Hz: {rest} dB of images");
        }
        let mut click = [0; 441];
        click[147] = 20_000;
        let mut output = [0; 960];
        let mut resampler = Resampler::from_22050_to_48000();
        resampler.process(&click, &mut output);
        let loudest = (0..output.len()).max_by_key(|n| output[*n]).unwrap();
        assert!(loudest.abs_diff(320 + resampler.delay()) <= 1, "{loudest}");
    }

    #[test]
    fn full_scale_saturates_instead_of_wrapping() {
        let square: Vec<i16> = (0..8_000).map(|n| if n / 8 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let out = resampled(&square, Hz8000, Hz48000);
        // In the output, each input sample keeps its sign. The samples between two input samples of the same sign have
        // this sign too.
        for (n, pair) in square.windows(2).enumerate().take(7_000).filter(|(_, pair)| pair[0] == pair[1]) {
            let between = &out[n * 6 + 120..=n * 6 + 126];
            assert!(between.iter().all(|sample| (*sample > 0) == (pair[0] > 0)), "{n}: {between:?}");
        }
    }

    #[test]
    fn the_same_rate_is_a_copy_without_delay() {
        let input = sine(1_000.0, Hz16000);
        assert_eq!(resampled(&input, Hz16000, Hz16000), input);
        assert_eq!(Resampler::new(Hz16000, Hz16000).delay(), 0);
    }
}
