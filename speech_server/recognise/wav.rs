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

/// A file that has not been decoded.
#[derive(Debug)]
pub struct File<'a> {
    format: Format,
    content: &'a [u8],
}

/// Opens a WAV file: PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, A-law or mu-law, with 1 to 8 channels. A file whose
/// lengths are too large (of a stream), or both 0 (of a stream that nobody completed), is read to its end.
///
/// # Errors
/// Says in what the file is not such a file.
pub fn open(file: &[u8]) -> Result<File<'_>, String> {
    if file.get(..4) != Some(b"RIFF") || file.get(8..12) != Some(b"WAVE") {
        return Err("the file is not WAV".to_owned());
    }
    let is_of_stream = number(file, 4, 4) == Some(0);
    let mut rest = file.get(12..).unwrap_or_default();
    let mut format = None;
    while let (Some(name), Some(length)) = (rest.get(..4), number(rest, 4, 4)) {
        let body = rest.get(8..).unwrap_or_default();
        let length = (length as usize).min(body.len());
        let (content, after) = body.split_at(length);
        match name {
            b"fmt " => format = Some(Format::read(content)?),
            b"data" => {
                let content = if length == 0 && is_of_stream { body } else { content };
                return Ok(File { format: format.ok_or("the file has no format")?, content });
            }
            _ => {}
        }
        rest = after.get(length % 2..).unwrap_or_default();
    }
    Err("the file has no audio".to_owned())
}

/// Reads a WAV file.
///
/// # Errors
/// As [`open`].
pub fn read(file: &[u8]) -> Result<Audio, String> {
    open(file).map(|file| file.decode())
}

impl File<'_> {
    /// Length of the audio in whole seconds.
    pub fn seconds(&self) -> u64 {
        (self.content.len() / self.format.frame) as u64 / u64::from(self.format.rate)
    }

    /// Decodes the samples and mixes the channels.
    pub fn decode(&self) -> Audio {
        let Format { channels, width, frame, decode, rate } = self.format;
        let samples = self.content.chunks_exact(frame).map(|frame| {
            let sum: i32 = frame.chunks_exact(width).map(|sample| i32::from(decode(sample))).sum();
            // The mean of values of 16 bits has 16 bits.
            (sum / channels) as i16
        });
        Audio { rate, samples: samples.collect() }
    }
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

/// The format of the samples.
#[derive(Debug, Clone, Copy)]
struct Format {
    channels: i32,
    /// Octets of a sample, and of a sample of each channel.
    width: usize,
    frame: usize,
    decode: fn(&[u8]) -> i16,
    rate: u32,
}

impl Format {
    fn read(content: &[u8]) -> Result<Self, String> {
        let field = |at, length| number(content, at, length).ok_or("the format of the file is cut off");
        let kind = field(0, 2)? as u16;
        // The extensible format has the kind at the begin of an identifier.
        let kind = if kind == EXTENSIBLE { field(24, 2)? as u16 } else { kind };
        let (channels, rate, bits) = (field(2, 2)?, field(4, 4)?, field(14, 2)?);
        let decode: fn(&[u8]) -> i16 = match (kind, bits) {
            (PCM, 8) => |octets| octets.first().map_or(0, |octet| (i16::from(*octet) - 128) << 8),
            (PCM, 16 | 24 | 32) => |octets| octets.last_chunk().map_or(0, |octets| i16::from_le_bytes(*octets)),
            (FLOAT, 32) => {
                |octets| octets.first_chunk().map_or(0, |octets| (f32::from_le_bytes(*octets) * 32_767.0) as i16)
            }
            (FLOAT, 64) => {
                |octets| octets.first_chunk().map_or(0, |octets| (f64::from_le_bytes(*octets) * 32_767.0) as i16)
            }
            (MU_LAW, 8) => |octets| octets.first().copied().map_or(0, from_mu_law),
            (A_LAW, 8) => |octets| octets.first().copied().map_or(0, from_a_law),
            (kind, bits) => return Err(format!("WAV of the kind {kind} with {bits} bits cannot be read")),
        };
        if !(1..=8).contains(&channels) || !(1_000..=192_000).contains(&rate) {
            return Err(format!("WAV with {channels} channels at {rate} Hz cannot be read"));
        }
        let width = bits as usize / 8;
        Ok(Self { channels: channels as i32, width, frame: width * channels as usize, decode, rate })
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
    fn a_stream_that_nobody_completed_is_read_to_its_end() {
        let mut file = header(8_000, 0).to_vec();
        file[4..8].fill(0);
        file.extend([1, 0, 2, 0]);
        assert_eq!(read(&file).unwrap().samples, [1, 2]);
        file[4] = 36;
        assert!(read(&file).unwrap().samples.is_empty());
    }

    #[test]
    fn samples_of_24_bits_floats_and_the_extensible_format_are_read() {
        let of = |kind: u16, bits: u16, extension: &[u8], samples: &[u8]| {
            let length = 16 + extension.len() as u32;
            let mut file = header(8_000, 0)[..16].to_vec();
            file.extend(length.to_le_bytes());
            file.extend([kind.to_le_bytes(), [1, 0]].concat());
            file.extend([8_000_u32, 8_000 * u32::from(bits) / 8].map(u32::to_le_bytes).concat());
            file.extend([(bits / 8).to_le_bytes(), bits.to_le_bytes()].concat());
            file.extend(extension);
            file.extend(b"data");
            file.extend((samples.len() as u32).to_le_bytes());
            file.extend(samples);
            read(&file).map(|audio| audio.samples)
        };
        assert_eq!(of(PCM, 24, &[], &[9, 1, 0, 9, 0xff, 0xff]), Ok(vec![1, -1]));
        assert_eq!(
            of(FLOAT, 32, &[], &[0.5_f32, 9.0, f32::NAN].map(f32::to_le_bytes).concat()),
            Ok(vec![16_383, 32_767, 0])
        );
        assert_eq!(of(FLOAT, 64, &[], &(-0.5_f64).to_le_bytes()), Ok(vec![-16_383]));
        let mut extension = vec![22, 0, 16, 0, 4, 0, 0, 0];
        extension.extend(PCM.to_le_bytes());
        extension.extend(b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71");
        assert_eq!(of(EXTENSIBLE, 16, &extension, &[1, 0, 2, 0]), Ok(vec![1, 2]));
        assert!(of(EXTENSIBLE, 16, &extension[..8], &[1, 0]).unwrap_err().contains("cut off"));
    }

    #[test]
    fn the_length_is_known_before_the_samples_are_decoded() {
        assert_eq!(open(&write(8_000, &[0; 20_000])).unwrap().seconds(), 2);
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
