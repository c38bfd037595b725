//! One session's RTCP (RFC 3550 §6): when a report is due and what it says, and what the peer's said of us. Pure.

use super::receiver::{Receiver, ReportBlock};
use super::rtcp::{self, Said, SenderInfo};
use super::sender::Sender;

/// Frames between reports on the average: 5 s (RFC 3550 §6.2). Each time it is between half and one and a half of that,
/// so that many sessions do not report at once; the first comes after half the time.
const INTERVAL: u16 = 250;
/// A round trip that is longer is a clock that jumped: 10 s, in 1/65,536 s.
const LONGEST_TRIP: u32 = 65_536 * 10;

/// What became of a compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Taken,
    /// It is of other streams than this session's.
    Foreign,
    Malformed,
}

/// What the peer last said of our stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeardOfUs {
    /// Of what we sent since its report before this one: 0 to 1.
    pub(crate) recent_loss: f32,
    /// How many packets that was.
    pub(crate) recent_packets: u64,
    /// Since the start.
    pub(crate) lost: u32,
    /// Packets that we had sent.
    pub(crate) sent: u64,
    pub(crate) jitter_ms: f32,
}

#[derive(Debug)]
pub(crate) struct Reports {
    random: u64,
    /// Frames until the next one.
    due: u16,
    /// Packets that we had sent at the last report and at the one before.
    sent: [u64; 2],
    /// One has been written.
    pub(crate) any: bool,
    pub(crate) heard_of_us: Option<HeardOfUs>,
    pub(crate) round_trip_ms: Option<f32>,
}

impl Reports {
    /// `seed` spreads the times.
    pub(crate) fn new(seed: u64) -> Reports {
        let mut reports =
            Reports { random: seed, due: 0, sent: [0; 2], any: false, heard_of_us: None, round_trip_ms: None };
        reports.due = reports.draw() / 2;
        reports
    }

    /// 0.5 to 1.5 intervals.
    fn draw(&mut self) -> u16 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        INTERVAL / 2 + ((z ^ (z >> 31)) % u64::from(INTERVAL + 1)) as u16
    }

    /// One 20 ms frame. True when a report is due.
    pub(crate) fn tick(&mut self) -> bool {
        self.due = self.due.saturating_sub(1);
        if self.due > 0 {
            return false;
        }
        self.due = self.draw();
        true
    }

    /// Whether the next frame's report is due.
    pub(crate) fn is_near(&self) -> bool {
        self.due <= 1
    }

    /// Reads a peer's compound packet that came at `now` (1/65,536 s); `clock_rate` is that of what we send.
    pub(crate) fn handle(
        &mut self,
        packet: &[u8],
        receiver: &mut Receiver,
        sender: &Sender,
        clock_rate: u32,
        now: u64,
    ) -> Verdict {
        let peer = receiver.ssrc();
        let (mut any, mut ours) = (false, false);
        let well_formed = rtcp::read(packet, sender.ssrc, |said| match said {
            Said::SenderReport { ssrc, ntp_middle } => {
                (any, ours) = (true, ours || peer == Some(ssrc));
                receiver.handle_sender_report(ssrc, ntp_middle, now);
            }
            // Who sends no RTP has an SSRC that we do not know; who does may use another here.
            Said::ReceiverReport { ssrc } => (any, ours) = (true, ours || peer.is_none_or(|peer| peer == ssrc)),
            Said::About(block) => {
                ours = true;
                self.heard(&block, sender, clock_rate, now);
            }
            Said::Bye => {}
        });
        match (well_formed, ours || (peer.is_none() && any)) {
            (false, _) => Verdict::Malformed,
            (true, true) => Verdict::Taken,
            (true, false) => Verdict::Foreign,
        }
    }

    fn heard(&mut self, block: &ReportBlock, sender: &Sender, clock_rate: u32, now: u64) {
        self.heard_of_us = Some(HeardOfUs {
            recent_loss: f32::from(block.fraction_lost) / 256.0,
            recent_packets: sender.packets - self.heard_of_us.map_or(0, |before| before.sent),
            lost: block.cumulative_lost,
            sent: sender.packets,
            jitter_ms: block.jitter as f32 * 1_000.0 / clock_rate.max(1) as f32,
        });
        if block.last_sr != 0 {
            // A clock that ran backwards gives nonsense, which is left out.
            let trip = (now as u32).wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_sr);
            if trip < LONGEST_TRIP {
                self.round_trip_ms = Some(trip as f32 / 65.536);
            }
        }
    }

    /// Writes the next report: a sender's if we sent since the one before the last, else a receiver's (RFC 3550 §6.4).
    /// Gives the octets used. `ntp` is now, 32.32.
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
        self.any = true;
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
    fn reports_come_every_5_s_on_the_average_and_never_in_step() {
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
    fn only_reports_of_this_sessions_streams_are_taken() {
        let (mut receiver, sender) = (Receiver::default(), Sender::new(1));
        let mut reports = Reports::new(1);
        let mut hear = |receiver: &mut Receiver, packet: &[u8]| {
            let verdict = reports.handle(packet, receiver, &sender, 8_000, 0);
            (verdict, reports.heard_of_us.take().map(|heard| heard.jitter_ms))
        };
        let info = SenderInfo { ntp: 0, timestamp: 0, packets: 1, octets: 160 };
        // Before its first packet anybody could be the peer.
        assert_eq!(hear(&mut receiver, &report(7, None, None)), (Verdict::Taken, None));
        receiver.handle(&packet(7), 0);
        assert_eq!(hear(&mut receiver, &report(7, Some(info), None)), (Verdict::Taken, None));
        assert_eq!(hear(&mut receiver, &report(8, Some(info), Some(99))), (Verdict::Foreign, None));
        assert_eq!(hear(&mut receiver, &report(8, None, None)), (Verdict::Foreign, None));
        assert_eq!(hear(&mut receiver, &report(8, None, Some(sender.ssrc))), (Verdict::Taken, Some(10.0)));
        assert_eq!(hear(&mut receiver, &[0x80, 200, 0, 9]), (Verdict::Malformed, None));
        assert_eq!(hear(&mut receiver, &[0x81, 203, 0, 1, 0, 0, 0, 8]), (Verdict::Foreign, None));
    }

    #[test]
    fn who_sends_makes_sender_reports_and_who_only_listens_receiver_reports() {
        let (mut sender, mut reports) = (Sender::new(1), Reports::new(1));
        let mut kinds = Vec::new();
        for sends in [false, true, true, false, false, false] {
            if sends {
                sender.audio(0, 0, 160, 160);
            }
            let mut out = [0; rtcp::LONGEST];
            let length = reports.write(&sender, None, 0, false, &mut out);
            // Each is a whole compound packet with its CNAME.
            assert!(rtcp::read(&out[..length], 0, |_| {}));
            assert!(out[..length].windows(2).any(|two| two == [0x81, 202]));
            kinds.push(out[1]);
        }
        assert_eq!(kinds, [201, 200, 200, 200, 201, 201]);
    }
}
