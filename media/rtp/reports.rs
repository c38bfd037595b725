//! The RTCP of one session (RFC 3550 §6). This module decides when a report is due and what it contains. It also stores
//! what the far end reports about our stream. This module is pure.

use serde::{Deserialize, Serialize};

use super::receiver::{Receiver, ReportBlock};
use super::rtcp::{self, RtcpItem, SenderInfo};
use super::sender::Sender;

/// The mean number of frames of 20 ms between two reports. They last 5 s (RFC 3550 §6.2). Each interval is 0.5 to 1.5
/// times this value, so that many sessions do not report at the same time. The first interval is half as long.
const INTERVAL: u16 = 250;
/// The longest plausible round trip in 1/65,536 s. The value is 10 s. A longer value means that a clock has jumped.
const LONGEST_TRIP: u32 = 65_536 * 10;

/// The result of reading a compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportCheck {
    Accepted,
    /// The report describes streams of another session.
    Foreign,
    Malformed,
}

/// The far end's last report about our stream.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct FarEndReport {
    /// The fraction of packets lost, 0 to 1, since the far end's previous report.
    pub(crate) recent_loss: f32,
    /// The number of packets that we sent since the far end's previous report.
    pub(crate) recent_packets: u64,
    /// The number of packets lost since the start.
    pub(crate) lost: u32,
    /// The number of packets that we had sent when the report arrived.
    pub(crate) sent: u64,
    pub(crate) jitter_ms: f32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reports {
    random: u64,
    /// The number of frames until the next report.
    due: u16,
    /// The numbers of packets that we had sent at earlier reports. The first number is for the last report, and the
    /// second number is for the report before it.
    sent: [u64; 2],
    /// Whether any report was written.
    pub(crate) has_written: bool,
    pub(crate) far_end_report: Option<FarEndReport>,
    pub(crate) round_trip_ms: Option<f32>,
}

impl Reports {
    /// Creates the state of a session. `seed` makes the intervals random.
    pub(crate) fn new(seed: u64) -> Reports {
        let mut reports = Reports {
            random: seed,
            due: 0,
            sent: [0; 2],
            has_written: false,
            far_end_report: None,
            round_trip_ms: None,
        };
        reports.due = reports.draw() / 2;
        reports
    }

    /// Returns a random interval of 0.5 to 1.5 times `INTERVAL`.
    fn draw(&mut self) -> u16 {
        // The random generator is SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        INTERVAL / 2 + ((z ^ (z >> 31)) % u64::from(INTERVAL + 1)) as u16
    }

    /// Advances by one frame of 20 ms. Returns true when a report is due.
    pub(crate) fn tick(&mut self) -> bool {
        self.due = self.due.saturating_sub(1);
        if self.due > 0 {
            return false;
        }
        self.due = self.draw();
        true
    }

    /// Whether a report is due at the next frame.
    pub(crate) fn is_near(&self) -> bool {
        self.due <= 1
    }

    /// Reads a far end's compound packet that arrived at `now` (in 1/65,536 s). `clock_rate` is the clock rate of our
    /// stream in Hz.
    pub(crate) fn handle(
        &mut self,
        packet: &[u8],
        receiver: &mut Receiver,
        sender: &Sender,
        clock_rate: u32,
        now: u64,
    ) -> ReportCheck {
        let far_end = receiver.ssrc();
        let (mut any, mut ours) = (false, false);
        let well_formed = rtcp::read(packet, sender.ssrc, |item| match item {
            RtcpItem::SenderReport { ssrc, ntp_middle } => {
                (any, ours) = (true, ours || far_end == Some(ssrc));
                receiver.handle_sender_report(ssrc, ntp_middle, now);
            }
            // A far end that sends no RTP has an SSRC that we do not know. A far end that sends RTP may still use
            // another SSRC here.
            RtcpItem::ReceiverReport { ssrc } => {
                (any, ours) = (true, ours || far_end.is_none_or(|far_end| far_end == ssrc));
            }
            RtcpItem::ReportBlock(block) => {
                ours = true;
                self.handle_block(&block, sender, clock_rate, now);
            }
            RtcpItem::Bye => {}
        });
        match (well_formed, ours || (far_end.is_none() && any)) {
            (false, _) => ReportCheck::Malformed,
            (true, true) => ReportCheck::Accepted,
            (true, false) => ReportCheck::Foreign,
        }
    }

    fn handle_block(&mut self, block: &ReportBlock, sender: &Sender, clock_rate: u32, now: u64) {
        self.far_end_report = Some(FarEndReport {
            recent_loss: f32::from(block.fraction_lost) / 256.0,
            recent_packets: sender.packets - self.far_end_report.map_or(0, |before| before.sent),
            lost: block.cumulative_lost,
            sent: sender.packets,
            jitter_ms: block.jitter as f32 * 1_000.0 / clock_rate.max(1) as f32,
        });
        if block.last_sr != 0 {
            // If a clock ran backwards, the value has no meaning and is ignored.
            let trip = (now as u32).wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_sr);
            if trip < LONGEST_TRIP {
                self.round_trip_ms = Some(trip as f32 / 65.536);
            }
        }
    }

    /// Writes the next report and returns the number of octets. If we have sent packets since the second-last report,
    /// the report is a sender report. Otherwise the report is a receiver report (RFC 3550 §6.4). `ntp` is the current
    /// NTP time, with seconds in the upper 32 bits and a fraction of a second in the lower 32 bits.
    pub(crate) fn write(
        &mut self,
        sender: &Sender,
        block: Option<ReportBlock>,
        ntp: u64,
        bye: bool,
        out: &mut [u8; rtcp::LONGEST],
    ) -> usize {
        let [last, before] = self.sent;
        self.sent = [sender.packets, last];
        self.has_written = true;
        let info = (sender.packets > before).then(|| SenderInfo {
            ntp,
            timestamp: sender.clock(),
            packets: sender.packets as u32,
            octets: sender.octets as u32,
        });
        rtcp::write_report(sender.ssrc, info, block, bye, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::Header;

    fn packet(ssrc: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence: 1, timestamp: 0, ssrc, payload: 12..172 }
    }

    fn report(from: u32, info: Option<SenderInfo>, about: Option<u32>) -> Vec<u8> {
        let block = about.map(|ssrc| ReportBlock {
            ssrc,
            fraction_lost: 64,
            cumulative_lost: 9,
            highest_sequence: 0,
            jitter: 80,
            last_sr: 0,
            delay_since_sr: 0,
        });
        let mut out = [0; rtcp::LONGEST];
        let length = rtcp::write_report(from, info, block, false, &mut out);
        out[..length].to_vec()
    }

    #[test]
    fn reports_have_a_mean_interval_of_5_s_and_are_spread_over_sessions() {
        let mut firsts = Vec::new();
        for seed in 0..1_000 {
            let mut reports = Reports::new(seed);
            let times: Vec<u32> = (1..=20_000).filter(|_| reports.tick()).collect();
            firsts.push(times[0]);
            let apart: Vec<u32> = times.windows(2).map(|two| two[1] - two[0]).collect();
            assert!(apart.iter().all(|frames| (125..=375).contains(frames)), "{seed}");
            assert!((70..=90).contains(&times.len()), "{seed}: {}", times.len());
        }
        assert!(firsts.iter().all(|frames| (62..=188).contains(frames)));
        let in_one_frame = firsts.iter().map(|one| firsts.iter().filter(|other| *other == one).count()).max();
        assert!(in_one_frame < Some(30), "{in_one_frame:?} of 1,000 in one frame");
    }

    #[test]
    fn only_reports_about_streams_of_this_session_are_accepted() {
        let (mut receiver, sender) = (Receiver::default(), Sender::new(1));
        let mut reports = Reports::new(1);
        let mut check = |receiver: &mut Receiver, packet: &[u8]| {
            let verdict = reports.handle(packet, receiver, &sender, 8_000, 0);
            (verdict, reports.far_end_report.take().map(|heard| heard.jitter_ms))
        };
        let info = SenderInfo { ntp: 0, timestamp: 0, packets: 1, octets: 160 };
        // Before the first RTP packet, a report with any SSRC may come from the far end.
        assert_eq!(check(&mut receiver, &report(7, None, None)), (ReportCheck::Accepted, None));
        receiver.handle_audio(&packet(7), 0);
        assert_eq!(check(&mut receiver, &report(7, Some(info), None)), (ReportCheck::Accepted, None));
        assert_eq!(check(&mut receiver, &report(8, Some(info), Some(99))), (ReportCheck::Foreign, None));
        assert_eq!(check(&mut receiver, &report(8, None, None)), (ReportCheck::Foreign, None));
        assert_eq!(check(&mut receiver, &report(8, None, Some(sender.ssrc))), (ReportCheck::Accepted, Some(10.0)));
        assert_eq!(check(&mut receiver, &[0x80, 200, 0, 9]), (ReportCheck::Malformed, None));
        assert_eq!(check(&mut receiver, &[0x81, 203, 0, 1, 0, 0, 0, 8]), (ReportCheck::Foreign, None));
    }

    #[test]
    fn a_sending_session_writes_sender_reports_and_a_silent_one_receiver_reports() {
        let (mut sender, mut reports) = (Sender::new(1), Reports::new(1));
        let mut kinds = Vec::new();
        for sends in [false, true, true, false, false, false] {
            if sends {
                sender.audio(0, 0, 160, 160);
            }
            let mut out = [0; rtcp::LONGEST];
            let length = reports.write(&sender, None, 0, false, &mut out);
            // Each report is a complete compound packet with a CNAME.
            assert!(rtcp::read(&out[..length], 0, |_| {}));
            assert!(out[..length].windows(2).any(|two| two == [0x81, 202]));
            kinds.push(out[1]);
        }
        assert_eq!(kinds, [201, 200, 200, 200, 201, 201]);
    }
}
