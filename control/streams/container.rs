//! Detects audio files in a stream of raw samples. Applications often send a file by mistake, and the caller would then
//! hear noise.

/// Returns the type of the file that begins with these octets. An MP3 file without a tag is detected only if the octets
/// contain two consecutive frames. The octets of one frame could also be quiet µ-law audio.
pub(super) fn container(octets: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| octets.starts_with(magic);
    if starts(b"RIFF") && octets.get(8..12) == Some(b"WAVE") {
        return Some("a WAV file");
    }
    if starts(b"OggS") {
        return Some("an Ogg file");
    }
    if starts(b"fLaC") {
        return Some("a FLAC file");
    }
    let next = mpeg_frame(octets).and_then(|length| octets.get(length..)).and_then(mpeg_frame);
    (starts(b"ID3") || next.is_some()).then_some("an MP3 file")
}

/// Returns the length in octets of the first MPEG layer III frame.
fn mpeg_frame(octets: &[u8]) -> Option<usize> {
    const MPEG1: [usize; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const MPEG2: [usize; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let [sync, kind, rates, ..] = *octets.first_chunk::<4>()?;
    let (version, layer) = (kind >> 3 & 3, kind >> 1 & 3);
    if sync != 0xff || kind < 0xe0 || version == 1 || layer != 1 {
        return None;
    }
    let (table, coefficient, divisor) = match version {
        3 => (MPEG1, 144_000, 1),
        2 => (MPEG2, 72_000, 2),
        _ => (MPEG2, 72_000, 4),
    };
    let bitrate = table.get(usize::from(rates >> 4).checked_sub(1)?)?;
    let hertz = [44_100, 48_000, 32_000].get(usize::from(rates >> 2 & 3))? / divisor;
    Some(coefficient * bitrate / hertz + usize::from(rates >> 1 & 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_formats_are_detected_by_their_headers_and_quiet_samples_have_no_format() {
        let mut mp3 = vec![0; 1_000];
        // The test file is MPEG-1 with 128 kbit/s and 44.1 kHz, so each frame has 417 octets.
        for at in [0, 417] {
            mp3[at..at + 4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x00]);
        }
        assert_eq!(container(&mp3), Some("an MP3 file"));
        assert_eq!(container(b"RIFF\0\0\0\0WAVEfmt "), Some("a WAV file"));
        assert_eq!(container(b"ID3\x04 and so on"), Some("an MP3 file"));
        assert_eq!(container(b"OggS\0"), Some("an Ogg file"));
        mp3[417] = 0;
        for raw in [&[0xff; 160][..], &mp3, b"RIFF", b"", &[0xff, 0xfb, 0x90]] {
            assert_eq!(container(raw), None, "{:?}", raw.get(..4));
        }
    }
}
