//! SRTP with the keys of a DTLS handshake, without a session. The load generator needs it for the far ends that it plays.

use std::fmt;

use tandem_webrtc::Keys;

use super::ice::srtp_keys;
use crate::rtp::srtp::{LONGEST_TRAILER, Srtp};

/// The protection of a stream's packets in both directions (RFC 3711, RFC 7714), with keys from DTLS.
pub struct DtlsSrtp(Srtp);

impl DtlsSrtp {
    /// The highest number of octets that the protection adds to a packet.
    pub const LONGEST_TRAILER: usize = LONGEST_TRAILER;

    /// Creates the protection. Returns `None` if the cryptographic library refuses the keys.
    pub fn new(keys: &Keys) -> Option<DtlsSrtp> {
        Srtp::new(srtp_keys(keys)?).map(DtlsSrtp)
    }

    /// Encrypts an RTP packet in place and returns its new length. The packet is the first `length` octets of `buffer`.
    /// Returns `None` if the buffer has less than [`DtlsSrtp::LONGEST_TRAILER`] octets after the packet, or if the packet's
    /// sequence number was already used.
    pub fn protect(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        self.0.protect(buffer, length)
    }

    /// Authenticates and decrypts an RTP packet in place, and returns its new length. Returns `None` if the packet is not
    /// authentic, or if it is a repetition.
    pub fn unprotect(&mut self, packet: &mut [u8]) -> Option<usize> {
        self.0.unprotect(packet).ok()
    }
}

impl fmt::Debug for DtlsSrtp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DtlsSrtp(..)")
    }
}
