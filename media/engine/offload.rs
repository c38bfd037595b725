//! Decides when the kernel relays packets, and adds the kernel's counters to the session's counters
//! ([`crate::offload`]).

use std::net::SocketAddr;
use std::time::Instant;

use super::Core;
use crate::codec::Codec;
use crate::command::LegId;
use crate::network::{Flow, Network};
use crate::offload::{COPY, Offload, OffloadRule, PLAIN};
use crate::rtp::{Header, is_rtcp};
use crate::session::PacketKind;

/// Offers a rule to the network. The offload begins if the network accepts the rule.
fn take(offload: &mut Offload, rule: Option<OffloadRule>, network: &mut dyn Network) {
    if let Some(rule) = rule.filter(|rule| network.offload(rule)) {
        offload.begin(&rule);
    }
}

impl Core {
    /// Permits offload. Call this if the network supports offload.
    pub(crate) fn enable_offload(&mut self) {
        self.can_offload = true;
    }

    /// Counts a packet of audio that the engine relayed from slot `from` to slot `to`. After enough such packets in a
    /// row, offloads the next packets.
    pub(super) fn note_relayed(
        &mut self,
        now: Instant,
        [from, to]: [usize; 2],
        header: &Header,
        codec: Codec,
        network: &mut dyn Network,
    ) {
        let Some((session, bridged)) = self.sessions.get2_mut(from, to) else { return };
        if !session.routing.offload.note_plain() {
            return;
        }
        session.routing.offload.note_other();
        let rule = session.offload_rule(bridged, header, codec, now);
        take(&mut session.routing.offload, rule, network);
    }

    /// Counts a packet of `slot`, which is not bridged. After enough successive audio packets that have no reader,
    /// tells the kernel to drop the next packets.
    pub(super) fn note_unheard(
        &mut self,
        now: Instant,
        slot: usize,
        header: &Header,
        kind: PacketKind,
        network: &mut dyn Network,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        match kind {
            PacketKind::Audio(_) if session.routing.offload.note_plain() => session.routing.offload.note_other(),
            PacketKind::Events(_) => return session.routing.offload.note_other(),
            _ => return,
        }
        let rule = session.drop_rule(header, now);
        take(&mut session.routing.offload, rule, network);
    }

    /// Handles a packet that reached the socket and is not a copy. For RTCP, the function reads the kernel's counters,
    /// because a report may follow. RTP of an offloaded leg ends the offload, because such a packet does not match the
    /// kernel's rule. Packets from strangers have no effect.
    pub(super) fn check_offload(
        &mut self,
        now: Instant,
        slot: usize,
        flow: Flow,
        from: SocketAddr,
        packet: &[u8],
        network: &mut dyn Network,
    ) {
        let Some(session) = self.sessions.get(slot) else { return };
        if flow == Flow::Rtcp || is_rtcp(packet) {
            if !session.is_unknown_rtcp_source(from) {
                self.count_both_directions(now, slot, network);
            }
        } else if session.routing.offload.is_offloaded() && !session.refuses(from, now) {
            self.revoke_offload_at(now, slot, true, network);
        }
    }

    /// Whether the packet is a copy of a packet that the kernel has relayed. If so, the function removes the mark of a
    /// copy from the packet.
    pub(super) fn takes_copy(&mut self, slot: usize, packet: &mut [u8]) -> bool {
        let Some(first) = packet.first_mut().filter(|first| **first == COPY) else { return false };
        let copy = self.sessions.get_mut(slot).is_some_and(|session| session.routing.offload.takes_copy());
        if copy {
            *first = PLAIN;
        }
        copy
    }

    /// Records that the engine relayed a telephone-event of the leg.
    pub(super) fn note_event(&mut self, slot: usize) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.routing.offload.note_other();
        }
    }

    /// Ends the offload of the session `key`. If the session is bridged, ends the offload in both directions. Call this
    /// before any change of the session.
    pub(crate) fn revoke_offload(&mut self, now: Instant, key: LegId, network: &mut dyn Network) {
        if let Some(slot) = self.slots.get(&key).copied().filter(|_| self.can_offload) {
            self.revoke_offload_at(now, slot, false, network);
        }
    }

    /// Reads the kernel's counters for the session `key`. If the session is bridged, reads the counters of both
    /// directions. The offload continues.
    pub(super) fn count_offload(&mut self, now: Instant, key: LegId, network: &mut dyn Network) {
        if let Some(slot) = self.slots.get(&key).copied().filter(|_| self.can_offload) {
            self.count_both_directions(now, slot, network);
        }
    }

    pub(super) fn revoke_offload_at(&mut self, now: Instant, slot: usize, by_itself: bool, network: &mut dyn Network) {
        for slot in self.both_directions(slot) {
            self.end_offload(now, slot, by_itself, network);
        }
    }

    /// Reads the kernel's counters for the leg in `slot`. If the leg is bridged, reads the counters of both directions.
    fn count_both_directions(&mut self, now: Instant, slot: usize, network: &mut dyn Network) {
        for slot in self.both_directions(slot) {
            self.count_offloaded(now, slot, network);
        }
    }

    /// Advances the leg in `slot` by one frame of 20 ms. Reads the kernel's counters if they are due, or if the next
    /// report needs them.
    pub(super) fn tick_offload(&mut self, now: Instant, slot: usize, network: &mut dyn Network) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let asks = session.routing.offload.tick();
        if session.is_about_to_report() {
            self.count_both_directions(now, slot, network);
        } else if asks {
            self.count_offloaded(now, slot, network);
        }
        // The engine will soon send silence to the other leg in the same RTP stream. Before that, the engine must send
        // this stream itself again.
        if self.sessions.get(slot).is_some_and(|session| session.routing.offload.is_silent()) {
            self.end_offload(now, slot, true, network);
        }
    }

    fn both_directions(&self, slot: usize) -> impl Iterator<Item = usize> + use<> {
        let bridged =
            self.sessions.get(slot).and_then(|session| session.routing.bridged_with()).map(|bridged| bridged.slot);
        std::iter::once(slot).chain(bridged.filter(|bridged| *bridged != slot))
    }

    fn end_offload(&mut self, now: Instant, slot: usize, by_itself: bool, network: &mut dyn Network) {
        if !self.is_offloaded(slot) {
            return;
        }
        let counted = network.revoke(slot);
        self.add(now, slot, counted);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.end_offload(by_itself);
        }
    }

    fn count_offloaded(&mut self, now: Instant, slot: usize, network: &mut dyn Network) {
        if self.is_offloaded(slot) {
            let counted = network.counted(slot);
            self.add(now, slot, counted);
        }
    }

    pub(super) fn is_offloaded(&self, slot: usize) -> bool {
        self.sessions.get(slot).is_some_and(|session| session.routing.offload.is_offloaded())
    }

    fn add(&mut self, now: Instant, slot: usize, counted: Option<crate::offload::FlowCounts>) {
        let Some(counted) = counted else { return };
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.routing.offload.is_copied() {
            session.routing.offload.note(&counted);
            return;
        }
        let Some((packets, octets)) = session.note_offloaded_in(&counted, now, &self.clock) else { return };
        self.counts.packets_in += packets;
        let bridged = session.routing.bridged_with().and_then(|bridged| self.sessions.get_mut(bridged.slot));
        if let Some(bridged) = bridged.filter(|_| packets > 0) {
            bridged.note_offloaded_out(packets, octets, &counted);
            self.counts.packets_out += packets;
            self.counts.relayed += packets;
        }
    }
}
