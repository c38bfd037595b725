//! The state of the RTP stream that we send. A session has one SSRC, one sequence and one timeline for its whole life.
//! All audio uses them: silence, a prompt, and packets of another leg.

use super::{FRAME, Header, is_newer};

/// A session's outgoing RTP stream.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) ssrc: u32,
    next_sequence: u16,
    frame: u32,
    /// The media clock in timestamp units. A sample that is sent now has this timestamp.
    clock: u32,
    /// The timestamp that follows the newest sample sent.
    end: u32,
    talking: bool,
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    pub(crate) last_timestamp: u32,
    relay: Option<Relay>,
}

/// The mapping from another leg's sequence numbers and timestamps to this stream.
#[derive(Debug)]
struct Relay {
    ssrc: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
    first: u16,
    last: u16,
    packets: u32,
}

impl Relay {
    /// Whether `sequence` continues the relayed stream. If the number is too far ahead or behind, the other leg's
    /// sender has restarted. The limit ahead is MAX_DROPOUT of RFC 3550 appendix A.1 (3,000). The limit behind is
    /// 1,000, which is more than MAX_MISORDER.
    fn goes_on(&self, sequence: u16) -> bool {
        (-1_000..3_000).contains(&sequence.wrapping_sub(self.last).cast_signed())
    }
}

impl Sender {
    /// Creates a stream. The initial SSRC, sequence number and timestamp are random (RFC 3550 §5.1). `seed` determines
    /// these values.
    pub(crate) fn new(seed: u64) -> Sender {
        let mut state = seed;
        let mut random = || {
            // SplitMix64 is sufficient for random initial values.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        let ssrc = random() as u32;
        // The first sequence number is below 2^15, so that the number does not wrap soon. A wrap is a problem for SRTP
        // and for simple jitter buffers.
        let next_sequence = random() as u16 & 0x7FFF;
        let clock = random() as u32;
        Sender {
            ssrc,
            next_sequence,
            frame: FRAME as u32,
            clock,
            end: clock,
            talking: false,
            packets: 0,
            octets: 0,
            last_timestamp: clock,
            relay: None,
        }
    }

    /// Sets the RTP clock rate in Hz.
    pub(crate) fn set_clock_rate(&mut self, clock_rate: u32) {
        self.frame = clock_rate / 50;
    }

    /// The length of a frame of 20 ms in timestamp units.
    pub(crate) fn frame(&self) -> u32 {
        self.frame
    }

    /// Advances the media clock by one frame of 20 ms.
    pub(crate) fn tick(&mut self) {
        self.clock = self.clock.wrapping_add(self.frame);
    }

    /// The media clock for a report. [`Sender::now`] can move the clock past the samples of this frame that were
    /// already sent. This function does not move the clock.
    pub(crate) fn clock(&self) -> u32 {
        self.clock
    }

    /// The timestamp of a sample that is sent now. This timestamp is never before the timestamp of a sample that was
    /// already sent.
    pub(crate) fn now(&mut self) -> u32 {
        if is_newer(self.end, self.clock) {
            self.clock = self.end;
        }
        self.clock
    }

    /// Returns the header of the next audio packet, which starts at `timestamp` and is `units` long. The header has the
    /// marker at the start of a talkspurt (RFC 3551 §4.1).
    pub(crate) fn audio(&mut self, payload_type: u8, timestamp: u32, units: u32, octets: usize) -> Header {
        let marker = !self.talking || timestamp != self.end;
        self.talking = true;
        self.relay = None;
        self.end = timestamp.wrapping_add(units);
        self.next(payload_type, timestamp, marker, octets)
    }

    /// Returns the header of the next telephone-event packet. All packets of an event have the timestamp of the event's
    /// start (RFC 4733 §2.2).
    pub(crate) fn event(&mut self, payload_type: u8, timestamp: u32, marker: bool) -> Header {
        self.talking = false;
        self.relay = None;
        self.next(payload_type, timestamp, marker, 4)
    }

    /// Records that the session sends nothing now. The next audio packet starts a talkspurt.
    pub(crate) fn pause(&mut self) {
        self.talking = false;
        self.relay = None;
    }

    fn next(&mut self, payload_type: u8, timestamp: u32, marker: bool, octets: usize) -> Header {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        self.count(timestamp, octets);
        Header {
            marker,
            payload_type,
            sequence,
            timestamp,
            ssrc: self.ssrc,
            payload: super::FIXED..super::FIXED + octets,
        }
    }

    /// The offsets that are added to another leg's sequence numbers and timestamps while its packets are relayed.
    /// Returns `None` if the stream with this SSRC is not relayed now.
    pub(crate) fn offsets(&self, ssrc: u32) -> Option<(u16, u32)> {
        let relay = self.relay.as_ref().filter(|relay| relay.ssrc == ssrc)?;
        Some((relay.sequence_offset, relay.timestamp_offset))
    }

    /// Adds packets of the relayed leg that the kernel has sent with these offsets. `highest` is the highest sequence
    /// number, and `timestamp` is the newest timestamp. Both are the values that the other leg used.
    pub(crate) fn add(&mut self, packets: u64, octets: u64, highest: u16, timestamp: u32) {
        let Some(relay) = &mut self.relay else { return };
        relay.packets = relay.packets.saturating_add(u32::try_from(packets).unwrap_or(u32::MAX));
        relay.last = highest;
        let after = highest.wrapping_add(relay.sequence_offset).wrapping_add(1);
        if after.wrapping_sub(self.next_sequence).cast_signed() > 0 {
            self.next_sequence = after;
        }
        let timestamp = timestamp.wrapping_add(relay.timestamp_offset);
        let end = timestamp.wrapping_add(self.frame);
        if is_newer(end, self.end) {
            self.end = end;
        }
        self.talking = true;
        self.packets += packets;
        self.octets += octets;
        self.last_timestamp = timestamp;
        // When the newest of these packets was sent, the media clock had at least this value.
        if is_newer(timestamp, self.clock) {
            self.clock = timestamp;
        }
    }

    fn count(&mut self, timestamp: u32, octets: usize) {
        self.packets += 1;
        self.octets += octets as u64;
        self.last_timestamp = timestamp;
    }

    /// Maps another leg's packet to this stream. Gaps and order do not change, so that the receiver sees the same
    /// losses. `units` is the length of the packet in timestamp units, or 0 for a telephone-event or comfort noise.
    /// Returns `None` if the packet is older than the start of the relaying.
    pub(crate) fn relayed(&mut self, from: &Header, payload_type: u8, units: u32) -> Option<Header> {
        let now = self.now();
        let octets = from.payload.len();
        let next_sequence = self.next_sequence;
        let mut marker = from.marker;
        let relay = match &mut self.relay {
            Some(relay) if relay.ssrc == from.ssrc && relay.goes_on(from.sequence) => relay,
            other => {
                marker = units > 0 || marker;
                other.insert(Relay {
                    ssrc: from.ssrc,
                    sequence_offset: next_sequence.wrapping_sub(from.sequence),
                    timestamp_offset: now.wrapping_sub(from.timestamp),
                    first: from.sequence,
                    last: from.sequence,
                    packets: 0,
                })
            }
        };
        // Packets from before the start would get sequence numbers that were already used. After 1,000 packets the
        // 16-bit distance has no meaning any more, and no packet arrives so late.
        if relay.packets < 1_000 && from.sequence.wrapping_sub(relay.first).cast_signed() < 0 {
            return None;
        }
        relay.packets = relay.packets.saturating_add(1);
        relay.last = from.sequence;
        let sequence = from.sequence.wrapping_add(relay.sequence_offset);
        let timestamp = from.timestamp.wrapping_add(relay.timestamp_offset);
        let after = sequence.wrapping_add(1);
        if after.wrapping_sub(self.next_sequence).cast_signed() > 0 {
            self.next_sequence = after;
        }
        let end = timestamp.wrapping_add(units);
        if is_newer(end, self.end) {
            self.end = end;
        }
        self.talking = units > 0;
        self.count(timestamp, octets);
        Some(Header { marker, payload_type, sequence, timestamp, ssrc: self.ssrc, payload: from.payload.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 8, sequence, timestamp, ssrc: 5, payload: 12..172 }
    }

    #[test]
    fn sequence_and_timestamp_stay_on_one_line_from_prompt_to_relay_and_back() {
        let mut sender = Sender::new(1);
        sender.tick();
        let now = sender.now();
        let first = sender.audio(0, now, 160, 160);
        assert!(first.marker);
        sender.tick();
        let relayed = sender.relayed(&packet(900, 77_000), 0, 160).unwrap();
        assert!(relayed.marker);
        assert_eq!(relayed.sequence, first.sequence.wrapping_add(1));
        assert_eq!(relayed.timestamp, first.timestamp.wrapping_add(160));
        let gap = sender.relayed(&packet(903, 77_000 + 480), 0, 160).unwrap();
        assert_eq!(gap.sequence, relayed.sequence.wrapping_add(3));
        sender.tick();
        let now = sender.now();
        let last = sender.audio(0, now, 160, 160);
        assert_eq!(last.sequence, gap.sequence.wrapping_add(1));
        assert!(!is_newer(gap.timestamp.wrapping_add(160), last.timestamp));
    }

    #[test]
    fn a_packet_from_before_relaying_began_is_not_relayed() {
        let mut sender = Sender::new(2);
        assert!(sender.relayed(&packet(10, 1_600), 0, 160).is_some());
        assert!(sender.relayed(&packet(9, 1_440), 0, 160).is_none());
        assert!(sender.relayed(&packet(12, 1_920), 0, 160).is_some());
        assert!(sender.relayed(&packet(11, 1_760), 0, 160).is_some());
    }
}
