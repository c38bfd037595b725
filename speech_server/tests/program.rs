//! The program as a process.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use tandem_test_support::wait_for_blocking;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-speech"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_program_serves_until_its_standard_input_is_closed() {
    let models = tempfile::tempdir().unwrap();
    let broken = models.path().join("whisper-tiny.en");
    std::fs::create_dir(&broken).unwrap();
    let mut child = program(&["serve", "--models", models.path().to_str().unwrap()]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(ready.get("listening").and_then(|address| address.as_str()).unwrap().starts_with("127.0.0.1:"), "{ready}");
    drop(child.stdin.take());
    let ended = || child.try_wait().unwrap();
    let status = wait_for_blocking(Duration::from_secs(20), Duration::from_millis(5), "the end of the program", ended);
    assert!(status.success(), "{status}");
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains(broken.to_str().unwrap()) && errors.contains("vocabulary.txt"), "{errors}");
}

#[test]
fn help_is_no_error_and_an_unknown_option_is_not_spoken() {
    for arguments in [&["--help"][..], &["say", "--help"], &["serve", "-h"]] {
        let done = program(arguments).output().unwrap();
        assert!(done.status.success() && done.stdout.starts_with(b"usage:"), "{arguments:?}: {done:?}");
    }
    for (arguments, words, code) in [
        (&["say", "--voce", "joe", "hello", "-o", "/dev/null"][..], "--voce is not known", 1),
        (&["say", "-o", "/dev/null"], "the text is missing", 1),
        (&["serve", "--threads", "many"], "--threads: invalid digit", 1),
        (&["transcribe", "--models"], "--models needs a value", 1),
        (&["transcribe"], "the files are missing", 1),
        (&["sing"], "usage:", 1),
        (&["transcribe", "--models", "/dev/null", "/dev/null/a.wav"], "a.wav: ", 2),
    ] {
        let done = program(arguments).output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{arguments:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains(words), "{done:?}");
    }
}
