//! A synthetic voice that the speech detector accepts. The voice is a pulse train through three changing formants. It
//! is divided into syllables.

use std::f32::consts::PI;

/// A speaker at 8,000 Hz. The same seed gives the same audio.
pub(crate) struct Voice {
    random: u32,
    /// The pitch in Hz.
    pitch: f32,
    resonators: [[f32; 2]; 3],
    phase: f32,
}

/// The first, second and third formant of five vowels, in Hz.
const VOWELS: [[f32; 3]; 5] = [
    [730.0, 1_090.0, 2_440.0],
    [530.0, 1_840.0, 2_480.0],
    [390.0, 1_990.0, 2_550.0],
    [570.0, 840.0, 2_410.0],
    [440.0, 1_020.0, 2_240.0],
];

impl Voice {
    pub(crate) fn new(seed: u32) -> Voice {
        let mut voice =
            Voice { random: seed.wrapping_mul(2_654_435_761) | 1, pitch: 0.0, resonators: [[0.0; 2]; 3], phase: 0.0 };
        voice.pitch = 95.0 + 110.0 * voice.chance();
        voice
    }

    /// Returns a random number from 0 to 1.
    pub(crate) fn chance(&mut self) -> f32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 8) as f32 / 16_777_216.0
    }

    /// Returns words without a pause. Each syllable lasts 120 to 250 ms and has a level of about -20 dBov.
    pub(crate) fn say(&mut self, milliseconds: usize) -> Vec<i16> {
        let mut speech = Vec::new();
        while speech.len() < milliseconds * 8 {
            let length = ((120.0 + 130.0 * self.chance()) * 8.0) as usize;
            let left = milliseconds * 8 - speech.len();
            // The last syllable must not be too short.
            let length = if left < length + 800 { left } else { length };
            self.syllable(length, &mut speech);
        }
        speech
    }

    fn syllable(&mut self, length: usize, speech: &mut Vec<i16>) {
        let from = VOWELS[(self.chance() * 4.99) as usize];
        let to = VOWELS[(self.chance() * 4.99) as usize];
        let hiss = if self.chance() < 0.4 { length / 5 } else { 0 };
        let rise = 0.9 + 0.25 * self.chance();
        for at in 0..length {
            let place = at as f32 / length as f32;
            let pitch = self.pitch * (1.0 + (rise - 1.0) * place) * (1.0 + 0.02 * (self.chance() - 0.5));
            self.phase += pitch / 8_000.0;
            let mut pulse = 0.0;
            if self.phase >= 1.0 {
                self.phase -= 1.0;
                pulse = 1.0;
            }
            let noise = self.chance() - 0.5;
            let source = if at < hiss { noise * 0.6 } else { pulse * 6.0 + noise * 0.04 };
            let mut out = 0.0;
            for (index, state) in self.resonators.iter_mut().enumerate() {
                let hertz = from[index] + (to[index] - from[index]) * place;
                let radius = (-PI * [70.0, 100.0, 160.0][index] / 8_000.0).exp();
                let value =
                    source + 2.0 * radius * (2.0 * PI * hertz / 8_000.0).cos() * state[0] - radius * radius * state[1];
                *state = [value, state[0]];
                out += value * [1.0, 0.55, 0.3][index];
            }
            // The envelope rises for 15 ms and falls for 30 ms.
            let envelope = (at as f32 / 120.0).min((length - at) as f32 / 240.0).min(1.0);
            speech.push((out * envelope * 900.0).clamp(-30_000.0, 30_000.0) as i16);
        }
    }

    /// Returns a pause that contains noise. `level` is the level of the noise in dBov.
    pub(crate) fn silence(&mut self, milliseconds: usize, level: f32) -> Vec<i16> {
        let amplitude = 32_768.0 * 10.0f32.powf(level / 20.0) * 12.0f32.sqrt();
        (0..milliseconds * 8).map(|_| ((self.chance() - 0.5) * amplitude).round() as i16).collect()
    }
}

/// Returns a tone with the frequency `hertz`, sampled at 8,000 Hz. `level` is the level of the tone in dBov. The tone
/// fades in for 5 ms and fades out for 5 ms.
pub(crate) fn tone(hertz: f32, milliseconds: usize, level: f32) -> Vec<i16> {
    let (length, amplitude) = (milliseconds * 8, 32_768.0 * 10.0f32.powf(level / 20.0) * 2.0f32.sqrt());
    (0..length)
        .map(|at| {
            let envelope = (at as f32 / 40.0).min((length - at) as f32 / 40.0).min(1.0);
            ((2.0 * PI * hertz * at as f32 / 8_000.0).sin() * amplitude * envelope) as i16
        })
        .collect()
}
