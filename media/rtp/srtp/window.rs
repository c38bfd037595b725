//! The packet indices of a stream, and the replay window (RFC 3711 §3.3.1, §3.3.2).

use serde::{Deserialize, Serialize};

/// The size of the replay window in packets. Older packets are refused.
const WIDTH: u64 = 128;
/// The highest number of packets of a stream under one key (§9.2).
const MAX_INDEX: u64 = 1 << 48;

/// The estimated index of a packet. The lower 16 bits are the sequence number, and the upper bits are the roll-over
/// counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Guess(u64);

impl Guess {
    pub(super) fn of(index: u64) -> Guess {
        Guess(index)
    }

    pub(super) fn index(self) -> u64 {
        self.0
    }

    /// Returns the index whose lower 16 bits are `sequence`. Of all these indices, it is the index that is nearest to
    /// `self`.
    pub(super) fn follow(self, sequence: u16) -> Guess {
        let distance = sequence.wrapping_sub(self.0 as u16).cast_signed();
        // Before the first wrap, the distance must not lead below index 0.
        Guess(self.0.checked_add_signed(distance.into()).unwrap_or(sequence.into()))
    }
}

/// The newest index that was received, and a record of the received indices before the newest index.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Window {
    newest: Option<Guess>,
    /// Bit n is set if the index n below the newest index was received.
    seen: u128,
}

impl Window {
    pub(super) fn newest(&self) -> Option<Guess> {
        self.newest
    }

    /// Returns the estimated index of a packet with this sequence number. Returns `None` if this index is above the
    /// highest number of packets for a key.
    pub(super) fn guess(&self, sequence: u16) -> Option<Guess> {
        let guess = self.newest.map_or(Guess(sequence.into()), |newest| newest.follow(sequence));
        (guess.0 < MAX_INDEX).then_some(guess)
    }

    /// Whether this index is new. Returns false if the index was received before, or if the index is too old to check.
    pub(super) fn is_new(&self, index: Guess) -> bool {
        let Some(newest) = self.newest else { return true };
        match newest.0.checked_sub(index.0) {
            None => true,
            Some(behind) if behind >= WIDTH => false,
            Some(behind) => self.seen & (1 << behind) == 0,
        }
    }

    /// Marks an index as received.
    pub(super) fn note(&mut self, index: Guess) {
        let newest = *self.newest.get_or_insert(index);
        let (ahead, behind) = (index.0.saturating_sub(newest.0), newest.0.saturating_sub(index.0));
        if ahead > 0 {
            self.newest = Some(index);
            self.seen = if ahead < WIDTH { self.seen << ahead } else { 0 };
        }
        if behind < WIDTH {
            self.seen |= 1 << behind;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(window: &mut Window, sequence: u16) -> Option<u64> {
        let guess = window.guess(sequence)?;
        window.is_new(guess).then(|| {
            window.note(guess);
            guess.index()
        })
    }

    #[test]
    fn an_index_continues_over_the_sequence_wrap_also_for_late_packets() {
        let mut window = Window::default();
        for (sequence, index) in [(65_530, 65_530), (65_534, 65_534), (2, 65_538), (65_535, 65_535), (1, 65_537)] {
            assert_eq!(take(&mut window, sequence), Some(index));
        }
        for again in [65_530, 65_535, 2, 1] {
            assert_eq!(take(&mut window, again), None);
        }
        assert_eq!(take(&mut window, 30_000), Some(65_536 + 30_000));
        assert_eq!(take(&mut window, 62_000), Some(65_536 + 62_000));
        assert_eq!(take(&mut window, 3), Some(2 * 65_536 + 3));
    }

    #[test]
    fn packets_older_than_the_replay_window_are_refused() {
        let mut window = Window::default();
        take(&mut window, 1_000);
        assert_eq!(take(&mut window, 1_000 - 128), None);
        assert_eq!(take(&mut window, 1_000 - 127), Some(873));
        assert_eq!(take(&mut window, 873), None);
        take(&mut window, 1_100);
        assert_eq!(take(&mut window, 1_000), None);
        assert_eq!(take(&mut window, 999), Some(999));
    }

    #[test]
    fn a_late_packet_before_the_first_packet_does_not_wrap_below_zero() {
        let mut window = Window::default();
        take(&mut window, 3);
        assert_eq!(window.guess(65_535), Some(Guess(65_535)));
    }

    #[test]
    fn an_exhausted_srtp_key_gives_no_index() {
        let mut window = Window::default();
        window.note(Guess(MAX_INDEX - 1));
        assert_eq!(window.guess(0), None);
        assert_eq!(window.guess(65_534), Some(Guess(MAX_INDEX - 2)));
    }
}
