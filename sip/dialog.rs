//! A dialog's own state (RFC 3261 §12): who the two sides are, where the next request goes, how they number requests.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::endpoint::{ConnectionId, Identity};
use crate::leg::Transport;
use crate::message::{Host, Request, Response, Uri};

/// The way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) transport: Transport,
    pub(crate) peer: SocketAddr,
    /// Index of the local socket in the endpoint's table.
    pub(crate) local: usize,
    /// The stream connection to prefer.
    pub(crate) connection: Option<ConnectionId>,
    /// Who must be at the other end, should a connection over TLS have to be opened.
    pub(crate) identity: Option<Identity>,
    /// Kept for the whole dialog, whatever the peer's Contact says: it leads through a NAT, or is a phone's connection.
    pub(crate) pinned: bool,
}

/// Where a request in a dialog goes, and what it says of that.
#[derive(Debug)]
pub(crate) struct NextHop {
    pub(crate) flow: Flow,
    pub(crate) uri: Bytes,
    /// Route values, first hop first.
    pub(crate) routes: Vec<Bytes>,
}

/// One dialog, from our side.
#[derive(Debug, Clone)]
pub(crate) struct Dialog {
    pub(crate) call_id: Bytes,
    /// From or To value of our side, our tag included.
    pub(crate) local: Bytes,
    /// From or To value of the peer, its tag included once it has one.
    pub(crate) remote: Bytes,
    /// The peer's tag; empty until it has one.
    pub(crate) remote_tag: Bytes,
    /// The peer's Contact (RFC 3261 §12.2.1.1).
    pub(crate) target: Uri,
    /// Route values, first hop first.
    pub(crate) routes: Vec<Bytes>,
    pub(crate) local_cseq: u32,
    /// `None` until the peer has sent a request.
    pub(crate) remote_cseq: Option<u32>,
    /// The way the peer was last heard on.
    pub(crate) flow: Flow,
}

/// A confirmed dialog as it can be stored: enough for a later process to end it with BYE (RFC 3261 §12, §15), should this one
/// be killed. It is taken once, when the dialog begins: a target or a CSeq that a later re-INVITE changes is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialogState {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<String>,
    cseq: u32,
    transport: Transport,
    peer: SocketAddr,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
}

impl fmt::Display for DialogState {
    /// JSON, which [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for DialogState {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

impl DialogState {
    /// How far ahead of the stored CSeq the BYE is numbered: further than re-INVITEs, INFOs and NOTIFYs of the lost process
    /// can have counted. A gap is allowed (RFC 3261 §12.2.2).
    const AHEAD: u32 = 1 << 20;

    /// The transport and the address of the peer.
    pub(crate) fn way(&self) -> (Transport, SocketAddr) {
        (self.transport, self.peer)
    }

    /// The dialog again, with `local` as the socket that reaches its peer. `None`: its target is no URI.
    pub(crate) fn restored(self, local: usize) -> Option<Dialog> {
        let Self { call_id, local: ours, remote, target, routes, cseq, transport, peer, pinned } = self;
        Some(Dialog {
            call_id: call_id.into(),
            local: ours.into(),
            remote: remote.into(),
            remote_tag: Bytes::new(),
            target: Uri::parse(target.as_bytes())?,
            routes: routes.into_iter().map(Bytes::from).collect(),
            local_cseq: cseq.saturating_add(Self::AHEAD),
            remote_cseq: None,
            flow: Flow { transport, peer, local, connection: None, identity: None, pinned },
        })
    }
}

impl Dialog {
    /// This dialog as it can be stored.
    pub(crate) fn state(&self) -> DialogState {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        DialogState {
            call_id: text(&self.call_id),
            local: text(&self.local),
            remote: text(&self.remote),
            target: text(self.target.text()),
            routes: self.routes.iter().map(|route| text(route)).collect(),
            cseq: self.local_cseq,
            transport: self.flow.transport,
            peer: self.flow.peer,
            pinned: self.flow.pinned,
        }
    }

    /// The UAS side (RFC 3261 §12.1.1). `local` is To with our tag. What it keeps is its own: a part of the request would keep
    /// all of that.
    pub(crate) fn from_request(request: &Request, local: Bytes, target: Uri, flow: Flow) -> Self {
        Self {
            call_id: Bytes::copy_from_slice(&request.call_id),
            local,
            remote: Bytes::copy_from_slice(&request.from.text),
            remote_tag: Bytes::copy_from_slice(request.from.tag.as_deref().unwrap_or_default()),
            target,
            routes: request.content.record_routes(),
            local_cseq: 0,
            remote_cseq: Some(request.cseq),
            flow,
        }
    }

    /// The UAC side (RFC 3261 §12.1.2), from a response that creates a dialog. `fallback` stands in for a missing Contact.
    pub(crate) fn from_response(response: &Response, fallback: &Uri, flow: Flow) -> Self {
        let mut routes = response.content.record_routes();
        routes.reverse();
        Self {
            call_id: Bytes::copy_from_slice(&response.call_id),
            local: Bytes::copy_from_slice(&response.from.text),
            remote: Bytes::copy_from_slice(&response.to.text),
            remote_tag: Bytes::copy_from_slice(response.to.tag.as_deref().unwrap_or_default()),
            target: response.content.contact().unwrap_or_else(|| fallback.clone()),
            routes,
            local_cseq: response.cseq,
            remote_cseq: None,
            flow,
        }
    }

    /// Request-URI and Route values of the next request to `target`. A first hop that is a strict router takes the
    /// Request-URI's place and the target moves to the end (RFC 3261 §12.2.1.1).
    pub(crate) fn request_uri_and_routes(&self, target: &Uri) -> (Bytes, Vec<Bytes>) {
        let target = target.text().clone();
        match self.routes.split_first().map(|(first, rest)| (Uri::of_address(first), rest)) {
            Some((Some(first), rest)) if !first.is_loose_router() => {
                let mut routes = rest.to_vec();
                let mut last = Vec::with_capacity(target.len() + 2);
                last.push(b'<');
                last.extend_from_slice(&target);
                last.push(b'>');
                routes.push(Bytes::from(last));
                (first.text().clone(), routes)
            }
            _ => (target, self.routes.clone()),
        }
    }

    /// Where the next request goes: the first route, else the target. A host name there, or a transport we do not speak,
    /// means the way the peer was last heard on: names are looked up by the shell for new calls only.
    pub(crate) fn next_flow(&self) -> Flow {
        if self.flow.pinned {
            return self.flow;
        }
        let first = self.routes.first().and_then(|route| Uri::of_address(route));
        let hop = first.as_ref().unwrap_or(&self.target);
        let Some(destination) = hop.destination() else { return self.flow };
        let Host::Ip(ip) = destination.host else { return self.flow };
        // A browser, or a phone that says its address behind a NAT, is at the end of the connection it made and nowhere else.
        let has_connection = self.flow.connection.is_some();
        let behind = matches!(self.flow.transport, Transport::Ws | Transport::Wss)
            || has_connection && is_private(ip) && !is_private(self.flow.peer.ip());
        if behind {
            return self.flow;
        }
        let same_host = ip.to_canonical() == self.flow.peer.ip().to_canonical();
        // A peer that came over a stream and does not name a transport is kept on the stream.
        let transport = destination.transport.unwrap_or(if same_host { self.flow.transport } else { Transport::Udp });
        let connection = self.flow.connection.filter(|_| same_host && transport == self.flow.transport);
        let identity = self.flow.identity.filter(|_| same_host && transport == self.flow.transport);
        let peer = SocketAddr::new(ip, destination.port.unwrap_or(transport.default_port()));
        Flow { transport, peer, local: self.flow.local, connection, identity, pinned: false }
    }
}

/// Whether an address is of a network that is nobody's in particular.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
