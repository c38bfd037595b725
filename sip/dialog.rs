//! The state of a dialog (RFC 3261 §12): the local and the remote side, the remote target, the route set and the
//! sequence numbers.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::dialog_state::{DialogState, StoredDialog, StoredFlow};
use crate::flow::{Flow, Transport};
use crate::message::{Host, NameAddr, Request, Response, Uri};

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

/// Number that is added to the stored CSeq for the BYE to a dialog of an earlier process. This value is larger than the
/// number of requests (re-INVITE, INFO, NOTIFY) that the earlier process can have sent after it stored the dialog. RFC
/// 3261 §12.2.2 allows gaps in CSeq.
const CSEQ_STEP: u32 = 1 << 20;

impl Dialog {
    /// Returns the dialog alone, in a form that can be stored.
    pub(crate) fn state(&self) -> DialogState {
        DialogState::new(self.stored(None), None)
    }

    /// Returns the parts of the dialog that can be stored. `socket` is the bound address of the local socket.
    pub(crate) fn stored(&self, socket: Option<SocketAddr>) -> StoredDialog {
        StoredDialog {
            call_id: (&self.call_id).into(),
            local: (&self.local).into(),
            remote: (&self.remote).into(),
            target: self.target.text().into(),
            routes: self.routes.iter().map(Into::into).collect(),
            cseq: self.local_cseq,
            remote_cseq: self.remote_cseq,
            flow: StoredFlow::of(self.flow, socket),
        }
    }

    /// Creates the dialog that was stored. Returns `None` if the stored target is not a URI.
    pub(crate) fn of_stored(stored: StoredDialog, flow: Flow) -> Option<Self> {
        let StoredDialog { call_id, local, remote, target, routes, cseq, remote_cseq, flow: _ } = stored;
        Some(Self {
            call_id: call_id.0,
            local: local.0,
            remote_tag: NameAddr::tag_of(&remote.0).unwrap_or_default(),
            remote: remote.0,
            target: Uri::parse(&target.0)?,
            routes: routes.into_iter().map(|route| route.0).collect(),
            local_cseq: cseq,
            remote_cseq,
            flow,
        })
    }

    /// Creates the dialog of an earlier process, for its BYE. `local` is the index of the socket that can reach the far
    /// end. Returns `None` if the stored target is not a URI.
    pub(crate) fn of_earlier_process(stored: StoredDialog, local: usize) -> Option<Self> {
        let flow = stored.flow.at(local);
        let dialog = Self::of_stored(stored, flow)?;
        Some(Self { local_cseq: dialog.local_cseq.saturating_add(CSEQ_STEP), ..dialog })
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
