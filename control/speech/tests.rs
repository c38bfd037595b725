//! Tests of synthesis, caching and the choice of voices.

use tandem_http::NetworkPolicy;
use tandem_id::AccountName;

use super::*;

fn client() -> Client {
    let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
    Client::new(policy, Duration::from_secs(5)).unwrap()
}

fn speech(text: &str) -> Speech {
    Speech { text: text.to_owned(), ssml: false, voice: None, language: None }
}

fn voice(directory: &tempfile::TempDir) -> Option<Voice> {
    if std::process::Command::new(PROGRAM).arg("--version").output().is_err() {
        tandem_test_support::skip(tandem_test_support::Needs::Package("espeak-ng"));
        return None;
    }
    Some(Voice::new(SpeechConfig::default(), directory.path().join("speech"), client(), Default::default()))
}

fn loudness(samples: &[i16]) -> f64 {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (energy / samples.len().max(1) as f64).sqrt()
}

#[tokio::test]
async fn a_sentence_is_synthesised_once_and_then_comes_from_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let Some(first) = voice(&directory) else { return };
    let sentence = speech("Please enter your account number, followed by the pound sign.");
    let samples = first.speak(&sentence).await.unwrap();
    assert!((16_000..56_000).contains(&samples.len()), "{} samples", samples.len());
    assert!(loudness(&samples) > 500.0, "{}", loudness(&samples));
    assert!(Arc::ptr_eq(&samples, &first.speak(&sentence).await.unwrap()));
    assert_eq!(std::fs::read_dir(directory.path().join("speech")).unwrap().count(), 1);
    let second = voice(&directory).unwrap();
    assert_eq!(samples, second.speak(&sentence).await.unwrap());
}

#[tokio::test]
async fn texts_of_one_account_do_not_wait_for_those_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let Some(voice) = voice(&directory) else { return };
    voice.share(Arc::new(|account| account.as_str().split_once('/').map(|(main, _)| AccountName::new(main))));
    let voice = Arc::new(voice);
    let mut greedy = tokio::task::JoinSet::new();
    for number in 0..60 {
        let voice = Arc::clone(&voice);
        let text = format!("This is sentence {number} of many. ").repeat(100);
        greedy.spawn(async move {
            voice.say(&AccountName::new(format!("greedy/{number}")), &speech(&text)).await.map(drop)
        });
    }
    // The first text of the account has been spoken, so the other texts wait.
    greedy.join_next().await.unwrap().unwrap().unwrap();
    voice.say(&AccountName::new("modest"), &speech("Hello.")).await.unwrap();
    assert!(greedy.len() > 30, "{} texts wait", greedy.len());
}

#[tokio::test]
async fn text_is_never_an_option_and_is_ssml_only_with_the_flag() {
    let directory = tempfile::tempdir().unwrap();
    let Some(voice) = voice(&directory) else { return };
    for text in ["-w /tmp/x hello", "--help", "a < b & c", "<speak", "\u{0}\u{1b}hi", "$(reboot)"] {
        assert!(!voice.speak(&speech(text)).await.unwrap().is_empty(), "{text}");
    }
    let plain = voice.speak(&speech("<speak>one<break time=\"2s\"/>two</speak>")).await.unwrap();
    let markup = Speech { ssml: true, ..speech("<speak>one<break time=\"2s\"/>two</speak>") };
    let markup = voice.speak(&markup).await.unwrap();
    assert_ne!(plain, markup);
    assert!(markup.len() > 16_000, "the break lasts 2 s: {}", markup.len());
    assert!(voice.speak(&speech(" \n")).await.unwrap().is_empty());
}

#[tokio::test]
async fn languages_and_genders_have_different_voices_and_unknown_voices_still_speak() {
    let directory = tempfile::tempdir().unwrap();
    let Some(voice) = voice(&directory) else { return };
    let say = |name: Option<&str>, language: Option<&str>| Speech {
        voice: name.map(str::to_owned),
        language: language.map(str::to_owned),
        ..speech("Guten Tag, 25")
    };
    let man = voice.speak(&say(Some("man"), None)).await.unwrap();
    let woman = voice.speak(&say(Some("woman"), None)).await.unwrap();
    let german = voice.speak(&say(Some("Polly.Hans"), None)).await.unwrap();
    let unknown = voice.speak(&say(Some("Nobody.Knows-Me"), Some("xx-XX"))).await.unwrap();
    assert_ne!(man, woman);
    assert_ne!(man, german);
    assert!(!unknown.is_empty());
}

#[tokio::test]
async fn a_text_that_cannot_be_synthesised_has_a_typed_error() {
    let directory = tempfile::tempdir().unwrap();
    let off = SpeechConfig { tts: Tts::Off, ..SpeechConfig::default() };
    let off = Voice::new(off, directory.path(), client(), Default::default());
    assert!(matches!(off.speak(&speech("a")).await, Err(SpeechError::Off)));
    let on = Voice::new(SpeechConfig::default(), directory.path(), client(), Default::default());
    assert!(matches!(on.speak(&speech(&"a".repeat(LONGEST_TEXT + 1))).await, Err(SpeechError::TooLong(_))));
    assert!(SpeechError::NoEngine.to_string().contains("apt install espeak-ng"));
}

#[tokio::test]
async fn speech_works_without_a_writable_cache_directory() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_) = voice(&directory) else { return };
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let voice = Voice::new(SpeechConfig::default(), file.join("below"), client(), Default::default());
    assert!(!voice.speak(&speech("hello")).await.unwrap().is_empty());
}

/// A WAV file (8 bits) whose octets are all valid text, because the test server can send only text.
fn wav_of_text() -> String {
    let data = "0".repeat(0x1000);
    let head: &[u8] =
        b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\0\x10\0\0";
    String::from_utf8(head.to_vec()).unwrap() + &data
}

fn over_http(url: String) -> SpeechConfig {
    let voices = [("man", "onyx"), ("Polly.Hans", "hans"), ("de", "deutsch")];
    SpeechConfig {
        tts: Tts::Http(url.parse().unwrap()),
        tts_key: Some(tandem_settings::Secret::new("s3cret")),
        tts_voices: voices.map(|(name, voice)| (name.to_owned(), voice.to_owned())).into(),
        ..SpeechConfig::default()
    }
}

#[tokio::test]
async fn an_http_engine_uses_the_configured_voices() {
    use tandem_http::testing::{Answer, WebServer};
    let directory = tempfile::tempdir().unwrap();
    let wav = wav_of_text();
    let mut server = WebServer::start(move |_| Answer::body(wav.clone())).await;
    let voice = Voice::new(over_http(server.url("/v1/audio/speech")), directory.path(), client(), Default::default());
    let say = |name: Option<&str>, language: Option<&str>| Speech {
        voice: name.map(str::to_owned),
        language: language.map(str::to_owned),
        ..speech("Hello.")
    };
    let table = [
        (None, None, "alloy"),
        (Some("man"), None, "onyx"),
        (Some("Polly.Matthew"), Some("en-US"), "onyx"),
        (Some("polly.hans"), Some("de-DE"), "hans"),
        (Some("woman"), Some("de-DE"), "deutsch"),
    ];
    for (name, language, expected) in table {
        assert_eq!(voice.speak(&say(name, language)).await.unwrap().len(), 0x1000);
        if (name, expected) == (Some("Polly.Matthew"), "onyx") {
            continue; // The same voice has already spoken the same text.
        }
        let request = server.next().await;
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["voice"], expected, "{name:?} {language:?}");
        assert_eq!((&body["input"], &body["response_format"]), (&"Hello.".into(), &"wav".into()));
        assert_eq!(request.header("authorization"), Some("Bearer s3cret"));
    }
    assert!(server.rest().is_empty());
}

#[tokio::test]
async fn espeak_replaces_a_failed_http_engine() {
    use tandem_http::testing::{Answer, WebServer};
    let directory = tempfile::tempdir().unwrap();
    let Some(local) = voice(&directory) else { return };
    let server = WebServer::start(|_| Answer::status(500)).await;
    let voice = Voice::new(
        over_http(server.url("/v1/audio/speech")),
        directory.path().join("http"),
        client(),
        Default::default(),
    );
    let sentence = speech("Please hold the line.");
    assert_eq!(voice.speak(&sentence).await.unwrap(), local.speak(&sentence).await.unwrap());
}
