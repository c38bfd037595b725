//! `tandem-speech say`: writes a text as a WAV file.

use std::path::PathBuf;
use std::sync::Arc;

use tandem_speech_server::http::engines::Engines;
use tandem_speech_server::install;
use tandem_speech_server::recognise::wav;
use tandem_speech_server::voice::Options;

use crate::transcribe::cpu_seconds;
use crate::{Failure, USAGE, parsed, unknown, value};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let (mut models, mut voice, mut out) = (None, String::new(), None);
    let mut options = Options::default();
    let mut words = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--models" => models = Some(PathBuf::from(value(argument, &mut arguments)?)),
            "--voice" => voice.clone_from(value(argument, &mut arguments)?),
            "--speed" => options.speed = parsed(argument, &mut arguments)?,
            "--rate" => options.rate = Some(parsed(argument, &mut arguments)?),
            "-o" | "--out" => out = Some(value(argument, &mut arguments)?),
            "--" => words.extend(arguments.by_ref().cloned()),
            other if other.starts_with("--") => return Err(unknown(other)),
            _ => words.push(argument.clone()),
        }
    }
    let out = out.ok_or_else(|| Failure::Arguments("-o FILE.wav is missing".to_owned()))?;
    if words.is_empty() {
        return Err(Failure::Arguments(format!("the text is missing\n{USAGE}")));
    }
    let (engines, warnings) = Engines::open(&models.unwrap_or_else(install::directory::to_read));
    for warning in warnings {
        eprintln!("tandem-speech: {warning}");
    }
    let voice = engines
        .voice(&voice)
        .ok_or_else(|| "this voice is not installed; `tandem-speech install` fetches one".to_owned())?;
    let rate = options.rate.map_or(voice.rate(), |rate| rate.clamp(8_000, 48_000));
    options.rate = Some(rate);
    let begin = cpu_seconds();
    let mut samples = Vec::new();
    for piece in Arc::clone(voice).begin(&words.join(" "), &options)? {
        samples.extend(piece?);
    }
    let seconds = samples.len() as f64 / f64::from(rate);
    println!("{out}\t{seconds:.2} s\t{:.3} s CPU", cpu_seconds() - begin);
    Ok(std::fs::write(out, wav::write(rate, &samples)).map_err(|error| format!("{out}: {error}"))?)
}
