//! The WAV container that the engine writes: a header, then samples at 8,000 Hz.
//!
//! For linear samples the header has the usual 44 octets. For mu-law and A-law it has 58 octets: the format chunk is
//! two octets longer, and a `fact` chunk states the number of samples. The sizes in the header were correct when the
//! header was last written. If a file was cut off, for example by a crash, only the length of the file shows the real
//! size ([`WavFormat::whole`]).

use std::io;
use std::ops::{Deref, Range};
use std::time::Duration;

use serde::Deserialize;

use crate::codec::g711::Law;
use crate::rtp::FRAME;

/// The number of samples per second and channel.
pub(crate) const RATE: u32 = 8_000;
/// The length of the longest header in octets.
pub(crate) const LONGEST_HEADER: usize = 58;

/// The coding of the samples in a recording's WAV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WavCoding {
    /// 16-bit linear samples, little-endian.
    #[default]
    Pcm,
    /// G.711 mu-law, which takes half the size of linear samples.
    Mulaw,
    /// G.711 A-law, which takes half the size of linear samples.
    Alaw,
}

impl WavCoding {
    /// The number of octets per sample.
    pub(crate) fn octets(self) -> usize {
        if self == WavCoding::Pcm { 2 } else { 1 }
    }

    /// The companding law, or `None` for linear samples.
    pub(crate) fn law(self) -> Option<Law> {
        match self {
            WavCoding::Pcm => None,
            WavCoding::Mulaw => Some(Law::Mu),
            WavCoding::Alaw => Some(Law::A),
        }
    }

    /// The octet that represents silence.
    pub(crate) fn silence(self) -> u8 {
        self.law().map_or(0, Law::silence)
    }

    /// Appends samples in this coding. The function does not allocate if `to` has enough capacity.
    pub(crate) fn encode(self, samples: &[i16], to: &mut Vec<u8>) {
        let start = to.len();
        to.resize(start + samples.len() * self.octets(), 0);
        let place = to.get_mut(start..).unwrap_or_default();
        match self.law() {
            Some(law) => law.encode(samples, place),
            None => place.as_chunks_mut().0.iter_mut().zip(samples).for_each(|(pair, one)| *pair = one.to_le_bytes()),
        }
    }

    /// Decodes the octets of a file and appends the samples. An incomplete sample at the end is ignored.
    pub(crate) fn decode(self, octets: &[u8], to: &mut Vec<i16>) {
        match self.law() {
            Some(law) => {
                let start = to.len();
                to.resize(start + octets.len(), 0);
                law.decode(octets, to.get_mut(start..).unwrap_or_default());
            }
            None => to.extend(octets.as_chunks().0.iter().copied().map(i16::from_le_bytes)),
        }
    }
}

/// The coding and the number of channels of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WavFormat {
    pub(crate) coding: WavCoding,
    /// The number of channels, which is 1 or 2.
    pub(crate) channels: u16,
}

impl WavFormat {
    /// The number of octets in one sample of all channels.
    pub(crate) fn block(self) -> u64 {
        u64::from(self.channels) * self.coding.octets() as u64
    }

    /// The number of octets in 20 ms.
    pub(crate) fn frame(self) -> u64 {
        self.block() * FRAME as u64
    }

    /// Returns the number of octets to keep if a file has `data` octets of samples. The kept octets contain only whole
    /// samples. The number is even, as RIFF chunks require.
    pub(crate) fn whole(self, data: u64) -> u64 {
        data - data % self.block().max(2)
    }

    /// Returns the duration of `data` octets of samples.
    pub(crate) fn duration(self, data: u64) -> Duration {
        Duration::from_micros(data / self.block().max(1) * 125)
    }

    /// Returns the header of a file with `data` octets of samples.
    pub(crate) fn header(self, data: u64) -> Header {
        let mut header = Header { octets: [0; LONGEST_HEADER], length: 0 };
        let law = self.coding != WavCoding::Pcm;
        let rest: u32 = if law { 50 } else { 36 };
        // The header of a file over 4 GiB has the largest possible size. Players then read to the end of the file.
        let data = u32::try_from(data).unwrap_or(u32::MAX - rest).min(u32::MAX - rest);
        let (block, bits) = (self.block() as u32, 8 * self.coding.octets() as u16);
        let tag: u16 = match self.coding {
            WavCoding::Pcm => 1,
            WavCoding::Alaw => 6,
            WavCoding::Mulaw => 7,
        };
        header.put(b"RIFF");
        header.put(&(data + rest).to_le_bytes());
        header.put(b"WAVEfmt ");
        header.put(&if law { 18u32 } else { 16 }.to_le_bytes());
        header.put(&tag.to_le_bytes());
        header.put(&self.channels.to_le_bytes());
        header.put(&RATE.to_le_bytes());
        header.put(&(RATE * block).to_le_bytes());
        header.put(&(block as u16).to_le_bytes());
        header.put(&bits.to_le_bytes());
        if law {
            header.put(&[0; 2]);
            header.put(b"fact\x04\0\0\0");
            header.put(&(data / block.max(1)).to_le_bytes());
        }
        header.put(b"data");
        header.put(&data.to_le_bytes());
        header
    }

    /// Reads the header of a file. A header that the engine did not write is an `InvalidData` error.
    pub(crate) fn parse(start: &[u8]) -> io::Result<WavFormat> {
        let codings = [WavCoding::Pcm, WavCoding::Mulaw, WavCoding::Alaw];
        let forms = codings.into_iter().flat_map(|coding| [1, 2].map(|channels| WavFormat { coding, channels }));
        forms.into_iter().find(|form| form.wrote(start)).ok_or_else(not_ours)
    }

    /// Whether the start of a file is a header of this format. The sizes are not compared, because they are wrong in a
    /// file that was cut off.
    fn wrote(self, start: &[u8]) -> bool {
        let ours = self.header(0);
        let fixed: &[Range<usize>] = if ours.len() == LONGEST_HEADER { &[0..4, 8..46, 50..54] } else { &[0..4, 8..40] };
        start.len() >= ours.len() && fixed.iter().all(|range| ours.get(range.clone()) == start.get(range.clone()))
    }
}

/// The header of a WAV file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    octets: [u8; LONGEST_HEADER],
    length: usize,
}

impl Header {
    fn put(&mut self, octets: &[u8]) {
        let places = self.octets.iter_mut().skip(self.length);
        places.zip(octets).for_each(|(place, octet)| *place = *octet);
        self.length += octets.len();
    }
}

impl Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or(&self.octets)
    }
}

fn not_ours() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a recording of this server (PCM, mu-law or A-law WAV at 8,000 Hz)")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [WavFormat; 6] = [
        WavFormat { coding: WavCoding::Pcm, channels: 1 },
        WavFormat { coding: WavCoding::Pcm, channels: 2 },
        WavFormat { coding: WavCoding::Mulaw, channels: 1 },
        WavFormat { coding: WavCoding::Mulaw, channels: 2 },
        WavFormat { coding: WavCoding::Alaw, channels: 1 },
        WavFormat { coding: WavCoding::Alaw, channels: 2 },
    ];

    #[test]
    fn a_header_is_read_with_any_sizes() {
        for form in FORMS {
            for data in [0, 640, 5 << 30] {
                assert_eq!(WavFormat::parse(&form.header(data)).unwrap(), form);
                assert!(WavFormat::parse(&form.header(data)[..43]).is_err());
            }
        }
        assert!(WavFormat::parse(b"RIFF0000WAVEfmt something else that is no recording of ours at all").is_err());
    }

    #[test]
    fn every_header_is_read_back_unchanged() {
        let written: Vec<i16> = (-160..160).map(|at| at * 100).collect();
        for form in FORMS {
            let mut file = form.header(written.len() as u64 * form.coding.octets() as u64).to_vec();
            form.coding.encode(&written, &mut file);
            let heard = crate::read_wav(&file).unwrap();
            assert_eq!(heard.samples().len(), written.len() / usize::from(form.channels), "{form:?}");
            let mut samples = Vec::new();
            form.coding.decode(&file[form.header(0).len()..], &mut samples);
            for (written, heard) in written.iter().zip(&samples) {
                assert!(written.abs_diff(*heard) <= written.unsigned_abs() / 20 + 8, "{form:?}: {written} {heard}");
            }
        }
    }
}
