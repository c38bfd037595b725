//! Host names of new calls, looked up beside the driver.
//!
//! A and AAAA only: SRV and NAPTR (RFC 3263) need a resolver library and come with it.

use std::net::SocketAddr;

use crate::endpoint::Target;
use crate::leg::{Command, EndCause, LegKey, Outgoing, Transport};
use crate::message::{Host, Uri};

/// Most lookups at a time; a call beyond them fails.
pub(super) const MAX_LOOKUPS: usize = 256;

/// A name to look up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) transport: Transport,
}

/// The result, for the driver.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) leg: LegKey,
    /// The call with its address, or why it has none.
    pub(super) command: Result<Command, EndCause>,
}

/// Whether the call's destination is a host name.
pub(super) fn lookup_of(outgoing: &Outgoing) -> Option<Lookup> {
    let hop = outgoing.next_hop.as_ref().unwrap_or(&outgoing.request_uri);
    let destination = Uri::parse(hop.as_bytes())?.destination()?;
    match destination.host {
        Host::Ip(_) => None,
        Host::Name(host) => Some(Lookup {
            host,
            port: destination.port.unwrap_or(destination.transport.map_or(5060, Transport::default_port)),
            transport: destination.transport.unwrap_or(Transport::Udp),
        }),
    }
}

/// Looks the name up and puts an address, of a family we have a socket for if there is one, in its place.
pub(super) async fn resolve(
    leg: LegKey,
    mut invite: Box<Outgoing>,
    lookup: Lookup,
    has_ipv4: bool,
    has_ipv6: bool,
) -> Resolved {
    let usable = |address: &SocketAddr| if address.is_ipv4() { has_ipv4 } else { has_ipv6 };
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((lookup.host.as_str(), lookup.port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            tracing::debug!(host = lookup.host, %error, "cannot resolve");
            return Resolved { leg, command: Err(EndCause::Unresolved) };
        }
    };
    let address = addresses.iter().find(|address| usable(address));
    let command = address.ok_or(EndCause::NoSocket).map(|address| {
        let transport = lookup.transport.parameter();
        invite.next_hop = Some(format!("sip:{address};transport={transport}"));
        Command::Invite { leg, invite }
    });
    Resolved { leg, command }
}

/// The addresses of a SIP URI, best first, of those transports and families (IPv4, IPv6) that we have sockets for.
pub(super) async fn locate(uri: &str, usable: &[(Transport, (bool, bool))]) -> Vec<Target> {
    let Some(destination) = Uri::parse(uri.as_bytes()).and_then(|uri| uri.destination()) else { return Vec::new() };
    let transport = destination.transport.unwrap_or(Transport::Udp);
    let (ipv4, ipv6) =
        usable.iter().find(|(one, _)| *one == transport).map_or((false, false), |(_, families)| *families);
    let port = destination.port.unwrap_or(transport.default_port());
    let found: Vec<SocketAddr> = match destination.host {
        Host::Ip(ip) => vec![SocketAddr::new(ip, port)],
        Host::Name(host) => match tokio::net::lookup_host((host.as_str(), port)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                tracing::debug!(host, %error, "cannot resolve");
                Vec::new()
            }
        },
    };
    let fits = |address: &SocketAddr| if address.is_ipv4() { ipv4 } else { ipv6 };
    found.into_iter().filter(fits).map(|address| Target { transport, address, identity: None }).collect()
}
