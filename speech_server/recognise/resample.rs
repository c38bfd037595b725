//! Changes the sampling rate of audio to 16 kHz.

use super::mel::RATE;

/// Zero crossings of the filter on each side, at the lower of both rates. With 24, the band up to 93 % of its half is kept and what
/// mirrors into it is 70 dB lower.
const CROSSINGS: usize = 24;
/// The shape of the filter's window (Kaiser).
const BETA: f64 = 8.0;

/// Converts samples of `rate` Hz to 16 kHz, in the range -1.0 to 1.0. A rate below 1,000 Hz or above 192,000 Hz gives no samples.
pub fn to_16_khz(samples: &[i16], rate: u32) -> Vec<f32> {
    let scaled = samples.iter().map(|sample| f32::from(*sample) / 32_768.0);
    if !(1_000..=192_000).contains(&rate) {
        return Vec::new();
    }
    let rate = rate as usize;
    if rate == RATE {
        return scaled.collect();
    }
    let divisor = greatest_divisor(rate, RATE);
    let (up, down) = (RATE / divisor, rate / divisor);
    // The filter at `up` times the rate of the input, one phase for each position of an output sample between input samples.
    let cutoff = (RATE as f64 / rate as f64).min(1.0) * 0.96;
    let reach = (CROSSINGS as f64 / cutoff).ceil() as usize;
    let phases: Vec<Vec<f32>> = (0..up).map(|phase| taps(phase as f64 / up as f64, cutoff, reach)).collect();
    let scaled: Vec<f32> =
        std::iter::repeat_n(0.0, reach).chain(scaled).chain(std::iter::repeat_n(0.0, reach + 1)).collect();
    let count = samples.len() * up / down;
    let mut out = Vec::with_capacity(count);
    for index in 0..count {
        let at = index * down;
        let (Some(window), Some(taps)) = (scaled.get(at / up..), phases.get(at % up)) else { break };
        out.push(window.iter().zip(taps).map(|(sample, tap)| sample * tap).sum());
    }
    out
}

/// The weights of the input samples around an output sample that is `fraction` of a sample after the sample `reach`.
fn taps(fraction: f64, cutoff: f64, reach: usize) -> Vec<f32> {
    let taps = (0..=2 * reach).map(|index| {
        let distance = index as f64 - reach as f64 - fraction;
        let part = distance / (reach as f64 + 1.0);
        let angle = std::f64::consts::PI * distance * cutoff;
        let sinc = if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle };
        sinc * cutoff * bessel(BETA * (1.0 - part * part).max(0.0).sqrt()) / bessel(BETA)
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

fn greatest_divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { greatest_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, frequency: f64) -> Vec<i16> {
        let step = std::f64::consts::TAU * frequency / f64::from(rate);
        (0..rate).map(|n| ((f64::from(n) * step).sin() * 16_384.0) as i16).collect()
    }

    /// The energy of a frequency, relative to a tone of half the full scale.
    fn energy(audio: &[f32], frequency: f64) -> f64 {
        let step = std::f64::consts::TAU * frequency / RATE as f64;
        let middle = &audio[2000..14_000];
        let sum = |shift: f64| -> f64 {
            middle.iter().enumerate().map(|(n, x)| f64::from(*x) * (n as f64 * step + shift).sin()).sum()
        };
        (sum(0.0).powi(2) + sum(std::f64::consts::FRAC_PI_2).powi(2)) / (0.25 * middle.len() as f64).powi(2)
    }

    #[test]
    fn a_tone_keeps_its_frequency_and_has_no_mirror() {
        for rate in [8_000, 22_050, 24_000, 44_100, 48_000] {
            let audio = to_16_khz(&tone(rate, 1_000.0), rate);
            assert_eq!(audio.len(), RATE, "{rate} Hz");
            assert!((energy(&audio, 1_000.0) - 1.0).abs() < 0.01, "{rate} Hz: {}", energy(&audio, 1_000.0));
        }
        let audio = to_16_khz(&tone(8_000, 3_400.0), 8_000);
        assert!((energy(&audio, 3_400.0) - 1.0).abs() < 0.02, "{}", energy(&audio, 3_400.0));
        assert!(energy(&audio, 4_600.0) < 1e-6, "{}", energy(&audio, 4_600.0));
    }

    #[test]
    fn odd_rates_and_no_samples_are_no_error() {
        assert!(
            to_16_khz(&[], 8_000).is_empty()
                && to_16_khz(&[1, 2], 0).is_empty()
                && to_16_khz(&[1], u32::MAX).is_empty()
        );
        assert_eq!(to_16_khz(&[1; 800], 16_000).len(), 800);
        assert_eq!(to_16_khz(&[1; 11_025], 11_025).len(), 16_000);
    }
}
