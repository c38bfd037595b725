//! ITU-T G.711 mu-law and A-law. Decoding uses a table with 256 entries. Encoding needs no search.
//!
//! Linear samples have 16 bits. The encoders use the upper 14 bits (mu-law) or 13 bits (A-law). They round in the same
//! way as the ITU-T G.191 reference, which drops the low bits before it determines the segment.

/// The companding law of G.711. One octet is one sample at 8,000 Hz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// mu-law (PCMU).
    Mu,
    /// A-law (PCMA).
    A,
}

impl Law {
    /// The octet that represents silence. For mu-law this octet decodes to 0. For A-law it decodes to the lowest level.
    pub const fn silence(self) -> u8 {
        match self {
            Law::Mu => 0xFF,
            Law::A => 0xD5,
        }
    }

    /// Decodes octets to samples, one sample for each octet, until one of the slices ends.
    pub fn decode(self, octets: &[u8], samples: &mut [i16]) {
        match self {
            Law::Mu => decode(&ULAW_TO_LINEAR, octets, samples),
            Law::A => decode(&ALAW_TO_LINEAR, octets, samples),
        }
    }

    /// Decodes into the start of `linear`, with two little-endian octets per sample. Returns the part that was written.
    pub(crate) fn decode_to_octets<'a>(self, octets: &[u8], linear: &'a mut [u8]) -> &'a [u8] {
        let table = if self == Law::Mu { &ULAW_TO_LINEAR } else { &ALAW_TO_LINEAR };
        for (place, octet) in linear.as_chunks_mut().0.iter_mut().zip(octets) {
            *place = table.get(usize::from(*octet)).copied().unwrap_or(0).to_le_bytes();
        }
        let length = linear.len().min(2 * octets.len());
        linear.get(..length).unwrap_or_default()
    }

    /// Encodes samples to octets, one octet for each sample, until one of the slices ends.
    pub fn encode(self, samples: &[i16], octets: &mut [u8]) {
        let pairs = octets.iter_mut().zip(samples);
        match self {
            Law::Mu => pairs.for_each(|(octet, sample)| *octet = ulaw_by_float(*sample)),
            Law::A => pairs.for_each(|(octet, sample)| *octet = alaw_by_float(*sample)),
        }
    }

    /// Converts octets of this law to octets of `to` in place, with a table.
    pub fn transcode(self, to: Law, octets: &mut [u8]) {
        let table = match (self, to) {
            (Law::Mu, Law::A) => &ULAW_TO_ALAW,
            (Law::A, Law::Mu) => &ALAW_TO_ULAW,
            _ => return,
        };
        for octet in octets {
            if let Some(other) = table.get(usize::from(*octet)) {
                *octet = *other;
            }
        }
    }
}

/// The linear value of each mu-law octet.
pub static ULAW_TO_LINEAR: [i16; 256] = table_i16(true);
/// The linear value of each A-law octet.
pub static ALAW_TO_LINEAR: [i16; 256] = table_i16(false);
/// The A-law octet nearest to each mu-law octet.
pub static ULAW_TO_ALAW: [u8; 256] = table_u8(true);
/// The mu-law octet nearest to each A-law octet.
pub static ALAW_TO_ULAW: [u8; 256] = table_u8(false);

/// Decodes octets with `table`, until one of the slices ends.
pub fn decode(table: &[i16; 256], octets: &[u8], samples: &mut [i16]) {
    for (sample, octet) in samples.iter_mut().zip(octets) {
        *sample = table.get(usize::from(*octet)).copied().unwrap_or(0);
    }
}

/// Encodes a 16-bit linear sample as mu-law.
#[inline]
pub const fn linear_to_ulaw(sample: i16) -> u8 {
    // The reference takes the one's complement of a negative value, so -1 and 0 have the same magnitude.
    let sign = sample >> 15;
    let magnitude = ((sample ^ sign) >> 2) as i32 + 33;
    let magnitude = if magnitude > 0x1FFF { 0x1FFF } else { magnitude } as u32;
    // With the bias of 33 the leading bit is at least bit 5, so the segment is the position of the leading bit minus 5.
    let segment = 26 - magnitude.leading_zeros();
    let code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F);
    let positive = if sign == 0 { 0x80 } else { 0 };
    (!code as u8 & 0x7F) | positive
}

/// Encodes a 16-bit linear sample as A-law.
#[inline]
pub const fn linear_to_alaw(sample: i16) -> u8 {
    let sign = sample >> 15;
    let magnitude = ((sample ^ sign) >> 4) as u32;
    // Segments 0 and 1 have the same step, so a value below 32 is its own code. For a larger value, the leading bit
    // remains after the shift and adds the missing 1 to the segment.
    let shift = 27 - (magnitude | 0x10).leading_zeros();
    let code = (shift << 4) + (magnitude >> shift);
    let positive = if sign == 0 { 0x80 } else { 0 };
    (code as u8 | positive) ^ 0x55
}

/// Encodes a sample as [`linear_to_ulaw`] does, but in a form that compilers vectorise. Vector instructions can convert
/// integers to floats, but cannot count leading zeros. The exponent of the float is the segment, and the upper four
/// bits of the mantissa are the step. The segment and the step are adjacent in the float, as they are in the octet.
#[inline(always)]
fn ulaw_by_float(sample: i16) -> u8 {
    let sign = sample >> 15;
    let magnitude = (((sample ^ sign) >> 2) + 33).min(0x1FFF);
    let code = exponent_and_step(magnitude) - (5 << 4);
    code ^ 0xFF ^ (sign as u8 & 0x80)
}

/// Encodes a sample as [`linear_to_alaw`] does, but in a form that compilers vectorise. A value below 16 is its own
/// code.
#[inline(always)]
fn alaw_by_float(sample: i16) -> u8 {
    let sign = sample >> 15;
    let magnitude = (sample ^ sign) >> 4;
    let code = exponent_and_step(magnitude.max(16)) - (4 << 4);
    let code = code.wrapping_add(magnitude.min(16) as u8);
    code ^ 0xD5 ^ (sign as u8 & 0x80)
}

/// Returns the binary exponent (0 to 12) of a positive value below 2^13, and the four bits after the leading one.
#[inline(always)]
fn exponent_and_step(magnitude: i16) -> u8 {
    ((f32::from(magnitude as u16).to_bits() >> 19) as u8).wrapping_sub((127u32 << 4) as u8)
}

const fn ulaw_to_linear(octet: u8) -> i16 {
    let code = !octet;
    let segment = (code >> 4) & 7;
    let mantissa = (code & 0x0F) as i32;
    let magnitude = ((((mantissa << 1) | 33) << segment) - 33) << 2;
    if code & 0x80 == 0 { magnitude as i16 } else { -magnitude as i16 }
}

const fn alaw_to_linear(octet: u8) -> i16 {
    let code = octet ^ 0x55;
    let segment = (code >> 4) & 7;
    let mantissa = (code & 0x0F) as i32;
    let magnitude = if segment == 0 { (mantissa << 4) | 8 } else { ((mantissa << 4) | 0x108) << (segment - 1) };
    if code & 0x80 != 0 { magnitude as i16 } else { -magnitude as i16 }
}

#[expect(clippy::indexing_slicing, reason = "const evaluation: an index out of range would not compile")]
const fn table_i16(ulaw: bool) -> [i16; 256] {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = if ulaw { ulaw_to_linear(octet as u8) } else { alaw_to_linear(octet as u8) };
        octet += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "const evaluation: an index out of range would not compile")]
const fn table_u8(from_ulaw: bool) -> [u8; 256] {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = if from_ulaw {
            linear_to_alaw(ulaw_to_linear(octet as u8))
        } else {
            linear_to_ulaw(alaw_to_linear(octet as u8))
        };
        octet += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::tests::{samples, shared};
    use super::*;

    /// Encodes a sample with the segment search of ITU-T G.191, written as a plain loop.
    fn reference_ulaw(sample: i16) -> u8 {
        let mut absolute = if sample < 0 { ((!sample) >> 2) + 33 } else { (sample >> 2) + 33 };
        if absolute > 0x1FFF {
            absolute = 0x1FFF;
        }
        let mut segment = 1;
        let mut rest = absolute >> 6;
        while rest != 0 {
            segment += 1;
            rest >>= 1;
        }
        let high = 0x08 - segment;
        let low = 0x0F - ((absolute >> segment) & 0x0F);
        let octet = ((high << 4) | low) as u8;
        if sample >= 0 { octet | 0x80 } else { octet }
    }

    fn reference_alaw(sample: i16) -> u8 {
        let mut value = if sample < 0 { (!sample) >> 4 } else { sample >> 4 };
        if value > 15 {
            let mut exponent = 1;
            while value > 16 + 15 {
                value >>= 1;
                exponent += 1;
            }
            value -= 16;
            value += exponent << 4;
        }
        if sample >= 0 {
            value |= 0x80;
        }
        (value as u8) ^ 0x55
    }

    #[test]
    fn every_sample_encodes_as_in_the_reference_code() {
        for sample in i16::MIN..=i16::MAX {
            assert_eq!(linear_to_ulaw(sample), reference_ulaw(sample), "mu-law of {sample}");
            assert_eq!(linear_to_alaw(sample), reference_alaw(sample), "A-law of {sample}");
        }
    }

    #[test]
    fn a_sample_encodes_the_same_alone_and_in_a_frame() {
        let samples: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let mut octets = vec![0; samples.len()];
        for (law, alone) in [(Law::Mu, linear_to_ulaw as fn(i16) -> u8), (Law::A, linear_to_alaw)] {
            law.encode(&samples, &mut octets);
            for (sample, octet) in samples.iter().zip(&octets) {
                assert_eq!(*octet, alone(*sample), "{law:?} of {sample}");
            }
        }
    }

    #[test]
    fn every_octet_is_unchanged_after_decoding_and_encoding() {
        for octet in 0..=255u8 {
            // Mu-law has two zeros. The encoder writes the negative zero as the positive zero.
            let same = if octet == 0x7F { 0xFF } else { octet };
            assert_eq!(linear_to_ulaw(ulaw_to_linear(octet)), same);
            assert_eq!(linear_to_alaw(alaw_to_linear(octet)), octet);
        }
    }

    #[test]
    fn the_itu_sweep_encodes_and_decodes_to_the_itu_vectors() {
        let read = |name: &str| -> Option<Vec<u16>> {
            Some(samples(&shared(&format!("g711/{name}"))?).into_iter().map(i16::cast_unsigned).collect())
        };
        let Some(source) = read("sweep.src") else { return };
        let (ulaw, alaw) = (read("sweep-r.u").unwrap(), read("sweep-r.a").unwrap());
        let (from_ulaw, from_alaw) = (read("sweep-r.reu").unwrap(), read("sweep-r.rea").unwrap());
        for (place, sample) in source.iter().enumerate() {
            assert_eq!(u16::from(linear_to_ulaw(*sample as i16)), ulaw[place] & 0xFF);
            assert_eq!(u16::from(linear_to_alaw(*sample as i16)), alaw[place] & 0xFF);
            assert_eq!(ULAW_TO_LINEAR[usize::from(ulaw[place] & 0xFF)], from_ulaw[place] as i16);
            assert_eq!(ALAW_TO_LINEAR[usize::from(alaw[place] & 0xFF)], from_alaw[place] as i16);
        }
    }
}
