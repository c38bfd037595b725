//! What `kernel/relay.bpf.c` does, on the virtual clock.

use std::collections::HashMap;
use std::time::Duration;

use crate::engine::Flow;
use crate::rtp::Header;
use crate::rtp::receiver::Receiver;
use crate::shortcut::{COPY, Counted, Shortcut};

#[derive(Default)]
pub(super) struct FakeKernel {
    pub(super) flows: HashMap<usize, Passing>,
    pub(super) passed: u64,
}

pub(super) struct Passing {
    shortcut: Shortcut,
    counted: Counted,
    transit: Option<i32>,
    newest: Duration,
}

impl FakeKernel {
    pub(super) fn shorten(&mut self, now: Duration, shortcut: &Shortcut) -> bool {
        let passing = Passing { shortcut: shortcut.clone(), counted: shortcut.counted, transit: None, newest: now };
        assert!(self.flows.insert(shortcut.from, passing).is_none(), "it has been withdrawn before");
        true
    }

    /// Whether what comes to the slot is passed on, or (false) dropped, as nobody hears it. `None`: it goes to its socket.
    pub(super) fn passes_on(&self, slot: usize) -> Option<bool> {
        self.flows.get(&slot).map(|passing| passing.shortcut.onward.is_some())
    }

    pub(super) fn counted(&self, now: Duration, slot: usize) -> Option<Counted> {
        let passing = self.flows.get(&slot)?;
        Some(Counted { age: now - passing.newest, ..passing.counted })
    }

    /// Where a packet goes, and as what, or that it goes nowhere; `None` if it goes to its socket, where copies go too: those it
    /// marks.
    pub(super) fn relay(
        &mut self,
        now: Duration,
        slot: usize,
        flow: Flow,
        packet: &mut [u8],
    ) -> Option<Option<(usize, Vec<u8>)>> {
        let Passing { shortcut, counted, transit, newest } = self.flows.get_mut(&slot)?;
        let header = Header::parse(packet)?;
        let is_audio = header.payload_type == shortcut.audio;
        if !is_audio && Some(header.payload_type) != shortcut.noise {
            return None;
        }
        let ahead = header.sequence.wrapping_sub(counted.highest as u16).cast_signed();
        if flow != Flow::Rtp || packet[0] != 0x80 || header.ssrc != shortcut.ssrc || !(-100..=3_000).contains(&ahead) {
            return None;
        }
        *newest = now;
        counted.packets += 1;
        counted.octets += header.payload.len() as u64;
        if ahead > 0 {
            counted.gaps += u32::from(ahead > 1);
            counted.highest += u32::from(ahead.unsigned_abs());
        }
        if transit.is_none() || header.timestamp != counted.timestamp {
            counted.timestamp = header.timestamp;
            let arrival = now.as_nanos() * u128::from(shortcut.clock_rate) / 1_000_000_000;
            let now = (arrival as u32).wrapping_sub(header.timestamp).cast_signed();
            if let Some(before) = transit.replace(now) {
                let difference = now.wrapping_sub(before).unsigned_abs();
                counted.jitter = Receiver::jitter_after(counted.jitter, difference);
            }
        }
        let Some(onward) = &shortcut.onward else { return Some(None) };
        self.passed += 1;
        let mut relayed = packet.to_vec();
        if onward.copied {
            packet[0] = COPY;
        }
        let header = Header {
            payload_type: if is_audio { onward.audio } else { onward.noise? },
            sequence: header.sequence.wrapping_add(onward.sequence_offset),
            timestamp: header.timestamp.wrapping_add(onward.timestamp_offset),
            ssrc: onward.ssrc,
            ..header
        };
        header.write(&mut relayed);
        Some(Some((onward.to, relayed)))
    }
}
