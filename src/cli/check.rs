//! `tandem check`: everything that is wrong with a configuration.

use std::path::PathBuf;

use super::Failure;

/// Say everything that is wrong with a configuration file
///
/// Each error comes with its line and with what would be right. Nothing is started and nothing is changed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file to check
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Prints the errors to standard error, or one line of what the file sets up.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = super::load_config(Some(&arguments.config))?;
    for note in &config.notes {
        println!("note: {note}");
    }
    if let Some(missing) = tandem_control::speech::missing(&config.speech) {
        println!("note: speech.tts: {missing}; until then <Say> and speak are silence");
    }
    println!(
        "{}: fine. accounts: {}, trunks: {}, applications: {}, numbers: {}, endpoints: {}; SIP on {}; HTTP on {}",
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
