//! Opus (RFC 6716) for telephony, encoded and decoded with libopus. The audio is mono. libopus supports all our sample
//! rates without a resampler.

use opus::{Application, Bitrate, Channels};

use super::SampleRate;

/// The complexity setting of libopus, 0 to 10.
const COMPLEXITY: i32 = 5;
/// The loss in percent that an encoder assumes before the far end's first report. With this value the encoder already
/// spends bits on redundancy.
const EXPECTED_LOSS: i32 = 10;

/// An Opus encoder.
pub(super) struct Encoder(opus::Encoder);

impl Encoder {
    /// Creates an encoder for speech at `rate`, with in-band redundancy (FEC) and without DTX. Allocates about 30 KiB.
    pub(super) fn new(rate: SampleRate) -> Encoder {
        // These are the lowest bit rates at which libopus does not reduce the audio bandwidth to make space for
        // redundancy, at a loss of 3 to 20 percent. Speech with pauses needs an eighth less.
        let bitrate = match rate {
            SampleRate::Hz8000 => 20_000,
            SampleRate::Hz16000 => 28_000,
            SampleRate::Hz48000 => 36_000,
        };
        let made = opus::Encoder::new(rate.hertz(), Channels::Mono, Application::Voip).and_then(|mut encoder| {
            encoder.set_bitrate(Bitrate::Bits(bitrate))?;
            encoder.set_complexity(COMPLEXITY)?;
            encoder.set_inband_fec(true)?;
            encoder.set_packet_loss_perc(EXPECTED_LOSS)?;
            encoder.set_dtx(false)?;
            Ok(encoder)
        });
        #[expect(clippy::expect_used, reason = "libopus refuses only rates and settings that are not among these")]
        Encoder(made.expect("libopus has the memory for an encoder"))
    }

    /// Sets the loss that the far end reports, 0 to 100 percent. A higher loss makes the encoder spend more bits on
    /// redundancy.
    pub(super) fn expect_loss(&mut self, percent: u8) {
        // libopus refuses only values outside the range.
        let _ = self.0.set_packet_loss_perc(i32::from(percent.min(100)));
    }

    /// Leaves out packets in pauses, as browsers can. We never do.
    #[cfg(test)]
    pub(super) fn use_dtx(&mut self) {
        self.0.set_dtx(true).unwrap();
    }

    /// Resets the encoder to its initial state. The next packet does not depend on earlier packets.
    pub(super) fn reset(&mut self) {
        // A reset cannot fail.
        let _ = self.0.reset_state();
    }

    /// Encodes one frame of 2.5 to 120 ms and returns the number of octets written. Returns 0 if the frame has another
    /// length, or if no packet fits into `octets`. A packet has at most 1,275 octets per 20 ms, and at most the length
    /// of `octets`.
    pub(super) fn encode(&mut self, frame: &[i16], octets: &mut [u8]) -> usize {
        self.0.encode(frame, octets).unwrap_or(0)
    }
}

/// An Opus decoder. It decodes stereo to mono.
pub(super) struct Decoder {
    decoder: opus::Decoder,
    rate: SampleRate,
}

impl Decoder {
    /// Creates a decoder to PCM at `rate`. Allocates about 20 KiB.
    pub(super) fn new(rate: SampleRate) -> Decoder {
        let made = opus::Decoder::new(rate.hertz(), Channels::Mono);
        #[expect(clippy::expect_used, reason = "libopus refuses only rates that are not among these")]
        Decoder { decoder: made.expect("libopus has the memory for a decoder"), rate }
    }

    /// Decodes a packet of 2.5 to 120 ms and returns the number of samples written. Returns `None` if the packet is
    /// malformed or does not fit into `samples`.
    pub(super) fn decode(&mut self, packet: &[u8], samples: &mut [i16]) -> Option<usize> {
        // libopus treats an empty packet as a lost packet.
        if packet.is_empty() || self.decoder.get_nb_samples(packet).ok()? > samples.len() {
            return None;
        }
        self.decoder.decode(packet, samples, false).ok()
    }

    /// Conceals a lost packet. `samples` has the length of the lost packet: a multiple of 2.5 ms, at most 120 ms. For
    /// another length, returns false and writes nothing.
    pub(super) fn conceal(&mut self, samples: &mut [i16]) -> bool {
        self.is_duration(samples.len()) && self.decoder.decode(&[], samples, false).is_ok()
    }

    /// Decodes a lost packet from the redundancy in the next packet. Call this before the next packet itself is
    /// decoded. `samples` has the length of the lost packet, as for [`Decoder::conceal`]. Returns false and leaves the
    /// state unchanged if there is no redundancy.
    pub(super) fn recover(&mut self, next: &[u8], samples: &mut [i16]) -> bool {
        self.is_duration(samples.len())
            && carries_redundancy(next)
            && self.decoder.decode(next, samples, true).is_ok_and(|written| written == samples.len())
    }

    fn is_duration(&self, samples: usize) -> bool {
        let shortest = self.rate.frame() / 8;
        samples > 0 && samples.is_multiple_of(shortest) && samples <= self.rate.frame() * 6
    }
}

/// Returns the length of a packet in units of the 48,000 Hz clock, from its first octets (RFC 6716 §3.1). Returns 0 if
/// the packet is not Opus.
pub(super) fn units(packet: &[u8]) -> u32 {
    let Some((toc, rest)) = packet.split_first() else { return 0 };
    let configuration = toc >> 3;
    // The frame length is in units of 2.5 ms.
    let frame: u32 = match configuration {
        0..12 => [4, 8, 16, 24].into_iter().nth(usize::from(configuration & 3)).unwrap_or(8),
        12..16 => 4 << (configuration & 1),
        _ => 1 << (configuration & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => rest.first().map_or(0, |count| u32::from(count & 0x3F)),
    };
    // A packet has at most 120 ms.
    (frame * frames).min(48) * 120
}

/// Whether the first frame of a packet contains a redundant copy of the previous frame (LBRR, RFC 6716 §4.2.3 and
/// §4.2.4). The flags are the first bits of the range coder's data. Each flag has an even probability, so the flags can
/// be read as plain bits.
fn carries_redundancy(packet: &[u8]) -> bool {
    let Some((toc, rest)) = packet.split_first() else { return false };
    let configuration = toc >> 3;
    if configuration >= 16 {
        return false; // The packet is CELT only, without redundancy.
    }
    // The number of SILK frames in one Opus frame. An Opus frame of up to 20 ms has one SILK frame, and a longer Opus
    // frame has one for each 20 ms. A hybrid frame has one SILK frame.
    let silk_frames = match configuration {
        0..12 => (configuration & 3).max(1),
        _ => 1,
    };
    let Some(first) = first_frame(toc & 3, rest).and_then(|frame| frame.first()) else { return false };
    let stereo = toc & 4 != 0;
    // Each channel has one voice flag per SILK frame, followed by the redundancy flag.
    let middle = first >> (7 - silk_frames) & 1 != 0;
    let side = stereo && first >> (6 - 2 * silk_frames) & 1 != 0;
    middle || side
}

/// Returns the packet's data from the first frame on, after the frame lengths (RFC 6716 §3.2). Returns `None` if the
/// lengths are missing.
fn first_frame(code: u8, rest: &[u8]) -> Option<&[u8]> {
    let skip_length = |rest: &[u8]| if *rest.first()? < 252 { Some(1) } else { Some(2) };
    match code {
        0 | 1 => Some(rest),
        2 => rest.get(skip_length(rest)?..),
        _ => {
            let (count, mut rest) = rest.split_first()?;
            if count & 0x40 != 0 {
                // In the padding length, an octet of 255 means that another octet of the length follows.
                let octets = rest.iter().position(|octet| *octet != 255)? + 1;
                rest = rest.get(octets..)?;
            }
            if count & 0x80 != 0 {
                for _ in 1..count & 0x3F {
                    rest = rest.get(skip_length(rest)?..)?;
                }
            }
            Some(rest)
        }
    }
}

#[cfg(test)]
mod tests;
