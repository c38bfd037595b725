//! Offload: the kernel relays the plain packets of a bridged leg, and drops those of a leg that nothing listens to.
//! This module has the rules for the kernel, its counters, and the state that decides when a session's packets are
//! offloaded. Pure: [`crate::engine`] decides, and the [`crate::engine::Network`] does it if it can.
//!
//! ```text
//!   relayed by us --50 packets in a row--> relayed by the kernel
//!        ^                                       |
//!        \--- a command, another plan, ----------/
//!             an unexpected packet, or silence:
//!             the kernel's counters are added to ours
//! ```

use std::time::Duration;

/// The number of packets in a row, relayed or without a listener, after which a leg's packets are offloaded: 1 s of
/// audio.
const PATIENCE: u16 = 50;
/// The same for a leg whose offloads keep ending early: 32 s of audio.
const MOST_PATIENCE: u16 = 1_600;
/// The number of packets from which on an offload counts as long: 10 s of audio. A long offload resets the wait for the
/// next one.
const WORTHWHILE: u64 = 500;
/// The number of frames between two requests for the kernel's counters: 400 ms.
const ASKED: u8 = 20;
/// The number of requests without a new packet after which the leg counts as silent: 800 ms. This is well below the 2 s
/// after which the other leg is sent silence.
const EMPTY: u8 = 2;

/// The first octet of a copy of a packet that the kernel has relayed. Its version is one that RTP does not have.
pub(crate) const COPY: u8 = 0xC0;
/// The first octet of a plain RTP packet: version 2, without padding, extension and CSRCs.
pub(crate) const PLAIN: u8 = 0x80;

/// A rule for the kernel: the packets of one leg that it relays or drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffloadRule {
    /// The slot of the session that receives the packets.
    pub(crate) from: usize,
    pub(crate) ssrc: u32,
    /// The payload type of audio; `noise`: that of comfort noise.
    pub(crate) audio: u8,
    pub(crate) noise: Option<u8>,
    /// The clock rate of the timestamps in Hz.
    pub(crate) clock_rate: u32,
    /// Our counters, from which the kernel's continue.
    pub(crate) counted: FlowCounts,
    /// `None`: nothing listens to the packets. They are counted and dropped.
    pub(crate) forward: Option<Forward>,
}

/// The destination of relayed packets, and the changes that the kernel makes to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    /// The slot of the session that sends the packets on.
    pub(crate) to: usize,
    pub(crate) ssrc: u32,
    pub(crate) sequence_offset: u16,
    pub(crate) timestamp_offset: u32,
    pub(crate) audio: u8,
    pub(crate) noise: Option<u8>,
    /// Whether we get a copy of each packet ([`COPY`]), for example for a recording.
    pub(crate) copied: bool,
}

/// Counts of a leg's received packets, by the rules of [`crate::rtp::receiver`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FlowCounts {
    /// Packets, and octets of their payloads, since the offload began.
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// The highest sequence number, extended by its cycles (RFC 3550 §6.4.1).
    pub(crate) highest: u32,
    /// The number of gaps; a gap is a run of lost packets.
    pub(crate) gaps: u32,
    /// In timestamp units, scaled by 16.
    pub(crate) jitter: u32,
    /// The timestamp of the newest packet.
    pub(crate) timestamp: u32,
    /// The time since the newest packet came.
    pub(crate) age: Duration,
}

/// The state of the offload of a session's packets.
#[derive(Debug, Default)]
pub(crate) struct Offload {
    /// The kernel's counters at the last request; `None`: the packets are not offloaded.
    counted: Option<Box<FlowCounts>>,
    /// Whether we get copies. If so, our counters include the kernel's packets already.
    copied: bool,
    /// The number of copies received. After the end of the offload: the number of copies that are still to come.
    copies: u64,
    /// The number of plain packets in a row, relayed by us or without a listener.
    plain: u16,
    patience: u16,
    /// Frames since the last request for counters; `empty`: requests in a row without a new packet.
    frames: u8,
    empty: u8,
}

impl Offload {
    /// Whether the kernel relays or drops the packets.
    pub(crate) fn is_offloaded(&self) -> bool {
        self.counted.is_some()
    }

    /// Whether the kernel relays the packets and we get copies.
    pub(crate) fn is_copied(&self) -> bool {
        self.is_offloaded() && self.copied
    }

    /// Counts a packet that is marked as a copy. Returns false if it cannot be a copy: the kernel program stops forged
    /// copies, but it is not attached to every interface.
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

    /// Counts a plain packet that was relayed by us or had no listener. Returns true when it is time to offload.
    pub(crate) fn note_plain(&mut self) -> bool {
        self.plain = self.plain.saturating_add(1);
        self.plain >= self.patience.max(PATIENCE)
    }

    /// Restarts the count, because another packet came or an offload is attempted.
    pub(crate) fn note_other(&mut self) {
        self.plain = 0;
    }

    /// Begins the offload: the kernel has taken the rule.
    pub(crate) fn begin(&mut self, rule: &OffloadRule) {
        (self.frames, self.empty) = (0, 0);
        let copied = rule.forward.as_ref().is_some_and(|forward| forward.copied);
        (self.copied, self.copies) = (copied, 0);
        self.counted = Some(Box::new(rule.counted));
    }

    /// Advances by one 20 ms frame. Returns true when the kernel's counters should be requested.
    pub(crate) fn tick(&mut self) -> bool {
        self.frames = self.frames.saturating_add(u8::from(self.is_offloaded()));
        self.frames >= ASKED
    }

    /// Takes the kernel's counters. Returns packets, octets and gaps since the last request; `None` if the packets are
    /// not offloaded.
    pub(crate) fn note(&mut self, now: &FlowCounts) -> Option<(u64, u64, u32)> {
        let before = self.counted.as_deref_mut()?;
        let before = std::mem::replace(before, *now);
        self.frames = 0;
        let packets = now.packets.saturating_sub(before.packets);
        self.empty = if packets == 0 { self.empty.saturating_add(1) } else { 0 };
        Some((packets, now.octets.saturating_sub(before.octets), now.gaps.wrapping_sub(before.gaps)))
    }

    /// Whether the packets are offloaded and the leg counts as silent.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_offloaded() && self.empty >= EMPTY
    }

    /// Ends the offload. `by_itself`: the leg's traffic is the reason (an unexpected packet, or silence). If offloads
    /// end early for this reason, each next one has to wait longer.
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
