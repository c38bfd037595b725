//! Reads and writes WAV files.

/// Samples of a file, mixed to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// Sampling rate in Hz.
    pub rate: u32,
    /// The samples.
    pub samples: Vec<i16>,
}

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const A_LAW: u16 = 6;
const MU_LAW: u16 = 7;
const EXTENSIBLE: u16 = 0xfffe;

/// Reads a WAV file: PCM of 8, 16, 24 or 32 bits, float, A-law or mu-law, with 1 to 8 channels. A file whose lengths are too large
/// (of a stream) is read to its end.
///
/// # Errors
/// Says in what the file is not such a file.
pub fn read(file: &[u8]) -> Result<Audio, String> {
    if file.get(..4) != Some(b"RIFF") || file.get(8..12) != Some(b"WAVE") {
        return Err("the file is not WAV".to_owned());
    }
    let mut rest = file.get(12..).unwrap_or_default();
    let mut format = None;
    while let (Some(name), Some(length)) = (rest.get(..4), number(rest, 4, 4)) {
        let body = rest.get(8..).unwrap_or_default();
        let length = (length as usize).min(body.len());
        let (content, after) = body.split_at(length);
        match name {
            b"fmt " => format = Some(Format::read(content).ok_or("the file has no complete format")?),
            b"data" => return format.ok_or("the file has no format")?.decode(content),
            _ => {}
        }
        rest = after.get(length % 2..).unwrap_or_default();
    }
    Err("the file has no audio".to_owned())
}

/// Returns a WAV file of one channel with 16 bits for each sample.
pub fn write(rate: u32, samples: &[i16]) -> Vec<u8> {
    let length = u32::try_from(samples.len() * 2).unwrap_or(u32::MAX - 36);
    let mut file = header(rate, length).to_vec();
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// Returns the header of such a file, with `length` octets of samples. For a stream of unknown length, use `u32::MAX - 36`.
pub fn header(rate: u32, length: u32) -> [u8; 44] {
    let mut header = [0; 44];
    let fields: [(usize, &[u8]); 12] = [
        (0, b"RIFF"),
        (4, &length.saturating_add(36).to_le_bytes()),
        (8, b"WAVEfmt "),
        (16, &16_u32.to_le_bytes()),
        (20, &PCM.to_le_bytes()),
        (22, &1_u16.to_le_bytes()),
        (24, &rate.to_le_bytes()),
        (28, &rate.saturating_mul(2).to_le_bytes()),
        (32, &2_u16.to_le_bytes()),
        (34, &16_u16.to_le_bytes()),
        (36, b"data"),
        (40, &length.to_le_bytes()),
    ];
    for (at, octets) in fields {
        for (place, octet) in header.iter_mut().skip(at).zip(octets) {
            *place = *octet;
        }
    }
    header
}

/// Decodes an octet of mu-law (ITU-T G.711).
pub fn from_mu_law(octet: u8) -> i16 {
    let octet = !octet;
    let magnitude = ((i16::from(octet & 0x0f) << 3) + 0x84) << (octet >> 4 & 7);
    if octet & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

/// Decodes an octet of A-law (ITU-T G.711).
pub fn from_a_law(octet: u8) -> i16 {
    let octet = octet ^ 0x55;
    let step = i16::from(octet & 0x0f) << 4;
    let magnitude = match octet >> 4 & 7 {
        0 => step + 8,
        exponent => (step + 0x108) << (exponent - 1),
    };
    if octet & 0x80 == 0 { -magnitude } else { magnitude }
}

struct Format {
    kind: u16,
    channels: usize,
    rate: u32,
    bits: u16,
}

impl Format {
    fn read(content: &[u8]) -> Option<Self> {
        let field = |at, length| number(content, at, length);
        let kind = field(0, 2)? as u16;
        // The extensible format has the kind at the begin of an identifier.
        let kind = if kind == EXTENSIBLE { field(24, 2)? as u16 } else { kind };
        Some(Self { kind, channels: field(2, 2)? as usize, rate: field(4, 4)?, bits: field(14, 2)? as u16 })
    }

    fn decode(&self, content: &[u8]) -> Result<Audio, String> {
        let decode: fn(&[u8]) -> i16 = match (self.kind, self.bits) {
            (PCM, 8) => |octets| octets.first().map_or(0, |octet| (i16::from(*octet) - 128) << 8),
            (PCM, 16 | 24 | 32) => |octets| octets.last_chunk().map_or(0, |octets| i16::from_le_bytes(*octets)),
            (FLOAT, 32) => {
                |octets| octets.first_chunk().map_or(0, |octets| (f32::from_le_bytes(*octets) * 32_767.0) as i16)
            }
            (MU_LAW, 8) => |octets| octets.first().copied().map_or(0, from_mu_law),
            (A_LAW, 8) => |octets| octets.first().copied().map_or(0, from_a_law),
            (kind, bits) => return Err(format!("WAV of the kind {kind} with {bits} bits cannot be read")),
        };
        if !(1..=8).contains(&self.channels) || !(1_000..=192_000).contains(&self.rate) {
            return Err(format!("WAV with {} channels at {} Hz cannot be read", self.channels, self.rate));
        }
        let width = usize::from(self.bits / 8);
        let samples = content.chunks_exact(width * self.channels).map(|frame| {
            let sum: i32 = frame.chunks_exact(width).map(|sample| i32::from(decode(sample))).sum();
            // The mean of values of 16 bits has 16 bits.
            (sum / self.channels as i32) as i16
        });
        Ok(Audio { rate: self.rate, samples: samples.collect() })
    }
}

fn number(octets: &[u8], at: usize, length: usize) -> Option<u32> {
    let octets = octets.get(at..at + length)?;
    Some(octets.iter().rev().fold(0, |number, octet| number << 8 | u32::from(*octet)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_read_as_it_was() {
        let samples = vec![0, 1, -1, i16::MAX, i16::MIN];
        let file = write(8_000, &samples);
        assert_eq!(read(&file), Ok(Audio { rate: 8_000, samples }));
    }

    #[test]
    fn a_stream_of_unknown_length_is_read_to_its_end() {
        let mut file = header(22_050, u32::MAX - 36).to_vec();
        file.extend([1, 0, 2, 0, 3]);
        assert_eq!(read(&file).unwrap().samples, [1, 2]);
    }

    #[test]
    fn two_channels_are_mixed_and_other_chunks_are_skipped() {
        let mut file = write(8_000, &[100, 200, -300, -100]);
        file[22] = 2;
        let chunk = [&b"LIST"[..], &3_u32.to_le_bytes(), b"abc\0"].concat();
        file.splice(12..12, chunk);
        assert_eq!(read(&file).unwrap().samples, [150, -200]);
    }

    #[test]
    fn the_laws_have_the_values_of_the_recommendation() {
        assert_eq!([0xff, 0x7f, 0x00, 0x80].map(from_mu_law), [0, 0, -32_124, 32_124]);
        assert_eq!([0xd5, 0x55, 0xaa, 0x2a].map(from_a_law), [8, -8, 32_256, -32_256]);
    }

    #[test]
    fn damaged_files_are_errors() {
        let file = write(8_000, &[1, 2, 3]);
        for length in 0..44 {
            assert!(read(&file[..length.min(file.len())]).is_err(), "{length}");
        }
        for (at, value) in [(20, 99), (22, 0), (34, 7)] {
            let mut file = file.clone();
            file[at] = value;
            assert!(read(&file).is_err(), "{at}");
        }
    }
}
