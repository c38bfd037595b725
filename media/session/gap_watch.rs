//! Reports that no packets arrive from the far end although the far end should send, and that packets arrive again.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::SessionEvents;
use crate::event::Event;

/// Number of frames of 20 ms without a packet after which a gap is reported. 100 frames last 2 s.
const REPORTED: u32 = 100;

/// Watches the inbound packets of a leg.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct GapWatch {
    /// Whether the leg is answered, so that the far end should send.
    on: bool,
    /// Number of packets at the last frame.
    packets: u64,
    /// Number of frames since the last packet, or since the far end should send.
    frames: u32,
    /// Whether the last packet was comfort noise. After such a packet, a far end that hears silence sends nothing.
    noise: bool,
    /// Whether the gap was reported and still lasts.
    reported: bool,
}

impl GapWatch {
    /// Begins to watch. From now on, the far end should send.
    pub(super) fn start(&mut self) {
        (self.on, self.frames) = (true, 0);
    }

    /// Notes whether a received packet was comfort noise.
    pub(super) fn note_packet(&mut self, noise: bool) {
        self.noise = noise;
    }

    /// Advances by one frame of 20 ms. `packets` is the number of packets received so far. `expected` says whether the
    /// far end should send according to the last offer and answer. `signalled` returns the RTP address in the far end's
    /// SDP.
    pub(super) fn tick(
        &mut self,
        packets: u64,
        expected: bool,
        signalled: impl FnOnce() -> Option<SocketAddr>,
        events: &mut SessionEvents,
    ) {
        if !self.on {
            return;
        }
        let arrived = packets != std::mem::replace(&mut self.packets, packets);
        if arrived || !expected || self.noise {
            self.frames = 0;
            // A leg on hold has no gap any more. After the hold a new gap is reported.
            if std::mem::take(&mut self.reported) {
                events.send(Event::AudioResumed);
            }
            return;
        }
        self.frames = self.frames.saturating_add(1);
        if self.frames == REPORTED {
            self.reported = true;
            events.send(Event::AudioMissing { ever: packets > 0, signalled: signalled() });
        }
    }
}
