//! Copies of received messages that a stateless proxy sends on (RFC 3261 §16.6, §16.7, §16.11). The copy begins with the
//! fields of the proxy: Via, Record-Route, Route and Max-Forwards. All other fields follow in their order.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::via::Hop;
use super::{Content, Request, Response};
use crate::flow::Transport;
use crate::header::{self, push_number};

/// The hop that has sent a forwarded request, as the second Via of each response names it. Both directions read the same
/// values, so a hash of the hop in the branch of this server's own Via shows that this server has forwarded the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PreviousHop {
    /// The transport in the Via. `None` if this server does not have the transport.
    pub(crate) transport: Option<Transport>,
    branch: Option<Bytes>,
    sent_by: Bytes,
    port: Option<u16>,
    received: IpAddr,
    /// The source port of the request, if the Via has `rport`, or if the request came over a stream.
    received_port: Option<u16>,
}

impl PreviousHop {
    /// Returns the address from which the request came. Over UDP without `rport`, the port is the port in the Via (RFC
    /// 3261 §18.2.2).
    pub(crate) fn source(&self) -> SocketAddr {
        SocketAddr::new(self.received, self.received_port.unwrap_or(self.listener().port()))
    }

    /// Returns the address at which the hop accepts connections.
    pub(crate) fn listener(&self) -> SocketAddr {
        let usual = self.transport.map_or(5060, Transport::default_port);
        SocketAddr::new(self.received, self.port.unwrap_or(usual))
    }
}

/// The changes to a request that is forwarded.
#[derive(Debug)]
pub(crate) struct Forwarding<'a> {
    /// The transport, the `host:port` and the branch number of this server's Via.
    pub(crate) via: (Transport, &'a str, u128),
    pub(crate) max_forwards: u8,
    /// Number of Route values that are removed from the front.
    pub(crate) routes_removed: usize,
    /// New Record-Route values. The first value becomes the topmost.
    pub(crate) record_routes: &'a [String],
}

impl Request {
    /// Returns the hop that has sent this request from `source` over `transport`.
    pub(crate) fn previous_hop(&self, source: SocketAddr, transport: Transport) -> PreviousHop {
        let via = &self.via;
        PreviousHop {
            transport: via.transport,
            branch: via.branch.clone(),
            sent_by: via.sent_by.clone(),
            port: via.port,
            received: source.ip().to_canonical(),
            received_port: (via.rport || transport.is_reliable()).then_some(source.port()),
        }
    }

    /// Returns the request for the next hop. `from` is the hop that has sent the request.
    pub(crate) fn forwarded(&self, from: &PreviousHop, changes: &Forwarding<'_>) -> Bytes {
        let mut out = Vec::with_capacity(self.content.head.text().len() + 512);
        for part in [self.method.as_str().as_bytes(), b" ", self.uri.text(), b" SIP/2.0\r\n"] {
            out.extend_from_slice(part);
        }
        let (transport, sent_by, branch) = changes.via;
        let own = format!("SIP/2.0/{} {sent_by};rport;branch=z9hG4bK{branch:032x}", transport.token());
        push(&mut out, b"Via", own.as_bytes());
        let head = &self.content.head;
        let mut vias = head.list("Via");
        out.extend_from_slice(b"Via: ");
        header::push_received(&mut out, vias.next().unwrap_or_default(), from.source(), from.received_port.is_some());
        out.extend_from_slice(b"\r\n");
        vias.for_each(|via| push(&mut out, b"Via", via));
        changes.record_routes.iter().for_each(|route| push(&mut out, b"Record-Route", route.as_bytes()));
        head.list("Route").skip(changes.routes_removed).for_each(|route| push(&mut out, b"Route", route));
        push(&mut out, b"Max-Forwards", changes.max_forwards.to_string().as_bytes());
        self.content.copy(&mut out, &["Via", "Route", "Max-Forwards", "Content-Length"]);
        Bytes::from(out)
    }
}

impl Response {
    /// Returns the hop in the second Via. Returns `None` if there is no second Via, or if the hop has not the parameters
    /// that this server adds to a request that it forwards.
    pub(crate) fn previous_hop(&self) -> Option<PreviousHop> {
        let head = &self.content.head;
        let hop = Hop::first(head.list("Via").nth(1)?)?;
        let (received, received_port) = (hop.received?.to_canonical(), hop.received_port);
        let via = hop.top_via(head.text());
        let (transport, branch, sent_by, port) = (via.transport, via.branch, via.sent_by, via.port);
        Some(PreviousHop { transport, branch, sent_by, port, received, received_port })
    }

    /// Returns the response for the hop in the second Via.
    pub(crate) fn forwarded(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.content.head.text().len());
        out.extend_from_slice(b"SIP/2.0 ");
        push_number(&mut out, self.status.into());
        out.push(b' ');
        out.extend_from_slice(&self.reason);
        out.extend_from_slice(b"\r\n");
        self.content.head.list("Via").skip(1).for_each(|via| push(&mut out, b"Via", via));
        self.content.copy(&mut out, &["Via", "Content-Length"]);
        Bytes::from(out)
    }
}

impl Content {
    /// Writes all header fields but those in `without`, then the length of the body and the body.
    fn copy(&self, out: &mut Vec<u8>, without: &[&str]) {
        let is_in = |name: &[u8]| without.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()));
        for (name, value) in self.head.iter().filter(|(name, _)| !is_in(name)) {
            push(out, name, value);
        }
        push(out, b"Content-Length", self.body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
    }
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
