//! What looking for keys in the audio costs: `cargo bench -p tandem-media --bench dtmf`. The best of several runs, since
//! others share the machine.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::f32::consts::TAU;
use std::hint::black_box;
use std::time::{Duration, Instant};

use tandem_media::InbandDetector;

const FRAME: usize = 160;
const FRAMES: u32 = 20_000;
const RUNS: usize = 15;

fn main() {
    // A second of each.
    let noise: Vec<i16> = (0..50 * FRAME as i32).map(|n| (n * 7919 % 8_192 - 4_096) as i16).collect();
    let wave = |hertz: f32, at: usize| 3_000.0 * (hertz * at as f32 / 8_000.0 * TAU).sin();
    let key: Vec<i16> = (0..noise.len()).map(|at| (wave(770.0, at) + wave(1_336.0, at)) as i16).collect();
    measure("in-band DTMF, noise", &noise);
    measure("in-band DTMF, a key", &key);
    measure("in-band DTMF, silence", &vec![0; noise.len()]);
}

fn measure(what: &str, samples: &[i16]) {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let mut detector = InbandDetector::default();
        let mut frames = samples.chunks_exact(FRAME).cycle();
        let began = Instant::now();
        for _ in 0..FRAMES {
            black_box(frames.next().and_then(|frame| detector.handle_frame(black_box(frame))));
        }
        best = best.min(began.elapsed());
    }
    println!("{what:<24} {:>7.1} ns a frame", best.as_secs_f64() * 1e9 / f64::from(FRAMES));
}
