//! The certificate of this server for DTLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dimpl::{Config, DtlsCertificate, certificate};

use crate::fingerprint::{Fingerprint, Hash};

/// The time after which an unanswered flight of the handshake is sent again. Later retries double this time.
const FIRST_RETRY: Duration = Duration::from_millis(150);
const RETRIES: usize = 7;
/// The longest time of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// A self-signed ECDSA certificate and its private key. All connections of a process share one identity: a far end
/// recognizes the certificate by the fingerprint in the signalling.
pub struct Identity {
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
    config: Arc<Config>,
}

/// The certificate could not be made, or the cryptographic library does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot create a certificate for DTLS: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// Creates a new key and a certificate that is valid for a year.
    pub fn generate() -> Result<Identity, IdentityError> {
        let certificate =
            certificate::generate_self_signed_certificate().map_err(|why| IdentityError(why.to_string()))?;
        // A far end cannot start a handshake before it has passed a STUN check, which is stronger than a cookie.
        let config = Config::builder()
            .use_server_cookie(false)
            .require_client_certificate(true)
            .flight_start_rto(FIRST_RETRY)
            .flight_retries(RETRIES)
            .handshake_timeout(HANDSHAKE)
            .build()
            .map_err(|why| IdentityError(why.to_string()))?;
        let fingerprint = Fingerprint::of(Hash::Sha256, &certificate.certificate);
        Ok(Identity { certificate, fingerprint, config: Arc::new(config) })
    }

    /// The SHA-256 fingerprint of the certificate.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(crate) fn certificate(&self) -> DtlsCertificate {
        self.certificate.clone()
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({})", self.fingerprint)
    }
}
