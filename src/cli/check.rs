//! `tandem check` reports all errors of a configuration.

use std::path::PathBuf;

use super::Failure;

/// Check a configuration file and report all errors at once
///
/// Each error is shown with its line number and with the values that would be valid. The command starts nothing and
/// changes nothing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file to check
    #[arg(long, value_name = "FILE", default_value = super::USUAL)]
    config: PathBuf,
    /// Treat notes as errors
    #[arg(long)]
    strict: bool,
}

/// Prints the errors to standard error. If there are no errors, prints a summary of the configuration in one line.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = super::read_config(Some(&arguments.config)).map_err(|errors| {
        errors.notes().iter().for_each(|note| println!("note: {note}"));
        Failure::Input(errors.into())
    })?;
    let speech = tandem_speech::missing(&config.speech);
    let speech = speech.map(|missing| format!("speech.tts: {missing}; until then <Say> and speak play nothing"));
    let notes: Vec<_> = config.notes.iter().cloned().chain(speech).collect();
    notes.iter().for_each(|note| println!("note: {note}"));
    if arguments.strict && !notes.is_empty() {
        let (file, count) = (arguments.config.display(), notes.len());
        return Err(Failure::Input(anyhow::anyhow!("{file}: {count} notes, which --strict does not accept")));
    }
    println!(
        "{}: valid. accounts: {}, trunks: {}, applications: {}, numbers: {}, endpoints: {}; SIP on {}; HTTP on {}",
        arguments.config.display(),
        config.accounts.len(),
        config.trunks.len(),
        config.applications.len(),
        config.numbers.len(),
        config.endpoints.len(),
        config.sip.listen.join(", "),
        config.http.listen,
    );
    Ok(())
}
