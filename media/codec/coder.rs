//! One direction of a session's audio: PCM into payloads, or payloads into PCM, whatever the codec.

use super::g711::Law;
use super::{Codec, SampleRate, g722, l16, opus};

/// Samples of the longest packet, 120 ms at 48,000 Hz: room for these and any packet can be decoded.
pub const LONGEST_PACKET: usize = SampleRate::Hz48000.frame() * 6;
/// Octets of the longest payload that 20 ms are encoded into: L16 at 48,000 Hz.
pub const LONGEST_PAYLOAD: usize = SampleRate::Hz48000.frame() * l16::OCTETS_PER_SAMPLE;

/// A payload that is none of its codec's: empty, cut off within a sample, longer than 120 ms, or refused by the
/// decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid payload of the codec")]
pub struct Malformed;

/// Encodes one direction. Nothing is allocated after construction.
pub struct Encoder {
    coding: Coding<Box<g722::Encoder>, opus::Encoder>,
    rate: SampleRate,
}

impl Encoder {
    /// At rest. Opus works at `rate`, all others at their own ([`Codec::sample_rate`]).
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

    /// What the samples that are encoded must have been brought to.
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Encodes 20 ms of PCM at [`Encoder::rate`]; returns the octets written. No more is encoded than `octets` has room
    /// for ([`LONGEST_PAYLOAD`] is always enough). Opus wants whole frames, the others take any number of samples,
    /// G.722 an even one; nothing is written for what they do not take.
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

    /// Forgets what it heard, as if made anew.
    pub fn reset(&mut self) {
        match &mut self.coding {
            Coding::G722(encoder) => **encoder = g722::Encoder::default(),
            Coding::Opus(encoder) => encoder.reset(),
            Coding::G711(_) | Coding::L16 => {}
        }
    }

    /// Goes on in the place of `other`, of the same codec: a decoder that heard that one then hears this one. G.722 does
    /// so exactly; Opus begins anew, with a packet that leans on none before it.
    pub fn follow(&mut self, other: &Encoder) {
        match (&mut self.coding, &other.coding) {
            (Coding::G722(encoder), Coding::G722(other)) => encoder.clone_from(other),
            (Coding::Opus(encoder), Coding::Opus(_)) => encoder.reset(),
            _ => {}
        }
    }

    /// Tells the loss that the far end reports, 0 to 100 percent, to a codec that can do something about it.
    pub fn expect_loss(&mut self, percent: u8) {
        if let Coding::Opus(encoder) = &mut self.coding {
            encoder.expect_loss(percent);
        }
    }
}

/// Decodes one direction. Nothing is allocated after construction.
pub struct Decoder {
    coding: Coding<Box<g722::Decoder>, opus::Decoder>,
    rate: SampleRate,
}

impl Decoder {
    /// At rest. Opus works at `rate`, all others at their own ([`Codec::sample_rate`]).
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

    /// Of the samples that are decoded.
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Decodes a payload of at most 120 ms; returns the samples written, at least one. A payload that `samples` has no
    /// room for is as malformed as one of the wrong shape, and leaves the state as it was; [`LONGEST_PACKET`] is room
    /// for any.
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

    /// Fills `samples`, as long as what was lost, with the codec's own guess at it. False, and nothing written, if it
    /// has none: only Opus does, for multiples of 2.5 ms up to 120 ms.
    pub fn conceal(&mut self, samples: &mut [i16]) -> bool {
        match &mut self.coding {
            Coding::Opus(decoder) => decoder.conceal(samples),
            Coding::G711(_) | Coding::G722(_) | Coding::L16 => false,
        }
    }

    /// Fills `samples`, as long as the lost packet, from the redundancy in `next`, the payload after it, which is still
    /// to be decoded itself. False, and nothing written, if there is none: only Opus has it.
    pub fn recover(&mut self, next: &[u8], samples: &mut [i16]) -> bool {
        match &mut self.coding {
            Coding::Opus(decoder) => decoder.recover(next, samples),
            Coding::G711(_) | Coding::G722(_) | Coding::L16 => false,
        }
    }
}

/// The state that each codec keeps: G.711 and L16 none.
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
