//! Certificates of signers (RFC 8226). A trusted authority must have issued the certificate, and the certificate must
//! be valid now. The certificate contains a list of the numbers for which it is valid.

use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::der;
use super::fault::Fault;
use super::sign::Signer;
use crate::validity;

/// Maximum number of certificates that are read from one file.
const MAX_CERTIFICATES: usize = 10;
/// The object identifier id-pe-TNAuthList, 1.3.6.1.5.5.7.1.26 (RFC 8226 §9).
const TN_AUTH_LIST: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1a];

/// The trusted authorities.
#[derive(Debug, Clone, Default)]
pub struct Anchors(Vec<TrustAnchor<'static>>);

impl Anchors {
    /// Reads the authorities in a PEM file.
    ///
    /// # Errors
    /// Returns a text that names the error in the file, for example that the file contains no certificate.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let mut anchors = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|error| error.to_string())?;
            anchors.push(anchor.to_owned());
        }
        if anchors.is_empty() { Err("it contains no certificate".to_owned()) } else { Ok(Self(anchors)) }
    }
}

/// The certificate of a signer, with its intermediate certificates.
#[derive(Debug, Clone)]
pub struct Certificate {
    own: CertificateDer<'static>,
    between: Vec<CertificateDer<'static>>,
    entitled: Vec<Entitled>,
}

/// An entry of TNAuthList.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entitled {
    /// A service provider code. The numbers of the provider are listed only in external databases.
    Provider,
    /// A single number.
    Number(String),
    /// A range of consecutive numbers: the first number and the count.
    Range(String, u64),
}

impl Certificate {
    /// Reads the file at the URL `x5u`. The file is in PEM with the signer's certificate first, or the file is only
    /// this certificate in DER.
    ///
    /// # Errors
    /// [`Fault::Certificate`] if the file has no certificate, or if the certificate has no TNAuthList.
    pub fn read(file: &[u8]) -> Result<Self, Fault> {
        let fault = |what: &str| Fault::Certificate(what.to_owned());
        let mut certificates: Vec<_> = CertificateDer::pem_slice_iter(file).flatten().take(MAX_CERTIFICATES).collect();
        if certificates.is_empty() && file.first() == Some(&der::SEQUENCE) {
            certificates.push(CertificateDer::from(file.to_vec()));
        }
        if certificates.is_empty() {
            return Err(fault("the URL of the certificate contains no certificate"));
        }
        let between = certificates.split_off(1);
        let own = certificates.pop().ok_or_else(|| fault("the URL of the certificate contains no certificate"))?;
        webpki::EndEntityCert::try_from(&own)
            .map_err(|error| Fault::Certificate(format!("the certificate: {error}")))?;
        let list = extension(&own, &TN_AUTH_LIST).ok_or_else(|| fault("the certificate has no TNAuthList"))?;
        let entitled = entitled(list).ok_or_else(|| fault("the certificate's TNAuthList is malformed"))?;
        Ok(Self { own, between, entitled })
    }

    /// Checks that one of these authorities issued the certificate, and that the certificate is valid at `now` (seconds
    /// since 1970).
    ///
    /// # Errors
    /// [`Fault::Certificate`] with the reason.
    pub fn check(&self, anchors: &Anchors, now: u64) -> Result<(), Fault> {
        let fault = |error: webpki::Error| Fault::Certificate(format!("the certificate: {error}"));
        let own = webpki::EndEntityCert::try_from(&self.own).map_err(fault)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        own.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors.0, &self.between, time, AnyUsage, None, None)
            .map(drop)
            .map_err(fault)
    }

    /// Returns whether the owner of the certificate may sign for this canonical number. A service provider may sign for
    /// any number, because the certificate does not list the numbers of the provider.
    #[must_use]
    pub fn may_vouch_for(&self, number: &str) -> bool {
        let value = |number: &str| number.parse::<u64>().ok();
        self.entitled.iter().any(|entry| match entry {
            Entitled::Provider => true,
            Entitled::Number(own) => own == number,
            Entitled::Range(first, count) => {
                let within = value(number).zip(value(first)).and_then(|(number, first)| number.checked_sub(first));
                first.len() == number.len() && within.is_some_and(|at| at < *count)
            }
        })
    }

    /// Returns the time at which the certificate or an intermediate certificate expires, in seconds since 1970. Returns
    /// `None` if a certificate is malformed.
    #[must_use]
    pub fn not_after(&self) -> Option<u64> {
        let chain = std::iter::once(&self.own).chain(&self.between);
        chain.map(|one| Some(validity::of(one)?.1)).min().flatten()
    }

    /// Whether the certificate has the public key of this signer.
    #[must_use]
    pub fn is_of(&self, signer: &Signer) -> bool {
        let own = webpki::EndEntityCert::try_from(&self.own);
        own.is_ok_and(|own| signer.public_key().is_some_and(|key| key == own.subject_public_key_info()))
    }

    /// Checks that the key of the certificate made this signature (ES256, RFC 7518 §3.4).
    pub(super) fn verify_signature(&self, signed: &[u8], signature: &[u8; 64]) -> Result<(), Fault> {
        let own = webpki::EndEntityCert::try_from(&self.own)
            .map_err(|error| Fault::Certificate(format!("the certificate: {error}")))?;
        let algorithm = webpki::aws_lc_rs::ECDSA_P256_SHA256;
        own.verify_signature(algorithm, signed, &der::signature(signature)).map_err(|error| match error {
            webpki::Error::InvalidSignatureForPublicKey => Fault::Invalid("signed with another key".to_owned()),
            error => Fault::Certificate(format!("the certificate's key: {error}")),
        })
    }
}

/// Accepts any extended key usage. STIR has no extended key usage of its own; the TNAuthList contains the purpose of
/// the certificate.
struct AnyUsage;

impl webpki::ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: webpki::KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Returns the value of an extension in a certificate (RFC 5280 §4.1).
fn extension<'a>(mut certificate: &'a [u8], oid: &[u8]) -> Option<&'a [u8]> {
    let mut outer = der::expect(&mut certificate, der::SEQUENCE)?;
    let to_be_signed = der::expect(&mut outer, der::SEQUENCE)?;
    let (_, mut extensions) = der::elements(to_be_signed).find(|(tag, _)| *tag == der::context(3))?;
    let list = der::expect(&mut extensions, der::SEQUENCE)?;
    der::elements(list).find_map(|(_, extension)| {
        let mut parts = der::elements(extension);
        if parts.next()? != (der::OBJECT_IDENTIFIER, oid) {
            return None;
        }
        parts.find(|(tag, _)| *tag == der::OCTET_STRING).map(|(_, value)| value)
    })
}

/// Reads the entries of a TNAuthList (RFC 8226 §9, explicit tags). Returns `None` if the list is malformed or empty.
fn entitled(mut list: &[u8]) -> Option<Vec<Entitled>> {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).ok().filter(|text| text.is_ascii());
    let entries = der::expect(&mut list, der::SEQUENCE)?;
    let mut entitled = Vec::new();
    for (tag, mut entry) in der::elements(entries) {
        entitled.push(if tag == der::context(0) {
            der::expect(&mut entry, der::IA5_STRING).map(|_| Entitled::Provider)?
        } else if tag == der::context(1) {
            let mut range = der::expect(&mut entry, der::SEQUENCE)?;
            let first = text(der::expect(&mut range, der::IA5_STRING)?)?;
            let count = der::expect(&mut range, der::INTEGER)?
                .iter()
                .try_fold(0_u64, |count, octet| count.checked_mul(256).map(|count| count | u64::from(*octet)))?;
            Entitled::Range(first, count)
        } else if tag == der::context(2) {
            Entitled::Number(text(der::expect(&mut entry, der::IA5_STRING)?)?)
        } else {
            return None;
        });
    }
    (!entitled.is_empty()).then_some(entitled)
}
