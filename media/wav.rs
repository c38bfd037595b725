//! The WAV container as we write it: 44 octets of header, then 16-bit PCM at 8,000 Hz.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

/// Octets before the first sample.
pub(crate) const HEADER: u64 = 44;
/// Samples a second.
pub(crate) const RATE: u32 = 8_000;

/// A header for `data` octets of samples.
pub(crate) fn header(channels: u16, data: u64) -> [u8; HEADER as usize] {
    // A file past 4 GiB keeps the largest size there is; players then read to the end of the file.
    let data = u32::try_from(data).unwrap_or(u32::MAX - 36).min(u32::MAX - 36);
    let block = channels * 2;
    let mut out = [0; HEADER as usize];
    let parts: [&[u8]; 13] = [
        b"RIFF",
        &(data + 36).to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16u32.to_le_bytes(),
        &1u16.to_le_bytes(),
        &channels.to_le_bytes(),
        &RATE.to_le_bytes(),
        &(RATE * u32::from(block)).to_le_bytes(),
        &block.to_le_bytes(),
        &16u16.to_le_bytes(),
        b"data",
        &data.to_le_bytes(),
    ];
    let mut places = out.iter_mut();
    for octet in parts.into_iter().flatten() {
        if let Some(place) = places.next() {
            *place = *octet;
        }
    }
    out
}

/// Makes a recording valid that was cut off (kill -9, power): sets its sizes from the file's length and drops half a
/// sample at the end. Returns its duration. A file that is not one of our recordings is an `InvalidData` error and is
/// left alone.
pub fn repair_wav(path: &Path) -> io::Result<Duration> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut found = [0; HEADER as usize];
    file.read_exact(&mut found)?;
    let channels = channels(&found)?;
    let data = file.metadata()?.len().saturating_sub(HEADER);
    let whole = data - data % (u64::from(channels) * 2);
    file.set_len(HEADER + whole)?;
    file.write_all_at(&header(channels, whole), 0)?;
    file.sync_all()?;
    Ok(duration(whole, channels))
}

/// How many channels a recording has, by its header. One that we did not write is an `InvalidData` error.
pub(crate) fn channels(found: &[u8; HEADER as usize]) -> io::Result<u16> {
    let channels = u16::from_le_bytes([found[22], found[23]]);
    // All but the two sizes, which are wrong in a file that was cut off.
    let ours = header(channels.clamp(1, 2), 0);
    let same = |range: std::ops::Range<usize>| ours.get(range.clone()) == found.get(range);
    if same(0..4) && same(8..40) { Ok(channels) } else { Err(not_ours()) }
}

/// Of `data` octets of samples.
pub(crate) fn duration(data: u64, channels: u16) -> Duration {
    Duration::from_micros(data / (u64::from(channels.max(1)) * 2) * 125)
}

/// Cuts leading and trailing silence out of a finished recording; one of nothing but silence stays whole. Works in place, a
/// block at a time. Returns the octets of samples left.
pub(crate) fn trim(file: &File, channels: u16, data: u64) -> io::Result<u64> {
    let block = u64::from(channels) * 2 * 160;
    let mut buffer = vec![0; block as usize];
    let mut loud: Option<(u64, u64)> = None;
    let mut at = 0;
    while at + block <= data {
        file.read_exact_at(&mut buffer, HEADER + at)?;
        let samples: Vec<i16> = buffer.as_chunks().0.iter().copied().map(i16::from_le_bytes).collect();
        // Each channel by itself: one silent side must not hide the other.
        let silent = samples.chunks_exact(160 * usize::from(channels)).all(|frame| {
            (0..usize::from(channels)).all(|channel| {
                let one: Vec<i16> = frame.iter().skip(channel).step_by(channels.into()).copied().collect();
                crate::recorder::is_silent(&one)
            })
        });
        if !silent {
            loud = Some((loud.map_or(at, |(first, _)| first), at + block));
        }
        at += block;
    }
    let Some((first, end)) = loud else { return Ok(data) };
    let mut from = first;
    while from < end && first > 0 {
        file.read_exact_at(&mut buffer, HEADER + from)?;
        file.write_all_at(&buffer, HEADER + from - first)?;
        from += block;
    }
    let left = end - first;
    file.set_len(HEADER + left)?;
    Ok(left)
}

fn not_ours() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a recording of ours: 16-bit PCM WAV at 8,000 Hz")
}
