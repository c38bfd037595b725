//! Measures the detection of DTMF tones in audio: `cargo bench -p tandem-media --bench dtmf`.

mod measure;

use std::f32::consts::TAU;
use std::hint::black_box;

use tandem_media::ToneDetector;

const FRAME: usize = 160;

fn main() {
    // Each signal lasts 1 s.
    let noise: Vec<i16> = (0..50 * FRAME as i32).map(|n| (n * 7919 % 8_192 - 4_096) as i16).collect();
    let wave = |hertz: f32, at: usize| 3_000.0 * (hertz * at as f32 / 8_000.0 * TAU).sin();
    let key: Vec<i16> = (0..noise.len()).map(|at| (wave(770.0, at) + wave(1_336.0, at)) as i16).collect();
    detect("in-band DTMF, noise", &noise);
    detect("in-band DTMF, a key", &key);
    detect("in-band DTMF, silence", &vec![0; noise.len()]);
}

fn detect(what: &str, samples: &[i16]) {
    let mut detector = ToneDetector::default();
    let mut frames = samples.chunks_exact(FRAME).cycle();
    measure::case(what, 1, || {
        black_box(frames.next().and_then(|frame| detector.handle_frame(black_box(frame))));
    });
}
