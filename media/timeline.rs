//! Puts RTP packets onto the media clock: any packet length, any order, gaps as silence. Recorders and taps read it.
//!
//! ```text
//!            zeroed   recorder reads        tap reads    a packet that comes now
//!  ------------|-----------|-----------|-----------|-----------|------->  samples
//!          head-320    head-160      head       head+160    (head+320)
//! ```
//!
//! A tap is 20 to 40 ms behind the wire; a recorder 40 ms more, so that packets up to 60 ms late still find their place.

use crate::codec::g711::Law;
use crate::rtp::FRAME;

/// Samples held: 512 ms. A power of two.
const RING: usize = 4_096;
/// How far the recorder reads behind the tap.
const RECORDER: u64 = 2 * FRAME as u64;
/// Where a packet that comes in time is put, ahead of the tap.
const AHEAD: u64 = FRAME as u64;
/// A packet that would lie farther ahead than this is a new timestamp origin (or a clock that runs too fast).
const FARTHEST: u64 = 2_400;
/// Frames after a recorder starts, and is stopped, until the wire of that moment reaches it.
pub(crate) const RECORDER_LAG: u8 = 3;

/// One direction's samples around now.
#[derive(Debug)]
pub(crate) struct Timeline {
    ring: Box<[i16; RING]>,
    head: u64,
    /// A timestamp and its place.
    anchor: Option<(u32, u64)>,
    /// Packets in a row that came too late.
    late: u8,
}

impl Timeline {
    pub(crate) fn new() -> Timeline {
        Timeline { ring: Box::new([0; RING]), head: RING as u64, anchor: None, late: 0 }
    }

    /// Places a packet's audio.
    pub(crate) fn write(&mut self, timestamp: u32, law: Law, octets: &[u8]) {
        let now = self.head + AHEAD;
        let (anchor, at) = *self.anchor.get_or_insert((timestamp, now));
        let oldest = self.head - RECORDER;
        let place = at.checked_add_signed(i64::from(timestamp.wrapping_sub(anchor).cast_signed()));
        let place = match place {
            Some(place) if place > now + FARTHEST => None,
            Some(place) if place + octets.len() as u64 <= oldest => {
                self.late += 1;
                // One is a straggler, which is lost; three are a peer that paused its timestamps.
                if self.late < 3 {
                    return;
                }
                None
            }
            place => place,
        };
        self.late = 0;
        let place = place.unwrap_or_else(|| {
            self.anchor = Some((timestamp, now));
            now
        });
        // The anchor follows, so that the 32-bit distance never wraps.
        self.anchor = Some((timestamp, place));
        let mut samples = [0; FRAME];
        for (index, part) in octets.chunks(FRAME).enumerate() {
            law.decode(part, &mut samples);
            let start = place + (index * FRAME) as u64;
            for (offset, sample) in samples.iter().take(part.len()).enumerate() {
                let position = start + offset as u64;
                if position >= oldest && position < self.head + RING as u64 - RECORDER {
                    self.put(position, *sample);
                }
            }
        }
    }

    /// The frame that a tap is due.
    pub(crate) fn read_tap(&self, frame: &mut [i16; FRAME]) {
        self.read(self.head, frame);
    }

    /// The frame that a recorder is due; `later` frames after that one, for what a stopped recorder still lacks.
    pub(crate) fn read_recorder(&self, later: u8, frame: &mut [i16; FRAME]) {
        self.read(self.head - RECORDER + u64::from(later) * FRAME as u64, frame);
    }

    /// Moves on by one frame.
    pub(crate) fn tick(&mut self) {
        let oldest = self.head - RECORDER;
        for position in oldest..oldest + FRAME as u64 {
            self.put(position, 0);
        }
        self.head += FRAME as u64;
    }

    fn put(&mut self, position: u64, sample: i16) {
        if let Some(place) = self.ring.get_mut(position as usize % RING) {
            *place = sample;
        }
    }

    fn read(&self, from: u64, frame: &mut [i16; FRAME]) {
        for (offset, sample) in frame.iter_mut().enumerate() {
            *sample = self.ring.get((from as usize + offset) % RING).copied().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets whose samples can be told apart.
    fn octets(number: u8) -> [u8; FRAME] {
        [0x80 + number; FRAME]
    }

    fn heard(timeline: &mut Timeline) -> u8 {
        let mut frame = [0; FRAME];
        timeline.read_recorder(0, &mut frame);
        timeline.tick();
        assert!(frame.iter().all(|sample| *sample == frame[0]), "torn frame");
        if frame[0] == 0 { 0 } else { crate::codec::g711::linear_to_ulaw(frame[0]) - 0x80 }
    }

    #[test]
    fn packets_out_of_order_within_60_ms_are_put_right_and_gaps_are_silence() {
        let mut timeline = Timeline::new();
        let mut out = Vec::new();
        // In each 20 ms, the packets that come.
        for arrivals in [&[1u8][..], &[4], &[], &[2], &[5, 6], &[7], &[], &[]] {
            for number in arrivals {
                timeline.write(u32::from(*number) * 160, Law::Mu, &octets(*number));
            }
            out.push(heard(&mut timeline));
        }
        for _ in 0..6 {
            out.push(heard(&mut timeline));
        }
        assert_eq!(out[..3], [0, 0, 0]);
        assert_eq!(out[3..10], [1, 2, 0, 4, 5, 6, 7]);
    }

    #[test]
    fn a_new_timestamp_origin_is_followed_at_once_when_ahead_and_after_two_packets_when_behind() {
        let mut timeline = Timeline::new();
        timeline.write(0, Law::Mu, &octets(1));
        timeline.tick();
        timeline.write(4_000_000_000, Law::Mu, &octets(2));
        timeline.tick();
        timeline.write(4_000_000_160, Law::Mu, &octets(3));
        timeline.tick();
        timeline.write(4_000_000_320, Law::Mu, &octets(4));
        let out: Vec<u8> = (0..6).map(|_| heard(&mut timeline)).collect();
        assert!(out.contains(&4), "{out:?}");
    }

    #[test]
    fn packets_of_30_ms_make_whole_frames() {
        let mut timeline = Timeline::new();
        let mut total = 0;
        for tick in 0..30u32 {
            // Two packets of 30 ms in three frames.
            if tick < 15 && tick % 3 != 2 {
                timeline.write((tick / 3 * 2 + tick % 3) * 240, Law::Mu, &[0x90; 240]);
            }
            let mut frame = [0; FRAME];
            timeline.read_recorder(0, &mut frame);
            total += frame.iter().filter(|sample| **sample != 0).count();
            timeline.tick();
        }
        assert_eq!(total, 10 * 240);
    }
}
