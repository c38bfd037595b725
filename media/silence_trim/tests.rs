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
fn noise_before_and_after_words_is_cut_away_however_loud() {
    let mut voice = Voice::new(3);
    for level in [-40.0, -60.0] {
        let noise = voice.silence(9_000, level);
        let said = voice.say(1_500);
        let (first, end) = trimmed(&[over(&noise, &said, 3_000)]).unwrap();
        assert!((2_680..=3_100).contains(&first), "noise of {level}: from {first} ms on");
        assert!((4_400..=4_840).contains(&end), "noise of {level}: until {end} ms");
        // Neither a silent second channel nor a long silence hides the words.
        let silent = vec![0; noise.len()];
        assert_eq!(trimmed(&[silent, over(&noise, &said, 3_000)]), Some((first, end)));
    }
    let long = over(&voice.silence(60_000, -45.0), &voice.say(1_000), 2_000);
    let (_, end) = trimmed(&[long]).unwrap();
    assert!((2_900..=3_340).contains(&end), "until {end} ms");
}

#[test]
fn quiet_words_stay_where_silence_is_quieter_still() {
    let mut voice = Voice::new(4);
    let said = quieter(&voice.say(2_000), 24);
    let (first, end) = trimmed(&[over(&voice.silence(6_000, -75.0), &said, 2_000)]).unwrap();
    assert!(first <= 2_240 && end >= 3_900, "{first} to {end} ms");
}

#[test]
fn where_nobody_speaks_what_is_loud_stays() {
    let silent = vec![0; 8_000];
    let music = [silent.clone(), tone(440.0, 1_000, -15.0), silent.clone()].concat();
    assert_eq!(trimmed(&[music]), Some((1_000, 2_000)));
    assert_eq!(trimmed(&[silent]), None);
    assert_eq!(trimmed(&[Vec::new()]), None);
}

#[test]
fn real_words_in_a_street_are_found_and_the_street_alone_has_none() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/audio");
    let read = |name: &str| crate::read_wav(&std::fs::read(folder.join(name)).ok()?).ok();
    let (Some(clean), Some(noise)) = (read("clean_freesound_33711.wav"), read("noise_freesound_573577.wav")) else {
        println!("skipped: ../shared/corpora/audio is not here");
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
}
