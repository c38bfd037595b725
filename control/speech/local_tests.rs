//! Tests of the engine on this computer, with a stand-in for the program `tandem-speech`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tandem_call::program::instruction::Speech;
use tandem_call::recognition::RecognitionSpec;
use tandem_http::testing::{Answer, WebServer};
use tandem_id::AccountName;
use tandem_test_support::wait_until;

use super::*;
use crate::recognise::Recogniser;
use crate::{SpokenPart, Stt, Tts, Voice};

const PATIENCE: Duration = Duration::from_secs(20);

fn client() -> Client {
    // The engine must be reachable although the settings allow no private network.
    Client::new(NetworkPolicy::default(), Duration::from_secs(5)).unwrap()
}

/// Writes a program. It appends its arguments and its key to the file `log`, and then runs `script`.
fn program(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("tandem-speech");
    let log = directory.join("log");
    let text = format!("#!/bin/sh\necho \"$$ $TANDEM_SPEECH_KEY $*\" >> {}\n{script}\n", log.display());
    // Another test may fork at this moment and hold the file open for writing, so the file is renamed into its place.
    let unfinished = directory.join("unfinished");
    std::fs::write(&unfinished, text).unwrap();
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&unfinished, &path).unwrap();
    path
}

/// A script that says that the engine at this address is ready, and then runs until its standard input is closed.
fn ready(address: SocketAddr) -> String {
    format!(r#"echo '{{"listening":"{address}","recognition":["en"],"voices":["joe"]}}'; exec cat > /dev/null"#)
}

fn config() -> SpeechConfig {
    SpeechConfig { tts: Tts::Local, stt: Stt::Local, models: Some("/var/models".into()), ..SpeechConfig::default() }
}

fn log(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The process ids of the children so far.
fn pids(directory: &Path) -> Vec<String> {
    log(directory).iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

fn is_running(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A process that nobody has waited for is over too.
    state.rsplit(')').next().is_some_and(|state| !state.trim().is_empty() && !state.trim().starts_with('Z'))
}

fn speech(text: &str, language: &str) -> Speech {
    Speech { text: text.to_owned(), ssml: false, voice: None, language: Some(language.to_owned()) }
}

/// A WAV file of 8 bits whose octets are all valid text, because the test server can send only text.
fn wav() -> String {
    let head: &[u8] =
        b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\0\x10\0\0";
    String::from_utf8(head.to_vec()).unwrap() + &"0".repeat(0x1000)
}

#[tokio::test]
async fn the_program_speaks_and_recognises_with_a_key_of_its_own_and_ends_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = WebServer::start(|request| match request.target.as_str() {
        "/v1/audio/speech" => Answer::body(wav()),
        _ => Answer::body(r#"{"text":" my number is 47","language":"en"}"#),
    })
    .await;
    let local = LocalSpeech::of_program(program(directory.path(), &ready(engine.address)), &client());
    let voice = Voice::new(config(), directory.path().join("cache"), client(), Default::default());
    let voice = voice.with_local(&config(), &local);
    let recogniser = Recogniser::new(config(), client(), Default::default()).with_local(&local);
    let spoken = voice.say(&AccountName::new("acme"), &speech("Hello.", "en-GB")).await.unwrap();
    assert_eq!((spoken.samples.len(), spoken.instead_of), (0x1000, None));
    let how = RecognitionSpec { digits: true, ..RecognitionSpec::default() };
    let words = recogniser.transcribe(wav().into(), &how).await.unwrap();
    assert_eq!(words.stable, "my number is 47");
    let lines = log(directory.path());
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let mut parts = line.splitn(3, ' ');
    let (pid, key, arguments) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    assert_eq!((key.len(), arguments), (32, "serve --listen 127.0.0.1:0 --models /var/models"));
    for request in [engine.next().await, engine.next().await] {
        assert_eq!(request.header("authorization"), Some(&*format!("Bearer {key}")));
        match request.target.as_str() {
            "/v1/audio/speech" => assert!(request.body.contains("\"voice\":\"joe\""), "{}", request.body),
            _ => assert!(request.body.contains("name=\"digits\"\r\n\r\ntrue"), "{}", request.body),
        }
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned();
    assert_eq!(nice, "10");
    recogniser.stop_local().await;
    assert!(!is_running(pid));
}

#[tokio::test]
async fn a_program_that_dies_starts_again_and_a_reload_stops_it() {
    let directory = tempfile::tempdir().unwrap();
    let engine = WebServer::start(|_| Answer::body(r#"{"text":"hello"}"#)).await;
    let local = LocalSpeech::of_program(program(directory.path(), &ready(engine.address)), &client());
    let recogniser = Recogniser::new(config(), client(), Default::default()).with_local(&local);
    let how = RecognitionSpec::default();
    recogniser.transcribe(wav().into(), &how).await.unwrap();
    let pid = pids(directory.path()).pop().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until(PATIENCE, "the second child", async || pids(directory.path()).len() == 2).await;
    recogniser.transcribe(wav().into(), &how).await.unwrap();
    let keys: Vec<String> =
        log(directory.path()).iter().filter_map(|line| line.split(' ').nth(1).map(str::to_owned)).collect();
    assert_ne!(keys[0], keys[1]);
    recogniser.reconfigure(SpeechConfig::default());
    let second = pids(directory.path()).pop().unwrap();
    wait_until(PATIENCE, "the end of the second child", async || !is_running(&second)).await;
    recogniser.reconfigure(config());
    recogniser.transcribe(wav().into(), &how).await.unwrap();
    recogniser.stop_local().await;
}

#[tokio::test]
async fn without_a_program_or_without_models_the_error_names_the_command_that_installs_them() {
    let directory = tempfile::tempdir().unwrap();
    let empty = r#"echo '{"listening":"127.0.0.1:9","recognition":[],"voices":[]}'; exec cat > /dev/null"#;
    let complains = "echo 'no models; run `tandem-speech install`' >&2; exit 1";
    for script in [empty, complains] {
        let local = LocalSpeech::of_program(program(directory.path(), script), &client());
        let recogniser = Recogniser::new(config(), client(), Default::default()).with_local(&local);
        let failed = async || match recogniser.transcribe(wav().into(), &RecognitionSpec::default()).await {
            Err(why) => why.to_string().contains("tandem speech install"),
            Ok(_) => false,
        };
        wait_until(PATIENCE, "the advice", failed).await;
        recogniser.stop_local().await;
    }
    let none = LocalFault::NoProgram.to_string();
    assert!(none.contains("tandem speech install") && none.starts_with(SPEECH_NOT_INSTALLED));
}

#[tokio::test]
async fn espeak_speaks_other_languages_and_the_texts_that_a_busy_program_refuses() {
    if std::process::Command::new("espeak-ng").arg("--version").output().is_err() {
        tandem_test_support::skip(tandem_test_support::Needs::Package("espeak-ng"));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let engine = WebServer::start(|_| Answer::status(429)).await;
    let local = LocalSpeech::of_program(program(directory.path(), &ready(engine.address)), &client());
    let voice = Voice::new(config(), directory.path().join("cache"), client(), Default::default());
    let voice = voice.with_local(&config(), &local);
    let german = voice.say(&AccountName::new("acme"), &speech("Guten Tag.", "de-DE")).await.unwrap();
    assert_eq!(german.instead_of, None, "this is no failure");
    let refused = voice.say(&AccountName::new("acme"), &speech("Hello there.", "en-US")).await.unwrap();
    assert!(refused.instead_of.unwrap().contains(LOCAL_SPEECH_BUSY));
    assert!(refused.samples.len() > 4_000);
    let places: Vec<_> = std::iter::from_fn(|| local.text_place().ok()).collect();
    assert_eq!(places.len(), MAX_TEXTS);
    let full = voice.say(&AccountName::new("acme"), &speech("Hello again.", "en-US")).await.unwrap();
    assert!(full.instead_of.unwrap().contains(LOCAL_SPEECH_BUSY));
    local.stop().await;
}

#[tokio::test]
async fn a_program_that_never_works_is_started_with_growing_pauses() {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalSpeech::of_program(program(directory.path(), "echo 'out of memory' >&2; exit 7"), &client());
    local.configure(&config());
    wait_until(PATIENCE, "the third child", async || pids(directory.path()).len() >= 3).await;
    let why = async || match local.ready(Duration::from_millis(10)).await {
        Err(LocalFault::Down(why)) => why.contains("out of memory") && why.contains("exit status: 7"),
        _ => false,
    };
    wait_until(PATIENCE, "the reason", why).await;
    local.stop().await;
    assert!(pids(directory.path()).len() <= 5, "the pauses grow");
}

#[tokio::test]
async fn a_language_without_a_model_names_the_command_that_installs_the_model() {
    let directory = tempfile::tempdir().unwrap();
    let engine = WebServer::start(|_| Answer::body(r#"{"text":"hello"}"#)).await;
    let local = LocalSpeech::of_program(program(directory.path(), &ready(engine.address)), &client());
    let recogniser = Recogniser::new(config(), client(), Default::default()).with_local(&local);
    let hears = async |language: Option<&str>| {
        let how = RecognitionSpec { language: language.map(Into::into), ..RecognitionSpec::default() };
        let of_file = recogniser.transcribe(wav().into(), &how).await.map(|words| words.stable);
        let mut session = recogniser.listen(&how).unwrap();
        session.finish();
        (of_file.map_err(|why| why.to_string()), session.next().await)
    };
    for language in [None, Some("en-GB"), Some("EN_us"), Some("multi")] {
        assert_eq!(hears(language).await.0.as_deref(), Ok("hello"), "{language:?}");
    }
    let (of_file, live) = hears(Some("de-DE")).await;
    let why = of_file.unwrap_err();
    assert!(why.contains(SPEECH_NOT_INSTALLED) && why.contains("`tandem speech install de`"), "{why}");
    assert_eq!(live.unwrap().unwrap_err().to_string(), why);
    let why = hears(Some("`rm -rf /`")).await.0.unwrap_err();
    assert!(why.contains("`tandem speech install`") && !why.contains("rm"), "{why}");
    recogniser.stop_local().await;
}

#[test]
fn a_program_that_refuses_a_request_does_run() {
    let refused = "ws://127.0.0.1:9/v1/listen: HTTP error: 400 Bad Request";
    assert_eq!(fault_of(refused), refused);
    assert!(fault_of("ws://127.0.0.1:9/v1/listen: HTTP error: 429 Too Many Requests").contains(LOCAL_SPEECH_BUSY));
    assert!(fault_of("the engine closed the connection").contains(LOCAL_SPEECH_DOWN));
}

#[tokio::test]
async fn a_program_that_does_not_answer_is_ended_and_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let engine = WebServer::start(|_| Answer::Silence).await;
    // The program does not react to the end of its input either.
    let script = ready(engine.address).replace("exec cat", "trap '' TERM; while :; do sleep 1; done; cat");
    let local = LocalSpeech::checked(program(directory.path(), &script), &client());
    local.configure(&config());
    wait_until(PATIENCE, "the second child", async || pids(directory.path()).len() >= 2).await;
    assert!(!is_running(&pids(directory.path())[0]));
    local.stop().await;
}

#[tokio::test]
async fn a_new_model_is_found_while_the_program_runs_and_its_requests_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let models = directory.path().join("models");
    std::fs::create_dir(&models).unwrap();
    let engine = WebServer::start(|_| Answer::body("{}")).await;
    let local = LocalSpeech::checked(program(directory.path(), &ready(engine.address)), &client());
    local.configure(&SpeechConfig { models: Some(models.clone()), ..config() });
    let used = local.ready(PATIENCE).await.unwrap();
    std::fs::create_dir(models.join("whisper-base")).unwrap();
    wait_until(PATIENCE, "the second child", async || pids(directory.path()).len() == 2).await;
    let second = local.ready(PATIENCE).await.unwrap();
    assert!(!Arc::ptr_eq(&used, &second));
    let pids = pids(directory.path());
    assert!(is_running(&pids[0]), "a request still uses the first child");
    drop(used);
    wait_until(PATIENCE, "the end of the first child", async || !is_running(&pids[0])).await;
    assert!(is_running(&pids[1]));
    drop(second);
    local.stop().await;
    assert!(!is_running(&pids[1]));
}

#[tokio::test]
async fn a_reload_does_not_end_the_requests_that_use_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let engine = WebServer::start(|_| Answer::body("{}")).await;
    let local = LocalSpeech::of_program(program(directory.path(), &ready(engine.address)), &client());
    local.configure(&config());
    let used = local.ready(PATIENCE).await.unwrap();
    local.configure(&SpeechConfig::default());
    let off = async || matches!(*local.state.borrow(), State::Off);
    wait_until(PATIENCE, "the end of the supervision", off).await;
    let pid = pids(directory.path()).remove(0);
    assert!(is_running(&pid));
    drop(used);
    wait_until(PATIENCE, "the end of the child", async || !is_running(&pid)).await;
    local.stop().await;
}

#[tokio::test]
async fn a_program_that_refuses_a_text_speaks_the_next_one() {
    if std::process::Command::new("espeak-ng").arg("--version").output().is_err() {
        tandem_test_support::skip(tandem_test_support::Needs::Package("espeak-ng"));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let engine = WebServer::start(|request| match &request.body {
        body if body.contains("Too much") => Answer::status(429),
        body if body.contains("No letter") => Answer::status(422),
        _ => Answer::body(wav()),
    })
    .await;
    let local = LocalSpeech::of_program(program(directory.path(), &ready(engine.address)), &client());
    let voice = Voice::new(config(), directory.path().join("cache"), client(), Default::default());
    let voice = Arc::new(voice.with_local(&config(), &local));
    let (session, account) = (voice.session(), AccountName::new("acme"));
    for (text, expected) in [("Too much.", LOCAL_SPEECH_BUSY), ("No letter.", "422")] {
        let mut refused = voice.stream(&session, &account, &speech(text, "en-US"));
        let part = refused.next().await.unwrap().unwrap();
        assert!(matches!(&part, SpokenPart::InsteadOf(why) if why.contains(expected)), "{part:?}");
    }
    let (mut spoken, mut length) = (voice.stream(&session, &account, &speech("Hello.", "en-US")), 0);
    while let Some(part) = spoken.next().await {
        let Ok(SpokenPart::Samples(samples)) = part else { panic!("{part:?}") };
        length += samples.len();
    }
    assert_eq!(length, 0x1000, "the program spoke");
    local.stop().await;
}
