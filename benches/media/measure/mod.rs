//! The measurement of the benches: the shortest of many short runs, because other programs use the host too. With
//! `--count`, the bench runs a fixed number of frames for `scripts/instructions.sh`. The script counts the instructions
//! in [`work_counted`] with callgrind.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::{Duration, Instant};

/// The approximate time of one run. It is shorter than the scheduler's time slice, so that some runs are not
/// interrupted.
const RUN: Duration = Duration::from_millis(2);
const RUNS: usize = 200;
/// The longest time of all runs of a case.
const MAX_TIME: Duration = Duration::from_millis(600);
/// The number of frames that are counted. Before them, the same number of frames runs without being counted. 100 frames
/// are two seconds, so the count includes all work that happens once a second.
const COUNTED: u32 = 100;

/// Measures one case. A call of `work` processes `frames` frames of 20 ms, or the same number of packets.
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
        if began.elapsed() > MAX_TIME {
            break;
        }
    }
    let nanoseconds = best.as_secs_f64() * 1e9 / f64::from(calls) / f64::from(frames);
    println!("{what:<48} {nanoseconds:>10.1} ns a frame");
}

/// Callgrind finds this function by its name.
#[inline(never)]
fn work_counted(calls: u32, work: &mut dyn FnMut()) {
    for _ in 0..calls {
        work();
    }
}
