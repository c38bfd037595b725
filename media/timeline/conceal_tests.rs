//! Tests of the quality of concealed speech, with a real voice.

use super::tests::{DelayedPackets, Random};
use super::*;

const FRAME: usize = 160;

/// Returns the narrowband voice of the test corpus after PCMU encoding and decoding, or `None` if the file is missing.
fn voice() -> Option<Vec<i16>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/audio/short_nb_voice.wav");
    let Ok(mut file) = hound::WavReader::open(path) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/audio"));
        return None;
    };
    let samples: Vec<i16> = file.samples().map(Result::unwrap).collect();
    let (mut octets, mut heard) = (vec![0; samples.len()], vec![0; samples.len()]);
    Law::Mu.encode(&samples, &mut octets);
    Law::Mu.decode(&octets, &mut heard);
    Some(heard)
}

/// Returns the power in 20 bands of 200 Hz, in dB relative to full scale. Each value is at least -70.
fn spectrum(frame: &[i16]) -> [f32; 20] {
    std::array::from_fn(|band| {
        let power: f32 = (0..4)
            .map(|line| {
                let step = (band * 4 + line) as f32 * 50.0 / 8_000.0 * std::f32::consts::TAU;
                let (mut real, mut imaginary) = (0.0, 0.0);
                for (at, sample) in frame.iter().enumerate() {
                    let window = 0.5 - 0.5 * (at as f32 / FRAME as f32 * std::f32::consts::TAU).cos();
                    let value = f32::from(*sample) / 32_768.0 * window;
                    real += value * (step * at as f32).cos();
                    imaginary += value * (step * at as f32).sin();
                }
                (real * real + imaginary * imaginary) / (FRAME * FRAME) as f32
            })
            .sum();
        10.0 * (power + 1e-7).log10()
    })
}

/// Returns the log-spectral distance between `clean` and `heard` in dB. Only the lost frames in which the voice was
/// loud are compared.
fn distance(clean: &[i16], heard: &[i16], lost: &[bool]) -> f32 {
    let (mut distances, mut count) = (0.0, 0.0f32);
    for ((clean, heard), lost) in clean.chunks_exact(FRAME).zip(heard.chunks_exact(FRAME)).zip(lost) {
        let power: f32 = clean.iter().map(|sample| f32::from(*sample).powi(2)).sum();
        if *lost && power >= FRAME as f32 * 200.0 * 200.0 {
            let pairs = spectrum(clean).into_iter().zip(spectrum(heard));
            distances += (pairs.map(|(one, other)| (one - other).powi(2)).sum::<f32>() / 20.0).sqrt();
            count += 1.0;
        }
    }
    distances / count
}

#[test]
fn concealed_speech_is_nearer_to_the_original_than_silence() {
    let Some(clean) = voice() else { return };
    for percent in [3, 5, 10] {
        let mut random = Random::new(percent);
        let lost: Vec<bool> = (0..clean.len() / FRAME).map(|_| random.chance(percent)).collect();
        let packets =
            DelayedPackets::new(&clean, FRAME, |number| (!lost.get(number).is_some_and(|lost| *lost)).then_some(0));
        let mut timeline = Timeline::octets(Law::Mu);
        let ticks = clean.len() / FRAME + 8;
        let heard = packets.heard(&mut timeline, &mut recorder(), 0, ticks as u32);
        // The audio before the first loss is unchanged.
        let from = usize::from(RECORDER_LAG) * FRAME;
        let heard = &heard[from..];
        let first = lost.iter().position(|lost| *lost).unwrap() * FRAME;
        assert_eq!(heard[..first], clean[..first]);
        let silenced: Vec<i16> = clean
            .chunks(FRAME)
            .enumerate()
            .flat_map(|(number, part)| {
                let gain = i16::from(!lost.get(number).is_some_and(|lost| *lost));
                part.iter().map(move |sample| sample * gain)
            })
            .collect();
        let (concealed, silence) = (distance(&clean, heard, &lost), distance(&clean, &silenced, &lost));
        println!("{percent} % lost: {concealed:.1} dB from the original, silence {silence:.1} dB");
        assert!(concealed < 8.0 && concealed < 0.6 * silence);
    }
}

#[test]
fn no_discontinuity_at_a_border_exceeds_those_of_speech() {
    let Some(clean) = voice() else { return };
    let greatest = |samples: &[i16]| samples.windows(2).map(|pair| i32::from(pair[1]).abs_diff(pair[0].into())).max();
    for percent in [3, 10] {
        let mut random = Random::new(percent + 7);
        let lost: Vec<bool> = (0..clean.len() / FRAME).map(|_| random.chance(percent)).collect();
        let packets =
            DelayedPackets::new(&clean, FRAME, |number| (!lost.get(number).is_some_and(|lost| *lost)).then_some(0));
        let ticks = clean.len() / FRAME + 8;
        let heard = packets.heard(&mut Timeline::octets(Law::Mu), &mut recorder(), 0, ticks as u32);
        let heard = &heard[usize::from(RECORDER_LAG) * FRAME..];
        let mut worst = 0.0f32;
        for border in 2..lost.len() - 4 {
            if lost[border] == lost[border - 1] {
                continue;
            }
            // The test compares the largest step at the boundary with the largest step of the voice within 40 ms of the
            // boundary.
            let at = border * FRAME;
            let step = greatest(&heard[at - 3..at + 3]).unwrap() as f32;
            let usual = greatest(&clean[at - 2 * FRAME..at + 2 * FRAME]).unwrap().max(500) as f32;
            worst = worst.max(step / usual);
        }
        println!("{percent} % lost: the greatest step at a border is {worst:.2} of the voice's own around it");
        assert!(worst <= 1.5, "{worst}");
    }
}
