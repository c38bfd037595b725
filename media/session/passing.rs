//! A leg whose packets the kernel passes on: whether they may be, and what is known of them afterwards.

use std::time::Instant;

use super::MediaSession;
use crate::codec::Codec;
use crate::rtp::Header;
use crate::shortcut::{Counted, Shortcut};

impl MediaSession {
    /// What the kernel is to do with this leg's packets for `peer`, after one of them that was relayed: `None` if anybody
    /// here has more to do with them than to listen, or it is not sure yet whose they are. Its slots are left to the caller.
    pub(crate) fn shortcut(&self, peer: &MediaSession, from: &Header, codec: Codec, now: Instant) -> Option<Shortcut> {
        let (plan, other) = (self.plan.as_ref()?, peer.plan.as_ref()?);
        let watched = self.muted || self.echo || self.framed || self.ear.is_some();
        let busy = peer.echo
            || peer.playback.is_some()
            || peer.digits.is_some()
            || peer.source.is_some()
            || peer.packing.frames > 0;
        let known = self.pinned && self.latch.is_settled(now) && peer.pinned;
        let plain = self.shield.is_plain() && peer.shield.is_plain() && codec == other.codec;
        let open = !self.is_closing() && !peer.is_closing() && plan.receives && other.sends;
        if watched || busy || !known || !plain || !open || self.receiver.ssrc() != Some(from.ssrc) {
            return None;
        }
        let (sequence_offset, timestamp_offset) = peer.sender.offsets(from.ssrc)?;
        Some(Shortcut {
            from: 0,
            to: 0,
            ssrc: from.ssrc,
            ssrc_sent: peer.sender.ssrc,
            sequence_offset,
            timestamp_offset,
            audio: (from.payload_type, other.payload_type),
            noise: plan.comfort_noise.zip(other.comfort_noise),
            clock_rate: self.receiver.rate(),
            copied: self.tracks.is_some() || peer.tracks.is_some(),
            counted: self.receiver.counted(),
        })
    }

    /// Takes note of what the kernel has passed on of it: packets and octets since it was last asked.
    pub(crate) fn note_passed(&mut self, counted: &Counted, now: Instant) -> Option<(u64, u64)> {
        let (packets, octets, gaps) = self.way.note(counted)?;
        self.receiver.add(packets, octets, gaps, counted);
        if packets > 0 {
            self.latch.hear(now.checked_sub(counted.age).unwrap_or(now));
        }
        Some((packets, octets))
    }

    /// The same, of packets that went to this leg's peer.
    pub(crate) fn note_sent(&mut self, packets: u64, octets: u64, counted: &Counted) {
        self.sender.add(packets, octets, counted.highest as u16, counted.timestamp);
        self.relayed_any = true;
        self.hush = (counted.age.as_millis() / 20).try_into().unwrap_or(u8::MAX);
    }

    /// The packets come here again.
    pub(crate) fn end_way(&mut self) {
        self.way.end();
        self.receiver.restart_transit();
    }

    pub(crate) fn is_about_to_report(&self) -> bool {
        self.reports.is_near()
    }
}
