//! `tandem check`: everything that is wrong with a configuration.

use std::path::PathBuf;

use super::Failure;

/// Say everything that is wrong with a configuration file
///
/// Each error comes with its line and with what would be right. Nothing is started and nothing is changed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file to check; tandem.toml in this directory when left out
    #[arg(long, value_name = "FILE", default_value = super::USUAL)]
    config: PathBuf,
    /// Fail on notes too
    #[arg(long)]
    strict: bool,
}

/// Prints the errors to standard error, or one line of what the file sets up.
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
