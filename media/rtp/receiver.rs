//! The state of the RTP stream that we receive: the choice of the audio source that is heard, and the totals of all
//! sources (RFC 3550 §6.4.1).

use serde::{Deserialize, Serialize};

use super::Header;
use super::reception::Reception;
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// The number of packets after which the engine reads the socket again in any case. If all packets are equally late,
/// their arrival times do not show that more packets wait in the socket.
const CHECK_PACKETS: u64 = 64;

/// The number of audio sources whose counters a [`Receiver`] keeps besides the source that is heard. When a further
/// source sends, the receiver forgets the source that was silent for the longest time.
const MAX_OTHERS: usize = 3;

/// The received stream: its counters, and the choice of the audio source that is heard.
///
/// A far end has one audio source at a time. If its SSRC changes, the new source is heard from its first packet on. If
/// two sources send at the same time, only the source that began last is heard, until this source falls silent.
/// Otherwise the packets of both sources would be mixed in one stream. A lone packet of another source does not
/// interrupt the source before it. A source of telephone-events beside the audio is not an audio source.
///
/// Each source has counters of its own (RFC 3550 §6.4.1). The totals include the losses of all sources.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Receiver {
    /// The source that is heard.
    heard: Option<Reception>,
    /// The other audio sources. The source of the newest packet is the first. At most [`MAX_OTHERS`].
    others: Vec<Reception>,
    /// The time at which a source was last heard again after a lone packet of another source, in timestamp units.
    contested: Option<u32>,
    /// The counters of the sources that were forgotten.
    forgotten: Totals,
    /// The RTP clock rate in Hz. 0 means 8,000 Hz.
    clock_rate: u32,
    /// The number of packets received until the last report.
    prior_packets: u64,
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// Whether the newest packet did not belong to the source that was heard before this packet.
    begins: bool,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Totals {
    lost: u32,
    received: u32,
    gaps: u32,
}

impl Totals {
    fn with(self, source: &Reception) -> Totals {
        Totals {
            lost: self.lost.saturating_add(source.lost()),
            received: self.received.wrapping_add(source.received()),
            gaps: self.gaps.wrapping_add(source.gaps),
        }
    }
}

/// The decision about a received audio packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The packet belongs to the source that is heard. `begins` says that the packet before it, if any, belonged to
    /// another source.
    Heard { begins: bool },
    /// The packet belongs to a source that is not heard, because another source sends at the same time.
    Unheard,
}

impl Receiver {
    /// Sets the RTP clock rate in Hz.
    pub(crate) fn set_clock_rate(&mut self, clock_rate: u32) {
        if self.clock_rate != clock_rate {
            self.clock_rate = clock_rate;
            self.heard.iter_mut().chain(&mut self.others).for_each(Reception::forget_timing);
        }
    }

    /// Counts a packet of audio or comfort noise that arrived at `arrival` (in timestamp units, with any origin).
    /// Decides whether the packet is heard.
    #[inline]
    pub(crate) fn handle_audio(&mut self, header: &Header, arrival: u32) -> Choice {
        self.packets += 1;
        self.octets += header.payload.len() as u64;
        let rate = self.rate();
        match &mut self.heard {
            Some(heard) if heard.ssrc == header.ssrc => {
                self.begins = false;
                heard.has_audio = true;
                heard.handle(header, arrival, rate);
                Choice::Heard { begins: false }
            }
            _ => self.handle_other(header, arrival, rate),
        }
    }

    /// Counts an audio packet of a source that was not heard until now.
    #[cold]
    fn handle_other(&mut self, header: &Header, arrival: u32, rate: u32) -> Choice {
        self.begins = true;
        let known = self.others.iter().position(|other| other.ssrc == header.ssrc);
        let mut source = known.map_or_else(|| Reception::new(header), |place| self.others.remove(place));
        source.has_audio = true;
        source.handle(header, arrival, rate);
        let heard = self.heard.as_ref();
        let replaces = heard.is_none_or(|heard| source.replaces(heard, arrival, self.contested, rate));
        if heard.is_some_and(|heard| source.outlasts(heard)) {
            self.contested = Some(arrival);
        }
        let other = if replaces { self.heard.replace(source) } else { Some(source) };
        if let Some(other) = other {
            if self.others.len() == MAX_OTHERS
                && let Some(oldest) = self.others.pop()
            {
                self.forgotten = self.forgotten.with(&oldest);
            }
            self.others.insert(0, other);
        }
        if replaces { Choice::Heard { begins: true } } else { Choice::Unheard }
    }

    /// Counts a telephone-event packet. If its SSRC is not the SSRC of the audio, the audio source does not change.
    pub(crate) fn handle_event(&mut self, header: &Header, arrival: u32) {
        self.packets += 1;
        self.octets += header.payload.len() as u64;
        let rate = self.rate();
        let heard = self.heard.get_or_insert_with(|| Reception::new(header));
        if heard.ssrc == header.ssrc {
            heard.handle(header, arrival, rate);
        }
    }

    /// Whether another packet may wait behind the newest packet. There are three such cases. The newest packet was at
    /// least 10 ms later than the recent minimum. The newest packet has another SSRC, so its delay is unknown. The
    /// number of received packets is a multiple of [`CHECK_PACKETS`].
    #[inline]
    pub(crate) fn is_followed(&self) -> bool {
        let is_late = || self.heard.as_ref().is_some_and(|heard| heard.is_late(self.rate()));
        self.begins || self.packets.is_multiple_of(CHECK_PACKETS) || is_late()
    }

    /// The RTP clock rate in Hz.
    pub(crate) fn rate(&self) -> u32 {
        if self.clock_rate == 0 { 8_000 } else { self.clock_rate }
    }

    /// The counters from which the kernel continues. The number of packets and octets starts at 0.
    pub(crate) fn counted(&self) -> FlowCounts {
        self.heard.as_ref().map(Reception::counted).unwrap_or_default()
    }

    /// Adds the packets, octets and gaps that the kernel has counted since [`Receiver::counted`]. `arrival` is the arrival
    /// of the newest of these packets, in timestamp units.
    pub(crate) fn add(&mut self, (packets, octets, gaps): (u64, u64, u32), counted: &FlowCounts, arrival: u32) {
        self.packets += packets;
        self.octets += octets;
        if let Some(heard) = &mut self.heard {
            heard.add(packets, gaps, counted, arrival);
        }
    }

    /// Forgets the last transit time, because the transit time of the next packet cannot be compared with the last
    /// transit time.
    pub(crate) fn restart_transit(&mut self) {
        self.heard.iter_mut().for_each(Reception::restart_transit);
    }

    /// Adds `by` to all arrival times, because the media clock has another origin now.
    pub(crate) fn shift_clock(&mut self, by: u32) {
        self.contested = self.contested.map(|contested| contested.wrapping_add(by));
        self.heard.iter_mut().chain(&mut self.others).for_each(|source| source.shift_clock(by));
    }

    /// The SSRC of the received stream, or `None` before the first packet.
    pub(crate) fn ssrc(&self) -> Option<u32> {
        self.heard.as_ref().map(|heard| heard.ssrc)
    }

    /// Stores two values of a sender report: the middle 32 bits of the report's NTP time, and the time at which the
    /// report arrived, in 1/65,536 s.
    pub(crate) fn handle_sender_report(&mut self, ssrc: u32, ntp_middle: u32, now: u64) {
        if let Some(heard) = self.heard.as_mut().filter(|heard| heard.ssrc == ssrc) {
            heard.handle_sender_report(ntp_middle, now);
        }
    }

    fn totals(&self) -> Totals {
        self.heard.iter().chain(&self.others).fold(self.forgotten, Totals::with)
    }

    /// The number of packets that never arrived. Duplicate packets cannot make this number negative.
    pub(crate) fn lost(&self) -> u32 {
        self.totals().lost
    }

    /// The number of packets that should have arrived. It includes packets from before a restart of the counters.
    pub(crate) fn expected_in_all(&self) -> u32 {
        let Totals { lost, received, .. } = self.totals();
        received.saturating_add(lost)
    }

    /// The ratio of two mean lengths of a gap in the stream: the measured mean length, and the mean length if the same
    /// number of packets were lost at random (ITU-T G.107 §7.3). The ratio is 1 or more.
    pub(crate) fn burst_ratio(&self) -> f64 {
        let (lost, expected) = (f64::from(self.lost()), f64::from(self.expected_in_all()));
        let gaps = self.totals().gaps;
        if gaps == 0 || lost >= expected {
            return 1.0;
        }
        (lost / f64::from(gaps) * (1.0 - lost / expected)).max(1.0)
    }

    /// The interarrival jitter in ms.
    pub(crate) fn jitter_ms(&self) -> f32 {
        self.heard.as_ref().map_or(0.0, |heard| heard.jitter() as f32 * 1_000.0 / self.rate() as f32)
    }

    /// Returns the next report block and starts a new interval. Returns `None` if no packet arrived since the last
    /// block (RFC 3550 §6.4). `now` is in 1/65,536 s.
    pub(crate) fn report_block(&mut self, now: u64) -> Option<ReportBlock> {
        let lost = self.lost();
        let heard = self.heard.as_mut()?;
        if std::mem::replace(&mut self.prior_packets, self.packets) == self.packets {
            return None;
        }
        Some(heard.report_block(now, lost))
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
            receiver.handle_audio(&packet(sequence, 0), 0);
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
            receiver.handle_audio(&packet(sequence, 0), 0);
        }
        assert_eq!(receiver.lost(), 0);
    }

    #[test]
    fn a_restarted_sequence_is_not_loss_and_a_single_stray_packet_changes_nothing() {
        let mut receiver = Receiver::default();
        let sequences = [10, 11, 20_000, 12, 13, 40_000, 40_001, 40_003, 39_000, 40_004];
        for sequence in sequences {
            receiver.handle_audio(&packet(sequence, u32::from(sequence) * 160), 0);
        }
        assert_eq!(receiver.lost(), 1, "40,002");
        // A step of 3,000 still counts as loss.
        receiver.handle_audio(&packet(43_004, 0), 0);
        assert_eq!(receiver.lost(), 1 + 2_999);
    }

    #[test]
    fn burst_losses_are_distinguished_from_random_losses() {
        let ratio = |lost: fn(u16) -> bool| {
            let mut receiver = Receiver::default();
            for sequence in (0..2_000).filter(|sequence| !lost(*sequence)) {
                receiver.handle_audio(&packet(sequence, 0), 0);
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
        receiver.handle_audio(&packet(1, 0), 0);
        assert!(receiver.report_block(0).is_some());
        assert!(receiver.report_block(1).is_none());
        receiver.handle_audio(&packet(2, 160), 160);
        assert!(receiver.report_block(2).is_some());
    }

    #[test]
    fn a_long_digit_is_not_jitter_and_jitter_uses_the_clock_rate_of_the_stream() {
        let mut receiver = Receiver::default();
        receiver.set_clock_rate(48_000);
        for place in 0..50u32 {
            receiver.handle_audio(&packet(place as u16, place * 960), place * 960);
        }
        for place in 50..80u32 {
            receiver.handle_audio(&packet(place as u16, 50 * 960), place * 960);
        }
        assert_eq!(receiver.jitter_ms(), 0.0);
        receiver.handle_audio(&packet(80, 80 * 960), 81 * 960);
        let jitter = receiver.jitter_ms();
        assert!((1.2..1.3).contains(&jitter), "20 ms late: a sixteenth of it, not {jitter}");
    }

    #[test]
    fn steady_arrival_has_no_jitter_and_a_late_packet_has_some() {
        let mut receiver = Receiver::default();
        for place in 0..50u32 {
            receiver.handle_audio(&packet(place as u16, place * 160), place * 160);
        }
        assert_eq!(receiver.jitter_ms(), 0.0);
        receiver.handle_audio(&packet(50, 50 * 160), 50 * 160 + 160);
        assert!(receiver.jitter_ms() > 1.0);
    }
}
