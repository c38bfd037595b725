//! Helpers for the tests of the codecs: signals, test files from outside the repository, and a measure of fidelity.

use std::f64::consts::TAU;
use std::path::Path;

/// Reads a test vector of the ITU or a file with recorded speech. If the file is missing, prints a message and returns
/// `None`.
pub(crate) fn shared(name: &str) -> Option<Vec<u8>> {
    let octets = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora").join(name)).ok();
    if octets.is_none() {
        tandem_test_support::skip(tandem_test_support::Needs::Shared(&format!("corpora/{name}")));
    }
    octets
}

/// Converts little-endian octets to samples.
pub(crate) fn samples(octets: &[u8]) -> Vec<i16> {
    octets.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Samples of a recorded voice at 16,000 Hz, or `None` if the file is missing.
pub(crate) fn recorded_voice() -> Option<Vec<i16>> {
    Some(samples(&shared("audio/short_wb_voice.wav")?[44..]))
}

/// Pseudo-random numbers, the same in each run.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub(crate) fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Returns 2 s of a synthetic voice. The pitch glides from 120 to 180 Hz. The overtones reach up to 3.4 kHz and are
/// strongest near two formants. The voice has syllables and breath noise.
pub(crate) fn voice(hertz: u32) -> Vec<i16> {
    let mut noise = Noise(1);
    let mut phase = 0.0;
    (0..hertz * 2)
        .map(|n| {
            let seconds = f64::from(n) / f64::from(hertz);
            let pitch = 150.0 + 30.0 * (seconds * 2.0).sin();
            phase += pitch / f64::from(hertz);
            let voiced: f64 = (1..=18)
                .map(|overtone| {
                    let frequency = f64::from(overtone) * pitch;
                    let formant = |at: f64| 1.0 / (1.0 + ((frequency - at) / 150.0).powi(2));
                    (TAU * phase * f64::from(overtone)).sin() * (formant(500.0) + 0.5 * formant(1_500.0) + 0.02)
                })
                .sum();
            let syllable = (TAU * 2.0 * seconds).sin().max(0.0);
            let breath = f64::from(noise.next()) / f64::from(u32::MAX) - 0.5;
            (5_000.0 * syllable * voiced + 60.0 * breath) as i16
        })
        .collect()
}

/// Compares `decoded` with `original` at the best lag of at most `max_lag` samples. Returns two values: the level of `decoded`
/// in dB relative to the difference between `decoded` and `original`, and the lag in samples.
pub(crate) fn fidelity(original: &[i16], decoded: &[i16], max_lag: usize) -> (f64, usize) {
    (0..=max_lag)
        .map(|lag| {
            let pairs = original.iter().zip(&decoded[lag..]);
            let (mut signal, mut difference) = (0.0, 0.0);
            for (original, decoded) in pairs {
                signal += f64::from(*original).powi(2);
                difference += (f64::from(*original) - f64::from(*decoded)).powi(2);
            }
            (10.0 * (signal / f64::max(difference, 1.0)).log10(), lag)
        })
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .unwrap()
}
