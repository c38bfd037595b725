//! `tandem ca`: a certificate authority of our own.

use super::Failure;

/// Make certificates for the names that provider SDKs call (not yet)
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Says that it is not there yet.
pub(crate) fn run(_: Arguments) -> Result<(), Failure> {
    Err(Failure::not_yet("ca", "make certificates for the names that provider SDKs call"))
}
