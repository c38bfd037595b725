//! The certificate of this server for DTLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dimpl::{Config, DtlsCertificate, certificate};
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_crypto::{RTCCryptoProvider, SignatureScheme};
use rtc_dtls::crypto::Certificate;

use crate::fingerprint::{Fingerprint, Hash};

/// The time after which an unanswered flight of the handshake is sent again. Later retries double this time.
pub(crate) const FIRST_RETRY: Duration = Duration::from_millis(150);
const RETRIES: usize = 7;
/// The longest time of a handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(20);

/// A self-signed ECDSA certificate and its private key. All connections of a process share one identity: a far end
/// recognizes the certificate by the fingerprint in the signalling.
pub struct Identity {
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
    config: Arc<Config>,
    /// The same certificate and key, for phones.
    phone_certificate: Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
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
        let provider = Arc::new(AwsLcRsProvider::new());
        let key = provider
            .crypto()
            .import_signing_key(SignatureScheme::EcdsaP256Sha256, &certificate.private_key)
            .map_err(|why| IdentityError(why.to_string()))?;
        let phone_certificate = Certificate::from_signing_key(vec![certificate.certificate.clone().into()], key);
        Ok(Identity { certificate, fingerprint, config: Arc::new(config), phone_certificate, provider })
    }

    /// An identity whose certificate for phones has an RSA key of 2,048 bits.
    #[cfg(test)]
    pub(crate) fn generate_rsa() -> Result<Identity, IdentityError> {
        let failure = |why: &dyn fmt::Display| IdentityError(why.to_string());
        let own = Identity::generate()?;
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).map_err(|why| failure(&why))?;
        let parameters = rcgen::CertificateParams::new(vec!["phone".to_owned()]).map_err(|why| failure(&why))?;
        let certificate = parameters.self_signed(&key).map_err(|why| failure(&why))?.der().to_vec();
        let crypto = own.provider.crypto();
        let key = crypto.import_signing_key(SignatureScheme::RsaPkcs1Sha256, &key.serialize_der());
        let fingerprint = Fingerprint::of(Hash::Sha256, &certificate);
        let key = key.map_err(|why| failure(&why))?;
        let phone_certificate = Certificate::from_signing_key(vec![certificate.into()], key);
        Ok(Identity { fingerprint, phone_certificate, ..own })
    }

    /// The SHA-256 fingerprint of the certificate.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(crate) fn certificate(&self) -> DtlsCertificate {
        self.certificate.clone()
    }

    pub(crate) fn phone_certificate(&self) -> Certificate {
        self.phone_certificate.clone()
    }

    pub(crate) fn provider(&self) -> Arc<dyn RTCCryptoProvider> {
        Arc::clone(&self.provider)
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
