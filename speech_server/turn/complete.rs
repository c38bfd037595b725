//! The end of a turn with smart-turn: has the caller finished, or only paused?

use std::path::Path;

use rten::NodeId;
use rten_tensor::NdTensor;

use crate::recognise::mel::{BANDS, HOP, LogMel, RATE};
use crate::voice::network::Network;

/// The length of the audio that the network hears, in samples (8 s).
const LENGTH: usize = 8 * RATE;
/// The number of frames of the features.
const FRAMES: usize = LENGTH / HOP;
/// The last frames reach so many samples beyond the end: there, the audio is mirrored.
const REACH: usize = 200;

/// The network of smart-turn. Several threads can use it at the same time.
pub struct TurnModel {
    network: Network,
    input: NodeId,
    output: NodeId,
    features: LogMel,
}

impl TurnModel {
    /// Loads the only file `.onnx` of a folder. Another network with the same input and output can take its place: the features of
    /// 8 s in, a probability out.
    ///
    /// # Errors
    /// The file is missing or is another network.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let network = Network::load(&crate::voice::network::find(folder)?)?;
        let (input, output) = network.ends(0, 0)?;
        Ok(Self { network, input, output, features: LogMel::new() })
    }

    /// Returns the probability (0.0 to 1.0) that the turn is complete at the end of this audio: the speech of the turn and the
    /// silence after it, at 16,000 Hz. Only the last 8 s count. Takes about 50 ms of one core.
    ///
    /// # Errors
    /// The network failed.
    pub fn complete(&self, audio: &[i16]) -> Result<f32, String> {
        let features = NdTensor::from_data([1, BANDS, FRAMES], features(&self.features, audio));
        let [output] = self.network.run(vec![(self.input, features.into())], [self.output])?;
        let probability = output.into_tensor::<f32>().and_then(|tensor| tensor.into_data().first().copied());
        probability
            .filter(|probability| probability.is_finite())
            .ok_or_else(|| "the network gave no probability".to_owned())
    }
}

/// The features of the last 8 s: 80 rows (bands) of 800 values. Shorter audio has zeros in front. The audio is scaled to the mean 0
/// and the variance 1 before.
fn features(mel: &LogMel, audio: &[i16]) -> Vec<f32> {
    let audio = audio.get(audio.len().saturating_sub(LENGTH)..).unwrap_or_default();
    let mut samples = vec![0.0; LENGTH - audio.len()];
    samples.extend(audio.iter().map(|sample| f32::from(*sample) / 32_768.0));
    let mean = samples.iter().copied().map(f64::from).sum::<f64>() / LENGTH as f64;
    let variance = samples.iter().map(|sample| (f64::from(*sample) - mean).powi(2)).sum::<f64>() / LENGTH as f64;
    let scale = 1.0 / (variance + 1e-7).sqrt();
    for sample in &mut samples {
        *sample = ((f64::from(*sample) - mean) * scale) as f32;
    }
    let mirrored: Vec<f32> = samples.iter().rev().skip(1).take(REACH).copied().collect();
    samples.extend(mirrored);
    let by_frame = mel.whisper(&samples, FRAMES);
    let mut by_band = Vec::with_capacity(by_frame.len());
    for band in 0..BANDS {
        by_band.extend(by_frame.iter().skip(band).step_by(BANDS));
    }
    by_band
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_are_those_of_the_end_with_zeros_in_front() {
        let mel = LogMel::new();
        let tone: Vec<i16> = (0..LENGTH + 7).map(|n| ((n as f32 * 0.3).sin() * 9000.0) as i16).collect();
        assert_eq!(features(&mel, &tone), features(&mel, &tone[7..]));
        let short = features(&mel, &tone[..RATE]);
        assert_eq!(short.len(), BANDS * FRAMES);
        // The first 7 s are silent, so they have the lowest value.
        let lowest = short.iter().copied().fold(f32::MAX, f32::min);
        assert!(short[40 * FRAMES..40 * FRAMES + 600].iter().all(|value| *value - lowest < 0.3));
    }

    #[test]
    fn the_features_equal_those_of_the_reference() {
        // From `compute_whisper_log_mel_features` of pipecat-ai 1.14.0: band, frame, value.
        let expected = [
            (0, 0, 0.86217),
            (0, 499, 0.96273),
            (0, 500, 1.25179),
            (3, 510, 0.91232),
            (10, 555, 1.16212),
            (20, 600, 1.28135),
            (40, 650, 1.31456),
            (60, 700, 1.37745),
            (79, 750, 1.28672),
            (5, 797, 1.22416),
            (30, 798, 1.20895),
            (50, 799, 1.22909),
            (79, 799, 1.31579),
        ];
        let found = features(&LogMel::new(), &super::super::testing::reference_audio(48_000));
        for (band, frame, value) in expected {
            let found = found[band * FRAMES + frame];
            assert!((found - value).abs() < 5e-5, "band {band}, frame {frame}: {found} instead of {value}");
        }
        let mean = found.iter().copied().map(f64::from).sum::<f64>() / found.len() as f64;
        assert!((mean - 0.145_283).abs() < 1e-5, "{mean}");
    }

    #[test]
    fn audio_of_any_length_has_features() {
        let mel = LogMel::new();
        for length in [0, 1, RATE, LENGTH, 3 * LENGTH] {
            let found = features(&mel, &vec![100; length]);
            assert!(found.len() == BANDS * FRAMES && found.iter().all(|value| value.is_finite()), "{length}");
        }
    }
}
