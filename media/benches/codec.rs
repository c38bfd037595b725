//! What a frame of 20 ms costs in each codec: `make bench`. The best of several runs, since others share the machine.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tandem_media::g711::Law;
use tandem_media::{Codec, Decoder, Encoder, LONGEST_PACKET, LONGEST_PAYLOAD, SampleRate};

/// Time of one run, about: shorter than what the scheduler grants at a time, so that some runs are undisturbed.
const RUN: Duration = Duration::from_millis(2);
const RUNS: usize = 200;

fn main() {
    let l16 = Codec::L16(SampleRate::Hz16000);
    let opus = [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000].map(|rate| (Codec::Opus, rate));
    let others = [Codec::Pcmu, Codec::Pcma, Codec::G722, l16].map(|codec| (codec, codec.sample_rate()));
    for (codec, rate) in others.into_iter().chain(opus) {
        both_ways(codec, rate);
    }
    let from: Vec<u8> = (0..160).collect();
    let mut octets = from.clone();
    measure("PCMU to PCMA", || Law::Mu.transcode(Law::A, black_box(&mut octets)));
}

/// Encodes and decodes a second of something like a voice over and over.
fn both_ways(codec: Codec, rate: SampleRate) {
    let voice = voice(rate);
    let name = format!("{} {:>2} kHz", codec.name(), rate.hertz() / 1_000);
    let mut payload = [0; LONGEST_PAYLOAD];
    let mut encoder = Encoder::new(codec, rate);
    let mut frames = voice.chunks_exact(rate.frame()).cycle();
    measure(&format!("{name} encode"), || {
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
    measure(&format!("{name} decode"), || {
        if let Some(payload) = payloads.next() {
            let _ = black_box(decoder.decode(black_box(payload), black_box(&mut samples)));
        }
    });
}

/// Overtones of 150 Hz, and noise.
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

fn measure(what: &str, mut work: impl FnMut()) {
    let began = Instant::now();
    let mut frames = 0u32;
    while began.elapsed() < RUN {
        (0..10).for_each(|_| work());
        frames += 10;
    }
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let began = Instant::now();
        (0..frames).for_each(|_| work());
        best = best.min(began.elapsed());
    }
    println!("{what:<20} {:>9.1} ns a frame", best.as_secs_f64() * 1e9 / f64::from(frames));
}
