//! The kernel's way for plain packets of a leg that is bridged, or that nobody hears: what it is told, what it has counted, and
//! when a session's packets take it. Pure; [`crate::engine`] decides, and a [`crate::engine::Network`] that can do it does it.
//!
//! ```text
//!   relayed by us --50 packets in a row--> passed on by the kernel --a command, another plan, a packet that comes up to us
//!        ^                                                          | all the same, silence: what it counted is added
//!        \----------------------------------------------------------/ to ours
//! ```

use std::time::Duration;

/// Packets relayed or unheard in a row before a leg's packets may take it: a second of them.
const PATIENCE: u16 = 50;
/// The same for one whose packets keep coming up: half a minute.
const MOST_PATIENCE: u16 = 1_600;
/// After so many packets an offload was worth it: 10 s.
const WORTHWHILE: u64 = 500;
/// Frames after which the kernel is asked what it has counted: 400 ms.
const ASKED: u8 = 20;
/// Askings without a packet after which the leg counts as silent. With [`ASKED`] well below the 2 s after which who hears
/// nothing is sent silence.
const EMPTY: u8 = 2;

/// Instead of the first octet of a plain RTP packet: a version that RTP does not have. The packet has been passed on, this is
/// a copy of it.
pub(crate) const COPY: u8 = 0xC0;
/// The first octet of a plain RTP packet: neither padding, nor extension, nor CSRCs.
pub(crate) const PLAIN: u8 = 0x80;

/// Packets of one leg that go on without us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffloadRule {
    /// The slot that they come to.
    pub(crate) from: usize,
    pub(crate) ssrc: u32,
    /// Payload types, of comfort noise too.
    pub(crate) audio: u8,
    pub(crate) noise: Option<u8>,
    /// Units of its timestamps in a second.
    pub(crate) clock_rate: u32,
    /// Where counting goes on from.
    pub(crate) counted: FlowCounts,
    /// `None`: nowhere, as nobody hears them. They are counted.
    pub(crate) forward: Option<Forward>,
}

/// Where they go, and how they change on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    /// The slot that they leave from.
    pub(crate) to: usize,
    pub(crate) ssrc: u32,
    pub(crate) sequence_offset: u16,
    pub(crate) timestamp_offset: u32,
    pub(crate) audio: u8,
    pub(crate) noise: Option<u8>,
    /// Whether we want a copy of each ([`COPY`]): for a recording, say.
    pub(crate) copied: bool,
}

/// What came of a leg, by the rules of [`crate::rtp::receiver`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FlowCounts {
    /// Packets, and octets of their payloads, since the offload began.
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// The highest sequence number, with its cycles.
    pub(crate) highest: u32,
    /// Runs of losses.
    pub(crate) gaps: u32,
    /// Scaled by 16, in timestamp units.
    pub(crate) jitter: u32,
    /// The newest packet's.
    pub(crate) timestamp: u32,
    /// How long ago that came.
    pub(crate) age: Duration,
}

/// A session's packets on their way.
#[derive(Debug, Default)]
pub(crate) struct Offload {
    /// What the kernel had counted when it was last asked; `None`: it passes nothing on.
    counted: Option<Box<FlowCounts>>,
    /// We see copies of them, so that what is counted there is known here.
    copied: bool,
    /// Copies that have come; once it has ended, those that are still to come.
    copies: u64,
    /// Packets relayed, or unheard, in a row.
    plain: u16,
    patience: u16,
    /// Frames since the kernel was asked, and askings without a packet.
    frames: u8,
    empty: u8,
}

impl Offload {
    /// Whether the kernel passes its packets on.
    pub(crate) fn is_offloaded(&self) -> bool {
        self.counted.is_some()
    }

    /// Whether it passes them on and we see copies.
    pub(crate) fn is_copied(&self) -> bool {
        self.is_offloaded() && self.copied
    }

    /// A copy has come. False if none can: the kernel passes on no other's, but it is not everywhere.
    pub(crate) fn takes_copy(&mut self) -> bool {
        if self.is_copied() {
            self.copies += 1;
        } else if let Some(rest) = self.copies.checked_sub(1).filter(|_| !self.is_offloaded()) {
            self.copies = rest;
        } else {
            return false;
        }
        true
    }

    /// A plain packet was relayed, or heard by nobody. True when it is time for the kernel.
    pub(crate) fn note_plain(&mut self) -> bool {
        self.plain = self.plain.saturating_add(1);
        self.plain >= self.patience.max(PATIENCE)
    }

    /// Something else came, or the kernel did not take it: counting begins anew.
    pub(crate) fn note_other(&mut self) {
        self.plain = 0;
    }

    /// The kernel has it from here on.
    pub(crate) fn begin(&mut self, rule: &OffloadRule) {
        (self.frames, self.empty) = (0, 0);
        let copied = rule.forward.as_ref().is_some_and(|forward| forward.copied);
        (self.copied, self.copies) = (copied, 0);
        self.counted = Some(Box::new(rule.counted));
    }

    /// One 20 ms frame. True when the kernel should be asked.
    pub(crate) fn tick(&mut self) -> bool {
        self.frames = self.frames.saturating_add(u8::from(self.is_offloaded()));
        self.frames >= ASKED
    }

    /// What has come since the last answer: packets, octets, gaps. `None` if it passes nothing on.
    pub(crate) fn note(&mut self, now: &FlowCounts) -> Option<(u64, u64, u32)> {
        let before = self.counted.as_deref_mut()?;
        let before = std::mem::replace(before, *now);
        self.frames = 0;
        let packets = now.packets.saturating_sub(before.packets);
        self.empty = if packets == 0 { self.empty.saturating_add(1) } else { 0 };
        Some((packets, now.octets.saturating_sub(before.octets), now.gaps.wrapping_sub(before.gaps)))
    }

    /// Whether nothing has come for a while.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_offloaded() && self.empty >= EMPTY
    }

    /// The packets come here again. Who leaves it soon each time `by_itself` (something else came from it, or nothing) waits longer
    /// for the next.
    pub(crate) fn end(&mut self, by_itself: bool) {
        let Some(counted) = self.counted.take() else { return };
        self.copies = if self.copied { counted.packets.saturating_sub(self.copies) } else { 0 };
        let patience = self.patience.max(PATIENCE);
        self.patience = match by_itself {
            _ if counted.packets >= WORTHWHILE => PATIENCE,
            true => patience.saturating_mul(2).min(MOST_PATIENCE),
            false => patience,
        };
        (self.plain, self.frames, self.empty) = (0, 0, 0);
    }
}
