//! The features that Whisper and smart-turn take: the logarithm of the energy in 80 bands, each 10 ms.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// The sampling rate of the audio, in Hz.
pub const RATE: usize = 16_000;
/// Distance of the frames, in samples (10 ms).
pub const HOP: usize = 160;
/// Number of bands.
pub const BANDS: usize = 80;
/// Length of a frame, in samples (25 ms).
const FRAME: usize = 400;
/// Number of bins of the spectrum of a frame.
const BINS: usize = FRAME / 2 + 1;

/// Computes the features. The value has the tables for this.
pub struct LogMel {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    /// Of each band: its first bin, and the weights from there.
    filters: Vec<(usize, Vec<f32>)>,
}

impl Default for LogMel {
    fn default() -> Self {
        Self::new()
    }
}

impl LogMel {
    /// Makes the tables.
    pub fn new() -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(FRAME);
        let turn = std::f64::consts::TAU / FRAME as f64;
        // The periodic window of Hann.
        let window = (0..FRAME).map(|n| (0.5 - 0.5 * (turn * n as f64).cos()) as f32).collect();
        Self { fft, window, filters: filters() }
    }

    /// Returns the energies of audio at 16 kHz, in the form of Whisper: `frames` rows of [`BANDS`] values. Audio that is shorter
    /// is followed by silence, and the rest of longer audio is not used.
    ///
    /// The values are logarithms to the base 10, at most 8 below the largest one, plus 4 and divided by 4.
    pub fn whisper(&self, audio: &[f32], frames: usize) -> Vec<f32> {
        let mut features = vec![-10.0; frames * BANDS];
        let mut samples = vec![0.0; FRAME];
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        for (index, row) in features.chunks_exact_mut(BANDS).enumerate() {
            // The frame is centred. Before the begin, the audio is mirrored; after the end there is silence.
            let begin = index as isize * HOP as isize - (FRAME / 2) as isize;
            if begin >= audio.len() as isize {
                break;
            }
            for (offset, (sample, weight)) in samples.iter_mut().zip(&self.window).enumerate() {
                let at = (begin + offset as isize).unsigned_abs();
                *sample = audio.get(at).copied().unwrap_or(0.0) * weight;
            }
            if self.fft.process_with_scratch(&mut samples, &mut spectrum, &mut scratch).is_err() {
                // The lengths are those of the plan, so this cannot happen.
                break;
            }
            for (value, (first, weights)) in row.iter_mut().zip(&self.filters) {
                let bins = spectrum.iter().skip(*first);
                let energy: f32 = bins.zip(weights).map(|(bin, weight)| bin.norm_sqr() * weight).sum();
                *value = energy.max(1e-10).log10();
            }
        }
        let largest = features.iter().copied().fold(f32::MIN, f32::max);
        for value in &mut features {
            *value = (value.max(largest - 8.0) + 4.0) / 4.0;
        }
        features
    }
}

/// The triangular filters on Slaney's mel scale, from 0 to 8,000 Hz. The area of each is the same.
fn filters() -> Vec<(usize, Vec<f32>)> {
    // Below 1,000 Hz the scale is linear, 3 mel for 200 Hz. Above, it is logarithmic: 27 mel for a factor of 6.4.
    let step = 6.4_f64.ln() / 27.0;
    let top = 15.0 + 8.0_f64.ln() / step;
    let hertz = |mel: f64| if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * ((mel - 15.0) * step).exp() };
    let edges: Vec<f64> = (0..BANDS + 2).map(|index| hertz(top * index as f64 / (BANDS + 1) as f64)).collect();
    let mut filters = Vec::with_capacity(BANDS);
    for edge in edges.windows(3) {
        let &[low, middle, high] = edge else { continue };
        let weight = |bin: usize| {
            let frequency = bin as f64 * RATE as f64 / FRAME as f64;
            let triangle = ((frequency - low) / (middle - low)).min((high - frequency) / (high - middle)).max(0.0);
            (triangle * 2.0 / (high - low)) as f32
        };
        let first = (0..BINS).find(|bin| weight(*bin) > 0.0).unwrap_or(0);
        let weights = (first..BINS).map(weight).take_while(|weight| *weight > 0.0).collect();
        filters.push((first, weights));
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_those_of_the_published_table() {
        // Values of Whisper's `mel_filters.npz`: row, bin, weight.
        let filters = filters();
        let at = |band: usize, bin: usize| {
            let (first, weights) = &filters[band];
            bin.checked_sub(*first).and_then(|offset| weights.get(offset)).copied().unwrap_or(0.0)
        };
        for (band, bin, weight) in
            [(0, 1, 0.024_862_6), (0, 2, 0.0), (1, 2, 0.022_871), (2, 3, 0.020_879), (79, 200, 0.0)]
        {
            assert!((at(band, bin) - weight).abs() < 1e-4, "band {band}, bin {bin}: {}", at(band, bin));
        }
        assert_eq!(filters.len(), BANDS);
    }

    #[test]
    fn silence_has_the_lowest_value_everywhere() {
        let features = LogMel::new().whisper(&[0.0; 1600], 20);
        assert_eq!(features.len(), 20 * BANDS);
        assert!(features.iter().all(|value| (*value - -1.5).abs() < 1e-6));
    }

    #[test]
    fn a_tone_is_in_the_band_of_its_frequency_and_ends_with_the_audio() {
        let tone: Vec<f32> =
            (0..RATE / 2).map(|n| (std::f32::consts::TAU * 1000.0 * n as f32 / RATE as f32).sin() * 0.5).collect();
        let features = LogMel::new().whisper(&tone, 100);
        let loudest = |row: usize| {
            let row = &features[row * BANDS..(row + 1) * BANDS];
            (0..BANDS).max_by(|one, other| row[*one].total_cmp(&row[*other])).unwrap()
        };
        // 1,000 Hz is 15 mel of 45.2 mel: band 15 / 45.2 * 81 - 1 = 25.9.
        assert!((25..=26).contains(&loudest(20)), "{}", loudest(20));
        let floor = features[70 * BANDS];
        assert!(features[60 * BANDS..].iter().all(|value| *value == floor));
    }
}
