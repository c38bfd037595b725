//! Converts audio with any sample rate to 8,000 Hz with a windowed-sinc filter.

/// Half the length of the filter, in zero crossings of the sinc function.
const LOBES: f32 = 16.0;
/// Number of filter positions between two input samples. This number is precise enough for 16 bits.
const POSITIONS: f32 = 256.0;

/// Converts a stream of samples to 8,000 Hz with a windowed-sinc filter.
#[derive(Debug)]
pub struct To8000 {
    /// Number of input samples for each output sample.
    step: f64,
    /// Number of input samples on each side that have an effect.
    reach: i64,
    table: Vec<f32>,
    /// The last input samples, and the number of samples before them.
    input: Vec<i16>,
    dropped: i64,
    /// Number of output samples so far.
    made: u64,
}

impl To8000 {
    /// Creates a converter from this rate, at least 1,000 Hz.
    pub fn new(rate: u32) -> Self {
        let step = f64::from(rate) / 8_000.0;
        // When the rate is reduced, the filter keeps the frequencies below 4 kHz, except the highest frequencies, which
        // form a margin for the slope of the filter. When the rate is raised, the filter keeps all frequencies.
        let cutoff = if rate > 8_000 { (1.0 / step as f32) * 0.94 } else { 0.94 };
        let reach = (LOBES / cutoff).ceil() as i64;
        let table = match rate {
            8_000 => Vec::new(),
            _ => (0..=reach * POSITIONS as i64)
                .map(|place| weight(place as f32 / POSITIONS, cutoff, reach as f32))
                .collect(),
        };
        Self { step, reach, table, input: Vec::new(), dropped: 0, made: 0 }
    }

    /// Adds input samples, and appends the output samples that are known now to `out`.
    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        if self.table.is_empty() {
            out.extend_from_slice(samples);
            return;
        }
        self.input.extend_from_slice(samples);
        let known = self.dropped + self.input.len() as i64;
        self.make(known - self.reach, out);
        let needed = (self.made as f64 * self.step).floor() as i64 - self.reach;
        let old = usize::try_from(needed - self.dropped).unwrap_or_default().min(self.input.len());
        self.input.drain(..old);
        self.dropped += old as i64;
    }

    /// Ends the input, and appends the last output samples to `out`.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        if !self.table.is_empty() {
            let length = self.dropped + self.input.len() as i64;
            self.make(length, out);
        }
    }

    /// Makes the output samples whose centre is before the input sample `until`.
    fn make(&mut self, until: i64, out: &mut Vec<i16>) {
        loop {
            let centre = self.made as f64 * self.step;
            let whole = centre.floor() as i64;
            if whole >= until {
                return;
            }
            let part = (centre - whole as f64) as f32;
            let (mut sum, mut norm) = (0.0f32, 0.0f32);
            for offset in (1 - self.reach)..=self.reach {
                let distance = (offset as f32 - part).abs();
                let Some(weight) = self.table.get((distance * POSITIONS) as usize) else { continue };
                norm += weight;
                let sample = usize::try_from(whole + offset - self.dropped).ok().and_then(|at| self.input.get(at));
                sum += sample.map_or(0.0, |sample| f32::from(*sample)) * weight;
            }
            out.push((sum / norm).round() as i16);
            self.made += 1;
        }
    }
}

/// Resamples one channel from `rate` (at least 1,000 Hz) to 8,000 Hz.
pub(super) fn to_8000(samples: &[i16], rate: u32) -> Vec<i16> {
    let mut converter = To8000::new(rate);
    let length = (samples.len() as f64 / converter.step) as usize;
    let mut out = Vec::with_capacity(length + 1);
    converter.push(samples, &mut out);
    converter.finish(&mut out);
    out.truncate(length);
    out
}

/// The sinc function with a Blackman window.
fn weight(distance: f32, cutoff: f32, reach: f32) -> f32 {
    use std::f32::consts::PI;
    if distance >= reach {
        return 0.0;
    }
    let x = PI * distance * cutoff;
    let sinc = if x.abs() < 1e-6 { 1.0 } else { x.sin() / x };
    let place = PI * distance / reach;
    sinc * (0.42 + 0.5 * place.cos() + 0.08 * (2.0 * place).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hertz: f32, rate: u32, seconds: f32) -> Vec<i16> {
        (0..(rate as f32 * seconds) as usize)
            .map(|at| ((at as f32 * hertz * std::f32::consts::TAU / rate as f32).sin() * 10_000.0) as i16)
            .collect()
    }

    fn level(samples: &[i16]) -> f32 {
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        (middle.iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>() / middle.len() as f32).sqrt()
    }

    #[test]
    fn speech_frequencies_pass_and_higher_frequencies_are_removed() {
        for rate in [11_025, 16_000, 22_050, 24_000, 44_100, 48_000] {
            let kept = to_8000(&sine(1_000.0, rate, 0.5), rate);
            assert!(kept.len().abs_diff(4_000) <= 1);
            assert!((level(&kept) / 7_071.0 - 1.0).abs() < 0.02, "{rate}: {}", level(&kept));
            let cut = to_8000(&sine(5_000.0, rate, 0.5), rate);
            assert!(level(&cut) < 71.0, "{rate}: {}", level(&cut));
        }
        let up = to_8000(&sine(1_000.0, 6_000, 0.5), 6_000);
        assert!((level(&up) / 7_071.0 - 1.0).abs() < 0.05);
    }
}
