//! SDP offer and answer (RFC 3264, RFC 8866) for one audio stream: its codecs, telephone-events and comfort noise. Pure.
//!
//! ```text
//!  bytes -> parse (tolerant) -> Negotiation -> MediaPlan for the worker
//!                                   \-> bytes: our offer, our answer
//! ```
//!
//! We send packets of the peer's `ptime`, rounded down to a multiple of 20 ms and kept within 20 to 60 ms and its
//! `maxptime`; a peer that asks for less than 20 ms gets 20 ms (ptime is a wish, RFC 8866 §6.4). We take any length.

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

/// Most payload types that a plan takes as audio.
const MOST_TAKEN: usize = 8;
/// Most payload types that a plan takes as telephone-events.
const MOST_EVENTS: usize = 6;

/// What an offer and its answer agreed about one leg's audio, as its worker needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaPlan {
    /// Where the peer said it wants RTP. `None` until it said so.
    pub(crate) remote: Option<SocketAddr>,
    /// Where it wants RTCP: `a=rtcp` (RFC 3605), else the next port.
    pub(crate) remote_rtcp: Option<SocketAddr>,
    /// What we send.
    pub(crate) codec: Codec,
    /// The number we send it under, which is the peer's; it may send it to us under another, which is ours.
    pub(crate) payload_type: u8,
    /// What we take, by payload type.
    pub(crate) taken: [Option<(u8, Codec)>; MOST_TAKEN],
    /// The telephone-events that we send (RFC 4733): at the clock of `codec` if the peer has them so.
    pub(crate) events: Option<Events>,
    /// Those that we take.
    pub(crate) events_taken: [Option<Events>; MOST_EVENTS],
    /// Comfort noise (RFC 3389) at 8,000 Hz, both ways.
    pub(crate) comfort_noise: Option<u8>,
    /// Whether the peer has a use for Opus' in-band error correction (RFC 7587 §6.1, `useinbandfec`).
    pub(crate) opus_fec: bool,
    /// 20 ms frames in a packet that we send: 1 to 3. 1 for Opus, whose frames do not go together by being strung together.
    pub(crate) frames: u8,
    pub(crate) sends: bool,
    pub(crate) receives: bool,
    pub(crate) protection: Protection,
    /// Where what we take may come from.
    pub(crate) source: MediaSource,
}

/// How a leg's packets are protected, both ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Protection {
    /// They are plain RTP.
    Plain,
    /// We have offered keys and the peer has not answered: what it sends cannot be told from noise.
    Open,
    Keyed(Box<Keys>),
}

/// A payload type of telephone-events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) payload_type: u8,
    /// Units a second of their durations, and of their timestamps: the clock of the audio beside them (RFC 4733 §2.1).
    pub(crate) clock_rate: u32,
}

impl MediaPlan {
    /// Whether a packet of `codec` can go to the peer as it is, or octet by octet in the other law.
    pub(crate) fn passes(&self, codec: Codec) -> bool {
        codec == self.codec || (codec.law().is_some() && self.codec.law().is_some())
    }

    /// The codec of a received payload type.
    pub(crate) fn codec_of(&self, payload_type: u8) -> Option<Codec> {
        self.taken.iter().flatten().find(|(number, _)| *number == payload_type).map(|(_, codec)| *codec)
    }

    /// Clock rate of a received payload type that is telephone-events.
    pub(crate) fn events_of(&self, payload_type: u8) -> Option<u32> {
        self.events_taken.iter().flatten().find(|one| one.payload_type == payload_type).map(|one| one.clock_rate)
    }
}

/// What one leg would like another to speak, so that nothing need be transcoded between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preference {
    /// Best first.
    pub codecs: Vec<Codec>,
    /// Whether comfort noise (RFC 3389) may come from it.
    pub comfort_noise: bool,
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
    let Ok(text) = parse::text(offer) else { return Vec::new() };
    parse::Description::parse(&text).map(|description| description.encodings()).unwrap_or_default()
}

/// Feeds arbitrary octets to the negotiation, as an offer and as an answer. For fuzzing: must never panic or hang.
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
