//! The program `tandem-speech`. See README.md of this folder.

mod say;
mod serve;
mod transcribe;

use std::process::ExitCode;

const USAGE: &str = "usage:
  tandem-speech serve [--models DIR] [--listen 127.0.0.1:0] [--threads N] [--alone]
  tandem-speech transcribe [--models DIR] [--language CODE] [--digits] [--hint WORD]... FILE.wav...
  tandem-speech say [--models DIR] [--voice NAME] [--speed FACTOR] [--rate HZ] TEXT -o FILE.wav
  tandem-speech install [LANGUAGE] [--models DIR] [--index URL]
  tandem-speech --help | --version";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    if command == "install" {
        return tandem_speech_server::install::command::run(arguments);
    }
    let is_help = |argument: &str| matches!(argument, "-h" | "--help");
    if is_help(&command) || command == "help" || arguments.iter().any(|argument| is_help(argument)) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if matches!(command.as_str(), "-V" | "--version") {
        println!("tandem-speech {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let done = match command.as_str() {
        "serve" => serve::run(&arguments),
        "say" => say::run(&arguments),
        "transcribe" => transcribe::run(&arguments),
        _ => Err(Failure::Arguments(USAGE.to_owned())),
    };
    let (error, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Arguments(error)) => (error, 1),
        Err(Failure::Environment(error)) => (error, 2),
    };
    eprintln!("tandem-speech: {error}");
    ExitCode::from(code)
}

/// The reason why a command failed.
enum Failure {
    /// The command line is wrong: exit code 1.
    Arguments(String),
    /// A file, a model or this computer is the reason: exit code 2.
    Environment(String),
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self::Environment(error)
    }
}

/// Returns the value of an option.
fn value<'a>(option: &str, rest: &mut std::slice::Iter<'a, String>) -> Result<&'a String, Failure> {
    rest.next().ok_or_else(|| Failure::Arguments(format!("{option} needs a value")))
}

/// Reads the value of an option.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    option: &str,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<T, Failure> {
    value(option, rest)?.parse().map_err(|error| Failure::Arguments(format!("{option}: {error}")))
}

/// The error for an option that the command does not have.
fn unknown(option: &str) -> Failure {
    Failure::Arguments(format!("{option} is not known\n{USAGE}"))
}
