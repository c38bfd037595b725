use std::path::PathBuf;

use super::*;
use crate::codec::g711::Law;
use crate::dtmf::frequencies;
use crate::rtp::FRAME;
use crate::tone::{Country, Tone, ToneGenerator};

const LETTERS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];
/// The amplitude of a tone of 0 dBm0. Full scale is 3.17 dBm0 (ITU-T G.711).
const ZERO_DBM: f32 = 22_300.0;

/// Pseudo-random numbers (SplitMix64). Each run has the same numbers.
struct Random(u64);

impl Random {
    fn part(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1u64 << 24) as f32
    }

    fn within(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * self.part()
    }

    fn below(&mut self, end: usize) -> usize {
        ((self.part() * end as f32) as usize).min(end - 1)
    }

    /// A Gaussian number with variance 1.
    fn gauss(&mut self) -> f32 {
        (-2.0 * (1.0 - self.part()).ln()).sqrt() * (TAU * self.part()).cos()
    }
}

/// The parameters of a digit's tones. Levels are in dB, and frequencies are ratios.
#[derive(Clone, Copy)]
struct TestDigit {
    milliseconds: f32,
    /// The level of each tone in dBm0, before the twist is applied.
    level: f32,
    /// The level of the column relative to the row, in dB.
    twist: f32,
    row: f32,
    column: f32,
}

const PLAIN: TestDigit = TestDigit { milliseconds: 50.0, level: -20.0, twist: 0.0, row: 1.0, column: 1.0 };

impl TestDigit {
    /// Appends the digit's tones, with a random phase.
    fn sound(self, key: char, random: &mut Random, to: &mut Vec<f32>) {
        let [row, column] = frequencies(key).unwrap();
        let (row, column) = (f32::from(row) * self.row, f32::from(column) * self.column);
        let peak = |twist: f32| ZERO_DBM * 10f32.powf((self.level + twist / 2.0) / 20.0);
        let (low, high) = (peak(-self.twist), peak(self.twist));
        let (a, b) = (random.part(), random.part());
        to.extend((0..(self.milliseconds * 8.0) as usize).map(|at| {
            let at = at as f32 / 8_000.0;
            low * ((row * at + a).fract() * TAU).sin() + high * ((column * at + b).fract() * TAU).sin()
        }));
    }
}

fn silence(milliseconds: f32, to: &mut Vec<f32>) {
    to.extend(std::iter::repeat_n(0.0, (milliseconds * 8.0) as usize));
}

/// Returns the detected digits. Each digit comes with the number of the sample at which the frame ends that reported
/// the digit.
fn keys(samples: &[f32]) -> Vec<(usize, char)> {
    let samples: Vec<i16> = samples.iter().map(|sample| sample.round() as i16).collect();
    keys_of(&samples)
}

fn keys_of(samples: &[i16]) -> Vec<(usize, char)> {
    let mut detector = ToneDetector::default();
    let frames = samples.chunks(FRAME).enumerate();
    frames.filter_map(|(index, frame)| Some(((index + 1) * FRAME, detector.handle_frame(frame)?))).collect()
}

/// Whether the detector finds a single digit between two silences. The test is repeated with eight positions of the
/// digit in a frame.
fn is_found(test_digit: TestDigit, key: char) -> bool {
    let mut random = Random(key as u64);
    let found = (0..8).filter(|place| {
        let mut samples = Vec::new();
        silence(20.0 + *place as f32 * 2.6, &mut samples);
        test_digit.sound(key, &mut random, &mut samples);
        silence(60.0, &mut samples);
        keys(&samples).iter().map(|(_, key)| *key).eq([key])
    });
    let found = found.count();
    assert!(found == 0 || found == 8, "{key}: found at {found} of 8 places");
    found == 8
}

/// Returns the samples (8,000 Hz) of a file from outside the repository, or `None` if the file is missing.
fn recording(name: &str) -> Option<Vec<i16>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/audio");
    let octets = std::fs::read(folder.join(name)).ok()?;
    Some(crate::audio::decode(&octets, None).unwrap().samples().to_vec())
}

fn power(samples: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = samples.fold((0.0f64, 0), |(sum, count), sample| (sum + f64::from(sample * sample), count + 1));
    (sum / f64::from(count)) as f32
}

fn through(law: Law, samples: &mut [i16]) {
    let mut octets = vec![0; samples.len()];
    law.encode(samples, &mut octets);
    law.decode(&octets, samples);
}

/// Sends `count` digits of 40 to 100 ms with gaps of at least 40 ms, at about -20 dBm0. The twist is up to 4 dB, the
/// deviation is up to 1.5 %, and the noise is 15 dB below each digit. Returns the number of digits that were missed or
/// detected more than once, and the number of false detections.
fn dial(count: usize, law: Option<Law>, mut noise: impl FnMut(&mut Random) -> f32) -> (usize, usize) {
    let mut random = Random(count as u64);
    let mut samples: Vec<f32> = Vec::new();
    let mut sent_digits = Vec::new();
    for _ in 0..count {
        let start = samples.len();
        let key = LETTERS[random.below(16)];
        let test_digit = TestDigit {
            milliseconds: random.within(40.0, 100.0),
            level: random.within(-22.0, -18.0),
            twist: random.within(-4.0, 4.0),
            row: random.within(0.985, 1.015),
            column: random.within(0.985, 1.015),
        };
        test_digit.sound(key, &mut random, &mut samples);
        let level = power(samples[start..].iter().copied()).sqrt() * 10f32.powf(-15.0 / 20.0);
        silence(random.within(40.0, 100.0), &mut samples);
        for sample in &mut samples[start..] {
            *sample += level * noise(&mut random);
        }
        sent_digits.push((start, key));
    }
    let mut samples: Vec<i16> = samples.iter().map(|sample| sample.round() as i16).collect();
    if let Some(law) = law {
        through(law, &mut samples);
    }
    let mut found = keys_of(&samples);
    let mut missed = 0;
    for (index, (start, key)) in sent_digits.iter().enumerate() {
        let end = sent_digits.get(index + 1).map_or(usize::MAX, |(next, _)| next + FRAME);
        match found.iter().position(|(at, letter)| (start + FRAME..end).contains(at) && letter == key) {
            Some(place) => drop(found.remove(place)),
            None => missed += 1,
        }
        // The digits are in order. So a detection that is left over from before this digit is false.
        if index % 64 == 63 {
            let late = found.iter().filter(|(at, _)| at < start).count();
            assert_eq!(late, 0, "digits that were not sent, before {start}");
        }
    }
    (missed, found.len())
}

#[test]
fn all_of_ten_thousand_digits_are_detected_in_white_noise() {
    assert_eq!(dial(10_000, None, Random::gauss), (0, 0));
    assert_eq!(dial(2_000, Some(Law::Mu), Random::gauss), (0, 0));
    assert_eq!(dial(2_001, Some(Law::A), Random::gauss), (0, 0));
}

#[test]
fn all_of_ten_thousand_digits_are_detected_in_street_noise() {
    let Some(street) = recording("noise_freesound_573577.wav") else {
        return tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/audio"));
    };
    let level = power(street.iter().map(|sample| f32::from(*sample))).sqrt();
    let mut place = 0;
    let mut noise = |_: &mut Random| {
        place = (place + 1) % street.len();
        f32::from(street[place]) / level
    };
    assert_eq!(dial(10_000, None, &mut noise), (0, 0));
    assert_eq!(dial(2_002, Some(Law::Mu), &mut noise), (0, 0));
}

#[test]
fn an_hour_of_speech_contains_no_digit() {
    let names = ["clean_freesound_33711.wav", "noisy_snr0.wav", "short_nb_voice.wav", "short_wb_voice.wav"];
    let voices: Option<Vec<Vec<i16>>> = names.into_iter().map(recording).collect();
    let (Some(voices), Some(street)) = (voices, recording("noise_freesound_573577.wav")) else {
        return tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/audio"));
    };
    let mut random = Random(4);
    let (mut seconds, mut turn) = (0, 0);
    while seconds < 3_600 {
        for voice in &voices {
            // Each round has a different level, start and amount of street noise. Two of three rounds pass through
            // G.711.
            let (gain, behind) = (10f32.powf(random.within(-1.0, 0.8)), random.within(-0.3, 0.5).max(0.0));
            let (start, place) = (random.below(FRAME), random.below(street.len()));
            let mut samples: Vec<i16> = voice[start..]
                .iter()
                .zip(street.iter().cycle().skip(place))
                .map(|(voice, street)| (gain * (f32::from(*voice) + behind * f32::from(*street))) as i16)
                .collect();
            match turn % 3 {
                1 => through(Law::Mu, &mut samples),
                2 => through(Law::A, &mut samples),
                _ => {}
            }
            assert_eq!(keys_of(&samples), [], "gain {gain}, from {start}, street {behind} from {place}");
            seconds += samples.len() / 8_000;
            turn += 1;
        }
    }
}

/// Returns a synthetic babble. It consists of voiced syllables with gliding pitch and formants, and of hisses between
/// these syllables.
fn babble(random: &mut Random, seconds: usize) -> Vec<i16> {
    let mut samples: Vec<i16> = Vec::with_capacity(seconds * 8_000);
    let mut phase = 0.0f32;
    while samples.len() < seconds * 8_000 {
        let length = random.within(400.0, 2_800.0) as usize;
        let level = 10f32.powf(random.within(2.5, 4.2));
        let (mut pitch, glide) = (random.within(80.0, 420.0), random.within(-0.00004, 0.00004));
        let formants = [random.within(250.0, 900.0), random.within(900.0, 2_300.0), random.within(2_300.0, 3_300.0)];
        let hiss = if random.part() < 0.2 { 1.0 } else { random.within(0.0, 0.05) };
        let mut weights = [0.0f32; 24];
        for at in 0..length {
            if at % 40 == 0 {
                for (number, weight) in weights.iter_mut().enumerate() {
                    let hertz = pitch * (number + 1) as f32;
                    // A formant is 100 Hz wide. The level of voices falls by about 6 dB per octave.
                    let near = |formant: &f32| 1.0 / (1.0 + ((hertz - formant) / 50.0).powi(2)).sqrt();
                    let tilt = pitch / hertz;
                    *weight = if hertz < 3_600.0 { tilt * formants.iter().map(near).sum::<f32>() } else { 0.0 };
                }
            }
            pitch *= 1.0 + glide;
            phase = (phase + pitch / 8_000.0).fract();
            let wave = |(number, weight): (usize, &f32)| weight * (phase * (number + 1) as f32 * TAU).sin();
            let voiced = if hiss < 1.0 { weights.iter().enumerate().map(wave).sum::<f32>() } else { 0.0 };
            let swell = (PI * at as f32 / length as f32).sin();
            samples.push((level * swell * (voiced + hiss * random.gauss())) as i16);
        }
    }
    samples
}

#[test]
fn sounds_like_speech_contain_no_digit() {
    let mut random = Random(5);
    for turn in 0..12 {
        let mut samples = babble(&mut random, 20);
        if turn % 2 == 1 {
            through(Law::Mu, &mut samples);
        }
        assert_eq!(keys_of(&samples), [], "turn {turn}");
    }
}

#[test]
fn whistles_and_gliding_tone_pairs_are_not_digits() {
    for (low, high) in [(500.0, 1_000.0), (650.0, 1_700.0), (400.0, 1_200.0), (300.0, 600.0)] {
        let mut phases = [0.0f32; 2];
        // The frequencies double within 0.6 s.
        let samples: Vec<f32> = (0..4_800)
            .map(|at| {
                let wide = 1.0 + at as f32 / 4_800.0;
                for (phase, hertz) in phases.iter_mut().zip([low, high]) {
                    *phase = (*phase + hertz * wide / 8_000.0).fract();
                }
                phases.iter().map(|phase| 4_000.0 * (phase * TAU).sin()).sum()
            })
            .collect();
        assert_eq!(keys(&samples), [], "{low} and {high}");
    }
}

#[test]
fn our_own_digits_are_detected_and_our_other_tones_are_not() {
    let sound = |tone, frames: usize| {
        let mut generator = ToneGenerator::new(tone);
        let mut frame = [0; FRAME];
        let sounding = (0..frames).flat_map(move |_| {
            generator.next_frame(&mut frame);
            frame
        });
        sounding.collect::<Vec<i16>>()
    };
    for key in LETTERS {
        let found = keys_of(&sound(Tone::Digit { digit: key, milliseconds: 40 }, 5));
        assert_eq!(found.iter().map(|(_, key)| *key).collect::<String>(), key.to_string());
    }
    for country in ["us", "uk", "de", "fr", "es", "it", "au", "jp"].map(Country::from_code) {
        assert_eq!(keys_of(&sound(Tone::Ringback(country), 400)), [], "{country:?}");
        assert_eq!(keys_of(&sound(Tone::Busy(country), 400)), [], "{country:?}");
    }
    assert_eq!(keys_of(&sound(Tone::Beep { milliseconds: 500 }, 30)), []);
}

#[test]
fn a_tone_of_40_ms_is_a_digit_and_a_tone_of_23_ms_is_not() {
    for key in LETTERS {
        assert!(is_found(TestDigit { milliseconds: 40.0, ..PLAIN }, key));
        assert!(!is_found(TestDigit { milliseconds: 23.0, ..PLAIN }, key));
    }
}

#[test]
fn tones_that_deviate_by_1_5_percent_are_digits_and_by_3_5_percent_are_not() {
    for key in LETTERS {
        for (row, column) in [(0.985, 1.0), (1.015, 1.0), (1.0, 0.985), (1.0, 1.015), (0.985, 1.015), (1.015, 0.985)] {
            assert!(is_found(TestDigit { row, column, ..PLAIN }, key), "{key} {row} {column}");
        }
        for (row, column) in [(0.965, 1.0), (1.035, 1.0), (1.0, 0.965), (1.0, 1.035)] {
            assert!(!is_found(TestDigit { row, column, ..PLAIN }, key), "{key} {row} {column}");
        }
    }
}

#[test]
fn digits_are_detected_with_up_to_8_db_reverse_twist_and_4_db_twist_but_not_with_one_tone() {
    for key in LETTERS {
        for twist in [-8.0, 4.0] {
            assert!(is_found(TestDigit { twist, row: 1.015, column: 0.985, ..PLAIN }, key), "{key} {twist}");
        }
        for twist in [-14.0, 9.0, -60.0, 60.0] {
            assert!(!is_found(TestDigit { twist, ..PLAIN }, key), "{key} {twist}");
        }
    }
}

#[test]
fn loud_and_soft_digits_are_detected() {
    for key in LETTERS {
        // With 0 dBm0 for each tone, the pair is clipped.
        for level in [0.0, -3.0, -10.0, -25.0, -36.0, -40.0] {
            assert!(is_found(TestDigit { level, ..PLAIN }, key), "{key} {level}");
        }
        assert!(!is_found(TestDigit { level: -46.0, ..PLAIN }, key));
    }
}

#[test]
fn a_pause_of_40_ms_separates_two_digits_and_a_pause_of_10_ms_does_not() {
    let mut random = Random(7);
    for key in LETTERS {
        for (milliseconds, expected) in [(40.0, 2), (10.0, 1), (5.0, 1)] {
            for place in 0..8 {
                let mut samples = Vec::new();
                silence(20.0 + place as f32 * 2.6, &mut samples);
                PLAIN.sound(key, &mut random, &mut samples);
                silence(milliseconds, &mut samples);
                PLAIN.sound(key, &mut random, &mut samples);
                silence(60.0, &mut samples);
                assert_eq!(keys(&samples).len(), expected, "{key}, {milliseconds} ms");
            }
        }
    }
}

#[test]
fn a_digit_of_ten_seconds_in_noise_is_reported_once() {
    let mut random = Random(8);
    let mut samples = Vec::new();
    TestDigit { milliseconds: 10_000.0, ..PLAIN }.sound('8', &mut random, &mut samples);
    let level = power(samples.iter().copied()).sqrt() * 10f32.powf(-10.0 / 20.0);
    samples.iter_mut().for_each(|sample| *sample += level * random.gauss());
    assert_eq!(keys(&samples).len(), 1);
}

#[test]
fn digits_are_detected_over_hum_and_over_a_dial_tone_6_db_below() {
    let mut random = Random(9);
    for key in LETTERS {
        for (hertz, decibels) in
            [([50.0, 150.0], 0.0), ([60.0, 60.0], 6.0), ([350.0, 440.0], -6.0), ([425.0, 425.0], -12.0)]
        {
            let mut samples = Vec::new();
            silence(60.0, &mut samples);
            PLAIN.sound(key, &mut random, &mut samples);
            silence(60.0, &mut samples);
            let peak = ZERO_DBM * 10f32.powf((PLAIN.level + decibels) / 20.0);
            for (at, sample) in samples.iter_mut().enumerate() {
                let wave = |hertz: f32| peak * (hertz * at as f32 / 8_000.0 * TAU).sin();
                *sample += hertz.map(wave).iter().sum::<f32>();
            }
            assert_eq!(keys(&samples).iter().map(|(_, key)| *key).collect::<String>(), key.to_string(), "{hertz:?}");
        }
    }
}

#[test]
fn frames_of_any_length_and_content_cause_no_panic() {
    let mut random = Random(10);
    let mut detector = ToneDetector::default();
    for length in [0, 1, 39, 40, 41, 159, 160, 1_000] {
        let frame: Vec<i16> = (0..length).map(|_| if random.part() < 0.5 { i16::MIN } else { i16::MAX }).collect();
        assert_eq!(detector.handle_frame(&frame), None);
    }
}
