//! The audio frames that a stream sends to its application.

use tandem_call::recording::Track;
use tandem_call::stream::{SampleRate, StreamCodec};
use tandem_dialect::{MediaFrame, StreamWire};
use tandem_media as media;

use crate::stats::decode;

/// Number of samples of a frame of 20 ms at 16,000 Hz.
const SAMPLES_16K: usize = 320;
/// Number of samples of a frame of 20 ms at 24,000 Hz.
const SAMPLES_24K: usize = 480;

/// Converts the frames of the media engine to the codec of a stream, and formats them as messages.
pub struct FrameEncoder {
    tap_codec: media::TapCodec,
    /// The byte order of linear samples.
    order: media::ByteOrder,
    /// The resamplers of the inbound and the outbound track, if the stream has samples at 24,000 Hz. The engine makes
    /// samples at 8,000 and 16,000 Hz.
    to_24000: Option<Box<[media::Resampler; 2]>>,
}

impl FrameEncoder {
    /// Creates the encoder of a stream that starts now. `codec` is the codec of the audio that the application receives.
    /// If it is `None`, the application receives the law of the call.
    pub fn new(codec: Option<StreamCodec>, order: media::ByteOrder) -> Self {
        let (tap_codec, to_24000) = match codec {
            None => (media::TapCodec::Native, None),
            Some(StreamCodec::Pcmu) => (media::TapCodec::Pcmu, None),
            Some(StreamCodec::Pcma) => (media::TapCodec::Pcma, None),
            Some(StreamCodec::L16(SampleRate::Hz8000)) => (media::TapCodec::L16(order), None),
            Some(StreamCodec::L16(SampleRate::Hz24000)) => {
                let resamplers = std::array::from_fn(|_| media::Resampler::from_16000_to_24000());
                (media::TapCodec::L16Wide(order), Some(Box::new(resamplers)))
            }
            // No dialect offers 22,050 or 48,000 Hz for the audio to the application.
            Some(StreamCodec::L16(SampleRate::Hz16000 | SampleRate::Hz22050 | SampleRate::Hz48000)) => {
                (media::TapCodec::L16Wide(order), None)
            }
        };
        Self { tap_codec, order, to_24000 }
    }

    /// The codec in which the media engine must deliver the frames.
    pub fn tap_codec(&self) -> media::TapCodec {
        self.tap_codec
    }

    /// Formats an audio frame as a message to the application.
    pub fn encode(&mut self, wire: &mut dyn StreamWire, frame: &media::TapFrame) -> String {
        let track = match frame.track {
            media::Track::Inbound => Track::Inbound,
            media::Track::Outbound => Track::Outbound,
        };
        let (timestamp_ms, rtp_timestamp) = (frame.timestamp_ms, frame.rtp_timestamp);
        let mut text = String::with_capacity(512);
        match &mut self.to_24000 {
            None => wire.media(&MediaFrame { track, timestamp_ms, rtp_timestamp, payload: frame.audio() }, &mut text),
            Some(resamplers) => {
                let [inbound, outbound] = resamplers.as_mut();
                let resampler = if frame.track == media::Track::Inbound { inbound } else { outbound };
                let payload = resampled(resampler, frame, self.order);
                // RTP timestamps count the samples.
                let rtp_timestamp = timestamp_ms.wrapping_mul(24) as u32;
                wire.media(&MediaFrame { track, timestamp_ms, rtp_timestamp, payload: &payload }, &mut text);
            }
        }
        text
    }
}

fn resampled(
    resampler: &mut media::Resampler,
    frame: &media::TapFrame,
    order: media::ByteOrder,
) -> [u8; 2 * SAMPLES_24K] {
    let (mut input, mut output) = ([0; SAMPLES_16K], [0; SAMPLES_24K]);
    decode(frame.codec, frame.audio(), order, &mut input);
    resampler.process(&input, &mut output);
    let mut octets = [0; 2 * SAMPLES_24K];
    order.write(&output, &mut octets);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_delivers_each_codec_in_the_order_of_its_stream() {
        for order in [media::ByteOrder::Little, media::ByteOrder::Big] {
            let codec = |rate| FrameEncoder::new(Some(StreamCodec::L16(rate)), order).tap_codec();
            assert_eq!(codec(SampleRate::Hz8000), media::TapCodec::L16(order));
            assert_eq!(codec(SampleRate::Hz16000), media::TapCodec::L16Wide(order));
            assert_eq!(codec(SampleRate::Hz24000), media::TapCodec::L16Wide(order));
        }
    }
}
