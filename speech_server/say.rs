//! `tandem-speech say`: writes a text as a WAV file.

use std::path::PathBuf;
use std::sync::Arc;

use tandem_speech_server::http::engines::Engines;
use tandem_speech_server::install;
use tandem_speech_server::recognise::wav;
use tandem_speech_server::voice::Options;

use crate::transcribe::cpu_seconds;

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let (mut models, mut voice, mut out) = (None, String::new(), None);
    let mut options = Options::default();
    let mut words = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().cloned().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--models" => models = Some(PathBuf::from(value()?)),
            "--voice" => voice = value()?,
            "--speed" => options.speed = value()?.parse().map_err(|error| format!("--speed: {error}"))?,
            "--rate" => options.rate = Some(value()?.parse().map_err(|error| format!("--rate: {error}"))?),
            "-o" | "--out" => out = Some(value()?),
            "--" => words.extend(arguments.by_ref().cloned()),
            other if other.starts_with("--") => return Err(format!("{other} is not known\n{}", crate::USAGE)),
            _ => words.push(argument.clone()),
        }
    }
    let out = out.ok_or("-o FILE.wav is missing")?;
    if words.is_empty() {
        return Err(format!("the text is missing\n{}", crate::USAGE));
    }
    let (engines, warnings) = Engines::open(&models.unwrap_or_else(install::directory::to_read));
    for warning in warnings {
        eprintln!("tandem-speech: {warning}");
    }
    let voice = engines.voice(&voice).ok_or("this voice is not installed; `tandem-speech install` fetches one")?;
    let rate = options.rate.map_or(voice.rate(), |rate| rate.clamp(8_000, 48_000));
    options.rate = Some(rate);
    let begin = cpu_seconds();
    let mut samples = Vec::new();
    for piece in Arc::clone(voice).begin(&words.join(" "), &options)? {
        samples.extend(piece?);
    }
    let seconds = samples.len() as f64 / f64::from(rate);
    println!("{out}\t{seconds:.2} s\t{:.3} s CPU", cpu_seconds() - begin);
    std::fs::write(&out, wav::write(rate, &samples)).map_err(|error| format!("{out}: {error}"))
}
