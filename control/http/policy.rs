//! The addresses that webhooks, media files and streams may reach.

use std::net::IpAddr;

use ipnet::IpNet;

use super::FetchError;

/// The addresses to which the server may connect: all public addresses, and the other addresses in `allow_networks`.
/// Without this check, a stranger could write the URL of a webhook and attack the network of the server.
#[derive(Debug, Clone, Default)]
pub struct NetworkPolicy {
    /// The setting `webhooks.allow_networks`.
    pub allow_networks: Vec<IpNet>,
}

impl NetworkPolicy {
    /// Returns the policy for URLs that an operator has written: the server may connect to every address.
    pub fn everywhere() -> Self {
        let everywhere = ["0.0.0.0/0", "::/0"].iter().filter_map(|network| network.parse().ok());
        Self { allow_networks: everywhere.collect() }
    }

    /// Checks an address and returns the address for the connection. An IPv4 address that is mapped into IPv6 is
    /// checked and returned as IPv4.
    ///
    /// # Errors
    /// [`FetchError::Refused`] with the reason.
    pub fn check(&self, address: IpAddr) -> Result<IpAddr, FetchError> {
        let address = address.to_canonical();
        if self.allow_networks.iter().any(|network| network.contains(&address)) {
            return Ok(address);
        }
        match tandem_net::address::purpose(address) {
            None => Ok(address),
            Some(reason) => Err(FetchError::Refused(format!("{address} is {reason} and not in allow_networks"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_refused() {
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
    fn only_the_configured_private_networks_are_allowed() {
        let policy =
            NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()] };
        for (address, allowed) in
            [("127.0.0.1", true), ("::ffff:127.0.0.2", true), ("fd12::1", true), ("10.0.0.1", false), ("::1", false)]
        {
            assert_eq!(policy.check(address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
    }
}
