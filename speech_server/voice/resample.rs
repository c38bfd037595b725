//! Changes the sampling rate of speech.

/// The number of zero crossings of the filter on each side, at the lower of both rates.
const CROSSINGS: f64 = 24.0;
/// The end of the pass band, as a part of the lower Nyquist frequency.
const PASS: f64 = 0.95;

/// A converter of one rate to another. The filter is a windowed sinc (Blackman).
pub(super) struct Resampler {
    /// The output has `up` samples for `down` samples of the input.
    up: usize,
    down: usize,
    /// The taps of each of the `up` phases, from the oldest sample to the newest.
    phases: Vec<Vec<f32>>,
    /// The number of taps before the sample at the time of the output.
    reach: usize,
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

impl Resampler {
    /// A converter of `from` Hz to `to` Hz. `None` if both are equal. Both are at least 1.
    pub(super) fn new(from: u32, to: u32) -> Option<Self> {
        if from == to {
            return None;
        }
        let (from, to) = (from.max(1) as usize, to.max(1) as usize);
        let common = divisor(from, to);
        let (up, down) = (to / common, from / common);
        let cutoff = PASS * (to as f64 / from as f64).min(1.0);
        let width = CROSSINGS / cutoff;
        let reach = width.ceil() as usize;
        let phases = (0..up).map(|phase| taps(phase as f64 / up as f64, cutoff, width, reach)).collect();
        Some(Self { up, down, phases, reach })
    }

    /// Converts a whole piece of speech. There is silence before and after it.
    pub(super) fn convert(&self, input: &[f32]) -> Vec<f32> {
        let count = (input.len() * self.up).div_ceil(self.down);
        let mut padded = vec![0.0; self.reach];
        padded.extend_from_slice(input);
        padded.resize(input.len() + 2 * self.reach + 1, 0.0);
        let sample = |n: usize| {
            let at = n * self.down;
            let taps = self.phases.get(at % self.up)?;
            // In `padded`, this sample is the first that the taps need.
            let window = padded.get(at / self.up..)?;
            Some(taps.iter().zip(window).map(|(tap, sample)| tap * sample).sum())
        };
        (0..count).map(|n| sample(n).unwrap_or(0.0)).collect()
    }
}

/// The taps for an output at this fraction of a sample after a sample of the input.
fn taps(fraction: f64, cutoff: f64, width: f64, reach: usize) -> Vec<f32> {
    let tap = |n: usize| {
        let time = n as f64 - reach as f64 - fraction;
        if time.abs() >= width {
            return 0.0;
        }
        let angle = std::f64::consts::PI * time * cutoff;
        let sinc = if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle };
        let turn = std::f64::consts::PI * time / width;
        sinc * (0.42 + 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
    };
    let taps: Vec<f64> = (0..2 * reach + 1).map(tap).collect();
    // Each phase has the gain 1 for a constant.
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| (tap / sum) as f32).collect()
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

    #[test]
    fn a_tone_below_the_limit_stays_and_one_above_it_goes() {
        for to in [8_000, 16_000, 24_000, 48_000] {
            let resampler = Resampler::new(22_050, to).unwrap();
            let kept = resampler.convert(&tone(1_000.0, 22_050, 0.5));
            assert_eq!(kept.len(), (to / 2) as usize);
            assert!(level(&kept).abs() < 0.05, "{to}: {}", level(&kept));
            let expected = tone(1_000.0, to, 0.5);
            let middle = kept.len() / 4..kept.len() * 3 / 4;
            let error: Vec<f32> = middle.map(|n| kept[n] - expected[n]).collect();
            assert!(level(&error) < -60.0, "{to}: {}", level(&error));
        }
        let gone = Resampler::new(22_050, 8_000).unwrap().convert(&tone(4_800.0, 22_050, 0.5));
        assert!(level(&gone) < -60.0, "{}", level(&gone));
    }

    #[test]
    fn short_and_empty_inputs_are_converted() {
        let resampler = Resampler::new(22_050, 8_000).unwrap();
        assert!(resampler.convert(&[]).is_empty());
        assert_eq!(resampler.convert(&[0.5]).len(), 1);
        assert!(Resampler::new(8_000, 8_000).is_none());
    }
}
