//! What resampling and noise suppression cost: `cargo bench -p tandem-media --bench suppress`. The best of several runs, since others share
//! the machine.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tandem_media::{Resampler, SampleRate, Suppressor};

/// Many and short: others disturb fewer of them.
const RUNS: usize = 400;

fn main() {
    use SampleRate::{Hz8000, Hz16000, Hz48000};
    for (from, to) in [
        (Hz8000, Hz16000),
        (Hz16000, Hz8000),
        (Hz8000, Hz48000),
        (Hz48000, Hz8000),
        (Hz16000, Hz48000),
        (Hz48000, Hz16000),
    ] {
        let input: Vec<i16> = (0..from.frame()).map(|n| (n * 7919 % 65_536) as i16).collect();
        let mut output = vec![0; to.frame()];
        let mut resampler = Resampler::new(from, to);
        let what = format!("resample {} to {}", from.hertz(), to.hertz());
        measure(&what, 50, || resampler.process(black_box(&input), black_box(&mut output)));
    }
    for rate in [Hz8000, Hz16000, Hz48000] {
        // Noise, and a tone that comes and goes in it.
        let input: Vec<i16> = (0..rate.frame() * 50)
            .map(|n| (n * 7919 % 1_000) as i16 + if n / rate.frame() % 8 < 4 { (n * 100 % 8_000) as i16 } else { 0 })
            .collect();
        let (mut suppressor, mut frames) = (Suppressor::new(rate), input.chunks_exact(rate.frame()).cycle());
        let mut frame = vec![0; rate.frame()];
        let mut serve = |suppressor: &mut Suppressor| {
            frame.copy_from_slice(frames.next().unwrap_or_default());
            suppressor.process(black_box(&mut frame));
        };
        measure(&format!("suppress at {}", rate.hertz()), 5, || serve(&mut suppressor));
        suppressor.shed(true);
        measure(&format!("shed at {}", rate.hertz()), 50, || serve(&mut suppressor));
    }
}

fn measure(what: &str, frames: u32, mut work: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let began = Instant::now();
        (0..frames).for_each(|_| work());
        best = best.min(began.elapsed());
    }
    println!("{what:<24} {:>7.2} us a frame of 20 ms", best.as_secs_f64() * 1e6 / f64::from(frames));
}
