//! What mixing a room costs for each frame of 20 ms: `cargo bench -p tandem-media --bench mixer`. The best of several
//! runs, since others share the machine. A core has 20,000 us for a frame of all its rooms.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tandem_media::{Mix, Mixer, Participation, SampleRate, SessionKey, g711};

const RUNS: usize = 7;
/// Frames of noise that speakers take turns in.
const VOICES: usize = 13;

fn main() {
    println!("us a frame: heard, mixed and given to each; with PCMU encoding, one a shared frame");
    println!("{:>6} {:>12} {:>9} {:>9} {:>9}", "Hz", "participants", "speaking", "mixing", "encoded");
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
        for participants in [3, 10, 50, 250] {
            for speaking in [participants, 5, 1] {
                if speaking <= participants {
                    let mixing = measure(rate, participants, speaking, false);
                    // A narrowband codec takes no other rate as it is.
                    let encoded = (rate == SampleRate::Hz8000).then(|| measure(rate, participants, speaking, true));
                    let encoded = encoded.map_or("-".to_owned(), |one| format!("{one:.1}"));
                    println!("{:>6} {participants:>12} {speaking:>9} {mixing:>9.1} {encoded:>9}", rate.hertz());
                }
            }
        }
    }
}

/// us a frame. Those who do not speak send the idle noise of a line.
fn measure(rate: SampleRate, participants: usize, speaking: usize, encodes: bool) -> f64 {
    let mut mixer = Mixer::new(rate);
    mixer.start();
    for key in 0..participants {
        mixer.join(SessionKey(key as u128), Participation::default());
    }
    let mut state = 1u32;
    let mut noise = |loud: i32| -> Vec<i16> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) as i32 % (2 * loud + 1) - loud) as i16
        };
        (0..rate.frame()).map(|_| next()).collect()
    };
    let voices: Vec<Vec<i16>> = (0..VOICES).map(|_| noise(2_000)).collect();
    let idle = noise(4);
    let frames = if participants > 100 { 100 } else { 1_000 };
    let mut octets = [0u8; SampleRate::Hz8000.frame()];
    let mut turn = |frame: usize| {
        for slot in 0..participants {
            let voice = voices.get((slot + frame) % VOICES).filter(|_| slot < speaking);
            mixer.hear(slot, rate, voice.unwrap_or(&idle));
        }
        mixer.mix();
        let mut shared = false;
        for slot in 0..participants {
            match mixer.mix_for(slot) {
                Mix::Own(samples) if encodes => encode(samples, &mut octets),
                Mix::Whole(samples) if encodes && !std::mem::replace(&mut shared, true) => encode(samples, &mut octets),
                mix => {
                    black_box(mix);
                }
            }
        }
    };
    (0..50).for_each(&mut turn);
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let began = Instant::now();
        (0..frames).for_each(&mut turn);
        best = best.min(began.elapsed());
    }
    best.as_secs_f64() * 1e6 / frames as f64
}

fn encode(samples: &[i16], octets: &mut [u8]) {
    for (octet, sample) in octets.iter_mut().zip(samples) {
        *octet = g711::linear_to_ulaw(*sample);
    }
    black_box(octets);
}
