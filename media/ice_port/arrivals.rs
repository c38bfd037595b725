//! The packets that wait for a worker.

use std::net::SocketAddr;

use crate::command::LegId;
use crate::network::Flow;

/// The highest number of packets that wait for one worker: 40 ms of 2,000 legs. More packets are lost and counted.
const MOST: usize = 4_096;

/// Packets of the shared ports for the legs of one worker, in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    packets: Vec<Arrival>,
    octets: Vec<u8>,
}

#[derive(Debug)]
struct Arrival {
    leg: LegId,
    flow: Flow,
    from: SocketAddr,
    length: usize,
}

impl Arrivals {
    /// Adds a packet. Returns false if too many packets wait.
    pub(crate) fn push(&mut self, leg: LegId, flow: Flow, from: SocketAddr, packet: &[u8]) -> bool {
        let has_place = self.packets.len() < MOST;
        if has_place {
            self.packets.push(Arrival { leg, flow, from, length: packet.len() });
            self.octets.extend_from_slice(packet);
        }
        has_place
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Takes all packets. The memory stays.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(LegId, Flow, SocketAddr, &mut [u8])) {
        let mut rest = &mut self.octets[..];
        for Arrival { leg, flow, from, length } in self.packets.drain(..) {
            let Some((packet, after)) = std::mem::take(&mut rest).split_at_mut_checked(length) else { break };
            rest = after;
            take(leg, flow, from, packet);
        }
        self.octets.clear();
    }
}
