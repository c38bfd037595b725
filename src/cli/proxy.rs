//! `tandem proxy`: a CONNECT proxy in front of unmodified applications.

use super::Failure;

/// Run a CONNECT proxy that brings provider hosts to us (not yet)
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Says that it is not there yet.
pub(crate) fn run(_: Arguments) -> Result<(), Failure> {
    Err(Failure::not_yet("proxy", "bring an unmodified application's provider requests to this server by HTTPS_PROXY"))
}
