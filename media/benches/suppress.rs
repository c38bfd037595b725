//! What resampling costs: `cargo bench -p tandem-media --bench suppress`. The best of several runs, since others share
//! the machine.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tandem_media::{Resampler, SampleRate};

const RUNS: usize = 15;

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
        measure(&what, 2_000, || resampler.process(black_box(&input), black_box(&mut output)));
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
