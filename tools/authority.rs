//! A certificate authority that can issue certificates only for the host names of the providers.
//!
//! The authority is created once, in `data_dir/ca`. Applications must trust the certificate `tandem-ca.pem`. The key
//! `tandem-ca.key` is private. `bundle.pem` is for programs that accept a single file instead of the system's
//! authorities. This file contains the certificate of this authority and the certificates of the authorities that this
//! machine trusts.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tandem_host::clock;
use tandem_host::directory;

use crate::hosts::DOMAINS;
use anyhow::{Context, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, crypto};

/// Validity of a certificate for a host name. Each connection gets a new certificate.
const LEAF: Duration = Duration::from_secs(7 * DAY);
/// Time between the start of the validity and now. The validity starts in the past, because the clocks of clients
/// differ.
const BEFORE: Duration = Duration::from_secs(DAY);
const DAY: u64 = 86_400;

/// Files that contain the certificates of the trusted authorities on various systems.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificate authority, with its private key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Key of all host certificates. Each process creates a new key and never stores it.
    leaf_key: KeyPair,
    folder: PathBuf,
    /// Whether `load_or_make` created the authority. If this is `false`, the authority already existed.
    pub(crate) is_new: bool,
}

impl Authority {
    /// Loads the authority, or creates the authority if it does not exist. If two processes create the authority at the
    /// same time, both processes use the same authority afterwards.
    pub(crate) fn load_or_make(data_dir: &Path) -> anyhow::Result<Self> {
        let folder = data_dir.join("ca");
        let is_new = !folder.join(KEY).exists() && make(data_dir, &folder)?;
        let path = folder.join(KEY);
        let shown = path.display();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
        let key = KeyPair::from_pem(&text).with_context(|| format!("{shown} is not a private key"))?;
        let folder = fs::canonicalize(&folder).with_context(|| format!("{}", folder.display()))?;
        let certificate = folder.join(CERTIFICATE);
        if !certificate.exists() {
            return Err(anyhow!("{} is missing; restore it, or remove its folder", certificate.display()));
        }
        let this = Self { issuer: Issuer::new(authority(&key), key), leaf_key: KeyPair::generate()?, folder, is_new };
        this.write_bundle().with_context(|| format!("cannot write {}", this.bundle().display()))?;
        Ok(this)
    }

    /// Returns the path of the authority's certificate (PEM).
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// Returns the path of the bundle (PEM), which contains the authority's certificate and the certificates of the
    /// system's authorities.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.folder.join(BUNDLE)
    }

    /// Returns the instructions for applications that use a proxy at `proxy` (HOST:PORT), one line for each language.
    pub(crate) fn instructions(&self, proxy: &str) -> String {
        let (ca, bundle) = (self.certificate(), self.bundle());
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

    /// Returns the configuration of a TLS server with a new certificate for `host`. Each call of this function computes
    /// a signature.
    pub(crate) fn server(&self, host: &str) -> anyhow::Result<Arc<ServerConfig>> {
        let mut leaf = CertificateParams::new([host.to_owned()])?;
        leaf.distinguished_name = named("Tandem");
        // Some clients refuse two certificates with the same serial number.
        leaf.serial_number = Some(SerialNumber::from_slice(&(rand::random::<u128>() >> 1).to_be_bytes()));
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let now = date_time_ymd(1970, 1, 1)
            + Duration::from_secs(u64::try_from(clock::time().as_second()).unwrap_or_default());
        (leaf.not_before, leaf.not_after) = (now - BEFORE, now + LEAF);
        let certificate = leaf.signed_by(&self.leaf_key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(self.leaf_key.serialize_der()).map_err(|error| anyhow!(error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        // The server behind the proxy supports HTTP/1.1 only.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Every connection has a configuration of its own, so a session cannot be resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Writes the bundle. The bundle is written at each start, because the system's authorities may have changed.
    fn write_bundle(&self) -> anyhow::Result<()> {
        let mut bundle = fs::read(self.certificate())?;
        if let Some(system) = SYSTEM.iter().find_map(|path| fs::read(path).ok()) {
            bundle.push(b'\n');
            bundle.extend(system);
        }
        if fs::read(self.bundle()).is_ok_and(|old| old == bundle) {
            return Ok(());
        }
        // The bundle is written to a new file, which is then renamed, because programs may be reading the old file.
        let new = self.folder.join(format!(".{BUNDLE}.{:032x}", rand::random::<u128>()));
        write(&new, &bundle, 0o644)?;
        Ok(fs::rename(new, self.bundle())?)
    }
}

const CERTIFICATE: &str = "tandem-ca.pem";
const KEY: &str = "tandem-ca.key";
const BUNDLE: &str = "bundle.pem";

/// Creates the folder with the key and the certificate atomically. Returns false if another process has already created
/// the folder.
fn make(data_dir: &Path, folder: &Path) -> anyhow::Result<bool> {
    directory::make(data_dir).with_context(|| format!("data_dir: {}", data_dir.display()))?;
    let key = KeyPair::generate()?;
    let certificate = authority(&key).self_signed(&key)?;
    let draft = data_dir.join(format!(".ca.{:032x}", rand::random::<u128>()));
    let write_all = || {
        directory::make(&draft)?;
        write(&draft.join(KEY), key.serialize_pem().as_bytes(), 0o600)?;
        write(&draft.join(CERTIFICATE), certificate.pem().as_bytes(), 0o644)
    };
    write_all().with_context(|| format!("cannot create {}", draft.display()))?;
    match fs::rename(&draft, folder) {
        Ok(()) => Ok(true),
        Err(error) => {
            drop(fs::remove_dir_all(&draft));
            // The rename fails if the folder already exists and is not empty.
            let there = matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists);
            if there && folder.join(KEY).exists() {
                Ok(false)
            } else {
                Err(error).with_context(|| format!("cannot create {}", folder.display()))
            }
        }
    }
}

/// Returns the parameters of the authority's certificate. The parameters depend only on the key, so the issuer of a
/// host certificate always matches the stored certificate.
fn authority(key: &KeyPair) -> CertificateParams {
    let mut authority = CertificateParams::default();
    let mark: String = key.der_bytes().iter().rev().take(4).map(|octet| format!("{octet:02x}")).collect();
    authority.distinguished_name = named(&format!("Tandem test authority {mark}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // The constraints protect users who trust the authority. Even with a stolen key, nobody can issue certificates for
    // other names.
    let mut constraints = CustomExtension::from_oid_content(&[2, 5, 29, 30], name_constraints());
    constraints.set_criticality(true);
    authority.custom_extensions.push(constraints);
    (authority.not_before, authority.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2049, 12, 31));
    authority
}

/// Returns the NameConstraints extension (RFC 5280 §4.2.1.10). The extension permits DNS names below the providers'
/// domains, and no names of other kinds.
///
/// A kind of name that the extension does not mention would be unrestricted. Therefore the extension excludes all IP
/// addresses. For e-mail addresses and URIs, the extension permits only a host that cannot exist (RFC 6761 §6.4). The
/// extension type of the library does not support URIs.
fn name_constraints() -> Vec<u8> {
    const NOWHERE: &[u8] = b"nobody.invalid";
    // Tags of the kinds of GeneralName.
    let [email, dns, uri, address] = [0x81, 0x82, 0x86, 0x87];
    let domains = DOMAINS.iter().map(|domain| (dns, domain.as_bytes()));
    let permitted: Vec<(u8, &[u8])> = domains.chain([(email, NOWHERE), (uri, NOWHERE)]).collect();
    // An address and a mask that match every IPv4 address, and an address and a mask that match every IPv6 address.
    let excluded = [(address, &[0; 8][..]), (address, &[0; 32])];
    let subtrees = |names: &[(u8, &[u8])]| -> Vec<u8> {
        names.iter().flat_map(|(tag, name)| element(SEQUENCE, &element(*tag, name))).collect()
    };
    element(SEQUENCE, &[element(0xA0, &subtrees(&permitted)), element(0xA1, &subtrees(&excluded))].concat())
}

const SEQUENCE: u8 = 0x30;

/// Encodes a DER element with at most 65,535 octets of content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let length: &[u8] = match content.len() {
        0..128 => &[low],
        128..256 => &[0x81, low],
        _ => &[0x82, high, low],
    };
    [&[tag], length, content].concat()
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn write(path: &Path, octets: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(octets)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_certificate_authority_is_created_once_with_a_private_key_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::load_or_make(folder.path()).unwrap();
        let (made, key) = (fs::read(first.certificate()).unwrap(), folder.path().join("ca").join(KEY));
        let again = Authority::load_or_make(folder.path()).unwrap();
        assert!(first.is_new && !again.is_new);
        assert_eq!(fs::read(again.certificate()).unwrap(), made);
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let bundle = fs::read(again.bundle()).unwrap();
        assert!(bundle.starts_with(&made));
        let names = fs::read_dir(folder.path().join("ca")).unwrap().count();
        assert_eq!(names, 3, "drafts are left");
    }

    #[test]
    fn a_second_process_uses_the_existing_certificate_authority() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("ca");
        assert!(make(folder.path(), &place).unwrap());
        let made = fs::read(place.join(KEY)).unwrap();
        assert!(!make(folder.path(), &place).unwrap());
        assert_eq!(fs::read(place.join(KEY)).unwrap(), made);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "drafts are left");
    }

    #[test]
    fn an_invalid_private_key_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ca")).unwrap();
        fs::write(folder.path().join("ca").join(KEY), "no key").unwrap();
        let error = Authority::load_or_make(folder.path()).err().unwrap();
        assert!(format!("{error:#}").contains("tandem-ca.key is not a private key"), "{error:#}");
    }
}
