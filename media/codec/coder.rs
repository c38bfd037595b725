//! Encoder and decoder of one direction of a session's audio, for any codec.

use super::g711::Law;
use super::{Codec, SampleRate, g722, l16, opus};

/// The number of samples of the longest packet, which has 120 ms at 48,000 Hz. A buffer of this length is enough to
/// decode any packet.
pub const LONGEST_PACKET: usize = SampleRate::Hz48000.frame() * 6;
/// The number of octets of the longest encoded frame of 20 ms. This is a frame of L16 at 48,000 Hz.
pub const LONGEST_PAYLOAD: usize = SampleRate::Hz48000.frame() * l16::OCTETS_PER_SAMPLE;

/// The error for a payload that is not valid for its codec. The payload is empty, incomplete or longer than 120 ms, or
/// the codec's decoder refused the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid payload of the codec")]
pub struct Malformed;

/// Encodes one direction of a session's audio. It allocates only on creation.
pub struct Encoder {
    coding: Coding<Box<g722::Encoder>, opus::Encoder>,
    rate: SampleRate,
}

impl Encoder {
    /// Creates an encoder in the initial state. Opus works at `rate`. Every other codec works at its own rate
    /// ([`Codec::sample_rate`]).
    pub fn new(codec: Codec, rate: SampleRate) -> Encoder {
        let coding = match codec {
            Codec::Pcmu => Coding::G711(Law::Mu),
            Codec::Pcma => Coding::G711(Law::A),
            Codec::G722 => Coding::G722(Box::default()),
            Codec::Opus => Coding::Opus(opus::Encoder::new(rate)),
            Codec::L16(_) => Coding::L16,
        };
        Encoder { coding, rate: rate_of(codec, rate) }
    }

    /// The sample rate that the input must have.
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Encodes 20 ms of PCM at [`Encoder::rate`] and returns the number of octets written. [`LONGEST_PAYLOAD`] octets
    /// are always enough. If `octets` is shorter, the samples that do not fit are not encoded. Opus accepts only whole
    /// frames. G.722 accepts an even number of samples. The other codecs accept any number of samples. For input of
    /// another length nothing is written.
    pub fn encode(&mut self, frame: &[i16], octets: &mut [u8]) -> usize {
        match &mut self.coding {
            Coding::G711(law) => {
                law.encode(frame, octets);
                frame.len().min(octets.len())
            }
            Coding::G722(encoder) => encoder.encode(frame, octets),
            Coding::Opus(encoder) => encoder.encode(frame, octets),
            Coding::L16 => l16::encode(frame, octets),
        }
    }

    /// Resets the encoder to its initial state.
    pub fn reset(&mut self) {
        match &mut self.coding {
            Coding::G722(encoder) => **encoder = g722::Encoder::default(),
            Coding::Opus(encoder) => encoder.reset(),
            Coding::G711(_) | Coding::L16 => {}
        }
    }

    /// Copies the state of `other`, which is an encoder of the same codec. A decoder can then change from the output of
    /// `other` to the output of this encoder. For G.722 the change is exact. Opus does not copy the state. It is reset,
    /// so that its next packet does not depend on earlier packets.
    pub fn follow(&mut self, other: &Encoder) {
        match (&mut self.coding, &other.coding) {
            (Coding::G722(encoder), Coding::G722(other)) => encoder.clone_from(other),
            (Coding::Opus(encoder), Coding::Opus(_)) => encoder.reset(),
            _ => {}
        }
    }

    /// Leaves out packets in pauses, if this is Opus.
    #[cfg(test)]
    pub(crate) fn use_dtx(&mut self) {
        if let Coding::Opus(encoder) = &mut self.coding {
            encoder.use_dtx();
        }
    }

    /// Sets the packet loss that the far end reports, 0 to 100 percent. Only Opus uses this value.
    pub fn expect_loss(&mut self, percent: u8) {
        if let Coding::Opus(encoder) = &mut self.coding {
            encoder.expect_loss(percent);
        }
    }
}

/// Decodes one direction of a session's audio. It allocates only on creation.
pub struct Decoder {
    coding: Coding<Box<g722::Decoder>, opus::Decoder>,
    rate: SampleRate,
}

impl Decoder {
    /// Creates a decoder in the initial state. Opus works at `rate`. Every other codec works at its own rate
    /// ([`Codec::sample_rate`]).
    pub fn new(codec: Codec, rate: SampleRate) -> Decoder {
        let coding = match codec {
            Codec::Pcmu => Coding::G711(Law::Mu),
            Codec::Pcma => Coding::G711(Law::A),
            Codec::G722 => Coding::G722(Box::default()),
            Codec::Opus => Coding::Opus(opus::Decoder::new(rate)),
            Codec::L16(_) => Coding::L16,
        };
        Decoder { coding, rate: rate_of(codec, rate) }
    }

    /// The sample rate of the output.
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Decodes a payload of at most 120 ms and returns the number of samples written, at least one. A payload that does
    /// not fit into `samples` is malformed, and leaves the decoder's state unchanged. [`LONGEST_PACKET`] samples are
    /// enough for any payload.
    pub fn decode(&mut self, payload: &[u8], samples: &mut [i16]) -> Result<usize, Malformed> {
        let room = samples.len().min(self.rate.frame() * 6);
        let samples = samples.get_mut(..room).unwrap_or_default();
        if payload.is_empty() {
            return Err(Malformed);
        }
        match &mut self.coding {
            Coding::G711(law) if payload.len() <= room => {
                law.decode(payload, samples);
                Ok(payload.len())
            }
            Coding::G722(decoder) if payload.len() <= room / g722::SAMPLES_PER_OCTET => {
                Ok(decoder.decode(payload, samples))
            }
            Coding::Opus(decoder) => decoder.decode(payload, samples).ok_or(Malformed),
            Coding::L16 if payload.len() <= room * l16::OCTETS_PER_SAMPLE && payload.len().is_multiple_of(2) => {
                Ok(l16::decode(payload, samples))
            }
            Coding::G711(_) | Coding::G722(_) | Coding::L16 => Err(Malformed),
        }
    }

    /// Fills `samples` with audio that conceals a loss of this length. The codec computes this audio. Only Opus
    /// supports concealment, and only for multiples of 2.5 ms up to 120 ms. Returns false and writes nothing if the
    /// codec or the length is not supported.
    pub fn conceal(&mut self, samples: &mut [i16]) -> bool {
        match &mut self.coding {
            Coding::Opus(decoder) => decoder.conceal(samples),
            Coding::G711(_) | Coding::G722(_) | Coding::L16 => false,
        }
    }

    /// Fills `samples` from the redundancy in `next`. `samples` has the length of the lost packet. `next` is the
    /// payload of the packet after the lost packet. The caller must still decode `next` itself. Returns false and
    /// writes nothing if `next` has no redundancy. Only Opus has redundancy.
    pub fn recover(&mut self, next: &[u8], samples: &mut [i16]) -> bool {
        match &mut self.coding {
            Coding::Opus(decoder) => decoder.recover(next, samples),
            Coding::G711(_) | Coding::G722(_) | Coding::L16 => false,
        }
    }
}

/// The state of each codec. G.711 and L16 have no state.
enum Coding<G722, Opus> {
    G711(Law),
    G722(G722),
    Opus(Opus),
    L16,
}

fn rate_of(codec: Codec, wanted: SampleRate) -> SampleRate {
    match codec {
        Codec::Opus => wanted,
        Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::L16(_) => codec.sample_rate(),
    }
}

#[cfg(test)]
mod tests;
