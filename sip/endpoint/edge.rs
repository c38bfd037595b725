//! The edge proxy of a cluster (RFC 5626 §5). A phone has its flow, which is a connection or a NAT mapping, to one node
//! only. Another node calls the phone through this node, which forwards the messages of the call without any state (RFC
//! 3261 §16.11): no dialog, no leg and no transaction.
//!
//! ```text
//!   node B (makes the call)                     node A (has the flow)                        phone
//!    │ INVITE sip:alice@10.9.9.9                 │                                             │
//!    │ Route: <sip:flow-ID@A;lr>                 │ INVITE sip:alice@10.9.9.9                   │
//!    │ Via: B;branch=b                           │ Record-Route: <sip:flow-ID@A;lr>            │
//!    │ ────────────────────────────────────────> │ Via: A;branch=hash(b), B;branch=b           │
//!    │                                           │ ─────────── the flow of binding ID ───────> │
//!    │                                           │                                             │
//!    │                                           │ <──── 180, 200, with both Vias ──────────── │
//!    │ <────── 180, 200, to the second Via ───── │                                             │
//!    │                                           │                                             │
//!    │ ACK, re-INVITE, INFO, BYE: the Route is the Record-Route, the way is that of the INVITE │
//!    │ ────────────────────────────────────────> │ ──────────────────────────────────────────> │
//!    │                                           │                                             │
//!    │                                           │ <─── BYE sip:B, Route: <sip:flow-ID@A;lr> ─ │
//!    │ <────── BYE sip:B, to the Request-URI ─── │                                             │
//! ```
//!
//! B has the Route from the binding of the phone, which the application gives it
//! ([`Command::Learn`](crate::Command::Learn)). To the registrar of B, A is a proxy in the Path of the REGISTER (RFC 3327).
//! The id of the binding in the user part is the flow token of RFC 5626 §5.2. If the transport or the address that A shows
//! to the phone differs from that of the Route, A adds two Record-Route values, one for each side (RFC 5658).
//!
//! A checks three things, so that nobody can use it as a relay:
//!
//! - Only another node ([`Command::Nodes`](crate::Command::Nodes)) reaches a phone in this way. Without other nodes, the
//!   whole module is off.
//! - Only a phone that has registered at A reaches another node, only within a dialog, and only at a SIP address of the node.
//! - A response is forwarded only if the branch of A's Via is the hash, under the secret of A, of the second Via and of the
//!   dialog. So A has forwarded the request of this response.
//!
//! Every other message is handled as if this module did not exist. The host of the Route is not compared: a phone that
//! registers at another node in the middle of a call still uses the Route of the first node, and so does node B.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Arrival, Endpoint};
use crate::compose;
use crate::flow::{Flow, Transport};
use crate::message::{Forwarding, Host, Method, PreviousHop, Request, Response, Uri};
use crate::registrar::BindingId;

/// A sender whose requests this server forwards.
#[derive(PartialEq, Eq)]
enum Sender {
    /// Another node.
    Node,
    /// A phone that has registered here.
    Phone,
}

/// The way of a forwarded request.
struct Hop {
    flow: Flow,
    /// Number of Route values at the front that name this server.
    own_routes: usize,
    /// The Record-Route values of this server, topmost first.
    record_routes: Vec<String>,
}

impl Endpoint {
    /// Replaces the SIP addresses of the other nodes.
    pub(super) fn set_nodes(&mut self, nodes: Vec<SocketAddr>) {
        let canonical = |node: SocketAddr| SocketAddr::new(node.ip().to_canonical(), node.port());
        self.core.nodes = nodes.into_iter().map(canonical).collect();
        if let Some(guard) = &self.core.guard {
            guard.set_nodes(self.core.nodes.iter().map(SocketAddr::ip));
        }
    }

    /// Returns the addresses by which other nodes may know this server: those of its UDP and TCP sockets, as bound and as
    /// advertised.
    pub(crate) fn node_addresses(&self) -> Vec<SocketAddr> {
        let sockets =
            self.core.locals.iter().filter(|local| matches!(local.transport, Transport::Udp | Transport::Tcp));
        let named = sockets.flat_map(|local| [Some(local.bound), local.sent_by.parse().ok()]).flatten();
        let mut addresses: Vec<SocketAddr> = named.filter(|address| !address.ip().is_unspecified()).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Forwards a request between another node and a phone, or refuses it. Returns `false` if the request is for this
    /// server itself.
    pub(super) fn forward_request(&mut self, now: Instant, arrival: &Arrival, request: &Request) -> bool {
        if self.core.nodes.is_empty() {
            return false;
        }
        let Some(way) = self.next_hop(now, arrival, request) else { return false };
        // RFC 3261 §16.6 step 3: a request without Max-Forwards gets 70.
        let left = request.max_forwards.map_or(Some(70), |hops| hops.checked_sub(1)).ok_or(483_u16);
        match way.and_then(|hop| Ok((hop, left?))) {
            Ok((hop, max_forwards)) => {
                let from = request.previous_hop(arrival.source, arrival.transport);
                let tag = request.from.tag.as_deref();
                let branch = self.branch_of_forwarded(&from, &request.call_id, tag, request.cseq);
                let Hop { flow, own_routes, record_routes } = &hop;
                let via = (flow.transport, self.core.sent_by(*flow), branch);
                let data = request
                    .forwarded(&from, &Forwarding { via, max_forwards, routes_removed: *own_routes, record_routes });
                self.core.transmit(*flow, data);
            }
            // RFC 3261 §17.1.1.3: an ACK gets no response.
            Err(_) if request.method == Method::Ack => {}
            Err(status) => {
                if let Some(echo) = request.echo(arrival.source) {
                    self.core.refuse(arrival, &echo, status, "");
                }
            }
        }
        true
    }

    /// Forwards a response to a request that this server has forwarded. Returns `false` if it is another response.
    pub(super) fn forward_response(&mut self, response: &Response) -> bool {
        if self.core.nodes.is_empty() || response.via_count < 2 {
            return false;
        }
        let Some(to) = response.previous_hop() else { return false };
        let tag = response.from.tag.as_deref();
        let branch = self.branch_of_forwarded(&to, &response.call_id, tag, response.cseq);
        if compose::branch_number(&response.branch) != Some(branch) {
            return false;
        }
        if let Some(flow) = self.flow_to(&to) {
            self.core.transmit(flow, response.forwarded());
        }
        true
    }

    /// Returns the way of a request that this server forwards, or the status with which it refuses the request. Returns
    /// `None` if the request is for this server itself.
    fn next_hop(&self, now: Instant, arrival: &Arrival, request: &Request) -> Option<Result<Hop, u16>> {
        let routes = request.content.list("Route");
        let (top, id) = flow_route(routes.first()?)?;
        let own_routes = routes.iter().take_while(|route| flow_route(route).is_some()).count();
        if self.sender(arrival, id)? == Sender::Node {
            // RFC 5626 §5.3.1.
            let flow = self.phones.own_flow(now, id).ok_or(430);
            return Some(flow.map(|flow| Hop {
                flow,
                own_routes,
                record_routes: self.record_routes(request, flow, id, &top),
            }));
        }
        // A REGISTER through this server would make this server the phone.
        let is_inside = request.to.tag.is_some() && request.method != Method::Register;
        // The phone may have come from the other node to this server, in the middle of a call with this server.
        if !is_inside || self.core.own_user(&request.uri).is_some() {
            return None;
        }
        let flow = self.flow_to_node(&request.uri).filter(|_| own_routes == routes.len()).ok_or(403);
        Some(flow.map(|flow| Hop { flow, own_routes, record_routes: Vec::new() }))
    }

    /// Returns the sender of a request whose Route names the flow `id`. Returns `None` if this server forwards nothing for
    /// the sender.
    fn sender(&self, arrival: &Arrival, id: BindingId) -> Option<Sender> {
        let flow = self.core.arrival_flow(arrival);
        if self.core.nodes.contains(&arrival.source) && !arrival.from_page {
            return Some(Sender::Node);
        }
        match self.phones.flow_from(flow) {
            // The address of a web page proves nothing, so a page must use the connection of its registration.
            Some(own) => (!arrival.from_page || own.connection == arrival.connection).then_some(Sender::Phone),
            None if arrival.from_page => None,
            None if self.core.is_node(arrival.source.ip()) => Some(Sender::Node),
            // A NAT may have given the phone another port.
            None => self.phones.is_host_of(id, flow).then_some(Sender::Phone),
        }
    }

    /// Returns the flow to the node that a Request-URI names. Returns `None` if the URI is not the SIP address of a node.
    fn flow_to_node(&self, uri: &Uri) -> Option<Flow> {
        let destination = uri.destination()?;
        let transport = destination.transport.unwrap_or(Transport::Udp);
        let Host::Ip(ip) = destination.host else { return None };
        let peer = SocketAddr::new(ip, destination.port.unwrap_or(transport.default_port()));
        let is_usual = matches!(transport, Transport::Udp | Transport::Tcp);
        let local = self.core.local_for(transport, ip).filter(|_| is_usual && self.core.nodes.contains(&peer))?;
        Some(Flow { transport, peer, local, connection: None, identity: None, pinned: false, secure: false })
    }

    /// Returns the Record-Route values for a request that makes a dialog. `top` is the Route by which the node has found
    /// this server.
    fn record_routes(&self, request: &Request, flow: Flow, id: BindingId, top: &Uri) -> Vec<String> {
        let Some(local) = self.core.locals.get(flow.local).filter(|_| request.to.tag.is_none()) else {
            return Vec::new();
        };
        let for_node = format!("<{}>", String::from_utf8_lossy(top.text()));
        let for_phone = local.record_route(&id.flow_user());
        let place = |uri: &Uri| {
            let destination = uri.destination()?;
            Some((destination.host, destination.port, destination.transport.unwrap_or(Transport::Udp)))
        };
        let are_same = Uri::of_address(for_phone.as_bytes()).and_then(|uri| place(&uri)) == place(top);
        if are_same { vec![for_node] } else { vec![for_phone, for_node] }
    }

    /// Returns the flow to the hop that has sent the request of a response (RFC 3261 §18.2.2).
    fn flow_to(&self, hop: &PreviousHop) -> Option<Flow> {
        let transport = hop.transport?;
        let source = hop.source();
        // A node accepts connections. A phone is reached only over the connection that it has opened.
        let is_node = transport.is_reliable() && self.core.is_node(source.ip());
        let local = self.core.local_for(transport, source.ip());
        let (connection, identity, pinned, secure) = (None, None, false, false);
        let to =
            |peer| Flow { transport, peer, local: local.unwrap_or_default(), connection, identity, pinned, secure };
        let phone = self.phones.flow_from(to(source));
        phone.or_else(|| local.map(|_| to(if is_node { hop.listener() } else { source })))
    }

    /// Returns the branch number of this server's Via in a forwarded request (RFC 3261 §16.11). A retransmission, a CANCEL
    /// and the ACK of a refusal have the same branch as their request.
    fn branch_of_forwarded(&self, from: &PreviousHop, call_id: &[u8], tag: Option<&[u8]>, cseq: u32) -> u128 {
        self.core.key_of(("forwarded", from, call_id, tag, cseq)).0
    }
}

/// Returns the URI of a Route value and the binding whose flow it names. Returns `None` for every other Route value.
fn flow_route(route: &str) -> Option<(Uri, BindingId)> {
    let uri = Uri::of_address(route.as_bytes())?;
    let id = BindingId::of_flow_user(&uri.user())?;
    Some((uri, id))
}
