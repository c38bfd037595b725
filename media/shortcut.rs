//! The kernel's way for a bridged leg's plain packets: what it is told, what it has counted, and when a session's packets
//! take it. Pure; [`crate::engine`] decides, and a [`crate::engine::Network`] that can do it does it.
//!
//! ```text
//!   relayed by us --50 packets in a row--> passed on by the kernel --a command, another plan, a packet that comes up to us
//!        ^                                                          | all the same, silence: what it counted is added
//!        \----------------------------------------------------------/ to ours
//! ```

use std::time::Duration;

/// Relayed packets in a row before a leg's packets may take it: a second of them.
const PATIENCE: u16 = 50;
/// The same for one whose packets keep coming up: half a minute.
const MOST_PATIENCE: u16 = 1_600;
/// After so many packets a shortcut was worth it: 10 s.
const WORTHWHILE: u64 = 500;
/// Frames after which the kernel is asked what it has counted: 400 ms.
const ASKED: u8 = 20;
/// Askings without a packet after which the leg counts as silent. With [`ASKED`] well below the 2 s after which who hears
/// nothing is sent silence.
const EMPTY: u8 = 2;

/// Packets of one leg that go to another without us, and how they change on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortcut {
    /// The slot that they come to, and the one that they leave from.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) ssrc: u32,
    pub(crate) ssrc_sent: u32,
    pub(crate) sequence_offset: u16,
    pub(crate) timestamp_offset: u32,
    /// Payload types, as received and as sent.
    pub(crate) audio: (u8, u8),
    pub(crate) noise: Option<(u8, u8)>,
    /// Units of its timestamps in a second.
    pub(crate) clock_rate: u32,
    /// Where counting goes on from.
    pub(crate) counted: Counted,
}

/// What came of a leg, by the rules of [`crate::rtp::receiver`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Packets, and octets of their payloads, since the shortcut began.
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
pub(crate) struct Way {
    /// What the kernel had counted when it was last asked; `None`: it passes nothing on.
    counted: Option<Box<Counted>>,
    /// Packets relayed in a row.
    plain: u16,
    patience: u16,
    /// Frames since the kernel was asked, and askings without a packet.
    frames: u8,
    empty: u8,
}

impl Way {
    /// Whether the kernel passes its packets on.
    pub(crate) fn is_short(&self) -> bool {
        self.counted.is_some()
    }

    /// A plain packet was relayed. True when it is time for the kernel.
    pub(crate) fn note_plain(&mut self) -> bool {
        self.plain = self.plain.saturating_add(1);
        self.plain >= self.patience.max(PATIENCE)
    }

    /// Something else came, or the kernel did not take it: counting begins anew.
    pub(crate) fn note_other(&mut self) {
        self.plain = 0;
    }

    /// The kernel has it from here on.
    pub(crate) fn begin(&mut self, counted: Counted) {
        (self.frames, self.empty) = (0, 0);
        self.counted = Some(Box::new(counted));
    }

    /// One 20 ms frame. True when the kernel should be asked.
    pub(crate) fn tick(&mut self) -> bool {
        self.frames = self.frames.saturating_add(u8::from(self.is_short()));
        self.frames >= ASKED
    }

    /// What has come since the last answer: packets, octets, gaps. `None` if it passes nothing on.
    pub(crate) fn note(&mut self, now: &Counted) -> Option<(u64, u64, u32)> {
        let before = self.counted.as_deref_mut()?;
        let before = std::mem::replace(before, *now);
        self.frames = 0;
        let packets = now.packets.saturating_sub(before.packets);
        self.empty = if packets == 0 { self.empty.saturating_add(1) } else { 0 };
        Some((packets, now.octets.saturating_sub(before.octets), now.gaps.wrapping_sub(before.gaps)))
    }

    /// Whether nothing has come for a while.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_short() && self.empty >= EMPTY
    }

    /// The packets come here again. Who leaves it soon each time waits longer for the next.
    pub(crate) fn end(&mut self) {
        let Some(counted) = self.counted.take() else { return };
        let patience = self.patience.max(PATIENCE);
        self.patience =
            if counted.packets >= WORTHWHILE { PATIENCE } else { patience.saturating_mul(2).min(MOST_PATIENCE) };
        (self.plain, self.frames, self.empty) = (0, 0, 0);
    }
}
