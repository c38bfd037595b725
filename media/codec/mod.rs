//! The audio codecs of a leg. There is one file for each codec. A codec is pure and works on whole frames.

use serde::{Deserialize, Serialize};

mod coder;
pub mod g711;
mod g722;
pub(crate) mod gsm;
mod l16;
mod opus;

pub use coder::{Decoder, Encoder, LONGEST_PACKET, LONGEST_PAYLOAD, Malformed};
use g711::Law;

/// A PCM sample rate of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SampleRate {
    /// Narrowband: 8,000 Hz.
    Hz8000,
    /// Wideband: 16,000 Hz.
    Hz16000,
    /// Fullband: 48,000 Hz.
    Hz48000,
}

impl SampleRate {
    /// The number of samples per second.
    pub const fn hertz(self) -> u32 {
        match self {
            SampleRate::Hz8000 => 8_000,
            SampleRate::Hz16000 => 16_000,
            SampleRate::Hz48000 => 48_000,
        }
    }

    /// The number of samples in 20 ms, which is 160, 320 or 960.
    pub const fn frame(self) -> usize {
        self.hertz() as usize / 50
    }
}

/// The number of samples of the longest frame, which has 20 ms at 48,000 Hz.
pub const LONGEST_FRAME: usize = SampleRate::Hz48000.frame();

/// A codec that a session can negotiate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// G.711 mu-law, static payload type 0 (RFC 3551 §6).
    Pcmu,
    /// G.711 A-law, static payload type 8 (RFC 3551 §6).
    Pcma,
    /// G.722 at 64 kbit/s, static payload type 9. Its RTP clock rate is half its sample rate (RFC 3551 §4.5.2).
    G722,
    /// Opus (RFC 7587), mono.
    Opus,
    /// Linear 16-bit samples in network byte order, mono (RFC 3551 §4.5.11).
    L16(SampleRate),
}

impl Codec {
    /// The encoding name in the spelling of `a=rtpmap` (RFC 3551 §6, RFC 7587).
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::Opus => "opus",
            Codec::L16(_) => "L16",
        }
    }

    /// The static payload type (RFC 3551 §6), or `None` if the codec has only dynamic payload types.
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Codec::Pcmu => Some(0),
            Codec::Pcma => Some(8),
            Codec::G722 => Some(9),
            Codec::Opus | Codec::L16(_) => None,
        }
    }

    /// The RTP clock rate in Hz.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 8_000,
            Codec::Opus => 48_000,
            Codec::L16(rate) => rate.hertz(),
        }
    }

    /// The sample rate of the codec's PCM. Opus supports every rate. For Opus, the result is the rate that bridges and
    /// taps use.
    pub const fn sample_rate(self) -> SampleRate {
        match self {
            Codec::Pcmu | Codec::Pcma => SampleRate::Hz8000,
            Codec::G722 | Codec::Opus => SampleRate::Hz16000,
            Codec::L16(rate) => rate,
        }
    }

    /// The length of a payload in RTP timestamp units.
    pub fn units(self, payload: &[u8]) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => payload.len() as u32,
            Codec::Opus => opus::units(payload),
            Codec::L16(_) => payload.len() as u32 / 2,
        }
    }

    /// Whether the sender pauses after a packet with this payload. It then sends a packet only every 400 ms until the talker
    /// continues (DTX, RFC 7587 §3.1.3).
    pub const fn begins_pause(self, payload: &[u8]) -> bool {
        // Such a packet has no frame, or one octet of it.
        matches!(self, Codec::Opus) && matches!(payload.len(), 1 | 2)
    }

    /// The companding law of a G.711 codec, or `None` for other codecs. Each octet of G.711 is one sample, so the
    /// engine can relay, convert and decode octets one by one.
    pub const fn law(self) -> Option<Law> {
        match self {
            Codec::Pcmu => Some(Law::Mu),
            Codec::Pcma => Some(Law::A),
            Codec::G722 | Codec::Opus | Codec::L16(_) => None,
        }
    }
}

impl From<Law> for Codec {
    fn from(law: Law) -> Codec {
        match law {
            Law::Mu => Codec::Pcmu,
            Law::A => Codec::Pcma,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
