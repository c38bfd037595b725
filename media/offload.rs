//! Offload: the kernel relays the plain packets of a bridged leg. The kernel also drops the packets of a leg that has
//! no reader. This module has the rules for the kernel, the kernel's counters, and the state that decides when a
//! session's packets are offloaded. This module is pure: [`crate::engine`] decides, and [`crate::network::Network`]
//! executes the decision if the network can.
//!
//! ```text
//!   relayed by us --50 packets in a row--> relayed by the kernel
//!        ^                                       |
//!        \--- a command, another plan, ----------/
//!             an unexpected packet, or silence:
//!             the kernel's counters are added to ours
//! ```

use std::time::Duration;

/// The number of consecutive packets after which the kernel takes over a leg's packets. The engine relayed these
/// packets, or they had no reader. 50 packets contain 1 s of audio.
const MIN_PACKETS_BEFORE_OFFLOAD: u16 = 50;
/// The maximum number of consecutive packets after which the kernel takes over a leg's packets. A leg reaches this
/// number if its offloads keep ending early. 1,600 packets contain 32 s of audio.
const MAX_PACKETS_BEFORE_OFFLOAD: u16 = 1_600;
/// The number of packets from which on an offload counts as long. 500 packets contain 10 s of audio. After a long
/// offload, the next offload begins after `MIN_PACKETS_BEFORE_OFFLOAD` packets.
const LONG_OFFLOAD_PACKETS: u64 = 500;
/// The number of frames between two readings of the kernel's counters. 20 frames last 400 ms.
const COUNTER_INTERVAL_FRAMES: u8 = 20;
/// The number of consecutive due readings without a new packet after which the leg counts as silent. Two readings take
/// 800 ms. This is well below 2 s, the time after which the engine sends silence to the other leg.
const SILENT_REQUESTS: u8 = 2;

/// The first octet that marks a packet as a copy of a packet that the kernel has relayed. The octet contains a version
/// number that RTP does not have.
pub(crate) const COPY: u8 = 0xC0;
/// The first octet of a plain RTP packet: version 2, without padding, extension and CSRCs.
pub(crate) const PLAIN: u8 = 0x80;

/// A rule for the kernel. The rule selects the packets of one leg and says whether the kernel relays or drops these
/// packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffloadRule {
    /// The slot of the session that receives the packets.
    pub(crate) from: usize,
    pub(crate) ssrc: u32,
    /// `audio` is the payload type of audio. `noise` is the payload type of comfort noise.
    pub(crate) audio: u8,
    pub(crate) noise: Option<u8>,
    /// The clock rate of the timestamps in Hz.
    pub(crate) clock_rate: u32,
    /// The engine's counters at the start of the offload. The kernel continues to count from these values.
    pub(crate) counted: FlowCounts,
    /// The destination of the packets. If the value is `None`, the packets have no reader, and the kernel counts and
    /// drops them.
    pub(crate) forward: Option<Forward>,
}

/// The destination of relayed packets, and the changes that the kernel makes to the relayed packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    /// The slot of the session whose socket sends the packets.
    pub(crate) to: usize,
    pub(crate) ssrc: u32,
    pub(crate) sequence_offset: u16,
    pub(crate) timestamp_offset: u32,
    pub(crate) audio: u8,
    pub(crate) noise: Option<u8>,
    /// Whether the engine gets a copy of each packet ([`COPY`]), for example for a recording.
    pub(crate) copied: bool,
}

/// Counters of a leg's received packets, computed as in [`crate::rtp::receiver`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FlowCounts {
    /// `packets` is the number of packets since the offload began. `octets` is the number of payload octets in these
    /// packets.
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// The extended highest sequence number: the upper part counts the cycles of the sequence number (RFC 3550 §6.4.1).
    pub(crate) highest: u32,
    /// The number of gaps. A gap is a run of lost packets.
    pub(crate) gaps: u32,
    /// The jitter in timestamp units, times 16.
    pub(crate) jitter: u32,
    /// The timestamp of the newest packet.
    pub(crate) timestamp: u32,
    /// The time since the newest packet arrived.
    pub(crate) age: Duration,
}

/// The state of the offload of a session's packets.
#[derive(Debug, Default)]
pub(crate) struct Offload {
    /// The kernel's counters at the last reading, or `None` if the packets are not offloaded.
    counted: Option<Box<FlowCounts>>,
    /// Whether the engine gets copies of the packets. If so, the engine's own counters already include the packets that
    /// the kernel relays.
    copied: bool,
    /// The number of copies that the engine has received. After the end of the offload, this field is the number of
    /// copies that have not arrived yet.
    copies: u64,
    /// The number of consecutive plain packets that the engine relayed or that had no reader.
    plain: u16,
    required_packets: u16,
    /// `frames` is the number of frames since the last due reading of the counters. `packets` is the kernel's number of
    /// packets at this reading. `empty` is the number of consecutive due readings without a new packet. Other readings,
    /// for example for a report, change none of these fields. So a leg counts as silent neither earlier nor later.
    frames: u8,
    packets: u64,
    empty: u8,
}

impl Offload {
    /// Whether the kernel relays or drops the packets.
    pub(crate) fn is_offloaded(&self) -> bool {
        self.counted.is_some()
    }

    /// Whether the kernel relays the packets and the engine gets copies.
    pub(crate) fn is_copied(&self) -> bool {
        self.is_offloaded() && self.copied
    }

    /// Counts a packet that is marked as a copy. Returns false if the packet cannot be a copy. The kernel program stops
    /// forged copies, but only on the interfaces to which the program is attached.
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

    /// Counts a plain packet that the engine relayed or that had no reader. Returns true when it is time to offload.
    pub(crate) fn note_plain(&mut self) -> bool {
        self.plain = self.plain.saturating_add(1);
        self.plain >= self.required_packets.max(MIN_PACKETS_BEFORE_OFFLOAD)
    }

    /// Restarts the count of consecutive packets. The reason is a packet of another kind or an attempt to offload.
    pub(crate) fn note_other(&mut self) {
        self.plain = 0;
    }

    /// Begins the offload. Call this function when the kernel has accepted the rule.
    pub(crate) fn begin(&mut self, rule: &OffloadRule) {
        (self.frames, self.packets, self.empty) = (0, rule.counted.packets, 0);
        let copied = rule.forward.as_ref().is_some_and(|forward| forward.copied);
        (self.copied, self.copies) = (copied, 0);
        self.counted = Some(Box::new(rule.counted));
    }

    /// Advances by one frame of 20 ms. Returns true when the kernel's counters should be read.
    pub(crate) fn tick(&mut self) -> bool {
        self.frames = self.frames.saturating_add(u8::from(self.is_offloaded()));
        self.frames >= COUNTER_INTERVAL_FRAMES
    }

    /// Stores the kernel's counters. Returns the number of packets, octets and gaps since the last reading, or `None`
    /// if the packets are not offloaded.
    pub(crate) fn note(&mut self, now: &FlowCounts) -> Option<(u64, u64, u32)> {
        let before = self.counted.as_deref_mut()?;
        let before = std::mem::replace(before, *now);
        if self.frames >= COUNTER_INTERVAL_FRAMES {
            let is_empty = std::mem::replace(&mut self.packets, now.packets) == now.packets;
            self.empty = if is_empty { self.empty.saturating_add(1) } else { 0 };
            self.frames = 0;
        }
        let packets = now.packets.saturating_sub(before.packets);
        Some((packets, now.octets.saturating_sub(before.octets), now.gaps.wrapping_sub(before.gaps)))
    }

    /// Whether the packets are offloaded and the leg counts as silent.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_offloaded() && self.empty >= SILENT_REQUESTS
    }

    /// Ends the offload. `by_itself` is true if the leg's traffic is the reason: an unexpected packet, or silence. If
    /// offloads end early for this reason, the time before the next offload becomes longer each time.
    pub(crate) fn end(&mut self, by_itself: bool) {
        let Some(counted) = self.counted.take() else { return };
        self.copies = if self.copied { counted.packets.saturating_sub(self.copies) } else { 0 };
        let required_packets = self.required_packets.max(MIN_PACKETS_BEFORE_OFFLOAD);
        self.required_packets = match by_itself {
            _ if counted.packets >= LONG_OFFLOAD_PACKETS => MIN_PACKETS_BEFORE_OFFLOAD,
            true => required_packets.saturating_mul(2).min(MAX_PACKETS_BEFORE_OFFLOAD),
            false => required_packets,
        };
        (self.plain, self.frames, self.packets, self.empty) = (0, 0, 0, 0);
    }
}
