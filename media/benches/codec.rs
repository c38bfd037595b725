//! What a frame of 20 ms costs in each codec: `make bench`. The best of several runs, since others share the machine.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tandem_media::g711::{self, ALAW_TO_LINEAR, Law, ULAW_TO_ALAW, ULAW_TO_LINEAR};

/// Samples, and octets, of a frame at 8,000 Hz.
const FRAME: usize = 160;
/// Frames of one run.
const FRAMES: u32 = 20_000;
const RUNS: usize = 15;

fn main() {
    let speech: Vec<i16> = (0..FRAME as i32).map(|n| (n * 7919 % 65_536 - 32_768) as i16).collect();
    let octets: Vec<u8> = speech.iter().map(|sample| g711::linear_to_ulaw(*sample)).collect();
    let mut samples = [0i16; FRAME];
    let mut encoded = [0u8; FRAME];
    measure("PCMU decode", || g711::decode(&ULAW_TO_LINEAR, black_box(&octets), black_box(&mut samples)));
    measure("PCMA decode", || g711::decode(&ALAW_TO_LINEAR, black_box(&octets), black_box(&mut samples)));
    measure("PCMU encode", || Law::Mu.encode(black_box(&speech), black_box(&mut encoded)));
    measure("PCMA encode", || Law::A.encode(black_box(&speech), black_box(&mut encoded)));
    measure("PCMU to PCMA", || {
        for (to, from) in black_box(&mut encoded).iter_mut().zip(black_box(&octets)) {
            *to = ULAW_TO_ALAW.get(usize::from(*from)).copied().unwrap_or_default();
        }
    });
}

fn measure(what: &str, mut work: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let began = Instant::now();
        (0..FRAMES).for_each(|_| work());
        best = best.min(began.elapsed());
    }
    println!("{what:<14} {:>7.1} ns a frame", best.as_secs_f64() * 1e9 / f64::from(FRAMES));
}
