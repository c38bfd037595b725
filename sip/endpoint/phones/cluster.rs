//! The phones of the other nodes, and the flows to the own phones that the other nodes use (`endpoint::edge`).

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::{Phones, report_binding};
use crate::endpoint::core::Core;
use crate::flow::{Flow, Transport};
use crate::message::{Host, Uri};
use crate::registrar::{Binding, BindingId};

impl Phones {
    /// Adds or replaces a binding of another node. `node` is the URI of the node.
    pub(in crate::endpoint) fn learn(&mut self, core: &mut Core, now: Instant, binding: Binding, node: &str) {
        let Some((flow, route)) = way(core, &binding, node) else {
            tracing::error!(node, "a phone of another node cannot be called: no local socket reaches the node");
            return;
        };
        // A node that has started again may get its own bindings back.
        if route.is_some() && core.own_sockets(flow.transport, flow.peer).next().is_some() {
            return;
        }
        for change in self.registrar.learn(now, binding, flow, route) {
            report_binding(core, change);
        }
    }

    /// Removes a binding of another node.
    pub(in crate::endpoint) fn forget(&mut self, core: &mut Core, now: Instant, binding: BindingId) {
        if let Some(change) = self.registrar.forget(now, binding) {
            report_binding(core, change);
        }
    }

    /// Returns the flow to the phone of an own binding. Returns `None` if the binding or its flow is gone.
    pub(in crate::endpoint) fn own_flow(&self, now: Instant, binding: BindingId) -> Option<Flow> {
        self.registrar.own_flow(now, binding)
    }

    /// Returns the flow of the phone that registered here from the address and port of `flow`.
    pub(in crate::endpoint) fn flow_from(&self, flow: Flow) -> Option<Flow> {
        self.registrar.flow_from(flow)
    }

    /// Returns whether the phone of an own binding registered from the host of `flow`.
    pub(in crate::endpoint) fn is_host_of(&self, binding: BindingId, flow: Flow) -> bool {
        self.registrar.is_host_of(binding, flow)
    }
}

/// Returns the flow and the Route value for calls to a phone of another node. A phone behind an outbound proxy is called
/// through this proxy and not through the node: its Path leads to the phone from every node (RFC 3327). Returns `None` if
/// the URI of the node has no IP address, if its transport is neither UDP nor TCP, or if no local socket has the transport.
fn way(core: &Core, binding: &Binding, node: &str) -> Option<(Flow, Option<Bytes>)> {
    let flow_to = |transport, peer: SocketAddr, pinned| {
        let local = core.local_for(transport, peer.ip())?;
        Some(Flow { transport, peer, local, connection: None, identity: None, pinned, secure: false })
    };
    if let Some(proxy) = binding.path.first() {
        let proxy = Uri::of_address(proxy.as_bytes())?.destination()?;
        let transport = proxy.transport.unwrap_or(binding.transport);
        // The proxy has sent the REGISTER. So its source is the address of a host that only has a name here.
        let ip = match proxy.host {
            Host::Ip(ip) => ip,
            Host::Name(_) => binding.source.ip(),
        };
        let peer = SocketAddr::new(ip, proxy.port.unwrap_or(transport.default_port()));
        return Some((flow_to(transport, peer, true)?, None));
    }
    let node = Uri::parse(node.as_bytes())?.destination()?;
    let transport = node.transport.unwrap_or(Transport::Udp);
    let Host::Ip(ip) = node.host else { return None };
    if !matches!(transport, Transport::Udp | Transport::Tcp) {
        return None;
    }
    let peer = SocketAddr::new(ip, node.port.unwrap_or(transport.default_port()));
    let (user, parameter) = (binding.id.flow_user(), transport.parameter());
    let route = format!("<sip:{user}@{peer};transport={parameter};lr>");
    Some((flow_to(transport, peer, false)?, Some(Bytes::from(route))))
}
