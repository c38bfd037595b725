//! The networks as a whole: these tests run if `TANDEM_SPEECH_MODELS` has the networks.

use std::path::PathBuf;
use std::sync::Arc;

use tandem_test_support::{Needs, skip};

use super::*;

fn folder(name: &str) -> Option<PathBuf> {
    let models = std::env::var_os("TANDEM_SPEECH_MODELS").map(PathBuf::from);
    let folder = models.map(|models| models.join(name)).filter(|folder| folder.exists());
    if folder.is_none() {
        skip(Needs::Host("TANDEM_SPEECH_MODELS has no networks for turns"));
    }
    folder
}

/// Something like a voice: pulses with the frequency of a man's voice, through two resonances, with the rhythm of syllables.
fn voice_like(rate: u32, seconds: u32) -> Vec<i16> {
    let rate = rate as f32;
    let (mut one, mut other) = ([0.0_f32; 2], [0.0_f32; 2]);
    let mut phase = 0.0;
    let resonance = |state: &mut [f32; 2], input: f32, frequency: f32| {
        let radius = (-std::f32::consts::PI * 90.0 / rate).exp();
        let output = input + 2.0 * radius * (std::f32::consts::TAU * frequency / rate).cos() * state[0]
            - radius * radius * state[1];
        *state = [output, state[0]];
        output
    };
    let samples = (0..seconds * rate as u32).map(|n| {
        let time = n as f32 / rate;
        phase += (110.0 + 15.0 * (time * 5.0).sin()) / rate;
        let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
        phase -= pulse;
        let vowel = 500.0 + 200.0 * (time * 9.0).sin();
        let sound = resonance(&mut one, pulse, vowel) + resonance(&mut other, pulse, 3.0 * vowel);
        let syllable = (time * 13.0).sin().max(0.0).sqrt();
        (sound * syllable * 4_000.0).clamp(-30_000.0, 30_000.0) as i16
    });
    samples.collect()
}

#[test]
fn each_32_ms_have_a_probability_at_both_rates() {
    let Some(folder) = folder("silero") else { return };
    let silero = Arc::new(Silero::load(&folder).unwrap());
    assert!(Vad::new(&silero, 44_100).is_none());
    for rate in [8_000, 16_000] {
        let mut vad = Vad::new(&silero, rate).unwrap();
        // In uneven pieces, as they come from a socket.
        let silence = vec![0; rate as usize];
        let found: Vec<f32> = silence.chunks(100).flat_map(|piece| vad.push(piece).unwrap()).collect();
        assert_eq!(found.len(), 31);
        assert!(found.iter().all(|probability| (0.0..0.3).contains(probability)), "{rate} Hz: {found:?}");
        let speech = vad.push(&voice_like(rate, 2)).unwrap();
        let most = speech.iter().copied().fold(0.0, f32::max);
        assert!(most > 0.8, "{rate} Hz: {most}");
    }
}

#[test]
fn the_voice_activity_equals_that_of_the_reference() {
    let Some(folder) = folder("silero") else { return };
    let silero = Arc::new(Silero::load(&folder).unwrap());
    // From onnxruntime 1.32 with the same file.
    let of_8_khz = [0.01068, 0.02796, 0.02471, 0.01273, 0.01119, 0.01002, 0.00714, 0.00577, 0.00501, 0.00591];
    let of_16_khz = [0.00622, 0.01326, 0.01218, 0.01193, 0.0118, 0.02412, 0.01159, 0.02488, 0.01089, 0.00958];
    for (rate, window, expected) in [(8_000, 256, of_8_khz), (16_000, 512, of_16_khz)] {
        let found = Vad::new(&silero, rate).unwrap().push(&testing::reference_audio(10 * window)).unwrap();
        assert_eq!(found.len(), 10);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-5, "{rate} Hz: {found} instead of {expected}");
        }
    }
}

#[test]
fn the_end_of_a_turn_is_close_to_that_of_the_reference() {
    let Some(folder) = folder("smart-turn-v3.2") else { return };
    let model = TurnModel::load(&folder).unwrap();
    // onnxruntime gives 0.908. The network has weights of 8 bits: two settings of onnxruntime differ by up to 0.2 from each other.
    let found = model.complete(&testing::reference_audio(48_000)).unwrap();
    assert!((found - 0.908).abs() < 0.1, "{found}");
}

#[test]
fn a_turn_has_a_probability_for_audio_of_any_length() {
    let Some(folder) = folder("smart-turn-v3.2") else { return };
    let model = TurnModel::load(&folder).unwrap();
    for seconds in [0, 1, 9] {
        let probability = model.complete(&voice_like(16_000, seconds)).unwrap();
        assert!((0.0..=1.0).contains(&probability), "{seconds} s: {probability}");
    }
}
