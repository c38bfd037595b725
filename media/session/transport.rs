//! The transport of a leg's packets: the far end's addresses, the protection of the packets, and the session's sockets.
//!
//! There is one kind of transport: RTP and RTCP on a pair of ports, plain or SRTP with keys from the SDP. Another kind
//! (ICE and DTLS on one socket, with RTCP multiplexing) could become another variant of this struct, because no other
//! part of a session knows addresses, keys or sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::srtp_context::SrtpContext;
use crate::latch::{Admission, Latch};
use crate::network::{Context, Flow, Pin};
use crate::rtp::Header;
use crate::rtp::srtp::Refused;
use crate::sdp::MediaPlan;

/// The transport of a leg's packets.
#[derive(Default)]
pub(super) struct Transport {
    /// The session's slot on its worker. It identifies the session's sockets to the [`crate::network::Network`].
    slot: usize,
    latch: Latch,
    srtp: SrtpContext,
    /// Whether the RTP socket accepts only the latched source.
    pinned: bool,
    /// The source of the far end's newest RTCP.
    rtcp_source: Option<SocketAddr>,
}

impl Transport {
    /// Sets the slot that the session has on its new worker.
    pub(super) fn set_slot(&mut self, slot: usize) {
        self.slot = slot;
    }

    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    /// Applies the addresses and keys of a new plan. Returns whether the latch is open again. A hold without an address
    /// says nothing about the far end's address, so the latch does not change.
    pub(super) fn apply(&mut self, plan: &MediaPlan) -> bool {
        self.srtp.set(&plan.protection);
        self.latch.set_source(plan.source);
        self.latch.set_waits(plan.waits);
        let opens = plan.remote.is_some() || self.latch.target().is_none();
        if opens {
            self.latch.reopen(plan.remote);
            self.rtcp_source = None;
            self.pinned = false;
        }
        opens
    }

    /// Sets the time for which the latched source must be silent before any other source can replace it. With `None`,
    /// only the same far end can replace the latched source.
    pub(super) fn set_relatch_probation(&mut self, probation: Option<Duration>) {
        self.latch.set_probation(probation);
    }

    // ---- in ----

    /// Decrypts and authenticates a datagram. Returns the plain packet.
    #[inline]
    pub(super) fn decrypt<'a>(&mut self, flow: Flow, packet: &'a mut [u8]) -> Result<&'a mut [u8], Refused> {
        let length = self.srtp.decrypt(flow, packet)?;
        packet.get_mut(..length).ok_or(Refused::Malformed)
    }

    /// Decides whether an RTP packet comes from the far end. If the source changes, the socket is no longer pinned to
    /// the old source.
    pub(super) fn admit(&mut self, from: SocketAddr, header: &Header, cx: &mut Context<'_>) -> Admission {
        let authentic = !self.srtp.is_plain();
        let admission = self.latch.admits(from, (header.ssrc, header.sequence), authentic, cx.now);
        if let Admission::Moved = admission {
            self.rtcp_source = None;
            self.unpin(cx);
        }
        admission
    }

    /// Pins the socket to `from`, the source of an accepted packet, if the latch is settled.
    pub(super) fn pin_when_settled(&mut self, from: SocketAddr, cx: &mut Context<'_>) {
        if !self.pinned && self.latch.is_settled(cx.now) {
            self.pinned = true;
            cx.network.pin(self.slot, Some(Pin { peer: from, only: self.latch.is_exclusive() }));
        }
    }

    /// Advances by one frame of 20 ms. If the latched source has been silent for so long that another source may replace
    /// it, the socket is no longer pinned to this source.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        if self.pinned && self.latch.is_doubted(cx.now) {
            self.unpin(cx);
        }
    }

    fn unpin(&mut self, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.pinned) {
            cx.network.pin(self.slot, None);
        }
    }

    /// Records that the kernel handled a packet of the latched source with this sequence number at `at`.
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

    // ---- out ----

    /// The target of our RTP, or `None` until the SDP or the first packet shows a target.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.latch.target()
    }

    /// Returns the target of our RTCP. This is the source of the far end's RTCP, if this source is known. Otherwise the
    /// target depends on the far end's network. Behind a NAT, the target is the port after the learnt port, because the
    /// signalled address cannot be reached. Without a NAT, the target is the address in the SDP.
    fn rtcp_target(&self, plan: &MediaPlan) -> Option<SocketAddr> {
        self.rtcp_source.or_else(|| {
            let learnt = self.latch.learnt_target().filter(|learnt| Some(*learnt) != plan.remote);
            learnt.map(|learnt| SocketAddr::new(learnt.ip(), learnt.port().saturating_add(1))).or(plan.remote_rtcp)
        })
    }

    /// Sends an RTP packet. A packet that cannot be encrypted is not sent.
    pub(super) fn send_rtp(&mut self, to: SocketAddr, packet: &[u8], cx: &mut Context<'_>) {
        self.srtp.send(self.slot, Flow::Rtp, to, packet, cx.network);
    }

    /// Sends a compound RTCP packet. `write` writes the packet into a buffer, and is not called if there is no target.
    pub(super) fn send_rtcp<const N: usize>(
        &mut self,
        plan: &MediaPlan,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut [u8; N]) -> usize,
    ) {
        let Some(target) = self.rtcp_target(plan) else { return };
        let mut packet = [0; N];
        let length = write(&mut packet);
        if let Some(packet) = packet.get(..length) {
            self.srtp.send(self.slot, Flow::Rtcp, target, packet, cx.network);
        }
    }

    // ---- state ----

    /// Whether the socket is pinned and the latch is settled, so that the source of a packet needs no check.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.pinned && self.latch.is_settled(now)
    }

    /// Whether the socket is pinned, and our packets go to the latched source.
    pub(super) fn is_pinned_both_ways(&self) -> bool {
        self.pinned && self.latch.learnt_target().is_some()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.srtp.is_plain()
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
