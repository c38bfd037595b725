//! Reads AIFF and AIFF-C. These files consist of chunks with big-endian numbers.

use super::Audio;
use super::read::{AudioError, Mono, bound, finish, g711};
use crate::codec::g711::Law;

/// Reads AIFF and AIFF-C. The samples may be PCM with 8, 16, 24 or 32 bits in either byte order, 32-bit float, mu-law
/// or A-law.
pub(super) fn read_aiff(octets: &[u8]) -> Result<Audio, AudioError> {
    let damaged = |what: &str| AudioError::Malformed(format!("AIFF: {what}"));
    let [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', kind @ (b'F' | b'C'), chunks @ ..] = octets else {
        return Err(AudioError::Unknown);
    };
    let (mut rest, mut common, mut samples) = (chunks, None, None);
    // Each chunk takes at least 8 octets, so the loop ends.
    while let [a, b, c, d, e, f, g, h, after @ ..] = rest {
        let length = u32::from_be_bytes([*e, *f, *g, *h]) as usize;
        let (chunk, next) = after.split_at(length.min(after.len()));
        match [*a, *b, *c, *d] {
            [b'C', b'O', b'M', b'M'] => common = Common::read(chunk, *kind == b'C'),
            [b'S', b'S', b'N', b'D'] => samples = chunk.get(8..).map(|data| (u32_at(chunk, 0) as usize, data)),
            _ => {}
        }
        rest = next.get(length % 2..).unwrap_or_default();
    }
    let common = common.ok_or_else(|| damaged("no usable COMM chunk"))?;
    let (offset, data) = samples.ok_or_else(|| damaged("no SSND chunk"))?;
    let data = data.get(offset..).ok_or_else(|| damaged("the samples start after the end of the file"))?;
    let order = match &common.compression {
        b"NONE" | b"twos" => Order::BigEndian,
        b"sowt" => Order::LittleEndian,
        b"fl32" | b"FL32" => Order::Float,
        b"ulaw" | b"ULAW" => return g711(data, Law::Mu, common.rate, common.channels),
        b"alaw" | b"ALAW" => return g711(data, Law::A, common.rate, common.channels),
        other => {
            return Err(AudioError::Unsupported(format!("AIFF-C of type {:?}", String::from_utf8_lossy(other))));
        }
    };
    let width = if order == Order::Float { 4 } else { usize::from(common.bits.div_ceil(8)) };
    if !(1..=4).contains(&width) {
        return Err(AudioError::Unsupported(format!("AIFF with {} bits", common.bits)));
    }
    let frames = data.len() / (width * usize::from(common.channels));
    bound(frames, common.rate)?;
    let mut mono = Mono::new(common.channels, frames);
    for sample in data.chunks_exact(width) {
        let mut four = [0; 4];
        for (place, octet) in four.iter_mut().zip(sample) {
            *place = *octet;
        }
        mono.push(match order {
            Order::BigEndian => i32::from_be_bytes(four) >> 16,
            // A little-endian sample is shifted, so that its most significant octet becomes the top octet of the
            // integer.
            Order::LittleEndian => i32::from_le_bytes(four).wrapping_shl(32 - 8 * width as u32) >> 16,
            Order::Float => (f32::from_be_bytes(four) * 32_767.0) as i32,
        });
    }
    finish(mono.samples, common.rate)
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    BigEndian,
    LittleEndian,
    Float,
}

/// The content of the COMM chunk.
struct Common {
    channels: u16,
    bits: u16,
    rate: u32,
    compression: [u8; 4],
}

impl Common {
    fn read(chunk: &[u8], compressed: bool) -> Option<Common> {
        let half = |at: usize| Some(u16::from_be_bytes(chunk.get(at..at + 2)?.try_into().ok()?));
        let rate = extended(chunk.get(8..18)?.try_into().ok()?)?;
        let compression = if compressed { chunk.get(18..22)?.try_into().ok()? } else { *b"NONE" };
        let common = Common { channels: half(0)?, bits: half(6)?, rate, compression };
        ((1..=32).contains(&common.channels) && (1_000..=384_000).contains(&rate)).then_some(common)
    }
}

/// Converts an 80-bit float to an integer. The float is in the extended format of IEEE 754, with 15 bits of exponent
/// and 64 bits of mantissa.
fn extended(octets: &[u8; 10]) -> Option<u32> {
    let [a, b, mantissa @ ..] = octets;
    let exponent = i32::from(u16::from_be_bytes([*a, *b])) - 16_383;
    let shift = 63 - exponent;
    let value = u64::from_be_bytes(*mantissa).checked_shr(u32::try_from(shift).ok()?)?;
    u32::try_from(value).ok()
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    octets.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}
