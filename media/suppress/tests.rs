use super::*;
use SampleRate::{Hz8000, Hz16000, Hz48000};

const RATES: [SampleRate; 3] = [Hz8000, Hz16000, Hz48000];

fn tone(hertz: f32, rate: SampleRate, frames: usize) -> Vec<i16> {
    let step = 2.0 * PI * hertz / rate.hertz() as f32;
    (0..frames * rate.frame()).map(|n| ((n as f32 * step).sin() * 8_000.0) as i16).collect()
}

/// Noise from a linear congruential generator. Each run has the same noise.
fn noise(amplitude: i32, rate: SampleRate, frames: usize) -> Vec<i16> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) as i32 - 32_768) * amplitude / 32_768
    };
    (0..frames * rate.frame()).map(|_| next() as i16).collect()
}

fn run(suppressor: &mut Suppressor, samples: &[i16]) -> Vec<i16> {
    let mut out = samples.to_vec();
    out.chunks_mut(suppressor.rate.frame()).for_each(|frame| suppressor.process(frame));
    out
}

fn power(samples: &[i16]) -> f32 {
    samples.iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>() / samples.len() as f32
}

/// Returns the largest second difference of the samples. A click makes this value large.
fn sharpest(samples: &[i16]) -> i32 {
    samples.windows(3).map(|w| (i32::from(w[0]) - 2 * i32::from(w[1]) + i32::from(w[2])).abs()).max().unwrap()
}

#[test]
fn clean_audio_is_only_delayed_by_the_stated_delay() {
    for rate in RATES {
        let mut suppressor = Suppressor::new(rate);
        suppressor.set_limit(0);
        let input: Vec<i16> = tone(440.0, rate, 50).iter().zip(noise(3_000, rate, 50)).map(|(a, b)| a + b).collect();
        let out = run(&mut suppressor, &input);
        let (delay, from) = (suppressor.delay(), rate.frame() * 10);
        assert_eq!(delay * 1_000, rate.hertz() as usize * [25, 45, 20][rate as usize] / [1, 2, 1][rate as usize]);
        for (n, sample) in out.iter().enumerate().skip(from) {
            assert!((sample - input[n - delay]).abs() <= 1, "{rate:?}, {n}: {sample} for {}", input[n - delay]);
        }
    }
}

#[test]
fn steady_noise_is_reduced_to_the_limit_at_any_level() {
    for (rate, loudness, limit, least) in [
        (Hz8000, 100, 40, 25.0),
        (Hz8000, 3_000, 40, 35.0),
        (Hz8000, 3_000, 12, 11.0),
        (Hz16000, 3_000, 40, 35.0),
        (Hz48000, 300, 40, 30.0),
        (Hz48000, 6_000, 40, 35.0),
    ] {
        let mut suppressor = Suppressor::new(rate);
        suppressor.set_limit(limit);
        let input = noise(loudness, rate, 250);
        let out = run(&mut suppressor, &input);
        let settled = rate.frame() * 200..;
        let down = 10.0 * (power(&input[settled.clone()]) / power(&out[settled])).log10();
        println!("{rate:?}, {loudness}, limit {limit}: {down} dB");
        assert!(down > least && down < f32::from(limit) + 2.0, "{rate:?}, {loudness}, limit {limit}: {down} dB");
    }
}

#[test]
fn suppression_starts_and_ends_without_a_click_and_ends_within_a_frame() {
    for rate in RATES {
        let mut suppressor = Suppressor::new(rate);
        suppressor.set_limit(0);
        let input = tone(400.0, rate, 60);
        let mut out = Vec::new();
        for (index, frame) in input.chunks(rate.frame()).enumerate() {
            if index == 30 {
                suppressor.set_on(false);
            }
            if index == 40 {
                suppressor.set_on(true);
            }
            let mut frame = frame.to_vec();
            suppressor.process(&mut frame);
            assert_eq!(suppressor.is_over(), (30..40).contains(&index), "frame {index}");
            out.extend(frame);
        }
        assert_eq!(out[..rate.frame() * 5], input[..rate.frame() * 5], "the first 100 ms");
        assert_eq!(out[rate.frame() * 31..rate.frame() * 45], input[rate.frame() * 31..rate.frame() * 45]);
        assert!(
            sharpest(&out) <= sharpest(&input) + sharpest(&input) / 2 + 8,
            "{} {}",
            sharpest(&out),
            sharpest(&input)
        );
    }
}

#[test]
fn a_shed_suppressor_keeps_its_delay_and_resumes() {
    let mut suppressor = Suppressor::new(Hz8000);
    let input = noise(3_000, Hz8000, 200);
    let mut out = run(&mut suppressor, &input[..160 * 60]);
    suppressor.shed(true);
    out.extend(run(&mut suppressor, &input[160 * 60..160 * 120]));
    suppressor.shed(false);
    out.extend(run(&mut suppressor, &input[160 * 120..]));
    assert!(power(&out[160 * 50..160 * 60]) < power(&input[160 * 50..160 * 60]) / 100.0);
    let shed = 160 * 61..160 * 125;
    for n in shed {
        assert_eq!(out[n], input[n - suppressor.delay()], "sample {n}");
    }
    assert!(power(&out[160 * 150..]) < power(&input[160 * 150..]) / 100.0);
}

#[test]
fn full_scale_audio_and_silence_cause_no_overflow() {
    for rate in RATES {
        let mut suppressor = Suppressor::new(rate);
        let square: Vec<i16> =
            (0..rate.frame() * 50).map(|n| if n / 40 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        run(&mut suppressor, &square);
        let out = run(&mut suppressor, &vec![0; rate.frame() * 50]);
        assert!(out[rate.frame() * 10..].iter().all(|sample| *sample == 0), "{rate:?}");
    }
}

/// Returns the samples of a 16-bit WAV file of the corpus (48,000 Hz, plain header), resampled to 8,000 Hz.
fn corpus(name: &str) -> Option<Vec<i16>> {
    let path = format!("{}/../../shared/corpora/audio/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).ok()?;
    let samples: Vec<i16> = bytes[44..].chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
    let mut resampler = Resampler::new(Hz48000, Hz8000);
    let mut all = Vec::new();
    for frame in samples.chunks_exact(Hz48000.frame()) {
        let mut out = [0; 160];
        resampler.process(frame, &mut out);
        all.extend(out);
    }
    Some(all)
}

/// Returns the signal-to-noise ratio of a frame against a reference in dB, limited to the range -10 to 35.
fn ratio(reference: &[i16], heard: &[i16]) -> f32 {
    let apart: f32 = reference.iter().zip(heard).map(|(a, b)| (f32::from(*a) - f32::from(*b)).powi(2)).sum();
    (10.0 * (power(reference) * reference.len() as f32 / apart.max(1.0)).log10()).clamp(-10.0, 35.0)
}

/// The test measures the mean signal-to-noise ratio of all 20 ms frames with speech. The ratio of each frame is limited
/// to -10 to 35 dB. A frame has speech if its level is at most 35 dB below the 98th percentile of the levels in the
/// clean file. The delay of the suppressor is removed from its output. The samples of the clean file are doubled,
/// because the speech in the noisy file is twice as loud (1.997 by least squares).
#[test]
fn speech_in_noise_gains_6_db_of_segmental_snr() {
    let (Some(clean), Some(noisy)) = (corpus("clean_freesound_33711.wav"), corpus("noisy_snr0.wav")) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/audio"));
        return;
    };
    let clean: Vec<i16> = clean.iter().map(|sample| sample * 2).collect();
    let mut suppressor = Suppressor::new(Hz8000);
    let out = run(&mut suppressor, &noisy);
    let out = &out[suppressor.delay()..];
    let mut levels: Vec<f32> = clean.chunks_exact(160).map(power).collect();
    levels.sort_by(f32::total_cmp);
    let loud = levels[levels.len() * 98 / 100];
    let (mut before, mut after, mut voiced, mut frames) = (0.0, 0.0, Vec::new(), 0);
    for ((clean, noisy), out) in clean.chunks_exact(160).zip(noisy.chunks_exact(160)).zip(out.chunks_exact(160)) {
        if power(clean) > loud * 10_f32.powf(-3.5) {
            before += ratio(clean, noisy);
            after += ratio(clean, out);
            frames += 1;
        }
        if power(clean) > loud * 10_f32.powf(-1.5) {
            voiced.push(10.0 * (power(out) / power(clean)).log10());
        }
    }
    let (before, after) = (before / frames as f32, after / frames as f32);
    voiced.sort_by(f32::total_cmp);
    println!("{frames} frames: {before:.2} dB before, {after:.2} dB after");
    println!("voiced frames: median {:.2} dB, 5 % below {:.2} dB", voiced[voiced.len() / 2], voiced[voiced.len() / 20]);
    assert!(after - before >= 6.0, "{before} to {after} dB");
    assert!(voiced[voiced.len() / 2] > -1.0 && voiced[voiced.len() / 20] > -3.0, "{voiced:?}");
}
