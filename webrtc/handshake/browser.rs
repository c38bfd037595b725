//! An association with a browser: DTLS 1.2 and 1.3, and certificates with ECDSA keys. The crate `dimpl` does the work.

use std::time::Instant;

use dimpl::{Dtls, Output, SrtpProfile};

use super::{CertificateKind, Keys, News, Suite, is_known};
use crate::connection::{Failure, Role};
use crate::fingerprint::Fingerprint;
use crate::identity::Identity;

/// The longest DTLS datagram that the association writes.
const LONGEST: usize = 2_048;
/// The highest number of steps of one poll. A step is a datagram or an event, and a flight has at most a few dozen.
const MAX_STEPS: usize = 256;

pub(super) struct Association {
    dtls: Dtls,
    role: Role,
    fingerprints: Vec<Fingerprint>,
    /// The kind of the far end's certificate, once the certificate has one of the announced fingerprints.
    verified: Option<CertificateKind>,
    timeout: Option<Instant>,
}

impl Association {
    pub(super) fn new(now: Instant, identity: &Identity, role: Role, fingerprints: Vec<Fingerprint>) -> Association {
        let mut dtls = Dtls::new_auto(identity.config(), identity.certificate(), now);
        if role == Role::Client {
            dtls.set_active(true);
        }
        Association { dtls, role, fingerprints, verified: None, timeout: None }
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        self.timeout
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, octets: &[u8]) -> Result<(), Failure> {
        self.handle_timeout(now)?;
        self.dtls.handle_packet(octets).map_err(failure)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        self.dtls.handle_timeout(now).map_err(failure)
    }

    pub(super) fn poll(&mut self, mut send: impl FnMut(&[u8])) -> Result<Vec<News>, Failure> {
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
                    let is_verified = is_known(&self.fingerprints, certificate);
                    self.verified = is_verified.then(|| CertificateKind::of(certificate));
                    if !is_verified {
                        return Err(Failure::Fingerprint);
                    }
                }
                Output::KeyingMaterial(octets, profile) => {
                    // Without a verified certificate, these are the keys of an unknown far end.
                    let certificate = self.verified.ok_or(Failure::Fingerprint)?;
                    let unknown = || Failure::Handshake(format!("SRTP profile {profile} is not supported"));
                    let suite = suite_of(profile).ok_or_else(unknown)?;
                    news.push(News::Keys(Keys::of(self.role, suite, &octets, certificate).ok_or_else(unknown)?));
                }
                Output::CloseNotify => news.push(News::Closed),
                Output::Connected | Output::ApplicationData(_) => {}
                _ => return Err(Failure::Handshake("the DTLS library has an unknown output".into())),
            }
        }
        Ok(news)
    }

    pub(super) fn close(&mut self, send: impl FnMut(&[u8])) {
        if self.dtls.close().is_ok() {
            // The far end notices the end without this message too, when consent ends.
            let _ = self.poll(send);
        }
    }
}

fn suite_of(profile: SrtpProfile) -> Option<Suite> {
    Some(match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Suite::Aes128Sha1_80,
        SrtpProfile::AEAD_AES_128_GCM => Suite::Aes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Suite::Aes256Gcm,
        _ => return None,
    })
}

fn failure(why: dimpl::Error) -> Failure {
    Failure::Handshake(why.to_string())
}
