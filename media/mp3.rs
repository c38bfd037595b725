//! Recordings as MP3, by LAME.

use mp3lame_encoder::{Bitrate, Builder, DualPcm, FlushNoGap, Mode, MonoPcm, Quality};

/// Encodes 8,000 Hz samples (interleaved when `channels` is 2) as MP3, 32 kbit/s a channel. Empty when LAME refuses,
/// which it does for other numbers of channels.
pub fn encode_mp3(pcm: &[i16], channels: u16) -> Vec<u8> {
    encode(pcm, channels).unwrap_or_default()
}

fn encode(pcm: &[i16], channels: u16) -> Option<Vec<u8>> {
    let two = match channels {
        1 => false,
        2 => true,
        _ => return None,
    };
    let builder = Builder::new()?.with_num_channels(channels as u8).ok()?.with_sample_rate(8_000).ok()?;
    let builder = builder.with_brate(if two { Bitrate::Kbps64 } else { Bitrate::Kbps32 }).ok()?;
    // Left and right are different people: never joint.
    let builder = builder.with_mode(if two { Mode::Stereo } else { Mode::Mono }).ok()?;
    let mut encoder = builder.with_quality(Quality::Good).ok()?.with_to_write_vbr_tag(false).ok()?.build().ok()?;
    let mut out = Vec::new();
    for part in pcm.chunks(8_000 * usize::from(channels)) {
        out.reserve(mp3lame_encoder::max_required_buffer_size(part.len()));
        if two {
            let (left, right): (Vec<i16>, Vec<i16>) =
                part.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).unzip();
            encoder.encode_to_vec(DualPcm { left: &left, right: &right }, &mut out).ok()?;
        } else {
            encoder.encode_to_vec(MonoPcm(part), &mut out).ok()?;
        }
    }
    out.reserve(mp3lame_encoder::max_required_buffer_size(8_000));
    encoder.flush_to_vec::<FlushNoGap>(&mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_tone_comes_back_through_the_decoder() {
        let pcm: Vec<i16> = (0..8_000)
            .map(|at| ((at as f32 * 440.0 * std::f32::consts::TAU / 8_000.0).sin() * 10_000.0) as i16)
            .collect();
        for channels in [1, 2] {
            let encoded = encode_mp3(&pcm, channels);
            let audio = crate::decode(&encoded, None).unwrap();
            let wanted = 8_000 / usize::from(channels);
            assert!(audio.samples().len().abs_diff(wanted) < 2_400, "{channels}: {}", audio.samples().len());
            assert!(audio.samples().iter().any(|sample| *sample > 5_000));
        }
        assert!(encode_mp3(&pcm, 3).is_empty());
    }
}
