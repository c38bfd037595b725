//! TLS for outbound connections.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Returns TLS settings that trust this computer's certificate authorities and the authorities in the PEM file `extra`.
/// A computer without certificate authorities (such as a container) trusts common public authorities instead. These
/// public authorities are compiled into the program.
///
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` name other locations of the computer's authorities, as with OpenSSL.
///
/// # Errors
/// The file cannot be read or contains no certificate.
pub fn tls_config(extra: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    let mut roots = system_authorities();
    if let Some(path) = extra {
        let failed = |reason: String| io::Error::other(format!("{}: {reason}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        let mut added = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(failed("the file contains no certificate".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn system_authorities() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "certificate authorities of this machine");
    }
    let mut roots = RootCertStore::empty();
    // Many computers have a few authorities that are too old for this library. Such authorities are skipped.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
