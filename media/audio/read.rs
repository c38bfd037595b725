//! Decodes WAV, AIFF, MP3, GSM and raw G.711 to [`Audio`]. Files are untrusted input, so every length is checked.

use std::io::Cursor;

use symphonia::core::audio::SampleBuffer;
use symphonia::core::codecs::DecoderOptions;
use symphonia::core::errors::Error as Mp3Error;
use symphonia::core::formats::{FormatOptions, FormatReader as _};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::default::codecs::MpaDecoder;
use symphonia::default::formats::MpaReader;

use super::aiff::read_aiff;
use super::{Audio, resample};
use crate::codec::g711::Law;
use crate::codec::gsm;

/// The largest accepted file in octets.
const LARGEST: usize = 64 * 1024 * 1024;
/// The longest accepted audio in samples at 8,000 Hz. The value is one hour of audio.
const LONGEST: usize = 8_000 * 3_600;

/// The reason why a file cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    /// The file is larger than 64 MiB, or its audio is longer than one hour.
    #[error("audio is too long: at most 64 MiB and one hour")]
    TooLong,
    /// The file is not WAV, AIFF, MP3 or GSM, and its content type does not name raw mu-law or A-law.
    #[error("unknown audio format (supported: WAV, AIFF, MP3, GSM and audio/basic)")]
    Unknown,
    /// The file violates its format. The text describes the violation.
    #[error("the audio is damaged: {0}")]
    Malformed(String),
    /// The format is known, but this variant of the format is not supported.
    #[error("this audio encoding is not supported: {0}")]
    Unsupported(String),
}

/// Decodes WAV, AIFF, MP3, GSM or raw G.711. The first octets identify WAV, AIFF, and MP3 with an ID3 tag. For other
/// content, `content_type` decides if it names raw mu-law, raw A-law or GSM, for example `audio/basic`,
/// `audio/x-mulaw`, `audio/PCMU` or `audio/PCMA`. Otherwise the function looks for GSM frames, and then for MP3 frames.
pub fn decode(octets: &[u8], content_type: Option<&str>) -> Result<Audio, AudioError> {
    if octets.len() > LARGEST {
        return Err(AudioError::TooLong);
    }
    match octets {
        [b'R', b'I', b'F', b'F', ..] => return read_wav(octets),
        [b'I', b'D', b'3', ..] => return read_mp3(octets),
        [b'F', b'O', b'R', b'M', ..] => return read_aiff(octets),
        _ => {}
    }
    let content_type =
        content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let raw = match content_type.as_str() {
        "audio/basic" | "audio/x-mulaw" | "audio/mulaw" | "audio/ulaw" | "audio/pcmu" => Some(Law::Mu),
        "audio/pcma" | "audio/x-alaw" | "audio/alaw" | "audio/x-alaw-basic" => Some(Law::A),
        _ => None,
    };
    if let Some(law) = raw {
        // A file in Sun's .au format may have the same content type. The header of such a file contains the offset of
        // the samples.
        let start = match octets {
            [b'.', b's', b'n', b'd', a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
            _ => 0,
        };
        return g711(octets.get(start..).unwrap_or_default(), law, 8_000, 1);
    }
    if matches!(content_type.as_str(), "audio/gsm" | "audio/x-gsm") || is_gsm(octets) {
        return read_gsm(octets);
    }
    match octets {
        [0xFF, second, ..] if second & 0xE0 == 0xE0 => read_mp3(octets),
        _ => Err(AudioError::Unknown),
    }
}

/// Reads a WAV file. The samples may be PCM with 8, 16, 24 or 32 bits, float, mu-law, A-law or GSM. Any sample rate and
/// any number of channels is accepted.
pub fn read_wav(octets: &[u8]) -> Result<Audio, AudioError> {
    if octets.len() > LARGEST {
        return Err(AudioError::TooLong);
    }
    let layout = Layout::find(octets)?;
    match layout.format {
        6 => return g711(layout.data, Law::A, layout.rate, layout.channels),
        7 => return g711(layout.data, Law::Mu, layout.rate, layout.channels),
        49 => return read_gsm_pairs(layout.data, layout.rate),
        _ => {}
    }
    // Write a copy of the file with correct lengths, so that the WAV reader below does not look for missing data.
    let mut whole = Vec::with_capacity(layout.data.len() + 64);
    let block = usize::from(layout.channels) * usize::from(layout.bits.div_ceil(8));
    let data = layout.data.get(..layout.data.len() - layout.data.len() % block.max(1)).unwrap_or_default();
    whole.extend(b"RIFF");
    whole.extend((data.len() as u32 + 36).to_le_bytes());
    whole.extend(b"WAVEfmt ");
    whole.extend(16u32.to_le_bytes());
    whole.extend(layout.format.to_le_bytes());
    whole.extend(layout.channels.to_le_bytes());
    whole.extend(layout.rate.to_le_bytes());
    whole.extend(layout.rate.saturating_mul(block as u32).to_le_bytes());
    whole.extend((block as u16).to_le_bytes());
    whole.extend(layout.bits.to_le_bytes());
    whole.extend(b"data");
    whole.extend((data.len() as u32).to_le_bytes());
    whole.extend(data);
    let mut reader = hound::WavReader::new(Cursor::new(&whole)).map_err(from_hound)?;
    let spec = reader.spec();
    let frames = reader.duration() as usize;
    bound(frames, spec.sample_rate)?;
    let mut mono = Mono::new(spec.channels, frames);
    match spec.sample_format {
        hound::SampleFormat::Int => {
            let shift = u32::from(spec.bits_per_sample);
            for sample in reader.samples::<i32>() {
                let sample = sample.map_err(from_hound)?;
                mono.push(if shift >= 16 { sample >> (shift - 16) } else { sample << (16 - shift) });
            }
        }
        hound::SampleFormat::Float => {
            for sample in reader.samples::<f32>() {
                mono.push((sample.map_err(from_hound)? * 32_767.0) as i32);
            }
        }
    }
    finish(mono.samples, spec.sample_rate)
}

/// The parts of a WAV file that the decoder needs. The sizes in the file are not trusted.
struct Layout<'a> {
    format: u16,
    channels: u16,
    rate: u32,
    bits: u16,
    data: &'a [u8],
}

impl<'a> Layout<'a> {
    fn find(octets: &'a [u8]) -> Result<Layout<'a>, AudioError> {
        let damaged = |what: &str| AudioError::Malformed(what.to_owned());
        let [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', chunks @ ..] = octets else {
            return Err(AudioError::Unknown);
        };
        let mut rest = chunks;
        let mut format = None;
        // Each chunk takes at least 8 octets, so the loop ends.
        while let [a, b, c, d, e, f, g, h, after @ ..] = rest {
            let length = u32::from_le_bytes([*e, *f, *g, *h]) as usize;
            // If a recorder was interrupted or streams its output, the size in the file is larger than the rest of the
            // file.
            let (chunk, next) = after.split_at(length.min(after.len()));
            match [*a, *b, *c, *d] {
                [b'f', b'm', b't', b' '] => format = Some(chunk),
                [b'd', b'a', b't', b'a'] => {
                    let format = format.ok_or_else(|| damaged("data before fmt"))?;
                    return Layout::with(format, chunk).ok_or_else(|| damaged("fmt is not usable"))?;
                }
                _ => {}
            }
            rest = next.get(length % 2..).unwrap_or_default();
        }
        Err(damaged("no data chunk"))
    }

    fn with(format: &[u8], data: &'a [u8]) -> Option<Result<Layout<'a>, AudioError>> {
        let half = |at: usize| Some(u16::from_le_bytes(format.get(at..at + 2)?.try_into().ok()?));
        let rate = u32::from_le_bytes(format.get(4..8)?.try_into().ok()?);
        let (mut tag, channels, bits) = (half(0)?, half(2)?, half(14)?);
        if tag == 0xFFFE {
            // WAVE_FORMAT_EXTENSIBLE: the tag is the first two octets of the sub-format.
            tag = half(24)?;
        }
        if !(1..=32).contains(&channels) || !(1_000..=384_000).contains(&rate) {
            return None;
        }
        let known = matches!((tag, bits), (1, 8 | 16 | 24 | 32) | (3, 32) | (6 | 7, 8)) || (tag, channels) == (49, 1);
        if !known {
            return Some(Err(AudioError::Unsupported(format!("WAV format {tag} with {bits} bits"))));
        }
        Some(Ok(Layout { format: tag, channels, rate, bits, data }))
    }
}

/// Mixes interleaved channels to one channel. Each sample of the result is the mean of the samples of all channels.
pub(super) struct Mono {
    channels: i64,
    sum: i64,
    have: i64,
    pub(super) samples: Vec<i16>,
}

impl Mono {
    pub(super) fn new(channels: u16, frames: usize) -> Mono {
        Mono { channels: channels.max(1).into(), sum: 0, have: 0, samples: Vec::with_capacity(frames.min(LARGEST)) }
    }

    pub(super) fn push(&mut self, sample: i32) {
        self.sum += i64::from(sample);
        self.have += 1;
        if self.have == self.channels {
            let mean = self.sum / self.channels;
            self.samples.push(mean.clamp(i16::MIN.into(), i16::MAX.into()) as i16);
            (self.sum, self.have) = (0, 0);
        }
    }
}

pub(super) fn g711(octets: &[u8], law: Law, rate: u32, channels: u16) -> Result<Audio, AudioError> {
    let frames = octets.len() / usize::from(channels.max(1));
    bound(frames, rate)?;
    let mut mono = Mono::new(channels, frames);
    let mut samples = [0; 160];
    for part in octets.chunks(160) {
        law.decode(part, &mut samples);
        for sample in samples.iter().take(part.len()) {
            mono.push((*sample).into());
        }
    }
    finish(mono.samples, rate)
}

/// Whether the octets are frames of a GSM file. Each frame starts with the same four bits.
fn is_gsm(octets: &[u8]) -> bool {
    let (frames, rest) = octets.as_chunks::<{ gsm::OCTETS }>();
    frames.len() >= 5 && rest.is_empty() && frames.iter().all(|frame| frame[0] >> 4 == 0b1101)
}

/// Decodes GSM full rate frames without a file header. An incomplete frame at the end is ignored.
fn read_gsm(octets: &[u8]) -> Result<Audio, AudioError> {
    let (frames, _) = octets.as_chunks::<{ gsm::OCTETS }>();
    if frames.is_empty() {
        return Err(AudioError::Malformed("GSM without a complete frame".to_owned()));
    }
    bound(frames.len() * gsm::FRAME, 8_000)?;
    let mut decoder = gsm::Decoder::default();
    let samples: Vec<i16> = frames.iter().flat_map(|frame| decoder.frame(frame)).collect();
    finish(samples, 8_000)
}

/// Decodes the GSM data of a WAV file, which stores frames in pairs.
fn read_gsm_pairs(octets: &[u8], rate: u32) -> Result<Audio, AudioError> {
    let (pairs, _) = octets.as_chunks::<{ gsm::PAIR_OCTETS }>();
    bound(pairs.len() * 2 * gsm::FRAME, rate)?;
    let mut decoder = gsm::Decoder::default();
    let samples: Vec<i16> = pairs.iter().flat_map(|pair| decoder.pair(pair)).flatten().collect();
    finish(samples, rate)
}

/// Decodes MP3 with symphonia. Damaged frames are skipped, as players do. An MP3 encoder adds silence at both ends, and
/// writes the length of this silence into the file. The decoder removes this silence.
fn read_mp3(octets: &[u8]) -> Result<Audio, AudioError> {
    let damaged = |error: Mp3Error| AudioError::Malformed(format!("MP3: {error}"));
    // The decoder needs to own its input.
    let stream = MediaSourceStream::new(Box::new(Cursor::new(octets.to_vec())), MediaSourceStreamOptions::default());
    let mut reader = MpaReader::try_new(stream, &FormatOptions::default()).map_err(damaged)?;
    let track = reader.default_track().ok_or_else(|| AudioError::Malformed("MP3 without a track".to_owned()))?;
    let (number, parameters) = (track.id, track.codec_params.clone());
    let mut decoder =
        <MpaDecoder as symphonia::core::codecs::Decoder>::try_new(&parameters, &DecoderOptions::default())
            .map_err(damaged)?;
    let mut rate = parameters.sample_rate.unwrap_or(0);
    let mut mono = Mono::new(1, 0);
    let mut buffer: Option<SampleBuffer<i16>> = None;
    loop {
        let packet = match reader.next_packet() {
            Ok(packet) => packet,
            Err(Mp3Error::IoError(_) | Mp3Error::ResetRequired) => break,
            Err(_) if !mono.samples.is_empty() => break,
            Err(error) => return Err(damaged(error)),
        };
        if packet.track_id() != number {
            continue;
        }
        match symphonia::core::codecs::Decoder::decode(&mut decoder, &packet) {
            Ok(decoded) => {
                let spec = *decoded.spec();
                rate = spec.rate;
                let needed = decoded.capacity() * spec.channels.count();
                if buffer.as_ref().is_none_or(|buffer| buffer.capacity() < needed) {
                    buffer = Some(SampleBuffer::new(decoded.capacity() as u64, spec));
                }
                if let Some(buffer) = &mut buffer {
                    buffer.copy_interleaved_ref(decoded);
                    mono.channels = i64::from(spec.channels.count().max(1) as u32);
                    for sample in buffer.samples() {
                        mono.push((*sample).into());
                    }
                }
                bound(mono.samples.len(), rate)?;
            }
            Err(Mp3Error::DecodeError(_) | Mp3Error::IoError(_)) => {}
            Err(error) => return Err(damaged(error)),
        }
    }
    if mono.samples.is_empty() {
        return Err(AudioError::Malformed("MP3 without an audio frame".to_owned()));
    }
    // symphonia's own option for this is not used. That option also subtracts the silence from a length that the file
    // states, and the subtraction may underflow.
    let added = |samples: Option<u32>| samples.unwrap_or(0) as usize;
    let (before, after) = (added(parameters.delay), added(parameters.padding));
    if before + after < mono.samples.len() {
        mono.samples.truncate(mono.samples.len() - after);
        mono.samples.drain(..before);
    }
    finish(mono.samples, rate)
}

pub(super) fn bound(frames: usize, rate: u32) -> Result<(), AudioError> {
    let at_8000 = (frames as u64).saturating_mul(8_000).checked_div(rate.into());
    if at_8000.is_none_or(|samples| samples > LONGEST as u64) { Err(AudioError::TooLong) } else { Ok(()) }
}

pub(super) fn finish(samples: Vec<i16>, rate: u32) -> Result<Audio, AudioError> {
    if rate < 1_000 {
        return Err(AudioError::Malformed("no valid sample rate".to_owned()));
    }
    Ok(Audio::new(if rate == 8_000 { samples } else { resample::to_8000(&samples, rate) }))
}

fn from_hound(error: hound::Error) -> AudioError {
    match error {
        hound::Error::Unsupported => AudioError::Unsupported("WAV variant".to_owned()),
        other => AudioError::Malformed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(format: u16, channels: u16, rate: u32, bits: u16, data: &[u8], claimed: u32) -> Vec<u8> {
        let mut out = b"RIFF\xFF\xFF\xFF\xFFWAVEfmt \x10\0\0\0".to_vec();
        out.extend(format.to_le_bytes());
        out.extend(channels.to_le_bytes());
        out.extend(rate.to_le_bytes());
        out.extend([0; 4]);
        out.extend(channels.wrapping_mul(bits.div_ceil(8)).to_le_bytes());
        out.extend(bits.to_le_bytes());
        out.extend(b"LIST\x03\0\0\0abc\0data");
        out.extend(claimed.to_le_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn mono_of_16_bits_at_8000_hz_is_read_unchanged() {
        let samples: Vec<i16> = (0..100).map(|at| at * 321).collect();
        let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        assert_eq!(read_wav(&wav(1, 1, 8_000, 16, &data, 200)).unwrap().samples(), samples);
        // An interrupted recording states a length beyond the end of the file.
        assert_eq!(decode(&wav(1, 1, 8_000, 16, &data, u32::MAX), None).unwrap().samples(), samples);
    }

    #[test]
    fn stereo_is_averaged_and_eight_bits_are_unsigned() {
        let audio = read_wav(&wav(1, 2, 8_000, 16, &[0, 1, 0, 3, 0, 0, 0, 0x80], 8)).unwrap();
        assert_eq!(audio.samples(), [0x200, -0x4000]);
        let audio = read_wav(&wav(1, 1, 8_000, 8, &[0x80, 0x00, 0xFF], 3)).unwrap();
        assert_eq!(audio.samples(), [0, -32_768, 0x7F00]);
    }

    #[test]
    fn mu_law_and_a_law_files_are_read() {
        assert_eq!(read_wav(&wav(7, 1, 8_000, 8, &[0xFF, 0x00], 2)).unwrap().samples(), [0, -32_124]);
        assert_eq!(read_wav(&wav(6, 1, 8_000, 8, &[0xD5], 1)).unwrap().samples(), [8]);
        assert_eq!(decode(&[0xFF, 0x00], Some("audio/basic")).unwrap().samples(), [0, -32_124]);
    }

    #[test]
    fn other_sample_rates_are_converted_to_8000_hz() {
        let audio = read_wav(&wav(1, 1, 16_000, 16, &vec![0; 32_000], 32_000)).unwrap();
        assert_eq!(audio.samples().len(), 8_000);
    }

    #[test]
    fn floats_that_are_nan_or_out_of_range_are_limited() {
        let data: Vec<u8> = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, 0.5, f32::MIN_POSITIVE]
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        let audio = read_wav(&wav(3, 1, 8_000, 32, &data, u32::MAX)).unwrap();
        assert_eq!(audio.samples(), [0, i16::MAX, i16::MIN, i16::MAX, 16_383, 0]);
        // The data ends with an incomplete block, in which only one of the two channels has a sample.
        assert_eq!(read_wav(&wav(3, 2, 8_000, 32, &data[..20], 20)).unwrap().samples().len(), 2);
    }

    #[test]
    fn files_with_wrong_lengths_or_random_octets_are_errors() {
        for octets in [
            &b""[..],
            b"RIFF",
            b"RIFF\0\0\0\0WAVE",
            b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd",
            b"hello world",
            b"ID3",
            b"ID3\x04\0\0\x7F\x7F\x7F\x7F",
            b"\xFF\xFB\x90\x00",
        ] {
            assert!(decode(octets, None).is_err(), "{octets:?}");
        }
        for (format, channels, rate, bits) in [
            (1, 0, 8_000, 16),
            (1, 1, 0, 16),
            (1, 1, 8_000, 0),
            (1, 65_535, 8_000, 16),
            (2, 1, 8_000, 4),
            (1, 1, 8_000, 1),
            (3, 1, 8_000, 16),
            (3, 1, 8_000, 64),
            (0xFFFE, 1, 8_000, 16),
            (1, 1, u32::MAX, 16),
        ] {
            assert!(
                read_wav(&wav(format, channels, rate, bits, &[0; 64], 64)).is_err(),
                "{format} {channels} {rate} {bits}"
            );
        }
        assert_eq!(read_wav(&wav(7, 1, 1_000, 8, &vec![0; 4_000_000], 4_000_000)), Err(AudioError::TooLong));
    }

    fn sixteen(octets: &[u8]) -> Vec<i16> {
        octets.as_chunks().0.iter().copied().map(i16::from_le_bytes).collect()
    }

    #[test]
    fn gsm_files_decode_bit_exactly_as_with_the_reference_decoder() {
        let expected = sixteen(include_bytes!("fixtures/sweep.gsm.s16"));
        let file = include_bytes!("fixtures/sweep.gsm");
        assert_eq!(decode(file, None).unwrap().samples(), expected);
        assert_eq!(decode(file, Some("audio/x-gsm")).unwrap().samples(), expected);
        assert_eq!(decode(&file[..40], Some("audio/gsm")).unwrap().samples().len(), gsm::FRAME, "a cut one");
        let wav = decode(include_bytes!("fixtures/sweep-gsm.wav"), None).unwrap();
        assert_eq!(wav.samples(), expected);
    }

    #[test]
    fn aiff_files_of_any_width_and_number_of_channels_are_read() {
        let expected = sixteen(include_bytes!("fixtures/sweep.s16"));
        let plain = decode(include_bytes!("fixtures/sweep.aiff"), None).unwrap();
        assert_eq!(plain.samples(), expected);
        let wide = decode(include_bytes!("fixtures/sweep-24-stereo.aiff"), Some("audio/aiff")).unwrap();
        assert_eq!(wide.samples(), expected);
        let newer = decode(include_bytes!("fixtures/sweep.aifc"), Some("audio/x-aifc")).unwrap();
        assert_eq!(newer.samples(), expected);
    }

    #[test]
    fn aiff_in_either_order_of_octets_and_as_floats_or_mu_law_is_read() {
        for (kind, octets, bits) in [
            (b"sowt", &[0x34, 0x12][..], 16u16),
            (b"twos", &[0x12, 0x34], 16),
            (b"fl32", &0.142_22f32.to_be_bytes(), 32),
            (b"sowt", &[0, 0x34, 0x12], 24),
            // The mu-law value nearest to the sample is 4,604.
            (b"ulaw", &[0xAD], 8),
        ] {
            let mut file = b"FORM\0\0\0\0AIFCCOMM\0\0\0\x18".to_vec();
            file.extend([0, 1, 0, 0, 0, 1]);
            file.extend(bits.to_be_bytes());
            // The rate 8,000 has exponent 12 and mantissa 0xFA00...
            file.extend([0x40, 0x0B, 0xFA, 0, 0, 0, 0, 0, 0, 0]);
            file.extend(kind);
            file.extend([0, 0]);
            file.extend(b"SSND\0\0\0\0\0\0\0\0\0\0\0\0");
            let length = file.len();
            file[length - 12..length - 8].copy_from_slice(&(8 + octets.len() as u32).to_be_bytes());
            file.extend(octets);
            let samples = decode(&file, None).unwrap().samples().to_vec();
            let error = (i32::from(samples[0]) - 0x1234).abs();
            assert!(error <= if kind == b"ulaw" { 128 } else { 1 }, "{kind:?} of {bits}: {samples:?}");
        }
    }

    #[test]
    fn aiff_and_gsm_files_with_wrong_lengths_are_errors() {
        let whole = include_bytes!("fixtures/sweep.aiff");
        for cut in [4, 12, 20, 38, 46, 54] {
            assert!(decode(&whole[..cut], None).is_err(), "{cut}");
        }
        for at in 0..54 {
            for value in [0, 0x7F, 0xFF] {
                let mut damaged = whole.to_vec();
                damaged[at] = value;
                // A damaged file may still be playable. The decoder only must not panic.
                let _ = decode(&damaged, None);
            }
        }
        assert!(decode(&[0xD0; 20], Some("audio/gsm")).is_err());
        let mut octets = [0u8; 33];
        for seed in 0..=255u8 {
            octets.iter_mut().enumerate().for_each(|(at, octet)| *octet = seed.wrapping_mul(at as u8 | 1));
            let mut decoder = gsm::Decoder::default();
            decoder.frame(&octets);
            decoder.frame(&[seed; 33]);
            decoder.pair(&[seed; 65]);
        }
    }
}
