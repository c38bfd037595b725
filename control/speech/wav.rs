//! Reads WAV audio that arrives in pieces, and converts it to 8,000 Hz. The lengths in the header are not used, because an
//! engine that sends its audio while it makes the audio does not know them.

use tandem_media::To8000;
use tandem_media::g711::Law;

/// Maximum length of the chunks before the samples, in octets.
const LONGEST_HEADER: usize = 64 * 1024;

/// Reads one WAV file. The samples may be PCM with 8, 16, 24 or 32 bits, float, µ-law or A-law.
#[derive(Default)]
pub(super) struct WavStream {
    /// Octets that are not read yet: the header, or an incomplete sample.
    rest: Vec<u8>,
    format: Option<(Format, To8000)>,
    /// Number of octets of samples that remain, if the header has this number.
    left: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    coding: Coding,
    channels: usize,
    rate: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// The number of octets of a sample.
    Linear(usize),
    Float,
    Law(Law),
}

impl WavStream {
    /// Takes the next octets. Returns samples at 8,000 Hz.
    pub(super) fn push(&mut self, octets: &[u8]) -> Result<Vec<i16>, String> {
        self.rest.extend_from_slice(octets);
        if self.format.is_none() && !self.read_header()? {
            return Ok(Vec::new());
        }
        let mut samples = Vec::new();
        if let Some((format, resampler)) = &mut self.format {
            let block = format.block();
            let mut length = self.rest.len() - self.rest.len() % block;
            if let Some(left) = &mut self.left {
                length = length.min(usize::try_from(*left - *left % block as u64).unwrap_or(usize::MAX));
                *left -= length as u64;
            }
            let mono = format.mono(self.rest.get(..length).unwrap_or_default());
            resampler.push(&mono, &mut samples);
            self.rest.drain(..length);
            // The chunks after the samples are no audio.
            if self.left.is_some_and(|left| left < block as u64) {
                self.rest.clear();
            }
        }
        Ok(samples)
    }

    /// Whether all samples are read that the header announces. `false` if the header has no length.
    pub(super) fn is_complete(&self) -> bool {
        matches!((self.left, &self.format), (Some(left), Some((format, _))) if left < format.block() as u64)
    }

    /// Returns the last samples.
    pub(super) fn finish(&mut self) -> Result<Vec<i16>, String> {
        if let (Some(left), Some((format, _))) = (self.left, &self.format)
            && left >= format.block() as u64
        {
            return Err("the audio is not complete".to_owned());
        }
        let (_, resampler) = self.format.as_mut().ok_or("the audio is not a WAV file")?;
        let mut samples = Vec::new();
        resampler.finish(&mut samples);
        Ok(samples)
    }

    /// Reads the chunks before the samples. Returns whether they are complete.
    fn read_header(&mut self) -> Result<bool, String> {
        let known = self.rest.len().min(4);
        if self.rest.get(..known) != b"RIFF".get(..known) {
            return Err("the audio is not a WAV file".to_owned());
        }
        let mut at = 12;
        let mut format = None;
        loop {
            let Some([a, b, c, d, e, f, g, h]) = self.rest.get(at..at + 8) else {
                return if self.rest.len() > LONGEST_HEADER {
                    Err("the WAV file has no samples".to_owned())
                } else {
                    Ok(false)
                };
            };
            let (name, length) = ([*a, *b, *c, *d], u32::from_le_bytes([*e, *f, *g, *h]));
            if &name == b"data" {
                let format: Format = format.ok_or("the WAV file has no format")?;
                // 0 and the largest numbers stand for an unknown length.
                self.left = (1..0x7FFF_0000).contains(&length).then_some(u64::from(length));
                self.format = Some((format, To8000::new(format.rate)));
                self.rest.drain(..at + 8);
                return Ok(true);
            }
            let length = length as usize;
            if length > LONGEST_HEADER {
                return Err("the WAV file is damaged".to_owned());
            }
            let Some(chunk) = self.rest.get(at + 8..at + 8 + length) else { return Ok(false) };
            if &name == b"fmt " {
                format = Some(Format::read(chunk)?);
            }
            at += 8 + length + length % 2;
        }
    }
}

impl Format {
    fn read(chunk: &[u8]) -> Result<Self, String> {
        let half = |at: usize| Some(u16::from_le_bytes(chunk.get(at..at + 2)?.try_into().ok()?));
        let rate = chunk.get(4..8).and_then(|rate| Some(u32::from_le_bytes(rate.try_into().ok()?)));
        let (Some(mut tag), Some(channels), Some(rate), Some(bits)) = (half(0), half(2), rate, half(14)) else {
            return Err("the format of the WAV file is damaged".to_owned());
        };
        if tag == 0xFFFE {
            // WAVE_FORMAT_EXTENSIBLE: the tag is the first two octets of the sub-format.
            tag = half(24).unwrap_or_default();
        }
        let coding = match (tag, bits) {
            (1, 8 | 16 | 24 | 32) => Coding::Linear(usize::from(bits / 8)),
            (3, 32) => Coding::Float,
            (6, 8) => Coding::Law(Law::A),
            (7, 8) => Coding::Law(Law::Mu),
            _ => return Err(format!("WAV format {tag} with {bits} bits is not supported")),
        };
        if !(1..=32).contains(&channels) || !(1_000..=384_000).contains(&rate) {
            return Err("the format of the WAV file is damaged".to_owned());
        }
        Ok(Self { coding, channels: channels.into(), rate })
    }

    /// The number of octets in one sample of all channels.
    fn block(self) -> usize {
        self.channels
            * match self.coding {
                Coding::Linear(octets) => octets,
                Coding::Float => 4,
                Coding::Law(_) => 1,
            }
    }

    /// Decodes octets, and mixes all channels to one.
    fn mono(self, octets: &[u8]) -> Vec<i16> {
        let samples: Vec<i16> = match self.coding {
            Coding::Law(law) => {
                let mut samples = vec![0; octets.len()];
                law.decode(octets, &mut samples);
                samples
            }
            Coding::Linear(1) => octets.iter().map(|octet| (i16::from(*octet) - 128) * 256).collect(),
            // The two highest octets of a little-endian sample are the last ones.
            Coding::Linear(width) => octets
                .chunks_exact(width)
                .map(|sample| match sample {
                    [.., low, high] => i16::from_le_bytes([*low, *high]),
                    _ => 0,
                })
                .collect(),
            // A cast from float to integer saturates.
            Coding::Float => {
                octets.as_chunks::<4>().0.iter().map(|sample| (f32::from_le_bytes(*sample) * 32_767.0) as i16).collect()
            }
        };
        if self.channels == 1 {
            return samples;
        }
        let mean = |frame: &[i16]| (frame.iter().map(|one| i64::from(*one)).sum::<i64>() / frame.len() as i64) as i16;
        samples.chunks_exact(self.channels).map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A WAV file with a tone of 1,000 Hz. `length` is the length in the header.
    fn tone(rate: u32, length: u32) -> Vec<u8> {
        let mut wav = b"RIFF\xFF\xFF\xFF\xFFWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend(rate.to_le_bytes());
        wav.extend((rate * 2).to_le_bytes());
        wav.extend(b"\x02\0\x10\0LIST\x03\0\0\0abc\0data");
        wav.extend(length.to_le_bytes());
        for at in 0..rate / 2 {
            let angle = f64::from(at) * 1_000.0 * std::f64::consts::TAU / f64::from(rate);
            wav.extend(((angle.sin() * 10_000.0) as i16).to_le_bytes());
        }
        wav
    }

    fn read(wav: &[u8], piece: usize) -> Vec<i16> {
        let mut stream = WavStream::default();
        let mut samples: Vec<i16> = wav.chunks(piece).flat_map(|piece| stream.push(piece).unwrap()).collect();
        samples.extend(stream.finish().unwrap());
        samples
    }

    #[test]
    fn a_wav_file_in_pieces_gives_the_same_samples_as_the_whole_file() {
        for rate in [8_000, 16_000, 22_050, 24_000, 44_100, 48_000] {
            let wav = tone(rate, u32::MAX);
            let whole = tandem_media::read_wav(&wav).unwrap();
            for piece in [1, 7, 1_000, wav.len()] {
                let samples = read(&wav, piece);
                assert!(samples.len().abs_diff(4_000) <= 1, "{rate} Hz: {} samples", samples.len());
                let apart = |(one, other): (&i16, &i16)| one.abs_diff(*other);
                let worst = samples.iter().zip(whole.samples()).map(apart).max();
                assert!(worst < Some(3), "{rate} Hz in pieces of {piece}: {worst:?}");
            }
        }
    }

    #[test]
    fn the_length_in_the_header_counts_only_if_it_is_plausible() {
        assert_eq!(read(&tone(8_000, 0), 100).len(), 4_000);
        assert_eq!(read(&tone(8_000, u32::MAX), 100).len(), 4_000);
        let mut wav = tone(8_000, 8_000);
        wav.extend(b"LIST\x04\0\0\0abcd");
        assert_eq!(read(&wav, 33).len(), 4_000, "the chunk after the samples is no audio");
    }

    #[test]
    fn other_audio_and_damaged_headers_are_errors() {
        assert!(WavStream::default().push(b"ID3").is_err());
        assert!(WavStream::default().push(b"{\"error\":1}").is_err());
        assert!(WavStream::default().push(b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\x01\0data\0\0\0\0").is_err());
        assert!(WavStream::default().push(b"RIFF\0\0\0\0WAVEjunk\xFF\xFF\xFF\x7F").is_err());
        assert!(WavStream::default().push(b"RI").is_ok());
        assert!(WavStream::default().finish().is_err(), "there is no audio");
        let mut endless = WavStream::default();
        endless.push(b"RIFF\0\0\0\0WAVE").unwrap();
        assert!((0..10_000).any(|_| endless.push(b"junk\x08\0\0\0abcdefgh").is_err()));
    }
}
