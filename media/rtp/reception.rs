//! The counters of one received SSRC: its loss and jitter (RFC 3550 §6.4.1 and appendix A).

use serde::{Deserialize, Serialize};

use super::receiver::ReportBlock;
use super::{Header, is_newer};
use crate::offload::FlowCounts;

/// The largest forward step of the sequence number that counts as loss. A larger step means that the sender has
/// restarted the sequence (RFC 3550 appendix A.1).
const MAX_DROPOUT: u16 = 3_000;
/// The largest backward step of the sequence number that counts as reordering.
const MAX_MISORDER: u16 = 100;
/// The time in ms without a packet after which a source counts as silent. The longest packet time is 240 ms.
const SILENT_MS: u32 = 250;

/// The counters of one SSRC. If the source restarts its sequence, the counters start again, but the total number of
/// lost packets still includes the earlier losses.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Reception {
    pub(super) ssrc: u32,
    /// Whether the source has sent audio. A source that sends only telephone-events is no audio source.
    pub(super) has_audio: bool,
    base: u32,
    highest: u32,
    received: u32,
    /// The sequence number that would confirm a large step. The value is set if the last packet made a large step that
    /// is not confirmed yet.
    leapt_to: Option<u16>,
    lost_before: u32,
    received_before: u32,
    /// The number of gaps. A gap is a run of lost packets of any length.
    pub(super) gaps: u32,
    prior_expected: u32,
    prior_received: u32,
    timestamp: u32,
    transit: Option<i32>,
    /// The recent minimum of the transit time. This value rises by one unit per packet. So it follows a far end with a
    /// slower clock.
    least_transit: i32,
    /// The jitter times 16, as in RFC 3550 appendix A.8.
    jitter: u32,
    sender_report: Option<(u32, u64)>,
    /// The arrival of the first and of the newest packet of the current run, in timestamp units. A run ends when the
    /// source falls silent.
    run_began: u32,
    newest: u32,
    /// The number of packets in the current run, at most 255.
    run: u8,
}

impl Reception {
    /// Creates the counters of the SSRC of a packet that has just arrived. The packet is not counted yet.
    pub(super) fn new(header: &Header) -> Reception {
        let mut reception = Reception { ssrc: header.ssrc, ..Reception::default() };
        reception.restart(header);
        reception
    }

    fn restart(&mut self, header: &Header) {
        self.lost_before = self.lost();
        self.received_before = self.received_before.wrapping_add(self.received);
        // The count starts one cycle higher, so that a packet before the first packet does not go below zero.
        self.base = 0x1_0000 | u32::from(header.sequence);
        self.highest = self.base;
        self.received = 0;
        self.prior_expected = 0;
        self.prior_received = 0;
        self.transit = None;
        self.timestamp = header.timestamp;
    }

    /// Counts a packet that arrived at `arrival`, in timestamp units with any origin. `rate` is the RTP clock rate in
    /// Hz.
    #[inline]
    pub(super) fn handle(&mut self, header: &Header, arrival: u32, rate: u32) {
        if self.run == 0 || self.is_silent(arrival, rate) {
            (self.run_began, self.run) = (arrival, 0);
        }
        self.run = self.run.saturating_add(1);
        self.newest = arrival;
        let first = self.received == 0;
        let ahead = header.sequence.wrapping_sub(self.highest as u16).cast_signed();
        let distance = ahead.unsigned_abs();
        let limit = if ahead > 0 { MAX_DROPOUT } else { MAX_MISORDER };
        if distance > limit && self.leapt_to != Some(header.sequence) {
            // A single stray packet changes nothing. If the next packet has the next number, the sender has restarted
            // its sequence.
            self.leapt_to = Some(header.sequence.wrapping_add(1));
            return;
        }
        if distance > limit {
            self.restart(header);
        } else if ahead > 0 {
            self.gaps += u32::from(ahead > 1);
            self.highest = self.highest.wrapping_add(distance.into());
        } else if !first {
            self.base = self.base.min(self.highest.wrapping_sub(distance.into()));
        }
        self.leapt_to = None;
        self.received = self.received.wrapping_add(1);
        // All packets of a telephone-event have the timestamp of its start (RFC 4733 §2.2). This is not jitter.
        if !first && header.timestamp == std::mem::replace(&mut self.timestamp, header.timestamp) {
            return;
        }
        self.measure_transit(arrival.wrapping_sub(header.timestamp).cast_signed(), rate);
    }

    fn measure_transit(&mut self, transit: i32, rate: u32) {
        let before = self.transit.replace(transit);
        // A jump of 5 s or more means that the timestamps have a new origin.
        let risen = self.least_transit.wrapping_add(1);
        let known = before.is_some() && transit.wrapping_sub(risen).unsigned_abs() < rate * 5;
        self.least_transit = if known && transit.wrapping_sub(risen) > 0 { risen } else { transit };
        if let Some(before) = before {
            let difference = transit.wrapping_sub(before).unsigned_abs();
            // A jump of 5 s or more means that the timestamps have a new origin. This is not jitter.
            if difference < rate * 5 {
                self.jitter = jitter_after(self.jitter, difference);
            }
        }
    }

    /// Whether this source, which has just sent a packet, is heard instead of the source `heard`. `now` is the arrival
    /// of this packet. `contested` is the time at which a source was last heard again after a lone packet of another
    /// source. For a while after that, no source that begins is heard, because each change at the same time makes the
    /// audio longer by up to one packet.
    pub(super) fn replaces(&self, heard: &Reception, now: u32, contested: Option<u32>, rate: u32) -> bool {
        let is_calm = contested.is_none_or(|contested| now.wrapping_sub(contested) > silence(rate));
        !heard.has_audio
            || heard.is_silent(now, rate)
            || (is_calm && is_newer(self.run_began, heard.run_began))
            || self.outlasts(heard)
    }

    /// Whether `heard` has sent only one packet, which came between two packets of this source.
    pub(super) fn outlasts(&self, heard: &Reception) -> bool {
        heard.run == 1 && self.run > 1
    }

    fn is_silent(&self, now: u32, rate: u32) -> bool {
        now.wrapping_sub(self.newest) > silence(rate)
    }

    /// Whether the newest packet was at least 10 ms later than the recent minimum.
    pub(super) fn is_late(&self, rate: u32) -> bool {
        self.transit.is_some_and(|transit| transit.wrapping_sub(self.least_transit) >= (rate / 100).cast_signed())
    }

    /// Adds `by` to all arrival times, because the media clock has another origin now.
    pub(super) fn shift_clock(&mut self, by: u32) {
        self.run_began = self.run_began.wrapping_add(by);
        self.newest = self.newest.wrapping_add(by);
        self.transit = self.transit.map(|transit| transit.wrapping_add(by.cast_signed()));
        self.least_transit = self.least_transit.wrapping_add(by.cast_signed());
    }

    /// Forgets the transit time and the jitter, because the clock rate has changed.
    pub(super) fn forget_timing(&mut self) {
        (self.transit, self.jitter) = (None, 0);
    }

    /// Forgets the last transit time, because the transit time of the next packet cannot be compared with it.
    pub(super) fn restart_transit(&mut self) {
        self.transit = None;
    }

    /// The counters from which the kernel continues. The number of packets and octets starts at 0.
    pub(super) fn counted(&self) -> FlowCounts {
        let Reception { highest, gaps, jitter, timestamp, .. } = *self;
        FlowCounts { highest, gaps, jitter, timestamp, ..FlowCounts::default() }
    }

    /// Adds the packets that the kernel has counted since [`Reception::counted`]. `arrival` is the arrival of the newest
    /// of these packets.
    pub(super) fn add(&mut self, packets: u64, gaps: u32, counted: &FlowCounts, arrival: u32) {
        if packets > 0 {
            // The source was not silent, so its run continues.
            self.newest = arrival;
            self.run = u8::MAX;
        }
        self.received = self.received.wrapping_add(packets as u32);
        self.gaps = self.gaps.wrapping_add(gaps);
        (self.highest, self.jitter, self.timestamp) = (counted.highest, counted.jitter, counted.timestamp);
        self.leapt_to = None;
    }

    /// Stores two values of a sender report: the middle 32 bits of the report's NTP time, and the time at which the
    /// report arrived, in 1/65,536 s.
    pub(super) fn handle_sender_report(&mut self, ntp_middle: u32, now: u64) {
        self.sender_report = Some((ntp_middle, now));
    }

    fn expected(&self) -> u32 {
        if self.base == 0 { 0 } else { self.highest.wrapping_sub(self.base).wrapping_add(1) }
    }

    /// The number of packets that never arrived. Duplicate packets cannot make this number negative.
    pub(super) fn lost(&self) -> u32 {
        self.lost_before.saturating_add(self.expected().saturating_sub(self.received))
    }

    /// The number of packets that arrived.
    pub(super) fn received(&self) -> u32 {
        self.received_before.wrapping_add(self.received)
    }

    /// The interarrival jitter in timestamp units.
    pub(super) fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Returns the next report block and starts a new interval. `now` is in 1/65,536 s. `lost` is the number of packets
    /// that all sources have lost.
    pub(super) fn report_block(&mut self, now: u64, lost: u32) -> ReportBlock {
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
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(255),
            cumulative_lost: lost.min(0x7F_FFFF),
            highest_sequence: self.highest.wrapping_sub(0x1_0000),
            jitter: self.jitter(),
            last_sr,
            delay_since_sr: delay,
        }
    }
}

/// Returns [`SILENT_MS`] in timestamp units.
fn silence(rate: u32) -> u32 {
    rate / 1_000 * SILENT_MS
}

/// Returns the jitter after one more difference of transit times (RFC 3550 appendix A.8). Both jitters are times 16.
pub(crate) fn jitter_after(jitter: u32, difference: u32) -> u32 {
    (jitter + difference).saturating_sub((jitter + 8) >> 4)
}
