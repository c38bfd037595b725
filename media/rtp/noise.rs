//! Comfort noise payloads (RFC 3389): how loud the noise is that stands for a peer's silence. How it is coloured (the
//! reflection coefficients that may follow) is not heeded; white noise at that level is what most receivers play.

/// The softest level, -dBov.
const SOFTEST: u8 = 127;

/// The level a payload gives, 0 to 127: -dBov, of power to that of a full-scale square wave (RFC 3389 §3.1). `None` for an
/// empty one. The first bit must be 0, and is ignored.
pub(crate) fn level(payload: &[u8]) -> Option<u8> {
    payload.first().map(|level| level & SOFTEST)
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
}
