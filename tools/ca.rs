//! `tandem ca` creates a certificate authority for `tandem proxy`, and shows how applications can trust it.

use std::path::PathBuf;

use crate::hosts::HOSTS;

use crate::authority::Authority;
use tandem_cli::Failure;

/// Create a certificate authority for `tandem proxy`, and show how applications can trust it
///
/// `tandem proxy` presents certificates of this authority for the providers' host names. The first run of this command
/// creates the authority and stores it in data_dir/ca. Only the owner of the files can read the key of the authority.
/// The authority can issue certificates only for the providers' names. So an application that trusts the authority is
/// not at risk for any other name.
#[derive(clap::Args)]
pub struct Arguments {
    /// Configuration file of the server, for its data_dir (default: tandem.toml in this directory, otherwise
    /// /etc/tandem/tandem.toml of the installed service)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print only the certificate
    #[arg(long, conflicts_with = "path")]
    pem: bool,
    /// Print only the path of the certificate, for example for export NODE_EXTRA_CA_CERTS="$(tandem ca --path)"
    #[arg(long)]
    path: bool,
}

/// Prints the certificate, the path of the certificate, or the instructions.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let (config, _) = tandem_cli::client_config(arguments.config.as_deref())?;
    let authority = Authority::load_or_make(&config.data_dir).map_err(Failure::Environment)?;
    let certificate = authority.certificate();
    let said = if arguments.pem {
        std::fs::read_to_string(certificate).map_err(|error| Failure::Environment(error.into()))?
    } else if arguments.path {
        format!("{}\n", certificate.display())
    } else {
        let made = if authority.is_new { "created now" } else { "created earlier" };
        let (certificate, trust) = (certificate.display(), authority.instructions(crate::proxy::LISTEN));
        format!("Certificate authority, {made}: {certificate}\nIt can sign certificates for {HOSTS} only.\n\n{trust}\n")
    };
    // The reader of the output may close it early, as `| head` does. This is not an error.
    tandem_cli::print(format_args!("{said}"));
    Ok(())
}
