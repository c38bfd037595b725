//! `tandem doctor`: what is wrong with the machine around us.

use super::Failure;

/// Look at ports, addresses, limits, clocks, database and speech engines (not yet)
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Says that it is not there yet.
pub(crate) fn run(_: Arguments) -> Result<(), Failure> {
    Err(Failure::not_yet(
        "doctor",
        "check ports, addresses, NAT, limits, clocks, database and speech engines, and give advice",
    ))
}
