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
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem-speech: {error}");
            ExitCode::from(2)
        }
    }
}
