use super::*;
use crate::testing::voice::{Voice, tone};

fn heard(samples: &[i16], rate: SampleRate) -> Vec<Activity> {
    let mut detector = VoiceActivity::new(rate);
    samples.chunks_exact(rate.frame()).map(|frame| detector.handle_frame(frame)).collect()
}

/// Returns the percentage of frames for which `of` returns true.
fn share(frames: &[Activity], of: impl Fn(&Activity) -> bool) -> usize {
    frames.iter().filter(|frame| of(frame)).count() * 100 / frames.len()
}

#[test]
fn speech_is_active_and_pauses_are_not_over_background_noise() {
    for level in [-90.0, -60.0, -45.0] {
        for seed in 1..6 {
            let mut voice = Voice::new(seed);
            let mut samples = voice.silence(500, level);
            let noise = voice.silence(20_000, level);
            let (mut words, mut pauses) = (Vec::new(), Vec::from_iter(Some(2..25)));
            for _ in 0..6 {
                let from = samples.len() / 160;
                samples.extend(voice.say(800));
                words.push(from..samples.len() / 160);
                samples.extend(vec![0; 600 * 8]);
                // The first 100 ms of a pause contain the end of the word.
                pauses.push(words.last().unwrap().end + 5..samples.len() / 160);
            }
            samples.iter_mut().skip(4_000).zip(&noise).for_each(|(to, noise)| *to = to.saturating_add(*noise));
            let frames = heard(&samples, SampleRate::Hz8000);
            let all = |ranges: &[std::ops::Range<usize>]| -> Vec<Activity> {
                ranges.iter().flat_map(|range| frames[range.clone()].iter().copied()).collect()
            };
            let (words, pauses) =
                (share(&all(&words), |frame| frame.active), share(&all(&pauses), |frame| frame.active));
            assert!(
                words >= 85 && pauses <= 5,
                "noise {level}, voice {seed}: {words} % of words, {pauses} % of pauses"
            );
        }
    }
}

#[test]
fn silence_noise_hum_and_tones_are_not_speech() {
    let mut voice = Voice::new(1);
    let sounds = [
        ("digital silence", vec![0; 80_000]),
        ("quiet noise", voice.silence(10_000, -60.0)),
        ("loud noise", voice.silence(10_000, -35.0)),
        ("hum", tone(50.0, 10_000, -30.0)),
        ("a tone", tone(1_000.0, 10_000, -15.0)),
    ];
    for (name, samples) in sounds {
        let frames = heard(&samples, SampleRate::Hz8000);
        let speech = share(&frames, |frame| frame.active);
        assert!(speech <= 3, "{name}: {speech} %");
    }
}

#[test]
fn speech_continues_for_200_ms_after_its_last_active_frame() {
    let mut samples = Voice::new(2).say(1_000);
    samples.resize(samples.len() + 8_000, 0);
    let frames = heard(&samples, SampleRate::Hz8000);
    let last = |of: fn(&Activity) -> bool| frames.iter().rposition(of).unwrap();
    assert_eq!(last(|frame| frame.speech) - last(|frame| frame.active), 9);
}

#[test]
fn the_level_of_a_frame_is_measured_in_dbov() {
    let square = [16_384, -16_384].repeat(80);
    assert!((heard(&square, SampleRate::Hz8000)[0].level + 6.02).abs() < 0.01);
    assert_eq!(heard(&[0; 160], SampleRate::Hz8000)[0].level, -127.0);
    assert!((heard(&[i16::MIN; 160], SampleRate::Hz8000)[0].level).abs() < 0.01);
}

#[test]
fn after_frames_of_a_wrong_length_silence_is_not_speech() {
    let mut detector = VoiceActivity::new(SampleRate::Hz16000);
    for length in [0, 1, 160, 319, 321, 2_000] {
        for _ in 0..30 {
            detector.handle_frame(&vec![20_000; length]);
        }
    }
    let last = (0..50).map(|_| detector.handle_frame(&[0; 320])).last().unwrap();
    assert!(!last.active && last.level == -127.0);
}

/// The level of each frame in the clean recording decides whether the frame is speech. Above -50 dBov it is speech, and
/// below -60 dBov it is not. Frames with a level between these thresholds are not counted.
#[test]
fn speech_in_loud_noise_is_detected_and_noise_alone_is_not() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/audio");
    let read = |name: &str| crate::read_wav(&std::fs::read(folder.join(name)).ok()?).ok();
    let (Some(clean), Some(noisy), Some(noise)) =
        (read("clean_freesound_33711.wav"), read("noisy_snr0.wav"), read("noise_freesound_573577.wav"))
    else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/audio"));
        return;
    };
    let truth: Vec<f32> = clean.samples().chunks_exact(160).map(level).collect();
    for (name, audio, least, max) in [("clean", &clean, 90, 3), ("at 0 dB", &noisy, 80, 6)] {
        let frames = heard(audio.samples(), SampleRate::Hz8000);
        let judged = |of: fn(f32) -> bool| -> Vec<Activity> {
            frames.iter().zip(&truth).filter(|(_, level)| of(**level)).map(|(frame, _)| *frame).collect()
        };
        let hit = share(&judged(|level| level > -50.0), |frame| frame.active);
        let wrong = share(&judged(|level| level < -60.0), |frame| frame.active);
        println!("{name}: {hit} % of speech, {wrong} % of the rest");
        assert!(hit >= least && wrong <= max, "{name}: {hit} % of speech, {wrong} % of the rest");
    }
    assert_eq!(share(&heard(noise.samples(), SampleRate::Hz8000), |frame| frame.active), 0);
}

/// A quiet speaker must not cause a silence timeout. So the longest time without detected speech must be shorter than
/// every such timeout.
#[test]
fn quiet_speech_leaves_no_long_silence() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/audio");
    let read = |name: &str| crate::read_wav(&std::fs::read(folder.join(name)).ok()?).ok();
    let (Some(clean), Some(short)) = (read("clean_freesound_33711.wav"), read("short_nb_voice.wav")) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/audio"));
        return;
    };
    for (name, audio) in [("clean", clean), ("short", short)] {
        for quieter in [1, 4, 8] {
            let samples: Vec<i16> = audio.samples().iter().map(|sample| sample / quieter).collect();
            let frames = heard(&samples, SampleRate::Hz8000);
            let longest = frames.split(|frame| frame.active).map(<[Activity]>::len).max().unwrap_or_default();
            let loudest = frames.iter().map(|frame| frame.level).fold(-127.0, f32::max);
            println!("{name} at {loudest:.0} dBov at most: silent for {} ms", longest * 20);
            assert!(longest * 20 <= 1_800, "{name} at {loudest:.0} dBov: silent for {} ms", longest * 20);
        }
    }
}
