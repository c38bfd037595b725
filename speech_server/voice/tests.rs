//! The voice as a whole. The tests with the network run if `TANDEM_SPEECH_MODELS` has the voice.

use std::path::PathBuf;

use tandem_test_support::{Needs, skip};

use super::*;

fn clause(mark: char) -> Clause {
    Clause { text: "x".to_owned(), mark }
}

fn chunked(parts: &[(usize, char)]) -> Vec<(usize, bool)> {
    let clauses: Vec<_> = parts.iter().map(|(_, mark)| clause(*mark)).collect();
    let phonemes: Vec<_> = parts.iter().map(|(length, _)| "a".repeat(*length)).collect();
    chunks(&clauses, &phonemes)
        .iter()
        .map(|chunk| (chunk.phonemes.chars().filter(|c| *c == 'a').count(), chunk.ends_sentence))
        .collect()
}

#[test]
fn clauses_are_joined_to_sentences() {
    assert_eq!(chunked(&[(10, ','), (10, '.'), (5, '?')]), [(20, true), (5, true)]);
}

#[test]
fn a_long_first_sentence_begins_with_its_first_clause() {
    assert_eq!(chunked(&[(30, ','), (60, '.'), (90, ','), (60, '.')]), [(30, false), (60, true), (150, true)]);
    // The first clause alone would be one word.
    assert_eq!(chunked(&[(5, ','), (30, ','), (60, '.')]), [(35, false), (60, true)]);
}

#[test]
fn the_network_never_gets_more_phonemes_than_it_can_take() {
    for parts in [vec![(5000, '.')], vec![(200, ','); 20], vec![(299, ','), (299, ';'), (10, '.')]] {
        let total: usize = parts.iter().map(|(length, _)| length).sum();
        let chunks = chunked(&parts);
        assert!(chunks.iter().all(|(length, _)| (1..=MOST_PHONEMES).contains(length)), "{chunks:?}");
        // The last part of clauses that end with a comma is the end of no sentence.
        assert!(chunks.iter().map(|(length, _)| length).sum::<usize>() <= total);
    }
}

#[test]
fn a_folder_without_a_voice_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Voice::load(folder.path()).err().unwrap().to_string().contains("has no file .onnx"));
    std::fs::write(folder.path().join("a-b-c.onnx"), "no network").unwrap();
    assert!(Voice::load(folder.path()).err().unwrap().to_string().contains("a-b-c.onnx.json"));
}

fn folder(name: &str) -> Option<PathBuf> {
    let models = std::env::var_os("TANDEM_SPEECH_MODELS").map(PathBuf::from);
    let folder = models.map(|models| models.join(name)).filter(|folder| folder.exists());
    if folder.is_none() {
        skip(Needs::Host("TANDEM_SPEECH_MODELS has no voice"));
    }
    folder
}

fn joe() -> Option<Voice> {
    Some(Voice::load(&folder("piper-en_US-joe-medium")?).unwrap())
}

/// The samples of each part of a text.
fn spoken(voice: &Voice, text: &str, options: &Options) -> Vec<Vec<i16>> {
    let mut parts = Vec::new();
    voice
        .speak(text, options, |samples| {
            parts.push(samples.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    parts
}

fn seconds(parts: &[Vec<i16>], rate: u32) -> f32 {
    parts.iter().map(Vec::len).sum::<usize>() as f32 / rate as f32
}

#[test]
fn each_sentence_is_audio_of_its_own_at_the_rate_that_is_asked_for() {
    let Some(voice) = joe() else { return };
    assert_eq!((voice.name(), voice.language(), voice.rate()), ("joe", "en-US", 22_050));
    for rate in [8_000, 16_000, 22_050, 24_000] {
        let parts =
            spoken(&voice, "Good morning. How can I help you?", &Options { rate: Some(rate), ..Options::default() });
        assert_eq!(parts.len(), 2);
        let length = seconds(&parts, rate);
        assert!((1.2..4.0).contains(&length), "{length} s at {rate} Hz");
        let loudest = parts.iter().flatten().map(|sample| sample.unsigned_abs()).max().unwrap();
        assert!((15_000..=32_767).contains(&loudest), "{loudest} at {rate} Hz");
    }
}

#[test]
fn a_higher_speed_makes_the_speech_shorter() {
    let Some(voice) = joe() else { return };
    let text = "The train to the airport leaves from the second platform.";
    let length = |speed| seconds(&spoken(&voice, text, &Options { speed, ..Options::default() }), voice.rate());
    let (slow, fast) = (length(0.8), length(1.6));
    assert!(fast < 0.7 * slow, "{slow} s and {fast} s");
}

#[test]
fn the_listener_can_stop_the_speech() {
    let Some(voice) = joe() else { return };
    let mut count = 0;
    let stop = |_: &[i16]| {
        count += 1;
        ControlFlow::Break(())
    };
    voice.speak("One. Two. Three.", &Options::default(), stop).unwrap();
    assert_eq!(count, 1);
}

#[test]
fn a_text_without_words_is_silent_and_a_huge_one_is_refused() {
    let Some(voice) = joe() else { return };
    for text in ["", " ... ", "\u{1f600}", "!?"] {
        assert!(spoken(&voice, text, &Options::default()).is_empty(), "{text}");
    }
    let error =
        voice.speak(&"x".repeat(LONGEST_TEXT + 1), &Options::default(), |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, VoiceError::TooLong(_)), "{error}");
}

#[test]
fn kokoro_has_voices_for_several_languages_and_one_network() {
    let Some(folder) = folder("kokoro-82m") else { return };
    let voices = Voice::load_all(&folder).unwrap();
    for (name, language, text) in [
        ("am_michael", "en-US", "How can I help you?"),
        ("bf_emma", "en-GB", "How can I help you?"),
        ("ef_dora", "es-ES", "\u{bf}En qu\u{e9} puedo ayudarle?"),
    ] {
        let voice = voices.iter().find(|voice| voice.name() == name).unwrap();
        assert_eq!(voice.language(), language);
        let parts = spoken(voice, text, &Options { rate: Some(8_000), ..Options::default() });
        let length = seconds(&parts, 8_000);
        assert!((0.7..3.0).contains(&length), "{name}: {length} s");
        // The mean level of speech with this peak is -26 dB or more. A click would be the peak, and the speech quieter.
        let samples: Vec<f32> = parts.iter().flatten().map(|sample| f32::from(*sample) / 32_768.0).collect();
        let power = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32;
        assert!(power > 0.0025, "{name}: {} dB", 10.0 * power.log10());
    }
}
