//! The state of the RTP stream that we receive, with its loss and jitter (RFC 3550 §6.4.1 and appendix A).

use super::Header;
use crate::offload::FlowCounts;

/// The content of a report block (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportBlock {
    pub(crate) ssrc: u32,
    /// The fraction of packets lost since the last report, in 1/256.
    pub(crate) fraction_lost: u8,
    pub(crate) cumulative_lost: u32,
    pub(crate) highest_sequence: u32,
    /// The interarrival jitter in timestamp units.
    pub(crate) jitter: u32,
    /// The middle 32 bits of the NTP time in the last sender report. The value is 0 if no sender report has arrived.
    pub(crate) last_sr: u32,
    /// The time since the last sender report, in 1/65,536 s.
    pub(crate) delay_since_sr: u32,
}

/// The rate limit of a far end's packets. The limit permits a burst of 200 packets, and then 250 packets a second. The
/// usual rate is 50 packets a second. If the packet time is 10 ms (the shortest) and a link was blocked for two
/// seconds, the link delivers 200 packets at once. Because of this limit, a flood from the far end's own address costs
/// little, and never reaches the bridged leg.
#[derive(Debug)]
pub(crate) struct PacketBudget {
    packets: u8,
}

impl Default for PacketBudget {
    fn default() -> PacketBudget {
        PacketBudget { packets: PacketBudget::FULL }
    }
}

impl PacketBudget {
    const FULL: u8 = 200;
    const EACH_FRAME: u8 = 5;

    /// Advances by one frame of 20 ms.
    pub(crate) fn tick(&mut self) {
        self.packets = self.packets.saturating_add(PacketBudget::EACH_FRAME).min(PacketBudget::FULL);
    }

    /// Takes one packet from the budget. Returns false if the packet must not pass.
    pub(crate) fn take(&mut self) -> bool {
        let left = self.packets.checked_sub(1);
        self.packets = left.unwrap_or(0);
        left.is_some()
    }
}

/// The largest forward step of the sequence number that counts as loss. A larger step means that the sender has
/// restarted the sequence (RFC 3550 appendix A.1).
const MAX_DROPOUT: u16 = 3_000;
/// The largest backward step of the sequence number that counts as reordering.
const MAX_MISORDER: u16 = 100;

/// The number of packets after which the engine reads the socket again in any case. If all packets are equally late,
/// their arrival times do not show that more packets wait in the socket.
const CHECK_PACKETS: u64 = 64;

/// The counters of the received stream. A new SSRC or a restarted sequence starts new counters. The total number of
/// lost packets still includes the earlier losses.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    ssrc: Option<u32>,
    /// The RTP clock rate in Hz. 0 means 8,000 Hz.
    clock_rate: u32,
    base: u32,
    highest: u32,
    received: u32,
    /// The sequence number that would confirm a large step. The value is set if the last packet made a large step that
    /// is not confirmed yet.
    leapt_to: Option<u16>,
    lost_before: u32,
    received_before: u32,
    /// The number of gaps. A gap is a run of lost packets of any length.
    gaps: u32,
    prior_expected: u32,
    prior_received: u32,
    /// The number of packets received until the last report.
    prior_packets: u64,
    timestamp: u32,
    transit: Option<i32>,
    /// The recent minimum of the transit time. This value rises by one unit per packet. So it follows a far end with a
    /// slower clock.
    least_transit: i32,
    /// The jitter times 16, as in RFC 3550 appendix A.8.
    jitter: u32,
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    sender_report: Option<(u32, u64)>,
    /// Whether the newest packet had a new SSRC.
    begins: bool,
}

impl Receiver {
    /// Sets the RTP clock rate in Hz.
    pub(crate) fn set_clock_rate(&mut self, clock_rate: u32) {
        if self.clock_rate != clock_rate {
            self.clock_rate = clock_rate;
            self.transit = None;
            self.jitter = 0;
        }
    }

    /// Counts a packet that arrived at `arrival` (in timestamp units, with any origin). Returns true if the packet's
    /// SSRC is new.
    pub(crate) fn handle(&mut self, header: &Header, arrival: u32) -> bool {
        self.packets += 1;
        self.octets += header.payload.len() as u64;
        let new = self.ssrc != Some(header.ssrc);
        self.begins = new;
        if new {
            self.restart(header);
            self.sender_report = None;
        }
        let ahead = header.sequence.wrapping_sub(self.highest as u16).cast_signed();
        let distance = ahead.unsigned_abs();
        let limit = if ahead > 0 { MAX_DROPOUT } else { MAX_MISORDER };
        if distance > limit && self.leapt_to != Some(header.sequence) {
            // A single stray packet changes nothing. If the next packet has the next number, the sender has restarted
            // its sequence.
            self.leapt_to = Some(header.sequence.wrapping_add(1));
            return false;
        }
        if distance > limit {
            self.restart(header);
        } else if ahead > 0 {
            self.gaps += u32::from(ahead > 1);
            self.highest = self.highest.wrapping_add(distance.into());
        } else if !new {
            self.base = self.base.min(self.highest.wrapping_sub(distance.into()));
        }
        self.leapt_to = None;
        self.received = self.received.wrapping_add(1);
        // All packets of a telephone-event have the timestamp of its start (RFC 4733 §2.2). This is not jitter.
        if !new && header.timestamp == std::mem::replace(&mut self.timestamp, header.timestamp) {
            return false;
        }
        let transit = arrival.wrapping_sub(header.timestamp).cast_signed();
        let before = self.transit.replace(transit);
        // A jump of 5 s or more means that the timestamps have a new origin.
        let risen = self.least_transit.wrapping_add(1);
        let known = before.is_some() && transit.wrapping_sub(risen).unsigned_abs() < self.rate() * 5;
        self.least_transit = if known && transit.wrapping_sub(risen) > 0 { risen } else { transit };
        if let Some(before) = before {
            let difference = transit.wrapping_sub(before).unsigned_abs();
            // A jump of 5 s or more means that the timestamps have a new origin. This is not jitter.
            if difference < self.rate() * 5 {
                self.jitter = Receiver::jitter_after(self.jitter, difference);
            }
        }
        new
    }

    /// Returns the jitter after one more difference of transit times (RFC 3550 appendix A.8).
    pub(crate) fn jitter_after(jitter: u32, difference: u32) -> u32 {
        (jitter + difference).saturating_sub((jitter + 8) >> 4)
    }

    /// Whether another packet may wait behind the newest packet. There are three such cases. The newest packet was at
    /// least 10 ms later than the recent minimum. The newest packet has a new SSRC, so its delay is unknown. The number
    /// of received packets is a multiple of [`CHECK_PACKETS`].
    pub(crate) fn is_followed(&self) -> bool {
        self.begins || self.packets.is_multiple_of(CHECK_PACKETS) || self.is_late()
    }

    fn is_late(&self) -> bool {
        self.transit
            .is_some_and(|transit| transit.wrapping_sub(self.least_transit) >= (self.rate() / 100).cast_signed())
    }

    fn restart(&mut self, header: &Header) {
        self.lost_before = self.lost();
        self.received_before = self.received_before.wrapping_add(self.received);
        self.ssrc = Some(header.ssrc);
        // The count starts one cycle higher, so that a packet before the first packet does not go below zero.
        self.base = 0x1_0000 | u32::from(header.sequence);
        self.highest = self.base;
        self.received = 0;
        self.prior_expected = 0;
        self.prior_received = 0;
        self.transit = None;
        self.timestamp = header.timestamp;
    }

    /// The RTP clock rate in Hz.
    pub(crate) fn rate(&self) -> u32 {
        if self.clock_rate == 0 { 8_000 } else { self.clock_rate }
    }

    /// The counters from which the kernel continues. The number of packets and octets starts at 0.
    pub(crate) fn counted(&self) -> FlowCounts {
        let Receiver { highest, gaps, jitter, timestamp, .. } = *self;
        FlowCounts { highest, gaps, jitter, timestamp, ..FlowCounts::default() }
    }

    /// Adds the packets that the kernel has counted since [`Receiver::counted`].
    pub(crate) fn add(&mut self, packets: u64, octets: u64, gaps: u32, counted: &FlowCounts) {
        self.packets += packets;
        self.octets += octets;
        self.received = self.received.wrapping_add(packets as u32);
        self.gaps = self.gaps.wrapping_add(gaps);
        (self.highest, self.jitter, self.timestamp) = (counted.highest, counted.jitter, counted.timestamp);
        self.leapt_to = None;
    }

    /// Forgets the last transit time, because the transit time of the next packet cannot be compared with the last
    /// transit time.
    pub(crate) fn restart_transit(&mut self) {
        self.transit = None;
    }

    /// The SSRC of the received stream, or `None` before the first packet.
    pub(crate) fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// Stores two values of a sender report: the middle 32 bits of the report's NTP time, and the time at which the
    /// report arrived, in 1/65,536 s.
    pub(crate) fn handle_sender_report(&mut self, ssrc: u32, ntp_middle: u32, now: u64) {
        if self.ssrc == Some(ssrc) {
            self.sender_report = Some((ntp_middle, now));
        }
    }

    fn expected(&self) -> u32 {
        if self.ssrc.is_none() { 0 } else { self.highest.wrapping_sub(self.base).wrapping_add(1) }
    }

    /// The number of packets that never arrived. Duplicate packets cannot make this number negative.
    pub(crate) fn lost(&self) -> u32 {
        self.lost_before.saturating_add(self.expected().saturating_sub(self.received))
    }

    /// The number of packets that should have arrived. It includes packets from before a restart of the counters.
    pub(crate) fn expected_in_all(&self) -> u32 {
        self.received_before.wrapping_add(self.received).saturating_add(self.lost())
    }

    /// The ratio of two mean lengths of a gap in the stream: the measured mean length, and the mean length if the same
    /// number of packets were lost at random (ITU-T G.107 §7.3). The ratio is 1 or more.
    pub(crate) fn burst_ratio(&self) -> f64 {
        let (lost, expected) = (f64::from(self.lost()), f64::from(self.expected_in_all()));
        if self.gaps == 0 || lost >= expected {
            return 1.0;
        }
        (lost / f64::from(self.gaps) * (1.0 - lost / expected)).max(1.0)
    }

    /// The interarrival jitter in ms.
    pub(crate) fn jitter_ms(&self) -> f32 {
        (self.jitter >> 4) as f32 * 1_000.0 / self.rate() as f32
    }

    /// Returns the next report block and starts a new interval. Returns `None` if no packet arrived since the last
    /// block (RFC 3550 §6.4). `now` is in 1/65,536 s.
    pub(crate) fn report_block(&mut self, now: u64) -> Option<ReportBlock> {
        let ssrc = self.ssrc?;
        if std::mem::replace(&mut self.prior_packets, self.packets) == self.packets {
            return None;
        }
        let expected = self.expected();
        let expected_interval = expected.wrapping_sub(self.prior_expected);
        let received_interval = self.received.wrapping_sub(self.prior_received);
        self.prior_expected = expected;
        self.prior_received = self.received;
        let lost_interval = expected_interval.saturating_sub(received_interval);
        let fraction = (u64::from(lost_interval) << 8).checked_div(expected_interval.into()).unwrap_or(0);
        let (last_sr, delay) = match self.sender_report {
            Some((middle, at)) => (middle, u32::try_from(now.saturating_sub(at)).unwrap_or(u32::MAX)),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(255),
            cumulative_lost: self.lost().min(0x7F_FFFF),
            highest_sequence: self.highest.wrapping_sub(0x1_0000),
            jitter: self.jitter >> 4,
            last_sr,
            delay_since_sr: delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp, ssrc: 1, payload: 12..172 }
    }

    #[test]
    fn loss_across_the_sequence_wrap_is_counted() {
        let mut receiver = Receiver::default();
        for sequence in [65_533u16, 65_534, 1, 2] {
            receiver.handle(&packet(sequence, 0), 0);
        }
        assert_eq!(receiver.lost(), 2);
        let block = receiver.report_block(0).unwrap();
        assert_eq!(block.fraction_lost, (2 * 256 / 6) as u8);
        assert_eq!(block.highest_sequence, 0x1_0002);
    }

    #[test]
    fn reordering_is_not_loss() {
        let mut receiver = Receiver::default();
        for sequence in [10u16, 12, 11, 9, 13] {
            receiver.handle(&packet(sequence, 0), 0);
        }
        assert_eq!(receiver.lost(), 0);
    }

    #[test]
    fn a_sequence_that_goes_on_elsewhere_is_no_loss_and_a_lone_stray_moves_nothing() {
        let mut receiver = Receiver::default();
        let sequences = [10, 11, 20_000, 12, 13, 40_000, 40_001, 40_003, 39_000, 40_004];
        for sequence in sequences {
            receiver.handle(&packet(sequence, u32::from(sequence) * 160), 0);
        }
        assert_eq!(receiver.lost(), 1, "40,002");
        // A step of 3,000 still counts as loss.
        receiver.handle(&packet(43_004, 0), 0);
        assert_eq!(receiver.lost(), 1 + 2_999);
    }

    #[test]
    fn losses_in_a_row_are_told_from_scattered_ones() {
        let ratio = |lost: fn(u16) -> bool| {
            let mut receiver = Receiver::default();
            for sequence in (0..2_000).filter(|sequence| !lost(*sequence)) {
                receiver.handle(&packet(sequence, 0), 0);
            }
            receiver.burst_ratio()
        };
        assert_eq!(ratio(|_| false), 1.0);
        assert_eq!(ratio(|sequence| sequence % 20 == 7), 1.0);
        let bursty = ratio(|sequence| sequence % 100 >= 90 && sequence < 1_950);
        assert!((8.5..10.0).contains(&bursty), "{bursty}");
    }

    #[test]
    fn a_silent_interval_has_no_report_block() {
        let mut receiver = Receiver::default();
        receiver.handle(&packet(1, 0), 0);
        assert!(receiver.report_block(0).is_some());
        assert!(receiver.report_block(1).is_none());
        receiver.handle(&packet(2, 160), 160);
        assert!(receiver.report_block(2).is_some());
    }

    #[test]
    fn a_key_that_is_held_is_no_jitter_and_jitter_is_in_the_streams_own_clock() {
        let mut receiver = Receiver::default();
        receiver.set_clock_rate(48_000);
        for place in 0..50u32 {
            receiver.handle(&packet(place as u16, place * 960), place * 960);
        }
        for place in 50..80u32 {
            receiver.handle(&packet(place as u16, 50 * 960), place * 960);
        }
        assert_eq!(receiver.jitter_ms(), 0.0);
        receiver.handle(&packet(80, 80 * 960), 81 * 960);
        let jitter = receiver.jitter_ms();
        assert!((1.2..1.3).contains(&jitter), "20 ms late: a sixteenth of it, not {jitter}");
    }

    #[test]
    fn steady_arrival_has_no_jitter_and_a_late_packet_has_some() {
        let mut receiver = Receiver::default();
        for place in 0..50u32 {
            receiver.handle(&packet(place as u16, place * 160), place * 160);
        }
        assert_eq!(receiver.jitter_ms(), 0.0);
        receiver.handle(&packet(50, 50 * 160), 50 * 160 + 160);
        assert!(receiver.jitter_ms() > 1.0);
    }
}
