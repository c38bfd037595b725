//! L16: linear 16-bit samples in network byte order (RFC 3551 §4.5.11).

/// The number of octets per sample.
pub(super) const OCTETS_PER_SAMPLE: usize = 2;

/// Decodes samples until one of the slices ends. Returns the number of samples written.
pub(super) fn decode(octets: &[u8], samples: &mut [i16]) -> usize {
    let (pairs, _) = octets.as_chunks();
    samples.iter_mut().zip(pairs).map(|(sample, pair)| *sample = i16::from_be_bytes(*pair)).count()
}

/// Encodes samples until one of the slices ends. Returns the number of octets written.
pub(super) fn encode(samples: &[i16], octets: &mut [u8]) -> usize {
    let (pairs, _) = octets.as_chunks_mut();
    let written = pairs.iter_mut().zip(samples).map(|(pair, sample)| *pair = sample.to_be_bytes()).count();
    written * OCTETS_PER_SAMPLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_in_network_byte_order() {
        let mut octets = [0; 6];
        assert_eq!(encode(&[1, -2, i16::MIN], &mut octets), 6);
        assert_eq!(octets, [0x00, 0x01, 0xFF, 0xFE, 0x80, 0x00]);
        let mut samples = [0; 3];
        assert_eq!((decode(&octets, &mut samples), samples), (3, [1, -2, i16::MIN]));
    }

    #[test]
    fn samples_beyond_the_buffer_are_ignored() {
        let mut octets = [7; 3];
        assert_eq!((encode(&[1, 2], &mut octets), octets), (2, [0, 1, 7]));
        let mut samples = [7; 2];
        assert_eq!((decode(&[0, 1, 2], &mut samples), samples), (1, [1, 7]));
        assert_eq!(decode(&[], &mut samples), 0);
    }
}
