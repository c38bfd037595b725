//! Host names, looked up beside the driver.
//!
//! A and AAAA only: SRV and NAPTR (RFC 3263) need a resolver library and come with it.

use std::net::SocketAddr;

use crate::endpoint::{LookupId, Target};
use crate::leg::{EndCause, Transport, TrunkName};
use crate::message::{Host, Uri};

/// The result, for the driver.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) lookup: LookupId,
    pub(super) uri: String,
    pub(super) trunk: Option<TrunkName>,
    pub(super) found: Result<Vec<Target>, EndCause>,
}

/// The addresses of a SIP URI, of those transports and families (IPv4, IPv6) that we have sockets for, best first.
///
/// # Errors
/// [`EndCause::Unresolved`] if there is none at all, [`EndCause::NoSocket`] if there is none of those.
pub(super) async fn resolve(uri: &str, usable: &[(Transport, (bool, bool))]) -> Result<Vec<Target>, EndCause> {
    let destination = Uri::parse(uri.as_bytes()).and_then(|uri| uri.destination()).ok_or(EndCause::Invalid)?;
    let transport = destination.transport.unwrap_or(Transport::Udp);
    let port = destination.port.unwrap_or(transport.default_port());
    let host = match destination.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name,
    };
    match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(addresses) => {
            let (ipv4, ipv6) = usable.iter().find(|(one, _)| *one == transport).map_or((false, false), |(_, has)| *has);
            let fits = |address: &SocketAddr| if address.is_ipv4() { ipv4 } else { ipv6 };
            let found: Vec<_> =
                addresses.filter(fits).map(|address| Target { transport, address, identity: None }).collect();
            if found.is_empty() { Err(EndCause::NoSocket) } else { Ok(found) }
        }
        Err(error) => {
            tracing::debug!(host, %error, "cannot resolve");
            Err(EndCause::Unresolved)
        }
    }
}

/// The host of a SIP URI, as its certificate has to have it.
pub(super) fn host_of(uri: &str) -> Option<String> {
    match Uri::parse(uri.as_bytes())?.destination()?.host {
        Host::Ip(ip) => Some(ip.to_string()),
        Host::Name(name) => Some(name),
    }
}
