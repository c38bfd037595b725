//! Finds the trunk to which a source address belongs.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// The configured name of a trunk.
pub type TrunkName = Arc<str>;

/// The source networks of a trunk. Calls from these networks need no password.
#[derive(Debug, Clone)]
pub struct TrunkAcl {
    /// The configured name of the trunk.
    pub name: TrunkName,
    /// The networks from which the trunk sends its requests.
    pub networks: Vec<IpNet>,
}

/// Returns the trunk with the narrowest network that contains `source`. If two networks are equally narrow, the trunk
/// that is configured first is returned. An IPv4-mapped IPv6 source counts as an IPv4 source.
pub(crate) fn matching(trunks: &[TrunkAcl], source: IpAddr) -> Option<&TrunkName> {
    let source = source.to_canonical();
    let mut best: Option<(u8, &TrunkName)> = None;
    for trunk in trunks {
        for network in &trunk.networks {
            if network.contains(&source) && best.is_none_or(|(length, _)| network.prefix_len() > length) {
                best = Some((network.prefix_len(), &trunk.name));
            }
        }
    }
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk(name: &str, network: &str) -> TrunkAcl {
        TrunkAcl { name: name.into(), networks: vec![network.parse().unwrap()] }
    }

    #[test]
    fn the_longest_prefix_selects_the_trunk_and_mapped_addresses_count_as_ipv4() {
        let trunks = [trunk("wide", "10.0.0.0/8"), trunk("narrow", "10.1.0.0/16"), trunk("six", "2001:db8::/32")];
        let find = |ip: &str| matching(&trunks, ip.parse().unwrap()).map(|name| name.to_string());
        assert_eq!(find("10.1.2.3").as_deref(), Some("narrow"));
        assert_eq!(find("10.2.2.3").as_deref(), Some("wide"));
        assert_eq!(find("::ffff:10.1.2.3").as_deref(), Some("narrow"));
        assert_eq!(find("2001:db8::1").as_deref(), Some("six"));
        assert_eq!(find("192.0.2.1"), None);
    }
}
