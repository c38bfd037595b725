//! Hosts and ports of URIs and of Via (RFC 3261 §25.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::grammar::{DIGIT, HOST, cut, leading, number};
use super::lossy;

/// The host of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// A host as it is written in the message.
#[derive(Clone, Copy)]
pub(super) enum HostText<'a> {
    /// A host name or an IPv4 address.
    Word(&'a [u8]),
    /// An IPv6 address. In the message, the address is in brackets.
    Ip6(Ipv6Addr),
}

impl<'a> HostText<'a> {
    /// Reads the host at the beginning of the text. Returns the host and the rest.
    pub(super) fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        if let Some(inner) = text.strip_prefix(b"[") {
            let (inner, rest) = cut(inner, b']')?;
            return Some((Self::Ip6(ip6(std::str::from_utf8(inner).ok()?)?), rest));
        }
        let (word, rest) = leading(text, HOST);
        (!word.is_empty()).then_some((Self::Word(word), rest))
    }

    /// Returns the IP address, if the host is an IP address.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Word(word) => std::str::from_utf8(word).ok()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Self::Ip6(ip) => Some(IpAddr::V6(*ip)),
        }
    }

    /// Returns the host as an address or a name. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) means the IPv4 address:
    /// no message can be sent to it in another way.
    pub(super) fn parsed(&self) -> Host {
        self.ip().map_or_else(|| Host::Name(self.text()), |ip| Host::Ip(ip.to_canonical()))
    }

    /// Returns the host as text without brackets.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Word(word) => lossy(word),
            Self::Ip6(ip) => ip.to_string(),
        }
    }

    /// Returns whether both hosts are the same. A name never equals an address (RFC 3261 §19.1.4).
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Word(one), Self::Word(other)) => one.eq_ignore_ascii_case(other),
            (Self::Ip6(one), Self::Ip6(other)) => one == other,
            _ => false,
        }
    }
}

/// Reads a port: at most five digits, including leading zeros. Returns the port and the rest.
pub(super) fn take_port(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = leading(text, DIGIT);
    let port = Some(digits).filter(|digits| digits.len() <= 5).and_then(|digits| number(digits, u16::MAX.into()))?;
    Some((port as u16, rest))
}

/// Parses an IPv6 address. The grammar of RFC 3261 allows a third colon before an IPv4 address at the end:
/// `2001:db8:::192.0.2.1`. RFC 5118 §4.10 asks implementations to accept such an address.
fn ip6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok().or_else(|| {
        let (before, ip4) = text.split_once(":::")?;
        ip4.parse::<Ipv4Addr>().ok()?;
        format!("{before}::{ip4}").parse().ok()
    })
}
