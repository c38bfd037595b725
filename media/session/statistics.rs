//! The statistics of a session, and its quality over time.

use super::MediaSession;
use crate::event::{QualityPoint, Stats};
use crate::network::unix_ms;
use crate::quality::{self, Path};

impl MediaSession {
    /// Adds the quality since the last report to the series. `ntp` is the NTP time of the report. A leg without a received
    /// packet has no points.
    pub(super) fn note_quality(&mut self, ntp: u64) {
        let receiver = &self.inbound.receiver;
        if receiver.packets == 0 {
            return;
        }
        let (packets, lost) = self.quality.series.since_last(receiver.packets, receiver.lost());
        let jitter_ms = receiver.jitter_ms();
        let path = self.path(lost.into(), f64::from(packets) + f64::from(lost), receiver.burst_ratio(), jitter_ms);
        let mos = (packets > 0).then(|| path.mos());
        self.quality.series.push(QualityPoint { at_ms: unix_ms(ntp), packets, lost, jitter_ms, mos });
    }

    /// Returns the impairments of a direction in which `lost` of `expected` packets were lost.
    fn path(&self, lost: f64, expected: f64, burst_ratio: f64, jitter_ms: f32) -> Path {
        Path {
            codec: self.track_codec(),
            loss: lost / expected.max(1.0),
            burst_ratio,
            delay_ms: quality::delay_ms(self.quality.reports.round_trip_ms, jitter_ms),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let (receiver, sender) = (&self.inbound.receiver, &self.outbound.sender);
        let report = self.quality.reports.far_end_report;
        let round_trip_ms = self.quality.reports.round_trip_ms;
        let late = self.capture.late();
        let missed = f64::from(receiver.lost()) + late as f64;
        let inbound =
            self.path(missed, receiver.expected_in_all().into(), receiver.burst_ratio(), receiver.jitter_ms());
        // RTCP reports do not show how losses are distributed. The value 1.0 means random losses.
        let outbound = report.map(|report| self.path(report.lost.into(), report.sent as f64, 1.0, report.jitter_ms));
        let mut stats = Stats {
            packets_in: receiver.packets,
            octets_in: receiver.octets,
            packets_out: sender.packets,
            octets_out: sender.octets,
            lost: receiver.lost().into(),
            late,
            burst_ratio: receiver.burst_ratio() as f32,
            lost_by_far_end: report.map(|report| report.lost.into()),
            jitter_ms: receiver.jitter_ms(),
            jitter_by_far_end_ms: report.map(|report| report.jitter_ms),
            round_trip_ms,
            mos: (receiver.packets > 0).then(|| inbound.mos()),
            mos_by_far_end: outbound.map(|path| path.mos()),
            signalled: self.transport.signalled(),
            heard_from: self.transport.learnt(),
            sent_to: self.transport.target(),
            expected: self.is_expected(),
            dropped_digits: self.digit_input.dropped,
            not_relayed: self.outbound.not_relayed,
            skipped_candidates: self.transport.connection_counts().map_or(0, |counts| counts.skipped_candidates),
            ..Stats::default()
        };
        self.inbound.add_dropped(&mut stats);
        stats
    }
}
