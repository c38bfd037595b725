//! `tandem ca` creates a certificate authority for `tandem proxy`, and shows how applications can trust it.

use std::path::PathBuf;

use super::proxy::hosts::HOSTS;

use super::Failure;
use super::authority::Authority;

/// Create a certificate authority for `tandem proxy`, and show how applications can trust it
///
/// `tandem proxy` presents certificates of this authority for the providers' host names. The first run of this command
/// creates the authority and stores it in data_dir/ca. Only the owner of the files can read the key of the authority.
/// The authority can issue certificates only for the providers' names. So an application that trusts the authority is
/// not at risk for any other name.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file of the server, for its data_dir (default: tandem.toml in this directory, if it exists)
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
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (config, _) = super::client_config(arguments.config.as_deref())?;
    let authority = Authority::load_or_make(&config.data_dir).map_err(Failure::Environment)?;
    let certificate = authority.certificate();
    let said = if arguments.pem {
        std::fs::read_to_string(certificate).map_err(|error| Failure::Environment(error.into()))?
    } else if arguments.path {
        format!("{}\n", certificate.display())
    } else {
        let made = if authority.is_new { "created now" } else { "created earlier" };
        let (certificate, trust) = (certificate.display(), trust(&authority, super::proxy::LISTEN));
        format!("Certificate authority, {made}: {certificate}\nIt can sign certificates for {HOSTS} only.\n\n{trust}\n")
    };
    // The reader of the output may close it early, as `| head` does. This is not an error.
    super::print(format_args!("{said}"));
    Ok(())
}

/// Returns the instructions for applications that use a proxy at `proxy` (HOST:PORT), one line for each language.
pub(crate) fn trust(authority: &Authority, proxy: &str) -> String {
    let (ca, bundle) = (authority.certificate(), authority.bundle());
    let (ca, bundle) = (ca.display(), bundle.display());
    let (host, port) = proxy.rsplit_once(':').unwrap_or((proxy, "3128"));
    format!(
        "An application needs its proxy variable and its CA variable; nothing else changes:\n  \
         python  HTTPS_PROXY=http://{proxy} REQUESTS_CA_BUNDLE={bundle}\n  \
         node    HTTP_PROXY=http://{proxy} NODE_EXTRA_CA_CERTS={ca}\n  \
         go      HTTPS_PROXY=http://{proxy} SSL_CERT_FILE={bundle}\n  \
         ruby    HTTPS_PROXY=http://{proxy} SSL_CERT_FILE={bundle}\n  \
         php     HTTPS_PROXY=http://{proxy} php -d curl.cainfo={bundle} -d openssl.cafile={bundle}\n  \
         csharp  HTTPS_PROXY=http://{proxy} SSL_CERT_FILE={bundle}\n  \
         java    keytool -importcert -noprompt -alias tandem -storepass changeit -keystore tandem.p12 -file {ca}\n          \
                 java -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} -Djavax.net.ssl.trustStore=tandem.p12 -Djavax.net.ssl.trustStorePassword=changeit\n  \
         curl    HTTPS_PROXY=http://{proxy} CURL_CA_BUNDLE={bundle}\n\
         {bundle} also contains this machine's own authorities.\n\
         For a whole container: copy {ca} to /usr/local/share/ca-certificates/tandem.crt, then update-ca-certificates."
    )
}
