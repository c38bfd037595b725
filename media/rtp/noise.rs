//! Comfort noise payloads (RFC 3389). A payload contains the level of the noise that replaces a far end's silence. The
//! spectrum (reflection coefficients after the level) is ignored. Most receivers play white noise at this level.

/// The lowest noise level, in -dBov.
const SOFTEST: u8 = 127;

/// Returns the noise level of a payload, 0 to 127 in -dBov, relative to the power of a full-scale square wave (RFC 3389
/// §3.1). Returns `None` if the payload is empty. The first bit must be 0 and is ignored.
pub(crate) fn level(payload: &[u8]) -> Option<u8> {
    payload.first().map(|level| level & SOFTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noise_level_is_read_before_any_other_octets_and_an_empty_payload_has_no_level() {
        assert_eq!(level(&[40]), Some(40));
        assert_eq!(level(&[40, 110, 220, 127]), Some(40));
        assert_eq!(level(&[0x80 | 127]), Some(127));
        assert_eq!(level(&[]), None);
    }
}
