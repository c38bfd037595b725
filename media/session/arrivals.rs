//! A buffer for a track's received G.711 packets. The packets are written to the track's timeline in batches, right
//! before the timeline is read. The reason is that each use of a timeline loads the code and data of the timeline into
//! the CPU caches. Recorders read eight frames at a time.

use crate::codec::g711::Law;
use crate::rtp::FRAME;
use crate::timeline::{Stamp, Timeline};

/// The highest number of buffered packets. It equals the number of frames that recorders read in one batch.
const MAX_PACKETS: usize = 8;

/// The G.711 packets that the timeline does not have yet.
#[derive(Default)]
pub(super) struct Arrivals {
    count: usize,
    /// The number of payload octets in all buffered packets.
    octets: usize,
    arrivals: [Option<Arrival>; MAX_PACKETS],
    buffer: Buffer,
}

struct Arrival {
    stamp: Stamp,
    law: Law,
    octets: u16,
}

/// The payloads of the buffered packets, one after the other.
struct Buffer([u8; MAX_PACKETS * FRAME]);

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer([0; MAX_PACKETS * FRAME])
    }
}

impl Arrivals {
    /// Buffers a packet. If the buffer has no space for the packet, the earlier packets are first written to the
    /// timeline.
    pub(super) fn push(&mut self, stamp: Stamp, law: Law, payload: &[u8], timeline: &mut Timeline) {
        let fits = |arrivals: &Arrivals| {
            arrivals.count < MAX_PACKETS && arrivals.octets + payload.len() <= MAX_PACKETS * FRAME
        };
        if !fits(self) {
            self.settle(timeline);
        }
        let end = self.octets + payload.len();
        match (self.arrivals.get_mut(self.count), self.buffer.0.get_mut(self.octets..end)) {
            (Some(arrival), Some(place)) => {
                place.copy_from_slice(payload);
                *arrival = Some(Arrival { stamp, law, octets: payload.len() as u16 });
                self.count += 1;
                self.octets = end;
            }
            _ => timeline.write_octets(stamp, law, payload),
        }
    }

    /// Writes all buffered packets to the timeline.
    pub(super) fn settle(&mut self, timeline: &mut Timeline) {
        let mut rest = &self.buffer.0[..];
        for arrival in self.arrivals.iter_mut().take(std::mem::take(&mut self.count)) {
            let Some(Arrival { stamp, law, octets }) = arrival.take() else { continue };
            let Some((payload, after)) = rest.split_at_checked(octets.into()) else { break };
            timeline.write_octets(stamp, law, payload);
            rest = after;
        }
        self.octets = 0;
    }
}
