//! The position of the stream on the media clock, and the lateness of packets. The least transit time of the last
//! seconds determines the position. So jitter does not shift the position, but clock drift does.

use super::ring::Position;
use crate::engine::TICK;

/// The number of sub-windows for which a minimum is stored. All sub-windows together cover the packets of 4 s.
const WINDOWS: usize = 8;
/// The number of sub-windows per second.
const PARTS: i64 = 2;
/// The precision in ms with which the arrival time of a packet is known. It is the length of one tick of the worker.
const TICK_MS: i64 = TICK.as_millis() as i64;
/// The number of classes in the histogram of lateness. A class covers 4 ms. The last class also contains all later
/// packets.
const CLASSES: usize = 64;
const CLASSES_A_SECOND: i64 = 250;
/// The number of counted packets at which all counts are halved.
const MEMORY: u16 = 512;
/// The number of counted packets among which one packet may be later than the tolerated lateness. In addition, one more
/// packet may always be later.
const SPARED: u32 = 64;
/// The longest time in seconds between two packets that are too late and together raise the tolerated lateness.
const PAIR_SECONDS: i64 = 2;

/// The transit times of a stream.
#[derive(Debug)]
pub(super) struct Transit {
    rate: i64,
    minima: [i64; WINDOWS],
    window: usize,
    window_began: i64,
    /// The minimum of `minima`. For a packet without delay, this is the difference between the arrival time and the
    /// position in the stream.
    least: Option<i64>,
    classes: [u16; CLASSES],
    counted: u16,
    /// The clock value at which a packet was last too late, and the lateness of this packet.
    last_late: Option<(i64, i64)>,
    /// The lateness in samples for which live readers wait.
    tolerated: i64,
}

impl Transit {
    pub(super) fn new(rate: u32) -> Transit {
        Transit {
            rate: rate.into(),
            minima: [i64::MAX; WINDOWS],
            window: 0,
            window_began: 0,
            least: None,
            classes: [0; CLASSES],
            counted: 0,
            last_late: None,
            tolerated: 0,
        }
    }

    pub(super) fn least(&self) -> Option<i64> {
        self.least
    }

    /// The lateness in samples, compared with the least transit time. Nearly all packets have at most this lateness.
    pub(super) fn tolerated(&self) -> i64 {
        self.tolerated
    }

    /// Counts a packet that arrived at `clock` and has the position `place` in the stream. Returns the packet's
    /// lateness in samples.
    pub(super) fn observe(&mut self, clock: i64, place: Position) -> i64 {
        let transit = clock - place;
        // A pause counts as one sub-window, so that the minimum from before the pause is not lost.
        let over = clock - self.window_began >= self.rate / PARTS;
        if over {
            self.window_began = clock;
            self.window = (self.window + 1) % WINDOWS;
        }
        if let Some(minimum) = self.minima.get_mut(self.window) {
            *minimum = if over { transit } else { transit.min(*minimum) };
        }
        let before = self.least.unwrap_or(transit);
        let least = if over { self.least_of_windows(before) } else { before.min(transit) };
        self.least = Some(least);
        if least != before {
            self.shift(before - least);
        }
        let late = transit - least;
        let class = (late as u32 / (self.rate / CLASSES_A_SECOND) as u32) as usize;
        if let Some(class) = self.classes.get_mut(class.min(CLASSES - 1)) {
            *class += 1;
        }
        self.counted += 1;
        if self.counted >= MEMORY {
            self.counted = 0;
            for class in &mut self.classes {
                *class /= 2;
                self.counted += *class;
            }
        }
        if over {
            self.tolerated = self.high_lateness();
        }
        late
    }

    /// Returns the minimum of all sub-windows. Arrival times are precise only to one tick, so the minimum can change
    /// back and forth by one tick. If the minimum has risen by at most one tick, the result is `before`.
    fn least_of_windows(&self, before: i64) -> i64 {
        let least = self.minima.iter().copied().min().unwrap_or(before);
        if (before..=before + self.rate * TICK_MS / 1_000).contains(&least) { before } else { least }
    }

    /// Handles a packet that arrived after its reader had passed the packet's position. A single such packet may be an
    /// accident. After two such packets within a short time, the tolerated lateness rises.
    pub(super) fn too_late(&mut self, clock: i64, late: i64) {
        if let Some((at, before)) = self.last_late.replace((clock, late))
            && clock - at < PAIR_SECONDS * self.rate
        {
            self.tolerated = self.tolerated.max(late.min(before) + self.rate / CLASSES_A_SECOND);
        }
    }

    /// Adds `by` to the lateness of all packets that have been counted, because the least transit time has changed.
    fn shift(&mut self, by: i64) {
        let classes = by * CLASSES_A_SECOND / self.rate;
        let count = (classes.unsigned_abs() as usize).min(CLASSES);
        if count == 0 {
            return;
        }
        // Counts that would leave the histogram go to its first or last class.
        let mut shifted = [0; CLASSES];
        for (class, packets) in self.classes.iter().enumerate() {
            let to = if classes > 0 { (class + count).min(CLASSES - 1) } else { class.saturating_sub(count) };
            if let Some(to) = shifted.get_mut(to) {
                *to += *packets;
            }
        }
        self.classes = shifted;
        self.tolerated = self.high_lateness();
    }

    /// Returns the lateness in samples below which nearly all packets arrived.
    fn high_lateness(&self) -> i64 {
        let mut spared = u32::from(self.counted) / SPARED + 1;
        for (class, packets) in self.classes.iter().enumerate().rev() {
            if u32::from(*packets) > spared {
                return (class as i64 + 1) * self.rate / CLASSES_A_SECOND;
            }
            spared -= u32::from(*packets);
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_transit_follows_drift_and_not_jitter() {
        for drift in [-300i64, 300] {
            let mut transit = Transit::new(8_000);
            for packet in 0..20_000i64 {
                let place = packet * 160;
                // The far end's clock differs by `drift` ppm, and each packet is up to 30 ms late.
                let sent = place + place * drift / 1_000_000;
                let late = (packet as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                transit.observe(sent + ((late * 240) >> 32) as i64, place);
                let off = transit.least().unwrap() - (sent - place);
                // While the transit time grows, the minimum is up to one tick too low.
                assert!(packet < 300 || (-56..16).contains(&off), "{off} samples at {packet}");
            }
            assert!((240..=280).contains(&transit.tolerated()), "{}", transit.tolerated());
        }
    }

    #[test]
    fn packets_read_in_varying_ticks_do_not_shift_the_stream() {
        let mut transit = Transit::new(8_000);
        // The arrival time alternates between two ticks every 500 packets (10 s).
        for packet in 0..3_000i64 {
            transit.observe(packet * 160 + packet / 500 % 2 * 40, packet * 160);
            assert_eq!(transit.least(), Some(0), "{packet}");
        }
    }

    #[test]
    fn one_late_packet_does_not_increase_the_delay_and_two_do() {
        let mut transit = Transit::new(8_000);
        for packet in 0..200 {
            transit.observe(packet * 160 + if packet == 100 { 800 } else { 0 }, packet * 160);
        }
        assert!(transit.tolerated() <= 32);
        transit.too_late(32_000, 800);
        assert!(transit.tolerated() <= 32);
        transit.too_late(33_000, 640);
        assert_eq!(transit.tolerated(), 672);
    }

    #[test]
    fn a_longer_network_delay_shifts_the_stream_and_keeps_the_jitter() {
        let mut transit = Transit::new(8_000);
        for packet in 0..1_000 {
            transit.observe(packet * 160 + if packet < 400 { 0 } else { 560 }, packet * 160);
        }
        assert_eq!(transit.least(), Some(560));
        assert!(transit.tolerated() <= 32, "{}", transit.tolerated());
    }
}
