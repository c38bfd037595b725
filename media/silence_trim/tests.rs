use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::testing::TestFile;
use crate::testing::voice::{Voice, tone};
use crate::wav::WavCoding;

/// Returns the part of these channels that trimming keeps, in ms.
fn trimmed(channels: &[Vec<i16>]) -> Option<(u64, u64)> {
    let form = WavFormat { coding: WavCoding::Pcm, channels: channels.len() as u16 };
    let mut samples = Vec::new();
    for at in 0..channels[0].len() {
        samples.extend(channels.iter().map(|channel| channel[at]));
    }
    let mut wav = form.header(samples.len() as u64 * 2).to_vec();
    form.coding.encode(&samples, &mut wav);
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let file = TestFile::new(&format!("spoken-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&file.0, wav).unwrap();
    let mut file = RecordedFile::open(&file.0, None).unwrap();
    let (form, start) = file.form().unwrap();
    let ms = |octets: u64| form.duration(octets).as_millis() as u64;
    find(&mut file, form, start).unwrap().map(|(first, end)| (ms(first), ms(end)))
}

fn quieter(samples: &[i16], by: i16) -> Vec<i16> {
    samples.iter().map(|sample| sample / by).collect()
}

fn over(noise: &[i16], voice: &[i16], at_ms: usize) -> Vec<i16> {
    let mut mixed = noise.to_vec();
    mixed.iter_mut().skip(at_ms * 8).zip(voice).for_each(|(to, voice)| *to = to.saturating_add(*voice));
    mixed
}

#[test]
fn noise_before_and_after_speech_is_removed_at_any_level() {
    let mut voice = Voice::new(3);
    for level in [-40.0, -60.0] {
        let noise = voice.silence(9_000, level);
        let speech = voice.say(1_500);
        let (first, end) = trimmed(&[over(&noise, &speech, 3_000)]).unwrap();
        assert!((2_680..=3_100).contains(&first), "noise of {level}: from {first} ms on");
        assert!((4_400..=4_840).contains(&end), "noise of {level}: until {end} ms");
        // Neither a silent second channel nor a long silence hides the words.
        let silent = vec![0; noise.len()];
        assert_eq!(trimmed(&[silent, over(&noise, &speech, 3_000)]), Some((first, end)));
    }
    let long = over(&voice.silence(60_000, -45.0), &voice.say(1_000), 2_000);
    let (_, end) = trimmed(&[long]).unwrap();
    assert!((2_900..=3_340).contains(&end), "until {end} ms");
}

#[test]
fn quiet_speech_above_the_silence_is_kept() {
    let mut voice = Voice::new(4);
    let speech = quieter(&voice.say(2_000), 24);
    let (first, end) = trimmed(&[over(&voice.silence(6_000, -75.0), &speech, 2_000)]).unwrap();
    assert!(first <= 2_240 && end >= 3_900, "{first} to {end} ms");
}

#[test]
fn without_speech_loud_audio_is_kept() {
    let silent = vec![0; 8_000];
    let music = [silent.clone(), tone(440.0, 1_000, -15.0), silent.clone()].concat();
    assert_eq!(trimmed(&[music]), Some((1_000, 2_000)));
    assert_eq!(trimmed(&[silent]), None);
    assert_eq!(trimmed(&[Vec::new()]), None);
}

#[test]
fn steady_tones_are_kept_at_any_pitch_level_and_length() {
    let silent = vec![0; 8_000];
    let pair = |(one, other): (f32, f32), ms, level| {
        let (mut pair, other) = (tone(one, ms, level - 3.0), tone(other, ms, level - 3.0));
        pair.iter_mut().zip(other).for_each(|(sample, other)| *sample = sample.saturating_add(other));
        pair
    };
    let mut cut = Vec::new();
    for milliseconds in [200, 330, 1_000, 3_010, 8_000, 25_000] {
        for level in [-6.0, -20.0, -36.0] {
            let single =
                [250.0, 300.0, 440.0, 620.0, 1_000.0, 2_100.0, 3_200.0].map(|hertz| tone(hertz, milliseconds, level));
            let pairs = [(350.0, 440.0), (440.0, 480.0), (697.0, 1_209.0), (941.0, 1_477.0)];
            let pairs = pairs.map(|hertz| pair(hertz, milliseconds, level));
            for (number, tone) in single.into_iter().chain(pairs).enumerate() {
                // The tone begins in the middle of a frame in one of two recordings.
                for lead in [8_000, 8_080] {
                    let recording = [vec![0; lead], tone.clone(), silent.clone()].concat();
                    let (first, end) = trimmed(&[recording]).unwrap_or_default();
                    let (began, ended) = (lead as u64 / 8, lead as u64 / 8 + milliseconds as u64);
                    if !(began - 20..=began + 10).contains(&first) || !(ended - 10..=ended + 20).contains(&end) {
                        cut.push((number, milliseconds, level, first, end));
                    }
                }
            }
        }
    }
    assert!(cut.is_empty(), "{} are cut: {cut:?}", cut.len());
}

#[test]
fn tones_around_speech_are_kept_and_noise_around_tones_is_removed() {
    let mut voice = Voice::new(5);
    let noise = voice.silence(20_000, -50.0);
    let speech = voice.say(1_500);
    let recording = over(&over(&noise, &tone(1_000.0, 600, -20.0), 2_000), &speech, 6_000);
    let recording = over(&recording, &tone(440.0, 9_000, -20.0), 9_000);
    let (first, end) = trimmed(&[recording]).unwrap();
    assert!((1_900..=2_000).contains(&first) && (18_000..=18_040).contains(&end), "{first} to {end} ms");
}

#[test]
fn narrow_band_noise_and_hum_are_not_tones() {
    let silent = vec![0; 8_000];
    let mut voice = Voice::new(6);
    let speech = voice.say(1_000);
    let hum = |hertz: f32| {
        let mut hum = vec![0; 8_000 * 12];
        for harmonic in 1..=8u8 {
            let level = -26.0 - 6.0 * f32::from(harmonic).log2();
            let one = tone(hertz * f32::from(harmonic), 12_000, level);
            hum.iter_mut().zip(one).for_each(|(sum, one)| *sum = i16::saturating_add(*sum, one));
        }
        hum
    };
    // One resonator makes a band of 120 Hz out of noise.
    let narrow = |hertz: f32| {
        let (radius, mut state) = ((-std::f32::consts::PI * 120.0 / 8_000.0).exp(), [0.0f32; 2]);
        let noise = Voice::new(7).silence(12_000, -44.0);
        let resonate = |sample: i16| {
            let angle = 2.0 * std::f32::consts::PI * hertz / 8_000.0;
            let value = f32::from(sample) + 2.0 * radius * angle.cos() * state[0] - radius * radius * state[1];
            state = [value, state[0]];
            value as i16
        };
        noise.into_iter().map(resonate).collect::<Vec<_>>()
    };
    for (name, noise) in [
        ("50 Hz", hum(50.0)),
        ("120 Hz", hum(120.0)),
        ("500 Hz band", narrow(500.0)),
        ("1500 Hz band", narrow(1_500.0)),
    ] {
        let mut tones = ToneFinder::default();
        let found = noise.chunks_exact(FRAME).filter(|frame| tones.handle_frame(frame, is_loud(frame))).count();
        assert!(noise.chunks_exact(FRAME).filter(|frame| is_loud(frame)).count() > 500, "{name} is loud");
        assert_eq!(found, 0, "{name}");
    }
    let noisy = over(&hum(50.0), &speech, 5_000);
    let (first, end) = trimmed(&[noisy]).unwrap();
    assert!((4_000..=5_100).contains(&first) && (5_900..=7_000).contains(&end), "{first} to {end} ms");
    assert_eq!(trimmed(&[silent]), None);
}

#[test]
fn real_speech_is_found_in_street_noise_and_street_noise_alone_has_none() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/audio");
    let read = |name: &str| crate::read_wav(&std::fs::read(folder.join(name)).ok()?).ok();
    let (Some(clean), Some(noise)) = (read("clean_freesound_33711.wav"), read("noise_freesound_573577.wav")) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/audio"));
        return;
    };
    let street: Vec<i16> = noise.samples().iter().copied().cycle().take(8_000 * 25).map(|sample| sample / 4).collect();
    let words: Vec<i16> = clean.samples().iter().map(|sample| sample / 2).collect();
    let loud = |frame: &[i16]| is_loud(frame);
    let begins = words.chunks_exact(FRAME).position(loud).unwrap() as u64 * 20;
    let ends = words.chunks_exact(FRAME).rposition(loud).unwrap() as u64 * 20;
    let (first, end) = trimmed(&[over(&street, &words, 7_000)]).unwrap();
    println!("words from {} to {} ms, kept {first} to {end}", 7_000 + begins, 7_000 + ends);
    // The street noise also has loud sounds near the words.
    assert!((5_900 + begins..=7_000 + begins).contains(&first) && (7_000 + ends..=8_100 + ends).contains(&end));
    // A tone in this street remains whole, and the street around it goes.
    let beeped = over(&street, &tone(1_000.0, 3_000, -12.0), 9_000);
    let (first, end) = trimmed(&[beeped]).unwrap();
    assert!((8_000..=9_000).contains(&first) && (12_000..=13_100).contains(&end), "{first} to {end} ms");
    let mut tones = ToneFinder::default();
    let found = street.chunks_exact(FRAME).filter(|frame| tones.handle_frame(frame, is_loud(frame))).count();
    assert_eq!(found, 0, "frames of a street that are a tone");
}
