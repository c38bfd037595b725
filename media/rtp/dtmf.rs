//! Telephone-events (RFC 4733). This module detects digits in an RTP stream, and sends digits.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Header;

const DIGITS: &[u8; 16] = b"0123456789*#ABCD";

/// Returns the digit of an event code, 0 to 15 (RFC 4733 §3.2).
pub(crate) fn digit_of_event(event: u8) -> Option<char> {
    DIGITS.get(usize::from(event)).map(|digit| char::from(*digit))
}

/// Converts the duration of a telephone-event from one clock rate to another, in place. This is necessary for a packet
/// that is relayed. If the duration is too long for the new clock rate, it becomes the maximum, 65,535.
pub(crate) fn rescale(payload: &mut [u8], from: u32, to: u32) {
    let [_, _, high, low, ..] = payload else { return };
    let duration = u64::from(u16::from_be_bytes([*high, *low])) * u64::from(to) / u64::from(from.max(1));
    [*high, *low] = u16::try_from(duration).unwrap_or(u16::MAX).to_be_bytes();
}

/// Detects each digit once. A digit is detected at its first packet that arrives, so that a prompt stops when the
/// caller presses the digit. Lost start packets, retransmitted end packets and late packets of an earlier digit cause
/// no second detection. Only the first event of a packet counts, because the octets after the first event are usually
/// padding and not another event.
///
/// Each source (SSRC) has its own state. The detector remembers the last [`MAX_SOURCES`] sources.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Detector {
    /// The newest event of each source. The source of the newest packet is the first.
    last: [Option<EventState>; MAX_SOURCES],
}

/// The number of sources whose newest event a [`Detector`] remembers.
const MAX_SOURCES: usize = 4;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct EventState {
    ssrc: u32,
    event: u8,
    timestamp: u32,
    duration: u16,
    sequence: u16,
    ended: bool,
}

/// The number of successive packets of one digit that may be lost without a second detection.
const LOST: u16 = 16;

impl Detector {
    /// Handles one telephone-event packet. `clock_rate` is in Hz. If the digit is new, returns the digit, and the time
    /// in ms for which the digit has lasted at this packet. Returns `None` for an event that is not a digit, for
    /// example event 16 (flash).
    pub(crate) fn handle(&mut self, header: &Header, payload: &[u8], clock_rate: u32) -> Option<(char, u32)> {
        let [event, flags, high, low, ..] = *payload else { return None };
        let digit = digit_of_event(event)?;
        let current = EventState {
            ssrc: header.ssrc,
            event,
            timestamp: header.timestamp,
            duration: u16::from_be_bytes([high, low]),
            sequence: header.sequence,
            ended: flags & 0x80 != 0,
        };
        let known = self.last.iter().position(|last| last.as_ref().is_some_and(|last| last.ssrc == current.ssrc));
        if let Some(recent) = self.last.get_mut(..=known.unwrap_or(MAX_SOURCES - 1)) {
            recent.rotate_right(1);
        }
        let newest = &mut self.last[0];
        if let Some(last) = newest.as_mut().filter(|_| known.is_some())
            && !last.is_before(&current, header.marker, clock_rate)
        {
            last.merge(current);
            return None;
        }
        let duration = u64::from(current.duration) * 1_000 / u64::from(clock_rate.max(1));
        *newest = Some(current);
        Some((digit, duration as u32))
    }
}

impl EventState {
    /// Whether `packet` belongs to a later digit.
    fn is_before(&self, packet: &EventState, marker: bool, clock_rate: u32) -> bool {
        let age = packet.timestamp.wrapping_sub(self.timestamp).cast_signed();
        let ahead = packet.sequence.wrapping_sub(self.sequence);
        let newer = (1..0x8000).contains(&ahead);
        if age == 0 {
            // Some devices use the same timestamp for successive digits.
            let shorter = self.ended && marker && packet.duration < self.duration;
            return newer && (packet.event != self.event || shorter);
        }
        if age < 0 {
            // This is a late packet of this digit or of an earlier digit, unless the timestamps have restarted.
            let ten_seconds = i64::from(clock_rate) * 10;
            return (newer && marker) || i64::from(age) < -ten_seconds;
        }
        if packet.event != self.event || marker || !newer || ahead > LOST {
            return true;
        }
        let (age, duration) = (age.unsigned_abs(), u32::from(self.duration));
        // Some devices change the timestamp during a digit. A new digit cannot start before the last digit has ended.
        let within = age < duration || (!self.ended && age == duration);
        let moving = !self.ended && u32::from(packet.duration) == duration + age;
        // A long digit continues in another segment (RFC 4733 §2.5.1.3). The last packets of the previous segment may
        // be lost.
        let max_duration = u32::from(u16::MAX);
        let segment = !self.ended && (max_duration - clock_rate / 10..=max_duration).contains(&age);
        !(within || moving || segment)
    }

    /// Adds another packet of this digit, or ignores a late packet of an earlier digit.
    fn merge(&mut self, packet: EventState) {
        match packet.timestamp.wrapping_sub(self.timestamp).cast_signed() {
            0 => {
                self.ended |= packet.ended;
                self.duration = self.duration.max(packet.duration);
                if packet.sequence.wrapping_sub(self.sequence) < 0x8000 {
                    self.sequence = packet.sequence;
                }
            }
            1.. => *self = EventState { ended: self.ended || packet.ended, ..packet },
            _ => {}
        }
    }
}

/// The rate limit of a far end's digits. The limit is a token bucket on the media clock. It permits a burst of 16
/// digits, and then one digit every 40 ms. People and devices stay far below this limit. Without the limit, packets
/// that each have a new timestamp would produce thousands of digits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DigitBudget {
    /// The number of tokens in the bucket. Each frame adds one token, and a digit takes two tokens.
    frames: u8,
}

impl Default for DigitBudget {
    fn default() -> DigitBudget {
        DigitBudget { frames: DigitBudget::FULL }
    }
}

impl DigitBudget {
    const EACH_DIGIT: u8 = 2;
    const FULL: u8 = 16 * DigitBudget::EACH_DIGIT;

    /// Advances by one frame of 20 ms.
    pub(crate) fn tick(&mut self) {
        self.frames = (self.frames + 1).min(DigitBudget::FULL);
    }

    /// Takes the tokens for one digit. Returns false if there are not enough tokens and the digit must not be reported.
    pub(crate) fn take(&mut self) -> bool {
        let left = self.frames.checked_sub(DigitBudget::EACH_DIGIT);
        self.frames = left.unwrap_or(self.frames);
        left.is_some()
    }
}

/// The content of one frame of 20 ms from a [`DigitSender`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigitFrame {
    /// One telephone-event packet. `first` says that the digit starts with this packet. The packet's timestamp is
    /// `offset` units after the start of the digit. `offset` and `duration` are in timestamp units.
    Event { event: u8, end: bool, duration: u16, offset: u32, first: bool },
    /// A pause between two digits. Other audio may be sent in this frame.
    Gap,
    /// All digits have been sent.
    Done,
}

/// The highest number of digits and pauses in the queue.
const MAX_DIGITS: usize = 1_024;

/// Sends a string of digits. The sender produces at most one packet per frame. Each digit has packets with a rising
/// duration, then three end packets (RFC 4733 §2.5.1.4), then a pause of at least 60 ms. The character `w` is a pause
/// of 500 ms, and `W` is a pause of 1 s.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DigitSender {
    digits: VecDeque<char>,
    frames: u16,
    state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum State {
    Idle,
    /// A digit is being sent. `offset` is the start of the current segment in timestamp units, relative to the start of
    /// the digit.
    Sending {
        event: u8,
        frame: u16,
        offset: u32,
    },
    Ending {
        event: u8,
        left: u8,
        offset: u32,
    },
    Gap {
        frames: u16,
    },
}

impl DigitSender {
    /// Creates a sender. `duration_ms` is limited to the range 40 to 8,000 ms and rounded up to whole frames. Unknown
    /// characters are skipped.
    pub(crate) fn new(digits: &str, duration_ms: u16) -> DigitSender {
        DigitSender {
            digits: digits.chars().filter(|digit| "0123456789*#ABCDabcdwW".contains(*digit)).take(MAX_DIGITS).collect(),
            frames: duration_ms.clamp(40, 8_000).div_ceil(20),
            state: State::Idle,
        }
    }

    /// Adds the remaining digits of `more` after the remaining digits of this sender. Digits beyond the limit are
    /// skipped.
    pub(crate) fn append(&mut self, more: DigitSender) {
        let room = MAX_DIGITS.saturating_sub(self.digits.len());
        self.digits.extend(more.digits.into_iter().take(room));
    }

    /// The event code of the digit that is being sent, if any.
    pub(crate) fn current(&self) -> Option<u8> {
        match self.state {
            State::Sending { event, .. } | State::Ending { event, .. } => Some(event),
            State::Idle | State::Gap { .. } => None,
        }
    }

    /// The duration of each digit in ms.
    pub(crate) fn duration_ms(&self) -> u16 {
        self.frames * 20
    }

    /// Advances by one frame of 20 ms. `clock_rate` is in Hz.
    pub(crate) fn next_frame(&mut self, clock_rate: u32) -> DigitFrame {
        if let State::Gap { frames } = &mut self.state {
            *frames = frames.saturating_sub(1);
            if *frames > 0 {
                return DigitFrame::Gap;
            }
            self.state = State::Idle;
        }
        let unit = clock_rate / 50;
        let full = u32::from(self.frames) * unit;
        match &mut self.state {
            State::Sending { event, frame, offset } => {
                let (event, begun) = (*event, *offset);
                *frame += 1;
                let so_far = (u32::from(*frame) + 1) * unit;
                if *frame < self.frames {
                    // The duration does not fit into 16 bits. This packet has the maximum, and the next packet starts a
                    // new segment (RFC 4733 §2.5.1.3).
                    let duration = u16::try_from(so_far - begun).unwrap_or_else(|_| {
                        *offset += u32::from(u16::MAX);
                        u16::MAX
                    });
                    return DigitFrame::Event { event, end: false, duration, offset: begun, first: false };
                }
                self.state = State::Ending { event, left: 2, offset: begun };
                DigitFrame::Event { event, end: true, duration: short(full - begun), offset: begun, first: false }
            }
            State::Ending { event, left, offset } => {
                let (event, begun) = (*event, *offset);
                *left -= 1;
                if *left == 0 {
                    self.state = State::Gap { frames: 4 };
                }
                DigitFrame::Event { event, end: true, duration: short(full - begun), offset: begun, first: false }
            }
            State::Idle | State::Gap { .. } => match self.digits.pop_front() {
                None => DigitFrame::Done,
                Some('w') => self.wait(25),
                Some('W') => self.wait(50),
                Some(digit) => {
                    let upper = digit.to_ascii_uppercase();
                    let event = DIGITS.iter().position(|known| char::from(*known) == upper).unwrap_or(0) as u8;
                    self.state = State::Sending { event, frame: 0, offset: 0 };
                    DigitFrame::Event { event, end: false, duration: short(unit), offset: 0, first: true }
                }
            },
        }
    }

    fn wait(&mut self, frames: u16) -> DigitFrame {
        self.state = State::Gap { frames };
        DigitFrame::Gap
    }
}

fn short(duration: u32) -> u16 {
    u16::try_from(duration).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
