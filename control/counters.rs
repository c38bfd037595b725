//! What `/metrics` shows of calls and audio.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_call::event::{CallEvent, EventKind};
use tandem_call::leg::Direction;
use tandem_media as media;

/// Counters since the start.
#[derive(Default, Debug)]
pub struct Counters {
    inbound: AtomicU64,
    outbound: AtomicU64,
    answered: AtomicU64,
    ended: AtomicU64,
    refused: AtomicU64,
    packets_lost: AtomicU64,
}

impl Counters {
    /// Takes note of a leg's progress.
    pub fn count(&self, event: &CallEvent) {
        let counter = match (&event.kind, event.leg.direction) {
            (EventKind::Initiated, Direction::Inbound) => &self.inbound,
            (EventKind::Initiated, _) => &self.outbound,
            (EventKind::Answered { .. }, _) => &self.answered,
            (EventKind::Ended, _) => &self.ended,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A call to a number that is nobody's.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of an ended session's figures.
    pub fn add_media(&self, stats: &media::Stats) {
        self.packets_lost.fetch_add(stats.lost, Ordering::Relaxed);
    }

    /// Prometheus text exposition format 0.0.4.
    pub fn render(&self, out: &mut String) {
        let lines = [
            ("tandem_legs_inbound_total", "Legs that called in", &self.inbound),
            ("tandem_legs_outbound_total", "Legs that were called", &self.outbound),
            ("tandem_legs_answered_total", "Legs that were answered", &self.answered),
            ("tandem_legs_ended_total", "Legs that are over", &self.ended),
            ("tandem_calls_refused_total", "Calls to numbers that are nobody's", &self.refused),
            ("tandem_rtp_packets_lost_total", "RTP packets that never came, of ended legs", &self.packets_lost),
        ];
        for (name, help, counter) in lines {
            metric(out, name, help, "counter", counter.load(Ordering::Relaxed));
        }
    }
}

/// One metric without labels.
pub fn metric(out: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}
