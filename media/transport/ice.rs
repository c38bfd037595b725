//! The path of packets over a connection that ICE finds. All packets use one port: STUN, DTLS, RTP and RTCP. The crate
//! `tandem_webrtc` does the work; this file connects it with the session's socket and clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tandem_webrtc::{Connection, Counts, Datagram, Event, Identity, Keys, Protocol, Route, Suite, is_stun};

use crate::network::{Context, Flow};
use crate::rtp::srtp::{self, Master};
use crate::sdp::IcePlan;

/// The connection of a far end that uses ICE.
pub(super) struct IcePath {
    connection: Connection,
    plan: IcePlan,
    /// The number of the plan's candidates that the connection has.
    added: usize,
    /// The time of the connection's next work. The connection is asked only after a change, because the answer needs a
    /// look at each candidate pair.
    timeout: Option<Instant>,
}

/// The connection as data. The DTLS association is not part of it, so that a far end with another certificate is a new
/// association after a resumption.
#[derive(Serialize, Deserialize)]
pub(super) struct IcePathState {
    plan: IcePlan,
    route: Option<Route>,
}

impl IcePath {
    pub(super) fn new(now: Instant, identity: Arc<Identity>, plan: &IcePlan) -> IcePath {
        let IcePlan { credentials, addresses, controlling, lite, .. } = plan;
        let connection = Connection::new(now, identity, credentials, addresses, *controlling, *lite);
        IcePath { connection, plan: plan.clone(), added: 0, timeout: None }
    }

    pub(super) fn state(&self) -> IcePathState {
        IcePathState { plan: self.plan.clone(), route: self.connection.route() }
    }

    /// Creates the connection from data. Its checks begin again, and until one succeeds packets go the old way.
    pub(super) fn resume(now: Instant, identity: Arc<Identity>, state: IcePathState) -> IcePath {
        let mut path = IcePath::new(now, identity, &state.plan);
        if let (Some(route), Some(remote)) = (state.route, &state.plan.remote) {
            path.connection.resume(now, route, &remote.fingerprints);
        }
        path.describe(now);
        path.timeout = Some(now);
        path
    }

    /// Applies a new plan.
    pub(super) fn apply(&mut self, slot: usize, plan: &IcePlan, cx: &mut Context<'_>) {
        let credentials = |plan: &IcePlan| plan.remote.as_ref().map(|remote| remote.credentials.clone());
        // New credentials of the far end alone are those of a new connection there.
        let is_moved = credentials(&self.plan).is_some_and(|before| Some(before) != credentials(plan));
        if self.plan.credentials != plan.credentials || is_moved {
            self.connection.restart(cx.now, &plan.credentials);
            self.added = 0;
        }
        self.plan = plan.clone();
        self.describe(cx.now);
        self.flush(slot, cx);
    }

    /// Gives the connection what is new in the plan.
    fn describe(&mut self, now: Instant) {
        let Some(remote) = &self.plan.remote else { return };
        self.connection.set_remote(now, remote);
        for candidate in self.plan.candidates.get(self.added..).unwrap_or_default() {
            self.connection.add_candidate(now, candidate);
        }
        self.added = self.plan.candidates.len();
    }

    // ---- in ----

    /// Handles a datagram. Returns whether it is RTP or RTCP.
    #[inline]
    pub(super) fn handle_datagram(
        &mut self,
        slot: usize,
        flow: Flow,
        from: SocketAddr,
        octets: &[u8],
        cx: &mut Context<'_>,
    ) -> Datagram {
        let protocol = if flow == Flow::IceTcp { Protocol::Tcp } else { Protocol::Udp };
        let Some(local) = self.plan.addresses.iter().find(|one| one.protocol == protocol) else {
            return Datagram::Refused;
        };
        let route = Route { protocol, local: local.address, remote: from };
        let handled = self.connection.handle_datagram(cx.now, route, octets);
        if handled == Datagram::Handled && is_shared(flow) && is_stun(octets) {
            cx.network.admit(&self.plan.credentials.ufrag, flow, from);
        }
        if handled != Datagram::Media {
            self.flush(slot, cx);
        }
        handled
    }

    // ---- time ----

    pub(super) fn handle_timeout(&mut self, slot: usize, cx: &mut Context<'_>) {
        if self.timeout.is_some_and(|timeout| timeout <= cx.now) {
            self.connection.handle_timeout(cx.now);
            self.flush(slot, cx);
        }
    }

    #[inline]
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    // ---- out ----

    pub(super) fn close(&mut self, slot: usize, cx: &mut Context<'_>) {
        self.connection.close();
        self.flush(slot, cx);
    }

    /// The far end's address, once a check has succeeded.
    #[inline]
    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.connection.route().map(|route| route.remote)
    }

    /// The socket of packets to the target.
    #[inline]
    pub(super) fn flow(&self) -> Flow {
        self.connection.route().map_or(Flow::Rtp, |route| self.flow_of(route.protocol))
    }

    fn flow_of(&self, protocol: Protocol) -> Flow {
        match protocol {
            Protocol::Tcp => Flow::IceTcp,
            Protocol::Udp if self.plan.shares_udp => Flow::IceUdp,
            Protocol::Udp => Flow::Rtp,
        }
    }

    /// Whether the far end's description is known.
    pub(super) fn is_described(&self) -> bool {
        self.plan.remote.is_some()
    }

    /// Returns the next event of the connection.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.connection.poll_event()
    }

    /// The numbers of datagrams and candidates that changed nothing.
    pub(super) fn counts(&self) -> Counts {
        self.connection.counts()
    }

    /// Sends the datagrams of the connection.
    fn flush(&mut self, slot: usize, cx: &mut Context<'_>) {
        while let Some(transmit) = self.connection.poll_transmit() {
            let (flow, to) = (self.flow_of(transmit.route.protocol), transmit.route.remote);
            if is_shared(flow) && is_stun(&transmit.octets) {
                cx.network.note_target(&self.plan.credentials.ufrag, flow, to);
            }
            cx.network.send(slot, flow, to, &transmit.octets);
        }
        self.timeout = self.connection.poll_timeout();
    }
}

/// Whether all sessions share the socket.
fn is_shared(flow: Flow) -> bool {
    matches!(flow, Flow::IceUdp | Flow::IceTcp)
}

pub(super) fn srtp_keys(keys: &Keys) -> Option<srtp::Keys> {
    let suite = match keys.suite {
        Suite::Aes128Sha1_80 => srtp::Suite::Aes128Sha1_80,
        Suite::Aes128Gcm => srtp::Suite::Aes128Gcm,
        Suite::Aes256Gcm => srtp::Suite::Aes256Gcm,
    };
    let (send, receive) = (Master::new(suite, &keys.send)?, Master::new(suite, &keys.receive)?);
    Some(srtp::Keys { send, receive, mki: 0 })
}
