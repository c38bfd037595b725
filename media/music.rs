//! Hold music: the beginning of J. S. Bach's prelude in C (BWV 846), with a plucked sound. The music is generated at
//! the first use, so the server needs no music file.

use std::f32::consts::TAU;
use std::sync::{Arc, OnceLock};

use crate::Audio;

const RATE: usize = 8_000;
/// The number of samples in a sixteenth note, at about 70 quarter notes a minute.
const SIXTEENTH: usize = RATE * 214 / 1_000;
/// The number of samples for which a note sounds.
const RINGS: usize = RATE * 3 / 2;
/// The five notes of each bar, in semitones above middle C. `FIGURE` plays the last three notes twice.
const BARS: [[i8; 5]; 11] = [
    [0, 4, 7, 12, 16],
    [0, 2, 9, 14, 17],
    [-1, 2, 7, 14, 17],
    [0, 4, 7, 12, 16],
    [0, 4, 9, 16, 21],
    [0, 2, 6, 9, 14],
    [-1, 2, 7, 14, 19],
    [-1, 0, 4, 7, 12],
    [-3, 0, 4, 7, 12],
    [-10, -3, 2, 6, 12],
    [-5, -1, 2, 7, 11],
];
/// The order in which the notes of a bar are played. Each bar has this order twice.
const FIGURE: [usize; 8] = [0, 1, 2, 3, 4, 2, 3, 4];

/// Returns 38 s of music (8,000 Hz, mono), which can be repeated without an audible break.
pub fn hold_music() -> Arc<Audio> {
    static MUSIC: OnceLock<Arc<Audio>> = OnceLock::new();
    Arc::clone(MUSIC.get_or_init(|| Arc::new(Audio::new(played()))))
}

fn played() -> Vec<i16> {
    let notes = BARS.iter().flat_map(|bar| [FIGURE, FIGURE].concat().into_iter().filter_map(|which| bar.get(which)));
    let mut mix = vec![0.0_f32; BARS.len() * 2 * FIGURE.len() * SIXTEENTH];
    for (place, note) in notes.enumerate() {
        let frequency = 261.63 * (f32::from(*note) / 12.0).exp2();
        let step = TAU * frequency / RATE as f32;
        for sample in 0..RINGS {
            let time = sample as f32;
            let loudness = (-3.0 * time / RATE as f32).exp() * (time / 40.0).min(1.0);
            let phase = step * time;
            let string = phase.sin() + 0.4 * (2.0 * phase).sin() + 0.15 * (3.0 * phase).sin();
            // A note that still sounds at the end of the music continues at its start.
            let at = (place * SIXTEENTH + sample) % mix.len();
            if let Some(sum) = mix.get_mut(at) {
                *sum += 2_600.0 * loudness * string;
            }
        }
    }
    mix.into_iter().map(|sample| sample as i16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_music_is_never_silent_and_never_clipped() {
        let music = hold_music();
        assert_eq!(music.duration().as_secs(), 37);
        let loudest = music.samples().iter().map(|sample| sample.unsigned_abs()).max().unwrap();
        assert!((6_000..20_000).contains(&loudest), "{loudest}");
        for part in music.samples().chunks(RATE / 4) {
            assert!(part.iter().any(|sample| sample.unsigned_abs() > 500));
        }
    }
}
