//! Recordings as MP3, by LAME.

use std::fmt::Debug;
use std::io::{self, Write};

use mp3lame_encoder::{Bitrate, Builder, DualPcm, Encoder, FlushNoGap, Mode, MonoPcm, Quality};

use crate::recorded::RecordedFile;
use crate::wav;

/// Encodes a recording as MP3, 32 kbit/s a channel: a second at a time, so that memory does not grow with its length.
/// Blocks, and takes a core meanwhile. A file that is not one of our recordings is an `InvalidData` error.
pub fn encode_mp3(mut recording: RecordedFile, mut out: impl Write) -> io::Result<()> {
    let (form, mut at) = recording.form()?;
    let mut encoder = encoder(form.channels).ok_or_else(|| io::Error::other("LAME cannot be set up"))?;
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
    encoder.flush_to_vec::<FlushNoGap>(&mut encoded).map_err(refused)?;
    out.write_all(&encoded)
}

fn encoder(channels: u16) -> Option<Encoder> {
    let two = channels == 2;
    let builder = Builder::new()?.with_num_channels(channels as u8).ok()?.with_sample_rate(wav::RATE).ok()?;
    let builder = builder.with_brate(if two { Bitrate::Kbps64 } else { Bitrate::Kbps32 }).ok()?;
    // Left and right are different people: never joint.
    let builder = builder.with_mode(if two { Mode::Stereo } else { Mode::Mono }).ok()?;
    builder.with_quality(Quality::Good).ok()?.with_to_write_vbr_tag(false).ok()?.build().ok()
}

fn refused(error: impl Debug) -> io::Error {
    io::Error::other(format!("LAME: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestFile;
    use crate::wav::{Form, WavCoding};

    /// A tone, on each channel the same.
    fn recording(form: Form, seconds: usize) -> Vec<u8> {
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
    fn a_tone_comes_back_through_the_decoder() {
        for coding in [WavCoding::Pcm, WavCoding::Mulaw, WavCoding::Alaw] {
            for (channels, seconds) in [(1, 1), (2, 1), (1, 5), (2, 5)] {
                let mut encoded = Vec::new();
                encode("tone", &recording(Form { coding, channels }, seconds), &mut encoded).unwrap();
                let audio = crate::decode(&encoded, None).unwrap();
                let length = audio.samples().len();
                assert!(length.abs_diff(8_000 * seconds) < 2_400, "{channels}: {length}");
                assert!(audio.samples().iter().any(|sample| *sample > 5_000));
            }
        }
    }

    const DUAL: Form = Form { coding: WavCoding::Pcm, channels: 2 };

    #[test]
    fn what_was_cut_off_within_a_sample_is_encoded_to_there() {
        let whole = recording(DUAL, 1);
        for left in [whole.len() - 1, whole.len() - 3] {
            encode("within", &whole[..left], io::sink()).unwrap();
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let mut three = recording(DUAL, 1);
        three[22] = 3;
        for bad in [&b""[..], b"RIFF", &[0; 100], &three] {
            let error = encode("bad", bad, io::sink()).unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::InvalidData), "{error}");
        }
    }

    /// Sees to it that it is never given more than two seconds at once.
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
    fn a_long_recording_goes_through_in_small_pieces() {
        let mut encoded = Vec::new();
        encode("long", &recording(DUAL, 60), Narrow(&mut encoded)).unwrap();
        let at_64_kbit = 60 * 8_000;
        assert!(encoded.len().abs_diff(at_64_kbit) < 2_000, "{}", encoded.len());
    }
}
