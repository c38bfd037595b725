//! An association with a SIP phone: DTLS 1.2, and certificates with ECDSA or RSA keys. The crate `rtc-dtls` does the work.
//!
//! The library trusts its far end more than this crate does, so each datagram passes a [`Filter`] first. The filter also
//! keeps repeated messages from the library, because a repeated message stops the library's retransmissions.

mod filter;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Profile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

use self::filter::Filter;
use super::{CertificateKind, Keys, News, Suite, is_known};
use crate::connection::{Failure, Role};
use crate::fingerprint::Fingerprint;
use crate::identity::{FIRST_RETRY, HANDSHAKE, Identity};

/// The name under which the library knows the far end. ICE may change the real address during the handshake.
const FAR_END: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
/// The label of the exported octets (RFC 5764 §4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";

pub(super) struct Association {
    endpoint: Endpoint,
    role: Role,
    fingerprints: Vec<Fingerprint>,
    filter: Filter,
    /// The configuration of a client that has not begun.
    client: Option<Arc<HandshakeConfig>>,
    now: Instant,
    /// The time of the first datagram in either direction.
    since: Option<Instant>,
    /// The time from a flight to its next retransmission. It doubles each time.
    retry: Duration,
    news: Vec<News>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    Complete,
    /// The association has failed or is closed. Its datagrams are ignored.
    Over,
}

impl Association {
    pub(super) fn new(
        now: Instant,
        identity: &Identity,
        role: Role,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Association, Failure> {
        let config = Arc::new(config(identity, role, fingerprints.clone()).map_err(|why| failure(&why))?);
        let (client, server) = match role {
            Role::Client => (Some(config), None),
            Role::Server => (None, Some(config)),
        };
        Ok(Association {
            endpoint: Endpoint::new(FAR_END, TransportProtocol::UDP, server),
            role,
            fingerprints,
            filter: Filter::new(role),
            client,
            now,
            since: None,
            retry: FIRST_RETRY,
            news: Vec::new(),
            state: State::Handshake,
        })
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        let since = self.since.filter(|_| self.state == State::Handshake)?;
        // The library always adds the time of the first retry.
        let retry = self.endpoint.poll_timeout(&FAR_END).map(|at| at + (self.retry - FIRST_RETRY));
        retry.into_iter().chain([since + HANDSHAKE]).min()
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, octets: &[u8]) -> Result<(), Failure> {
        self.now = now;
        // A client that has not begun expects nothing.
        if self.state == State::Over || self.client.is_some() {
            return Ok(());
        }
        let Some(passed) = self.filter.pass(octets) else { return Ok(()) };
        self.since.get_or_insert(now);
        self.retry = FIRST_RETRY;
        let read = match self.endpoint.read(now, FAR_END, None, BytesMut::from(passed.as_slice())) {
            Ok(events) => events,
            // The library takes each alert for an error. A warning after the handshake changes nothing: we have the keys.
            Err(_) if self.state == State::Complete => return Ok(()),
            Err(why) => return Err(self.fail(&why)),
        };
        for event in read {
            match event {
                EndpointEvent::HandshakeComplete => {
                    let keys = self.keys().inspect_err(|_| self.state = State::Over)?;
                    self.state = State::Complete;
                    self.news.push(News::Keys(keys));
                }
                EndpointEvent::PeerClosed => {
                    self.state = State::Over;
                    self.news.push(News::Closed);
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        self.now = now;
        if self.timeout().is_none_or(|at| at > now) {
            return Ok(());
        }
        if self.since.is_some_and(|since| since + HANDSHAKE <= now) {
            self.state = State::Over;
            return Err(Failure::Handshake("the far end has not completed it in time".into()));
        }
        self.retry = (self.retry * 2).min(HANDSHAKE);
        self.endpoint.handle_timeout(FAR_END, now).map_err(|why| self.fail(&why))
    }

    pub(super) fn poll(&mut self, now: Instant, send: impl FnMut(&[u8])) -> Result<Vec<News>, Failure> {
        self.now = now;
        if let Some(config) = self.client.take() {
            self.since = Some(now);
            self.endpoint.connect(now, FAR_END, config, None).map_err(|why| self.fail(&why))?;
        }
        self.flush(send);
        Ok(std::mem::take(&mut self.news))
    }

    pub(super) fn close(&mut self, send: impl FnMut(&[u8])) {
        if self.state != State::Over {
            self.state = State::Over;
            self.endpoint.stop(self.now, FAR_END);
            self.flush(send);
        }
    }

    fn flush(&mut self, mut send: impl FnMut(&[u8])) {
        while let Some(datagram) = self.endpoint.poll_transmit() {
            send(&datagram.message);
        }
    }

    fn fail(&mut self, why: &Error) -> Failure {
        self.state = State::Over;
        let certificate = self.certificate();
        if certificate.is_some_and(|certificate| !is_known(&self.fingerprints, certificate)) {
            return Failure::Fingerprint;
        }
        failure(why)
    }

    /// The far end's certificate, which may be unknown.
    fn certificate(&self) -> Option<&[u8]> {
        let state = self.endpoint.get_connection_state(FAR_END)?;
        state.peer_certificates.first().map(Vec::as_slice)
    }

    /// Returns the keys of a complete handshake. Without a verified certificate, they are those of an unknown far end.
    fn keys(&self) -> Result<Keys, Failure> {
        let certificate = self.certificate().filter(|certificate| is_known(&self.fingerprints, certificate));
        let (certificate, state) =
            certificate.zip(self.endpoint.get_connection_state(FAR_END)).ok_or(Failure::Fingerprint)?;
        let profile = state.srtp_protection_profile();
        let unusable = || Failure::Handshake(format!("SRTP profile {profile:?} is not supported"));
        let suite = suite_of(profile).ok_or_else(unusable)?;
        let length = 2 * (suite.key_length() + suite.salt_length());
        let octets = state.export_keying_material(LABEL, &[], length).map_err(|why| failure(&why))?.into_bytes();
        Keys::of(self.role, suite, &octets, CertificateKind::of(certificate)).ok_or_else(unusable)
    }
}

fn config(identity: &Identity, role: Role, fingerprints: Vec<Fingerprint>) -> Result<HandshakeConfig, Error> {
    let verify = move |certificates: &[Vec<u8>], _: &[_]| {
        let is_known = certificates.first().is_some_and(|certificate| is_known(&fingerprints, certificate));
        if is_known { Ok(()) } else { Err(Error::ErrInvalidCertificate) }
    };
    // The library leaves out those that do not fit a server's own certificate.
    let suites = vec![
        CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
        CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
        CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
        CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
    ];
    ConfigBuilder::default()
        .with_crypto_provider(identity.provider())
        .with_certificates(vec![identity.phone_certificate()])
        .with_cipher_suites(suites)
        .with_srtp_protection_profiles(vec![
            Profile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            Profile::Srtp_Aead_Aes_128_Gcm,
            Profile::Srtp_Aead_Aes_256_Gcm,
        ])
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        // The fingerprint takes the place of a certificate authority (RFC 8122 §5). The signatures of the handshake are
        // verified in any case.
        .with_insecure_skip_verify(true)
        .with_verify_peer_certificate(Some(Arc::new(verify)))
        .with_flight_interval(FIRST_RETRY)
        .build(role == Role::Client, Some(FAR_END))
}

fn suite_of(profile: Profile) -> Option<Suite> {
    Some(match profile {
        Profile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Suite::Aes128Sha1_80,
        Profile::Srtp_Aead_Aes_128_Gcm => Suite::Aes128Gcm,
        Profile::Srtp_Aead_Aes_256_Gcm => Suite::Aes256Gcm,
        _ => return None,
    })
}

fn failure(why: &Error) -> Failure {
    Failure::Handshake(why.to_string())
}
