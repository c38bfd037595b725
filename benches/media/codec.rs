//! Measures each codec on frames of 20 ms: `cargo bench -p tandem-media --bench codec`.

mod measure;

use std::hint::black_box;

use tandem_media::g711::Law;
use tandem_media::{Codec, Decoder, Encoder, LONGEST_PACKET, LONGEST_PAYLOAD, SampleRate};

fn main() {
    let l16 = Codec::L16(SampleRate::Hz16000);
    let opus = [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000].map(|rate| (Codec::Opus, rate));
    let others = [Codec::Pcmu, Codec::Pcma, Codec::G722, l16].map(|codec| (codec, codec.sample_rate()));
    for (codec, rate) in others.into_iter().chain(opus) {
        both_ways(codec, rate);
    }
    let from: Vec<u8> = (0..160).collect();
    let mut octets = from.clone();
    measure::case("PCMU to PCMA", 1, || Law::Mu.transcode(Law::A, black_box(&mut octets)));
}

/// Encodes and decodes 1 s of a synthetic voice repeatedly.
fn both_ways(codec: Codec, rate: SampleRate) {
    let voice = voice(rate);
    let name = format!("{}, {} kHz", codec.name(), rate.hertz() / 1_000);
    let mut payload = [0; LONGEST_PAYLOAD];
    let mut encoder = Encoder::new(codec, rate);
    let mut frames = voice.chunks_exact(rate.frame()).cycle();
    measure::case(&format!("{name}, encode"), 1, || {
        if let Some(frame) = frames.next() {
            encoder.encode(black_box(frame), black_box(&mut payload));
        }
    });

    let mut encoder = Encoder::new(codec, rate);
    let mut encoded = |frame: &[i16]| {
        let written = encoder.encode(frame, &mut payload);
        payload.get(..written).unwrap_or_default().to_vec()
    };
    let payloads: Vec<Vec<u8>> = voice.chunks_exact(rate.frame()).map(&mut encoded).collect();
    let mut samples = [0; LONGEST_PACKET];
    let mut decoder = Decoder::new(codec, rate);
    let mut payloads = payloads.iter().cycle();
    measure::case(&format!("{name}, decode"), 1, || {
        if let Some(payload) = payloads.next() {
            let _ = black_box(decoder.decode(black_box(payload), black_box(&mut samples)));
        }
    });
}

/// A synthetic voice: overtones of 150 Hz, and noise.
fn voice(rate: SampleRate) -> Vec<i16> {
    let mut noise = 1u32;
    (0..rate.hertz())
        .map(|n| {
            let seconds = f64::from(n) / f64::from(rate.hertz());
            let overtone = |overtone: u32| {
                let overtone = f64::from(overtone);
                (std::f64::consts::TAU * 150.0 * overtone * seconds).sin() * 4_000.0 / overtone
            };
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((1..20).map(overtone).sum::<f64>() + f64::from(noise >> 24)) as i16
        })
        .collect()
}
