//! The state of the RTP stream that we send. A session has one SSRC, one sequence and one timeline for its whole life.
//! All audio uses them: silence, a prompt, and packets of another leg.

use serde::{Deserialize, Serialize};

use super::{FRAME, Header, is_jump, is_newer};

/// A session's outgoing RTP stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// The newest telephone-events of other legs that were sent, newest first.
    events: [Option<RelayedEvent>; MAX_EVENTS],
}

/// The mapping from another leg's sequence numbers and timestamps to this stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Relay {
    ssrc: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
    /// The first sequence number with this offset. Earlier packets would get sequence numbers that were already used.
    first: u16,
    highest: u16,
    packets: u32,
    /// The newest timestamp of the other leg's audio, and our media clock at that packet.
    timestamp: u32,
    clock: u32,
}

impl Relay {
    /// Whether `sequence` continues the relayed stream. If the number is too far ahead or behind, the other leg's
    /// sender has restarted. The limit ahead is MAX_DROPOUT of RFC 3550 appendix A.1 (3,000). The limit behind is
    /// 1,000, which is more than MAX_MISORDER.
    fn goes_on(&self, sequence: u16) -> bool {
        (-1_000..3_000).contains(&sequence.wrapping_sub(self.highest).cast_signed())
    }

    fn is_ahead(&self, sequence: u16) -> bool {
        sequence.wrapping_sub(self.highest).cast_signed() > 0
    }

    /// The sequence number of our stream for the packet after the newest packet.
    fn next(&self) -> u16 {
        self.highest.wrapping_add(self.sequence_offset).wrapping_add(1)
    }

    /// Returns the sequence number of our stream for a packet of the other leg. `next_sequence` is the number of our
    /// next packet. Returns `None` if the packet is older than the numbers of this mapping.
    fn sequence(&mut self, sequence: u16, next_sequence: u16) -> Option<u16> {
        let skipped = next_sequence.wrapping_sub(self.next());
        if skipped != 0 {
            // Other packets came between, for example telephone-events with an SSRC of their own.
            self.sequence_offset = self.sequence_offset.wrapping_add(skipped);
            (self.first, self.packets) = (self.highest.wrapping_add(1), 0);
        }
        // After 1,000 packets the 16-bit distance has no meaning any more, and no packet arrives so late.
        if self.packets < 1_000 && sequence.wrapping_sub(self.first).cast_signed() < 0 {
            return None;
        }
        self.packets = self.packets.saturating_add(1);
        if self.is_ahead(sequence) {
            self.highest = sequence;
        }
        Some(sequence.wrapping_add(self.sequence_offset))
    }
}

/// The number of telephone-events whose timestamps a [`Sender`] remembers. Packets of an event arrive late only by a few
/// packets, so the last events are enough, also with several sources.
const MAX_EVENTS: usize = 4;

/// A telephone-event of another leg, and the timestamp that it has in this stream. All packets of an event have the
/// timestamp of the event's start (RFC 4733 §2.2), whatever is sent between these packets.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RelayedEvent {
    ssrc: u32,
    event: u8,
    /// The timestamp in the other leg's stream.
    from: u32,
    /// The timestamp in this stream.
    to: u32,
    /// Whether a packet with the end bit was sent.
    ended: bool,
    /// The media clock at the newest packet.
    clock: u32,
}

/// The number of frames of 20 ms without a packet after which an event counts as over although its end was lost.
const MAX_EVENT_GAP: u32 = 12;

impl RelayedEvent {
    fn is(&self, from: &Header, event: u8) -> bool {
        (self.ssrc, self.event, self.from) == (from.ssrc, event, from.timestamp)
    }

    fn lasts(&self, clock: u32, frame: u32) -> bool {
        !self.ended && clock.wrapping_sub(self.clock) <= MAX_EVENT_GAP * frame
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
            events: [None; MAX_EVENTS],
        }
    }

    /// Continues the stream after a time without frames. `frames` is the number of missed frames of 20 ms. `packets` is
    /// the number of sequence numbers that may have been used.
    pub(crate) fn resume(&mut self, frames: u32, packets: u16) {
        self.clock = self.clock.wrapping_add(self.frame.wrapping_mul(frames));
        self.next_sequence = self.next_sequence.wrapping_add(packets);
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
        self.clock = self.start();
        self.clock
    }

    /// The timestamp of a source that begins now. Unlike [`Sender::now`], this function does not move the clock.
    fn start(&self) -> u32 {
        if is_newer(self.end, self.clock) { self.end } else { self.clock }
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

    /// Returns the header of the next packet of a telephone-event of our own. All packets of an event have the timestamp
    /// of the event's start (RFC 4733 §2.2).
    pub(crate) fn event(&mut self, payload_type: u8, timestamp: u32, marker: bool) -> Header {
        self.next(payload_type, timestamp, marker, 4)
    }

    /// Records that the session sends nothing now. The next audio packet starts a talkspurt.
    pub(crate) fn pause(&mut self) {
        self.talking = false;
        self.relay = None;
    }

    /// Records that a packet of another leg was not sent. If the packet belongs to the audio source that is relayed, the
    /// source's next packet starts a talkspurt. Otherwise the receiver would see a loss.
    pub(crate) fn skip(&mut self, from: &Header) {
        if self.relay.as_ref().is_some_and(|relay| relay.ssrc == from.ssrc) {
            self.pause();
        }
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
        let relay = self.relay.as_ref().filter(|relay| relay.ssrc == ssrc && relay.next() == self.next_sequence)?;
        Some((relay.sequence_offset, relay.timestamp_offset))
    }

    /// Adds packets of the relayed leg that the kernel has sent with these offsets. `highest` is the highest sequence
    /// number, and `timestamp` is the newest timestamp. Both are the values that the other leg used.
    pub(crate) fn add(&mut self, packets: u64, octets: u64, highest: u16, timestamp: u32) {
        let Some(relay) = &mut self.relay else { return };
        relay.packets = relay.packets.saturating_add(u32::try_from(packets).unwrap_or(u32::MAX));
        relay.highest = highest;
        relay.timestamp = timestamp;
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
        if let Some(relay) = &mut self.relay {
            relay.clock = self.clock;
        }
    }

    fn count(&mut self, timestamp: u32, octets: usize) {
        self.packets += 1;
        self.octets += octets as u64;
        self.last_timestamp = timestamp;
    }

    /// Maps a packet of another leg's audio to this stream. Gaps and order do not change, so that the receiver sees the
    /// same losses. `units` is the length of the packet in timestamp units, or 0 for comfort noise. A source that begins,
    /// or whose timestamps or sequence numbers have a new origin, continues at the media clock with a marker. Returns
    /// `None` if the packet is older than the start of the relaying.
    pub(crate) fn relayed(&mut self, from: &Header, payload_type: u8, units: u32) -> Option<Header> {
        let (now, clock) = (self.start(), self.clock);
        let (next_sequence, rate) = (self.next_sequence, self.frame * 50);
        let mut marker = from.marker;
        let is_known = |relay: &Relay| {
            let jumps = || is_jump(from.timestamp.wrapping_sub(relay.timestamp), clock.wrapping_sub(relay.clock), rate);
            relay.ssrc == from.ssrc && relay.goes_on(from.sequence) && !(relay.is_ahead(from.sequence) && jumps())
        };
        let relay = match &mut self.relay {
            Some(relay) if is_known(relay) => relay,
            other => {
                marker = units > 0 || marker;
                other.insert(Relay {
                    ssrc: from.ssrc,
                    sequence_offset: next_sequence.wrapping_sub(from.sequence),
                    timestamp_offset: now.wrapping_sub(from.timestamp),
                    first: from.sequence,
                    highest: from.sequence.wrapping_sub(1),
                    packets: 0,
                    timestamp: from.timestamp,
                    clock,
                })
            }
        };
        let timestamp = from.timestamp.wrapping_add(relay.timestamp_offset);
        // When the newest packet is sent, the media clock has at least its timestamp.
        let clock = if is_newer(timestamp, clock) { timestamp } else { clock };
        if relay.is_ahead(from.sequence) {
            (relay.timestamp, relay.clock) = (from.timestamp, clock);
        }
        let sequence = relay.sequence(from.sequence, next_sequence)?;
        self.clock = clock;
        let end = timestamp.wrapping_add(units);
        if is_newer(end, self.end) {
            self.end = end;
        }
        self.talking = units > 0;
        Some(self.header(from, payload_type, (sequence, timestamp, marker)))
    }

    /// Maps a telephone-event packet of another leg to this stream. `event` is the event code, and `ends` is the end
    /// bit. `clock_rates` are the clock rates of the events in Hz, first of the other leg and then of this leg. The
    /// audio that is relayed does not change. Returns `None` if the packet is older than the start of the relaying, if an
    /// event of another source lasts at present, or if the packet repeats an end from before such an event: a stream has
    /// one event at a time.
    pub(crate) fn relayed_event(
        &mut self,
        from: &Header,
        payload_type: u8,
        (event, ends): (u8, bool),
        clock_rates: (u32, u32),
    ) -> Option<Header> {
        let clock = self.clock;
        let timestamp = self.event_timestamp(from, event, clock_rates)?;
        if let Some(known) = self.events.iter_mut().flatten().find(|known| known.is(from, event)) {
            known.ended |= ends;
            known.clock = clock;
        }
        let next_sequence = self.next_sequence;
        let sequence = match &mut self.relay {
            Some(relay) if relay.ssrc == from.ssrc && relay.goes_on(from.sequence) => {
                relay.sequence(from.sequence, next_sequence)?
            }
            _ => next_sequence,
        };
        Some(self.header(from, payload_type, (sequence, timestamp, from.marker)))
    }

    /// Returns the timestamp that a telephone-event of another leg has in this stream. A known event keeps its
    /// timestamp. A new event has the same distance in time from an earlier event of its source, or from the relayed
    /// audio of its source. If there is none, or if the distance is not plausible, the event starts now.
    fn event_timestamp(&mut self, from: &Header, event: u8, (rate_in, rate_out): (u32, u32)) -> Option<u32> {
        let (now, clock) = (self.start(), self.clock);
        let of_another = self.events.iter().flatten().next().filter(|newest| newest.ssrc != from.ssrc);
        if let Some(known) = self.events.iter().flatten().find(|known| known.is(from, event)) {
            // After another source's event, a repeated end would look like another digit to a simple receiver.
            return (!known.ended || of_another.is_none()).then_some(known.to);
        }
        if of_another.is_some_and(|newest| newest.lasts(clock, self.frame)) {
            return None;
        }
        let before = self.events.iter().flatten().find(|known| known.ssrc == from.ssrc).copied();
        let relay = self.relay.as_ref().filter(|relay| relay.ssrc == from.ssrc && rate_in == rate_out);
        let rate = self.frame * 50;
        let placed = match (before, relay) {
            // A long event continues in another segment (RFC 4733 §2.5.1.3). Some devices change the timestamp during
            // an event.
            (Some(before), relay) if relay.is_none() || before.event == event => {
                let step = i64::from(from.timestamp.wrapping_sub(before.from).cast_signed());
                Some(before.to.wrapping_add((step * i64::from(rate) / i64::from(rate_in.max(1))) as u32))
            }
            (_, relay) => relay.map(|relay| from.timestamp.wrapping_add(relay.timestamp_offset)),
        };
        // Two events cannot have the same timestamp.
        let is_taken = |to: u32| before.is_some_and(|before| before.to == to);
        let placed = placed.filter(|to| !is_taken(*to) && !is_jump(to.wrapping_sub(now), 0, rate));
        let to = placed.unwrap_or(if is_taken(now) { now.wrapping_add(self.frame) } else { now });
        // A late packet of an event that was forgotten is not the newest event.
        if before.is_none_or(|before| is_newer(from.timestamp, before.from) || placed.is_none()) {
            self.events.rotate_right(1);
            self.events[0] =
                Some(RelayedEvent { ssrc: from.ssrc, event, from: from.timestamp, to, ended: false, clock });
        }
        Some(to)
    }

    fn header(&mut self, from: &Header, payload_type: u8, (sequence, timestamp, marker): (u16, u32, bool)) -> Header {
        let after = sequence.wrapping_add(1);
        if after.wrapping_sub(self.next_sequence).cast_signed() > 0 {
            self.next_sequence = after;
        }
        self.count(timestamp, from.payload.len());
        Header { marker, payload_type, sequence, timestamp, ssrc: self.ssrc, payload: from.payload.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 8, sequence, timestamp, ssrc: 5, payload: 12..172 }
    }

    #[test]
    fn sequence_and_timestamps_continue_from_prompt_to_relay_and_back() {
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
    fn the_repeated_end_of_an_event_does_not_interrupt_an_event_of_another_source() {
        let mut sender = Sender::new(3);
        let mut relay = |ssrc: u32, sequence: u16, timestamp: u32, digit: u8, ends: bool| {
            let from = Header { ssrc, ..packet(sequence, timestamp) };
            sender.relayed_event(&from, 101, (digit, ends), (8_000, 8_000)).is_some()
        };
        assert!(relay(1, 10, 1_000, 1, false) && relay(1, 11, 1_000, 1, true));
        assert!(relay(1, 12, 1_000, 1, true), "nothing else is sent");
        assert!(relay(2, 50, 9_000, 7, false));
        assert!(!relay(1, 13, 1_000, 1, true));
        assert!(relay(2, 51, 9_000, 7, false) && relay(2, 52, 9_000, 7, true));
        assert!(!relay(1, 14, 1_000, 1, true));
        assert!(relay(1, 20, 4_000, 1, false), "the next event of the source");
    }

    #[test]
    fn a_packet_from_before_the_start_of_the_relay_is_not_relayed() {
        let mut sender = Sender::new(2);
        assert!(sender.relayed(&packet(10, 1_600), 0, 160).is_some());
        assert!(sender.relayed(&packet(9, 1_440), 0, 160).is_none());
        assert!(sender.relayed(&packet(12, 1_920), 0, 160).is_some());
        assert!(sender.relayed(&packet(11, 1_760), 0, 160).is_some());
    }
}
