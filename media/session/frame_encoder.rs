//! Encodes PCM frames of any sample rate in the codec of the leg.

use crate::codec::{Codec, Encoder, LONGEST_FRAME, SampleRate};
use crate::resample::Resampler;

/// The number of successive frames at 8,000 Hz after which Opus encodes at 8,000 Hz again: 5 s.
const NARROW: u32 = 250;

/// The encoder of a leg's outbound audio. The encoder is created for the first frame that needs it. All frames need the
/// encoder, except frames at 8,000 Hz for a G.711 leg.
///
/// Opus encodes audio of 8,000 Hz at this rate, which costs half of the CPU time and sounds the same. Each packet says its
/// bandwidth, so the rate may change (RFC 6716 §3.1).
pub(super) struct FrameEncoder {
    codec: Codec,
    encoder: Encoder,
    /// The loss that the far end reports, in percent.
    loss: Option<u8>,
    /// The number of successive frames at 8,000 Hz.
    narrow: u32,
    /// The resampler to the encoder's rate.
    resampler: Conversion,
    /// The last frame at the sample rate of the encoder.
    samples: [i16; LONGEST_FRAME],
    /// The resampler from the encoder's rate to the codec's rate, and its last frame.
    widener: Conversion,
    wide: [i16; LONGEST_FRAME],
}

/// A resampler, and the sample rates that it accepts and returns. These are the rates of the newest frame that needed it.
#[derive(Default)]
struct Conversion(Option<(SampleRate, SampleRate, Resampler)>);

impl Conversion {
    fn convert(&mut self, from: SampleRate, to: SampleRate, samples: &[i16], frame: &mut [i16]) {
        let resampler = match &mut self.0 {
            Some((known_from, known_to, resampler)) if (*known_from, *known_to) == (from, to) => resampler,
            other => &mut other.insert((from, to, Resampler::new(from, to))).2,
        };
        resampler.process(samples, frame);
    }
}

impl FrameEncoder {
    /// Creates an encoder for a new stream, whose first frame is at `rate`.
    pub(super) fn new(codec: Codec, rate: SampleRate) -> FrameEncoder {
        FrameEncoder {
            codec,
            encoder: Encoder::new(codec, rate.min(codec.sample_rate())),
            loss: None,
            narrow: 0,
            resampler: Conversion::default(),
            samples: [0; LONGEST_FRAME],
            widener: Conversion::default(),
            wide: [0; LONGEST_FRAME],
        }
    }

    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// The PCM of the newest encoded frame, at the sample rate of the codec. Call this function for each frame or for none:
    /// frames that are left out are missing in the result.
    pub(super) fn samples(&mut self) -> &[i16] {
        let (own, codec) = (self.encoder.rate(), self.codec.sample_rate());
        let frame = self.samples.get(..own.frame()).unwrap_or_default();
        if own == codec {
            return frame;
        }
        let Some(wide) = self.wide.get_mut(..codec.frame()) else { return &[] };
        self.widener.convert(own, codec, frame, wide);
        wide
    }

    /// Adapts the encoder to the loss that the far end reports, in percent.
    pub(super) fn expect_loss(&mut self, percent: u8) {
        self.loss = Some(percent);
        self.encoder.expect_loss(percent);
    }

    /// Encodes 20 ms of audio at `rate`. Returns the number of octets written.
    pub(super) fn encode(&mut self, samples: &[i16], rate: SampleRate, octets: &mut [u8]) -> usize {
        self.follow(rate);
        let own = self.encoder.rate();
        let Some(frame) = self.samples.get_mut(..own.frame()) else { return 0 };
        if rate == own {
            frame.iter_mut().zip(samples).for_each(|(to, from)| *to = *from);
        } else {
            self.resampler.convert(rate, own, samples, frame);
        }
        self.encoder.encode(frame, octets)
    }

    /// Changes the rate of Opus: up with the first wider frame, and down after 5 s of narrow ones.
    fn follow(&mut self, rate: SampleRate) {
        if self.codec != Codec::Opus {
            return;
        }
        self.narrow = if rate == SampleRate::Hz8000 { self.narrow.saturating_add(1) } else { 0 };
        let own = self.encoder.rate();
        let best = rate.min(self.codec.sample_rate());
        if best > own || best < own && self.narrow > NARROW {
            self.encoder = Encoder::new(self.codec, best);
            if let Some(loss) = self.loss {
                self.encoder.expect_loss(loss);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Decoder, LONGEST_PACKET, LONGEST_PAYLOAD};

    /// Encodes frames of a tone at `rate`, and returns the rates at which the encoder worked and the decoded peak.
    fn encoded(encoder: &mut FrameEncoder, rate: SampleRate, frames: usize) -> (Vec<SampleRate>, u16) {
        let mut decoder = Decoder::new(Codec::Opus, SampleRate::Hz16000);
        let (mut rates, mut peak) = (Vec::new(), 0);
        for frame in 0..frames {
            let sample = |at: usize| {
                let phase = (frame * rate.frame() + at) as f32 / rate.hertz() as f32 * 440.0;
                ((phase * std::f32::consts::TAU).sin() * 8_000.0) as i16
            };
            let samples: Vec<i16> = (0..rate.frame()).map(sample).collect();
            let mut octets = [0; LONGEST_PAYLOAD];
            let length = encoder.encode(&samples, rate, &mut octets);
            let mut heard = [0; LONGEST_PACKET];
            let count = decoder.decode(&octets[..length], &mut heard).unwrap();
            assert_eq!((count, encoder.samples().len()), (320, 320));
            if frame > 5 {
                peak = heard[..count].iter().map(|sample| sample.unsigned_abs()).max().unwrap().max(peak);
                assert!(encoder.samples().iter().any(|sample| sample.unsigned_abs() > 6_000));
            }
            rates.push(encoder.encoder.rate());
        }
        rates.dedup();
        (rates, peak)
    }

    #[test]
    fn opus_follows_the_rate_of_the_audio() {
        let mut encoder = FrameEncoder::new(Codec::Opus, SampleRate::Hz8000);
        for (rate, frames, expected) in [
            (SampleRate::Hz8000, 50, &[SampleRate::Hz8000][..]),
            (SampleRate::Hz16000, 50, &[SampleRate::Hz16000]),
            (SampleRate::Hz48000, 50, &[SampleRate::Hz16000]),
            (SampleRate::Hz8000, 300, &[SampleRate::Hz16000, SampleRate::Hz8000]),
            (SampleRate::Hz16000, 1, &[SampleRate::Hz16000]),
        ] {
            let (rates, peak) = encoded(&mut encoder, rate, frames);
            assert_eq!(rates, expected, "{rate:?}");
            assert!(frames < 10 || (6_000..12_000).contains(&peak), "{rate:?}: {peak}");
        }
    }
}
