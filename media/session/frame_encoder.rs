//! Encodes PCM frames of any sample rate in the codec of the leg.

use crate::codec::{Codec, Encoder, LONGEST_FRAME, SampleRate};
use crate::resample::Resampler;

/// The encoder of a leg's outbound audio. The encoder is created for the first frame that needs it. All frames need the
/// encoder, except frames at 8,000 Hz for a G.711 leg.
pub(super) struct FrameEncoder {
    codec: Codec,
    encoder: Encoder,
    /// A resampler to the codec's rate, and the sample rate that the resampler accepts. This is the sample rate of the
    /// newest frame that needed a resampler.
    resampler: Option<(SampleRate, Resampler)>,
    /// The last frame at the sample rate of the codec.
    samples: [i16; LONGEST_FRAME],
}

impl FrameEncoder {
    /// Creates an encoder for a new stream.
    pub(super) fn new(codec: Codec) -> FrameEncoder {
        let encoder = Encoder::new(codec, codec.sample_rate());
        FrameEncoder { codec, encoder, resampler: None, samples: [0; LONGEST_FRAME] }
    }

    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// The sample rate of the PCM that is encoded.
    pub(super) fn rate(&self) -> SampleRate {
        self.encoder.rate()
    }

    /// The PCM of the newest encoded frame, at [`FrameEncoder::rate`].
    pub(super) fn samples(&self) -> &[i16] {
        self.samples.get(..self.rate().frame()).unwrap_or_default()
    }

    /// Adapts the encoder to the loss that the far end reports, in percent.
    pub(super) fn expect_loss(&mut self, percent: u8) {
        self.encoder.expect_loss(percent);
    }

    /// Encodes 20 ms of audio at `rate`. Returns the number of octets written.
    pub(super) fn encode(&mut self, samples: &[i16], rate: SampleRate, octets: &mut [u8]) -> usize {
        let own = self.encoder.rate();
        let Some(frame) = self.samples.get_mut(..own.frame()) else { return 0 };
        if rate == own {
            frame.iter_mut().zip(samples).for_each(|(to, from)| *to = *from);
        } else {
            let resampler = match &mut self.resampler {
                Some((from, resampler)) if *from == rate => resampler,
                other => &mut other.insert((rate, Resampler::new(rate, own))).1,
            };
            resampler.process(samples, frame);
        }
        self.encoder.encode(frame, octets)
    }
}
