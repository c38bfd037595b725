//! `tandem demo`: one call through everything.

use super::Failure;

/// Make one real call through everything and print its timeline
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Exits well only if all of it happened.
pub(crate) fn run(_: Arguments) -> Result<(), Failure> {
    Err(Failure::not_yet("demo", "make one real call through everything and print its timeline"))
}
