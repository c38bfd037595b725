//! Which addresses webhooks, media files and streams may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::FetchError;

/// Public addresses are allowed, everything else only when named here: a webhook's URL is a stranger's wish, and the
/// server stands inside the network that the stranger wants to reach.
#[derive(Debug, Clone, Default)]
pub struct NetworkPolicy {
    /// `webhooks.allow_networks`.
    pub allow_networks: Vec<IpNet>,
}

impl NetworkPolicy {
    /// The address to connect to, or [`FetchError::Refused`] with the reason. An IPv4 address mapped into IPv6 is
    /// judged, and returned, as the IPv4 address.
    pub fn check(&self, address: IpAddr) -> Result<IpAddr, FetchError> {
        let address = address.to_canonical();
        if self.allow_networks.iter().any(|network| network.contains(&address)) {
            return Ok(address);
        }
        let reason = match address {
            IpAddr::V4(address) => ipv4_purpose(address),
            IpAddr::V6(address) => ipv6_purpose(address),
        };
        match reason {
            None => Ok(address),
            Some(reason) => Err(FetchError::Refused(format!("{address} is {reason} and not in allow_networks"))),
        }
    }
}

/// What the address is for when it is not public; after IANA's IPv4 special-purpose registry (RFC 6890).
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

/// What the address is for when it is not public; after IANA's IPv6 special-purpose registry (RFC 6890). An address that
/// carries an IPv4 address is judged by that one, for a gateway would deliver there.
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
        // Global unicast is 2000::/3 only (RFC 4291 §2.4); the rest is unassigned or has gone out of use.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("not global unicast"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public_is_refused() {
        let refused = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 \
            172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 \
            224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.1.1.1 64:ff9b::a00:1 \
            64:ff9b:1::1 100::1 2001::1 2001:20::1 2001:db8::1 3fff::1 2002:7f00:1::1 2002:c0a8:101::1 5f00::1 fc00::1 \
            fdff::1 fe80::1 fec0::1 ff02::1";
        let policy = NetworkPolicy::default();
        for address in refused.split_whitespace() {
            let outcome = policy.check(address.parse().unwrap());
            assert!(matches!(outcome, Err(FetchError::Refused(_))), "{address} must be refused");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        let allowed = "1.1.1.1 9.255.255.255 100.63.0.1 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 198.20.0.1 \
            223.255.255.255 2606:4700::1111 2a00::1 2002:101:101::1 64:ff9b::101:101 2001:200::1";
        let policy = NetworkPolicy::default();
        for address in allowed.split_whitespace() {
            assert!(policy.check(address.parse().unwrap()).is_ok(), "{address} must be allowed");
        }
        assert_eq!(policy.check("::ffff:1.1.1.1".parse().unwrap()).unwrap(), IpAddr::from([1, 1, 1, 1]));
    }

    #[test]
    fn a_named_network_is_allowed_and_no_other() {
        let policy =
            NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()] };
        for (address, allowed) in
            [("127.0.0.1", true), ("::ffff:127.0.0.2", true), ("fd12::1", true), ("10.0.0.1", false), ("::1", false)]
        {
            assert_eq!(policy.check(address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
    }
}
