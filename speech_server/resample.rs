//! Changes the sampling rate of speech.

/// Zero crossings of the filter on each side, at the lower of both rates. With 24, the band up to 93 % of its half is kept and what
/// mirrors into it is 70 dB lower.
const CROSSINGS: f64 = 24.0;
/// The middle of the filter's slope, as a part of the lower Nyquist frequency.
const CUTOFF: f64 = 0.96;
/// The shape of the filter's window (Kaiser).
const BETA: f64 = 8.0;
/// Maximum number of positions between two samples of the input. It is enough for all usual rates. With more, an odd rate such as
/// 47,999 Hz would take seconds and tens of MB.
const MAX_PHASES: usize = 1024;

/// A converter of one rate to another. The filter is a windowed sinc.
pub(crate) struct Resampler {
    /// The output has `up` samples for `down` samples of the input.
    up: usize,
    down: usize,
    /// The weights of the input samples for each position of an output sample between two input samples.
    phases: Vec<Vec<f32>>,
    /// The number of weights before the sample at the time of the output.
    reach: usize,
}

impl Resampler {
    /// A converter of `from` Hz to `to` Hz. `None` if both are equal. Both are at least 1,000.
    pub(crate) fn new(from: u32, to: u32) -> Option<Self> {
        if from == to {
            return None;
        }
        let (from, to) = (from.max(1_000) as usize, to.max(1_000) as usize);
        let common = divisor(from, to);
        let (up, down) = (to / common, from / common);
        let cutoff = CUTOFF * (to as f64 / from as f64).min(1.0);
        let reach = (CROSSINGS / cutoff).ceil() as usize;
        let count = up.min(MAX_PHASES);
        let phases = (0..count).map(|phase| taps(phase as f64 / count as f64, cutoff, reach)).collect();
        Some(Self { up, down, phases, reach })
    }

    /// Converts a whole piece of speech. There is silence before and after it.
    pub(crate) fn convert(&self, input: &[f32]) -> Vec<f32> {
        let count = (input.len() * self.up).div_ceil(self.down);
        let mut padded = vec![0.0; self.reach];
        padded.extend_from_slice(input);
        padded.resize(input.len() + 2 * self.reach + 1, 0.0);
        let sample = |n: usize| {
            let at = n * self.down;
            let taps = self.phases.get(at % self.up * self.phases.len() / self.up)?;
            // In `padded`, this sample is the first that the taps need.
            let window = padded.get(at / self.up..)?;
            Some(window.iter().zip(taps).map(|(sample, tap)| sample * tap).sum())
        };
        (0..count).map(|n| sample(n).unwrap_or(0.0)).collect()
    }
}

/// The weights of the input samples around an output sample that is `fraction` of a sample after the sample `reach`.
fn taps(fraction: f64, cutoff: f64, reach: usize) -> Vec<f32> {
    let taps = (0..=2 * reach).map(|index| {
        let distance = index as f64 - reach as f64 - fraction;
        let part = distance / (reach as f64 + 1.0);
        let angle = std::f64::consts::PI * distance * cutoff;
        let sinc = if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle };
        sinc * bessel(BETA * (1.0 - part * part).max(0.0).sqrt())
    });
    let taps: Vec<f64> = taps.collect();
    // Without this, a constant signal would not keep its value exactly.
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| (tap / sum) as f32).collect()
}

/// The modified Bessel function of order 0.
fn bessel(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..40 {
        term *= (x / 2.0 / f64::from(n)).powi(2);
        sum += term;
    }
    sum
}

fn divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency: f64, rate: u32, seconds: f64) -> Vec<f32> {
        let step = std::f64::consts::TAU * frequency / f64::from(rate);
        (0..(seconds * f64::from(rate)) as u32).map(|n| (f64::from(n) * step).sin() as f32).collect()
    }

    /// The level without the beginning and the end, relative to a tone of full scale, in dB.
    fn level(samples: &[f32]) -> f64 {
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        let power = middle.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / middle.len() as f64;
        10.0 * (2.0 * power).log10()
    }

    /// The level of the difference to the tone that the output must be, in dB.
    fn error(frequency: f64, from: u32, to: u32) -> f64 {
        let found = Resampler::new(from, to).unwrap().convert(&tone(frequency, from, 0.5));
        assert_eq!(found.len(), (to / 2) as usize, "{from} Hz to {to} Hz");
        let difference: Vec<f32> =
            found.iter().zip(tone(frequency, to, 0.5)).map(|(found, expected)| found - expected).collect();
        level(&difference)
    }

    #[test]
    fn a_tone_below_the_limit_stays_and_one_above_it_goes() {
        for to in [8_000, 16_000, 24_000, 48_000] {
            assert!(error(1_000.0, 22_050, to) < -60.0, "{to}: {}", error(1_000.0, 22_050, to));
        }
        for from in [8_000, 24_000, 44_100, 48_000] {
            assert!(error(1_000.0, from, 16_000) < -60.0, "{from}: {}", error(1_000.0, from, 16_000));
        }
        assert!(error(3_400.0, 8_000, 16_000) < -40.0, "{}", error(3_400.0, 8_000, 16_000));
        let gone = Resampler::new(22_050, 8_000).unwrap().convert(&tone(4_800.0, 22_050, 0.5));
        assert!(level(&gone) < -60.0, "{}", level(&gone));
    }

    #[test]
    fn odd_rates_have_few_positions_and_are_still_converted() {
        assert_eq!(Resampler::new(191_999, 16_000).unwrap().phases.len(), MAX_PHASES);
        assert!(error(300.0, 22_050, 47_998) < -40.0, "{}", error(300.0, 22_050, 47_998));
    }

    #[test]
    fn short_and_empty_inputs_are_converted() {
        let resampler = Resampler::new(22_050, 8_000).unwrap();
        assert!(resampler.convert(&[]).is_empty());
        assert_eq!(resampler.convert(&[0.5]).len(), 1);
        assert!(Resampler::new(8_000, 8_000).is_none());
    }
}
