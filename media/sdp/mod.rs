//! SDP offer and answer (RFC 3264, RFC 8866) for one audio stream: the codecs, telephone-events and comfort noise. This
//! module is pure.
//!
//! ```text
//!  bytes -> parse (tolerant) -> Negotiation -> MediaPlan for the worker
//!                                   \-> bytes: our offer, our answer
//! ```
//!
//! The far end's `ptime` and `maxptime` determine the length of our packets. The length is `ptime`, rounded down to a
//! multiple of 20 ms. It is 20 to 60 ms, and at most `maxptime`. A far end that asks for less than 20 ms gets 20 ms,
//! because `ptime` is only a request (RFC 8866 §6.4). A `maxptime` of less than 20 ms is a limit: each frame of 20 ms
//! becomes packets of 10 or 5 ms, which leave together. Received packets may have any length. If they are longer than
//! the `maxptime` of the bridged leg, that leg gets frames instead of these packets. Opus is not divided: its packets
//! always have 20 ms, because the encoder works in frames of 20 ms.

mod combine;
mod crypto;
mod negotiate;
mod parse;

pub use combine::{combine_descriptions, split_description};
pub(crate) use crypto::RANDOM;
pub use crypto::Srtp;

pub(crate) use negotiate::{Local, Negotiation};

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::codec::Codec;
use crate::latch::MediaSource;
use crate::rtp::srtp::Keys;

/// All codecs that the engine supports. L16 has two rates.
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
const MAX_RECEIVE_CODECS: usize = 8;
/// The highest number of payload types that a plan accepts as telephone-events.
const MAX_RECEIVE_EVENTS: usize = 6;

/// The result of an offer and its answer for one leg's audio. The leg's worker gets this plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaPlan {
    /// The RTP address in the far end's SDP. The value is `None` before the far end's first SDP, and during hold with
    /// the address 0.0.0.0.
    pub(crate) remote: Option<SocketAddr>,
    /// The far end's RTCP address, which comes from `a=rtcp` (RFC 3605). If there is no `a=rtcp`, RTCP uses the port
    /// after the RTP port.
    pub(crate) remote_rtcp: Option<SocketAddr>,
    /// The codec that we send.
    pub(crate) codec: Codec,
    /// The payload type of packets that we send. The far end chooses this number. For packets to us we choose the
    /// number, so it may be different.
    pub(crate) payload_type: u8,
    /// The payload types that we accept as audio.
    pub(crate) receive_codecs: [Option<(u8, Codec)>; MAX_RECEIVE_CODECS],
    /// The telephone-events that we send (RFC 4733). They have the clock rate of `codec` if the far end supports this
    /// rate.
    pub(crate) events: Option<Events>,
    /// The telephone-events that we accept.
    pub(crate) receive_events: [Option<Events>; MAX_RECEIVE_EVENTS],
    /// The payload type of comfort noise (RFC 3389) at 8,000 Hz, in both directions.
    pub(crate) comfort_noise: Option<u8>,
    /// Whether the far end can use Opus in-band error correction (RFC 7587 §6.1, `useinbandfec`).
    pub(crate) opus_fec: bool,
    /// The number of frames of 20 ms in a packet that we send, 1 to 3. For Opus the number is 1, because Opus frames
    /// cannot be joined.
    pub(crate) frames: u8,
    /// The longest packet in ms that the far end accepts (`maxptime`), but at least the length of our shortest packets.
    /// `None` means any length.
    pub(crate) max_packet_ms: Option<u8>,
    pub(crate) sends: bool,
    pub(crate) receives: bool,
    pub(crate) protection: Protection,
    /// The hosts from which packets are accepted.
    pub(crate) source: MediaSource,
    /// Whether nothing may be sent to `remote` before a packet has arrived from there. This is so if `remote` is an
    /// address that only a host of our own network could reach, and the far end's SIP comes from elsewhere.
    pub(crate) waits: bool,
}

impl MediaPlan {
    /// The number of packets into which a frame of 20 ms is divided, so that no packet is longer than `maxptime`.
    pub(crate) fn packets_per_frame(&self) -> u8 {
        match self.max_packet_ms {
            None | Some(20..) => 1,
            Some(10..20) => 2,
            Some(..10) => 4,
        }
    }
}

/// The protection of a leg's packets in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Plain RTP.
    Plain,
    /// We have offered keys, and the far end has not answered yet. Packets from the far end cannot be decrypted yet.
    Open,
    Keyed(Box<Keys>),
}

/// A payload type of telephone-events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) payload_type: u8,
    /// The clock rate in Hz. The durations and timestamps of the events have this clock rate. It equals the clock rate
    /// of the audio in the same stream (RFC 4733 §2.1).
    pub(crate) clock_rate: u32,
}

impl MediaPlan {
    /// Whether a packet of `codec` can be relayed to the far end. Such a packet is unchanged, or is converted octet by
    /// octet between mu-law and A-law.
    pub(crate) fn passes(&self, codec: Codec) -> bool {
        codec == self.codec || (codec.law().is_some() && self.codec.law().is_some())
    }

    /// Returns the codec of a received payload type.
    pub(crate) fn codec_of(&self, payload_type: u8) -> Option<Codec> {
        self.receive_codecs.iter().flatten().find(|(number, _)| *number == payload_type).map(|(_, codec)| *codec)
    }

    /// Returns the clock rate in Hz if a received payload type is telephone-events.
    pub(crate) fn events_of(&self, payload_type: u8) -> Option<u32> {
        self.receive_events.iter().flatten().find(|one| one.payload_type == payload_type).map(|one| one.clock_rate)
    }
}

/// The codecs that one leg prefers for the other leg. With a common codec, the engine need not transcode between the
/// legs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preference {
    /// The codecs, best first.
    pub codecs: Vec<Codec>,
    /// Whether the leg may send comfort noise (RFC 3389).
    pub comfort_noise: bool,
}

/// The reason why an offer or answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The body is not SDP, or is longer than 64 KiB. SIP answers 400 in this case.
    #[error("malformed SDP: {0}")]
    Malformed(String),
    /// The body is SDP, but contains no audio stream that we support. SIP answers 488 in this case.
    #[error("incompatible SDP: {0}")]
    Incompatible(Cow<'static, str>),
    /// The audio of the far end is at an address of the other address family. SIP answers 488 in this case.
    #[error("incompatible SDP: the address families differ: the other side has {theirs}, this side {ours}")]
    AddressFamily {
        /// `IPv4` or `IPv6`, in the description of the far end.
        theirs: &'static str,
        /// `IPv4` or `IPv6`, in our description.
        ours: &'static str,
    },
    /// The keys of the far end do not fit our setting for SRTP. SIP answers 488 in this case.
    #[error("incompatible SDP: {0}")]
    Srtp(&'static str),
}

impl SdpError {
    /// Returns the error of a far end whose address family is not the family of our address.
    fn other_family(ours: std::net::IpAddr) -> Self {
        let (ours, theirs) = if ours.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        Self::AddressFamily { theirs, ours }
    }
}

/// Returns the codec names of an offer's first audio line, in the order of the line. The names include codecs that we
/// do not support. The list is empty if the body is not SDP.
pub fn offered_codecs(offer: &[u8]) -> Vec<String> {
    let Ok(text) = parse::text(offer) else { return Vec::new() };
    parse::Description::parse(&text).map(|description| description.encodings()).unwrap_or_default()
}

/// Returns the address of an offer's first audio stream that we could use. Returns `None` if there is none, or if the body
/// is not SDP.
pub fn offered_address(offer: &[u8]) -> Option<std::net::IpAddr> {
    let text = parse::text(offer).ok()?;
    let description = parse::Description::parse(&text).ok()?;
    description.lines.iter().find_map(|line| Some(line.audio.as_ref()?.remote?.ip()))
}

/// A fuzz target. It passes arbitrary octets to the negotiation, as an offer and as an answer. The negotiation must
/// never panic or hang.
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
    let _ = combine_descriptions(&split_description(octets));
    let mut caller = speaker();
    let _ = caller.offer();
    if caller.accept(octets).is_ok() {
        let _ = caller.offer();
    }
}

#[cfg(test)]
mod tests;
