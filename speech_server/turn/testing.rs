//! Audio for comparisons with other programs.

/// Noise with pulses of 110 Hz that grows and fades. Integers only, so every program makes the same samples.
pub(super) fn reference_audio(length: i64) -> Vec<i16> {
    let mut state = 1_u32;
    let samples = (0..length).map(|n| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = i64::from(state >> 16) - 32_768;
        let envelope = (n % 4_000 - 2_000).abs();
        let pulse = if n % 145 == 0 { 10 * envelope } else { 0 };
        (noise * envelope / 32_000 + pulse) as i16
    });
    samples.collect()
}
