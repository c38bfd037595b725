//! TLS (RFC 3261 §26, RFC 5922). This module loads the server's own certificates and the trusted authorities, and
//! reloads these files after a change.
//!
//! A connection keeps the certificates with which it was opened. The far end's certificate must be valid for the host
//! in the requested URI, not for the address that DNS returned. The certificate can name the host as a URI `sip:HOST`
//! (RFC 5922 §7.1) or as a DNS name. RFC 5922 §7.2 forbids wildcards, but the server accepts wildcards, because
//! certificates of carriers have wildcards.

use ::aws_lc_rs::digest::{SHA256, digest};
use std::collections::HashMap;
use std::fmt;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::config::{Certificate, Config, TrunkTls};
use crate::trunk_acl::TrunkName;
use crate::validity;

/// Interval at which the server checks whether the files have changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The identity that the far end of a connection must prove. The identity determines which certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ExpectedServer {
    /// Host of the requested URI.
    pub(super) host: String,
    pub(super) trunk: Option<TrunkName>,
}

/// The error for a TLS file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct BadFile {
    /// Path of the file.
    pub path: PathBuf,
    /// The error in words.
    pub why: String,
}

/// Reads the files that TLS needs. Returns the files that cannot be used, each with the name of its setting (for
/// example `sip.certificates[0]`). The name of a trunk's setting contains the index of the trunk in
/// [`Config::tls_trunks`].
#[must_use]
pub fn faults(config: &Config) -> Vec<(String, BadFile)> {
    let mut faults = Vec::new();
    for (index, own) in config.certificates.iter().enumerate() {
        faults.extend(own_key(own).err().map(|fault| (format!("sip.certificates[{index}]"), fault)));
    }
    if let Some(file) = &config.ca_file {
        faults.extend(authorities(file).err().map(|fault| ("sip.ca_file".to_owned(), fault)));
    }
    for (index, trunk) in config.tls_trunks.iter().enumerate() {
        if let Some(own) = &trunk.certificate {
            faults.extend(own_key(own).err().map(|fault| (format!("trunks[{index}].certificate"), fault)));
        }
        if let Some(file) = &trunk.ca_file {
            faults.extend(authorities(file).err().map(|fault| (format!("trunks[{index}].ca_file"), fault)));
        }
    }
    faults
}

/// A certificate of this server, or of its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCertificate {
    /// The name of the setting, for example `sip.certificates[0]`.
    pub setting: String,
    /// Path of the PEM file.
    pub file: PathBuf,
    /// Time from which all certificates of the file's chain are valid, in seconds since 1970.
    pub not_before: u64,
    /// Time at which the first certificate of the file's chain expires, in seconds since 1970.
    pub not_after: u64,
    /// The DNS names in the certificate. A name may begin with `*.`.
    pub names: Vec<String>,
}

impl OwnCertificate {
    /// Time before the expiry at which the server begins to warn.
    pub const WARNING: Duration = Duration::from_secs(14 * 24 * 3_600);

    /// Describes a certificate that has expired or is not yet valid at `now` (seconds since 1970), or that expires within
    /// [`OwnCertificate::WARNING`]. Returns `None` for any other certificate.
    #[must_use]
    pub fn warning(&self, now: u64) -> Option<String> {
        let file = self.file.display();
        match self.not_after.checked_sub(now) {
            None | Some(0) => Some(format!("the certificate {file} has expired: far ends refuse TLS connections")),
            Some(_) if now < self.not_before => {
                let hours = (self.not_before - now).div_ceil(3_600);
                Some(format!(
                    "the certificate {file} is valid only in {hours} h: until then, far ends refuse TLS connections"
                ))
            }
            Some(left) if left <= Self::WARNING.as_secs() => {
                Some(format!("the certificate {file} expires in {} days; renew it", left / 86_400))
            }
            Some(_) => None,
        }
    }
}

/// Returns the certificates that the configuration names: those of `sip.certificates` and of the trunks. Files that
/// cannot be read are left out, because [`faults`] reports them.
#[must_use]
pub fn own_certificates(config: &Config) -> Vec<OwnCertificate> {
    Settings::of(config).own_certificates()
}

/// The certificates and trusted authorities for new connections.
pub(super) struct Tls {
    loaded: RwLock<Arc<LoadedTls>>,
}

#[derive(Clone)]
struct Settings {
    certificates: Vec<Certificate>,
    ca_file: Option<PathBuf>,
    trunks: Vec<TrunkTls>,
}

/// All data that was read from the TLS files.
struct LoadedTls {
    settings: Settings,
    own: Vec<OwnCertificate>,
    /// Configuration for accepted connections; `None` if the server has no certificate.
    server: Option<Arc<ServerConfig>>,
    /// Configuration for connections to far ends that have no TLS settings of their own.
    client: Arc<ClientConfig>,
    trunks: HashMap<TrunkName, Arc<ClientConfig>>,
    mutual: Vec<MutualTlsTrunk>,
}

/// A trunk whose inbound calls the server recognises by the trunk's certificate.
struct MutualTlsTrunk {
    tls: TrunkTls,
    by_authority: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificates", &self.loaded().settings.certificates).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads all TLS files.
    ///
    /// # Errors
    /// Returns the first file that cannot be used.
    pub(super) fn load(config: &Config) -> Result<Self, BadFile> {
        Ok(Self { loaded: RwLock::new(Arc::new(Settings::of(config).load()?)) })
    }

    /// Loads the files of a new configuration. Open connections keep the certificates with which they were opened.
    ///
    /// # Errors
    /// Returns the first file that cannot be used. In this case the server keeps the old files.
    pub(super) fn reconfigure(&self, config: &Config) -> Result<(), BadFile> {
        let loaded = Arc::new(Settings::of(config).load()?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Returns the certificates of this server.
    pub(super) fn own_certificates(&self) -> Vec<OwnCertificate> {
        self.loaded().own.clone()
    }

    /// Returns the configuration for accepting connections. Returns `None` if the server has no certificate.
    pub(super) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.loaded().server.clone()
    }

    /// Returns the configuration for a new connection, and the name that the far end must prove. Returns `None` if this
    /// name is not valid.
    pub(super) fn client(&self, server: &ExpectedServer) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let loaded = self.loaded();
        let own = server.trunk.as_ref().and_then(|trunk| loaded.settings.trunks.iter().find(|one| one.trunk == *trunk));
        let name = own.and_then(|own| own.name.clone()).unwrap_or_else(|| server.host.clone());
        let name = ServerName::try_from(name.trim_matches(['[', ']']).trim_end_matches('.').to_owned()).ok()?;
        let config = own.and_then(|own| loaded.trunks.get(&own.trunk)).unwrap_or(&loaded.client);
        Some((Arc::clone(config), name))
    }

    /// Returns the trunk to which the client's certificate belongs. The handshake has already proven that the client
    /// has the private key.
    pub(super) fn trunk_of_certificate(&self, source: IpAddr, chain: &[CertificateDer<'static>]) -> Option<TrunkName> {
        let (own, intermediates) = chain.split_first()?;
        let source = source.to_canonical();
        let loaded = self.loaded();
        let from_there = |tls: &TrunkTls| {
            let networks = tls.mutual.as_deref().unwrap_or_default();
            networks.is_empty() || networks.iter().any(|network| network.contains(&source))
        };
        let certified_trunk = loaded.mutual.iter().filter(|one| from_there(&one.tls)).find(|one| {
            let by_authority = || {
                one.by_authority.verify_client_cert(own, intermediates, UnixTime::now()).is_ok()
                    && one.tls.name.as_deref().is_none_or(|name| is_for(own, name))
            };
            one.tls.fingerprints.contains(&fingerprint(own)) || one.tls.fingerprints.is_empty() && by_authority()
        });
        certified_trunk.map(|one| one.tls.trunk.clone())
    }

    /// Checks the files forever. If a file changes, reads all files again. If a file cannot be used, logs a warning and
    /// changes nothing.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut before = self.loaded();
        let mut seen = stamps(&before.settings.files());
        loop {
            sleep(CHECK_INTERVAL).await;
            let loaded = self.loaded();
            let now = stamps(&loaded.settings.files());
            if now == seen || !Arc::ptr_eq(&before, &loaded) {
                (before, seen) = (loaded, now);
                continue;
            }
            seen = now;
            match loaded.settings.load() {
                Ok(fresh) => {
                    let mut place = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
                    if !Arc::ptr_eq(&place, &loaded) {
                        continue;
                    }
                    *place = Arc::new(fresh);
                    before = Arc::clone(&place);
                    tracing::info!("SIP: certificates and authorities reloaded");
                }
                Err(fault) => tracing::warn!("SIP: the TLS files were not reloaded: {fault}"),
            }
        }
    }

    fn loaded(&self) -> Arc<LoadedTls> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the fingerprint of a certificate for the log. The format is the same as in `openssl x509 -fingerprint
/// -sha256`.
pub(super) fn fingerprint_text(certificate: &CertificateDer<'_>) -> String {
    fingerprint(certificate).map(|octet| format!("{octet:02X}")).join(":")
}

/// Returns the certificates that the client sent in the handshake. [`Tls::trunk_of_certificate`] checks these certificates.
pub(super) fn chain(stream: &tokio_rustls::server::TlsStream<TcpStream>) -> &[CertificateDer<'static>] {
    stream.get_ref().1.peer_certificates().unwrap_or_default()
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            certificates: config.certificates.clone(),
            ca_file: config.ca_file.clone(),
            trunks: config.tls_trunks.clone(),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let own = self.certificates.iter().chain(self.trunks.iter().filter_map(|trunk| trunk.certificate.as_ref()));
        let own = own.flat_map(|own| [own.certificate.clone(), own.key.clone()]);
        own.chain(self.ca_file.clone()).chain(self.trunks.iter().filter_map(|trunk| trunk.ca_file.clone())).collect()
    }

    fn own_certificates(&self) -> Vec<OwnCertificate> {
        let general = self.certificates.iter().enumerate();
        let general = general.map(|(index, own)| (format!("sip.certificates[{index}]"), own));
        let trunks = self.trunks.iter().enumerate();
        let trunks = trunks.filter_map(|(index, trunk)| Some((index, trunk.certificate.as_ref()?)));
        let trunks = trunks.map(|(index, own)| (format!("trunks[{index}].certificate"), own));
        general
            .chain(trunks)
            .filter_map(|(setting, own)| {
                let chain = certificates(&own.certificate).ok()?;
                let validities = || chain.iter().filter_map(|one| validity::of(one));
                let not_before = validities().map(|(from, _)| from).max()?;
                let not_after = validities().map(|(_, to)| to).min()?;
                let certificate = chain.first().and_then(|own| webpki::EndEntityCert::try_from(own).ok());
                let names = certificate.iter().flat_map(|own| own.valid_dns_names()).map(str::to_owned).collect();
                Some(OwnCertificate { setting, file: own.certificate.clone(), not_before, not_after, names })
            })
            .collect()
    }

    fn load(&self) -> Result<LoadedTls, BadFile> {
        let keys: Vec<_> = self.certificates.iter().map(own_key).collect::<Result<_, _>>()?;
        let first = keys.first().cloned();
        let default_roots = Arc::new(match &self.ca_file {
            Some(file) => authorities(file)?,
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        });
        let (mut trunks, mut mutual) = (HashMap::new(), Vec::new());
        for tls in &self.trunks {
            let roots = match &tls.ca_file {
                Some(file) => Arc::new(authorities(file)?),
                None => Arc::clone(&default_roots),
            };
            let own = match &tls.certificate {
                Some(own) => Some(own_key(own)?),
                None => first.clone(),
            };
            if tls.mutual.is_some() {
                let built = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider()).build();
                let by_authority = built.map_err(|error| BadFile {
                    path: tls.ca_file.clone().unwrap_or_default(),
                    why: error.to_string(),
                })?;
                mutual.push(MutualTlsTrunk { tls: tls.clone(), by_authority });
            }
            trunks.insert(tls.trunk.clone(), Arc::new(client(roots, &tls.fingerprints, own)));
        }
        let server = first.clone().map(|_| Arc::new(server(keys, !mutual.is_empty())));
        Ok(LoadedTls {
            settings: self.clone(),
            own: self.own_certificates(),
            server,
            client: Arc::new(client(default_roots, &[], first)),
            trunks,
            mutual,
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn server(keys: Vec<Arc<CertifiedKey>>, asks: bool) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    #[expect(clippy::expect_used, reason = "the provider has TLS 1.2 and 1.3")]
    let builder = builder.expect("versions of the provider");
    let builder = match asks {
        true => builder.with_client_cert_verifier(Arc::new(AnyClientCertificate(provider()))),
        false => builder.with_no_client_auth(),
    };
    builder.with_cert_resolver(Arc::new(CertificateByName(keys)))
}

fn client(roots: Arc<RootCertStore>, fingerprints: &[[u8; 32]], own: Option<Arc<CertifiedKey>>) -> ClientConfig {
    // If the store of authorities is empty, there is no verifier. A trunk may be recognised only by its fingerprints.
    let by_authority = WebPkiServerVerifier::builder_with_provider(roots, provider()).build().ok();
    let verifier = ServerVerifier { by_authority, fingerprints: fingerprints.to_vec(), provider: provider() };
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    #[expect(clippy::expect_used, reason = "the provider has TLS 1.2 and 1.3")]
    let builder = builder.expect("versions of the provider");
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    }
}

fn own_key(own: &Certificate) -> Result<Arc<CertifiedKey>, BadFile> {
    let chain = certificates(&own.certificate)?;
    let fault = |why: String| BadFile { path: own.key.clone(), why };
    let key = PrivateKeyDer::from_pem_file(&own.key).map_err(|error| fault(pem_fault(&error, "private key")))?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(_) => fault(format!("is not the key of {}", own.certificate.display())),
        error => fault(error.to_string()),
    })?;
    Ok(Arc::new(key))
}

fn authorities(file: &Path) -> Result<RootCertStore, BadFile> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| BadFile { path: file.to_owned(), why: error.to_string() })?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let fault = |why: String| BadFile { path: file.to_owned(), why };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found = found.map_err(|error| fault(pem_fault(&error, "certificate")))?;
    if found.is_empty() { Err(fault("contains no certificate in PEM".to_owned())) } else { Ok(found) }
}

fn pem_fault(error: &rustls::pki_types::pem::Error, what: &str) -> String {
    use rustls::pki_types::pem::Error as Pem;
    match error {
        Pem::NoItemsFound => format!("contains no {what} in PEM"),
        Pem::Io(error) => error.to_string(),
        other => format!("{other:?}"),
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |file: &PathBuf| std::fs::metadata(file).and_then(|found| Ok((found.modified()?, found.len())));
    files.iter().map(|file| stamp(file).ok()).collect()
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

/// Returns whether a certificate is valid for a SIP domain (RFC 5922 §7.1). The certificate can name the domain in a
/// URI, as a DNS name or as an address.
fn is_for(certificate: &CertificateDer<'_>, domain: &str) -> bool {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return false };
    let by_uri = parsed.valid_uri_names().any(|uri| {
        uri.split_once(':')
            .is_some_and(|(scheme, host)| scheme.eq_ignore_ascii_case("sip") && host.eq_ignore_ascii_case(domain))
    });
    by_uri || ServerName::try_from(domain).is_ok_and(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok())
}

/// Selects the certificate for the name that a client requests (SNI). If no certificate has this name, selects the
/// first certificate.
#[derive(Debug)]
struct CertificateByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for CertificateByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| {
            let (Some(name), Some(own)) = (hello.server_name(), key.cert.first()) else { return false };
            let Ok(parsed) = ParsedCertificate::try_from(own) else { return false };
            ServerName::try_from(name).is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
        };
        self.0.iter().find(fits).or_else(|| self.0.first()).cloned()
    }
}

/// Verifies the certificate of a server by authority and name. If fingerprints are configured, verifies the certificate
/// by fingerprint instead.
#[derive(Debug)]
struct ServerVerifier {
    by_authority: Option<Arc<WebPkiServerVerifier>>,
    fingerprints: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.fingerprints.is_empty() {
            let known = self.fingerprints.contains(&fingerprint(own));
            if known {
                return Ok(ServerCertVerified::assertion());
            }
            tracing::warn!("the fingerprint of certificate {} is not one of the trunk's", fingerprint_text(own));
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let Some(by_authority) = &self.by_authority else { return Err(CertificateError::UnknownIssuer.into()) };
        match by_authority.verify_server_cert(own, intermediates, name, ocsp, now) {
            // The authority is trusted, but the DNS names and addresses do not match.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if is_for(own, &name.to_str()) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Requests a certificate from each client. A client with a certificate must prove that it has the private key.
/// [`Tls::trunk_of_certificate`] finds the trunk later, because the trunk also depends on the source address. Clients
/// without a certificate are accepted too, because they may be phones.
#[derive(Debug)]
struct AnyClientCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClientCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
