//! Recognition with the models, if they are on this computer: in the folder of `TANDEM_SPEECH_MODELS`, or where `tandem-speech
//! install` puts them. The speech is made by the voice of the same folder.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::ControlFlow;
use std::path::PathBuf;

use tandem_speech_server::install;
use tandem_speech_server::recognise::{ALL_LANGUAGES, ENGLISH, Models, Options, Recognise as _, to_16_khz};
use tandem_speech_server::voice::{self, Voice};
use tandem_test_support::{Needs, skip};

const VOICE: &str = "piper-en_US-joe-medium";

/// The folder with models, if it has all of these.
fn models(names: &[&str]) -> Option<PathBuf> {
    let folder = install::directory::to_read();
    if let Some(missing) = names.iter().find(|name| !folder.join(name).is_dir()) {
        skip(Needs::Host(&format!("the model {missing} of tandem-speech is not installed")));
        return None;
    }
    let has_espeak = std::process::Command::new("espeak-ng").arg("--version").output().is_ok();
    if !has_espeak {
        skip(Needs::Package("espeak-ng"));
    }
    has_espeak.then_some(folder)
}

/// Speech at 8 kHz, as a telephone has it.
fn speech(folder: &std::path::Path, text: &str) -> Vec<f32> {
    let voice = Voice::load(&folder.join(VOICE)).unwrap();
    let mut samples = vec![0; 1_600];
    let options = voice::Options { rate: Some(8_000), ..voice::Options::default() };
    voice
        .speak(text, &options, |piece| {
            samples.extend_from_slice(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    samples.extend([0; 2_400]);
    to_16_khz(&samples, 8_000)
}

fn words(text: &str) -> String {
    text.chars().filter(|character| !character.is_ascii_punctuation()).collect::<String>().to_lowercase()
}

#[test]
fn a_sentence_is_recognised_without_a_repetition() {
    let Some(folder) = models(&[ENGLISH, VOICE]) else { return };
    let models = Models::open(&folder).0;
    let options = Options { language: Some("en-US".to_owned()), ..Options::default() };
    for text in ["I lost my credit card yesterday.", "Can you repeat that, please?", "Please cancel my subscription."] {
        let found = models.recognise(&speech(&folder, text), &options).unwrap();
        assert_eq!(words(&found.text), words(text), "{found:?}");
        assert!(found.confidence > 0.5, "{found:?}");
    }
}

#[test]
fn spoken_digits_become_a_number() {
    let Some(folder) = models(&[ENGLISH, VOICE]) else { return };
    let models = Models::open(&folder).0;
    let options = Options { language: Some("en".to_owned()), digits: true, ..Options::default() };
    let found = models.recognise(&speech(&folder, "My order number is four seven one nine two."), &options).unwrap();
    assert!(found.text.contains("47192"), "{found:?}");
}

#[test]
fn silence_has_no_words() {
    let Some(folder) = models(&[ENGLISH]) else { return };
    let found = Models::open(&folder).0.recognise(&[0.0; 32_000], &Options::default()).unwrap();
    assert_eq!(found.text, "", "{found:?}");
}

#[test]
fn the_language_is_found() {
    let Some(folder) = models(&[ALL_LANGUAGES, VOICE]) else { return };
    let models = Models::open(&folder).0;
    let found =
        models.recognise(&speech(&folder, "The internet connection is not working."), &Options::default()).unwrap();
    assert_eq!(found.language, "en", "{found:?}");
    assert!(words(&found.text).contains("internet connection"), "{found:?}");
}
