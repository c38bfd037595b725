//! The transport of a leg's packets: the far end's addresses, the protection of the packets, and the session's sockets.
//! No other part of a session knows addresses, keys or sockets. This module is pure.
//!
//! ```text
//!   datagram  -> path: from the far end? -> SRTP -> Datagram::Rtp | Datagram::Rtcp -> session
//!   RTP, RTCP -> SRTP -> path: to which address? -> network
//! ```
//!
//! [`Path`] has a variant for each kind of transport. There is one kind: a pair of ports, with keys from the SDP. ICE with
//! DTLS becomes a second variant, in a file beside `pair.rs`. The SRTP context and the slot are not part of the path,
//! because every kind has both. So a kind adds addresses, timers, and at most the source of its keys.

mod latch;
mod pair;
mod srtp_context;

pub(crate) use latch::Admission;
use pair::{PortPair, PortPairState};
use srtp_context::{SrtpContext, SrtpContextState};

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::network::{Context, Flow};
use crate::rtp::{Header, is_rtcp};
use crate::sdp::TransportPlan;

/// The transport of a leg's packets.
#[derive(Default)]
pub(crate) struct Transport {
    /// The session's slot on its worker. It identifies the session's sockets to the [`crate::network::Network`].
    slot: usize,
    srtp: SrtpContext,
    path: Path,
}

/// How packets reach the far end.
enum Path {
    /// RTP and RTCP on two neighbouring ports. The far end's address comes from the SDP or from its packets.
    Pair(PortPair),
}

impl Default for Path {
    fn default() -> Path {
        Path::Pair(PortPair::default())
    }
}

/// A received packet, without its protection. It still has to be checked.
#[derive(Debug)]
pub(crate) enum Datagram<'a> {
    Rtp(&'a mut [u8]),
    Rtcp(&'a mut [u8]),
}

/// The reason why a transport refuses a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The far end's SDP says that the far end sends nothing. So the transport cannot tell packets of the far end from
    /// packets of a stranger.
    OnHold,
    /// RTCP came from a host that is not the source of RTP.
    UnknownRtcpSource,
    /// The packet is not authentic under the agreed SRTP key, or it is a replay.
    Srtp,
}

/// The effect of a new plan on a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Whether the far end's address is open again, so that the transport can learn another source.
    pub(crate) opens: bool,
    /// The address in the SDP, if nothing is sent there before a packet has arrived from there.
    pub(crate) refused: Option<SocketAddr>,
}

/// A transport as data. It contains the SRTP keys. The slot is not part of the data: the new worker gives one.
#[derive(Serialize, Deserialize)]
pub(crate) struct TransportSnapshot {
    srtp: SrtpContextState,
    path: PathState,
}

#[derive(Serialize, Deserialize)]
enum PathState {
    Pair(PortPairState),
}

impl Transport {
    /// Returns the transport as data at `now`.
    pub(crate) fn snapshot(&self, now: Instant) -> TransportSnapshot {
        let path = match &self.path {
            Path::Pair(pair) => PathState::Pair(pair.state(now)),
        };
        TransportSnapshot { srtp: self.srtp.state(), path }
    }

    /// Creates a transport from data. `taken` is the moment of the snapshot. `skipped` is the number of packets that may
    /// have been sent since then.
    pub(crate) fn resume(snapshot: TransportSnapshot, taken: Instant, skipped: u16) -> Transport {
        let path = match snapshot.path {
            PathState::Pair(pair) => Path::Pair(PortPair::resume(pair, taken)),
        };
        Transport { slot: 0, srtp: SrtpContext::resume(snapshot.srtp, skipped), path }
    }

    /// Sets the slot that the session has on its new worker.
    pub(crate) fn set_slot(&mut self, slot: usize) {
        self.slot = slot;
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Applies the addresses and keys of a new plan.
    pub(crate) fn apply(&mut self, plan: &TransportPlan) -> Applied {
        self.srtp.set(&plan.protection);
        match &mut self.path {
            Path::Pair(pair) => pair.apply(plan),
        }
    }

    /// Sets the time for which the latched source must be silent before any other source can replace it. With `None`,
    /// only the same far end can replace the latched source.
    pub(crate) fn set_relatch_probation(&mut self, probation: Option<Duration>) {
        match &mut self.path {
            Path::Pair(pair) => pair.set_probation(probation),
        }
    }

    // ---- in ----

    /// Takes a datagram from one of the session's sockets, and removes its protection in place. `receives` says whether
    /// the far end may send RTP now.
    #[inline]
    pub(crate) fn handle_datagram<'a>(
        &mut self,
        flow: Flow,
        from: SocketAddr,
        packet: &'a mut [u8],
        receives: bool,
    ) -> Result<Datagram<'a>, Refusal> {
        // Some far ends send RTCP to the RTP port.
        if flow == Flow::Rtcp || is_rtcp(packet) {
            if self.is_unknown_rtcp_source(from) {
                return Err(Refusal::UnknownRtcpSource);
            }
            return self.decrypt(Flow::Rtcp, packet).map(Datagram::Rtcp);
        }
        if !receives {
            return Err(Refusal::OnHold);
        }
        self.decrypt(Flow::Rtp, packet).map(Datagram::Rtp)
    }

    #[inline]
    fn decrypt<'a>(&mut self, flow: Flow, packet: &'a mut [u8]) -> Result<&'a mut [u8], Refusal> {
        let length = self.srtp.decrypt(flow, packet).map_err(|_| Refusal::Srtp)?;
        packet.get_mut(..length).ok_or(Refusal::Srtp)
    }

    /// Decides whether an RTP packet comes from the far end.
    #[inline]
    pub(crate) fn admit(&mut self, from: SocketAddr, header: &Header, cx: &mut Context<'_>) -> Admission {
        let authentic = !self.srtp.is_plain();
        match &mut self.path {
            Path::Pair(pair) => pair.admit(self.slot, from, header, authentic, cx),
        }
    }

    /// Takes note that the session accepted an RTP packet from `from`.
    #[inline]
    pub(crate) fn note_accepted(&mut self, from: SocketAddr, cx: &mut Context<'_>) {
        match &mut self.path {
            Path::Pair(pair) => pair.pin_when_settled(self.slot, from, cx),
        }
    }

    /// Takes note that the kernel handled a packet of the far end with this sequence number at `at`.
    pub(crate) fn note_heard(&mut self, at: Instant, sequence: u16) {
        match &mut self.path {
            Path::Pair(pair) => pair.note_heard(at, sequence),
        }
    }

    /// Takes note that `from` sent RTCP that the session accepted.
    pub(crate) fn note_rtcp_source(&mut self, from: SocketAddr) {
        match &mut self.path {
            Path::Pair(pair) => pair.note_rtcp_source(from),
        }
    }

    /// Whether `from`, the source of an RTCP packet, cannot be the far end.
    pub(crate) fn is_unknown_rtcp_source(&self, from: SocketAddr) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.is_unknown_rtcp_source(from),
        }
    }

    /// Whether RTP from `from` is refused, whatever it contains.
    pub(crate) fn refuses(&self, from: SocketAddr, now: Instant) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.refuses(from, now),
        }
    }

    // ---- time ----

    /// Does the work that is due at `cx.now`. The session calls this function in each frame of 20 ms, and the core calls
    /// it at the time of [`Transport::poll_timeout`].
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        match &mut self.path {
            Path::Pair(pair) => pair.handle_timeout(self.slot, cx),
        }
    }

    /// Returns the time at which [`Transport::handle_timeout`] must be called, if a call in each frame is not enough.
    #[inline]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.path {
            // The latch moves its limit with each packet, and a frame is precise enough for this limit.
            Path::Pair(_) => None,
        }
    }

    // ---- out ----

    /// The target of our RTP, or `None` until the SDP or the first packet shows a target.
    #[inline]
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        match &self.path {
            Path::Pair(pair) => pair.target(),
        }
    }

    /// Sends an RTP packet. A packet that cannot be encrypted is not sent.
    pub(crate) fn send_rtp(&mut self, to: SocketAddr, packet: &[u8], cx: &mut Context<'_>) {
        self.srtp.send(self.slot, Flow::Rtp, to, packet, cx.network);
    }

    /// Sends a compound RTCP packet. `write` writes the packet into a buffer, and is not called if there is no target.
    pub(crate) fn send_rtcp<const N: usize>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut [u8; N]) -> usize,
    ) {
        let target = match &self.path {
            Path::Pair(pair) => pair.rtcp_target(),
        };
        let Some(target) = target else { return };
        let mut packet = [0; N];
        let length = write(&mut packet);
        if let Some(packet) = packet.get(..length) {
            self.srtp.send(self.slot, Flow::Rtcp, target, packet, cx.network);
        }
    }

    // ---- state ----

    /// Whether the far end's description says where the far end is. During a hold by the old method it does not.
    pub(crate) fn has_address(&self) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.has_address(),
        }
    }

    /// Whether only the far end's packets arrive, so that the source of a packet needs no check.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.is_settled(now),
        }
    }

    /// Whether only the far end's packets arrive, and our packets go to their source.
    pub(crate) fn is_pinned_both_ways(&self) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.is_pinned_both_ways(),
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.srtp.is_plain()
    }

    /// The RTP address in the far end's SDP.
    pub(crate) fn signalled(&self) -> Option<SocketAddr> {
        match &self.path {
            Path::Pair(pair) => pair.signalled(),
        }
    }

    /// The source of the far end's RTP.
    pub(crate) fn learnt(&self) -> Option<SocketAddr> {
        match &self.path {
            Path::Pair(pair) => pair.learnt(),
        }
    }
}
