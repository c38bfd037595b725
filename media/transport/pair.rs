//! The path of packets over a pair of ports: RTP on an even port, and RTCP on the next port. The latch decides where the
//! far end is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Applied;
use super::latch::{Admission, Latch, LatchState};
use crate::network::{Context, Pin};
use crate::rtp::Header;
use crate::sdp::TransportPlan;

/// The addresses of a far end that uses a pair of ports.
#[derive(Default)]
pub(super) struct PortPair {
    latch: Latch,
    /// Whether the RTP socket accepts only the latched source.
    pinned: bool,
    /// The RTP and RTCP addresses of the far end's newest SDP.
    remote: Option<SocketAddr>,
    remote_rtcp: Option<SocketAddr>,
    /// The source of the far end's newest RTCP.
    rtcp_source: Option<SocketAddr>,
}

/// The addresses as data.
#[derive(Serialize, Deserialize)]
pub(super) struct PortPairState {
    latch: LatchState,
    remote: Option<SocketAddr>,
    remote_rtcp: Option<SocketAddr>,
    rtcp_source: Option<SocketAddr>,
}

impl PortPair {
    pub(super) fn state(&self, now: Instant) -> PortPairState {
        let PortPair { latch, pinned: _, remote, remote_rtcp, rtcp_source } = self;
        PortPairState { latch: latch.state(now), remote: *remote, remote_rtcp: *remote_rtcp, rtcp_source: *rtcp_source }
    }

    /// Creates the addresses from data. The next packet pins the new socket.
    pub(super) fn resume(state: PortPairState, taken: Instant) -> PortPair {
        let PortPairState { latch, remote, remote_rtcp, rtcp_source } = state;
        PortPair { latch: Latch::resume(latch, taken), pinned: false, remote, remote_rtcp, rtcp_source }
    }

    /// Applies the addresses of a new plan. A hold without an address says nothing about the far end's address, so the
    /// latch does not change.
    pub(super) fn apply(&mut self, plan: &TransportPlan) -> Applied {
        (self.remote, self.remote_rtcp) = (plan.remote, plan.remote_rtcp);
        self.latch.set_source(plan.source);
        self.latch.set_waits(plan.waits);
        let opens = plan.remote.is_some() || self.latch.target().is_none();
        if opens {
            self.latch.reopen(plan.remote);
            self.rtcp_source = None;
            self.pinned = false;
        }
        Applied { opens, refused: plan.remote.filter(|to| plan.waits && self.target() != Some(*to)) }
    }

    pub(super) fn set_probation(&mut self, probation: Option<Duration>) {
        self.latch.set_probation(probation);
    }

    // ---- in ----

    /// Decides whether an RTP packet comes from the far end. `authentic` says that SRTP has authenticated the packet. If
    /// the source changes, the socket is no longer pinned to the old source.
    #[inline]
    pub(super) fn admit(
        &mut self,
        slot: usize,
        from: SocketAddr,
        header: &Header,
        authentic: bool,
        cx: &mut Context<'_>,
    ) -> Admission {
        let admission = self.latch.admits(from, (header.ssrc, header.sequence), authentic, cx.now);
        if let Admission::Moved = admission {
            self.rtcp_source = None;
            self.unpin(slot, cx);
        }
        admission
    }

    /// Pins the socket to `from`, the source of an accepted packet, if the latch is settled.
    #[inline]
    pub(super) fn pin_when_settled(&mut self, slot: usize, from: SocketAddr, cx: &mut Context<'_>) {
        if !self.pinned && self.latch.is_settled(cx.now) {
            self.pinned = true;
            cx.network.pin(slot, Some(Pin { source: from, only: self.latch.is_exclusive() }));
        }
    }

    fn unpin(&mut self, slot: usize, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.pinned) {
            cx.network.pin(slot, None);
        }
    }

    /// Takes note that the kernel handled a packet of the latched source with this sequence number at `at`.
    pub(super) fn note_heard(&mut self, at: Instant, sequence: u16) {
        self.latch.note_packet(at, sequence);
    }

    /// Stores the source of valid RTCP.
    pub(super) fn note_rtcp_source(&mut self, from: SocketAddr) {
        if self.latch.target().is_some() {
            self.rtcp_source = Some(from);
        }
    }

    /// Whether the host of `from`, the source of an RTCP packet, differs from all known RTP hosts of the far end. Ports
    /// are not compared, because a NAT can change them.
    pub(super) fn is_unknown_rtcp_source(&self, from: SocketAddr) -> bool {
        let known = [self.latch.target(), self.latch.learnt()];
        known.iter().any(Option::is_some) && known.iter().flatten().all(|known| known.ip() != from.ip())
    }

    /// Whether the latch refuses RTP from `from`.
    pub(super) fn refuses(&self, from: SocketAddr, now: Instant) -> bool {
        self.latch.refuses(from, now)
    }

    // ---- time ----

    /// If the latched source has been silent for so long that another source may replace it, the socket is no longer
    /// pinned to this source.
    pub(super) fn handle_timeout(&mut self, slot: usize, cx: &mut Context<'_>) {
        if self.pinned && self.latch.is_doubted(cx.now) {
            self.unpin(slot, cx);
        }
    }

    // ---- out ----

    /// The target of our RTP, or `None` until the SDP or the first packet shows a target.
    #[inline]
    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.latch.target()
    }

    /// Returns the target of our RTCP. This is the source of the far end's RTCP, if this source is known. Otherwise the
    /// target depends on the far end's network. Behind a NAT, the target is the port after the learnt port, because the
    /// signalled address cannot be reached. Without a NAT, the target is the address in the SDP.
    pub(super) fn rtcp_target(&self) -> Option<SocketAddr> {
        self.rtcp_source.or_else(|| {
            let learnt = self.latch.learnt_target().filter(|learnt| Some(*learnt) != self.remote);
            learnt.map(|learnt| SocketAddr::new(learnt.ip(), learnt.port().saturating_add(1))).or(self.remote_rtcp)
        })
    }

    // ---- state ----

    pub(super) fn has_address(&self) -> bool {
        self.remote.is_some()
    }

    /// Whether the socket is pinned and the latch is settled, so that the source of a packet needs no check.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.pinned && self.latch.is_settled(now)
    }

    /// Whether the socket is pinned, and our packets go to the latched source.
    pub(super) fn is_pinned_both_ways(&self) -> bool {
        self.pinned && self.latch.learnt_target().is_some()
    }

    /// The RTP address in the far end's SDP.
    pub(super) fn signalled(&self) -> Option<SocketAddr> {
        self.latch.signalled()
    }

    /// The latched source of RTP.
    pub(super) fn learnt(&self) -> Option<SocketAddr> {
        self.latch.learnt()
    }
}
