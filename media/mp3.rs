//! Encodes recordings as MP3 with LAME.

use std::fmt::Debug;
use std::io::{self, Write};

use mp3lame_encoder::{Bitrate, Builder, DualPcm, Encoder, FlushGap, Mode, MonoPcm, Quality};

use crate::recorded::RecordedFile;
use crate::wav;

/// The bit rate of each channel in kbit/s.
const KBIT_A_CHANNEL: u16 = 32;
/// The number of samples in a frame of MPEG-2.5 layer III.
const FRAME: u64 = 576;
/// The number of samples of silence that LAME adds before the audio (`ENCDELAY` in LAME's `encoder.h`).
const DELAY: u64 = 576;

/// Encodes a recording as MP3 with 32 kbit/s per channel. The encoder works on one second of audio at a time, so its
/// memory use does not depend on the recording's length. LAME adds silence at the start and at the end. The first frame
/// states the length of this silence, so that a player plays exactly the recording's samples. The call blocks and uses
/// one CPU core. If the file is not a recording of this server, the error is `InvalidData`.
pub fn encode_mp3(mut recording: RecordedFile, mut out: impl Write) -> io::Result<()> {
    let (form, mut at) = recording.form()?;
    let mut encoder = encoder(form.channels).ok_or_else(|| io::Error::other("cannot set up the LAME encoder"))?;
    let samples = recording.len().saturating_sub(at) / form.block();
    out.write_all(&info_frame(form.channels == 2, samples))?;
    let mut second = vec![0; wav::RATE as usize * form.block() as usize];
    let mut samples = Vec::with_capacity(wav::RATE as usize * usize::from(form.channels));
    let mut encoded = Vec::with_capacity(mp3lame_encoder::max_required_buffer_size(samples.capacity()));
    loop {
        let read = recording.read_at(at, &mut second)?;
        at += read as u64;
        samples.clear();
        form.coding.decode(second.get(..read).unwrap_or_default(), &mut samples);
        if form.channels == 2 {
            let (left, right): (Vec<i16>, Vec<i16>) =
                samples.as_chunks().0.iter().map(|&[left, right]| (left, right)).unzip();
            encoder.encode_to_vec(DualPcm { left: &left, right: &right }, &mut encoded).map_err(refused)?;
        } else {
            encoder.encode_to_vec(MonoPcm(&samples), &mut encoded).map_err(refused)?;
        }
        out.write_all(&encoded)?;
        encoded.clear();
        if read < second.len() {
            break;
        }
    }
    encoder.flush_to_vec::<FlushGap>(&mut encoded).map_err(refused)?;
    out.write_all(&encoded)
}

fn encoder(channels: u16) -> Option<Encoder> {
    let two = channels == 2;
    let builder = Builder::new()?.with_num_channels(channels as u8).ok()?.with_sample_rate(wav::RATE).ok()?;
    let builder = builder.with_brate(if two { Bitrate::Kbps64 } else { Bitrate::Kbps32 }).ok()?;
    // The left and right channels are different speakers, so joint stereo is not used.
    let builder = builder.with_mode(if two { Mode::Stereo } else { Mode::Mono }).ok()?;
    builder.with_quality(Quality::Good).ok()?.with_to_write_vbr_tag(false).ok()?.build().ok()
}

/// Returns the size of the MP3 file of a recording with this number of samples in each channel, in octets. The bit rate
/// is constant.
pub fn mp3_octets(channels: u16, samples: u64) -> u64 {
    let frames = samples.saturating_add(DELAY + padding(samples)) / FRAME;
    (frames + 1).saturating_mul(frame_octets(channels) as u64)
}

/// Returns the samples of silence at the end of a file. LAME pads the last frame. If the padding was shorter than a
/// frame, LAME adds another frame.
fn padding(samples: u64) -> u64 {
    let padding = FRAME - samples.saturating_add(DELAY) % FRAME;
    if padding < FRAME { padding + FRAME } else { padding }
}

fn frame_octets(channels: u16) -> usize {
    72 * usize::from(KBIT_A_CHANNEL * channels) * 1_000 / wav::RATE as usize
}

/// Returns the first frame: Xing's "Info" tag with LAME's extension, in the form that LAME writes (`VbrTag.c`). A
/// decoder plays this frame as silence. LAME itself writes the content of this frame at the end of the encoding. This
/// server cannot do that, because an encrypted file cannot be changed after it was written. So this function computes
/// the content in advance. This is possible because the bit rate is constant.
fn info_frame(two: bool, samples: u64) -> Vec<u8> {
    let channels = if two { 2 } else { 1 };
    let kbit = KBIT_A_CHANNEL * channels;
    let length = frame_octets(channels);
    let padding = padding(samples);
    let frames = (samples + DELAY + padding) / FRAME;
    let long = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let octets = long(mp3_octets(channels, samples));
    // The header says: MPEG-2.5 layer III without a checksum, 32 or 64 kbit/s, 8 kHz, mono or stereo, original.
    let header = if two { [0xff, 0xe3, 0x88, 0x04] } else { [0xff, 0xe3, 0x48, 0xc4] };
    let mut frame = Vec::with_capacity(length);
    frame.extend(header);
    frame.resize(header.len() + if two { 17 } else { 9 }, 0);
    // The next fields are the number of frames, the number of octets, the offset of each hundredth of the file (in
    // 1/256), and the quality.
    frame.extend(*b"Info\0\0\0\x0f");
    frame.extend(long(frames));
    frame.extend(octets);
    frame.extend((0..100_u16).map(|hundredth| (hundredth * 256 / 100) as u8));
    frame.extend(long(0));
    // Players trust the next fields only if the encoder's name has this form. The fields are: revision 0, constant bit
    // rate, no low-pass, no gains, no flags.
    frame.extend(*b"LAME3.100\x01\0\0\0\0\0\0\0\0\0\0");
    frame.push(kbit as u8);
    // Delay and padding are two fields of 12 bits.
    frame.extend(long(DELAY << 12 | padding).into_iter().skip(1));
    frame.extend([0; 4]);
    frame.extend(octets);
    frame.extend([0; 2]);
    frame.extend(crc(&frame).to_be_bytes());
    frame.resize(length, 0);
    frame
}

/// Returns the CRC-16 of the octets. The polynomial is 0x8005 in reflected form, and the initial value is 0.
fn crc(octets: &[u8]) -> u16 {
    octets.iter().fold(0, |crc, octet| {
        (0..8).fold(crc ^ u16::from(*octet), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

fn refused(error: impl Debug) -> io::Error {
    io::Error::other(format!("LAME: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestFile;
    use crate::wav::{WavCoding, WavFormat};

    /// Returns a recording of a tone. All channels have the same samples.
    fn recording(form: WavFormat, seconds: usize) -> Vec<u8> {
        let tone = |at: usize| ((at as f32 * 440.0 * std::f32::consts::TAU / 8_000.0).sin() * 10_000.0) as i16;
        let frames = 8_000 * seconds;
        let mut file = form.header(frames as u64 * form.block()).to_vec();
        let samples: Vec<i16> = (0..frames).flat_map(|at| vec![tone(at); form.channels.into()]).collect();
        form.coding.encode(&samples, &mut file);
        file
    }

    fn encode(name: &str, octets: &[u8], out: impl Write) -> io::Result<()> {
        let file = TestFile::new(name);
        std::fs::write(&file.0, octets).unwrap();
        encode_mp3(RecordedFile::open(&file.0, None).unwrap(), out)
    }

    #[test]
    fn a_tone_is_decoded_from_its_mp3() {
        for coding in [WavCoding::Pcm, WavCoding::Mulaw, WavCoding::Alaw] {
            for (channels, seconds) in [(1, 1), (2, 1), (1, 5), (2, 5)] {
                let mut encoded = Vec::new();
                encode("tone", &recording(WavFormat { coding, channels }, seconds), &mut encoded).unwrap();
                let audio = crate::decode(&encoded, None).unwrap();
                assert_eq!(audio.samples().len(), 8_000 * seconds, "{channels}");
                assert!(audio.samples().iter().any(|sample| *sample > 5_000));
            }
        }
    }

    /// Returns the amplitude of the sine wave with the frequency `hertz` in the samples.
    fn amplitude(samples: &[i16], hertz: f32) -> f32 {
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (at, sample) in samples.iter().enumerate() {
            let phase = at as f32 * hertz * std::f32::consts::TAU / 8_000.0;
            sine += f32::from(*sample) * phase.sin();
            cosine += f32::from(*sample) * phase.cos();
        }
        sine.hypot(cosine) * 2.0 / samples.len() as f32
    }

    /// Returns a recording of two tones. 500 Hz lasts for 2 s. Then 1,500 Hz lasts for 160 ms plus `more` samples.
    fn two_tones(channels: u16, more: usize) -> Vec<u8> {
        let tone = |at: usize, hertz: f32| (at as f32 * hertz * std::f32::consts::TAU / 8_000.0).sin() * 10_000.0;
        let samples = (0..17_280 + more).map(|at| tone(at, if at < 16_000 { 500.0 } else { 1_500.0 }) as i16);
        let samples: Vec<i16> = samples.flat_map(|sample| vec![sample; channels.into()]).collect();
        let form = WavFormat { coding: WavCoding::Pcm, channels };
        let mut file = form.header(samples.len() as u64 * 2).to_vec();
        form.coding.encode(&samples, &mut file);
        file
    }

    #[test]
    fn the_mp3_contains_the_end_of_a_recording_and_keeps_all_positions() {
        // The cases fill the last frame to different degrees.
        for (channels, more) in [(1, 0), (2, 0), (1, 1), (1, 287), (2, 575), (1, 576)] {
            let mut encoded = Vec::new();
            encode("end", &two_tones(channels, more), &mut encoded).unwrap();
            let audio = crate::decode(&encoded, None).unwrap();
            let samples = audio.samples();
            assert_eq!(samples.len(), 17_280 + more, "{channels}");
            for (range, there, not_there) in [
                (80..400, 500.0, 1_500.0),
                (15_600..15_920, 500.0, 1_500.0),
                (16_080..16_400, 1_500.0, 500.0),
                (16_880..17_200, 1_500.0, 500.0),
            ] {
                let part = &samples[range.clone()];
                let (loud, quiet) = (amplitude(part, there), amplitude(part, not_there));
                assert!(loud > 7_000.0 && quiet < 1_500.0, "{channels}, {range:?}: {loud}, {quiet}");
            }
        }
    }

    #[test]
    fn the_first_mp3_frame_has_the_kind_and_the_number_of_the_others() {
        for channels in [1, 2] {
            for samples in [0, 1, 575, 576, 577, 8_000] {
                let form = WavFormat { coding: WavCoding::Pcm, channels };
                let mut file = form.header(samples * form.block()).to_vec();
                file.resize(file.len() + (samples * form.block()) as usize, 0);
                let mut encoded = Vec::new();
                encode("first", &file, &mut encoded).unwrap();
                let length = if channels == 2 { 576 } else { 288 };
                let frames: Vec<&[u8]> = encoded.chunks(length).collect();
                assert_eq!(frames[0][..4], frames[1][..4]);
                let tag = if channels == 2 { 21 } else { 13 };
                assert_eq!(frames[0][tag..tag + 4], *b"Info");
                let stated = u32::from_be_bytes(frames[0][tag + 8..tag + 12].try_into().unwrap());
                assert_eq!((stated as usize, encoded.len() % length), (frames.len() - 1, 0), "{samples}");
                assert_eq!(encoded.len() as u64, mp3_octets(channels, samples), "{samples}");
            }
        }
    }

    const DUAL: WavFormat = WavFormat { coding: WavCoding::Pcm, channels: 2 };

    #[test]
    fn a_file_truncated_within_a_sample_is_encoded_up_to_this_sample() {
        let whole = recording(DUAL, 1);
        for left in [whole.len() - 1, whole.len() - 3] {
            encode("within", &whole[..left], io::sink()).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_not_a_recording_is_refused() {
        let mut three = recording(DUAL, 1);
        three[22] = 3;
        for bad in [&b""[..], b"RIFF", &[0; 100], &three] {
            let error = encode("bad", bad, io::sink()).unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::InvalidData), "{error}");
        }
    }

    /// A writer that asserts that each write has at most 64,000 octets.
    struct Narrow<T>(T);

    impl<T: Write> Write for Narrow<T> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            assert!(buffer.len() <= 64_000, "{} octets at once", buffer.len());
            self.0.write(buffer)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    #[test]
    fn a_long_recording_is_encoded_in_small_pieces() {
        let mut encoded = Vec::new();
        encode("long", &recording(DUAL, 60), Narrow(&mut encoded)).unwrap();
        let at_64_kbit = 60 * 8_000;
        // The file has at most four additional frames: the first frame, LAME's delay, and the padding of the last two
        // frames.
        assert!((1..=4 * 576).contains(&(encoded.len() - at_64_kbit)), "{}", encoded.len());
    }
}
