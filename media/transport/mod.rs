//! The transport of a leg's packets: the far end's addresses, the protection of the packets, and the session's sockets.
//! No other part of a session knows addresses, keys or sockets. This module is pure.
//!
//! ```text
//!   datagram  -> path: from the far end? -> SRTP -> Datagram::Rtp | Datagram::Rtcp -> session
//!   RTP, RTCP -> SRTP -> path: to which address? -> network
//! ```
//!
//! [`Path`] has a variant for each kind of transport: a pair of ports with addresses from the SDP, or a connection that
//! ICE finds, with keys from DTLS. The far end's description decides ([`TransportPlan::ice`]). The SRTP context and the slot
//! are not part of the path, because every kind has both.

mod dtls_srtp;
mod ice;
mod latch;
mod pair;
mod srtp_context;

pub use dtls_srtp::DtlsSrtp;
use ice::{IcePath, IcePathState};
pub(crate) use latch::Admission;
use pair::{PortPair, PortPairState};
use srtp_context::{SrtpContext, SrtpContextState};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tandem_webrtc::{CertificateKind, Counts, Failure, Identity};

use crate::network::{Context, Flow};
use crate::rtp::{Header, is_rtcp};
use crate::sdp::TransportPlan;

/// The transport of a leg's packets.
#[derive(Default)]
pub(crate) struct Transport {
    /// The session's slot on its worker. It identifies the session's sockets to the [`crate::network::Network`].
    slot: usize,
    /// Our certificate for DTLS, if the engine has one.
    identity: Option<Arc<Identity>>,
    srtp: SrtpContext,
    path: Path,
}

/// How packets reach the far end.
#[expect(clippy::large_enum_variant, reason = "nearly all sessions have a pair, and each packet uses its state")]
enum Path {
    /// RTP and RTCP on two neighbouring ports. The far end's address comes from the SDP or from its packets.
    Pair(PortPair),
    /// Everything on one port. The far end's address comes from ICE.
    Ice(Box<IcePath>),
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
    /// The transport itself has handled the datagram.
    Handled,
}

/// A change of a connection that concerns the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Packets go to another address now.
    Route,
    /// The handshake is complete. The far end's certificate is of this kind.
    Encrypted(CertificateKind),
    /// The far end has answered no connectivity check for 15 s.
    Interrupted,
    /// The far end answers connectivity checks again.
    Restored,
    Failed(Failure),
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
    /// The datagram is STUN or DTLS of a stranger.
    Connection,
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
    Ice(IcePathState),
}

impl Transport {
    /// Returns the transport as data at `now`.
    pub(crate) fn snapshot(&self, now: Instant) -> TransportSnapshot {
        let path = match &self.path {
            Path::Pair(pair) => PathState::Pair(pair.state(now)),
            Path::Ice(ice) => PathState::Ice(ice.state()),
        };
        TransportSnapshot { srtp: self.srtp.state(), path }
    }

    /// Creates a transport from data at `now`. `taken` is the moment of the snapshot. `skipped` is the number of packets
    /// that may have been sent since then.
    pub(crate) fn resume(
        snapshot: TransportSnapshot,
        [taken, now]: [Instant; 2],
        skipped: u16,
        identity: Option<Arc<Identity>>,
    ) -> Transport {
        let path = match (snapshot.path, &identity) {
            (PathState::Pair(pair), _) => Path::Pair(PortPair::resume(pair, taken)),
            (PathState::Ice(ice), Some(identity)) => {
                Path::Ice(Box::new(IcePath::resume(now, Arc::clone(identity), ice)))
            }
            (PathState::Ice(_), None) => Path::default(),
        };
        Transport { slot: 0, identity, srtp: SrtpContext::resume(snapshot.srtp, skipped), path }
    }

    /// Sets our certificate for DTLS. Without it, the transport cannot use ICE.
    pub(crate) fn set_identity(&mut self, identity: Arc<Identity>) {
        self.identity = Some(identity);
    }

    /// Sets the slot that the session has on its new worker.
    pub(crate) fn set_slot(&mut self, slot: usize) {
        self.slot = slot;
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Applies the addresses and keys of a new plan.
    pub(crate) fn apply(&mut self, plan: &TransportPlan, cx: &mut Context<'_>) -> Applied {
        self.srtp.set(&plan.protection);
        let slot = self.slot;
        match (&plan.ice, &mut self.path, &self.identity) {
            (Some(plan), Path::Ice(ice), _) => {
                ice.apply(slot, plan, cx);
                Applied { opens: false, refused: None }
            }
            (Some(plan), Path::Pair(_), Some(identity)) => {
                let mut ice = Box::new(IcePath::new(cx.now, Arc::clone(identity), plan));
                ice.apply(slot, plan, cx);
                self.path = Path::Ice(ice);
                Applied { opens: true, refused: None }
            }
            // The far end has left ICE, which only a far end with another kind of transport does after a transfer.
            (None, Path::Ice(_), _) => {
                let mut pair = PortPair::default();
                let applied = pair.apply(plan);
                self.path = Path::Pair(pair);
                applied
            }
            (_, Path::Pair(pair), _) => pair.apply(plan),
        }
    }

    /// Sets the time for which the latched source must be silent before any other source can replace it. With `None`,
    /// only the same far end can replace the latched source.
    pub(crate) fn set_relatch_probation(&mut self, probation: Option<Duration>) {
        match &mut self.path {
            Path::Pair(pair) => pair.set_probation(probation),
            Path::Ice(_) => {}
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
        cx: &mut Context<'_>,
    ) -> Result<Datagram<'a>, Refusal> {
        if let Path::Ice(ice) = &mut self.path {
            match ice.handle_datagram(self.slot, flow, from, packet, cx) {
                tandem_webrtc::Datagram::Media => {}
                tandem_webrtc::Datagram::Handled => return Ok(Datagram::Handled),
                tandem_webrtc::Datagram::Refused => return Err(Refusal::Connection),
            }
        }
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
            // SRTP has authenticated the packet.
            Path::Ice(_) => Admission::FarEnd,
        }
    }

    /// Takes note that the session accepted an RTP packet from `from`.
    #[inline]
    pub(crate) fn note_accepted(&mut self, from: SocketAddr, cx: &mut Context<'_>) {
        match &mut self.path {
            Path::Pair(pair) => pair.pin_when_settled(self.slot, from, cx),
            Path::Ice(_) => {}
        }
    }

    /// Takes note that the kernel handled a packet of the far end with this sequence number at `at`.
    pub(crate) fn note_heard(&mut self, at: Instant, sequence: u16) {
        match &mut self.path {
            Path::Pair(pair) => pair.note_heard(at, sequence),
            Path::Ice(_) => {}
        }
    }

    /// Takes note that `from` sent RTCP that the session accepted.
    pub(crate) fn note_rtcp_source(&mut self, from: SocketAddr) {
        match &mut self.path {
            Path::Pair(pair) => pair.note_rtcp_source(from),
            Path::Ice(_) => {}
        }
    }

    /// Whether `from`, the source of an RTCP packet, cannot be the far end.
    pub(crate) fn is_unknown_rtcp_source(&self, from: SocketAddr) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.is_unknown_rtcp_source(from),
            Path::Ice(_) => false,
        }
    }

    /// Whether RTP from `from` is refused, whatever it contains.
    pub(crate) fn refuses(&self, from: SocketAddr, now: Instant) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.refuses(from, now),
            Path::Ice(_) => false,
        }
    }

    // ---- time ----

    /// Does the work that is due at `cx.now`. The session calls this function in each frame of 20 ms, and the core calls
    /// it at the time of [`Transport::poll_timeout`].
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        match &mut self.path {
            Path::Pair(pair) => pair.handle_timeout(self.slot, cx),
            Path::Ice(ice) => ice.handle_timeout(self.slot, cx),
        }
    }

    /// Returns the time at which [`Transport::handle_timeout`] must be called, if a call in each frame is not enough.
    #[inline]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.path {
            // The latch moves its limit with each packet, and a frame is precise enough for this limit.
            Path::Pair(_) => None,
            Path::Ice(ice) => ice.poll_timeout(),
        }
    }

    // ---- out ----

    /// The target of our RTP, or `None` until the SDP or the first packet shows a target.
    #[inline]
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        match &self.path {
            Path::Pair(pair) => pair.target(),
            Path::Ice(ice) => ice.target(),
        }
    }

    /// Sends an RTP packet. A packet that cannot be encrypted is not sent.
    pub(crate) fn send_rtp(&mut self, to: SocketAddr, packet: &[u8], cx: &mut Context<'_>) {
        let socket = match &self.path {
            Path::Pair(_) => Flow::Rtp,
            Path::Ice(ice) => ice.flow(),
        };
        self.srtp.send((self.slot, socket), Flow::Rtp, to, packet, cx.network);
    }

    /// Sends a compound RTCP packet. `write` writes the packet into a buffer, and is not called if there is no target.
    pub(crate) fn send_rtcp<const N: usize>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut [u8; N]) -> usize,
    ) {
        let (target, socket) = match &self.path {
            Path::Pair(pair) => (pair.rtcp_target(), Flow::Rtcp),
            // RTP and RTCP share a port (RFC 5761).
            Path::Ice(ice) => (ice.target(), ice.flow()),
        };
        let Some(target) = target else { return };
        let mut packet = [0; N];
        let length = write(&mut packet);
        if let Some(packet) = packet.get(..length) {
            self.srtp.send((self.slot, socket), Flow::Rtcp, target, packet, cx.network);
        }
    }

    // ---- state ----

    /// Whether the far end's description says where the far end is. During a hold by the old method it does not.
    pub(crate) fn has_address(&self) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.has_address(),
            Path::Ice(ice) => ice.is_described(),
        }
    }

    /// Whether only the far end's packets arrive, so that the source of a packet needs no check.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.is_settled(now),
            Path::Ice(_) => false,
        }
    }

    /// Whether only the far end's packets arrive, and our packets go to their source.
    pub(crate) fn is_pinned_both_ways(&self) -> bool {
        match &self.path {
            Path::Pair(pair) => pair.is_pinned_both_ways(),
            Path::Ice(_) => false,
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.srtp.is_plain()
    }

    /// The RTP address in the far end's SDP.
    pub(crate) fn signalled(&self) -> Option<SocketAddr> {
        match &self.path {
            Path::Pair(pair) => pair.signalled(),
            Path::Ice(_) => None,
        }
    }

    /// The source of the far end's RTP.
    pub(crate) fn learnt(&self) -> Option<SocketAddr> {
        match &self.path {
            Path::Pair(pair) => pair.learnt(),
            Path::Ice(ice) => ice.target(),
        }
    }

    /// Returns the next change of the connection, and applies the keys of a complete handshake. A pair of ports has no
    /// changes. Call this function after each other function that takes the context.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        let Path::Ice(ice) = &mut self.path else { return None };
        loop {
            return Some(match ice.poll_event()? {
                tandem_webrtc::Event::Keys(keys) => {
                    let Some(srtp) = ice::srtp_keys(&keys) else { continue };
                    self.srtp.set_keys(srtp);
                    Change::Encrypted(keys.certificate)
                }
                tandem_webrtc::Event::Route(_) => Change::Route,
                tandem_webrtc::Event::Interrupted => Change::Interrupted,
                tandem_webrtc::Event::Restored => Change::Restored,
                tandem_webrtc::Event::Failed(failure) => Change::Failed(failure),
            });
        }
    }

    /// The numbers of datagrams and candidates of ICE and DTLS that changed nothing.
    pub(crate) fn connection_counts(&self) -> Option<Counts> {
        match &self.path {
            Path::Pair(_) => None,
            Path::Ice(ice) => Some(ice.counts()),
        }
    }

    /// Tells the far end that the connection ends.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>) {
        if let Path::Ice(ice) = &mut self.path {
            ice.close(self.slot, cx);
        }
    }
}
