//! The audio codecs a leg can speak. One file a codec; each is pure and works on whole frames.

pub mod g711;

/// A codec that a session can negotiate. Both are G.711 at 8,000 samples a second, one octet a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 mu-law, static payload type 0 (RFC 3551 §6).
    Pcmu,
    /// G.711 A-law, static payload type 8 (RFC 3551 §6).
    Pcma,
}

impl Codec {
    /// The encoding name of RFC 3551 §6, as `a=rtpmap` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        }
    }

    /// The static payload type of RFC 3551 §6.
    pub const fn static_payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
        }
    }

    /// The octet that decodes to (nearly) no sound.
    pub const fn silence(self) -> u8 {
        match self {
            Codec::Pcmu => 0xFF,
            Codec::Pcma => 0xD5,
        }
    }

    /// Decodes as many octets as both slices hold; one sample an octet.
    pub fn decode(self, octets: &[u8], samples: &mut [i16]) {
        match self {
            Codec::Pcmu => g711::decode(&g711::ULAW_TO_LINEAR, octets, samples),
            Codec::Pcma => g711::decode(&g711::ALAW_TO_LINEAR, octets, samples),
        }
    }

    /// Encodes as many samples as both slices hold; one octet a sample.
    pub fn encode(self, samples: &[i16], octets: &mut [u8]) {
        match self {
            Codec::Pcmu => {
                for (octet, sample) in octets.iter_mut().zip(samples) {
                    *octet = g711::linear_to_ulaw(*sample);
                }
            }
            Codec::Pcma => {
                for (octet, sample) in octets.iter_mut().zip(samples) {
                    *octet = g711::linear_to_alaw(*sample);
                }
            }
        }
    }

    /// Turns octets of this codec into octets of `to`, in place, by one table look-up each.
    pub fn transcode(self, to: Codec, octets: &mut [u8]) {
        let table = match (self, to) {
            (Codec::Pcmu, Codec::Pcma) => &g711::ULAW_TO_ALAW,
            (Codec::Pcma, Codec::Pcmu) => &g711::ALAW_TO_ULAW,
            _ => return,
        };
        for octet in octets {
            if let Some(other) = table.get(usize::from(*octet)) {
                *octet = *other;
            }
        }
    }
}
