//! `tandem serve`: the server, in the foreground.

use std::path::{Path, PathBuf};

use super::Failure;

/// Run the server until SIGTERM or Ctrl-C
///
/// Without --config: SIP on udp and tcp 127.0.0.1:5060, HTTP on 127.0.0.1:8080, data in ./data; at the first start one
/// account is made and its credentials are printed once. SIGTERM ends it gently: no new calls, live calls go on for
/// `drain_timeout`, webhooks are delivered, recordings closed. A second SIGTERM ends it at once.
/// A tandem.toml in this directory is read only with --config tandem.toml.
/// SIGHUP reads the file again: trunks, numbers, phones, accounts, limits and certificates hold for new calls then.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Settings, TOML; tandem.example.toml shows all of them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs until the server has shut down.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = super::load_config(arguments.config.as_deref())?;
    super::log::start(&config.log);
    if arguments.config.is_none() && Path::new(super::USUAL).is_file() {
        tracing::warn!("{0} in this directory is not used; to use it, give --config {0}", super::USUAL);
    }
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let path = arguments.config;
    let read = move || super::read_config(path.as_deref()).map_err(|errors| errors.to_string());
    super::block_on(tandem::app::run(config, read))?.map_err(Failure::Environment)
}
