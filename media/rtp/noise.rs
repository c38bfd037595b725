//! Comfort noise payloads (RFC 3389): how loud the noise is that stands for a peer's silence. How it is coloured (the
//! reflection coefficients that may follow) is not heeded; white noise at that level is what most receivers play.

/// The softest level, -dBov.
const SOFTEST: u8 = 127;

/// The level a payload gives, 0 to 127: -dBov, of power to that of a full-scale square wave (RFC 3389 §3.1). `None` for an
/// empty one. The first bit must be 0, and is ignored.
pub(crate) fn level(payload: &[u8]) -> Option<u8> {
    payload.first().map(|level| level & SOFTEST)
}

/// A payload of that level without coefficients.
pub(crate) fn payload(level: u8) -> [u8; 1] {
    [level.min(SOFTEST)]
}

/// The level of 16-bit samples, -dBov.
pub(crate) fn level_of(samples: &[i16]) -> u8 {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample) * f64::from(*sample)).sum();
    let power = energy / (samples.len().max(1) as f64 * 32_768.0 * 32_768.0);
    // A float to integer cast saturates: silence is the softest.
    ((-10.0 * power.log10()).round() as u8).min(SOFTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_whatever_follows_it_and_an_empty_payload_has_none() {
        assert_eq!(level(&[40]), Some(40));
        assert_eq!(level(&[40, 110, 220, 127]), Some(40));
        assert_eq!(level(&[0x80 | 127]), Some(127));
        assert_eq!(level(&[]), None);
    }

    #[test]
    fn what_is_written_reads_back() {
        for known in 0..=127 {
            assert_eq!(level(&payload(known)), Some(known));
        }
        assert_eq!(payload(200), [127]);
    }

    #[test]
    fn samples_have_the_level_of_their_power() {
        assert_eq!(level_of(&[i16::MIN; 160]), 0);
        assert_eq!(level_of(&[328, -328].repeat(80)), 40);
        assert_eq!(level_of(&[1; 160]), 90);
        assert_eq!(level_of(&[0; 160]), 127);
        assert_eq!(level_of(&[]), 127);
        // A sine of full scale is 3 dB below the square wave.
        let sine: Vec<i16> =
            (0..800).map(|at| (32_767.0 * (at as f32 * 0.1 * std::f32::consts::TAU).sin()) as i16).collect();
        assert_eq!(level_of(&sine), 3);
    }
}
