//! One DTLS association: its handshake, the far end's certificate and the SRTP keys.

use std::fmt;
use std::time::Instant;

use dimpl::{Dtls, Output, SrtpProfile};

use crate::connection::{Failure, Role};
use crate::fingerprint::Fingerprint;
use crate::identity::Identity;

/// The longest DTLS datagram that the association writes.
const LONGEST: usize = 2_048;
/// The highest number of steps of one poll. A step is a datagram or an event, and a flight has at most a few dozen.
const MAX_STEPS: usize = 256;

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

/// The SRTP keys of a handshake. Each is a master key, followed by its master salt.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The protection profile.
    pub suite: Suite,
    /// The key of the packets that we send.
    pub send: Vec<u8>,
    /// The key of the packets that we receive.
    pub receive: Vec<u8>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keys({:?})", self.suite)
    }
}

/// The news of a poll.
#[derive(Debug)]
pub(crate) enum News {
    Keys(Keys),
    /// The far end has closed the association.
    Closed,
}

/// A DTLS association.
pub(crate) struct Handshake {
    dtls: Dtls,
    role: Role,
    fingerprints: Vec<Fingerprint>,
    /// Whether the far end's certificate has one of the announced fingerprints.
    is_verified: bool,
    timeout: Option<Instant>,
}

impl Handshake {
    /// Creates an association. `fingerprints` are those of the far end, in the signalling.
    pub(crate) fn new(now: Instant, identity: &Identity, role: Role, fingerprints: Vec<Fingerprint>) -> Handshake {
        let mut dtls = Dtls::new_auto(identity.config(), identity.certificate(), now);
        if role == Role::Client {
            dtls.set_active(true);
        }
        Handshake { dtls, role, fingerprints, is_verified: false, timeout: None }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.timeout
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, octets: &[u8]) -> Result<(), Failure> {
        self.handle_timeout(now)?;
        self.dtls.handle_packet(octets).map_err(failure)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        self.dtls.handle_timeout(now).map_err(failure)
    }

    /// Passes each datagram that must be sent to `send`, and returns the news.
    pub(crate) fn poll(&mut self, mut send: impl FnMut(&[u8])) -> Result<Vec<News>, Failure> {
        let mut buffer = vec![0; LONGEST];
        let mut news = Vec::new();
        for _ in 0..MAX_STEPS {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(octets) => send(octets),
                Output::BufferTooSmall { needed } if u16::try_from(needed).is_ok() => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.timeout = Some(at);
                    return Ok(news);
                }
                Output::PeerCert(certificate) => {
                    self.is_verified = self.fingerprints.iter().any(|known| known.matches(certificate));
                    if !self.is_verified {
                        return Err(Failure::Fingerprint);
                    }
                }
                Output::KeyingMaterial(octets, profile) if self.is_verified => {
                    let unknown = || Failure::Handshake(format!("SRTP profile {profile} is not supported"));
                    news.push(News::Keys(keys(self.role, profile, &octets).ok_or_else(unknown)?));
                }
                // Without a verified certificate, these are the keys of an unknown far end.
                Output::KeyingMaterial(..) => return Err(Failure::Fingerprint),
                Output::CloseNotify => news.push(News::Closed),
                Output::Connected | Output::ApplicationData(_) => {}
                _ => return Err(Failure::Handshake("the DTLS library has an unknown output".into())),
            }
        }
        Ok(news)
    }

    /// Tells the far end that the association ends.
    pub(crate) fn close(&mut self, send: impl FnMut(&[u8])) {
        if self.dtls.close().is_ok() {
            // The far end notices the end without this message too, when consent ends.
            let _ = self.poll(send);
        }
    }
}

/// Divides the exported octets (RFC 5764 §4.2): the client's key, the server's key, the client's salt, the server's salt.
fn keys(role: Role, profile: SrtpProfile, octets: &[u8]) -> Option<Keys> {
    let suite = match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Suite::Aes128Sha1_80,
        SrtpProfile::AEAD_AES_128_GCM => Suite::Aes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Suite::Aes256Gcm,
        _ => return None,
    };
    let (keys, salts) = octets.split_at_checked(2 * suite.key_length())?;
    let (client_key, server_key) = keys.split_at_checked(suite.key_length())?;
    let (client_salt, rest) = salts.split_at_checked(suite.salt_length())?;
    let server_salt = rest.get(..suite.salt_length())?;
    let (client, server) = ([client_key, client_salt].concat(), [server_key, server_salt].concat());
    Some(match role {
        Role::Client => Keys { suite, send: client, receive: server },
        Role::Server => Keys { suite, send: server, receive: client },
    })
}

fn failure(why: dimpl::Error) -> Failure {
    Failure::Handshake(why.to_string())
}
