//! `tandem serve` runs the server in the foreground.

use std::path::{Path, PathBuf};

use tandem_cli::Failure;

/// Run the server until SIGTERM or Ctrl-C
///
/// Without --config, the server listens for SIP on 127.0.0.1:5060 (UDP and TCP) and for HTTP on 127.0.0.1:8080, and
/// stores its data in ./data. At the first start, the server creates an account and prints the credentials once. The
/// server reads a tandem.toml in this directory only with --config tandem.toml. SIGTERM shuts the server down
/// gracefully: the server refuses new calls, lets live calls continue for `drain_timeout`, delivers webhooks and closes
/// recordings. A second SIGTERM ends the server at once. After SIGHUP, the server reads the file again. Trunks,
/// numbers, phones, accounts, limits and certificates then apply to new calls.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file (TOML); tandem.example.toml shows all settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the server until it has shut down.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = tandem_cli::load_config(arguments.config.as_deref())?;
    tandem_cli::start_log(&config.log);
    if arguments.config.is_none() && Path::new(tandem_cli::USUAL).is_file() {
        tracing::warn!("{0} in this directory is not used; to use it, give --config {0}", tandem_cli::USUAL);
    }
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let path = arguments.config;
    let read = move || tandem_cli::read_config(path.as_deref()).map_err(|errors| errors.to_string());
    tandem_cli::block_on(tandem_app::run(config, read))?.map_err(Failure::Environment)
}
