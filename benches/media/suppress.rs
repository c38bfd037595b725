//! Measures resampling and noise suppression: `cargo bench -p tandem-media --bench suppress`.

mod measure;

use std::hint::black_box;

use tandem_media::{Resampler, SampleRate, Suppressor};

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
        let what = format!("resample, {} to {} kHz", from.hertz() / 1_000, to.hertz() / 1_000);
        measure::case(&what, 1, || resampler.process(black_box(&input), black_box(&mut output)));
    }
    for rate in [Hz8000, Hz16000, Hz48000] {
        // The input is noise with an intermittent tone.
        let input: Vec<i16> = (0..rate.frame() * 50)
            .map(|n| (n * 7919 % 1_000) as i16 + if n / rate.frame() % 8 < 4 { (n * 100 % 8_000) as i16 } else { 0 })
            .collect();
        let (mut suppressor, mut frames) = (Suppressor::new(rate), input.chunks_exact(rate.frame()).cycle());
        let mut frame = vec![0; rate.frame()];
        let mut serve = |suppressor: &mut Suppressor| {
            frame.copy_from_slice(frames.next().unwrap_or_default());
            suppressor.process(black_box(&mut frame));
        };
        measure::case(&format!("suppress, {} kHz", rate.hertz() / 1_000), 1, || serve(&mut suppressor));
        suppressor.shed(true);
        measure::case(&format!("suppress, {} kHz, shed", rate.hertz() / 1_000), 1, || serve(&mut suppressor));
    }
}
