//! `tandem doctor` checks the machine on which the server runs.

use tandem_cli::Failure;

/// Check ports, addresses, limits, clocks, database and speech engines (not implemented yet)
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Fails, because the command is not implemented yet.
pub(crate) fn run(_: Arguments) -> Result<(), Failure> {
    Err(Failure::not_yet(
        "doctor",
        "check ports, addresses, NAT, limits, clocks, database and speech engines, and give advice",
    ))
}
