//! SDP offer and answer (RFC 3264, RFC 8866) for one audio stream of G.711 and telephone-events. Pure.
//!
//! ```text
//!  bytes -> parse (tolerant) -> Negotiation -> MediaPlan for the worker
//!                                   \-> bytes: our offer, our answer
//! ```
//!
//! We send packets of the peer's `ptime`, rounded down to a multiple of 20 ms and kept within 20 to 60 ms and its
//! `maxptime`; a peer that asks for less than 20 ms gets 20 ms (ptime is a wish, RFC 8866 §6.4). We take any length.

mod negotiate;
mod parse;

pub(crate) use negotiate::{Local, Negotiation};

use std::net::SocketAddr;

use crate::codec::Codec;
use crate::codec::g711::Law;

/// What an offer and its answer agreed about one leg's audio, as its worker needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaPlan {
    /// Where the peer said it wants RTP. `None` until it said so.
    pub(crate) remote: Option<SocketAddr>,
    /// Where it wants RTCP: `a=rtcp` (RFC 3605), else the next port.
    pub(crate) remote_rtcp: Option<SocketAddr>,
    /// What we send.
    pub(crate) codec: Codec,
    pub(crate) payload_type: u8,
    /// Payload types that we take besides.
    pub(crate) pcmu: Option<u8>,
    pub(crate) pcma: Option<u8>,
    /// Telephone-events both ways (RFC 4733).
    pub(crate) events: Option<u8>,
    /// 20 ms frames in a packet that we send: 1 to 3.
    pub(crate) frames: u8,
    pub(crate) sends: bool,
    pub(crate) receives: bool,
}

impl MediaPlan {
    /// The law of what we send.
    pub(crate) fn law(&self) -> Law {
        self.codec.law().unwrap_or(Law::Mu)
    }

    /// The codec of a received payload type.
    pub(crate) fn codec_of(&self, payload_type: u8) -> Option<Codec> {
        if self.pcmu == Some(payload_type) {
            Some(Codec::Pcmu)
        } else if self.pcma == Some(payload_type) {
            Some(Codec::Pcma)
        } else {
            None
        }
    }
}

/// Why an offer or answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The body is not SDP, or is too long (64 KiB). For SIP: 400.
    #[error("malformed SDP: {0}")]
    Malformed(String),
    /// It is SDP, but has no audio stream that we can speak. For SIP: 488.
    #[error("incompatible SDP: {0}")]
    Incompatible(&'static str),
}

/// Names of the codecs that an offer's first audio line has, in its order: for whoever wants to know what was offered, not
/// only what was agreed. Empty if it is no SDP.
pub fn offered_codecs(offer: &[u8]) -> Vec<String> {
    let lines = parse::Description::parse(offer).map(|description| description.lines).unwrap_or_default();
    lines.into_iter().find(|line| line.media.starts_with("audio")).map_or_else(Vec::new, |line| line.encodings)
}

/// Feeds arbitrary octets to the negotiation, as an offer and as an answer. For fuzzing: must never panic or hang.
pub(crate) fn fuzz(octets: &[u8]) {
    let local = Local { address: std::net::Ipv4Addr::LOCALHOST.into(), port: 20_000, id: 1 };
    let mut callee = Negotiation::new(local);
    if let Ok(answer) = callee.answer(octets) {
        let mut caller = Negotiation::new(local);
        let _ = caller.offer();
        let _ = caller.accept(&answer);
        let _ = callee.offer();
    }
    let mut caller = Negotiation::new(local);
    let _ = caller.offer();
    let _ = caller.accept(octets);
}

#[cfg(test)]
mod tests;
