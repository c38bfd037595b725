//! How a leg's packets reach the remote end and come from it: its addresses, their protection, the session's sockets.
//!
//! One kind of transport exists: RTP and RTCP on a pair of ports, plain or SRTP with keys from the SDP. Another kind (ICE and
//! DTLS on one socket, RTCP muxed) would be a second kind of this struct: no other part of a session knows addresses, keys or
//! sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Context;
use super::srtp_context::SrtpContext;
use crate::engine::{Flow, Pin};
use crate::latch::{Admission, Latch};
use crate::rtp::Header;
use crate::rtp::srtp::Refused;
use crate::sdp::MediaPlan;

/// See the module.
#[derive(Default)]
pub(super) struct Transport {
    /// The session's slot on its worker. The slot names the session's sockets to the [`crate::engine::Network`].
    slot: usize,
    latch: Latch,
    srtp: SrtpContext,
    /// Whether the network was told the latched source.
    pinned: bool,
    /// The source of the remote end's newest RTCP.
    rtcp_source: Option<SocketAddr>,
}

impl Transport {
    /// The session has come to a worker, where it has this slot.
    pub(super) fn set_slot(&mut self, slot: usize) {
        self.slot = slot;
    }

    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    /// Takes the addresses and keys of a new plan. Returns whether the latch is open again. A hold that names no address says
    /// nothing of where the remote end is, so it leaves the latch as it is.
    pub(super) fn apply(&mut self, plan: &MediaPlan) -> bool {
        self.srtp.set(&plan.protection);
        self.latch.set_source(plan.source);
        let opens = plan.remote.is_some() || self.latch.target().is_none();
        if opens {
            self.latch.reopen(plan.remote);
            self.rtcp_source = None;
            self.pinned = false;
        }
        opens
    }

    /// A source that is silent for this long can lose its place to another one. `None`: it never does.
    pub(super) fn set_relatch_probation(&mut self, probation: Option<Duration>) {
        self.latch.set_probation(probation);
    }

    // ---- in ----

    /// Removes the protection of a datagram. Returns the plain packet.
    #[inline]
    pub(super) fn decrypt<'a>(&mut self, flow: Flow, packet: &'a mut [u8]) -> Result<&'a mut [u8], Refused> {
        let length = self.srtp.decrypt(flow, packet)?;
        packet.get_mut(..length).ok_or(Refused::Malformed)
    }

    /// Judges the source of an RTP packet. A source that has moved unpins the socket.
    pub(super) fn admit(&mut self, from: SocketAddr, header: &Header, cx: &mut Context<'_>) -> Admission {
        let admission = self.latch.admits(from, header.ssrc, header.sequence, cx.now);
        if let Admission::Moved = admission {
            self.rtcp_source = None;
            self.unpin(cx);
        }
        admission
    }

    /// Pins the socket to the source of an admitted packet, once the latch is settled.
    pub(super) fn pin_when_settled(&mut self, from: SocketAddr, cx: &mut Context<'_>) {
        if !self.pinned && self.latch.is_settled(cx.now) {
            self.pinned = true;
            cx.network.pin(self.slot, Some(Pin { peer: from, only: self.latch.is_exclusive() }));
        }
    }

    /// One 20 ms frame: a source that has been silent for long is no longer the only one that may send.
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

    /// The kernel has forwarded a packet of the latched source at `at`.
    pub(super) fn note_heard(&mut self, at: Instant) {
        self.latch.hear(at);
    }

    /// Remembers the source of valid RTCP.
    pub(super) fn note_rtcp_source(&mut self, from: SocketAddr) {
        if self.latch.target().is_some() {
            self.rtcp_source = Some(from);
        }
    }

    /// Whether an RTCP source is another host than the one that sends RTP. Behind NAT its port says nothing.
    pub(super) fn is_stranger(&self, from: SocketAddr) -> bool {
        let known = [self.latch.target(), self.latch.learnt()];
        known.iter().any(Option::is_some) && known.iter().flatten().all(|known| known.ip() != from.ip())
    }

    /// Whether the latch would refuse RTP from there.
    pub(super) fn refuses(&self, from: SocketAddr, now: Instant) -> bool {
        self.latch.refuses(from, now)
    }

    // ---- out ----

    /// Where RTP goes; `None` until the SDP or the first packet has said so.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.latch.target()
    }

    /// Where RTCP goes: where it came from; else, behind NAT, the port after the learnt one, as the signalled address is of no
    /// use there; else where the SDP says.
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

    /// Sends a compound RTCP packet that `write` puts into a buffer; writes none when there is no address for it.
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

    // ---- what others may know ----

    /// Whether the latch and the socket are settled, so that packets need no judgement by source.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.pinned && self.latch.is_settled(now)
    }

    /// Whether the socket is pinned to a source to which our packets go as well.
    pub(super) fn is_pinned_both_ways(&self) -> bool {
        self.pinned && self.latch.learnt_target().is_some()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.srtp.is_plain()
    }

    /// Where the SDP wants RTP.
    pub(super) fn signalled(&self) -> Option<SocketAddr> {
        self.latch.signalled()
    }

    /// Where RTP came from last.
    pub(super) fn learnt(&self) -> Option<SocketAddr> {
        self.latch.learnt()
    }
}
