//! `tandem load`: paced SIP and RTP load.

use super::Failure;

/// Put paced SIP and RTP load on any SIP server (not yet)
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Says that it is not there yet.
pub(crate) fn run(_: Arguments) -> Result<(), Failure> {
    Err(Failure::not_yet("load", "put paced SIP and RTP load on any SIP server and print one JSON report"))
}
