//! The state of a dialog (RFC 3261 §12): the local and the remote side, the remote target, the route set and the
//! sequence numbers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::endpoint::{ConnectionId, Identity};
use crate::leg::Transport;
use crate::message::{Host, Request, Response, Uri};

/// The path to a far end: the transport and the address. If the transport uses connections, the path also contains the
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) transport: Transport,
    pub(crate) peer: SocketAddr,
    /// Index of the local socket in the endpoint's list of sockets.
    pub(crate) local: usize,
    /// The stream connection that is used while it is open.
    pub(crate) connection: Option<ConnectionId>,
    /// The identity that the far end must prove if a new TLS connection is opened.
    pub(crate) identity: Option<Identity>,
    /// Whether the whole dialog uses this path and ignores the far end's Contact. The field is true if the path leads
    /// through a NAT, or if the path is a phone's connection.
    pub(crate) pinned: bool,
    /// Whether the dialog was made with a `sips:` URI, so that the local Contact must be a `sips:` URI too (RFC 3261
    /// §12.1.1).
    pub(crate) secure: bool,
}

/// The path, the Request-URI and the Route values of a request in a dialog.
#[derive(Debug)]
pub(crate) struct NextHop {
    pub(crate) flow: Flow,
    pub(crate) uri: Bytes,
    /// The Route values, first hop first.
    pub(crate) routes: Vec<Bytes>,
}

/// A dialog, seen from this server.
#[derive(Debug, Clone)]
pub(crate) struct Dialog {
    pub(crate) call_id: Bytes,
    /// The From or To value of the local side, with the local tag.
    pub(crate) local: Bytes,
    /// The From or To value of the far end, with the remote tag if there is one.
    pub(crate) remote: Bytes,
    /// The remote tag. The field is empty until the far end has sent a tag.
    pub(crate) remote_tag: Bytes,
    /// The remote target: the far end's Contact (RFC 3261 §12.2.1.1).
    pub(crate) target: Uri,
    /// The Route values, first hop first.
    pub(crate) routes: Vec<Bytes>,
    pub(crate) local_cseq: u32,
    /// CSeq of the far end's latest request; `None` until the far end has sent a request.
    pub(crate) remote_cseq: Option<u32>,
    /// The path on which the latest message of the far end arrived.
    pub(crate) flow: Flow,
}

/// A confirmed dialog in a form that can be stored. If this process is killed, a later process can end the dialog with
/// BYE (RFC 3261 §12, §15). The state is stored once, at the beginning of the dialog. The state does not contain a
/// target or CSeq that a later re-INVITE changed.
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
    /// Writes the state as JSON. [`FromStr`] reads this JSON.
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
    /// Number that is added to the stored CSeq for the BYE. This value is larger than the number of requests
    /// (re-INVITE, INFO, NOTIFY) that the killed process can have sent in the dialog. RFC 3261 §12.2.2 allows gaps in
    /// CSeq.
    const CSEQ_STEP: u32 = 1 << 20;

    /// Returns the transport and the address of the far end.
    pub(crate) fn address(&self) -> (Transport, SocketAddr) {
        (self.transport, self.peer)
    }

    /// Creates the dialog from the stored state. `local` is the index of the socket that can reach the far end. Returns
    /// `None` if the stored target is not a URI.
    pub(crate) fn restored(self, local: usize) -> Option<Dialog> {
        let Self { call_id, local: ours, remote, target, routes, cseq, transport, peer, pinned } = self;
        Some(Dialog {
            call_id: call_id.into(),
            local: ours.into(),
            remote: remote.into(),
            remote_tag: Bytes::new(),
            target: Uri::parse(target.as_bytes())?,
            routes: routes.into_iter().map(Bytes::from).collect(),
            local_cseq: cseq.saturating_add(Self::CSEQ_STEP),
            remote_cseq: None,
            flow: Flow { transport, peer, local, connection: None, identity: None, pinned, secure: false },
        })
    }
}

impl Dialog {
    /// Returns the dialog in a form that can be stored.
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

    /// Creates the dialog of a UAS (RFC 3261 §12.1.1). `local` is the To value with the local tag. The dialog contains
    /// copies of the request's fields, because slices of the request would keep the whole request in memory.
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

    /// Creates the dialog of a UAC (RFC 3261 §12.1.2). `response` is a response that creates a dialog. `fallback` is
    /// the remote target if the response has no Contact.
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

    /// Returns the Request-URI and the Route values of the next request to `target`. If the first hop is a strict
    /// router, the URI of this hop becomes the Request-URI and the target becomes the last Route value (RFC 3261
    /// §12.2.1.1).
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

    /// Returns the path of the next request. The request goes to the first route. If there are no routes, it goes to
    /// the remote target. The URI of this hop may have a host name or an unsupported transport. In this case the
    /// request takes the path of the far end's latest message, because the shell resolves names only for new calls. The
    /// request also takes this path if the hop has an address of the other IP version, or if `follows` does not allow the
    /// far end, at the first address, to name the second address with this transport: the second address may be behind
    /// the far end's NAT, or in a network of this server (RFC 3261 has no rule for such addresses).
    pub(crate) fn next_flow(&self, follows: impl FnOnce(IpAddr, SocketAddr, Transport) -> bool) -> Flow {
        if self.flow.pinned {
            return self.flow;
        }
        let first = self.routes.first().and_then(|route| Uri::of_address(route));
        let hop = first.as_ref().unwrap_or(&self.target);
        let Some(destination) = hop.destination() else { return self.flow };
        let Host::Ip(ip) = destination.host else { return self.flow };
        // Some far ends can be reached only through the connection that they opened: a browser, and a phone behind a
        // NAT whose Contact contains a private address.
        let has_connection = self.flow.connection.is_some();
        let behind = matches!(self.flow.transport, Transport::Ws | Transport::Wss)
            || has_connection && is_private(ip) && !is_private(self.flow.peer.ip());
        let from = self.flow.peer.ip().to_canonical();
        let same_host = ip == from;
        // If the far end's messages come over a stream and its URI names no transport, requests to it stay on the
        // stream.
        let transport = destination.transport.unwrap_or(if same_host { self.flow.transport } else { Transport::Udp });
        let peer = SocketAddr::new(ip, destination.port.unwrap_or(transport.default_port()));
        if behind || ip.is_ipv4() != from.is_ipv4() || !follows(from, peer, transport) {
            return self.flow;
        }
        let connection = self.flow.connection.filter(|_| same_host && transport == self.flow.transport);
        let identity = self.flow.identity.filter(|_| same_host && transport == self.flow.transport);
        Flow { transport, peer, local: self.flow.local, connection, identity, pinned: false, secure: self.flow.secure }
    }
}

/// Returns whether the address belongs to a private, loopback or link-local network, or to carrier-grade NAT
/// (100.64.0.0/10).
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
