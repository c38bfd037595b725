//! SDP offer and answer (RFC 3264, RFC 8866) for one audio stream: the codecs, telephone-events and comfort noise. This
//! module is pure.
//!
//! ```text
//!  bytes -> parse (tolerant) -> Negotiation -> MediaPlan { audio, transport } for the worker
//!                                   \-> bytes: our offer, our answer
//! ```
//!
//! The module `audio` has the lines about codecs and the direction. The module `transport` has the lines about addresses
//! and keys, and the module `ice` those about ICE and DTLS.
//!
//! The far end's `ptime` and `maxptime` determine the length of our packets. The length is `ptime`, rounded down to a
//! multiple of 20 ms. It is 20 to 60 ms, and at most `maxptime`. A far end that asks for less than 20 ms gets 20 ms,
//! because `ptime` is only a request (RFC 8866 §6.4). A `maxptime` of less than 20 ms is a limit: each frame of 20 ms
//! becomes packets of 10 or 5 ms, which leave together. Received packets may have any length. If they are longer than
//! the `maxptime` of the bridged leg, that leg gets frames instead of these packets. Opus is not divided: its packets
//! always have 20 ms, because the encoder works in frames of 20 ms.

mod audio;
mod combine;
mod crypto;
mod ice;
mod negotiate;
mod parse;
mod section;
mod transport;

pub(crate) use audio::{AudioPlan, Events};
pub use combine::{combine_descriptions, split_description};
pub use crypto::Srtp;
pub(crate) use crypto::{Protection, RANDOM};
pub(crate) use ice::{ICE_SECRET, IcePlan, IceSetup};
pub(crate) use negotiate::Negotiation;
pub use transport::MediaSource;
pub(crate) use transport::{Local, TransportPlan};

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::codec::Codec;

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

/// The result of an offer and its answer for one leg. The leg's worker gets this plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MediaPlan {
    pub(crate) audio: AudioPlan,
    pub(crate) transport: TransportPlan,
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
    let Ok(text) = section::text(offer) else { return Vec::new() };
    parse::Description::parse(&text).map(|description| description.encodings()).unwrap_or_default()
}

/// Returns the address of an offer's first audio stream that we could use. Returns `None` if there is none, or if the body
/// is not SDP.
pub fn offered_address(offer: &[u8]) -> Option<std::net::IpAddr> {
    let text = section::text(offer).ok()?;
    let description = parse::Description::parse(&text).ok()?;
    description.lines.iter().find_map(|line| Some(line.stream.as_ref()?.transport.remote?.ip()))
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
        let fingerprint = tandem_webrtc::Fingerprint::of(tandem_webrtc::Hash::Sha256, &[]);
        let setup = IceSetup { secret: [7; ICE_SECRET], fingerprint, lite: false, udp_port: None, tcp_port: None };
        negotiation.set_ice(std::sync::Arc::new(setup), 1);
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
    let mut browser = speaker();
    browser.offer_ice();
    let _ = browser.offer();
    if browser.accept(octets).is_ok() {
        let _ = browser.offer();
    }
    let mut caller = speaker();
    let _ = caller.offer();
    if caller.accept(octets).is_ok() {
        let _ = caller.offer();
    }
}

#[cfg(test)]
mod tests;
