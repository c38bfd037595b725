//! Decodes packets of codecs with state (G.722, Opus) in order. After a gap, packets wait until the reader with the
//! smallest delay needs the missing audio. Then the codec recovers or conceals the missing audio. If the codec cannot
//! do this, the timeline conceals the audio.

use super::{Stamp, Timeline};
use crate::codec::{Codec, Decoder};
use crate::rtp::is_newer;

/// The highest number of packets that wait after a gap.
const MAX_HELD_PACKETS: usize = 8;
/// The longest payload that can wait, in octets. Opus payloads have at most 1,275 octets (RFC 6716 §3.4).
const LONGEST: usize = 1_280;
/// The lowest difference between a packet's sequence number and the expected number at which the packet belongs to
/// another stream.
const STREAM_DISTANCE: u16 = 100;
/// The level of the loudest noise in a pause, in -dBov. The decoder fills the first packet of a pause with what it has
/// decoded last, and this is speech if the packets before were lost.
const LOUDEST_NOISE: u8 = 45;
/// The highest number of successive lost packets that the codec may conceal.
const MAX_CONCEALED_PACKETS: u16 = 5;

/// Decodes the packets of one direction onto the timeline of this direction. It allocates memory only on creation.
pub struct Assembly {
    codec: Codec,
    decoder: Decoder,
    /// The sequence number of the packet to decode next.
    next: Option<u16>,
    /// The timestamp after the last decoded packet. The next field, `length`, is the number of samples in this packet.
    end: u32,
    length: usize,
    held: Box<[HeldPacket; MAX_HELD_PACKETS]>,
    samples: Box<[i16]>,
    malformed: u32,
}

struct HeldPacket {
    /// The sequence number of the packet, or `None` if this entry is free.
    sequence: Option<u16>,
    stamp: Stamp,
    length: usize,
    octets: [u8; LONGEST],
}

impl Assembly {
    /// Creates an assembly for the packets of `codec`, which `decoder` decodes. The decoder and the timeline must have the
    /// same sample rate.
    pub fn new(codec: Codec, decoder: Decoder) -> Assembly {
        let samples = vec![0; decoder.rate().frame() * 6].into();
        let held = Box::new(std::array::from_fn(|_| HeldPacket {
            sequence: None,
            stamp: Stamp { timestamp: 0, marker: false, arrival: 0 },
            length: 0,
            octets: [0; LONGEST],
        }));
        Assembly { codec, decoder, next: None, end: 0, length: 0, held, samples, malformed: 0 }
    }

    /// The number of payloads that the decoder refused.
    pub fn malformed(&self) -> u32 {
        self.malformed
    }

    /// Prepares for a stream with another SSRC.
    pub fn restart(&mut self, timeline: &mut Timeline) {
        self.flush(timeline);
        self.next = None;
        timeline.restart();
    }

    /// Decodes a packet and the packets that waited for it. If an earlier packet is missing, the packet waits.
    pub fn handle_packet(&mut self, sequence: u16, stamp: Stamp, payload: &[u8], timeline: &mut Timeline) {
        let ahead = self.next.map_or(0, |next| sequence.wrapping_sub(next).cast_signed());
        if ahead.unsigned_abs() >= STREAM_DISTANCE {
            self.flush(timeline);
            self.next = None;
        } else if ahead < 0 {
            // The packet was decoded or skipped before, and the decoder's state has advanced.
            timeline.note_late(stamp);
            return;
        } else if ahead > 0 {
            self.hold(sequence, stamp, payload, timeline);
            return;
        }
        self.decode(sequence, stamp, payload, timeline);
        self.decode_held(timeline);
    }

    /// Stops waiting for missing packets if the audio of these packets is needed for the next frame. Call this method
    /// in each tick, before the timeline is read.
    pub fn handle_tick(&mut self, timeline: &mut Timeline) {
        while let Some(missing) = self.missing_from(timeline)
            && timeline.is_due(missing)
        {
            self.give_up(timeline);
        }
    }

    fn hold(&mut self, sequence: u16, stamp: Stamp, payload: &[u8], timeline: &mut Timeline) {
        if self.held.iter().any(|held| held.sequence == Some(sequence)) {
            return;
        }
        if self.held.iter().all(|held| held.sequence.is_some()) {
            self.give_up(timeline);
            return self.handle_packet(sequence, stamp, payload, timeline);
        }
        if let Some(held) = self.held.iter_mut().find(|held| held.sequence.is_none())
            && let Some(octets) = held.octets.get_mut(..payload.len())
        {
            octets.copy_from_slice(payload);
            (held.sequence, held.stamp, held.length) = (Some(sequence), stamp, payload.len());
        }
    }

    /// Returns the index of the waiting packet with the lowest sequence number.
    fn first_held(&self) -> Option<usize> {
        let next = self.next?;
        let held = self.held.iter().enumerate();
        held.filter_map(|(index, held)| Some((held.sequence?.wrapping_sub(next), index))).min().map(|(_, index)| index)
    }

    /// Returns the timestamp from which audio is missing, if packets wait. After a pause, this is not the end of the last
    /// packet.
    fn missing_from(&self, timeline: &Timeline) -> Option<u32> {
        let held = self.held.get(self.first_held()?)?;
        let missing = held.sequence?.wrapping_sub(self.next?);
        let from = held.stamp.timestamp.wrapping_sub(timeline.units(self.length).wrapping_mul(missing.into()));
        Some(if is_newer(from, self.end) { from } else { self.end })
    }

    fn flush(&mut self, timeline: &mut Timeline) {
        while self.first_held().is_some() {
            self.give_up(timeline);
        }
    }

    /// Stops waiting for the missing packets, and decodes the packets after them.
    fn give_up(&mut self, timeline: &mut Timeline) {
        let (Some(next), Some(held)) = (self.next, self.first_held().and_then(|index| self.held.get(index))) else {
            return;
        };
        let Some(sequence) = held.sequence else { return };
        let missing = sequence.wrapping_sub(next);
        let gap = held.stamp.timestamp.wrapping_sub(self.end);
        let each = timeline.units(self.length);
        // Concealment is possible only if the lost packets have the length of the last packet. Otherwise the gap contains a
        // pause or packets of another length, and the lengths are unknown. The redundancy is that of the packet just before.
        let lost = each.wrapping_mul(missing.into());
        if missing <= MAX_CONCEALED_PACKETS
            && self.length > 0
            && (gap == lost || timeline.is_paused() && is_newer(gap, lost))
            && let Some(samples) = self.samples.get_mut(..self.length)
        {
            let first = held.stamp.timestamp.wrapping_sub(lost);
            for number in 0..missing {
                let payload = held.octets.get(..held.length).unwrap_or_default();
                let recovered = number + 1 == missing && self.decoder.recover(payload, samples);
                let timestamp = first.wrapping_add(each.wrapping_mul(number.into()));
                if recovered || gap == lost && self.decoder.conceal(samples) {
                    timeline.write_recovered(timestamp, samples, !recovered);
                }
            }
        }
        self.next = Some(sequence);
        self.decode_held(timeline);
    }

    /// Decodes the packets that wait, up to the next gap.
    fn decode_held(&mut self, timeline: &mut Timeline) {
        while let Some(index) = self.held.iter().position(|held| held.sequence.is_some() && held.sequence == self.next)
        {
            let Some(held) = self.held.get_mut(index) else { return };
            let Some(sequence) = held.sequence.take() else { return };
            let (stamp, length, octets) = (held.stamp, held.length, held.octets);
            self.decode(sequence, stamp, octets.get(..length).unwrap_or_default(), timeline);
        }
    }

    fn decode(&mut self, sequence: u16, stamp: Stamp, payload: &[u8], timeline: &mut Timeline) {
        self.next = Some(sequence.wrapping_add(1));
        match self.decoder.decode(payload, &mut self.samples) {
            Ok(count) => {
                let samples = self.samples.get(..count).unwrap_or_default();
                let pauses = self.codec.begins_pause(payload);
                // Some senders go on with packets without audio, and the pause goes on.
                if !(pauses && timeline.is_paused()) {
                    timeline.write_samples(stamp, samples);
                }
                if pauses {
                    timeline.start_pause(Some(level(samples).max(LOUDEST_NOISE)));
                }
                self.length = count;
                self.end = stamp.timestamp.wrapping_add(timeline.units(count));
            }
            Err(_) => {
                self.malformed = self.malformed.saturating_add(1);
                self.end = stamp.timestamp.wrapping_add(timeline.units(self.length));
            }
        }
    }
}

/// Returns the level of a frame in -dBov, 0 to 127 (RFC 3389 §3.1).
fn level(samples: &[i16]) -> u8 {
    let power: f32 = samples.iter().map(|sample| (f32::from(*sample) / 32_768.0).powi(2)).sum();
    let level = -10.0 * (power / samples.len().max(1) as f32).log10();
    level.clamp(0.0, 127.0) as u8
}

#[cfg(test)]
mod tests {
    use super::super::recorder;
    use super::*;
    use crate::codec::{Codec, Encoder, LONGEST_PAYLOAD, SampleRate};
    use crate::timeline::Reader;

    const RATE: SampleRate = SampleRate::Hz16000;

    /// Returns 2 s of a synthetic voice in packets of 20 ms.
    fn packets(codec: Codec) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(codec, RATE);
        encoder.expect_loss(20);
        let wave = |at: usize| {
            let phase = (at as f32 * 130.0 / 16_000.0).fract();
            ((-phase * 5.0).exp() * (phase * 40.0).sin() * 9_000.0) as i16
        };
        let frames = (0..100).map(|number| (number * 320..(number + 1) * 320).map(wave).collect::<Vec<i16>>());
        let mut octets = [0; LONGEST_PAYLOAD];
        let encode = |frame: Vec<i16>| {
            let length = encoder.encode(&frame, &mut octets);
            octets[..length].to_vec()
        };
        frames.map(encode).collect()
    }

    /// Returns the audio that a reader gets, the number of samples that were received, and the timeline. `late(n)` is
    /// the time in ms by which packet n arrives late. If `late(n)` is `None`, packet n is lost.
    fn heard(codec: Codec, reader: &mut Reader, late: impl Fn(usize) -> Option<u32>) -> (Vec<i16>, u32, Timeline) {
        let packets = packets(codec);
        let mut order: Vec<(u32, usize)> =
            (0..packets.len()).filter_map(|number| Some((number as u32 * 20 + late(number)?, number))).collect();
        order.sort_unstable();
        let mut order = order.into_iter().peekable();
        let mut timeline = Timeline::samples(RATE, codec.clock_rate());
        let mut assembly = Assembly::new(codec, Decoder::new(codec, RATE));
        let (mut heard, mut present) = (Vec::new(), 0);
        for tick in 0..110u32 {
            while let Some((arrival, number)) = order.next_if(|(arrival, _)| *arrival <= tick * 20) {
                let timestamp = (number as u32 * codec.clock_rate() / 50).wrapping_sub(9_600);
                let stamp = Stamp { timestamp, marker: false, arrival: arrival * 8 };
                assembly.handle_packet((number as u16).wrapping_sub(30), stamp, &packets[number], &mut timeline);
            }
            assembly.handle_tick(&mut timeline);
            let mut frame = [0; 320];
            present += u32::from(timeline.read_samples(reader, tick * 160, &mut frame).present);
            heard.extend(frame);
        }
        assert_eq!(assembly.malformed(), 0);
        (heard, present, timeline)
    }

    #[test]
    fn packets_out_of_order_are_decoded_in_order() {
        for codec in [Codec::G722, Codec::Opus] {
            let (in_order, ..) = heard(codec, &mut recorder(), |_| Some(0));
            let mixed = |number: usize| Some(if number > 0 { (number as u32 * 37) % 90 } else { 0 });
            let (out_of_order, ..) = heard(codec, &mut recorder(), mixed);
            assert!(in_order.iter().any(|sample| sample.abs() > 1_000));
            assert_eq!(in_order, out_of_order, "{codec:?}");
        }
    }

    #[test]
    fn the_codec_conceals_losses_if_it_can() {
        let lost = |number: usize| (number % 10 != 5 && number % 10 != 6 && number % 25 != 20).then_some(0);
        let (_, present, timeline) = heard(Codec::Opus, &mut Reader::adaptive(), lost);
        // If two successive packets are lost, the reader needs the first 10 ms before the next packet arrives.
        assert_eq!(present, (100 - 5) * 320, "{:?}", timeline.quality());
        // The concealed audio is all lost audio that the redundancy does not recover.
        let quality = timeline.quality();
        assert!((100..=600).contains(&quality.concealed_ms), "{quality:?}");
        let (_, present, timeline) = heard(Codec::G722, &mut Reader::adaptive(), lost);
        assert_eq!(present, (100 - 22) * 320);
        // The concealed audio is the 22 lost packets, and 60 ms after the last packet.
        assert_eq!(timeline.quality().concealed_ms, 500);
    }

    /// Returns what a reader hears of 1 s of speech, 3 s of noise and 1 s of speech, and the timeline. A browser with DTX sends
    /// the first of the packets without audio, and then one packet of noise every 400 ms. `arrives(tick)` is the delay in
    /// ticks of a packet, or `None` if the packet is lost.
    fn with_pause(arrives: impl Fn(usize) -> Option<usize>) -> (Vec<[i16; 320]>, u32, Timeline) {
        let mut encoder = Encoder::new(Codec::Opus, RATE);
        encoder.use_dtx();
        let mut state = 1u32;
        let mut noise = |peak: f32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / 8_388_608.0 - 1.0) * peak
        };
        let voice = |at: usize| ((at as f32 * 130.0 / 16_000.0).fract() * -5.0).exp() * 9_000.0;
        let mut timeline = Timeline::samples(RATE, 48_000);
        let mut assembly = Assembly::new(Codec::Opus, Decoder::new(Codec::Opus, RATE));
        let (mut reader, mut heard, mut sequence, mut is_pause) = (Reader::adaptive(), Vec::new(), 0, false);
        let (mut comfort, mut octets, mut waiting) = (0, [0; LONGEST_PAYLOAD], Vec::new());
        for tick in 0..250usize {
            let speaks = !(50..200).contains(&tick);
            let samples: Vec<i16> = (tick * 320..(tick + 1) * 320)
                .map(|at| (if speaks { voice(at) } else { 0.0 } + noise(60.0)) as i16)
                .collect();
            let length = encoder.encode(&samples, &mut octets);
            let is_first = !std::mem::replace(&mut is_pause, length <= 2);
            if length > 2 || is_first {
                if let Some(late) = arrives(tick) {
                    waiting.push((tick + late, sequence, tick as u32 * 960, octets[..length].to_vec()));
                }
                sequence += 1;
            }
            let now = tick as u32 * 160;
            for (_, sequence, timestamp, packet) in waiting.extract_if(.., |(at, ..)| *at <= tick) {
                let stamp = Stamp { timestamp, marker: false, arrival: now };
                assembly.handle_packet(sequence, stamp, &packet, &mut timeline);
            }
            assembly.handle_tick(&mut timeline);
            let mut frame = [0; 320];
            comfort += u32::from(timeline.read_samples(&mut reader, now, &mut frame).comfort);
            heard.push(frame);
        }
        assert!(sequence < 150, "{sequence} packets: the encoder has used DTX");
        (heard, comfort, timeline)
    }

    fn is_loud(frame: &[i16; 320]) -> bool {
        frame.iter().any(|sample| sample.unsigned_abs() > 3_000)
    }

    #[test]
    fn a_pause_of_opus_with_dtx_is_noise_and_not_loss() {
        let (heard, comfort, timeline) = with_pause(|_| Some(0));
        assert!(comfort > 16_000, "{comfort} samples of noise");
        assert_eq!(timeline.quality().concealed_ms, 0);
        assert!(heard[90..190].iter().all(|frame| !is_loud(frame) && frame.iter().any(|sample| *sample != 0)));
        assert!(heard[10..50].iter().chain(&heard[210..245]).all(is_loud));
    }

    #[test]
    fn speech_after_a_pause_is_heard_though_its_packets_change_their_order() {
        let (heard, _, timeline) = with_pause(|tick| Some(usize::from(tick >= 190 && tick % 2 == 0)));
        assert!(heard[210..245].iter().all(is_loud), "{:?}", timeline.quality());
    }

    #[test]
    fn a_pause_is_quiet_though_the_end_of_the_speech_is_lost() {
        let (heard, ..) = with_pause(|tick| (!(45..62).contains(&tick)).then_some(0));
        assert!(!heard[75..190].iter().any(is_loud));
    }

    #[test]
    fn any_packets_in_any_order_give_whole_frames() {
        let mut state = 7u32;
        let mut random = move |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for codec in [Codec::G722, Codec::Opus] {
            let mut timeline = Timeline::samples(RATE, codec.clock_rate());
            let mut assembly = Assembly::new(codec, Decoder::new(codec, RATE));
            let (mut reader, packets) = (Reader::adaptive(), packets(codec));
            for step in 0..5_000u32 {
                let sequence = if random(20) == 0 { random(65_536) as u16 } else { (step + random(12)) as u16 };
                let timestamp = if random(30) == 0 { random(1 << 24) << 8 } else { step * 320 + random(5) * 320 };
                let stamp = Stamp { timestamp, marker: random(10) == 0, arrival: step * 40 };
                let payload = match random(10) {
                    0 => vec![random(256) as u8; random(3_000) as usize],
                    _ => packets[random(100) as usize].clone(),
                };
                assembly.handle_packet(sequence, stamp, &payload, &mut timeline);
                if step % 4 == 0 {
                    assembly.handle_tick(&mut timeline);
                    let frame = timeline.read_samples(&mut reader, step * 40, &mut [0; 320]);
                    assert!(frame.present + frame.concealed + frame.comfort <= 320, "{frame:?}");
                }
                if random(500) == 0 {
                    assembly.restart(&mut timeline);
                }
            }
        }
    }
}
