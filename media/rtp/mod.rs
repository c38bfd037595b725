//! RTP and RTCP packets (RFC 3550). This module contains an in-place view of the RTP header, the state of each
//! direction, and telephone-events (RFC 4733). This module is pure: it has no socket and no clock.
//!
//! ```text
//!  datagram -> Header::parse -> Receiver (loss, jitter) -> audio | dtmf::Detector
//!                                     Sender (SSRC, sequence, timestamp) -> Header::write -> datagram
//! ```

use std::ops::Range;

pub(crate) mod dtmf;
pub(crate) mod noise;
pub(crate) mod receiver;
pub(crate) mod reception;
pub(crate) mod reports;
pub(crate) mod rtcp;
pub(crate) mod sender;
pub(crate) mod srtp;

/// The length of the fixed header in octets (RFC 3550 §5.1).
pub(crate) const FIXED: usize = 12;
/// The number of samples in a frame of 20 ms at 8,000 Hz. This is also the number of octets of this frame in G.711.
pub(crate) const FRAME: usize = 160;

/// The RTP header of a datagram, and the range of its payload.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: Range<usize>,
}

impl Header {
    /// Reads the header and skips CSRCs, an extension and padding. Returns `None` if the datagram is not RTP version 2,
    /// or if its lengths are inconsistent.
    pub(crate) fn parse(packet: &[u8]) -> Option<Header> {
        let [first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3, ..] = *packet else { return None };
        if first >> 6 != 2 {
            return None;
        }
        let mut start = FIXED + 4 * usize::from(first & 0x0F);
        if first & 0x10 != 0 {
            let [_, _, high, low] = *packet.get(start..start + 4)? else { return None };
            start += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        }
        let mut end = packet.len();
        if first & 0x20 != 0 {
            let padding = usize::from(*packet.last()?);
            if padding == 0 {
                return None;
            }
            end = end.checked_sub(padding)?;
        }
        if start > end {
            return None;
        }
        Some(Header {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            payload: start..end,
        })
    }

    /// Writes a plain header of 12 octets (no CSRC, extension or padding) at the start of `packet`. `packet` must be
    /// long enough.
    pub(crate) fn write(&self, packet: &mut [u8]) {
        let Some(head) = packet.first_chunk_mut::<FIXED>() else { return };
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [i0, i1, i2, i3] = self.ssrc.to_be_bytes();
        let second = self.payload_type | if self.marker { 0x80 } else { 0 };
        *head = [0x80, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3];
    }
}

/// Whether a datagram on the RTP port is RTCP (RFC 5761 §4). RTCP has packet types 192 to 223.
pub(crate) fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet, [first, 192..=223, ..] if first >> 6 == 2)
}

/// Whether `a` is ahead of `b`. Both are timestamps or sequence numbers modulo 2^32.
pub(crate) fn is_newer(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// The largest step of the timestamps in s that the time between two packets does not explain. A larger step means that
/// the sender's timestamps have a new origin.
const LARGEST_STEP: i32 = 2;

/// Whether the timestamps of a stream have a new origin. `step` is the difference of the timestamps of two packets, in
/// the order of their sequence numbers. `passed` is the time between the two packets. Both are in units of a clock of
/// `rate` Hz.
pub(crate) fn is_jump(step: u32, passed: u32, rate: u32) -> bool {
    let limit = LARGEST_STEP * rate.cast_signed();
    let step = step.cast_signed();
    step < -limit || step.saturating_sub(passed.cast_signed()) > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_csrc_extension_and_padding_gives_its_payload() {
        let mut packet = vec![0xB1, 0x80, 0, 7, 0, 0, 0, 160, 1, 2, 3, 4];
        packet.extend([9, 9, 9, 9]);
        packet.extend([0xBE, 0xDE, 0, 1, 5, 5, 5, 5]);
        packet.extend([0x55; 10]);
        packet.extend([0, 2]);
        let header = Header::parse(&packet).unwrap();
        assert!(header.marker);
        assert_eq!(header.payload, 24..34);
        assert_eq!((header.sequence, header.timestamp, header.ssrc), (7, 160, 0x0102_0304));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for packet in [
            &[0x80u8, 0, 0][..],
            &[0x40, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x8F, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0xFF, 0xFF],
            &[0xA0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 200],
            &[0xA0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(Header::parse(packet).is_none(), "{packet:?}");
        }
    }

    #[test]
    fn a_written_header_reads_back() {
        let header =
            Header { marker: true, payload_type: 101, sequence: 65535, timestamp: 7, ssrc: 9, payload: 12..16 };
        let mut packet = [0; 16];
        header.write(&mut packet);
        let read = Header::parse(&packet).unwrap();
        assert!(read.marker);
        assert_eq!((read.payload_type, read.sequence, read.timestamp, read.ssrc), (101, 65535, 7, 9));
    }
}
