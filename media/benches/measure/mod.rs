//! How the benches measure: the best of many short runs, since others share the machine; and, asked to `--count`, a fixed
//! number of frames for `scripts/instructions.sh`, which has callgrind count the instructions in
//! [`work_counted`].
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::{Duration, Instant};

/// Time of one run, about: shorter than what the scheduler grants at a time, so that some runs are undisturbed.
const RUN: Duration = Duration::from_millis(2);
const RUNS: usize = 200;
/// Of all runs of a case.
const MOST: Duration = Duration::from_millis(600);
/// Frames that are counted, and as many before them. Two seconds: all that comes by the second is in it.
const COUNTED: u32 = 100;

/// Measures one case. A call of `work` makes `frames` of 20 ms, or packets.
pub(crate) fn case(what: &str, frames: u32, mut work: impl FnMut()) {
    if std::env::args().any(|argument| argument == "--count") {
        let calls = COUNTED.div_ceil(frames).max(10);
        (0..calls).for_each(|_| work());
        work_counted(calls, &mut work);
        println!("counted\t{}\t{}\t{what}", std::process::id(), calls * frames);
        return;
    }
    let began = Instant::now();
    let mut calls = 0u32;
    while began.elapsed() < RUN {
        (0..10).for_each(|_| work());
        calls += 10;
    }
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let run = Instant::now();
        (0..calls).for_each(|_| work());
        best = best.min(run.elapsed());
        if began.elapsed() > MOST {
            break;
        }
    }
    let nanoseconds = best.as_secs_f64() * 1e9 / f64::from(calls) / f64::from(frames);
    println!("{what:<48} {nanoseconds:>10.1} ns a frame");
}

/// Callgrind knows it by its name.
#[inline(never)]
fn work_counted(calls: u32, work: &mut dyn FnMut()) {
    for _ in 0..calls {
        work();
    }
}
