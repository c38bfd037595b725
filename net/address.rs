//! IP addresses that are not public, and the purpose of each such address. The module does no I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the purpose of an address (`loopback`, `private (RFC 1918)` ...), or `None` if the address is public. An
/// IPv4 address that is mapped into IPv6 is treated as an IPv4 address.
#[must_use]
pub fn purpose(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => ipv4_purpose(address),
        IpAddr::V6(address) => ipv6_purpose(address),
    }
}

/// Returns the purpose of an IPv4 address from IANA's special-purpose registry (RFC 6890). `None` if the address is
/// public.
fn ipv4_purpose(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("unspecified"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private (RFC 1918)"),
        [100, 64..=127, ..] => Some("carrier-grade NAT (RFC 6598)"),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local"),
        [192, 0, 0, _] => Some("a protocol assignment"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("documentation (RFC 5737)"),
        [192, 88, 99, _] => Some("a 6to4 relay"),
        [198, 18..=19, ..] => Some("benchmarking (RFC 2544)"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved or broadcast"),
        _ => None,
    }
}

/// Returns the purpose of an IPv6 address from IANA's special-purpose registry (RFC 6890). `None` if the address is
/// public. If the address contains an IPv4 address (NAT64, 6to4), returns the purpose of the IPv4 address, because a
/// gateway would deliver packets to it.
fn ipv6_purpose(address: Ipv6Addr) -> Option<&'static str> {
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        ipv4_purpose(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0..=0x1ff, ..] => Some("a protocol assignment (Teredo, ORCHID)"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("documentation (RFC 3849, RFC 9637)"),
        [0xfc00..=0xfdff, ..] => Some("unique local (RFC 4193)"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        // Only 2000::/3 is global unicast (RFC 4291 §2.4). All other prefixes are unassigned or are not used any more.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("not a global unicast address"),
    }
}
