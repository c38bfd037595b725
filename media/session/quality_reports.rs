//! A leg's RTCP reports, and the quality warnings that the reports cause.

use serde::{Deserialize, Serialize};

use super::SessionEvents;
use super::frame_encoder::FrameEncoder;
use super::quality_series::QualitySeries;
use crate::event::Event;
use crate::quality::{Impairment, Watch};
use crate::rtp::receiver::{Receiver, ReportBlock};
use crate::rtp::reports::Reports;

/// The number of packets between two reports that is needed to judge loss and jitter. These packets contain 1 s of
/// audio.
const JUDGED: u64 = 50;

/// The reports of a leg and the state of its quality warnings.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct QualityReports {
    pub(super) reports: Reports,
    #[serde(default)]
    pub(super) series: QualitySeries,
    watch: Watch,
    /// The total number of packets that had been received when the inbound stream was last judged.
    judged_packets: u64,
}

impl QualityReports {
    /// Creates the state. `seed` makes the intervals of the reports random.
    pub(super) fn new(seed: u64) -> QualityReports {
        let (reports, series, watch) = (Reports::new(seed), QualitySeries::default(), Watch::default());
        QualityReports { reports, series, watch, judged_packets: 0 }
    }

    /// Advances by one frame of 20 ms. Returns whether a report is due.
    pub(super) fn tick(&mut self) -> bool {
        self.watch.tick();
        self.reports.tick()
    }

    /// Judges the quality of the received stream. `block` is the report block that is sent next.
    pub(super) fn judge_inbound(&mut self, block: &ReportBlock, receiver: &Receiver, events: &mut SessionEvents) {
        let packets = receiver.packets - std::mem::replace(&mut self.judged_packets, receiver.packets);
        if packets >= JUDGED {
            self.judge(Impairment::Loss, f32::from(block.fraction_lost) / 2.56, events);
            self.judge(Impairment::Jitter, receiver.jitter_ms(), events);
        }
    }

    /// Judges the quality of the stream that the far end receives. The values come from the far end's newest report.
    /// The function also adapts the encoder to the loss.
    pub(super) fn judge_outbound(&mut self, encoder: Option<&mut FrameEncoder>, events: &mut SessionEvents) {
        if let Some(report) = self.reports.far_end_report.filter(|report| report.recent_packets >= JUDGED) {
            self.judge(Impairment::LossByFarEnd, report.recent_loss * 100.0, events);
            if let Some(encoder) = encoder {
                encoder.expect_loss((report.recent_loss * 100.0).round().clamp(0.0, 100.0) as u8);
            }
            self.judge(Impairment::JitterByFarEnd, report.jitter_ms, events);
        }
        if let Some(round_trip) = self.reports.round_trip_ms {
            self.judge(Impairment::RoundTrip, round_trip, events);
        }
    }

    fn judge(&mut self, cause: Impairment, value: f32, events: &mut SessionEvents) {
        if self.watch.note(cause, value) {
            events.send(Event::Impaired { cause, value });
        }
    }
}
