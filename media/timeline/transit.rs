//! How the stream lies on the media clock: the least transit of the last seconds, by which jitter does not shift it and a
//! clock's drift is followed, and how much later than that packets come.

use super::ring::Position;
use crate::engine::TICK;

/// Sub-windows whose minima are kept: 4 s of packets together.
const WINDOWS: usize = 8;
/// A sub-window is this part of a second.
const PARTS: i64 = 2;
/// A packet's arrival is known to a worker's tick.
const TICK_MS: i64 = TICK.as_millis() as i64;
/// Classes of lateness, 4 ms each; the last takes all that is later.
const CLASSES: usize = 64;
const CLASSES_A_SECOND: i64 = 250;
/// Packets after which what was counted before weighs half.
const MEMORY: u16 = 512;
/// Of the packets counted one in so many may be later than what is waited for, and one more.
const SPARED: u32 = 64;
/// Two packets that come too late within so many seconds make a reader wait longer.
const PAIR_SECONDS: i64 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Transit {
    rate: i64,
    minima: [i64; WINDOWS],
    window: usize,
    window_began: i64,
    /// The least of `minima`: the clock, less the place in the stream, of a packet that was not held up.
    least: Option<i64>,
    classes: [u16; CLASSES],
    counted: u16,
    /// When the last packet came too late, and how late.
    last_late: Option<(i64, i64)>,
    /// Lateness waited for, in samples.
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

    /// By how much more than the least transit packets come late, but for the few latest. In samples.
    pub(super) fn tolerated(&self) -> i64 {
        self.tolerated
    }

    /// Counts a packet for `place` that came at `clock`; gives its lateness.
    pub(super) fn observe(&mut self, clock: i64, place: Position) -> i64 {
        let transit = clock - place;
        // A pause is one sub-window, so that the least before it still counts.
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
            self.tolerated = self.most();
        }
        late
    }

    /// When a packet came is known to a tick. Where packets come about when ticks do, the least of them goes to and fro by one, so
    /// it grows only by more than that.
    fn least_of_windows(&self, before: i64) -> i64 {
        let least = self.minima.iter().copied().min().unwrap_or(before);
        if (before..=before + self.rate * TICK_MS / 1_000).contains(&least) { before } else { least }
    }

    /// A packet came after its reader had passed. Two of them soon after each other are not chance.
    pub(super) fn too_late(&mut self, clock: i64, late: i64) {
        if let Some((at, before)) = self.last_late.replace((clock, late))
            && clock - at < PAIR_SECONDS * self.rate
        {
            self.tolerated = self.tolerated.max(late.min(before) + self.rate / CLASSES_A_SECOND);
        }
    }

    /// The least transit has changed: what was counted late was by so much more.
    fn shift(&mut self, by: i64) {
        let classes = by * CLASSES_A_SECOND / self.rate;
        let count = (classes.unsigned_abs() as usize).min(CLASSES);
        if count == 0 {
            return;
        }
        // What falls off an end stays in the last class there.
        let mut shifted = [0; CLASSES];
        for (class, packets) in self.classes.iter().enumerate() {
            let to = if classes > 0 { (class + count).min(CLASSES - 1) } else { class.saturating_sub(count) };
            if let Some(to) = shifted.get_mut(to) {
                *to += *packets;
            }
        }
        self.classes = shifted;
        self.tolerated = self.most();
    }

    /// The lateness below which nearly all packets came.
    fn most(&self) -> i64 {
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
    fn the_least_transit_follows_drift_both_ways_and_no_jitter() {
        for drift in [-300i64, 300] {
            let mut transit = Transit::new(8_000);
            for packet in 0..20_000i64 {
                let place = packet * 160;
                // The peer's clock differs by `drift` millionths; every packet is up to 30 ms late.
                let sent = place + place * drift / 1_000_000;
                let late = (packet as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                transit.observe(sent + ((late * 240) >> 32) as i64, place);
                let off = transit.least().unwrap() - (sent - place);
                // Behind by up to a tick, when the way becomes longer.
                assert!(packet < 300 || (-56..16).contains(&off), "{off} samples at {packet}");
            }
            assert!((240..=280).contains(&transit.tolerated()), "{}", transit.tolerated());
        }
    }

    #[test]
    fn packets_that_are_seen_now_by_one_tick_now_by_the_next_do_not_move_the_stream() {
        let mut transit = Transit::new(8_000);
        // For seconds by the one, for seconds by the other.
        for packet in 0..3_000i64 {
            transit.observe(packet * 160 + packet / 500 % 2 * 40, packet * 160);
            assert_eq!(transit.least(), Some(0), "{packet}");
        }
    }

    #[test]
    fn one_packet_that_comes_late_is_not_waited_for_but_two_are() {
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
    fn after_a_longer_way_is_taken_the_stream_lies_later_and_jitter_is_what_it_was() {
        let mut transit = Transit::new(8_000);
        for packet in 0..1_000 {
            transit.observe(packet * 160 + if packet < 400 { 0 } else { 560 }, packet * 160);
        }
        assert_eq!(transit.least(), Some(560));
        assert!(transit.tolerated() <= 32, "{}", transit.tolerated());
    }
}
