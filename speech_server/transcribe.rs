//! `tandem-speech transcribe`: prints the words of files, and the CPU time that they took.

use std::path::PathBuf;

use tandem_speech_server::install;
use tandem_speech_server::recognise::{Models, Options, Recognise as _, to_16_khz, wav};

use crate::{Failure, USAGE, unknown, value};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut options = Options::default();
    let mut models = None;
    let mut files = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--models" => models = Some(PathBuf::from(value(argument, &mut arguments)?)),
            "--language" => options.language = Some(value(argument, &mut arguments)?.clone()),
            "--hint" => options.hints.push(value(argument, &mut arguments)?.clone()),
            "--digits" => options.digits = true,
            other if other.starts_with("--") => return Err(unknown(other)),
            _ => files.push(argument),
        }
    }
    if files.is_empty() {
        return Err(Failure::Arguments(format!("the files are missing\n{USAGE}")));
    }
    let models = models.unwrap_or_else(install::directory::to_read);
    let begin = cpu_seconds();
    let (models, warnings) = Models::open(&models);
    for warning in warnings {
        eprintln!("tandem-speech: {warning}");
    }
    eprintln!("read the models in {:.3} s of CPU time", cpu_seconds() - begin);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    let _pool = pool.map_err(|error| error.to_string())?;
    for file in files {
        let audio = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        let audio = wav::read(&audio).map_err(|error| format!("{file}: {error}"))?;
        let begin = cpu_seconds();
        let samples = to_16_khz(&audio.samples, audio.rate);
        let found = models.recognise(&samples, &options).map_err(|error| error.to_string())?;
        let used = cpu_seconds() - begin;
        let seconds = audio.samples.len() as f64 / f64::from(audio.rate);
        println!("{file}\t{seconds:.2} s\t{used:.3} s CPU\t{:.2}\t{}", found.confidence, found.text);
    }
    Ok(())
}

/// CPU time of this process, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
