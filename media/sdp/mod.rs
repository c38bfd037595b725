//! SDP offer and answer (RFC 3264, RFC 8866) for one audio stream: its codecs, telephone-events and comfort noise.
//! Pure.
//!
//! ```text
//!  bytes -> parse (tolerant) -> Negotiation -> MediaPlan for the worker
//!                                   \-> bytes: our offer, our answer
//! ```
//!
//! Our packets have the length of the far end's `ptime`, rounded down to a multiple of 20 ms, and are 20 to 60 ms long
//! and at most `maxptime`. A far end that asks for less than 20 ms gets 20 ms, because `ptime` is only a request (RFC
//! 8866 §6.4). Received packets may have any length.

mod crypto;
mod negotiate;
mod parse;
mod sheaf;

pub(crate) use crypto::RANDOM;
pub use crypto::Srtp;
pub use sheaf::{apart, together};

pub(crate) use negotiate::{Local, Negotiation};

use std::net::SocketAddr;

use crate::codec::Codec;
use crate::latch::MediaSource;
use crate::rtp::srtp::Keys;

/// All codecs that we have, L16 at two rates.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) const CODECS: [Codec; 6] = [
    Codec::Pcmu,
    Codec::Pcma,
    Codec::G722,
    Codec::Opus,
    Codec::L16(crate::codec::SampleRate::Hz16000),
    Codec::L16(crate::codec::SampleRate::Hz8000),
];

/// The highest number of payload types that a plan accepts as audio.
const MOST_TAKEN: usize = 8;
/// The highest number of payload types that a plan accepts as telephone-events.
const MOST_EVENTS: usize = 6;

/// The result of an offer and its answer for one leg's audio, for the leg's worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaPlan {
    /// The far end's RTP address in its SDP. `None` before its first SDP, or while it is on hold with the address
    /// 0.0.0.0.
    pub(crate) remote: Option<SocketAddr>,
    /// The far end's RTCP address: from `a=rtcp` (RFC 3605), else the port after the RTP port.
    pub(crate) remote_rtcp: Option<SocketAddr>,
    /// The codec that we send.
    pub(crate) codec: Codec,
    /// The payload type of packets that we send, chosen by the far end. The far end may use another number, chosen by
    /// us, for packets to us.
    pub(crate) payload_type: u8,
    /// The payload types that we accept as audio.
    pub(crate) taken: [Option<(u8, Codec)>; MOST_TAKEN],
    /// The telephone-events that we send (RFC 4733), with the clock rate of `codec` if the far end supports this rate.
    pub(crate) events: Option<Events>,
    /// The telephone-events that we accept.
    pub(crate) events_taken: [Option<Events>; MOST_EVENTS],
    /// The payload type of comfort noise (RFC 3389) at 8,000 Hz, in both directions.
    pub(crate) comfort_noise: Option<u8>,
    /// Whether the far end can use Opus in-band error correction (RFC 7587 §6.1, `useinbandfec`).
    pub(crate) opus_fec: bool,
    /// The number of 20 ms frames in a packet that we send, 1 to 3. It is 1 for Opus, whose frames cannot be
    /// concatenated.
    pub(crate) frames: u8,
    pub(crate) sends: bool,
    pub(crate) receives: bool,
    pub(crate) protection: Protection,
    /// The hosts from which packets are accepted.
    pub(crate) source: MediaSource,
}

/// The protection of a leg's packets in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Plain RTP.
    Plain,
    /// We have offered keys and the far end has not answered. Its packets cannot be decrypted yet.
    Open,
    Keyed(Box<Keys>),
}

/// A payload type of telephone-events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) payload_type: u8,
    /// The clock rate of their durations and timestamps in Hz: the clock rate of the audio in the same stream (RFC 4733
    /// §2.1).
    pub(crate) clock_rate: u32,
}

impl MediaPlan {
    /// Whether a packet of `codec` can be relayed to the far end unchanged, or converted octet by octet between mu-law
    /// and A-law.
    pub(crate) fn passes(&self, codec: Codec) -> bool {
        codec == self.codec || (codec.law().is_some() && self.codec.law().is_some())
    }

    /// The codec of a received payload type.
    pub(crate) fn codec_of(&self, payload_type: u8) -> Option<Codec> {
        self.taken.iter().flatten().find(|(number, _)| *number == payload_type).map(|(_, codec)| *codec)
    }

    /// The clock rate of a received payload type in Hz, if it is telephone-events.
    pub(crate) fn events_of(&self, payload_type: u8) -> Option<u32> {
        self.events_taken.iter().flatten().find(|one| one.payload_type == payload_type).map(|one| one.clock_rate)
    }
}

/// The codecs that one leg prefers for another leg, so that no audio is transcoded between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preference {
    /// The codecs, best first.
    pub codecs: Vec<Codec>,
    /// Whether the leg may send comfort noise (RFC 3389).
    pub comfort_noise: bool,
}

/// Why an offer or answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The body is not SDP, or is longer than 64 KiB. In SIP this is a 400 response.
    #[error("malformed SDP: {0}")]
    Malformed(String),
    /// The body is SDP, but contains no audio stream that we support. In SIP this is a 488 response.
    #[error("incompatible SDP: {0}")]
    Incompatible(&'static str),
}

/// The codec names of an offer's first audio line, in its order, including codecs that we do not support. Empty if the
/// body is not SDP.
pub fn offered_codecs(offer: &[u8]) -> Vec<String> {
    let Ok(text) = parse::text(offer) else { return Vec::new() };
    parse::Description::parse(&text).map(|description| description.encodings()).unwrap_or_default()
}

/// Passes arbitrary octets to the negotiation, as an offer and as an answer. A fuzz target: it must never panic or
/// hang.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(octets: &[u8]) {
    let local = Local { address: std::net::Ipv4Addr::LOCALHOST.into(), port: 20_000, id: 1 };
    let speaker = || {
        let mut negotiation = Negotiation::new(local);
        negotiation.set_codecs(&CODECS);
        negotiation.set_srtp(Srtp::Optional, Some(&[7; RANDOM]));
        negotiation
    };
    let mut callee = speaker();
    if let Ok(answer) = callee.answer(octets) {
        let mut caller = speaker();
        let _ = caller.offer_preferring(&callee.preference());
        let _ = caller.accept(&answer);
        let _ = callee.offer_preferring(&caller.preference());
        let _ = callee.answer_preferring(octets, &caller.preference());
    }
    let _ = together(&apart(octets));
    let mut caller = speaker();
    let _ = caller.offer();
    if caller.accept(octets).is_ok() {
        let _ = caller.offer();
    }
}

#[cfg(test)]
mod tests;
