//! Offload of a leg's packets to the kernel. This module decides whether the kernel may relay or drop the packets. It
//! also adds the kernel's counters to the session's counters.

use std::time::Instant;

use super::MediaSession;
use super::routing::Joined;
use crate::codec::Codec;
use crate::network::MediaClock;
use crate::offload::{FlowCounts, Forward, OffloadRule};
use crate::rtp::Header;

impl MediaSession {
    /// Returns the rule by which the kernel relays this leg's packets to `bridged`. `from` is the header of a packet that
    /// the engine has just relayed. Returns `None` if packets cannot be offloaded now. For example, `bridged` gets other
    /// audio, a consumer other than recorders and taps needs the packets, or the source of the packets is not settled
    /// yet.
    pub(crate) fn offload_rule(
        &self,
        bridged: &MediaSession,
        from: &Header,
        codec: Codec,
        now: Instant,
    ) -> Option<OffloadRule> {
        let (plan, other) = (self.audio()?, bridged.audio()?);
        let busy = bridged.routing.echo || bridged.playout.has_any() || bridged.outbound.is_packing();
        let open = bridged.transport.is_pinned_both_ways()
            && bridged.transport.is_plain()
            && codec == other.codec
            && !bridged.is_closing()
            && other.sends;
        if busy || !open {
            return None;
        }
        let rule = self.plain_rule(from, now)?;
        let (sequence_offset, timestamp_offset) = bridged.outbound.sender.offsets(from.ssrc)?;
        let noise = plan.comfort_noise.and(other.comfort_noise);
        let forward = Forward {
            to: bridged.transport.slot(),
            ssrc: bridged.outbound.sender.ssrc,
            sequence_offset,
            timestamp_offset,
            audio: other.payload_type,
            noise,
            copied: self.capture.has_tracks() || bridged.capture.has_tracks(),
        };
        Some(OffloadRule { noise: rule.noise.filter(|_| noise.is_some()), forward: Some(forward), ..rule })
    }

    /// Returns the rule by which the kernel drops this leg's packets. `from` is the header of a packet that has no
    /// reader. At this time the leg waits, or hears a prompt.
    pub(crate) fn drop_rule(&self, from: &Header, now: Instant) -> Option<OffloadRule> {
        let unheard = self.routing.joined == Joined::Nothing && !self.capture.has_tracks();
        if unheard { self.plain_rule(from, now) } else { None }
    }

    /// Returns a rule without a destination. Returns `None` if the engine must inspect or change the packets, or if the
    /// source of the packets is not settled yet.
    fn plain_rule(&self, from: &Header, now: Instant) -> Option<OffloadRule> {
        let plan = self.audio()?;
        let receiver = &self.inbound.receiver;
        let watched =
            self.inbound.muted || self.routing.echo || self.routing.transcoded || self.digit_input.is_inband();
        let known = self.transport.is_settled(now) && receiver.ssrc() == Some(from.ssrc);
        let open = !self.is_closing() && plan.receives;
        (!watched && known && open && self.transport.is_plain()).then(|| OffloadRule {
            from: self.transport.slot(),
            ssrc: from.ssrc,
            audio: from.payload_type,
            noise: plan.comfort_noise,
            clock_rate: receiver.rate(),
            counted: receiver.counted(),
            forward: None,
        })
    }

    /// Adds the kernel's counters of packets received from this leg. Returns the number of packets and octets since the
    /// last call, or `None` if the leg is not offloaded.
    pub(crate) fn note_offloaded_in(
        &mut self,
        counted: &FlowCounts,
        now: Instant,
        clock: &MediaClock,
    ) -> Option<(u64, u64)> {
        let (packets, octets, gaps) = self.routing.offload.note(counted)?;
        let newest = now.checked_sub(counted.age).unwrap_or(now);
        let receiver = &mut self.inbound.receiver;
        receiver.add((packets, octets, gaps), counted, clock.units(newest, receiver.rate()));
        if packets > 0 {
            self.transport.note_heard(newest, counted.highest as u16);
        }
        Some((packets, octets))
    }

    /// Adds the kernel's counters of packets that the kernel sent to this leg.
    pub(crate) fn note_offloaded_out(&mut self, packets: u64, octets: u64, counted: &FlowCounts) {
        self.outbound.sender.add(packets, octets, counted.highest as u16, counted.timestamp);
        self.outbound.relay.note_relayed((counted.age.as_millis() / 20).try_into().unwrap_or(u8::MAX));
    }

    /// Ends the offload of this leg's packets. `by_itself` says whether the traffic of the leg ended the offload. For
    /// example, an unexpected packet arrived, or no packets arrived.
    pub(crate) fn end_offload(&mut self, by_itself: bool) {
        self.routing.offload.end(by_itself);
        self.inbound.receiver.restart_transit();
    }

    /// Whether the leg's next RTCP report is due in the next frame.
    pub(crate) fn is_about_to_report(&self) -> bool {
        self.quality.reports.is_near()
    }
}
