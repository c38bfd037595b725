//! Telephone-events (RFC 4733): key presses found in, and written into, an RTP stream.

use std::collections::VecDeque;

use super::{FRAME, Header};

const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// The key of an event code 0 to 15 (RFC 4733 §3.2).
pub(crate) fn key(event: u8) -> Option<char> {
    KEYS.get(usize::from(event)).map(|key| char::from(*key))
}

/// Finds each key press once, at its first packet that arrives, whichever that is: prompts stop when the key goes
/// down. Lost starts, retransmitted ends and late packets of an earlier press change nothing.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    last: Option<Press>,
}

#[derive(Debug, Clone)]
struct Press {
    ssrc: u32,
    event: u8,
    timestamp: u32,
    duration: u16,
    sequence: u16,
    ended: bool,
}

impl Detector {
    /// Takes one telephone-event packet. Returns the key and its duration so far (ms) when this press is new.
    pub(crate) fn handle(&mut self, header: &Header, payload: &[u8]) -> Option<(char, u32)> {
        let [event, flags, high, low, ..] = *payload else { return None };
        let key = key(event)?;
        let press = Press {
            ssrc: header.ssrc,
            event,
            timestamp: header.timestamp,
            duration: u16::from_be_bytes([high, low]),
            sequence: header.sequence,
            ended: flags & 0x80 != 0,
        };
        if let Some(last) = &mut self.last
            && last.ssrc == press.ssrc
        {
            let age = press.timestamp.wrapping_sub(last.timestamp).cast_signed();
            if age == 0 {
                last.ended |= press.ended;
                last.duration = last.duration.max(press.duration);
                last.sequence = press.sequence;
                return None;
            }
            if (-8_000 * 10..0).contains(&age) {
                return None;
            }
            // A press longer than 8 s goes on in a new segment (RFC 4733 §2.5.1.3); and some gateways move the
            // timestamp with every packet of one press.
            let segment = last.duration == u16::MAX && age == i32::from(u16::MAX);
            let moving = press.duration > last.duration
                && press.sequence.wrapping_sub(last.sequence) <= 3
                && i32::from(press.duration - last.duration) == age;
            if !last.ended && !header.marker && last.event == press.event && (segment || moving) {
                *last = press;
                return None;
            }
        }
        let duration = u32::from(press.duration) / 8;
        self.last = Some(press);
        Some((key, duration))
    }
}

/// How many presses a peer may make: people and their devices stay far below it, while packets with ever new timestamps
/// would be presses by the thousand. A bucket on the media clock: 16 at once, and one more for every 40 ms.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// In frames, of which a press takes two.
    frames: u8,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance { frames: Allowance::FULL }
    }
}

impl Allowance {
    const PRESS: u8 = 2;
    const FULL: u8 = 16 * Allowance::PRESS;

    /// Moves on by one 20 ms frame.
    pub(crate) fn tick(&mut self) {
        self.frames = (self.frames + 1).min(Allowance::FULL);
    }

    /// Whether one more press may be told.
    pub(crate) fn take(&mut self) -> bool {
        let left = self.frames.checked_sub(Allowance::PRESS);
        self.frames = left.unwrap_or(self.frames);
        left.is_some()
    }
}

/// What a [`DigitSender`] wants sent in this 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigitFrame {
    /// One event packet. `first`: the press begins here, and its timestamp is now.
    Event { event: u8, end: bool, duration: u16, first: bool },
    /// Between two presses: other audio may go.
    Gap,
    /// All sent.
    Done,
}

/// Plays a string of keys, one packet a frame: a rising duration, then the end three times (RFC 4733 §2.5.1.4),
/// then at least 60 ms between presses. `w` waits 500 ms, `W` 1 s.
#[derive(Debug)]
pub(crate) struct DigitSender {
    keys: VecDeque<char>,
    frames: u16,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Pressed { event: u8, frame: u16 },
    Ending { event: u8, left: u8 },
    Gap { frames: u16 },
}

impl DigitSender {
    /// `duration_ms` is kept within 40 ms and 8 s and rounded to whole frames. Unknown characters are skipped.
    pub(crate) fn new(digits: &str, duration_ms: u16) -> DigitSender {
        DigitSender {
            keys: digits.chars().filter(|key| "0123456789*#ABCDabcdwW".contains(*key)).take(1_024).collect(),
            frames: duration_ms.clamp(40, 8_000).div_ceil(20),
            state: State::Idle,
        }
    }

    /// Moves on by one 20 ms frame.
    pub(crate) fn next_frame(&mut self) -> DigitFrame {
        if let State::Gap { frames } = &mut self.state {
            *frames = frames.saturating_sub(1);
            if *frames > 0 {
                return DigitFrame::Gap;
            }
            self.state = State::Idle;
        }
        let full = self.frames.saturating_mul(FRAME as u16);
        match &mut self.state {
            State::Pressed { event, frame } => {
                let event = *event;
                *frame += 1;
                if *frame < self.frames {
                    return DigitFrame::Event {
                        event,
                        end: false,
                        duration: *frame * FRAME as u16 + FRAME as u16,
                        first: false,
                    };
                }
                self.state = State::Ending { event, left: 2 };
                DigitFrame::Event { event, end: true, duration: full, first: false }
            }
            State::Ending { event, left } => {
                let event = *event;
                *left -= 1;
                if *left == 0 {
                    self.state = State::Gap { frames: 4 };
                }
                DigitFrame::Event { event, end: true, duration: full, first: false }
            }
            State::Idle | State::Gap { .. } => match self.keys.pop_front() {
                None => DigitFrame::Done,
                Some('w') => self.wait(25),
                Some('W') => self.wait(50),
                Some(key) => {
                    let upper = key.to_ascii_uppercase();
                    let event = KEYS.iter().position(|known| char::from(*known) == upper).unwrap_or(0) as u8;
                    self.state = State::Pressed { event, frame: 0 };
                    DigitFrame::Event { event, end: false, duration: FRAME as u16, first: true }
                }
            },
        }
    }

    fn wait(&mut self, frames: u16) -> DigitFrame {
        self.state = State::Gap { frames };
        DigitFrame::Gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, timestamp: u32, marker: bool) -> Header {
        Header { marker, payload_type: 101, sequence, timestamp, ssrc: 1, payload: 12..16 }
    }

    fn payload(event: u8, end: bool, duration: u16) -> [u8; 4] {
        let [high, low] = duration.to_be_bytes();
        [event, if end { 0x8A } else { 0x0A }, high, low]
    }

    #[test]
    fn a_press_is_reported_once_at_its_first_packet() {
        let mut detector = Detector::default();
        assert_eq!(detector.handle(&packet(1, 1_000, true), &payload(5, false, 160)), Some(('5', 20)));
        for (sequence, duration) in [(2, 320), (3, 480)] {
            assert_eq!(detector.handle(&packet(sequence, 1_000, false), &payload(5, false, duration)), None);
        }
        for sequence in 4..7 {
            assert_eq!(detector.handle(&packet(sequence, 1_000, false), &payload(5, true, 640)), None);
        }
        assert_eq!(detector.handle(&packet(9, 3_000, true), &payload(5, false, 160)), Some(('5', 20)));
    }

    #[test]
    fn a_press_whose_start_was_lost_is_reported_at_its_retransmitted_end() {
        let mut detector = Detector::default();
        assert_eq!(detector.handle(&packet(6, 1_000, false), &payload(11, true, 800)), Some(('#', 100)));
        assert_eq!(detector.handle(&packet(7, 1_000, false), &payload(11, true, 800)), None);
    }

    #[test]
    fn a_late_packet_of_an_earlier_press_is_not_a_press() {
        let mut detector = Detector::default();
        assert!(detector.handle(&packet(1, 1_000, true), &payload(1, false, 160)).is_some());
        assert!(detector.handle(&packet(8, 3_000, true), &payload(2, false, 160)).is_some());
        assert_eq!(detector.handle(&packet(7, 1_000, false), &payload(1, true, 800)), None);
    }

    #[test]
    fn a_press_of_more_than_eight_seconds_is_one_press() {
        let mut detector = Detector::default();
        assert!(detector.handle(&packet(1, 0, true), &payload(1, false, 160)).is_some());
        assert!(detector.handle(&packet(2, 0, false), &payload(1, false, u16::MAX)).is_none());
        assert!(detector.handle(&packet(3, 65_535, false), &payload(1, false, 160)).is_none());
    }

    #[test]
    fn presses_are_allowed_sixteen_at_once_and_then_one_in_forty_milliseconds() {
        let mut allowance = Allowance::default();
        assert_eq!((0..100).filter(|_| allowance.take()).count(), 16);
        let second = (0..50).filter(|_| {
            allowance.tick();
            allowance.take()
        });
        assert_eq!(second.count(), 25);
        (0..1_000).for_each(|_| allowance.tick());
        assert_eq!((0..100).filter(|_| allowance.take()).count(), 16);
    }

    #[test]
    fn sent_digits_rise_and_end_three_times() {
        let mut sender = DigitSender::new("1w#", 100);
        let mut frames = Vec::new();
        loop {
            match sender.next_frame() {
                DigitFrame::Done => break,
                frame => frames.push(frame),
            }
        }
        let durations: Vec<u16> = frames
            .iter()
            .filter_map(|frame| match frame {
                DigitFrame::Event { event: 1, duration, .. } => Some(*duration),
                _ => None,
            })
            .collect();
        assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800, 800]);
        let ends = frames.iter().filter(|frame| matches!(frame, DigitFrame::Event { end: true, event: 11, .. }));
        assert_eq!(ends.count(), 3);
        let gaps = frames.iter().filter(|frame| **frame == DigitFrame::Gap).count();
        assert!(gaps >= 25 + 3, "{gaps} gaps");
    }
}
