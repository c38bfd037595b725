use super::*;

/// A generator of pseudo-random numbers from -1 to 1.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / f32::from(1_u16 << 12) / 2_048.0 - 1.0
    }
}

/// Makes a waveform of `ms` with noise at `noise` dBov, and a sound in each of these times.
fn waveform(ms: usize, noise: Option<f32>, sounds: &[(usize, usize, Shape)]) -> Vec<i16> {
    let mut random = Noise(7);
    let amplitude = noise.map_or(0.0, |level| 32_768.0 * 10_f32.powf(level / 20.0) * 3_f32.sqrt());
    let sample = |at: usize| -> f32 {
        let time = at * 1_000 / RATE;
        let voice = sounds.iter().find(|(from, to, _)| (*from..*to).contains(&time));
        voice.map_or(0.0, |(from, to, shape)| shape.sample(at - from * RATE / 1_000, (to - from) * RATE / 1_000))
    };
    (0..ms * RATE / 1_000).map(|at| (sample(at) + amplitude * random.next()) as i16).collect()
}

#[derive(Clone, Copy)]
enum Shape {
    /// A buzz of 110 Hz with its harmonics, as a deep voice has. The level is constant.
    Hard,
    /// The same, but the level rises for 60 ms and falls for 60 ms.
    Soft,
    /// A tone of 800 Hz.
    Tone,
    /// Hissing: noise without a pitch.
    Hiss,
    /// A buzz that stops for 50 ms in every 300 ms, as a plosive does.
    Plosive,
}

impl Shape {
    fn sample(self, at: usize, length: usize) -> f32 {
        let time = at as f32 / RATE as f32;
        let wave = |hertz: f32| (std::f32::consts::TAU * hertz * time).sin();
        let buzz = || (1..12_u8).map(|order| wave(110.0 * f32::from(order)) / f32::from(order)).sum::<f32>() * 3_000.0;
        match self {
            Self::Hard => buzz(),
            Self::Soft => {
                let ramp = 60 * RATE / 1_000;
                buzz() * (at.min(length - at) as f32 / ramp as f32).min(1.0)
            }
            Self::Tone => wave(800.0) * 6_000.0,
            Self::Hiss => Noise((at as u32).wrapping_mul(2_654_435_761)).next() * 2_000.0,
            Self::Plosive if at % (RATE * 3 / 10) >= RATE / 4 => 0.0,
            Self::Plosive => buzz(),
        }
    }
}

/// Checks that exactly these sounds are found, each time with a tolerance in ms.
#[track_caller]
fn finds(samples: &[i16], expected: &[(usize, usize)], tolerance: usize) {
    let found = sounds(samples);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (sound, (began, ended)) in found.iter().zip(expected) {
        let is_near = |one: usize, other: usize| one.abs_diff(other) <= tolerance;
        assert!(is_near(sound.began, *began) && is_near(sound.ended, *ended), "{sound:?}, expected {began} to {ended}");
    }
}

#[test]
fn every_kind_of_voice_is_found_on_a_silent_line_to_10_ms() {
    for shape in [Shape::Hard, Shape::Tone, Shape::Hiss, Shape::Plosive] {
        let samples = waveform(6_000, None, &[(1_000, 2_000, shape), (3_503, 4_203, shape)]);
        finds(&samples, &[(1_000, 2_000), (3_503, 4_203)], 10);
    }
}

#[test]
fn a_soft_onset_is_found_to_15_ms_on_a_silent_line_and_to_40_ms_on_a_noisy_line() {
    let sounds = [(1_000, 2_000, Shape::Soft), (3_500, 4_500, Shape::Soft)];
    finds(&waveform(6_000, None, &sounds), &[(1_000, 2_000), (3_500, 4_500)], 15);
    finds(&waveform(6_000, Some(-40.0), &sounds), &[(1_000, 2_000), (3_500, 4_500)], 40);
}

#[test]
fn the_noise_of_the_line_moves_no_hard_onset_by_more_than_10_ms() {
    for noise in [-65.0, -55.0, -45.0, -38.0] {
        let samples = waveform(6_000, Some(noise), &[(1_000, 2_000, Shape::Hard), (3_500, 4_500, Shape::Plosive)]);
        finds(&samples, &[(1_000, 2_000), (3_500, 4_500)], 15);
    }
}

#[test]
fn a_quiet_voice_is_found_on_a_line_whose_noise_is_20_db_weaker() {
    let mut samples = waveform(6_000, None, &[(1_000, 2_000, Shape::Hard), (3_500, 4_500, Shape::Hard)]);
    samples.iter_mut().for_each(|sample| *sample /= 30);
    let noise = waveform(6_000, Some(-66.0), &[]);
    samples.iter_mut().zip(noise).for_each(|(sample, noise)| *sample += noise);
    finds(&samples, &[(1_000, 2_000), (3_500, 4_500)], 15);
}

#[test]
fn noise_clicks_and_an_offset_are_no_sounds() {
    assert_eq!(sounds(&waveform(6_000, Some(-45.0), &[])), []);
    let mut samples = waveform(6_000, Some(-60.0), &[(2_000, 2_015, Shape::Hard), (4_000, 4_010, Shape::Tone)]);
    samples.iter_mut().for_each(|sample| *sample += 900);
    assert_eq!(sounds(&samples), []);
    assert_eq!(sounds(&[]), []);
    assert_eq!(sounds(&[0; 20]), []);
}

#[test]
fn a_tone_without_any_pause_is_one_sound() {
    finds(&waveform(20_000, None, &[(2_000, 18_000, Shape::Tone)]), &[(2_000, 18_000)], 10);
}

#[test]
fn speech_that_begins_at_once_is_found_although_no_silence_came_before_it() {
    finds(&waveform(3_000, None, &[(0, 1_500, Shape::Plosive)]), &[(0, 1_450)], 10);
}

const fn sound(began: usize, ended: usize) -> Sound {
    Sound { began, ended }
}

#[test]
fn the_first_sound_after_a_question_is_the_answer() {
    let received = [sound(0, 900), sound(2_600, 3_000), sound(3_400, 4_000)];
    assert_eq!(answer_after(&received, 2_000, 9_000), Answer::After(600));
    assert_eq!(answer_after(&received, 2_000, 2_500), Answer::Missing, "too late");
    assert_eq!(answer_after(&received, 4_500, 9_000), Answer::Missing);
    assert_eq!(answer_after(&received, 2_800, 9_000), Answer::Early);
}

#[test]
fn an_interruption_ends_with_the_last_sound_that_began_before_the_end_of_the_interruption() {
    let after = |received: &[Sound]| stop_after(received, 2_000, 3_000, 6_000);
    assert_eq!(after(&[sound(500, 2_110), sound(3_700, 5_000)]), Stop::After(110));
    // The far end pauses, and continues while the caller still speaks.
    assert_eq!(after(&[sound(500, 2_100), sound(2_700, 2_900)]), Stop::After(900));
    assert_eq!(after(&[sound(500, 7_000)]), Stop::WentOn);
    assert_eq!(after(&[sound(500, 3_400)]), Stop::After(1_400));
    assert_eq!(after(&[sound(500, 1_000), sound(3_500, 4_000)]), Stop::WasSilent);
    // A short pause between two words is no silence.
    assert_eq!(after(&[sound(500, 1_900)]), Stop::After(0));
}
