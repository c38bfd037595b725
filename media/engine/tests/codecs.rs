//! Legs with codecs other than G.711. The engine relays packets to a leg with the same codec, and transcodes for a leg
//! with another codec.

use super::*;
use crate::codec::{Codec, Decoder, Encoder, LONGEST_FRAME, LONGEST_PACKET, LONGEST_PAYLOAD, SampleRate};

pub(super) const G722: &str = "m=audio 4000 RTP/AVP 9 101\r\na=rtpmap:101 telephone-event/8000\r\n";
pub(super) const OPUS: &str =
    "m=audio 4000 RTP/AVP 111 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/48000\r\n";
pub(super) const L16: &str = "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 L16/16000\r\n";
const PCMA: &str = "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\n";

/// A far end that sends a tone of frequency `hertz` in its codec.
pub(super) struct Hum {
    encoder: Encoder,
    codec: Codec,
    phase: f32,
    step: f32,
}

impl Hum {
    pub(super) fn new(codec: Codec, hertz: f32) -> Hum {
        let encoder = Encoder::new(codec, codec.sample_rate());
        let step = hertz * std::f32::consts::TAU / encoder.rate().hertz() as f32;
        Hum { encoder, codec, phase: 0.0, step }
    }

    pub(super) fn say(&mut self, pair: &mut MediaPair, side: Side) {
        let mut frame = [0; LONGEST_FRAME];
        let frame = &mut frame[..self.encoder.rate().frame()];
        for sample in &mut *frame {
            self.phase = (self.phase + self.step) % std::f32::consts::TAU;
            *sample = (self.phase.sin() * 8_000.0) as i16;
        }
        let mut octets = [0; LONGEST_PAYLOAD];
        let length = self.encoder.encode(frame, &mut octets);
        let party = if side == Side::A { &mut pair.a } else { &mut pair.b };
        let packet = party.next(party.payload_type, &octets[..length]);
        party.timestamp = party.timestamp.wrapping_add(self.codec.clock_rate() / 50);
        pair.send(side, Flow::Rtp, packet, Duration::ZERO);
    }
}

/// Decodes the packets. Returns the number of samples, and the part of the power that is at `hertz`.
pub(super) fn tone(sent: &[Sent], codec: Codec, hertz: f32) -> (usize, f64) {
    let mut decoder = Decoder::new(codec, codec.sample_rate());
    let mut samples = Vec::new();
    for packet in sent {
        let mut out = vec![0; LONGEST_PACKET];
        let count = decoder.decode(packet.payload(), &mut out).unwrap();
        samples.extend_from_slice(&out[..count]);
    }
    // Skip the first 200 ms, because the delay settles during this time.
    let samples = &samples[decoder.rate().hertz() as usize / 5..];
    let step = f64::from(hertz) * std::f64::consts::TAU / f64::from(decoder.rate().hertz());
    let (mut re, mut im, mut power) = (0.0f64, 0.0f64, 0.0f64);
    for (at, sample) in samples.iter().enumerate() {
        let (sample, (sin, cos)) = (f64::from(*sample), (at as f64 * step).sin_cos());
        re += sample * cos;
        im += sample * sin;
        power += sample * sample;
    }
    (samples.len(), 2.0 * (re * re + im * im) / samples.len() as f64 / power.max(1.0))
}

pub(super) fn hum(pair: &mut MediaPair, a: &mut Hum, b: &mut Hum, frames: usize) {
    for _ in 0..frames {
        a.say(pair, Side::A);
        b.say(pair, Side::B);
        pair.advance(20);
    }
}

#[test]
fn legs_of_any_two_codecs_hear_each_other() {
    let codecs =
        [(G722, Codec::G722), (OPUS, Codec::Opus), (L16, Codec::L16(SampleRate::Hz16000)), (PCMA, Codec::Pcma)];
    for (a_media, a_codec) in codecs {
        for (b_media, b_codec) in codecs {
            let mut pair = MediaPair::between(a_media, b_media);
            pair.bridge();
            let (mut a, mut b) = (Hum::new(a_codec, 440.0), Hum::new(b_codec, 1_000.0));
            hum(&mut pair, &mut a, &mut b, 60);
            let (heard_by_a, heard_by_b) = (pair.heard(Side::A), pair.heard(Side::B));
            for (sent, codec, hertz) in [(heard_by_a, a_codec, 1_000.0), (heard_by_b, b_codec, 440.0)] {
                let (length, share) = tone(&sent, codec, hertz);
                assert!(
                    length >= codec.sample_rate().hertz() as usize * 9 / 10,
                    "{length} of {a_codec:?} to {b_codec:?}"
                );
                assert!(share > 0.9, "{share} at {hertz} Hz, {a_codec:?} and {b_codec:?}, in {codec:?}");
            }
        }
    }
}

#[test]
fn packets_of_the_same_codec_are_relayed_unchanged() {
    for (media, codec) in [(G722, Codec::G722), (OPUS, Codec::Opus)] {
        let mut pair = MediaPair::between(media, media);
        pair.bridge();
        pair.advance(20);
        pair.heard(Side::B);
        let before = pair.core.counts.relayed;
        let mut a = Hum::new(codec, 440.0);
        for _ in 0..20 {
            a.say(&mut pair, Side::A);
            pair.advance(20);
        }
        assert_eq!(pair.core.counts.relayed - before, 20, "{codec:?}");
    }
}

#[test]
fn a_digit_is_converted_to_the_other_clock_rate_and_reported_once() {
    let mut pair = MediaPair::between(OPUS, PCMA);
    pair.bridge();
    let (mut a, mut b) = (Hum::new(Codec::Opus, 440.0), Hum::new(Codec::Pcma, 1_000.0));
    hum(&mut pair, &mut a, &mut b, 10);
    pair.heard(Side::B);
    for (number, end) in [(1u16, false), (2, false), (3, true), (3, true), (3, true)] {
        let [high, low] = (number * 960).to_be_bytes();
        let packet = pair.a.next(101, &[5, if end { 0x8A } else { 0x0A }, high, low]);
        pair.send(Side::A, Flow::Rtp, packet, Duration::ZERO);
        b.say(&mut pair, Side::B);
        pair.advance(20);
    }
    let events: Vec<Sent> = pair.heard(Side::B).into_iter().filter(|sent| sent.header().payload_type == 96).collect();
    let durations: Vec<u16> =
        events.iter().map(|sent| u16::from_be_bytes([sent.payload()[2], sent.payload()[3]])).collect();
    assert_eq!(durations, [160, 320, 480, 480, 480]);
    assert!(events.iter().all(|sent| sent.header().timestamp == events[0].header().timestamp));
    let reported = pair.events(Side::A).into_iter().filter(|(_, event)| matches!(event, Event::Dtmf { .. })).count();
    assert_eq!(reported, 1);
}

#[test]
fn digits_of_a_far_end_without_telephone_events_are_detected_as_tones() {
    let mut pair = MediaPair::between("m=audio 4000 RTP/AVP 0\r\n", PCMA);
    pair.bridge();
    pair.talk(10, 0xFF, 0xD5);
    let mut generator = crate::tone::ToneGenerator::new(Tone::Digit { digit: '7', milliseconds: 80 });
    for _ in 0..20 {
        let (mut frame, mut octets) = ([0; 160], [0; 160]);
        generator.next_frame(&mut frame);
        crate::codec::g711::Law::Mu.encode(&frame, &mut octets);
        let packet = pair.a.next(0, &octets);
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        pair.send(Side::A, Flow::Rtp, packet, Duration::ZERO);
        pair.advance(20);
    }
    let keys: Vec<char> = pair
        .events(Side::A)
        .into_iter()
        .filter_map(|(_, event)| if let Event::Dtmf { digit, .. } = event { Some(digit) } else { None })
        .collect();
    assert_eq!(keys, ['7']);
}
