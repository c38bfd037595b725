//! A frame of one track for taps and recorders. The audio is in the form in which it was received, or decoded.

use crate::codec::g711::Law;
use crate::rtp::FRAME;
use crate::wav::WavCoding;

/// The audio of one track for 20 ms.
#[derive(Debug)]
pub(crate) enum TrackFrame {
    Octets(Law, [u8; FRAME]),
    /// Samples at 8,000 Hz.
    Samples([i16; FRAME]),
}

impl TrackFrame {
    pub(crate) fn silence(law: Law) -> TrackFrame {
        TrackFrame::Octets(law, [law.silence(); FRAME])
    }

    pub(crate) fn octets(&self, law: Law) -> [u8; FRAME] {
        match self {
            TrackFrame::Octets(from, octets) => {
                let mut octets = *octets;
                from.transcode(law, &mut octets);
                octets
            }
            TrackFrame::Samples(samples) => {
                let mut octets = [0; FRAME];
                law.encode(samples, &mut octets);
                octets
            }
        }
    }

    pub(crate) fn samples(&self) -> [i16; FRAME] {
        match self {
            TrackFrame::Octets(law, octets) => {
                let mut samples = [0; FRAME];
                law.decode(octets, &mut samples);
                samples
            }
            TrackFrame::Samples(samples) => *samples,
        }
    }

    /// Appends the frame to `to` in the coding of a file with one channel.
    pub(crate) fn append(&self, coding: WavCoding, to: &mut Vec<u8>) {
        match (coding.law(), self) {
            (Some(law), TrackFrame::Octets(own, octets)) if *own == law => to.extend_from_slice(octets),
            (Some(law), _) => to.extend_from_slice(&self.octets(law)),
            (None, TrackFrame::Samples(samples)) => coding.encode(samples, to),
            (None, TrackFrame::Octets(..)) => coding.encode(&self.samples(), to),
        }
    }

    /// Whether the frame is digital silence.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            TrackFrame::Octets(law, octets) => *octets == [law.silence(); FRAME],
            TrackFrame::Samples(samples) => *samples == [0; FRAME],
        }
    }
}
