//! One DTLS association: its handshake, the far end's certificate and the SRTP keys. Two libraries do the work. The kind
//! of the far end decides which: [`browser`] has the newer versions of DTLS, and [`phone`] also accepts RSA certificates.

mod browser;
mod phone;

use std::fmt;
use std::time::Instant;

use crate::connection::{Failure, FarEnd, Remote, Role};
use crate::fingerprint::Fingerprint;
use crate::identity::Identity;

/// A protection profile of SRTP that DTLS can agree on (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// AES-128 in counter mode, and HMAC-SHA1 with a tag of 80 bits.
    Aes128Sha1_80,
    /// AES-128 in Galois/counter mode.
    Aes128Gcm,
    /// AES-256 in Galois/counter mode.
    Aes256Gcm,
}

impl Suite {
    fn key_length(self) -> usize {
        if self == Suite::Aes256Gcm { 32 } else { 16 }
    }

    fn salt_length(self) -> usize {
        if self == Suite::Aes128Sha1_80 { 14 } else { 12 }
    }
}

/// The kind of the key in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// A key of an elliptic curve.
    Ecdsa,
    /// An RSA key.
    Rsa,
}

impl CertificateKind {
    /// Returns the kind of a certificate in the form DER. The handshake checks the certificate; this value is for the log
    /// only.
    fn of(certificate: &[u8]) -> CertificateKind {
        // The object identifier `rsaEncryption` (RFC 8017 appendix C). It names a key, and never a signature.
        const RSA: [u8; 11] = [6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1];
        let is_rsa = certificate.windows(RSA.len()).any(|window| window == RSA);
        if is_rsa { CertificateKind::Rsa } else { CertificateKind::Ecdsa }
    }
}

impl fmt::Display for CertificateKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            CertificateKind::Ecdsa => "ECDSA",
            CertificateKind::Rsa => "RSA",
        })
    }
}

/// The SRTP keys of a handshake. Each is a master key, followed by its master salt.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The protection profile.
    pub suite: Suite,
    /// The key of the packets that we send.
    pub send: Vec<u8>,
    /// The key of the packets that we receive.
    pub receive: Vec<u8>,
    /// The kind of the far end's certificate.
    pub certificate: CertificateKind,
}

impl Keys {
    /// Divides the exported octets (RFC 5764 §4.2): the client's key, the server's key, the client's salt, the server's
    /// salt. Returns `None` if there are too few.
    fn of(role: Role, suite: Suite, octets: &[u8], certificate: CertificateKind) -> Option<Keys> {
        let (keys, salts) = octets.split_at_checked(2 * suite.key_length())?;
        let (client_key, server_key) = keys.split_at_checked(suite.key_length())?;
        let (client_salt, rest) = salts.split_at_checked(suite.salt_length())?;
        let server_salt = rest.get(..suite.salt_length())?;
        let (client, server) = ([client_key, client_salt].concat(), [server_key, server_salt].concat());
        Some(match role {
            Role::Client => Keys { suite, send: client, receive: server, certificate },
            Role::Server => Keys { suite, send: server, receive: client, certificate },
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keys({:?}, {})", self.suite, self.certificate)
    }
}

/// The news of a poll.
#[derive(Debug)]
pub(crate) enum News {
    Keys(Keys),
    /// The far end has closed the association.
    Closed,
}

enum Association {
    Browser(Box<browser::Association>),
    Phone(Box<phone::Association>),
}

/// A DTLS association.
pub(crate) struct Handshake {
    association: Association,
    role: Role,
}

impl Handshake {
    /// Creates an association with a far end that has this description.
    pub(crate) fn new(now: Instant, identity: &Identity, remote: &Remote) -> Result<Handshake, Failure> {
        let (role, fingerprints) = (remote.role, remote.fingerprints.clone());
        let association = match remote.far_end {
            FarEnd::Browser => {
                Association::Browser(Box::new(browser::Association::new(now, identity, role, fingerprints)))
            }
            FarEnd::Phone => Association::Phone(Box::new(phone::Association::new(now, identity, role, fingerprints)?)),
        };
        Ok(Handshake { association, role })
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        match &self.association {
            Association::Browser(association) => association.timeout(),
            Association::Phone(association) => association.timeout(),
        }
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, octets: &[u8]) -> Result<(), Failure> {
        match &mut self.association {
            Association::Browser(association) => association.handle_datagram(now, octets),
            Association::Phone(association) => association.handle_datagram(now, octets),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        match &mut self.association {
            Association::Browser(association) => association.handle_timeout(now),
            Association::Phone(association) => association.handle_timeout(now),
        }
    }

    /// Passes each datagram that must be sent to `send`, and returns the news. A client begins its handshake with the
    /// first poll.
    pub(crate) fn poll(&mut self, now: Instant, send: impl FnMut(&[u8])) -> Result<Vec<News>, Failure> {
        match &mut self.association {
            Association::Browser(association) => association.poll(send),
            Association::Phone(association) => association.poll(now, send),
        }
    }

    /// Tells the far end that the association ends.
    pub(crate) fn close(&mut self, send: impl FnMut(&[u8])) {
        match &mut self.association {
            Association::Browser(association) => association.close(send),
            Association::Phone(association) => association.close(send),
        }
    }
}

fn is_known(fingerprints: &[Fingerprint], certificate: &[u8]) -> bool {
    fingerprints.iter().any(|known| known.matches(certificate))
}
