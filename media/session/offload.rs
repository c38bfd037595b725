//! A leg whose packets the kernel passes on, or drops as nobody hears them: whether it may, and what is known of them afterwards.

use std::time::Instant;

use super::MediaSession;
use crate::codec::Codec;
use crate::offload::{FlowCounts, Forward, OffloadRule};
use crate::rtp::Header;

impl MediaSession {
    /// What the kernel is to do with this leg's packets for `peer`, after one of them that was relayed: `None` if anybody
    /// here has more to do with them than to listen, or it is not sure yet whose they are. `slots`: this leg's and the peer's.
    pub(crate) fn offload_rule(
        &self,
        peer: &MediaSession,
        slots: [usize; 2],
        from: &Header,
        codec: Codec,
        now: Instant,
    ) -> Option<OffloadRule> {
        let (plan, other) = (self.plan.as_ref()?, peer.plan.as_ref()?);
        let busy = peer.echo
            || peer.playback.is_some()
            || peer.digits.is_some()
            || peer.source.is_some()
            || peer.packing.frames > 0;
        // What it says goes where its packets come from, or this is no way for it.
        let reached = peer.latch.learnt_target().is_some();
        let open =
            reached && peer.pinned && peer.srtp.is_plain() && codec == other.codec && !peer.is_closing() && other.sends;
        if busy || !open {
            return None;
        }
        let [slot, to] = slots;
        let rule = self.plain_rule(slot, from, now)?;
        let (sequence_offset, timestamp_offset) = peer.sender.offsets(from.ssrc)?;
        let noise = plan.comfort_noise.and(other.comfort_noise);
        let forward = Forward {
            to,
            ssrc: peer.sender.ssrc,
            sequence_offset,
            timestamp_offset,
            audio: other.payload_type,
            noise,
            copied: self.tracks.is_some() || peer.tracks.is_some(),
        };
        Some(OffloadRule { noise: rule.noise.filter(|_| noise.is_some()), forward: Some(forward), ..rule })
    }

    /// The same of packets that nobody hears, after one of them: this leg is played to, or waits.
    pub(crate) fn drop_rule(&self, slot: usize, from: &Header, now: Instant) -> Option<OffloadRule> {
        let heard = self.bridged_with.is_some() || self.room.is_some() || self.tracks.is_some();
        if heard { None } else { self.plain_rule(slot, from, now) }
    }

    /// Of packets that are told by their looks alone, and that nobody changes on their way.
    fn plain_rule(&self, slot: usize, from: &Header, now: Instant) -> Option<OffloadRule> {
        let plan = self.plan.as_ref()?;
        let watched = self.muted || self.echo || self.framed || self.ear.is_some();
        let known = self.pinned && self.latch.is_settled(now) && self.receiver.ssrc() == Some(from.ssrc);
        let open = !self.is_closing() && plan.receives;
        (!watched && known && open && self.srtp.is_plain()).then(|| OffloadRule {
            from: slot,
            ssrc: from.ssrc,
            audio: from.payload_type,
            noise: plan.comfort_noise,
            clock_rate: self.receiver.rate(),
            counted: self.receiver.counted(),
            forward: None,
        })
    }

    /// Takes note of what the kernel has passed on of it: packets and octets since it was last asked.
    pub(crate) fn note_offloaded_in(&mut self, counted: &FlowCounts, now: Instant) -> Option<(u64, u64)> {
        let (packets, octets, gaps) = self.offload.note(counted)?;
        self.receiver.add(packets, octets, gaps, counted);
        if packets > 0 {
            self.latch.hear(now.checked_sub(counted.age).unwrap_or(now));
        }
        Some((packets, octets))
    }

    /// The same, of packets that went to this leg's peer.
    pub(crate) fn note_offloaded_out(&mut self, packets: u64, octets: u64, counted: &FlowCounts) {
        self.sender.add(packets, octets, counted.highest as u16, counted.timestamp);
        self.relayed_any = true;
        self.hush = (counted.age.as_millis() / 20).try_into().unwrap_or(u8::MAX);
    }

    /// The packets come here again; `by_itself`: what came from it, or did not, is why.
    pub(crate) fn end_offload(&mut self, by_itself: bool) {
        self.offload.end(by_itself);
        self.receiver.restart_transit();
    }

    pub(crate) fn is_about_to_report(&self) -> bool {
        self.reports.is_near()
    }
}
