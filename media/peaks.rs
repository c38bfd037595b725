//! The loudness of a recording over its time, for a picture of the recording. This module is part of the shell (it reads a
//! file).

use std::io;

use crate::recorded::RecordedFile;

/// The octets that are read of each part of a long file.
const READ: usize = 4_096;

/// The loudness of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Peaks {
    /// The duration in seconds.
    pub seconds: f64,
    /// For each channel, the largest amplitude of each part: 0 (silence) to 100 (full scale).
    pub channels: Vec<Vec<u8>>,
}

impl RecordedFile {
    /// Reads the loudness in `points` parts of equal length. At most 4 KiB of each part are read, at its start: 0.25 s of a
    /// channel. So the time for a long recording is limited. If the file is not a recording of this server, the error is
    /// `InvalidData`.
    pub fn peaks(&mut self, points: usize) -> io::Result<Peaks> {
        let (form, start) = self.form()?;
        let data = form.whole(self.len().saturating_sub(start));
        let block = form.block();
        let seconds = form.duration(data).as_secs_f64();
        let mut channels = vec![Vec::with_capacity(points); usize::from(form.channels)];
        let (mut octets, mut samples) = (vec![0; READ - READ % block as usize], Vec::new());
        let blocks = data / block;
        for point in 0..points as u64 {
            let [from, to] = [point, point + 1].map(|edge| blocks * edge / points as u64 * block);
            let length = usize::try_from(to - from).unwrap_or(READ).min(octets.len());
            let part = octets.get_mut(..length).unwrap_or_default();
            let read = self.read_at(start + from, part)?;
            samples.clear();
            form.coding.decode(part.get(..read).unwrap_or_default(), &mut samples);
            for (number, peaks) in channels.iter_mut().enumerate() {
                let own = samples.iter().skip(number).step_by(usize::from(form.channels));
                let largest = own.map(|sample| sample.unsigned_abs()).max().unwrap_or_default();
                peaks.push((u32::from(largest) * 100).div_ceil(32_768) as u8);
            }
        }
        Ok(Peaks { seconds, channels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wav::{WavCoding, WavFormat};

    #[test]
    fn each_channel_has_the_largest_amplitude_of_each_part() {
        let form = WavFormat { coding: WavCoding::Pcm, channels: 2 };
        let mut samples = vec![0_i16; 2 * 8_000];
        samples[2 * 1_000] = 16_384;
        samples[2 * 5_000 + 1] = i16::MIN;
        let mut file = form.header(4 * 8_000).to_vec();
        file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording.wav");
        std::fs::write(&path, file).unwrap();
        let peaks = RecordedFile::open(&path, None).unwrap().peaks(8).unwrap();
        assert_eq!(peaks.seconds, 1.0);
        assert_eq!(peaks.channels, [[0, 50, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 100, 0, 0]]);
    }
}
