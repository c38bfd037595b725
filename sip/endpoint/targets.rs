//! The policy for destinations that an account or a far end has chosen. The destinations of the operator (the URIs of
//! configured trunks) are not checked.
//!
//! ```text
//!   a SIP URI of an application, a trunk made by REST, a REFER, a 3xx ──> why_not ──> the addresses that may be called
//!   Contact or Record-Route of a far end ─────────────────────────────> follows ──> that address, or the one it sent from
//! ```
//!
//! A carrier that recognises this server by its address treats every call from here as a call of the account that owns
//! the trunk. So the address of a trunk is closed to all other accounts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Endpoint;
use super::core::Core;
use super::trunks::Trunks;
use crate::flow::{Target, Transport};
use crate::leg::Outgoing;
use crate::message::{Host, Uri};
use crate::trunk::Trunk;
use tandem_id::AccountName;
use tandem_net::address;

/// The policy, with the state on which it depends.
pub(super) struct Targets<'a> {
    pub(super) core: &'a Core,
    pub(super) trunks: &'a Trunks,
}

impl Targets<'_> {
    /// Returns the reason why the accounts may not call an address. Returns `None` if the accounts may call the
    /// address: it is public, in an allowed network, at a trunk that the accounts may use, or a socket of this server.
    fn why_not(&self, accounts: &[AccountName], transport: Transport, address: SocketAddr) -> Option<String> {
        let ip = address.ip().to_canonical();
        let usable = |trunk: &Trunk| trunk.account.as_ref().is_none_or(|own| accounts.contains(own));
        let mut own = self.core.own_sockets(transport, address).peekable();
        if own.peek().is_some() {
            // Only clients open WebSockets. The HTTP API listens on such a socket too, and SIP there would be a request
            // that the application forges from this host.
            if own.any(|local| matches!(local.transport, Transport::Ws | Transport::Wss)) {
                return Some("the socket of this server for HTTP or WebSocket".to_owned());
            }
            // Such a call arrives here from an address of this host. It must not count as a call of another account.
            let source = self.core.trunk_at(ip).and_then(|name| self.trunks.get(self.trunks.index_of(name)?));
            if source.is_some_and(|trunk| !usable(trunk)) {
                return Some("this server, and calls from there belong to another account's trunk".to_owned());
            }
            if self.core.locals.iter().any(|local| local.bound == address) {
                return None;
            }
        }
        let mut there = self.trunks.at_address(self.core, ip).peekable();
        if there.peek().is_some() {
            return (!there.any(usable)).then(|| "another account's trunk".to_owned());
        }
        let purpose = address::purpose(ip).filter(|_| !self.is_allowed(ip))?;
        Some(format!("{purpose} and not in sip.allow_networks"))
    }

    /// Returns the reason why the accounts may not call this host. The addresses of a host name are not known here:
    /// [`Self::why_not`] checks them at the call.
    fn why_not_host(&self, accounts: &[AccountName], uri: &Uri) -> Option<String> {
        let destination = uri.destination()?;
        let transport = destination.transport.unwrap_or(Transport::Udp);
        let port = destination.port.unwrap_or(if transport.is_secure() { 5061 } else { 5060 });
        match destination.host {
            Host::Ip(ip) => self.why_not(accounts, transport, SocketAddr::new(ip, port)),
            Host::Name(name) => {
                let name = name.trim_end_matches('.');
                if is_numeric(name) {
                    return Some("a number and not a host name; an IPv4 address has the form 192.0.2.1".to_owned());
                }
                let usable = |trunk: &Trunk| trunk.account.as_ref().is_none_or(|own| accounts.contains(own));
                let mut there = self.trunks.at_host(name).peekable();
                if there.peek().is_some() {
                    return (!there.any(usable)).then(|| "another account's trunk".to_owned());
                }
                let is_here = name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
                is_here.then(|| self.why_not(accounts, transport, (Ipv4Addr::LOCALHOST, port).into())).flatten()
            }
        }
    }

    /// Returns whether a request in a dialog may go to the address `to` with this transport. The far end at `peer` has
    /// named this address in its Contact or Record-Route. Otherwise the request goes to `peer`, as it must for a far end
    /// behind a NAT.
    pub(super) fn follows(&self, peer: IpAddr, to: SocketAddr, transport: Transport) -> bool {
        let (peer, target) = (peer.to_canonical(), to.ip().to_canonical());
        if peer == target {
            return true;
        }
        let source = self.core.trunk_at(peer);
        // A trunk may name all its own sockets. It may name another trunk of its account only as the trunk's URI does:
        // the host of a trunk can have other services, which expect no SIP from this server.
        let of_peer = |trunk: &Trunk| {
            source.is_some_and(|name| *name == trunk.trunk)
                || self.trunks.at_address(self.core, peer).any(|own| own.trunk == trunk.trunk)
                || is_sip_of(trunk, to.port(), transport)
                    && self.trunks.at_address(self.core, peer).any(|own| own.account == trunk.account)
        };
        let mut there = self.trunks.at_address(self.core, target).peekable();
        if there.peek().is_some() {
            return there.any(of_peer);
        }
        let Some(purpose) = address::purpose(target).filter(|_| !self.is_allowed(target)) else { return true };
        // The operator has chosen the hosts of trunks. Such a host may name another host of its own kind of network.
        let is_trunk = || self.trunks.at_address(self.core, peer).next().is_some() || self.core.is_named_source(peer);
        address::purpose(peer) == Some(purpose) && is_trunk()
    }

    /// Returns whether the operator allows calls to this address, which is not public.
    fn is_allowed(&self, address: IpAddr) -> bool {
        match &self.core.config.allow_networks {
            Some(networks) => networks.iter().any(|network| network.contains(&address)),
            None => address.is_loopback() && self.core.locals.iter().all(|local| local.bound.ip().is_loopback()),
        }
    }
}

/// Whether the URI of a trunk has this port and transport. A trunk without a URI has the default port of each transport.
fn is_sip_of(trunk: &Trunk, port: u16, transport: Transport) -> bool {
    let uri = trunk.uri.as_deref().and_then(|uri| Uri::parse(uri.as_bytes())?.destination());
    let own = uri.as_ref().and_then(|uri| uri.transport).unwrap_or(transport);
    let own_port = uri.as_ref().and_then(|uri| uri.port).unwrap_or(own.default_port());
    own == transport && own_port == port
}

impl Endpoint {
    fn targets(&self) -> Targets<'_> {
        Targets { core: &self.core, trunks: &self.trunks }
    }

    /// Returns the reason why these accounts may not call a SIP URI, as far as the reason is known without a lookup of
    /// the host name. The first account is the one that chose the URI. A text that is not a SIP URI has no reason.
    #[must_use]
    pub fn refusal_of(&self, accounts: &[AccountName], uri: &str) -> Option<String> {
        self.targets().why_not_host(accounts, &Uri::parse(uri.as_bytes())?)
    }

    /// Returns the targets that the accounts of the call may reach. Only a call over a configured trunk to the URI of
    /// this trunk is not checked, because the operator has written this URI. A trunk that an account has made by REST
    /// is not a configured trunk.
    pub(super) fn allowed(&self, outgoing: &Outgoing, mut hops: Vec<Target>) -> Vec<Target> {
        let of_operator = outgoing.trunk.as_deref().is_some_and(|trunk| self.trunks.index_of(trunk).is_some());
        if outgoing.accounts.is_empty() || of_operator && outgoing.next_hop.is_some() {
            return hops;
        }
        let (policy, accounts) = (self.targets(), &outgoing.accounts);
        let uri = outgoing.next_hop.as_ref().unwrap_or(&outgoing.request_uri);
        let of_host = self.refusal_of(accounts, uri);
        hops.retain(|hop| {
            let why = of_host.clone().or_else(|| policy.why_not(accounts, hop.transport, hop.address));
            if let Some(why) = &why {
                let (account, address) = (accounts.first().map(AccountName::as_str), hop.address);
                tracing::warn!(account, "call to {uri} refused: {address} is {why}");
            }
            why.is_none()
        });
        hops
    }
}

/// Returns whether a host name is another spelling of an IPv4 address. Some resolvers read `2130706433`, `127.1`,
/// `0177.0.0.1` and `0x7f000001` as 127.0.0.1. No top-level domain is a number (RFC 3696 §2).
fn is_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|octet| octet.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|octet| octet.is_ascii_hexdigit()))
}
