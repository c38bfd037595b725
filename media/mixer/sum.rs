//! The loops over samples. They are written so that the compiler can vectorise them.

/// The highest magnitude at which a mix is the exact sum. The value is -2.5 dBFS.
pub(super) const KNEE: i32 = 24_576;
/// The range between the knee and full scale.
const HEADROOM: f32 = (i16::MAX as i32 - KNEE) as f32;

/// Adds `frame` to `sum`.
pub(super) fn add(sum: &mut [i32], frame: &[i16]) {
    for (sum, sample) in sum.iter_mut().zip(frame) {
        *sum += i32::from(*sample);
    }
}

/// Subtracts `frame` from `sum`.
pub(super) fn subtract(sum: &mut [i32], frame: &[i16]) {
    for (sum, sample) in sum.iter_mut().zip(frame) {
        *sum -= i32::from(*sample);
    }
}

/// The mean magnitude of the samples.
pub(super) fn level(frame: &[i16]) -> f32 {
    let sum: u32 = frame.iter().map(|sample| u32::from(sample.unsigned_abs())).sum();
    sum as f32 / frame.len().max(1) as f32
}

/// Converts the sum to samples. Values up to [`KNEE`] are exact. Higher values are compressed smoothly towards full
/// scale.
pub(super) fn limit(sum: &[i32], to: &mut [i16]) {
    let mut beyond = false;
    for (to, sum) in to.iter_mut().zip(sum) {
        beyond |= sum.wrapping_add(KNEE).cast_unsigned() > (2 * KNEE).cast_unsigned();
        *to = (*sum).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    }
    if beyond {
        to.iter_mut().zip(sum).for_each(|(to, sum)| *to = soften(*sum as f32));
    }
}

/// Converts `sum - own` to samples, as [`limit`] does.
pub(super) fn limit_without(sum: &[i32], own: &[i16], to: &mut [i16]) {
    let mut beyond = false;
    for ((to, sum), own) in to.iter_mut().zip(sum).zip(own) {
        let others = sum - i32::from(*own);
        beyond |= others.wrapping_add(KNEE).cast_unsigned() > (2 * KNEE).cast_unsigned();
        *to = others.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    }
    if beyond {
        let others = sum.iter().zip(own).map(|(sum, own)| (sum - i32::from(*own)) as f32);
        to.iter_mut().zip(others).for_each(|(to, others)| *to = soften(others));
    }
}

/// Multiplies the frame by a factor, and limits the result. Within the first `over` samples the factor changes linearly
/// from `from` to `to`.
pub(super) fn scale(frame: &mut [i16], from: f32, to: f32, over: usize) {
    let over = over.clamp(1, frame.len().max(1));
    let step = (to - from) / over as f32;
    let (ramped, rest) = frame.split_at_mut(over.min(frame.len()));
    for (place, sample) in ramped.iter_mut().enumerate() {
        *sample = soften(f32::from(*sample) * step.mul_add(place as f32, from));
    }
    if to == 0.0 {
        rest.fill(0);
    } else if to != 1.0 {
        rest.iter_mut().for_each(|sample| *sample = soften(f32::from(*sample) * to));
    }
}

/// Adds a tail after a frame in which audio stopped abruptly. The tail is the end of the frame, played backwards and
/// faded out over `over` samples. This avoids a click.
pub(super) fn add_tail(sum: &mut [i32], frame: &[i16], over: usize) {
    let tail = sum.iter_mut().take(over).zip(frame.iter().rev()).enumerate();
    for (place, (sum, sample)) in tail {
        *sum += i32::from(*sample) * (over - place) as i32 / (over as i32 + 1);
    }
}

/// Fades linearly from `before` to `frame` over the whole frame.
pub(super) fn crossfade(before: &[i16], frame: &mut [i16]) {
    let length = frame.len().max(1) as i32;
    for (place, (sample, before)) in frame.iter_mut().zip(before).enumerate() {
        let (old, new) = (i32::from(*before), i32::from(*sample));
        *sample = (old + (new - old) * place as i32 / length) as i16;
    }
}

/// The curve of the limiter. It is linear up to the knee. Above the knee it is a hyperbola that starts with the same
/// slope and approaches full scale. The curve has no memory, so the limiter does not pump.
fn soften(sample: f32) -> i16 {
    let beyond = (sample.abs() - KNEE as f32).max(0.0);
    let bent = sample.abs().min(KNEE as f32) + HEADROOM * beyond / (beyond + HEADROOM);
    // Add a half and truncate, because `round` would be a function call for each sample.
    (bent + 0.5).copysign(sample) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_below_the_knee_is_exact_and_above_it_rises_without_overflow() {
        let sums: Vec<i32> = (-400_000..=400_000).step_by(7).collect();
        let mut frame = vec![0; sums.len()];
        limit(&sums, &mut frame);
        for (sum, sample) in sums.iter().zip(&frame) {
            if sum.abs() <= KNEE {
                assert_eq!(i32::from(*sample), *sum);
            }
        }
        assert!(frame.is_sorted(), "louder is never quieter");
        assert!(frame[0] < -32_500 && frame[frame.len() - 1] > 32_500);
        // The slope is continuous at the knee.
        let knee: Vec<i32> = (KNEE - 2..KNEE + 200).collect();
        limit(&knee, &mut frame);
        let steps = frame[..202].windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.clone().all(|step| (0..=1).contains(&step)));
        assert!(steps.sum::<i16>() > 195);
    }

    #[test]
    fn each_participant_gets_the_sum_without_itself_at_any_level() {
        let sum: Vec<i32> = (0..160).map(|n| n * 1_000 - 80_000).collect();
        let own: Vec<i16> = (0..160).map(|n| (n * 400 - 32_000) as i16).collect();
        let (mut direct, mut expected) = (vec![0; 160], vec![0; 160]);
        limit_without(&sum, &own, &mut direct);
        let others: Vec<i32> = sum.iter().zip(&own).map(|(sum, own)| sum - i32::from(*own)).collect();
        limit(&others, &mut expected);
        assert_eq!(direct, expected);
    }

    #[test]
    fn a_gain_ramps_and_then_stays() {
        let mut frame = [1_000; 160];
        scale(&mut frame, 0.0, 2.0, 20);
        assert_eq!((frame[0], frame[10], frame[20], frame[159]), (0, 1_000, 2_000, 2_000));
        assert!(frame[..20].is_sorted());
        // A factor of 1 does not change the samples.
        let mut frame: Vec<i16> = (-160..160).map(|n| n * 150).collect();
        let before = frame.clone();
        scale(&mut frame, 1.0, 1.0, 1);
        assert_eq!(frame, before);
    }

    #[test]
    fn the_fade_of_an_interrupted_sound_begins_at_its_last_sample() {
        let frame: Vec<i16> = (0..160).map(|n| n * 100).collect();
        let mut sum = vec![0; 160];
        add_tail(&mut sum, &frame, 40);
        assert!((15_000..=15_900).contains(&sum[0]), "{}", sum[0]);
        let steps = sum[..41].windows(2).map(|pair| (pair[0] - pair[1]).abs());
        assert!(steps.max().unwrap() <= 600);
        assert!(sum[40..].iter().all(|sample| *sample == 0));
    }
}
