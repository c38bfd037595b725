//! A model of `kernel/relay.bpf.c` on the virtual clock.

use std::collections::HashMap;
use std::time::Duration;

use crate::network::Flow;
use crate::offload::{COPY, FlowCounts, OffloadRule};
use crate::rtp::reception::jitter_after;
use crate::rtp::{Header, is_jump};

#[derive(Default)]
pub(super) struct FakeKernel {
    pub(super) flows: HashMap<usize, KernelFlow>,
    pub(super) passed: u64,
}

pub(super) struct KernelFlow {
    rule: OffloadRule,
    counted: FlowCounts,
    transit: Option<i32>,
    newest: Duration,
}

impl FakeKernel {
    pub(super) fn offload(&mut self, now: Duration, rule: &OffloadRule) -> bool {
        let flow = KernelFlow { rule: rule.clone(), counted: rule.counted, transit: None, newest: now };
        assert!(self.flows.insert(rule.from, flow).is_none(), "it has been withdrawn before");
        true
    }

    /// Returns `Some(true)` if the kernel relays the packets of the slot, and `Some(false)` if the kernel drops them.
    /// Returns `None` if the packets go to the slot's socket.
    pub(super) fn passes_on(&self, slot: usize) -> Option<bool> {
        self.flows.get(&slot).map(|flow| flow.rule.forward.is_some())
    }

    pub(super) fn counted(&self, now: Duration, slot: usize) -> Option<FlowCounts> {
        let flow = self.flows.get(&slot)?;
        Some(FlowCounts { age: now - flow.newest, ..flow.counted })
    }

    /// Handles a packet. Returns `Some(Some)` with a slot and octets if the kernel relays the packet. The kernel sends
    /// these octets from this slot. Returns `Some(None)` if the kernel drops the packet, and `None` if the packet goes
    /// to its socket. If a copy is wanted, this function writes the mark of a copy into `packet`.
    pub(super) fn relay(
        &mut self,
        now: Duration,
        slot: usize,
        flow: Flow,
        packet: &mut [u8],
    ) -> Option<Option<(usize, Vec<u8>)>> {
        let KernelFlow { rule, counted, transit, newest } = self.flows.get_mut(&slot)?;
        let header = Header::parse(packet)?;
        let is_audio = header.payload_type == rule.audio;
        if !is_audio && Some(header.payload_type) != rule.noise {
            return None;
        }
        let ahead = header.sequence.wrapping_sub(counted.highest as u16).cast_signed();
        if flow != Flow::Rtp || packet[0] != 0x80 || header.ssrc != rule.ssrc || !(-100..=3_000).contains(&ahead) {
            return None;
        }
        let passed = (now - *newest).as_millis() as u32 * (rule.clock_rate / 1_000);
        if ahead > 0 && is_jump(header.timestamp.wrapping_sub(counted.timestamp), passed, rule.clock_rate) {
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
            let arrival = now.as_nanos() * u128::from(rule.clock_rate) / 1_000_000_000;
            let now = (arrival as u32).wrapping_sub(header.timestamp).cast_signed();
            if let Some(before) = transit.replace(now) {
                let difference = now.wrapping_sub(before).unsigned_abs();
                counted.jitter = jitter_after(counted.jitter, difference);
            }
        }
        let Some(forward) = &rule.forward else { return Some(None) };
        self.passed += 1;
        let mut relayed = packet.to_vec();
        if forward.copied {
            packet[0] = COPY;
        }
        let header = Header {
            payload_type: if is_audio { forward.audio } else { forward.noise? },
            sequence: header.sequence.wrapping_add(forward.sequence_offset),
            timestamp: header.timestamp.wrapping_add(forward.timestamp_offset),
            ssrc: forward.ssrc,
            ..header
        };
        header.write(&mut relayed);
        Some(Some((forward.to, relayed)))
    }
}
