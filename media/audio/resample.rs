//! Converts audio with any sample rate to 8,000 Hz with a windowed-sinc filter. Each file is converted once, when it is
//! read.

/// Half the length of the filter, in zero crossings of the sinc function.
const LOBES: f32 = 16.0;

/// Resamples one channel from `rate` (at least 1,000 Hz) to 8,000 Hz.
pub(super) fn to_8000(samples: &[i16], rate: u32) -> Vec<i16> {
    if rate == 8_000 || samples.is_empty() {
        return samples.to_vec();
    }
    let step = f64::from(rate) / 8_000.0;
    let length = (samples.len() as f64 / step) as usize;
    // When the rate is reduced, the filter keeps the frequencies below 4 kHz, except the highest frequencies, which
    // form a margin for the slope of the filter. When the rate is raised, the filter keeps all frequencies.
    let cutoff = if rate > 8_000 { (1.0 / step as f32) * 0.94 } else { 0.94 };
    let reach = (LOBES / cutoff).ceil() as i64;
    // 256 filter positions between two input samples are precise enough for 16 bits.
    let table: Vec<f32> =
        (0..=(reach as usize * 256)).map(|place| weight(place as f32 / 256.0, cutoff, reach as f32)).collect();
    let mut out = Vec::with_capacity(length);
    for index in 0..length {
        let centre = index as f64 * step;
        let whole = centre.floor() as i64;
        let part = (centre - whole as f64) as f32;
        let (mut sum, mut norm) = (0.0f32, 0.0f32);
        for offset in (1 - reach)..=reach {
            let distance = (offset as f32 - part).abs();
            let Some(weight) = table.get((distance * 256.0) as usize) else { continue };
            norm += weight;
            let Some(sample) = usize::try_from(whole + offset).ok().and_then(|at| samples.get(at)) else { continue };
            sum += f32::from(*sample) * weight;
        }
        // A cast from float to integer saturates.
        out.push((sum / norm).round() as i16);
    }
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
