//! The addresses in Via and Contact (`sip.advertise`).
//!
//! An address stands for some of the sockets. A far end sends its next request to the address in the Contact. So a port
//! in the setting must lead to the socket that wrote the Contact.

use crate::flow::Transport;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// The value of `sip.advertise`: one address, or a list of addresses. If several addresses fit a socket, an address with
/// the transport of the socket precedes an address without a transport. Otherwise the first address is used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "OneOrMany")]
pub struct Advertise(Vec<Advertised>);

/// One address: `HOST`, `HOST:PORT`, `TRANSPORT://HOST` or `TRANSPORT://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// The transport of the sockets for which the address stands. `None` means all transports.
    transport: Option<Transport>,
    host: String,
    port: Option<u16>,
}

/// The text is not an address for [`Advertise`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither HOST nor HOST:PORT, also with udp://, tcp://, tls://, ws:// or wss:// before it")]
pub struct NotAdvertisable(String);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an address in quotes, or a list of addresses")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<OneOrMany> for Advertise {
    type Error = NotAdvertisable;

    fn try_from(texts: OneOrMany) -> Result<Self, NotAdvertisable> {
        let texts = match texts {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        texts.iter().map(|text| Advertised::parse(text)).collect::<Result<_, _>>().map(Self)
    }
}

impl std::str::FromStr for Advertise {
    type Err = NotAdvertisable;

    fn from_str(text: &str) -> Result<Self, NotAdvertisable> {
        Advertised::parse(text).map(|one| Self(vec![one]))
    }
}

impl Advertise {
    /// Adds an address for sockets for which no other address stands.
    pub fn push(&mut self, ip: IpAddr) {
        self.0.push(Advertised { transport: None, host: ip.to_string(), port: None });
    }

    /// Returns all addresses.
    pub fn addresses(&self) -> &[Advertised] {
        &self.0
    }

    /// Returns the address that stands for a socket.
    pub fn address_of(&self, transport: Transport, bound: SocketAddr) -> Option<&Advertised> {
        let fits = |one: &&Advertised| one.fits(transport, bound);
        let own = self.0.iter().filter(fits).find(|one| one.transport.is_some());
        own.or_else(|| self.0.iter().find(fits))
    }

    /// Returns the host and the port in the Via of messages from a socket. `sockets` are all sockets of the server. The
    /// host of an IPv6 address has brackets.
    pub(crate) fn sent_by(
        &self,
        transport: Transport,
        bound: SocketAddr,
        sockets: &[(Transport, SocketAddr)],
    ) -> (String, u16) {
        let Some(address) = self.address_of(transport, bound) else { return (bracketed(bound.ip()), bound.port()) };
        let host = address.ip().map_or_else(|| address.host.clone(), bracketed);
        let port = match address.port_of(sockets) {
            AdvertisedPort::Of { listening, advertised } if listening == bound.port() => advertised,
            _ => bound.port(),
        };
        (host, port)
    }
}

/// The sockets whose port the port of an address replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvertisedPort {
    /// The address has no port, so each socket keeps its port.
    Own,
    /// In messages of the sockets with the port `listening`, this port is `advertised`.
    Of {
        /// The port of the sockets.
        listening: u16,
        /// The port in Via and Contact.
        advertised: u16,
    },
    /// The address fits sockets with different ports, and has the port of none of them.
    Ambiguous,
}

impl Advertised {
    fn parse(text: &str) -> Result<Self, NotAdvertisable> {
        let refused = || NotAdvertisable(text.to_owned());
        let (transport, address) = match text.split_once("://") {
            Some((scheme, address)) => (Some(Transport::named(scheme).ok_or_else(refused)?), address),
            None => (None, text),
        };
        let (host, port) = if let Ok(ip) = address.parse::<IpAddr>() {
            (ip.to_string(), None)
        } else if let Ok(socket) = address.parse::<SocketAddr>() {
            (socket.ip().to_string(), Some(socket.port()))
        } else if let Some(ip) = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (ip.parse::<IpAddr>().map_err(|_| refused())?.to_string(), None)
        } else {
            let (host, port) = match address.split_once(':') {
                Some((host, port)) => (host, Some(port.parse().map_err(|_| refused())?)),
                None => (address, None),
            };
            let is_name = !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet));
            (is_name.then(|| host.to_owned()).ok_or_else(refused)?, port)
        };
        if port == Some(0) {
            return Err(refused());
        }
        Ok(Self { transport, host, port })
    }

    /// Returns the host: a name, or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host, if it is an IP address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Returns whether the address can stand for a socket: the transport is the same, and the address family too. A
    /// host name has no family.
    fn fits(&self, transport: Transport, bound: SocketAddr) -> bool {
        self.transport.is_none_or(|own| own == transport) && self.ip().is_none_or(|ip| ip.is_ipv4() == bound.is_ipv4())
    }

    /// Returns the sockets whose port this address replaces. A socket that listens on the port of the address is such a
    /// socket. If there is none, a router in front of the server forwards the port, and all sockets that the address
    /// fits must have the same port.
    pub fn port_of(&self, sockets: &[(Transport, SocketAddr)]) -> AdvertisedPort {
        let Some(advertised) = self.port else { return AdvertisedPort::Own };
        let fitting = || {
            let fits = sockets.iter().filter(|(transport, bound)| self.fits(*transport, *bound));
            // The web server's socket has a port of its own.
            fits.filter(|(transport, _)| self.transport.is_some() || !transport.is_websocket())
                .map(|(_, bound)| bound.port())
        };
        if fitting().any(|port| port == advertised) {
            return AdvertisedPort::Of { listening: advertised, advertised };
        }
        match fitting().next() {
            Some(listening) if fitting().all(|port| port == listening) => AdvertisedPort::Of { listening, advertised },
            Some(_) => AdvertisedPort::Ambiguous,
            None => AdvertisedPort::Own,
        }
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(transport) = self.transport {
            write!(f, "{}://", transport.parameter())?;
        }
        let host = self.ip().map_or_else(|| self.host.clone(), bracketed);
        match self.port {
            Some(port) => write!(f, "{host}:{port}"),
            None => f.write_str(&host),
        }
    }
}

pub(crate) fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the host and port of each socket. `listen` has sockets in the form of `sip.listen`.
    fn seen(advertise: &[&str], listen: &[&str]) -> Vec<String> {
        let many = OneOrMany::Many(advertise.iter().map(|&text| text.to_owned()).collect());
        let advertise = Advertise::try_from(many).unwrap();
        let sockets: Vec<_> = listen.iter().map(|text| crate::parse_listen(text).unwrap()).collect();
        let sent_by = |(transport, bound)| {
            let (host, port) = advertise.sent_by(transport, bound, &sockets);
            format!("{host}:{port}")
        };
        sockets.iter().copied().map(sent_by).collect()
    }

    #[test]
    fn an_advertised_port_replaces_the_port_of_the_matching_sockets_only() {
        let mixed = ["udp://0.0.0.0:5060", "tcp://0.0.0.0:5060", "tls://0.0.0.0:5061", "udp://[::]:5062"];
        for (advertise, expected) in [
            (&["203.0.113.7"][..], ["203.0.113.7:5060", "203.0.113.7:5060", "203.0.113.7:5061", "[::]:5062"]),
            (&["203.0.113.7:5060"], ["203.0.113.7:5060", "203.0.113.7:5060", "203.0.113.7:5061", "[::]:5062"]),
            (&["pbx.example:5061"], ["pbx.example:5060", "pbx.example:5060", "pbx.example:5061", "pbx.example:5062"]),
            (
                &["203.0.113.7", "2001:db8::7"],
                ["203.0.113.7:5060", "203.0.113.7:5060", "203.0.113.7:5061", "[2001:db8::7]:5062"],
            ),
            (
                &["203.0.113.7", "udp://203.0.113.7:15060", "tls://pbx.example", "[2001:db8::7]:15062"],
                ["203.0.113.7:15060", "203.0.113.7:5060", "pbx.example:5061", "[2001:db8::7]:15062"],
            ),
        ] {
            assert_eq!(seen(advertise, &mixed), expected, "{advertise:?}");
        }
        let forwarded = ["udp://10.0.0.5:5060", "tcp://10.0.0.5:5060"];
        assert_eq!(seen(&["203.0.113.7:15060"], &forwarded), ["203.0.113.7:15060"; 2]);
        assert_eq!(
            seen(&["pbx.example:15060"], &["ws://10.0.0.5:80", "udp://10.0.0.5:5060"]),
            ["pbx.example:80", "pbx.example:15060"]
        );
    }

    #[test]
    fn a_text_that_is_no_address_is_refused() {
        for text in ["", "a b", "pbx:", "pbx:0", "pbx:65536", "ftp://pbx", "udp://", "2001:db8::7:", "[pbx]", "a/b"] {
            assert!(text.parse::<Advertise>().is_err(), "{text:?}");
        }
        for text in ["pbx", "pbx:5060", "[2001:db8::7]", "2001:db8::7", "tls://pbx.example:5061", "wss://pbx"] {
            assert!(text.parse::<Advertise>().is_ok(), "{text:?}");
        }
    }
}
